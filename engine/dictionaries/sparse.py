"""Sparse codes and the few products that training on them needs, all without a dense (batch, width) code.

A code is at most k latents per activation. Decoding, and the weight gradients of both sides, are then sums
of few rows of a table, which is what `torch.nn.functional.embedding_bag` computes fast on every device.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from engine.dictionaries.search import above, product, topk

__all__ = ["SLAB", "ByLatent", "Encoder", "Latents", "decode", "product", "slopes", "squared_sum", "sum_rows", "topk"]

SLAB = 3 << 20  # pre-activations held at once: 12 MB, so that they are searched while they lie in the cache
LARGE_SLAB = 1 << 26  # the same on an accelerator
MARGIN = 0.05  # how far below the last border of `Encoder.batchtopk` the next one is looked for
ENOUGH = 2  # candidates listed for each entry wanted, at which it thins them out


@dataclass(frozen=True)
class Latents:
    """Active latents of n activations, row after row (compressed sparse rows).

    Attributes:
        values: (active,) what each latent holds.
        indices: (active,) int64, which latent it is.
        offsets: (n + 1,) int64, where each activation's latents begin and the last ones end.
        width: latents in the dictionary.
    """

    values: Tensor
    indices: Tensor
    offsets: Tensor
    width: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def l0(self) -> Tensor:
        """Active latents of each activation (n,) int64."""
        return self.offsets.diff()

    @property
    def rows(self) -> Tensor:
        """Which activation each entry belongs to (active,) int64."""
        return torch.arange(len(self), device=self.values.device).repeat_interleave(self.l0)

    def dense(self) -> Tensor:
        """The same code as (n, width)."""
        code = self.values.new_zeros(len(self), self.width)
        code[self.rows, self.indices] = self.values
        return code

    def positive(self) -> Latents:
        """Without the entries that are not positive."""
        active = self.values > 0
        offsets = torch.zeros_like(self.offsets)
        offsets[1:] = torch.bincount(self.rows[active], minlength=len(self)).cumsum(0)
        return Latents(self.values[active], self.indices[active], offsets, self.width)


def sum_rows(table: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of ``table`` (t, d): bag b is Σ weights[i] · table[rows[i]] over its entries.

    Args:
        table: (t, d).
        rows: (entries,) int64 rows of the table, bag after bag.
        offsets: (bags,) int64 first entry of each bag; an empty bag sums to zero.
        weights: (entries,) of the table's type.

    Returns:
        (bags, d).
    """
    return embedding_bag(rows, table, offsets, per_sample_weights=weights, mode="sum")


def squared_sum(x: Tensor) -> Tensor:
    """Σ x² of ``x`` (n, D) as a float64 scalar; where the device has no float64 (Apple's), rows are summed first."""
    if x.device.type == "mps":
        return x.square().sum(dim=1).cpu().double().sum()
    return x.square().sum(dtype=torch.float64)


