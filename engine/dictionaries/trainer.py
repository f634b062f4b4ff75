"""The optimiser loop that all architectures share: Adam, schedule, unit atoms, dead latents, exact state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.topk import Step, Weights

Array: TypeAlias = npt.NDArray[Any]
Loss: TypeAlias = Callable[[Weights, Tensor, Tensor | None], Step]
CLIP = 1.0
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
    """

    steps: int
    lr: float
    warm_up: int
    decay: int
    dead_after: int

    @classmethod
    def usual(cls, steps: int, lr: float, dead_after: int) -> Plan:
        """Warm-up over 5 % of the steps (1,000 at most), decay over the last 20 %."""
        return cls(steps, lr, min(steps // 20, 1_000), steps // 5, dead_after)

    def lr_at(self, step: int) -> float:
        """Learning rate of ``step`` (0 is the first)."""
        rising = (step + 1) / self.warm_up if step < self.warm_up else 1.0
        left = self.steps - step
        falling = left / (self.decay + 1) if left <= self.decay else 1.0
        return self.lr * min(rising, falling)


@dataclass(frozen=True)
class Report:
    """One step's numbers: the loss, its auxiliary part, Σ ‖x − x̂‖², active latents in all, learning rate."""

    loss: float
    auxiliary: float
    squared_error: float
    active: int
    lr: float


class Trainer:
    """Fits ``weights`` in place. Atoms keep unit norm; the gradient along an atom is removed.

    Attributes:
        weights: the dictionary in training, in units of the scaled activations.
        done: steps taken.
        silent: (F,) int64 activations since each latent was last active.
        recent: (F,) int64 activations on which each latent was active, among the ``counted`` last ones.
    """

    def __init__(self, weights: Weights, loss: Loss, plan: Plan) -> None:
        self.weights = weights
        self.plan = plan
        self.done = 0
        device = weights.b_enc.device
        self.silent = torch.zeros(len(weights.encoder), dtype=torch.int64, device=device)
        self.recent = torch.zeros_like(self.silent)
        self.counted = 0
        self._loss = loss
        tensors = weights.tensors()
        self._adam = torch.optim.Adam(list(tensors.values()), lr=plan.lr, eps=EPSILON, fused=True)
        for tensor in tensors.values():
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
    def step(self, x: Tensor) -> Report:
        """One optimiser step on scaled activations ``x`` (n, D).

        Raises:
            DictionaryError: the loss is not finite; the weights are as they were.
        """
        found = self._loss(self.weights, x, self.dead)
        loss = float(found.loss)
        if not np.isfinite(loss):
            raise DictionaryError(
                f"The loss became {loss} at step {self.done + 1:,}; start again with a lower learning rate than "
                f"{self.plan.lr:g}."
            )
        gradients = found.gradients
        along = (gradients.decoder * self.weights.decoder).sum(dim=1, keepdim=True)
        gradients.decoder.addcmul_(along, self.weights.decoder, value=-1)
        parts = list(gradients.tensors().values())
        norm = float(torch.stack([torch.linalg.vector_norm(part) for part in parts]).norm())
        if norm > CLIP:
            torch._foreach_mul_(parts, CLIP / norm)
        lr = self.plan.lr_at(self.done)
        self._adam.param_groups[0]["lr"] = lr
        for name, tensor in self.weights.tensors().items():
            tensor.grad = getattr(gradients, name)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self.weights.decoder.div_(torch.linalg.vector_norm(self.weights.decoder, dim=1, keepdim=True))
        self.silent = torch.where(found.fired > 0, 0, self.silent + len(x))
        self.recent += found.fired
        self.counted += len(x)
        self.done += 1
        return Report(loss, float(found.auxiliary), float(found.squared_error), int(found.fired.sum()), lr)

    def density(self) -> Array:
        """Share of the recent activations on which each latent was active (F,); counting starts anew."""
        found: Array = (self.recent.cpu().double() / max(self.counted, 1)).numpy()
        self.recent.zero_()
        self.counted = 0
        return found

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Values and arrays from which `restore` goes on exactly."""
        arrays = {"silent": self.silent, "recent": self.recent}
        for name, tensor in self.weights.tensors().items():
            moments = self._adam.state[tensor]
            arrays[name] = tensor
            arrays[f"{name}-first-moment"] = moments["exp_avg"]
            arrays[f"{name}-second-moment"] = moments["exp_avg_sq"]
        values = {"done": self.done, "counted": self.counted}
        return values, {name: tensor.detach().cpu().numpy().copy() for name, tensor in arrays.items()}

    @torch.no_grad()
    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from what `state` gave.

        Raises:
            DictionaryError: an array is missing or its shape is another; nothing has been changed.
        """
        tensors = self.weights.tensors()
        wanted = {"silent": self.silent, "recent": self.recent}
        for name, tensor in tensors.items():
            moments = self._adam.state[tensor]
            wanted |= {
                name: tensor,
                f"{name}-first-moment": moments["exp_avg"],
                f"{name}-second-moment": moments["exp_avg_sq"],
            }
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
        for tensor in tensors.values():
            self._adam.state[tensor]["step"].fill_(self.done)

    def dictionary(self, config: DictionaryConfig) -> Dictionary:
        """The dictionary as it is saved: for raw activations, ``config.scale`` folded into the biases.

        Training sees s·x. With unit atoms kept, x̂ = (relu(s·x·W − …) D + b_dec) / s means that biases and
        latents are divided by s; which latents are the k largest does not change.
        """
        cpu = {name: tensor.detach().float().cpu() for name, tensor in self.weights.tensors().items()}
        return Dictionary(
            config,
            W_enc=cpu["encoder"].t().contiguous(),
            W_dec=cpu["decoder"].clone(),
            b_enc=cpu["b_enc"] / config.scale,
            b_dec=cpu["b_dec"] / config.scale,
        )
