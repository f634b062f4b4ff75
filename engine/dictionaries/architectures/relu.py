"""ReLU with a sparsity penalty (Bricken et al. 2023; free atoms: Anthropic's April 2024 update).

    z = relu(x̃ @ encoderᵀ + b_enc)
    loss = (Σ ‖ŷ − y‖² + coefficient · Σ penalty(z)) / (n · variance)

The penalty (`engine.dictionaries.penalties`) is summed over latents and activations; where atoms are free it sees
z · ‖atom‖, so that growing atoms do not evade it. Its coefficient rises over a warm-up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.dictionaries.architectures.base import Architecture, Part, Step, gradients, sum_of
from engine.dictionaries.architectures.codes import search
from engine.dictionaries.architectures.penalising import penalise
from engine.dictionaries.sparse import Latents
from engine.dictionaries.weights import Weights


class ReLU(Architecture):
    """Latents above zero, held down by a penalty."""

    activation = "relu"

    def start(self, weights: Weights) -> None:
        """Shorten the encoder, see `Architecture.shorten`."""
        self.shorten(weights)

    def encode(self, weights: Weights, x: Tensor) -> Latents:
        """Active latents of ``x`` (n, D_in)."""
        return self._encode.above(self.read(weights, x), weights.encoder, weights.b_enc, 0.0)

    @torch.no_grad()
    def step(self, weights: Weights, x: Tensor, y: Tensor | None, dead: Tensor | None, progress: float) -> Step:
        """Loss and gradients; see `Architecture.step`."""
        read = self.read(weights, x)
        code = search(self._encode, read, weights.encoder, weights.b_enc, 0.0)
        values = code.values.relu()
        active = values > 0
        error = code.decode(weights.decoder, values) - self.target(weights, x, y, read)
        squared, by_output = self.fit(error)
        unit = self.per_activation(len(x))
        penalty = penalise(self.choices, weights, code, values, weighs=self.weighs)
        factor = self.coefficient(progress) / unit
        by_pre = code.slopes(weights.decoder, by_output).add_(penalty.by_value, alpha=factor).mul_(active)
        found = gradients(weights, [Part(code, values, by_pre, by_output, read)])
        if penalty.by_decoder is not None:
            found.decoder.add_(penalty.by_decoder, alpha=factor)
        self.close(weights, found, by_output, x)
        terms = {"reconstruction": squared / unit, "penalty": factor * penalty.total}
        return Step(sum_of(terms), terms, squared, code.count(active), found)
