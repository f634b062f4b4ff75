"""The figures of `number-helix` about the helix: fits by layer, the helix itself, spectra, residuals, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Bars, Heatmap, Lines, Scatter, Table
from engine.geometry.helix import Points
from engine.geometry.helix_scores import DRAWS, Score, Scores
from engine.geometry.periods import SHUFFLES, Spectrum

Array: TypeAlias = npt.NDArray[Any]
R2 = Axis("R²", "share of variance")


@dataclass(frozen=True)
class Where:
    """What the figures of one set of points say of it: where it is, and the numbers in words."""

    name: str
    numbers: str

    def note(self, text: str) -> str:
        """``text``, what a figure shows, and behind it where that was measured and on which numbers."""
        return f"{text} Measured at: {self.name}. {self.numbers}"


@dataclass(frozen=True)
class LayerScores:
    """The R² of one layer that the curves by layer show."""

    layer: int
    hook: str
    in_sample: Mapping[str, float]
    held: Mapping[str, Score]
    shuffled: Array
    noise: float

    @classmethod
    def of(cls, layer: int, hook: str, scores: Scores) -> LayerScores:
        return cls(layer, hook, scores.in_sample, scores.held, scores.shuffled, scores.noise)


HELD = (
    ("helix", "helix, held-out"),
    ("PCA", "PCA, held-out"),
    ("polynomial", "polynomial, held-out"),
    ("random periods", "random periods, held-out"),
    ("last digit", "last digit, held-out"),
    ("digits", "digits, held-out"),
)


def layers(rows: Sequence[LayerScores], numbers: str) -> Lines:
    """R² by layer, the helix beside its five controls."""
    x = np.array([row.layer for row in rows], dtype=np.float64)
    flat = np.full(len(rows), np.nan)
    series: list[tuple[str, Array, Array, Array]] = [
        ("helix, all fitted", np.array([row.in_sample["helix"] for row in rows]), flat, flat)
    ]
    for name, label in HELD:
        if name not in rows[0].held:
            continue
        found = [row.held[name] for row in rows]
        low, high = np.array([one.low for one in found]), np.array([one.high for one in found])
        series.append((label, np.array([one.r2 for one in found]), low, high))
    shuffled = np.stack([row.shuffled for row in rows])
    series.append(("helix, shuffled", shuffled.mean(axis=1), shuffled.min(axis=1), shuffled.max(axis=1)))
    series.append(("noise formula", np.array([row.noise for row in rows]), flat, flat))
    names, y, lows, highs = zip(*series, strict=True)
    return Lines(
        title="Fits of numbers by layer",
        note=f"{numbers} Share of the variance of activations that each fit explains. Held-out: a fifth of the numbers "
        "with all their prompts at a time, PCA fitted without them; bands are 95 % over 1,000 resamples of the "
        f"numbers, for random periods over {DRAWS} draws of as many periods from 2 to 100. PCA has as many dimensions as the "
        "helix, a polynomial as many columns; digits are each by itself, or the last one alone. Shuffled: mean and range of "
        f"{DRAWS} orders of the numbers, all fitted; noise by its formula: (columns - 1) / (numbers - 1) of the "
        "variance between numbers. A value below 0 is worse than the mean. Layer 0 is before the first block.",
        x_axis=Axis("Layer", "blocks"),
        y_axis=R2,
        series=names,
        x=x,
        y=np.stack(y),
        low=np.stack(lows),
        high=np.stack(highs),
    )


def helix(points: Points, scores: Scores, where: Where) -> Scatter:
    """The numbers on the axes of the helix: linear, cosine and sine of 10 where there are such."""
    names = scores.fit.design.names[1:]
    axes = _axes(names)
    values = points.distinct.astype(np.float64)
    wrong = _relative(points, scores.errors["helix"])
    digits = values % 10
    titles = tuple(f"Read {_worded(name)}" for name in names)
    return Scatter(
        title="Numbers on the axes of the helix",
        note=where.note(
            f"Mean activation of each number, n = {len(values)}, as a helix sees it "
            "that has not been fitted to that number (a fifth is held out at a time): where the helix holds, the axes are "
            "a / largest, cosines and sines again, between -1 and 1. Noise gives a cloud. Choose other axes among the "
            "columns; error is that of the prediction over the mean squared deviation of a number."
        ),
        x_axis=Axis(titles[axes[0]]),
        y_axis=Axis(titles[axes[1]]),
        z_axis=Axis(titles[axes[2]]) if len(axes) > 2 else None,
        value_axis=Axis("Last digit"),
        points=scores.read[:, axes].astype(np.float32),
        value=digits,
        label=points.distinct.astype(str),
        columns=np.column_stack([scores.read, values, digits, wrong]).astype(np.float32),
        column_names=(*titles, "Number", "Last digit", "Error"),
    )


def _axes(names: Sequence[str]) -> list[int]:
    """Columns to see first: linear, then cosine and sine of 10, else of the longest period that has both."""
    pairs = [name.removeprefix("cos ") for name in names if name.startswith("cos ")]
    whole = [period for period in pairs if f"sin {period}" in names]
    first = "10" if "10" in whole else (whole[-1] if whole else "")
    wanted = ["a", f"cos {first}", f"sin {first}"] if first else []
    found = [names.index(name) for name in wanted if name in names]
    rest = [number for number in range(len(names)) if number not in found]
    chosen = (found + rest)[:3]
    return chosen if len(chosen) >= 2 else [0, 0]


def _worded(name: str) -> str:
    if name == "a":
        return "a / largest"
    kind, _, period = name.partition(" ")
    return f"{kind}(2πa/{period})"


def spectrum(found: Spectrum, where: Where, *, hamming: bool) -> Lines:
    """Power by period with and without trend, and what shuffled numbers give."""
    assert found.band is not None
    order = np.argsort(found.periods)
    flat = np.full(len(order), np.nan)
    low, high = found.band[:, order]
    listed = ", ".join(f"{peak.period:.3g}" for peak in found.peaks) or "none"
    window = "a Hamming window" if hamming else "no window"
    return Lines(
        title="Spectrum along the number line",
        note=where.note(
            f"|Σ h(a) exp(-2πia/T)|² / n, averaged over dimensions, with {window}; a "
            f"line in a makes the long end rise, so it is taken out as well. Shuffled: mean and 95 % of {SHUFFLES} orders "
            "of the numbers, trend taken out; dashed is what the highest of all frequencies stays below in 95 % of them. "
            f"Periods above it, the strongest first, each looked for without those before: {listed}. A period of 10 may "
            "bring 5, 3.3, 2.5 and 2, its harmonics."
        ),
        x_axis=Axis("Period", "numbers", "log"),
        y_axis=Axis("Power", "squared units", "log"),
        series=("centred", "trend taken out", "numbers shuffled"),
        x=found.periods[order],
        y=np.stack([found.centred[order], found.detrended[order], np.full(len(order), found.expected)]),
        low=np.stack([flat, flat, low]),
        high=np.stack([flat, flat, high]),
        reference={"95 % of highest, shuffled": found.family},
    )


def peaks(found: Spectrum, where: Where) -> Table:
    """The periods that stand out."""
    rows = found.peaks
    said = "" if rows else " No period stands out."
    return Table(
        title="Periods that stand out",
        note=where.note(
            f"Periods whose power exceeds what the highest of all frequencies reaches "
            f"in 5 % of {SHUFFLES} shuffles, strongest first; each is looked for after those before are taken out. Chance: "
            f"mean power of what is left then. Share: of the variance between numbers without its trend.{said}"
        ),
        axes=(Axis("Period", "numbers"), Axis("Power", "squared units"), Axis("Power over chance"), Axis("Share")),
        columns=tuple(
            np.array([getattr(peak, name) for peak in rows], dtype=np.float64)
            for name in ("period", "power", "ratio", "share")
        ),
    )


def spectra(rows: Sequence[tuple[int, Spectrum]], numbers: str) -> Heatmap:
    """Detrended power over chance by layer and period."""
    first = rows[0][1]
    order = np.argsort(first.periods)
    values = np.stack([np.log10(np.maximum(one.detrended[order] / max(one.expected, 1e-300), 1e-3)) for _, one in rows])
    return Heatmap(
        title="Spectrum by layer",
        note=f"{numbers} Power with the trend taken out, over what shuffled numbers have on average (0 is chance, 1 "
        "ten times that). The band of shuffles is in the spectrum of a single layer.",
        x_axis=Axis("Period", "numbers"),
        y_axis=Axis("Layer", "blocks"),
        value_axis=Axis("Power over chance", "log10"),
        values=values,
        x=np.array([f"{period:.3g}" for period in first.periods[order]]),
        y=np.array([str(layer) for layer, _ in rows]),
        diverging=True,
        origin="lower",
    )


def residuals(points: Points, scores: Scores, where: Where) -> Lines:
    """Where the helix fails: error by number, beside a polynomial of as many columns."""
    rows = [_relative(points, scores.errors[name]) for name in ("helix", "polynomial")]
    worst = points.distinct[np.argsort(-rows[0])[:5]]
    return Lines(
        title="Error of the helix by number",
        note=where.note(
            f"Squared error of each number's activations, predicted by fits that have "
            "not seen it, over the mean squared deviation of all: 1 is no better than the mean. Control: a polynomial of "
            f"as many columns. Largest errors of the helix: {', '.join(str(value) for value in worst)}."
        ),
        x_axis=Axis("Number"),
        y_axis=Axis("Squared error", "share of the variance", "log"),
        series=("helix", "polynomial"),
        x=points.distinct.astype(np.float64),
        y=np.stack(rows),
        reference={"mean of all numbers": 1.0},
    )


def _relative(points: Points, errors: Array) -> Array:
    """Squared error of each number's prompts over the mean squared deviation of all prompts, (n,)."""
    spread = float(points.squares.sum()) / float(points.counts.sum())
    return np.asarray(errors / points.counts / max(spread, 1e-300))


