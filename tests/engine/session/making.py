"""Sessions with known content, for the tests of the room."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.figures.kinds import Axis, Figure, Lines
from engine.runs.recording import RecordingWriter, RunRecord, State
from engine.runs.run import Checkpoint
from engine.session import Session, save_job


def lines(title: str = "Loss", n: int = 5) -> Lines:
    """A figure with one series of squares."""
    x = np.arange(n, dtype=np.float64)
    return Lines(title=title, x_axis=Axis("Step"), y_axis=Axis("Loss", "nats"), series=("a",), x=x, y=x**2)


def record(
    session: Session,
    experiment: str = "pca-spectrum",
    *,
    state: State = "finished",
    kept: dict[str, Any] | None = None,
    figures: dict[str, Figure] | None = None,
    rows: int = 4,
    more: Callable[[RecordingWriter], None] = lambda writer: None,
) -> RunRecord:
    """Add a run to the session and record it as an engine would, up to ``state``."""
    found = session.add_run(experiment, {"model": "demo", "tokens": 1000}, seed=3)
    writer = RecordingWriter(session.run_folder(found.id), found)
    found.state, found.started = "running", found.created
    session.update_run(found)
    for step in range(rows):
        writer.metrics({"loss": (step, 1 / (1 + step), step * 0.5)})
    writer.flush()
    for name, figure in (figures or {}).items():
        writer.figure(name, figure)
    for name, array in (kept or {}).items():
        writer.kept(name, array, {"unit": "nats"})
    more(writer)
    found.state, found.ended = state, found.created + 1
    writer.write_record()
    session.update_run(found)
    return found


def with_checkpoint(writer: RecordingWriter) -> None:
    """A checkpoint, and then one more row that is not part of it."""
    writer.checkpoint(Checkpoint({"step": 4, "generator": [1, 2]}, {"weights": np.arange(6.0).reshape(2, 3)}))
    writer.metrics({"loss": (4, 0.1, 9.0)})
    writer.flush()


def saved(path: Path, **content: Any) -> Path:
    """A closed session file at ``path`` with one run."""
    session = Session.create(title="Made")
    record(session, **content)
    session.save(path).wait()
    session.close()
    return path


def child_with(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Have the saving process run ``code`` before it begins."""
    program = f"{code}\nimport os, sys\nfrom engine.session import saving\nos._exit(saving.main(sys.argv[1:]))\n"
    monkeypatch.setattr(save_job, "child_command", lambda: [sys.executable, "-c", program, "-"])


def equal(a: Any, b: Any) -> bool:
    """Whether two arrays are the same bit for bit: shape, dtype and bytes (text: the same words)."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind == b.dtype.kind == "U":
        return a.shape == b.shape and a.tolist() == b.tolist()
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
