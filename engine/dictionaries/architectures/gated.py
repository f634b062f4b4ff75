"""Gated (Rajamanoharan et al. 2024, arXiv 2404.16014).

    π = x̃ @ encoderᵀ + b_enc                               which latents are active: π > 0
    z = 1[π > 0] · relu((x̃ @ encoderᵀ) · exp(r_mag) + b_mag)       how large they are
    loss = (Σ ‖ŷ − y‖² + coefficient · Σ penalty(relu(π)) + Σ ‖relu(π) @ decoder + b_dec − y‖²) / (n · variance)

The last term, which alone teaches the gate to reconstruct, sees decoder, b_dec and skip as constants where it
decodes, as in the paper. Where atoms are free the penalty sees relu(π) · ‖atom‖.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.dictionaries.architectures.base import Architecture, Part, Step, gradients, sum_of
from engine.dictionaries.architectures.codes import search
from engine.dictionaries.architectures.penalising import penalise
from engine.dictionaries.sparse import Latents
from engine.dictionaries.weights import Weights


class Gated(Architecture):
    """One path decides which latents are active, another, sharing its directions, how large they are."""

    activation = "gated"

    def start(self, weights: Weights) -> None:
        """Add r_mag and b_mag at zero, where both paths are equal, and shorten the encoder."""
        weights.r_mag = torch.zeros_like(weights.b_enc)
        weights.b_mag = weights.b_enc.clone()
        self.shorten(weights)

    def redrawn(self, weights: Weights, rows: Tensor) -> None:
        """Both paths of the latents ``rows`` are equal again."""
        assert weights.r_mag is not None
        assert weights.b_mag is not None
        weights.r_mag[rows] = 0.0
        weights.b_mag[rows] = weights.b_enc[rows]

    def encode(self, weights: Weights, x: Tensor) -> Latents:
        """Active latents of ``x`` (n, D_in)."""
        assert weights.r_mag is not None
        assert weights.b_mag is not None
        found = self._encode.above(self.read(weights, x), weights.encoder, weights.b_enc, 0.0)
        inner = found.values - weights.b_enc[found.indices]
        values = inner * weights.r_mag.exp()[found.indices] + weights.b_mag[found.indices]
        return Latents(values, found.indices, found.offsets, found.width).positive()

    @torch.no_grad()
    def step(self, weights: Weights, x: Tensor, y: Tensor | None, dead: Tensor | None, progress: float) -> Step:
        """Loss and gradients; see `Architecture.step`."""
        assert weights.r_mag is not None
        assert weights.b_mag is not None
        read = self.read(weights, x)
        target = self.target(weights, x, y, read)
        code = search(self._encode, read, weights.encoder, weights.b_enc, 0.0)
        gate = code.values.relu()
        opened = gate > 0
        inner, stretch = code.values - code.at(weights.b_enc), code.at(weights.r_mag.exp())
        values = (inner * stretch).add_(code.at(weights.b_mag)).relu_().mul_(opened)
        active = values > 0

        squared, by_output = self.fit(code.decode(weights.decoder, values) - target)
        missed, by_missed = self.fit(code.decode(weights.decoder, gate) - target)
        unit = self.per_activation(len(x))
        penalty = penalise(self.choices, weights, code, gate, weighs=self.weighs)
        factor = self.coefficient(progress) / unit
        by_size = code.slopes(weights.decoder, by_output).mul_(active)
        by_gate = code.slopes(weights.decoder, by_missed).add_(penalty.by_value, alpha=factor).mul_(opened)

        by_inner = (by_size * stretch).add_(by_gate)
        found = gradients(weights, [Part(code, values, by_inner, by_output, read)])
        if penalty.by_decoder is not None:
            found.decoder.add_(penalty.by_decoder, alpha=factor)
        # While b_enc holds what comes through both paths, it says what b_dec gets by way of the centring; the last
        # term's own derivative by b_dec passes through that centring alone.
        self.close(weights, found, by_output, x)
        found.b_enc = code.totals(by_gate)
        found.b_mag = code.totals(by_size)
        found.r_mag = code.totals(by_size * inner * stretch)
        terms = {"reconstruction": squared / unit, "penalty": factor * penalty.total, "auxiliary": missed / unit}
        return Step(sum_of(terms), terms, squared, code.count(active), found)
