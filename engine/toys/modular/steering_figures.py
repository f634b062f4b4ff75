"""The figures of steering a network for modular addition: circles, tables, success against distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Lines, Scatter, Table
from engine.toys import fourier

if TYPE_CHECKING:
    from engine.toys.modular.steering import LearnedOutcome, Outcome

Array: TypeAlias = npt.NDArray[Any]
PLANES = 4  # circles drawn
ARROWS = 6  # numbers whose way is drawn in each
MEASURES = (
    "Success: share of the held-out pairs answered y + δ, 95 % interval after Wilson. Step: |x′ − x| / |x|. Distance: to the "
    "nearest real activation, 1 is the median among real ones. Cosines: of x′ and the oracle's x, and of the steps to them. Side "
    "effect: KL from the oracle's distribution over all other answers."
)


def rotation(before: Array, after: Array, keys: Sequence[int], delta: int) -> Lines:
    """Embeddings of the numbers (p, d) before and after the rotation, in the planes of the key frequencies."""
    planes = [(k, fourier.plane(before, k)) for k in keys[:PLANES]]
    series, xs, ys = [], [], []
    widest = max(np.abs((before - before.mean(0)) @ directions.T).max() for _, directions in planes)
    for number, (k, directions) in enumerate(planes):
        if len(directions) < 2:
            continue
        old, new = ((table - before.mean(0)) @ directions.T for table in (before, after))
        place = np.array([number * 2.5 * widest, 0.0])  # side by side
        order = fourier.around(len(old), k)
        ways = []
        for a in range(min(ARROWS, len(old))):
            ways += [old[a], new[a], np.full(2, np.nan)]
        for name, points in (
            (f"k = {k}, all numbers", old[order]),
            (f"k = {k}, 0 … {ARROWS - 1} moved", np.array(ways)),
        ):
            series.append(name)
            xs.append(points[:, 0] + place[0])
            ys.append(points[:, 1] + place[1])
    return Lines(
        title=f"Rotation by δ = {delta} in the key planes",
        note=f"Circles: embeddings of the {len(before)} numbers in the plane of each key frequency k, joined in the order k·a; "
        f"planes side by side. Lines go from a number's embedding to where the rotation puts it: exactly onto a + {delta} where "
        "the numbers lie on a perfect circle. What is outside these planes stays.",
        x_axis=Axis("Cosine direction", "embedding units"),
        y_axis=Axis("Sine direction", "embedding units"),
        series=tuple(series),
        x=_padded(xs),
        y=_padded(ys),
        equal=True,
    )


def _padded(rows: Sequence[Array]) -> Array:
    found = np.full((len(rows), max(map(len, rows))), np.nan, np.float32)
    for row, values in zip(found, rows, strict=True):
        row[: len(values)] = values
    return found


def methods(found: Sequence[Outcome]) -> Table:
    """Every method at every δ."""
    columns: list[tuple[Axis, Any]] = [
        (Axis("Method"), [one.method for one in found]),
        (Axis("Site"), [one.site for one in found]),
        (Axis("δ"), [str(one.delta) if one.delta else "any" for one in found]),
        *_measures(found),
        (Axis("Note"), [one.note for one in found]),
    ]
    return _table(
        "Methods of steering",
        "On held-out pairs: embedding is that of a, mid the residual stream before the MLP, post after it. Floors are "
        f"named in the last column. {MEASURES} A step of length 0 has no cosine (NaN).",
        columns,
    )


def learned(found: Sequence[LearnedOutcome], p: int) -> Table:
    """Learned f for every price of moving β."""
    rows = [(one.beta, what) for one in found for what in (one.anywhere, one.new, one.wrong_y)]
    columns: list[tuple[Axis, Any]] = [
        (Axis("β"), [beta for beta, _ in rows]),
        (Axis("Targets"), [what.method.removeprefix("learned f, ") for _, what in rows]),
        *_measures([what for _, what in rows]),
    ]
    return _table(
        "Learned steering and its price of moving",
        f"f(x, y, y′) at mid on held-out pairs (a, b), each with random targets y′. Chance is 1/p = {1 / p:.3f}. Control: f "
        f"is told a wrong y. {MEASURES}",
        columns,
    )


def _measures(found: Sequence[Outcome]) -> list[tuple[Axis, Any]]:
    def mean(values: Array) -> float:
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else np.nan

    def quantile(values: Array, share: float) -> float:
        return float(np.quantile(values, share)) if len(values) else np.nan

    return [
        (Axis("n", "pairs"), [one.n for one in found]),
        (Axis("Success"), [one.success for one in found]),
        (Axis("Low"), [one.low for one in found]),
        (Axis("High"), [one.high for one in found]),
        (Axis("Step, mean"), [mean(one.step) for one in found]),
        (Axis("Step, sd"), [float(one.step.std()) if one.n else np.nan for one in found]),
        (Axis("Distance, median"), [quantile(one.distance, 0.5) for one in found]),
        (Axis("Distance, 90 %"), [quantile(one.distance, 0.9) for one in found]),
        (Axis("Cosine with the oracle"), [mean(one.cosine) for one in found]),
        (Axis("Cosine of the steps"), [mean(one.turn) for one in found]),
        (Axis("Side effect, mean", "nats"), [mean(one.side) for one in found]),
    ]


def _table(title: str, note: str, columns: Sequence[tuple[Axis, Any]]) -> Table:
    return Table(
        title=title,
        note=note,
        axes=tuple(axis for axis, _ in columns),
        columns=tuple(np.asarray(column) for _, column in columns),
    )


def success_and_distance(learned: Sequence[LearnedOutcome], others: Sequence[Outcome]) -> Scatter:
    """Success against distance at mid: learned f by β, and the ``others``."""
    points = [(f"f, β = {one.beta:g}", one.anywhere) for one in learned]
    points += [(f"f, β = {one.beta:g}, (y, y′) held out", one.new) for one in learned if one.new.n]
    points += [(f"{one.method}, δ = {one.delta}", one) for one in others]
    values = np.array([(np.median(one.distance), one.success, one.step.mean(), one.side.mean()) for _, one in points])
    return Scatter(
        title="Success against distance from real activations, at mid",
        note="Each point is a method on the held-out pairs, the median of their distances; 1 is the median among real "
        "activations and the oracle patch, a real activation, the reference. A method that succeeds far to the right does not "
        "turn what the model represents. Floors: random vectors and shuffled targets.",
        x_axis=Axis("Distance to the nearest real activation", "medians of real ones"),
        y_axis=Axis("Success", "share of pairs"),
        value_axis=Axis("Side effect", "nats"),
        points=values[:, :2].astype(np.float32),
        value=values[:, 3].astype(np.float32),
        label=np.array([name for name, _ in points]),
        columns=values[:, 2:].astype(np.float32),
        column_names=("Step", "Side effect"),
    )


def training(history: Sequence[Array], betas: Sequence[float], smooth: int, batch: int) -> Lines:
    """Success of each f's own batches over its steps, ``history`` (steps, 3) each."""
    rows = []
    for one in history:
        count = max(len(one) // smooth, 1)
        rows.append(np.array([part[:, 1].mean() for part in np.array_split(one, count)]))
    return Lines(
        title="Training of f",
        note=f"Success on its own batches of {batch} training pairs with random targets, means over {smooth} steps. Success on "
        "held-out pairs is in the table.",
        x_axis=Axis("Step"),
        y_axis=Axis("Success", "share of the batch"),
        series=tuple(f"β = {beta:g}" for beta in betas),
        x=(np.arange(len(rows[0])) + 0.5) * len(history[0]) / len(rows[0]),
        y=np.stack(rows).astype(np.float32),
    )
