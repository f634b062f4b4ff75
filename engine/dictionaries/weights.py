"""The tensors of a dictionary in training, and the moments of activations from which they begin."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Weights:
    """A dictionary in training, in units of the scaled activations; one latent a row. All float32.

    Attributes:
        encoder: (F, D_in).
        decoder: (F, D_out), one atom a row.
        b_enc: (F,); of a gated dictionary its gate's bias.
        b_dec: (D_out,).
        threshold: (F,) of jumprelu, trained.
        r_mag: (F,) of gated: logarithm of the ratio of the magnitude's encoder to the gate's.
        b_mag: (F,) of gated: the magnitude's bias.
        skip: (D_in, D_out) of a skip transcoder.
    """

    encoder: Tensor
    decoder: Tensor
    b_enc: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    r_mag: Tensor | None = None
    b_mag: Tensor | None = None
    skip: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Those present, by name, always in the same order."""
        found = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def rows(self) -> dict[str, Tensor]:
        """Those with one row or entry a latent, by name."""
        return {name: tensor for name, tensor in self.tensors().items() if name not in ("b_dec", "skip")}

    def lengths(self) -> Tensor:
        """Length ‖d‖ of each atom (F,)."""
        found: Tensor = torch.linalg.vector_norm(self.decoder, dim=1)
        return found


@dataclass(frozen=True)
class Moments:
    """Of the activations captured before the first step, in scaled units.

    Attributes:
        mean_in: (D_in,) float32; weights are made on its device.
        mean_out: (D_out,); the same tensor for an autoencoder.
        variance: mean ‖y − mean‖² of the targets: the unit of loss and FVU.
    """

    mean_in: Tensor
    mean_out: Tensor
    variance: float
