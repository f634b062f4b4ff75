"""Many toy autoencoders trained at once: one tensor of weights, gradients written out, one update for all.

Each instance is ``h = W x``, ``x' = ReLU(Wᵀ h + b)`` with its own weights, data, importances and Adam moments
(Elhage et al. 2022). Nothing of one instance enters another's gradient, so that each is trained exactly as if it
were alone. Tensors have the instance first and the batch last: ``x_IFB`` is (instances, features, batch).

Three things make it fast. The bias is one more row of W, and one more hidden unit that is always 1, so that a product
less is needed. The weights of the loss per feature are multiplied into W instead of into the batch. And an instance
whose ``W`` has rows of zeros keeps them zero, so that hidden widths may differ within an ensemble.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models import memory
from engine.runs.run import Checkpoint
from engine.toys.training import Trainer, cosine

Array: TypeAlias = npt.NDArray[Any]
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as torch.optim.Adam has them
TARGET = 8_192  # values that a stream draws at once, steps ahead where a step needs fewer


class Streams:
    """Uniform random numbers, a stream of its own for each instance, that can be entered at any step.

    What instance i sees at step t depends on the seed, i and t alone: not on how many others there are.

    Args:
        seed: of the run; ``stream`` tells its uses of chance apart.
        numbers: how many a step needs of each stream.
        first: the number of the first instance, where it is not 0.
    """

    def __init__(self, seed: int, stream: int, instances: int, numbers: int, *, first: int = 0) -> None:
        ids = range(first, first + instances)
        self._keys = [np.random.SeedSequence([seed, stream, instance]) for instance in ids]
        self.numbers = numbers + numbers % 2  # two to each 64 random bits
        self.ahead = max(1, TARGET // self.numbers)
        self._raw = np.empty((instances, self.ahead * self.numbers // 2), dtype=np.uint64)
        self._uniform = torch.empty(instances, self.numbers)
        self._drawn = numbers
        self.seek(0)

    def seek(self, step: int) -> None:
        """Make the numbers of ``step`` the next ones."""
        self._step = step
        chunk = step // self.ahead
        self._sources = [np.random.PCG64(key).advance(chunk * self._raw.shape[1]) for key in self._keys]
        if step % self.ahead:
            self._fill()

    def _fill(self) -> None:
        size = self._raw.shape[1]
        for row, source in zip(self._raw, self._sources, strict=True):
            row[:] = source.random_raw(size)

    def centred(self) -> Tensor:
        """The numbers of the next step, uniform in [-2³¹, 2³¹): (instances, numbers), valid until the next call."""
        place = self._step % self.ahead
        if place == 0:
            self._fill()
        self._step += 1
        words = self._raw.view(np.int32)[:, place * self.numbers : (place + 1) * self.numbers]
        self._uniform.copy_(torch.from_numpy(words))
        return self._uniform[:, : self._drawn]

    def uniform(self) -> Tensor:
        """The same, uniform in [0, 1)."""
        return self.centred().mul_(2.0**-32).add_(0.5).clamp_(0, 1 - 2**-24)


class Source(Protocol):
    """Where an ensemble's data come from."""

    def seek(self, step: int) -> None: ...
    def draw(self) -> Tensor: ...


