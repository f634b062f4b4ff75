"""Sparse codes and the few products that training on them needs, all without a dense (batch, width) code.

A code is at most k latents per activation. Decoding, and the weight gradients of both sides, are then sums
of few rows of a table, which is what `torch.nn.functional.embedding_bag` computes fast on every device.
"""

from __future__ import annotations

import math
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
        values: (active,) what each latent holds, never zero.
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

    def dense(self) -> Tensor:
        """The same code as (n, width)."""
        rows = torch.arange(len(self), device=self.values.device).repeat_interleave(self.l0)
        code = self.values.new_zeros(len(self), self.width)
        code[rows, self.indices] = self.values
        return code


def from_topk(values: Tensor, indices: Tensor, width: int) -> Latents:
    """Latents from ``values`` and ``indices`` (n, k); entries that are not positive are left out."""
    active = values > 0
    offsets = torch.zeros(len(values) + 1, dtype=torch.int64, device=values.device)
    offsets[1:] = active.sum(dim=1).cumsum(0)
    return Latents(values[active], indices[active], offsets, width)


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


class TopKEncoder:
    """``topk(x @ encoder.T + bias)`` for many activations, a slab at a time, so that no dense code is stored.

    The slab is kept between calls: giving back and asking for tens of megabytes at every step costs more
    than searching them.
    """

    def __init__(self, k: int, slab: int = SLAB) -> None:
        self.k = k
        self._entries = slab
        self._slab: Tensor | None = None

    def __call__(self, x: Tensor, encoder: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Values and indices (n, k) of the k largest pre-activations, in no order, negative ones included.

        Args:
            x: (n, D) activations, centred already where the dictionary centres.
            encoder: (F, D) one row a latent.
            bias: (F,).
        """
        width = len(encoder)
        rows = min(max(64, self._entries // width), max(len(x), 1))
        slab = self._slab
        if slab is None or len(slab) < rows or slab.shape[1] != width or slab.device != x.device:
            slab = self._slab = torch.empty(rows, width, dtype=x.dtype, device=x.device)
        values = torch.empty(len(x), self.k, dtype=x.dtype, device=x.device)
        indices = torch.empty(len(x), self.k, dtype=torch.int64, device=x.device)
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            some = x[part]
            pre = torch.addmm(bias, some, encoder.t(), out=slab[: len(some)])
            values[part], indices[part] = topk(pre, self.k)
        return values, indices
