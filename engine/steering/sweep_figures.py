"""The figures of `steering-sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Heatmap, Histogram, Lines, Scatter
from engine.figures.words import number
from engine.steering.steerability import RESAMPLES, Agreement, TwoWay

if TYPE_CHECKING:
    from engine.steering.sweeping import Swept

Floats: TypeAlias = npt.NDArray[np.float64]
Values: TypeAlias = Sequence[str]

SHOWN = 60  # curves of single samples
MOST_VALUES = 6  # values of a factor that get a violin or a colour of their own
STEERABILITY = Axis("Steerability s", "nats/strength")
CONTROLS = (
    "Controls: one random vector as long as the first method's step, and that method made after the two completions of "
    "each row (or the labels) were shuffled. A control is one draw, too: how far from 0 it lies is what chance can do."
)


@dataclass(frozen=True)
class Setting:
    """What all figures of a sweep say of it.

    Attributes:
        where: hook point and positions, in words;  samples: how many, and that they are held out.
        propensity: what m compares, in words;  success: what counts as one.
        factor: the first factor declared, "" for none;  values: (samples,) of it.
    """

    where: str
    samples: str
    propensity: str
    success: str
    factor: str = ""
    values: Values = ()


def violins(found: Sequence[Swept], setting: Setting) -> Histogram:
    """s_i by method, and of methods that are no control also by the first factor's value."""
    groups: list[tuple[str, Floats]] = []
    for one in found:
        groups.append((one.arm.name, one.slopes.slope))
        if not one.arm.control:
            groups += [
                (f"{one.arm.name} · {value or 'none'}", one.slopes.slope[here])
                for value, here in _parts(setting).items()
            ]
    longest = max(len(values) for _, values in groups)
    samples = np.full((len(groups), longest), np.nan)
    for row, (_, values) in zip(samples, groups, strict=True):
        row[: len(values)] = values
    parts = f" Then by {setting.factor}, the first factor declared." if len(groups) > len(found) else ""
    return Histogram(
        title=f"Steerability at {setting.where}",
        note=f"n = {setting.samples}. s: slope of {setting.propensity} over strength, one per sample. A sample below 0 is "
        f"anti-steerable: it moves the wrong way. Bar: median.{parts} Two clusters on either side of 0 have a mean that "
        f"tells of neither. {CONTROLS}",
        x_axis=STEERABILITY,
        y_axis=Axis("Samples"),
        groups=tuple(name for name, _ in groups),
        samples=samples,
        violins=True,
    )


def _parts(setting: Setting) -> dict[str, npt.NDArray[np.bool_]]:
    """Which samples have each value of the first factor; nothing where there are too many values to tell apart."""
    values = np.asarray(setting.values, dtype=np.str_)
    distinct = list(dict.fromkeys(setting.values))
    if not setting.factor or not 2 <= len(distinct) <= MOST_VALUES:
        return {}
    return {value: values == value for value in distinct}


def curves(one: Swept, control: Swept | None, setting: Setting, random: np.random.Generator) -> Lines:
    """m_i(λ) of up to 60 samples, coloured by the first factor, with the mean and the control's mean."""
    at, values = one.propensities.strengths, one.propensities.values
    shown = np.sort(random.choice(len(values), SHOWN, replace=False)) if len(values) > SHOWN else np.arange(len(values))
    means = [("mean", *_mean(values, random))]
    if control is not None:
        means.append((f"{control.arm.name} (control), mean", *_mean(control.propensities.values, random)))
    parts = _parts(setting)
    bundles = {f"{setting.factor}: {value or 'none'}": shown[here[shown]] for value, here in parts.items()}
    bundles = bundles or {"samples": shown}
    longest = max(len(rows) for rows in bundles.values()) * (len(at) + 1)
    shape = (len(means) + len(bundles), longest)
    x, y, low, high = (np.full(shape, np.nan) for _ in range(4))
    for row, (_, centre, below, above) in enumerate(means):
        for table, part in ((x, at), (y, centre), (low, below), (high, above)):
            table[row, : len(at)] = part
    for row, rows in enumerate(bundles.values(), len(means)):
        # A pair of NaN behind each curve lifts the pen, so that a whole bundle is one series.
        pieces = [np.append(values[sample], np.nan) for sample in rows]
        count = len(pieces) * (len(at) + 1)
        x[row, :count] = np.tile(np.append(at, np.nan), len(pieces))
        y[row, :count] = np.concatenate(pieces) if pieces else []
    return Lines(
        title=f"Propensity under {one.arm.name}",
        note=f"m: {setting.propensity}. n = {setting.samples}; {len(shown)} drawn at random are shown as thin curves. Band: "
        f"95 % bootstrap of the mean over samples. A straight curve has its slope as steerability; one that bends has a "
        f"residual (median {np.median(one.slopes.relative):.0%} of a curve's own spread), and "
        f"{one.slopes.saturated.mean():.0%} flatten or turn within the range. Control: what no direction in particular does.",
        x_axis=Axis("Strength"),
        y_axis=Axis("Propensity m", "nats"),
        series=(*(name for name, *_ in means), *bundles),
        x=x,
        y=y,
        low=low,
        high=high,
        reference={"both equally likely": 0.0},
    )