class Encoder:
    """Pre-activations ``x @ encoder.T + bias`` searched a slab at a time, so that no dense code is stored.

    In all methods ``x`` (n, D) are activations, centred already where the dictionary centres, ``encoder`` is
    (F, D) with one latent a row, and ``bias`` (F,).

    Args:
        slab: pre-activations held at once; by default as many as suit the device.
    """

    def __init__(self, slab: int | None = None) -> None:
        self._entries = slab
        self._border: float | None = None  # of the last batch; where to look first, without effect on what is found

    def topk(self, x: Tensor, encoder: Tensor, bias: Tensor, k: int) -> Latents:
        """The k largest pre-activations of each activation, k entries a row in no order, negative ones included."""
        values = torch.empty(len(x), k, dtype=x.dtype, device=x.device)
        indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
        for part, pre in self._slabs(x, encoder, bias):
            values[part], indices[part] = topk(pre, k)
        offsets = torch.arange(0, len(x) * k + 1, k, device=x.device)
        return Latents(values.flatten(), indices.flatten(), offsets, len(encoder))

    def batchtopk(self, x: Tensor, encoder: Tensor, bias: Tensor, count: int) -> tuple[Latents, float]:
        """The ``count`` largest positive pre-activations of the whole batch, and the smallest of them (0 if none).

        Of equal values at the border those of the first activations are taken. Fewer than ``count`` come back
        where fewer are positive.
        """
        bound = (self._border or 0.0) * (1 - MARGIN)
        values, places = self._candidates(x, encoder, bias, count, bound)
        if len(values) < count and bound > 0:
            values, places = self._candidates(x, encoder, bias, count, 0.0)
        if len(values) > count:
            border = values.kthvalue(len(values) - count + 1).values
            kept = values > border
            equal = (values == border).nonzero().flatten()
            kept[equal[: count - int(kept.sum())]] = True
            values, places = values[kept], places[kept]
        self._border = float(values.min()) if len(values) else 0.0
        return _listed(values, places, len(x), len(encoder)), self._border

    def above(self, x: Tensor, encoder: Tensor, bias: Tensor, threshold: Tensor | float) -> Latents:
        """Every pre-activation greater than ``threshold`` (one for all, or (F,)), with its value."""
        return _listed(*self._above(x, encoder, bias, threshold), len(x), len(encoder))

    def _above(self, x: Tensor, encoder: Tensor, bias: Tensor, bound: Tensor | float) -> tuple[Tensor, Tensor]:
        """Values and flat places (entries,) of all pre-activations greater than ``bound``, ascending."""
        values, places = [x.new_empty(0)], [torch.empty(0, dtype=torch.int64, device=x.device)]
        for part, pre in self._slabs(x, encoder, bias):
            found, at = above(pre, bound)
            values.append(found)
            places.append(at + part.start * len(encoder))
        return torch.cat(values), torch.cat(places)

    def _candidates(self, x: Tensor, encoder: Tensor, bias: Tensor, count: int, bound: float) -> tuple[Tensor, Tensor]:
        """As `_above`, without entries that cannot be among the ``count`` largest, where many are listed.

        The ``count``-th largest of those listed so far is a lower bound of the whole batch's.
        """
        values, places = x.new_empty(0), torch.empty(0, dtype=torch.int64, device=x.device)
        for part, pre in self._slabs(x, encoder, bias):
            found, at = above(pre, bound)
            values, places = torch.cat([values, found]), torch.cat([places, at + part.start * len(encoder)])
            if len(values) > ENOUGH * count:
                least = values.kthvalue(len(values) - count + 1).values
                values, places = values[values >= least], places[values >= least]
                bound = float(torch.nextafter(least, torch.zeros_like(least)))  # equal entries go on being listed
        return values, places

    def _slabs(self, x: Tensor, encoder: Tensor, bias: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Pre-activations (rows, F) of some rows at a time, all slabs of about the same size."""
        entries = self._entries or (SLAB if x.device.type == "cpu" else LARGE_SLAB)
        slabs = math.ceil(len(x) / max(64, entries // len(encoder)))
        rows = math.ceil(len(x) / max(slabs, 1))
        for start in range(0, len(x), max(rows, 1)):
            yield slice(start, start + rows), product(x[start : start + rows], encoder, bias)


def _listed(values: Tensor, places: Tensor, count: int, width: int) -> Latents:
    """Entries at ascending ``places`` of a flattened (count, width) table."""
    rows = places // width
    offsets = torch.zeros(count + 1, dtype=torch.int64, device=places.device)
    offsets[1:] = torch.bincount(rows, minlength=count).cumsum(0)
    return Latents(values, places - rows * width, offsets, width)


def decode(decoder: Tensor, latents: Latents) -> Tensor:
    """Σ values · atoms of each activation (n, D), without bias; ``decoder`` (F, D) holds one atom a row."""
    return sum_rows(decoder, latents.indices, latents.offsets[:-1], latents.values)


def slopes(decoder: Tensor, latents: Latents, error: Tensor) -> Tensor:
    """For each active entry (entries,), the product of its activation's ``error`` (n, D) with its atom.

    Where ``error`` is the loss' derivative by the reconstruction, that is its derivative by the entry's value.
    """
    if latents.values.device.type != "cpu":
        return _slopes_by_autograd(decoder, latents, error)
    _hear_that_sparse_tensors_are_beta()
    size = (len(latents), latents.width)
    zeros = torch.zeros_like(latents.values)
    entries = torch.sparse_csr_tensor(latents.offsets, latents.indices, zeros, size, check_invariants=False)
    found: Tensor = torch.sparse.sampled_addmm(entries, error, decoder.t(), beta=0.0).values()
    return found


@cache
def _hear_that_sparse_tensors_are_beta() -> None:
    """Torch warns once a process, at the first of them; the one operation used here is tested against dense ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nothing = torch.zeros(2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        torch.sparse_csr_tensor(*nothing, (1, 1), check_invariants=False)


def _slopes_by_autograd(decoder: Tensor, latents: Latents, error: Tensor) -> Tensor:
    """The same on devices without that product: it is embedding_bag's backward by its weights."""
    with torch.enable_grad():
        leaf = latents.values.detach().requires_grad_()
        decoded = embedding_bag(latents.indices, decoder, latents.offsets[:-1], per_sample_weights=leaf, mode="sum")
    (found,) = torch.autograd.grad(decoded, leaf, error)
    return found


class ByLatent:
    """Active entries grouped by latent: what the gradients of encoder and decoder are sums over."""

    def __init__(self, latents: Latents) -> None:
        self._order = latents.indices.argsort(stable=True)
        self._rows = latents.rows[self._order]
        self.fired = torch.bincount(latents.indices, minlength=latents.width)
        self._starts = torch.zeros_like(self.fired)
        self._starts[1:] = self.fired.cumsum(0)[:-1]
        self._indices, self._width = latents.indices, latents.width

    def sum(self, weights: Tensor, dense: Tensor) -> Tensor:
        """Σ over each latent's entries of ``weights`` (entries,) times the row of ``dense`` (n, D) it is active on.

        Returns:
            (F, D): the transpose of the sparse code with these values, times ``dense``.
        """
        return sum_rows(dense, self._rows, self._starts, weights[self._order])

    def totals(self, weights: Tensor) -> Tensor:
        """Σ over each latent's entries of ``weights`` (entries,): (F,)."""
        return weights.new_zeros(self._width).index_add_(0, self._indices, weights)
