"""JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435).

    π = x̃ @ encoderᵀ + b_enc,    z = π · 1[π > θ]
    loss = Σ ‖ŷ − y‖² / (n · variance) + coefficient · L0 loss

with the L0 loss (L0 / k − 1)² of the batch's mean L0 (``quadratic``, without unit), Σ L0 / (n · variance)
(``step``), or Σ tanh(4 z ‖atom‖) / (n · variance) (``tanh``). Steps have no derivative; thresholds get that of a
step smoothed by a rectangle K of width ε around them, in place of dz/dθ and of d step/dθ:

    dz/dθ = −(θ/ε) K((π − θ)/ε),    d 1[π > θ]/dθ = −(1/ε) K((π − θ)/ε)

Choices give the first thresholds and ε in units of σ, the target's root mean square deviation per dimension, and
thresholds learn `RATE` · σ times as fast as the other weights: Adam moves a weight by about the learning rate a
step, and at that pace a threshold would need thousands of steps to reach even one σ.

Dead latents, whose pre-activations nowhere reach their threshold, are pulled up by a loss of their own, the mean of
relu(θ − π) · ‖atom‖ over them and over every eighth activation in units of √variance, weighted by ``aux``
(the pre-activation loss of Anthropic's January 2025 update); atoms count as constants in it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.dictionaries.architectures.base import Architecture, Part, Step, gradients, sum_of, total
from engine.dictionaries.architectures.codes import Code, Dense, search
from engine.dictionaries.architectures.penalising import along
from engine.dictionaries.choices import Choices
from engine.dictionaries.sparse import Latents, product
from engine.dictionaries.weights import Moments, Weights

RATE = 5.0
STEEP = 4.0  # of the tanh
EVERY = 8


class JumpReLU(Architecture):
    """A trained threshold for each latent.

    Attributes:
        sigma: the target's root mean square deviation per dimension, in scaled units.
        window: ε in scaled units.
    """

    activation = "jumprelu"

    def __init__(self, choices: Choices, moments: Moments) -> None:
        super().__init__(choices, moments)
        self.sigma = math.sqrt(moments.variance / len(moments.mean_out))
        self.window = choices.bandwidth * self.sigma

    def start(self, weights: Weights) -> None:
        """Add the thresholds."""
        weights.threshold = torch.full_like(weights.b_enc, self.choices.threshold * self.sigma)

    def redrawn(self, weights: Weights, rows: Tensor) -> None:
        """The thresholds of the latents ``rows`` begin again."""
        assert weights.threshold is not None
        weights.threshold[rows] = self.choices.threshold * self.sigma

    def rates(self) -> dict[str, float]:
        """Thresholds learn faster."""
        return {"threshold": RATE * self.sigma}

    def after(self, weights: Weights) -> None:
        """Thresholds are not negative."""
        assert weights.threshold is not None
        weights.threshold.clamp_(min=0)

    def live(self, weights: Weights) -> dict[str, float]:
        """Mean threshold, in scaled units."""
        assert weights.threshold is not None
        return {"threshold": float(weights.threshold.mean())}

    def encode(self, weights: Weights, x: Tensor) -> Latents:
        """Active latents of ``x`` (n, D_in)."""
        assert weights.threshold is not None
        return self._encode.above(self.read(weights, x), weights.encoder, weights.b_enc, weights.threshold)

    @torch.no_grad()
    def step(self, weights: Weights, x: Tensor, y: Tensor | None, dead: Tensor | None, progress: float) -> Step:
        """Loss and gradients; see `Architecture.step`."""
        assert weights.threshold is not None
        read = self.read(weights, x)
        code = search(self._encode, read, weights.encoder, weights.b_enc, weights.threshold - self.window / 2)
        theta = code.at(weights.threshold)
        active = code.values > theta
        near = (code.values - theta).abs_() < self.window / 2
        values = code.values * active
        squared, by_output = self.fit(code.decode(weights.decoder, values) - self.target(weights, x, y, read))
        by_value = code.slopes(weights.decoder, by_output)
        terms = {"reconstruction": squared / self.per_activation(len(x))}
        by_decoder: Tensor | None = None
        by_step = 0.0  # the loss' derivative by each entry's step
        coefficient = self.coefficient(progress)
        if self.choices.l0_loss == "tanh":
            terms["penalty"], by_decoder = self._tanh(weights, code, values, by_value, coefficient)
        else:
            terms["penalty"], by_step = self._counted(active, len(x), coefficient)
        by_threshold = (by_value * theta).add_(by_step).mul_(near)
        parts = [Part(code, values, by_value.mul_(active), by_output, read)]
        pulled: Tensor | None = None
        if self.choices.aux and dead is not None and len(dead):
            part, pulled, terms["auxiliary"] = self._pull(weights, read[::EVERY], dead)
            parts.append(part)
        found = gradients(weights, parts)
        found.threshold = code.totals(by_threshold).mul_(-1 / self.window)
        if dead is not None and pulled is not None:
            found.threshold[dead] += pulled
        if by_decoder is not None:
            found.decoder += by_decoder
        self.close(weights, found, by_output, x)
        return Step(sum_of(terms), terms, squared, code.count(active), found)

    def _counted(self, active: Tensor, n: int, coefficient: float) -> tuple[Tensor, float]:
        """The loss of the batch's L0, and its derivative by each step."""
        count = active.sum().cpu().double()
        if self.choices.l0_loss == "step":
            weight = coefficient / self.per_activation(n)
            return weight * count, weight
        off = count / (n * self.choices.k) - 1
        return coefficient * off.square(), float(2 * coefficient * off / (n * self.choices.k))

    def _tanh(
        self, weights: Weights, code: Code, values: Tensor, by_value: Tensor, coefficient: float
    ) -> tuple[Tensor, Tensor]:
        """The smooth L0, whose derivative by values is added to ``by_value``; and its derivative by the atoms."""
        lengths = weights.lengths()
        weight = coefficient / self.per_activation(len(code))
        bent = (values * code.at(lengths * STEEP)).tanh_()
        slope = (1 - bent.square()).mul_(STEEP * weight)
        by_value.add_(slope * code.at(lengths))
        return weight * total(bent), along(weights, lengths, code.totals(slope * values))

    def _pull(self, weights: Weights, read: Tensor, dead: Tensor) -> tuple[Part, Tensor, Tensor]:
        """What pulls the ``dead`` latents (m,) up: gradients' part, thresholds' gradient (m,), weighted loss."""
        assert weights.threshold is not None
        pre = product(read, weights.encoder[dead], weights.b_enc[dead])
        missing = (weights.threshold[dead] - pre).relu_()
        lengths = torch.linalg.vector_norm(weights.decoder[dead], dim=1)
        weight = self.choices.aux / (missing.numel() * math.sqrt(self.moments.variance))
        by_missing = (missing > 0) * (lengths * weight)
        part = Part(Dense(pre), None, -by_missing, None, read, dead)
        return part, by_missing.sum(dim=0), weight * total(missing * lengths)