def _mean(values: Floats, random: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Mean over samples (strengths,) with its bootstrap interval."""
    draws = values[random.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return values.mean(axis=0), low, high


def tradeoff(found: Sequence[Swept], setting: Setting) -> Scatter:
    """Success against distance off the manifold: a point per method and strength, coloured by strength."""
    points, values, labels, columns = [], [], [], []
    for one in found:
        shift, ce = one.shifts.mean(axis=0), one.damage.mean(one.damage.ce)
        kl, at = one.damage.mean(one.damage.kl), one.propensities.strengths
        places = one.distances
        for index, strength in enumerate(at):
            points.append((places.plain[index], shift[index]))
            values.append(strength)
            labels.append(f"{one.arm.name} at {strength:g}")
            row = (
                places.plain[index], places.shrunk[index], places.step[index], places.to_oracle[index], shift[index],
                one.success[:, index].mean(), ce[index], kl[index], strength,
            )  # fmt: skip
            columns.append(row)
    manifold = f"{found[0].distances.n:,} held-out activations" if found else ""
    return Scatter(
        title=f"Success against distance from real activations, {setting.where}",
        note="Distance: median distance of steered activations to the nearest real one, relative to that of unsteered "
        f"held-out ones, which is 1 (strength 0). {manifold}, where activations are read. Shrunk: the same by Mahalanobis, "
        "covariance as by Ledoit and Wolf. Success far to the right is bought by leaving what the model ever represents. "
        f"Shift: mean of m(λ) − m without steering over n = {setting.samples}. Toward the oracle: mean cosine of the step "
        f"with the way from a pair's negative to its positive activation. {CONTROLS}",
        x_axis=Axis("Distance to real activations", "× that of held-out ones"),
        y_axis=Axis("Mean shift of propensity", "nats"),
        value_axis=Axis("Strength"),
        points=np.array(points),
        value=np.array(values),
        label=np.array(labels),
        columns=np.array(columns),
        column_names=(
            "Distance (× held-out)", "Distance, shrunk (× held-out)", "Relative step |x′ − x| / |x|",
            "Toward the oracle (cosine)", "Mean shift (nats)", f"Share: {setting.success}",
            "Added cross entropy (nats/token)", "KL (nats/token)", "Strength",
        ),
    )  # fmt: skip


def reach(found: Sequence[Swept], setting: Setting) -> Lines:
    """The same from strength 0 upward, a line per method: which one goes further at the same distance."""
    paths = []
    for one in found:
        up = one.propensities.strengths >= 0
        paths.append((one.distances.plain[up], one.shifts.mean(axis=0)[up]))
    return Lines(
        title=f"Success by distance from real activations, {setting.where}",
        note="Each line goes from strength 0 (distance 1, shift 0) to the highest one. Of two methods the upper one shifts the "
        "propensity further while activations stay as close to real ones. Distance: median distance of steered activations to "
        f"the nearest real one, relative to that of unsteered held-out ones. Shift: mean of m(λ) − m without steering over n = "
        f"{setting.samples}; its intervals stand in the table at matched damage. {CONTROLS}",
        x_axis=Axis("Distance to real activations", "× that of held-out ones"),
        y_axis=Axis("Mean shift", "nats"),
        series=tuple(one.arm.name for one in found),
        x=np.array([x for x, _ in paths]),
        y=np.array([y for _, y in paths]),
    )


def damage(
    found: Sequence[Swept], setting: Setting, text: str, matched_at: float, random: np.random.Generator, *, kl: bool
) -> Lines:
    """Added cross entropy, or KL, on neutral text by strength and method, with a band."""
    rows, lows, highs = [], [], []
    for one in found:
        values = one.damage.kl if kl else one.damage.ce
        contexts = len(values)
        draws = one.damage.resampled(values, random.integers(0, contexts, (RESAMPLES, contexts)))
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        rows.append(one.damage.mean(values))
        lows.append(low)
        highs.append(high)
    first = found[0].damage
    clean = float(first.tokens @ first.clean / first.tokens.sum())
    what = "KL(clean ‖ steered)" if kl else "Added cross entropy (CE), steered less clean"
    return Lines(
        title=f"Damage on neutral text, {setting.where}" if not kl else f"KL on neutral text, {setting.where}",
        note=f"{what}, mean over {int(first.tokens.sum()):,} predictions of {text} in {len(first.tokens)} contexts; the clean "
        f"model has {clean:.3f} nats per token. Band: 95 % bootstrap over contexts. Below 0 steering makes the text "
        f"likelier. {CONTROLS}",
        x_axis=Axis("Strength"),
        y_axis=Axis("KL" if kl else "Added CE", "nats/token"),
        series=tuple(one.arm.name for one in found),
        x=first.strengths,
        y=np.array(rows),
        low=np.array(lows),
        high=np.array(highs),
        reference={} if kl else {"matched damage": matched_at},
    )


def two_way_map(table: TwoWay, factors: tuple[str, str], method: str, setting: Setting) -> Heatmap:
    """Mean s by the values of two factors."""
    cells = [
        [_cell(*cell) for cell in zip(*row, strict=True)] for row in zip(table.mean, table.sd, table.n, strict=True)
    ]
    return Heatmap(
        title=f"Mean steerability by {factors[0]} and {factors[1]}, {method}",
        note=f"Mean s ± standard deviation (samples in the cell); n = {setting.samples} in all. Cells of opposite sign are "
        "clusters that the mean over all hides (Simpson). Grey: no sample.",
        x_axis=Axis(factors[1]),
        y_axis=Axis(factors[0]),
        value_axis=Axis("Mean s", "nats/strength"),
        values=table.mean,
        x=np.array([value or "none" for value in table.columns]),
        y=np.array([value or "none" for value in table.rows]),
        text=np.array(cells),
        diverging=True,
    )


def transfer_scatter(
    own: Floats, carried: Floats, found: Agreement, labels: Sequence[str], said: str, setting: Setting
) -> Scatter:
    """s_i with a direction from other rows against s_i with one from rows of the same kind."""
    return Scatter(
        title=f"Transfer of the direction, {setting.where}",
        note=f"{said} n = {found.n} samples of which neither direction was made. r = {number(found.r)} (95 % bootstrap "
        f"{between(found.interval)}), Spearman {number(found.rank)}, slope {number(found.slope)}: 1 where the direction carries "
        f"over in full. Anti-steerable are {(own < 0).mean():.0%} by their own direction and {(carried < 0).mean():.0%} by the "
        "other.",
        x_axis=Axis("s by a direction of the same kind", "nats/strength"),
        y_axis=Axis("s by the transferred direction", "nats/strength"),
        points=np.column_stack([own, carried]),
        label=np.asarray(labels),
    )


def between(interval: tuple[float, float]) -> str:
    low, high = interval
    return "–" if np.isnan([low, high]).any() else f"{number(low)} to {number(high)}"


def _cell(mean: float, sd: float, n: int) -> str:
    """What stands in a cell of a two-way map."""
    return f"{mean:.2f} ±{sd:.2f} ({n})" if n > 1 else f"{mean:.2f} (1)" if n else ""
