"""Training a bilinear layer, and beside it the same layer on shuffled targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.toys.quadratic.layer import interactions
from engine.toys.quadratic.worlds import Samples
from engine.toys.training import Trainer, generator, set_lr

Array: TypeAlias = npt.NDArray[Any]
TRUE, SHUFFLED = 0, 1  # the two layers that are trained side by side
_WEIGHTS, _ORDER = 0, 3  # streams of the seed
COOLING = 0.5  # share of the steps at the end over which the learning rate falls to zero


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training run.

    Attributes:
        embed: width of an embedding before the layer, 0 for none; hidden: products in the layer.
        steps, batch, lr, weight_decay: of AdamW; a batch as large as the table is the whole table in order.
        noise: standard deviation of what is added to every input in training.
    """

    embed: int
    hidden: int
    steps: int
    batch: int
    lr: float
    weight_decay: float
    noise: float
    seed: int


class BilinearTrainer(Trainer):
    """Two layers ``P((Lx) * (Rx))`` with equal initial weights: one on the targets, one on shuffled ones.

    The weights have a leading axis of two layers: embed (2, inputs, d), left and right (2, d, hidden),
    out (2, hidden, outputs). Gradients do not mix, so that each trains as it would alone.
    """

    def __init__(self, samples: Samples, plan: Plan) -> None:
        self.samples, self.plan = samples, plan
        first = generator(plan.seed, _WEIGHTS)
        inputs, outputs = samples.x.shape[1], len(samples.outputs)
        width = plan.embed or inputs
        shapes = {"left": (width, plan.hidden), "right": (width, plan.hidden), "out": (plan.hidden, outputs)}
        if plan.embed:
            shapes = {"embed": (inputs, width), **shapes}
        weights = {}
        for name, shape in shapes.items():
            one = torch.randn(shape, generator=first) / shape[0] ** 0.5
            weights[name] = one.repeat(2, 1, 1).requires_grad_()
        optimiser = torch.optim.AdamW(weights.values(), lr=plan.lr, weight_decay=plan.weight_decay)
        super().__init__(weights, optimiser, {"order": generator(plan.seed, _ORDER)})
        self._x = torch.from_numpy(samples.x)
        y = torch.from_numpy(samples.y)
        self._y = torch.stack([y, y[torch.from_numpy(samples.shuffled)]])

    def _rate(self) -> float:
        left = (self.plan.steps - self.step) / max(self.plan.steps, 1)
        return self.plan.lr * min(1.0, left / COOLING)

    def output(self, x: Tensor) -> Tensor:
        """What the two layers say of ``x`` (n, inputs): (2, n, outputs)."""
        read = x.expand(2, *x.shape)
        if "embed" in self.weights:
            read = read @ self.weights["embed"]
        product: Tensor = (read @ self.weights["left"]) * (read @ self.weights["right"])
        return product @ self.weights["out"]

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean squared error, or cross-entropy in nats, of the two layers: (2,)."""
        said = self.output(x)
        if self.samples.classes:
            return F.cross_entropy(said.flatten(0, 1), y.flatten(), reduction="none").view(2, -1).mean(1)
        return ((said - y) ** 2).mean((1, 2))

    def train_step(self) -> float:
        """One step of AdamW on both layers; the true layer's loss on its batch before the step."""
        assert self.optimiser is not None
        set_lr(self.optimiser, self._rate())
        x, y = self._x, self._y
        if self.plan.batch < len(x):
            rows = torch.randint(len(x), (self.plan.batch,), generator=self.generators["order"])
            x, y = x[rows], y[:, rows]
        if self.plan.noise:
            x = x + self.plan.noise * torch.randn(x.shape, generator=self.generators["order"])
        losses = self.losses(x, y)
        self.optimiser.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        return float(losses[TRUE].detach())

    def arrays(self, layer: int) -> dict[str, Array]:
        """Copies of one layer's weights by name, float32."""
        return {name: weight[layer].detach().numpy().copy() for name, weight in self.weights.items()}

    def matrices(self, layer: int) -> Array:
        """The interaction matrices (outputs, inputs, inputs) of one layer, in the inputs' own coordinates."""
        found = self.arrays(layer)
        return interactions(found["left"], found["right"], found["out"], found.get("embed"))

    @torch.no_grad()
    def said(self, x: Array) -> Array:
        """The two layers' outputs for ``x``, computed by the network: (2, n, outputs) float32."""
        found: Array = self.output(torch.from_numpy(np.asarray(x, np.float32))).numpy()
        return found