class Ensemble:
    """Instances and their Adam moments.

    Args:
        weights: W, (instances, hidden, features) float32; rows of zeros are hidden units that an instance lacks.
        importance: (instances, features) weights of the squared errors.
        linear: how many instances, the last ones, have no ReLU: the control.
        bias: (instances, features); 0 where left out.

    Attributes:
        parameters: (instances, hidden + 1, features): W, and b as the last row.
        first, second: Adam's moments, like ``parameters``.
        steps: optimiser steps done.
    """

    def __init__(self, weights: Tensor, importance: Tensor, *, linear: int = 0, bias: Tensor | None = None) -> None:
        count, hidden, features = weights.shape
        self.parameters = torch.zeros(count, hidden + 1, features)
        self.parameters[:, :hidden] = weights
        if bias is not None:
            self.parameters[:, hidden] = bias
        self.first, self.second = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self.importance = importance.float().reshape(count, 1, features)
        self.relus = count - linear
        self.steps = 0
        self._encoder = torch.zeros_like(self.parameters)  # W, and zeros where the bias is
        self._one = torch.zeros(count, hidden + 1, 1)  # the unit that is always 1
        self._one[:, hidden] = 1
        self._buffers: tuple[Tensor, ...] = ()

    @property
    def weights(self) -> Tensor:
        """W, (instances, hidden, features): a view."""
        return self.parameters[:, :-1]

    @property
    def bias(self) -> Tensor:
        """b, (instances, features): a view."""
        return self.parameters[:, -1]

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden units (I, hidden + 1, B) and outputs before the ReLU (I, F, B), in buffers."""
        if not self._buffers or self._buffers[1].shape != x.shape:
            shape = (*self.parameters.shape[:2], x.shape[2])
            self._buffers = (torch.empty(shape), torch.empty_like(x), torch.empty_like(x), torch.empty(shape))
        hidden, outputs = self._buffers[:2]
        self._encoder[:, :-1] = self.weights
        torch.baddbmm(self._one, self._encoder, x, out=hidden)
        torch.bmm(self.parameters.transpose(1, 2), hidden, out=outputs)
        outputs[: self.relus].clamp_min_(0)
        return hidden, outputs

    def outputs(self, x: Tensor) -> Tensor:
        """x' for x (instances, features, batch)."""
        return self._forward(x)[1].clone()

    def losses(self, x: Tensor) -> Tensor:
        """Mean over batch and features of importance · (x − x')²: (instances,)."""
        _, outputs = self._forward(x)
        return self._losses(outputs.sub_(x))

    def _losses(self, errors: Tensor) -> Tensor:
        squares = torch.linalg.vector_norm(errors, dim=2).square_()
        losses: Tensor = (squares * self.importance[:, 0]).sum(dim=1) / (errors.shape[1] * errors.shape[2])
        return losses

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of each instance's loss, like ``parameters``, and the losses (instances,)."""
        hidden, outputs = self._forward(x)
        errors, back = self._buffers[2:]
        torch.sub(outputs, x, out=errors)
        losses = self._losses(errors)
        active = slice(0, self.relus)
        torch.ops.aten.threshold_backward.grad_input(errors[active], outputs[active], 0, grad_input=errors[active])
        scale = self.importance * (2 / (x.shape[1] * x.shape[2]))
        gradient = torch.bmm(hidden, errors.transpose(1, 2)).mul_(scale)
        self._encoder[:, :-1] *= scale
        torch.bmm(self._encoder, errors, out=back)
        gradient.baddbmm_(back, x.transpose(1, 2))
        return gradient, losses

    def step(self, x: Tensor, lr: float) -> Tensor:
        """One step of Adam on x (instances, features, batch); the losses (instances,) before it."""
        gradient, losses = self.gradient(x)
        self.steps += 1
        self.first.lerp_(gradient, 1 - BETA1)
        self.second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        correction = math.sqrt(1 - BETA2**self.steps)
        scale = torch.sqrt(self.second).add_(EPSILON * correction)
        self.parameters.addcdiv_(self.first, scale, value=-lr * correction / (1 - BETA1**self.steps))
        return losses


class EnsembleTrainer(Trainer):
    """Trains an ensemble on a source's data with a learning rate that falls to 0 as a cosine."""

    def __init__(self, ensemble: Ensemble, source: Source, *, lr: float, steps: int) -> None:
        moments = {"first": ensemble.first, "second": ensemble.second}
        super().__init__({"parameters": ensemble.parameters}, extra=moments)
        self.ensemble, self.source, self.lr, self.steps = ensemble, source, lr, steps
        self.losses = torch.zeros(len(ensemble.parameters))

    def train_step(self) -> float:
        """One step of all; the mean over instances of the loss before it."""
        self.losses = self.ensemble.step(self.source.draw(), cosine(self.lr, self.step, self.steps))
        self.step += 1
        return float(self.losses.mean())

    def restore(self, checkpoint: Checkpoint) -> None:
        super().restore(checkpoint)
        self.ensemble.steps = self.step
        self.source.seek(self.step)


def xavier(instances: int, hidden: int, features: int, source: torch.Generator) -> Tensor:
    """Initial weights (instances, hidden, features), normal with variance 2 / (hidden + features)."""
    return torch.randn(instances, hidden, features, generator=source) * math.sqrt(2 / (hidden + features))


def ensemble_bytes(instances: int, hidden: int, features: int, batch: int) -> int:
    """Bytes that training takes at its peak, beside the program's own."""
    numbers = max(features * batch, TARGET)
    values = 4 * features * batch + numbers + 2 * (hidden + 1) * batch + 8 * (hidden + 1) * features
    return 4 * instances * values


def require_ensemble(instances: int, hidden: int, features: int, batch: int) -> None:
    """Refuse an ensemble that does not fit into memory. Raises `engine.models.errors.ModelError`."""
    wanted = ensemble_bytes(instances, hidden, features, batch)
    what = f"An ensemble of {instances:,} toys with {features:,} features and batches of {batch:,}"
    memory.require(wanted, "cpu", what=what, way_out="choose fewer instances or a smaller batch")
