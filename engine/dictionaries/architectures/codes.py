"""The entries of a code that a loss touches, few or all of them, behind one face.

A family writes its loss once, element by element over ``values``; whether these are the few pre-activations
above a threshold or a whole (n, F) table is decided by how many there are. Sparse products win below about
16 % of the table, dense ones above, where training without a fixed number of latents begins.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from engine.dictionaries.sparse import ByLatent, Encoder, Latents, decode, product, slopes

DENSE_ABOVE = 0.16  # share of entries from which on dense products are faster, from width 512 to 9,216
SAMPLE = 16  # activations from which that share is estimated


class Sparse:
    """Some entries, listed. ``values`` (entries,) are their pre-activations."""

    def __init__(self, latents: Latents) -> None:
        self.latents = latents
        self.values = latents.values

    @cached_property
    def _grouped(self) -> ByLatent:
        return ByLatent(self.latents)

    def __len__(self) -> int:
        return len(self.latents)

    def at(self, per_latent: Tensor) -> Tensor:
        """What ``per_latent`` (F,) holds for each entry's latent."""
        return per_latent[self.latents.indices]

    def per_row(self, entries: Tensor) -> Tensor:
        """Sum of ``entries`` over each activation (n,)."""
        return entries.new_zeros(len(self.latents)).index_add_(0, self.latents.rows, entries)

    def spread(self, per_row: Tensor) -> Tensor:
        """What ``per_row`` (n,) holds for each entry's activation."""
        return per_row[self.latents.rows]

    def decode(self, decoder: Tensor, values: Tensor) -> Tensor:
        """Σ values · atoms of each activation (n, D)."""
        return decode(decoder, replace(self.latents, values=values))

    def slopes(self, decoder: Tensor, by_output: Tensor) -> Tensor:
        """Each entry's atom times its activation's row of ``by_output`` (n, D)."""
        return slopes(decoder, self.latents, by_output)

    def sum(self, weights: Tensor, dense: Tensor) -> Tensor:
        """Σ over each latent's entries of weights · rows of ``dense`` (n, D): (F, D)."""
        return self._grouped.sum(weights, dense)

    def totals(self, weights: Tensor) -> Tensor:
        """Σ over each latent's entries of ``weights``: (F,)."""
        return self._grouped.totals(weights)

    def count(self, chosen: Tensor) -> Tensor:
        """How many entries of each latent are ``chosen`` (entries,) bool: (F,) int64."""
        return torch.bincount(self.latents.indices[chosen], minlength=self.latents.width)


class Dense:
    """All entries. ``values`` (n, F) are their pre-activations. Methods are those of `Sparse`."""

    def __init__(self, pre: Tensor) -> None:
        self.values = pre

    def __len__(self) -> int:
        return len(self.values)

    def at(self, per_latent: Tensor) -> Tensor:
        """``per_latent`` (F,) as it is: it broadcasts."""
        return per_latent

    def per_row(self, entries: Tensor) -> Tensor:
        """Sum of ``entries`` over each activation (n,)."""
        return entries.sum(dim=1)

    def spread(self, per_row: Tensor) -> Tensor:
        """``per_row`` (n,) as a column."""
        return per_row[:, None]

    def decode(self, decoder: Tensor, values: Tensor) -> Tensor:
        """Σ values · atoms of each activation (n, D)."""
        return product(values, decoder.t())

    def slopes(self, decoder: Tensor, by_output: Tensor) -> Tensor:
        """Every atom times every row of ``by_output`` (n, D): (n, F)."""
        return product(by_output, decoder)

    def sum(self, weights: Tensor, dense: Tensor) -> Tensor:
        """weightsᵀ @ dense: (F, D)."""
        return product(dense.t(), weights.t()).t().contiguous()

    def totals(self, weights: Tensor) -> Tensor:
        """Sum over activations: (F,)."""
        return weights.sum(dim=0)

    def count(self, chosen: Tensor) -> Tensor:
        """On how many activations each latent is ``chosen`` (n, F) bool: (F,) int64."""
        return chosen.sum(dim=0)


Code: TypeAlias = Sparse | Dense


def search(encode: Encoder, x: Tensor, encoder: Tensor, bias: Tensor, threshold: Tensor | float) -> Code:
    """The pre-activations of ``x`` (n, D) above ``threshold`` (one, or (F,)), as a list or, where many, as a table.

    Which of the two is decided on a few activations of the batch alone, so that it does not depend on the past.
    """
    sample = x[:: max(1, len(x) // SAMPLE)]
    share = (torch.addmm(bias, sample, encoder.t()) > threshold).float().mean()
    if float(share) > DENSE_ABOVE:
        return Dense(product(x, encoder, bias))
    return Sparse(encode.above(x, encoder, bias, threshold))
