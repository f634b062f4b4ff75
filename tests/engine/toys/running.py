"""Running a toy's experiment in a test, whole or stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.models.opening import OpenModel, open_model
from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording


class StopAt:
    """A sink that stops the run when the row of ``metric`` for ``step`` or a later one arrives."""

    def __init__(self, control: Control, step: int, metric: str) -> None:
        self.control, self.step, self.metric = control, step, metric

    def metrics(self, rows: dict[str, tuple[float, float, float]]) -> None:
        if rows.get(self.metric, (-1,))[0] >= self.step:
            self.control.stop()

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def start(
    name: str, work: Path, *, stop: int = 0, metric: str = "loss", resume: bool = False, state: str = "", **values: Any
) -> Recording:
    """Run the experiment ``name`` with ``values`` as ``NAME-1`` in the work folder ``work``."""
    found = find(name)
    control = Control()
    sinks = [StopAt(control, stop, metric)] if stop else []
    folder = work / "runs" / f"{name}-1"
    record = execute(found, check(found.parameters, values), folder, sinks, control, resume, work=work)
    assert record.state == (state or ("stopped" if stop else "finished")), record.error + record.traceback
    return Recording(folder)


def quick(name: str, work: Path, **values: Any) -> Recording:
    """Run the experiment ``name`` at size quick."""
    return start(name, work, size="quick", **values)


def opened(name: str, work: Path) -> OpenModel:
    """The toy that `start` has trained in ``work``, opened as any panel opens it."""
    return open_model(f"toy:{name}-1", device="cpu", work=work)


def stopped_and_resumed(name: str, work: Path, *, stop: int, metric: str = "loss", **values: Any) -> None:
    """Assert that a run stopped at ``stop`` and resumed records what the uninterrupted one does, bit for bit."""
    through = start(name, work / "through", **values)
    start(name, work / "stopped", stop=stop, metric=metric, **values)
    resumed = start(name, work / "stopped", resume=True, **values)
    assert through.metric_names() == resumed.metric_names()
    for known in through.metric_names():
        assert np.array_equal(through.metric(known)[:, :2], resumed.metric(known)[:, :2], equal_nan=True), known
    assert through.movie_names() == resumed.movie_names()
    for known in through.movie_names():
        one, other = through.movie(known), resumed.movie(known)
        assert np.array_equal(one.steps, other.steps), known
        for part, stack in one.stacks.items():
            assert np.array_equal(stack, other.stacks[part], equal_nan=stack.dtype.kind == "f"), (known, part)
    for (_, id, _, one_arrays), (_, other_id, _, other_arrays) in zip(through.things(), resumed.things(), strict=True):
        assert id == other_id
        assert one_arrays.keys() == other_arrays.keys()
        assert all(np.array_equal(one_arrays[n], other_arrays[n]) for n in one_arrays), id
