"""The optimiser loop that all architectures share: Adam, schedule, unit atoms, dead latents, exact state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.architectures import Architecture
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.resampling import redraw
from engine.dictionaries.weights import Weights

Array: TypeAlias = npt.NDArray[Any]
Schedule: TypeAlias = Literal["linear", "cosine", "constant"]
# Gao et al. 2024: gradients shrink with the batch, and Adam's usual 1e-8 would hold rare latents back.
EPSILON = 6.25e-10


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all.
        lr: learning rate at its height.
        warm_up: steps over which it rises from zero.
        decay: last steps over which it falls to zero.
        dead_after: a latent that has not been active for so many activations is dead.
        schedule: how it falls: straight, along half a cosine, or not at all.
        clip: gradients longer than this, all tensors together, are shortened to it.
    """

    steps: int
    lr: float
    warm_up: int
    decay: int
    dead_after: int
    schedule: Schedule = "linear"
    clip: float = 1.0

    @classmethod
    def usual(cls, steps: int, lr: float, dead_after: int) -> Plan:
        """Warm-up over 5 % of the steps (1,000 at most), decay over the last 20 %."""
        return cls(steps, lr, min(steps // 20, 1_000), steps // 5, dead_after)

    def lr_at(self, step: int, height: float | None = None) -> float:
        """Learning rate of ``step`` (0 is the first), around ``height`` in place of the plan's own if given."""
        rising = (step + 1) / self.warm_up if step < self.warm_up else 1.0
        left = self.steps - step
        falling = left / (self.decay + 1) if left <= self.decay and self.schedule != "constant" else 1.0
        if self.schedule == "cosine":
            falling = (1 - math.cos(math.pi * falling)) / 2
        return (self.lr if height is None else height) * min(rising, falling)


@dataclass(frozen=True)
class Report:
    """One step's numbers.

    Attributes:
        loss: the whole loss, in units of the targets' variance.
        terms: its parts, which add up to it: ``reconstruction``, and ``penalty`` and ``auxiliary`` where they exist.
        squared_error: Σ ‖ŷ − y‖² over the batch.
        active: active latents over the batch.
        lr: learning rate.
    """

    loss: float
    terms: dict[str, float]
    squared_error: float
    active: int
    lr: float


class Trainer:
    """Fits ``weights`` in place. Where atoms are unit they stay so, and gradients along them are removed.

    Attributes:
        weights: the dictionary in training, in units of the scaled activations.
        architecture: its loss.
        plan: its schedule.
        lr: height of the schedule now; the plan's own until `change_lr`.
        done: steps taken.
        silent: (F,) int64 activations since each latent was last active.
        recent: (F,) int64 activations on which each latent was active, among the ``counted`` last ones.
    """

    def __init__(self, weights: Weights, architecture: Architecture, plan: Plan) -> None:
        self.weights = weights
        self.architecture = architecture
        self.plan = plan
        self.lr = plan.lr
        self.done = 0
        device = weights.b_enc.device
        self.silent = torch.zeros(len(weights.encoder), dtype=torch.int64, device=device)
        self.recent = torch.zeros_like(self.silent)
        self.counted = 0
        self._tensors = weights.tensors()
        rates = architecture.rates()
        groups = [{"params": [tensor], "factor": rates.get(name, 1.0)} for name, tensor in self._tensors.items()]
        self._adam = torch.optim.Adam(groups, lr=plan.lr, eps=EPSILON, fused=True)
        for tensor in self._tensors.values():
            self._adam.state[tensor] = {
                "step": torch.zeros((), dtype=torch.float32, device=device),
                "exp_avg": torch.zeros_like(tensor),
                "exp_avg_sq": torch.zeros_like(tensor),
            }

    @property
    def dead(self) -> Tensor:
        """Indices (m,) of the latents that are dead now."""
        return (self.silent >= self.plan.dead_after).nonzero().flatten()

    @property
    def dead_share(self) -> float:
        """Share of the latents that are dead."""
        return len(self.dead) / len(self.silent)

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor | None = None) -> Report:
        """One optimiser step on scaled activations ``x`` (n, D_in), and targets ``y`` (n, D_out) of a transcoder.

        Raises:
            DictionaryError: the loss or its gradient is not finite; the weights are as they were.
        """
        progress = self.done / self.plan.steps
        found = self.architecture.step(self.weights, x, y, self.dead, progress)
        loss = float(found.loss)
        self._demand_finite(loss, "loss")
        lr = self.plan.lr_at(self.done, self.lr)
        self._descend(found.gradients, lr)
        self.architecture.after(self.weights)
        self.silent = torch.where(found.fired > 0, 0, self.silent + len(x))
        self.recent += found.fired
        self.counted += len(x)
        self.done += 1
        terms = {name: float(term) for name, term in found.terms.items()}
        return Report(loss, terms, float(found.squared_error), int(found.fired.sum()), lr)

    def _descend(self, gradients: Weights, lr: float) -> None:
        """Adam's step along ``gradients``, which are spent."""
        atoms = self.weights.decoder
        if self.architecture.unit:
            along = (gradients.decoder * atoms).sum(dim=1, keepdim=True)
            gradients.decoder.addcmul_(along, atoms, value=-1)
        parts = gradients.tensors()
        norm = float(torch.stack([torch.linalg.vector_norm(part) for part in parts.values()]).norm())
        self._demand_finite(norm, "gradient")
        if norm > self.plan.clip:
            torch._foreach_mul_(list(parts.values()), self.plan.clip / norm)
        for group in self._adam.param_groups:
            group["lr"] = lr * group["factor"]
        for name, tensor in self._tensors.items():
            tensor.grad = parts[name]
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        if self.architecture.unit:
            atoms.div_(torch.linalg.vector_norm(atoms, dim=1, keepdim=True))

    def _demand_finite(self, number: float, what: str) -> None:
        if not math.isfinite(number):
            raise DictionaryError(
                f"The {what} became {number} at step {self.done + 1:,}; start again with a lower learning rate than "
                f"{self.lr:g}."
            )

    @torch.no_grad()
    def resample(self, x: Tensor, y: Tensor | None, generator: torch.Generator) -> int:
        """Draw the dead latents anew from activations that are reconstructed badly (`engine.dictionaries.resampling`).

        Their moments begin at zero again and they count as just active.

        Args:
            x: (n, D_in) scaled activations to draw from; at most n latents are drawn anew.
            y: (n, D_out) targets of a transcoder, else None.
            generator: on the CPU.

        Returns:
            How many latents were drawn anew.
        """
        rows = redraw(self.architecture, self.weights, x, y, self.dead, generator)
        for tensor in self.weights.rows().values():
            moments = self._adam.state[tensor]
            moments["exp_avg"][rows] = 0
            moments["exp_avg_sq"][rows] = 0
        self.silent[rows] = 0
        return len(rows)

    def change_lr(self, lr: float) -> None:
        """Set the height of the schedule from the next step on; its shape goes on around the new height.

        Raises:
            DictionaryError: ``lr`` is negative or not finite.
        """
        if not (math.isfinite(lr) and lr >= 0):
            raise DictionaryError(f"A learning rate of {lr} is no rate; give a number from 0 up.")
        self.lr = float(lr)

    def density(self) -> Array:
        """Share of the recent activations on which each latent was active (F,); counting starts anew."""
        found: Array = (self.recent.cpu().double() / max(self.counted, 1)).numpy()
        self.recent.zero_()
        self.counted = 0
        return found

    def decoder_norms(self) -> Array:
        """Length of each atom (F,), in scaled units of the target."""
        found: Array = self.weights.lengths().cpu().numpy()
        return found

    def live(self) -> dict[str, float]:
        """The architecture's own numbers worth watching, in scaled units."""
        return self.architecture.live(self.weights)

    def _arrays(self) -> dict[str, Tensor]:
        """All tensors that a checkpoint holds, by name."""
        found = {"silent": self.silent, "recent": self.recent}
        for name, tensor in self._tensors.items():
            moments = self._adam.state[tensor]
            found[name] = tensor
            found[f"{name}-first-moment"] = moments["exp_avg"]
            found[f"{name}-second-moment"] = moments["exp_avg_sq"]
        return found

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Values and arrays from which `restore` goes on exactly."""
        values = {
            "done": self.done,
            "counted": self.counted,
            "lr": self.lr.hex(),
            "architecture": self.architecture.state(),
        }
        return values, {name: tensor.detach().cpu().numpy().copy() for name, tensor in self._arrays().items()}

    @torch.no_grad()
    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from what `state` gave.

        Raises:
            DictionaryError: an array is missing or its shape is another; nothing has been changed.
        """
        wanted = self._arrays()
        for name, tensor in wanted.items():
            found = tuple(arrays[name].shape) if name in arrays else None
            if found != tuple(tensor.shape):
                raise DictionaryError(
                    f"The checkpoint's {name} is {'missing' if found is None else f'of shape {found}'} where "
                    f"{tuple(tensor.shape)} was expected, so it belongs to another dictionary; start the run anew."
                )
        for name, tensor in wanted.items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name])))
        self.done, self.counted = int(values["done"]), int(values["counted"])
        self.lr = float.fromhex(values["lr"])
        self.architecture.restore(values["architecture"])
        for tensor in self._tensors.values():
            self._adam.state[tensor]["step"].fill_(self.done)

    def dictionary(self, config: DictionaryConfig, scale_in: float = 1.0, scale_out: float = 1.0) -> Dictionary:
        """The dictionary as it is saved: for raw activations, the scales of training folded in."""
        return self.architecture.dictionary(self.weights, config, scale_in, scale_out)
