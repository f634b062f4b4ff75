"""TopK (Gao et al. 2024, arXiv 2406.04093).

    z = relu of the k largest entries of x̃ @ encoderᵀ + b_enc
    loss = Σ ‖ŷ − y‖² / (n · variance) + aux · auxiliary loss of dead latents

Where atoms are free, an autoencoder's latents are selected by contribution, pre-activation · length of atom.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.dictionaries.architectures.auxiliary import revive
from engine.dictionaries.architectures.base import Architecture, Part, Step, gradients, sum_of
from engine.dictionaries.architectures.codes import Sparse
from engine.dictionaries.sparse import Latents
from engine.dictionaries.weights import Weights


@dataclass(frozen=True)
class Fit:
    """A reconstruction and what the gradients follow from.

    Attributes:
        error: reconstruction − target (n, D_out).
        squared: Σ ‖error‖², float64 scalar.
        loss: the reconstruction's part of the loss.
        parts: what the gradients of encoder and decoder are sums of.
        by_output: the loss' derivative by what is added to the reconstruction (n, D_out).
    """

    error: Tensor
    squared: Tensor
    loss: Tensor
    parts: list[Part]
    by_output: Tensor


class TopK(Architecture):
    """Exactly k latents an activation, fewer where pre-activations are negative."""

    activation = "topk"

    @property
    def weighs(self) -> bool:
        """A transcoder's atoms begin at zero, so its selection goes by pre-activation alone, as sparsify has it."""
        return not self.unit and not self.choices.transcodes

    def encode(self, weights: Weights, x: Tensor) -> Latents:
        """Active latents of ``x`` (n, D_in)."""
        return self._chosen(weights, self.read(weights, x)).positive()

    @torch.no_grad()
    def step(self, weights: Weights, x: Tensor, y: Tensor | None, dead: Tensor | None, progress: float) -> Step:
        """Loss and gradients; see `Architecture.step`."""
        read = self.read(weights, x)
        latents = self._chosen(weights, read)
        fit = self._fitted(weights, latents, self.target(weights, x, y, read), read)
        terms = {"reconstruction": fit.loss}
        if self.choices.aux and dead is not None and len(dead):
            part, terms["auxiliary"] = revive(weights, read, fit.error, dead, self.choices.aux)
            fit.parts.append(part)
        found = gradients(weights, fit.parts)
        self.close(weights, found, fit.by_output, x)
        fired = torch.bincount(latents.indices[latents.values > 0], minlength=latents.width)
        return Step(sum_of(terms), terms, fit.squared, fired, found)

    def _fitted(self, weights: Weights, latents: Latents, target: Tensor, read: Tensor) -> Fit:
        """How well ``latents`` reconstruct ``target`` (n, D_out)."""
        code = Sparse(latents)
        values = code.values.relu()
        error = code.decode(weights.decoder, values) - target
        squared, by_output = self.fit(error)
        by_pre = torch.where(values > 0, code.slopes(weights.decoder, by_output), 0.0)
        parts = [Part(code, values, by_pre, by_output, read)]
        return Fit(error, squared, squared / self.per_activation(len(error)), parts, by_output)

    def _chosen(self, weights: Weights, read: Tensor) -> Latents:
        """The selected pre-activations of what the encoder reads (n, D_in)."""
        if not self.weighs:
            return self._select(read, weights.encoder, weights.b_enc)
        lengths = weights.lengths().clamp_min(torch.finfo(torch.float32).tiny)
        found = self._select(read, weights.encoder * lengths[:, None], weights.b_enc * lengths)
        return Latents(found.values / lengths[found.indices], found.indices, found.offsets, found.width)

    def _select(self, read: Tensor, encoder: Tensor, bias: Tensor) -> Latents:
        return self._encode.topk(read, encoder, bias, self.choices.k)
