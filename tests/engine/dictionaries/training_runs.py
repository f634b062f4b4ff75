"""Small runs of ``train-dictionary`` for tests: started, stopped, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording, RunRecord
from engine.runs.sinks import NullSink

HOOK = "blocks.0.hook_resid_post"
EXPERIMENT = find("train-dictionary")


def write_words(path: Path) -> Path:
    """A text of ten words at random."""
    words = ["the", "fox", "dog", "panama", "canal", "man", "plan", "jumps", "0123", "lazy"]
    path.write_text(" ".join(np.random.default_rng(0).choice(words, size=1_500)))
    return path


class At(NullSink):
    """Calls ``act`` when the loss of ``step`` is logged."""

    def __init__(self, step: int, act: Any) -> None:
        self.step, self.act = step, act

    def metrics(self, rows: Any) -> None:
        if rows.get("loss", (-1,))[0] == self.step:
            self.act()


def start(
    folder: Path, values: dict[str, Any], *sinks: NullSink, control: Control | None = None, resume: bool = False
) -> RunRecord:
    return execute(EXPERIMENT, check(EXPERIMENT.parameters, values), folder, sinks, control, resume)


def finished(folder: Path, values: dict[str, Any], resume: bool = False) -> Recording:
    record = start(folder, values, resume=resume)
    assert record.state == "finished", record.traceback or record.error
    return Recording(folder)


def curves(recording: Recording) -> dict[str, list[list[float]]]:
    """Every live number but the rate, which is time, by step."""
    names = set(recording.metric_names()) - {"rate"}
    return {name: recording.metric(name)[:, :2].tolist() for name in names}


def dictionaries(folder: Path) -> list[Any]:
    """What the run in ``folder`` has kept in that section."""
    return [thing for thing in Recording(folder).things() if thing[0] == "dictionaries"]


def stored(recording: Recording) -> dict[str, Any]:
    """Attributes and arrays of the one dictionary of a run."""
    [(_, id, attributes, arrays)] = dictionaries(recording.folder)
    assert id == recording.folder.name
    return {"attributes": attributes, "arrays": {name: np.array(array) for name, array in arrays.items()}}
