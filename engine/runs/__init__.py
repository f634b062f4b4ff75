"""Experiments and their runs: declaration, parameters, control, recording, execution.

Names are imported on first use: the window reads messages and recordings from this package and
must not pay for pydantic before its first paint.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.runs.control import Control as Control
    from engine.runs.control import RunStopped as RunStopped
    from engine.runs.declaration import Action as Action
    from engine.runs.declaration import ActionValue as ActionValue
    from engine.runs.declaration import Experiment as Experiment
    from engine.runs.declaration import Metric as Metric
    from engine.runs.declaration import experiment as experiment
    from engine.runs.declaration import experiments as experiments
    from engine.runs.declaration import find as find
    from engine.runs.parameters import Parameters as Parameters
    from engine.runs.run import Checkpoint as Checkpoint
    from engine.runs.run import Progress as Progress
    from engine.runs.run import Run as Run

_WHERE = {
    "Action": "declaration",
    "ActionValue": "declaration",
    "Control": "control",
    "RunStopped": "control",
    "Experiment": "declaration",
    "Metric": "declaration",
    "experiment": "declaration",
    "experiments": "declaration",
    "find": "declaration",
    "Parameters": "parameters",
    "Checkpoint": "run",
    "Progress": "run",
    "Run": "run",
}
__all__ = [
    "Action",
    "ActionValue",
    "Checkpoint",
    "Control",
    "Experiment",
    "Metric",
    "Parameters",
    "Progress",
    "Run",
    "RunStopped",
    "experiment",
    "experiments",
    "find",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"engine.runs.{_WHERE[name]}"), name)
    raise AttributeError(name)
