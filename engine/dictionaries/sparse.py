"""Sparse codes and the few products that training on them needs, all without a dense (batch, width) code.

A code is at most k latents per activation. Decoding, and the weight gradients of both sides, are then sums
of few rows of a table, which is what `torch.nn.functional.embedding_bag` computes fast on every device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

SLAB = 1 << 24  # pre-activations held at once (64 MB)


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


@cache
def _group_size(width: int, k: int) -> int:
    """A divisor g of ``width`` near √(width / k), where both stages of `topk` are cheapest; 1 where none helps."""
    best = math.isqrt(width // max(k, 1))
    fitting = [size for size in range(4, best + 3) if width % size == 0 and width // size >= k and 2 * size * k < width]
    return max(fitting, default=1)


def topk(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest entries of each row of ``pre`` (n, F), in no order: values and indices (n, k).

    Exact, in two stages: the k largest entries lie in the k groups with the largest maxima, so only those
    groups are searched. Equal values at the border are interchangeable, as in `torch.topk`.
    """
    count, width = pre.shape
    size = _group_size(width, k)
    if size == 1:
        values, indices = pre.topk(k, dim=1, sorted=False)
        return values, indices
    groups = width // size  # group j holds the entries j, j + groups, j + 2·groups, …
    strided = pre.view(count, size, groups)
    group = strided.amax(dim=1).topk(k, dim=1, sorted=False).indices
    candidates = strided.gather(2, group[:, None, :].expand(count, size, k)).reshape(count, size * k)
    values, place = candidates.topk(k, dim=1, sorted=False)
    return values, (place // k) * groups + group.gather(1, place % k)


def squared_sum(x: Tensor) -> Tensor:
    """Σ x² of ``x`` (n, D) as a float64 scalar; where the device has no float64 (Apple's), rows are summed first."""
    if x.device.type == "mps":
        return x.square().sum(dim=1).cpu().double().sum()
    return x.square().sum(dtype=torch.float64)


class Encoder:
    """Pre-activations ``x @ encoder.T + bias`` searched a slab at a time, so that no dense code is stored.

    The slab is kept between calls: giving back and asking for tens of megabytes at every step costs more
    than searching them. In all methods ``x`` (n, D) are activations, centred already where the dictionary
    centres, ``encoder`` is (F, D) with one latent a row, and ``bias`` (F,).
    """

    def __init__(self, slab: int = SLAB) -> None:
        self._entries = slab
        self._slab: Tensor | None = None

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

        Equal values at the border are interchangeable. Fewer than ``count`` come back where fewer are positive.
        """
        found = self.above(x, encoder, bias, 0.0)
        if len(found.values) <= count:
            return found, float(found.values.min()) if len(found.values) else 0.0
        top = found.values.topk(count, sorted=False)
        kept = top.indices.sort().values
        rows = found.rows[kept]
        offsets = torch.zeros_like(found.offsets)
        offsets[1:] = torch.bincount(rows, minlength=len(x)).cumsum(0)
        return Latents(found.values[kept], found.indices[kept], offsets, len(encoder)), float(top.values.min())

    def above(self, x: Tensor, encoder: Tensor, bias: Tensor, threshold: Tensor | float) -> Latents:
        """Every pre-activation greater than ``threshold`` (one for all, or (F,)), with its value."""
        values, indices, counts = [], [], []
        for _, pre in self._slabs(x, encoder, bias):
            rows, columns = (pre > threshold).nonzero(as_tuple=True)
            values.append(pre[rows, columns])
            indices.append(columns)
            counts.append(torch.bincount(rows, minlength=len(pre)))
        offsets = torch.zeros(len(x) + 1, dtype=torch.int64, device=x.device)
        offsets[1:] = torch.cat(counts).cumsum(0) if counts else 0
        empty = x.new_empty(0)
        return Latents(
            torch.cat(values) if values else empty,
            torch.cat(indices) if indices else empty.long(),
            offsets,
            len(encoder),
        )

    def _slabs(self, x: Tensor, encoder: Tensor, bias: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Pre-activations (rows, F) of some rows at a time; the next ones overwrite them."""
        width = len(encoder)
        rows = min(max(64, self._entries // width), max(len(x), 1))
        slab = self._slab
        if slab is None or len(slab) < rows or slab.shape[1] != width or slab.device != x.device:
            slab = self._slab = torch.empty(rows, width, dtype=x.dtype, device=x.device)
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            some = x[part]
            yield part, torch.addmm(bias, some, encoder.t(), out=slab[: len(some)])


def decode(decoder: Tensor, latents: Latents) -> Tensor:
    """Σ values · atoms of each activation (n, D), without bias; ``decoder`` (F, D) holds one atom a row."""
    return sum_rows(decoder, latents.indices, latents.offsets[:-1], latents.values)


def slopes(decoder: Tensor, latents: Latents, error: Tensor) -> Tensor:
    """For each active entry (entries,), the product of its activation's ``error`` (n, D) with its atom.

    Where ``error`` is the loss' derivative by the reconstruction, that is its derivative by the entry's value.
    """
    # Autograd's backward of embedding_bag by its weights is this product, without gathering any row.
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