def components(scores: Scores, where: Where) -> Bars:
    """R² of each principal component."""
    shown = min(len(scores.by_component), 30)
    total = scores.variances.sum()
    return Bars(
        title="Helix by principal component",
        note=where.note(
            f"R² of each component's coordinate with all numbers fitted, and its share "
            f"of the variance of the {len(scores.variances)} components that were fitted; noise gives {scores.noise:.3f} "
            "of R²."
        ),
        x_axis=Axis("Component"),
        y_axis=R2,
        label=np.array([f"{i + 1} ({scores.variances[i] / total:.1%})" for i in range(shown)]),
        value=scores.by_component[:shown],
    )


def fits(scores: Scores, points: Points, where: Where) -> Table:
    """R² of the helix and of each control."""
    q = scores.fit.design.columns
    sizes = {
        "helix": q,
        "circle": q - 1,
        "linear": 2,
        "polynomial": q,
        "PCA": q,
        "random periods": 2 * len(scores.fit.design.periods) + 2,
    }
    sizes |= {"last digit": 10, "digits": 10 * len(str(int(points.distinct.max())))}
    names = list(scores.in_sample)
    held = [scores.held[name] for name in names]
    rows: list[tuple[Any, ...]] = [
        (name, sizes[name], scores.in_sample[name], float("nan"), one.r2, one.low, one.high)
        for name, one in zip(names, held, strict=True)
    ]
    nothing = float("nan")
    rows.append(("helix, numbers shuffled", q, scores.shuffled.mean(), scores.shuffled.std(ddof=1), *([nothing] * 3)))
    rows.append(("noise, (q - 1) / (n - 1)", q, scores.noise, *([nothing] * 4)))
    rows.append(("mean of each number", len(points.distinct), scores.between, *([nothing] * 4)))
    labels = ("Fit", "Parameters per dimension", "R², all numbers fitted", "… standard deviation", "R², held-out "
    "numbers",
              "… low", "… high")  # fmt: skip
    return Table(
        title="Helix and controls",
        note=where.note(
            f"R² = 1 - SSE / SST in the full activation space, all prompts. Held-out: "
            f"each number by a fit that has not seen it, {len(points.distinct)} numbers in 5 folds; low and high hold 95 % "
            f"of 1,000 resamples of the numbers, for random periods of {DRAWS} draws (all-fitted: their mean; they have "
            f"one or two columns more). Shuffled: mean and standard deviation of {DRAWS}. PCA of q - 1 dimensions is the "
            "most that any fit of this size can explain; the mean of each number the most that any function of it can."
        ),
        axes=tuple(Axis(label) for label in labels),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def summary(rows: Sequence[tuple[str, str]], where: Where) -> Table:
    """What was fitted, in words."""
    names, values = zip(*rows, strict=True)
    return Table(
        title="What was fitted",
        note=where.note("The control of each fit is in the table of fits."),
        axes=(Axis("Quantity"), Axis("Value")),
        columns=(np.array(names), np.array(values)),
    )
