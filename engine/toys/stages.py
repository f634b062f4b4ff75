"""Two trainings in one run, a model and then dictionaries on its activations, stopped and resumed in either."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.toys.small_dictionaries import Bench
from engine.toys.training import Trainer, train

if TYPE_CHECKING:
    from engine.runs.run import Run

FIRST = "first_stage_seconds"  # among the values of a checkpoint: the first stage is over


def first_stage(run: Run, trainer: Trainer, go: Callable[[], None]) -> float:
    """Train the model with ``go``, which calls `train`; where that is over already, take its weights alone.

    Returns:
        Processor seconds that it took.
    """
    resumed = run.resumed
    if resumed is not None and FIRST in resumed.values:
        with torch.no_grad():
            for name, tensor in trainer.weights.items():
                tensor.copy_(torch.from_numpy(np.array(resumed.arrays[f"extra.{name}"])))
        return float(resumed.values[FIRST])
    spent = float(resumed.values["cpu_seconds"]) if resumed is not None else 0.0
    began = time.process_time()
    go()
    run.resumed = None  # the checkpoint was the model's, and dictionaries do not begin from it
    spent += time.process_time() - began
    values, arrays = trainer.checkpoint()
    run.checkpoint({**values, "measured": trainer.step, "cpu_seconds": spent}, arrays)
    return spent


def second_stage(
    run: Run, bench: Bench, steps: int, spent: float, *, measure: Callable[[int], None], at: Sequence[int], lr: float
) -> None:
    """Train the dictionaries; ``bench`` carries the model's weights (`Bench`), ``spent`` is what `first_stage` gave."""
    bench.notes[FIRST] = spent
    before = float(run.resumed.values["cpu_seconds"]) if run.resumed is not None else 0.0
    began = time.process_time()
    train(run, bench, steps, measure=measure, at=at, lr=lr, metric="fvu", stage="Training dictionaries")
    run.fact("cpu_seconds", round(spent + before + time.process_time() - began, 1))
