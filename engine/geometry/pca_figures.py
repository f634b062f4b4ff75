"""The figures of `pca-spectrum`: spectrum, cumulative variance, scatter of tokens, summary."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Lines, Scatter, Table
from engine.figures.words import number
from engine.geometry.spectrum import Interval, Resampled, Spectrum, marchenko_pastur, marchenko_pastur_edge

Array: TypeAlias = npt.NDArray[Any]
SERIES = ("activations", "dimensions permuted", "Marchenko–Pastur")
BASELINES = (
    "Dimensions permuted: the same activations with each dimension shuffled over tokens by itself, so variances stay "
    "and correlations go. Marchenko–Pastur: as many samples of as many independent dimensions of equal variance."
)


def shares(data: Spectrum, control: Spectrum, tokens: int) -> Array:
    """Variance shares (3, d) in the order of `SERIES`."""
    width = len(data.variances)
    noise = marchenko_pastur(width, tokens, 1 / width)
    return np.stack([data.shares, control.shares, noise / noise.sum()])


def spectrum_figure(found: Array, tokens: int, hook: str) -> Lines:
    """Variance share by component, both axes logarithmic; ``found`` as `shares` gives it."""
    width = found.shape[1]
    return Lines(
        title=f"PCA spectrum of {hook}",
        note=f"n = {tokens:,} tokens. {BASELINES} Dashed: the largest share that such noise gives.",
        x_axis=Axis("Component", "", "log"),
        y_axis=Axis("Share of variance", "", "log"),
        series=SERIES,
        x=np.arange(1, width + 1),
        y=found,
        reference={"Marchenko–Pastur edge": marchenko_pastur_edge(width, tokens, 1 / width)},
    )


def cumulative_figure(found: Array, tokens: int, hook: str) -> Lines:
    """Share of variance in the first components; ``found`` as `shares` gives it."""
    return Lines(
        title=f"Cumulative variance of {hook}",
        note=f"n = {tokens:,} tokens. {BASELINES}",
        x_axis=Axis("Components", "", "log"),
        y_axis=Axis("Share of variance in the first components"),
        series=SERIES,
        x=np.arange(1, found.shape[1] + 1),
        y=np.cumsum(found, axis=1),
        reference={"90 %": 0.9},
    )


def scatter_figure(
    scores: Array,
    variance: Array,
    positions: Array,
    norms: Array,
    ids: Array,
    labels: list[str],
    hook: str,
    tokens: int,
) -> Scatter:
    """Tokens on the first two components, coloured by position; further components to choose from.

    Args:
        scores: (n, m) on the first components.
        variance: (d,) shares of variance.
        positions, norms, ids: (n,) position in the context, length of the activation, token id.
        labels: each token in its context.
        tokens: how many there were to draw from.
    """
    count = scores.shape[1]
    second = scores[:, 1] if count > 1 else np.zeros(len(scores))
    names = [f"Component {i + 1} ({variance[i]:.1%})" for i in range(count)]
    return Scatter(
        title=f"Tokens on the components of {hook}",
        note=f"{len(scores):,} tokens drawn at random from {tokens:,}. Scores and norms are in the activations' units.",
        x_axis=Axis(names[0]),
        y_axis=Axis(names[1] if count > 1 else "Nothing: there is one component"),
        value_axis=Axis("Position in the context", "tokens"),
        points=np.stack([scores[:, 0], second], axis=1),
        value=positions.astype(np.float64),
        label=np.asarray(labels, dtype=np.str_),
        columns=np.column_stack([scores, positions, norms, ids]).astype(np.float64),
        column_names=(*names, "Position (tokens)", "Norm", "Token id"),
    )


def summary_table(
    data: Spectrum,
    control: Spectrum,
    noise: Spectrum,
    tokens: int,
    contexts: int,
    spread: Resampled | None,
    far: float,
) -> Table:
    """Effective dimensions and shares, with intervals, beside what both baselines give.

    ``far`` is the share of variance in the ten longest activations.
    """
    ratio = spread.participation_ratio if spread else None
    first = spread.explained_1 if spread else None
    ten = spread.explained_10 if spread else None
    kinds = (data, control, noise)
    rows = [
        _row("Participation ratio", "dimensions", [one.participation_ratio for one in kinds], ratio, "(Σλ)² / Σλ²"),
        _row("Component 1", "share", [one.explained(1) for one in kinds], first, "λ₁ / Σλ"),
        _row("First 10 components", "share", [one.explained(10) for one in kinds], ten, "10 largest λ / Σλ"),
    ]
    for percent in (50, 90, 99):
        counts = [float(one.dimensions(percent / 100)) for one in kinds]
        rows.append(_row(f"{percent} % of the variance", "components", counts, None, "Fewest that hold it"))
    said = (
        f"95 % intervals and standard deviations: {spread.resamples:,} bootstrap resamples of {spread.groups} groups of "
        "contexts."
        if spread
        else "No intervals: they need a run to its end, at least 8 groups of contexts and at most 2,048 dimensions."
    )
    axes = (
        "Quantity", "Unit", "Activations", "95 % interval", "Deviation", "Dimensions permuted", "Marchenko–Pastur",
        "Definition",
    )  # fmt: skip
    return Table(
        title="Spectrum in numbers",
        note=f"n = {tokens:,} tokens in {contexts:,} contexts, {len(data.variances):,} dimensions. {said} The 10 longest "
        f"activations hold {far:.2%} of the variance. {BASELINES}",
        axes=tuple(Axis(label) for label in axes),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def _row(
    label: str, unit: str, values: list[float], interval: Interval | None, definition: str
) -> tuple[str | float, ...]:
    between = f"{number(interval.low)} to {number(interval.high)}" if interval else "–"
    deviation = number(interval.deviation) if interval else "–"
    return label, unit, values[0], between, deviation, values[1], values[2], definition


def in_context(before: str, token: str, after: str) -> str:
    """A token marked in the text around it, on one line: ``…on the ⟦ mat⟧ because…``."""
    return f"…{before}⟦{token}⟧{after}…".replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")
