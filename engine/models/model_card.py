"""The model card: facts and hook points of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.figures.kinds import Axis, Table
from engine.models import memory
from engine.models.open_model import facts_figure, facts_rows
from engine.runs.declaration import experiment
from engine.runs.parameters import Device, Dtype, ModelRef, Parameters

if TYPE_CHECKING:
    from engine.models.facts import Before
    from engine.models.hooks import HookPoint
    from engine.runs.run import Run


class ModelCardParameters(Parameters):
    """Which model, where and in which number format."""

    model: ModelRef = "demo"
    device: Device = "auto"
    dtype: Dtype = "float32"


@experiment("model-card", title="Model card", area="Models", lane="look")
def model_card(parameters: ModelCardParameters, run: Run) -> None:
    """Shows what a model is: its sizes, its norms and positions, its tokenizer, and its hook points.

    Hook points are the places where activations can be read and changed; they carry TransformerLens' names.
    A model that is not on this machine is not fetched for its card: then only what its files or the hub
    say is shown, with the memory it would need.
    """
    from engine.models.facts import facts_before
    from engine.models.opening import choose_device, open_model

    device = choose_device(parameters.device)
    before = facts_before(parameters.model, device=device, dtype=parameters.dtype, work=run.work)
    for name, value in (
        ("here", before.here),
        ("parameters", before.parameters),
        ("memory_needed", before.needed),
        ("memory_free", before.free),
        ("note", before.note),
    ):
        run.fact(name, value)
    if not before.here:
        run.show("facts", _figure_before(before))
        run.fact("hook_points", [])
        return
    model = open_model(parameters.model, device=device, dtype=parameters.dtype, run=run)
    points = model.hook_points()
    run.show("facts", facts_figure(model.facts))
    run.show("hook-points", hooks_figure(model.facts.title, points))
    for name, value in model.facts.to_json().items():
        run.fact(name, value)
    run.fact("hook_points", [point.to_json() for point in points])


def hooks_figure(title: str, points: list[HookPoint]) -> Table:
    """All hook points as a table: name, shape, layer ("" outside of blocks), part, note."""
    return Table(
        title=f"{title}: hook points",
        note=f"{len(points):,} hook points, in the order of the forward pass.",
        axes=(Axis("Hook point"), Axis("Shape"), Axis("Layer"), Axis("Part"), Axis("Note")),
        columns=(
            np.array([point.name for point in points]),
            np.array([point.shape for point in points]),
            np.array(["" if point.layer is None else str(point.layer) for point in points]),
            np.array([point.part for point in points]),
            np.array([point.note for point in points]),
        ),
    )


def _figure_before(before: Before) -> Table:
    rows = [
        ("Reference", before.reference),
        ("Parameters", f"{before.parameters:,}"),
        ("Memory needed", memory.in_words(before.needed)),
        ("Memory free", memory.in_words(before.free)),
        *facts_rows(before.values),
    ]
    return Table(
        title=f"{before.title}: facts",
        note=f"It {before.note}." if before.note else "",
        axes=(Axis("Fact"), Axis("Value")),
        columns=(np.array([name for name, _ in rows]), np.array([value for _, value in rows])),
    )
