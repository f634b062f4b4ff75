"""The figures of learned steering: training, methods beside f, success by pair of labels, distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Heatmap, Histogram, Lines, Table

if TYPE_CHECKING:
    from engine.steering.learned_task import Judged

Array: TypeAlias = npt.NDArray[Any]
SMOOTH = 20  # steps that a point of the training curve averages
LABELS = 60  # labels on the map at most


def training(history: Array, batch: int, classes: int) -> Lines:
    """Success of the batches over steps, ``history`` (steps, 3)."""
    success = history[:, 1]
    parts = np.array_split(np.arange(len(success)), max(len(success) // SMOOTH, 1))
    rows = [success[part] for part in parts]
    return Lines(
        title="Training of f",
        note=f"Success on its own batches of {batch} fitted prompts with random targets: mean and range of {SMOOTH} steps. "
        "Control: chance, one in as many as there are labels. Success on held-out prompts is in the table.",
        x_axis=Axis("Step"),
        y_axis=Axis("Success", "share of the batch"),
        series=("f",),
        x=np.array([part.mean() + 1 for part in parts]),
        y=np.array([[row.mean() for row in rows]], np.float32),
        low=np.array([[row.min() for row in rows]], np.float32),
        high=np.array([[row.max() for row in rows]], np.float32),
        reference={"chance": 1 / classes},
    )


def methods(found: Sequence[Judged], classes: int) -> Table:
    """f, its controls and its bounds."""

    def mean(values: Array) -> float:
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else np.nan

    columns: list[tuple[Axis, Any]] = [
        (Axis("Method"), [one.method for one in found]),
        (Axis("Cases", "prompt and target"), [one.cases for one in found]),
        (Axis("Prompts"), [one.prompts for one in found]),
        (Axis("Success"), [one.success for one in found]),
        (Axis("Low"), [one.low for one in found]),
        (Axis("High"), [one.high for one in found]),
        (Axis("Step, mean"), [mean(one.step) for one in found]),
        (Axis("Step, sd"), [float(one.step.std()) for one in found]),
        (Axis("Distance, median"), [float(np.median(one.distance)) for one in found]),
        (Axis("Distance, 90 %"), [float(np.quantile(one.distance, 0.9)) for one in found]),
        (Axis("Cosine of the steps"), [mean(one.turn) for one in found]),
    ]
    return Table(
        title="Methods on held-out prompts",
        note="Success: share of cases whose likeliest answer is the target's, among the labels' answers; 95 % bootstrap interval "
        "over prompts. Step: |x′ − x| / |x|. Distance: to the nearest fitted activation, 1 is the median of held-out ones. "
        "Cosine: of the step and the oracle's, the activation of the prompt that differs in its label alone (NaN: none). "
        f"Controls: a wrong y, a random vector of equal norm, nothing; chance is {1 / classes:.3f}.",
        axes=tuple(axis for axis, _ in columns),
        columns=tuple(np.asarray(column) for _, column in columns),
    )


def pairs(found: Sequence[Judged], classes: Sequence[str], untrained: Array) -> Heatmap:
    """Success of f by label and target; ``found`` are the parts of its cases, ``untrained`` (classes, classes) bool."""
    hits = np.zeros((len(classes), len(classes)))
    count = np.zeros_like(hits)
    for one in found:
        np.add.at(hits, (one.y, one.target), one.right)
        np.add.at(count, (one.y, one.target), 1)
    values = np.divide(hits, count, out=np.full_like(hits, np.nan), where=count > 0)[:LABELS, :LABELS]
    names = np.array(list(classes[:LABELS]))
    return Heatmap(
        title="Success of f by label and target",
        note=f"Share of held-out prompts, {int(count[count > 0].min())} to {int(count.max())} for each pair of labels. “held "
        "out”: f was never trained on that pair. Empty: not measured; the diagonal is no change.",
        x_axis=Axis("To the label y′"),
        y_axis=Axis("From the label y"),
        value_axis=Axis("Success", "share of prompts"),
        values=values.astype(np.float32),
        x=names,
        y=names,
        text=np.where(untrained[:LABELS, :LABELS], "held out", ""),
        levels=(0.0, 1.0),
    )


def distances(found: Sequence[Judged]) -> Histogram | None:
    """Distances of each method's activations; None where they were not measured."""
    known = [one for one in found if np.isfinite(one.distance).all()]
    if not known:
        return None
    samples = np.full((len(known), max(one.cases for one in known)), np.nan, np.float32)
    for row, one in zip(samples, known, strict=True):
        row[: one.cases] = one.distance
    return Histogram(
        title="Distance from real activations",
        note="Distance of each steered activation to the nearest fitted one; 1 is the median of held-out real activations, which "
        "“nothing” shows. An intervention far to the right has left what the model knows, whatever its success. "
        + "; ".join(f"{one.method}: n = {one.cases}" for one in known)
        + ".",
        x_axis=Axis("Distance to the nearest real activation", "medians of real ones"),
        y_axis=Axis("Cases"),
        groups=tuple(one.method for one in known),
        samples=samples,
        violins=True,
    )
