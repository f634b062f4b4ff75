"""Training a toy in a run: progress, pause, stop, exact resumption, divergence, and the steps of its movie."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.runs.control import RunStopped
from engine.runs.run import Checkpoint
from engine.toys.errors import ToyError

if TYPE_CHECKING:
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
ROWS = 2_000  # points of the training loss that a run records
SAFE_EVERY = 20.0  # seconds between checkpoints


def log_steps(steps: int, count: int) -> list[int]:
    """About ``count`` log-spaced steps from 0, the untrained toy, to ``steps``; fewer where they would coincide."""
    spaced = np.geomspace(1, max(steps, 1), max(count - 1, 2))
    return sorted({0, *(round(step) for step in spaced), steps})


def generator(seed: int, stream: int) -> torch.Generator:
    """A generator of its own for each use of a run's seed: weights (0), data (1), the split (2), and so on."""
    mixed = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed >> np.uint64(1)))


class Trainer:
    """Base of the toys' trainers: what is trained, and how far it is.

    Attributes:
        step: optimiser steps done.
        weights: the trained tensors by name; ``generators`` the sources of chance, by name.
        optimiser: None where a toy updates its weights itself and keeps what that needs in ``extra``.
        extra: further tensors that a checkpoint has to hold, by name.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        optimiser: torch.optim.Optimizer | None = None,
        generators: Mapping[str, torch.Generator] | None = None,
        extra: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.step = 0
        self.weights = dict(weights)
        self.optimiser = optimiser
        self.generators = dict(generators or {})
        self.extra = dict(extra or {})

    @abstractmethod
    def train_step(self) -> float:
        """One optimiser step, which counts up ``step``; the loss before it."""

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What `restore` needs: weights, moments, random states and the step."""
        arrays = {f"weight.{name}": _copy(tensor) for name, tensor in self.weights.items()}
        arrays |= {f"extra.{name}": _copy(tensor) for name, tensor in self.extra.items()}
        arrays |= {f"random.{name}": _copy(source.get_state()) for name, source in self.generators.items()}
        if self.optimiser is not None:
            for number, state in self.optimiser.state_dict()["state"].items():
                arrays |= {f"optimiser.{number}.{key}": _copy(torch.as_tensor(v)) for key, v in state.items()}
        return {"step": self.step}, arrays

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint as if training had not been interrupted."""
        self.step = int(checkpoint.values["step"])
        arrays = {name: torch.from_numpy(np.array(array)) for name, array in checkpoint.arrays.items()}
        with torch.no_grad():
            for kind, tensors in (("weight", self.weights), ("extra", self.extra)):
                for name, tensor in tensors.items():
                    tensor.copy_(arrays[f"{kind}.{name}"])
        for name, source in self.generators.items():
            source.set_state(arrays[f"random.{name}"])
        if self.optimiser is not None:
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in arrays.items():
                if name.startswith("optimiser."):
                    _, number, key = name.split(".", 2)
                    state.setdefault(int(number), {})[key] = tensor
            groups = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": state, "param_groups": groups})


def _copy(tensor: Tensor) -> Array:
    found: Array = tensor.detach().cpu().numpy().copy()
    return found


def cosine(lr: float, step: int, steps: int) -> float:
    """The learning rate of a cosine decay from ``lr`` to 0 over ``steps``."""
    return lr * 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Use ``lr`` in every group of ``optimiser`` from now on."""
    for group in optimiser.param_groups:
        group["lr"] = lr


def check_finite(loss: float, step: int, *, lr: float | None = None) -> None:
    """Stop a run that diverges.

    Raises:
        ToyError: the loss of ``step`` is no finite number; what was recorded before stays.
    """
    if not math.isfinite(loss):
        way_out = f"choose a learning rate below {lr:g}" if lr is not None else "choose a smaller learning rate"
        raise ToyError(f"The loss is no finite number any more at step {step:,}: training diverged; {way_out}.")


def train(
    run: Run,
    trainer: Trainer,
    steps: int,
    *,
    measure: Callable[[int], None],
    at: Sequence[int],
    lr: float | None = None,
    metric: str = "loss",
    stage: str = "Training",
    each: Callable[[int], bool] | None = None,
) -> None:
    """Train to ``steps`` in ``run``, or on from the run's checkpoint, exactly as without the interruption.

    Args:
        measure: called with each step in ``at`` (`log_steps`), when the trainer is at it: it logs what is measured
            and shows the frames of the movie. It must leave the trainer as it is, its generators included.
        at: steps to measure at; 0 is the untrained toy.
        lr: named in the sentence about a divergence.
        metric: under which the training loss is logged.
        each: called after every step; True ends the training there (an early stop).

    Raises:
        ToyError: the loss is not finite any more.
    """
    due: Collection[int] = at if isinstance(at, range) else set(at)  # a range may be too long for a set
    measured, spent = -1, 0.0
    if run.resumed is not None:
        trainer.restore(run.resumed)
        measured, spent = int(run.resumed.values["measured"]), float(run.resumed.values["cpu_seconds"])
    began, saved = time.process_time(), time.monotonic()
    every = max(steps // ROWS, 1)

    def save() -> None:
        values, arrays = trainer.checkpoint()
        run.checkpoint({**values, "measured": measured, "cpu_seconds": spent + time.process_time() - began}, arrays)

    def measure_where_due() -> None:
        # Also what a stop left undone: it may come while something is measured.
        nonlocal measured
        if trainer.step in due and measured != trainer.step:
            measure(trainer.step)
            measured = trainer.step

    try:
        run.stage(stage)
        measure_where_due()
        for _ in run.track(range(trainer.step, steps), total=steps, start=trainer.step):
            loss = trainer.train_step()
            check_finite(loss, trainer.step, lr=lr)
            if trainer.step % every == 0 or trainer.step == 1:
                run.log(trainer.step, **{metric: loss})
            measure_where_due()
            if each is not None and each(trainer.step):
                break
            if time.monotonic() - saved > SAFE_EVERY:
                save()
                saved = time.monotonic()
    except RunStopped:
        save()
        raise
    run.fact("cpu_seconds", round(spent + time.process_time() - began, 1))
