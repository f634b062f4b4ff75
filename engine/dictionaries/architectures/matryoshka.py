"""Matryoshka BatchTopK (Bussmann et al. 2025, arXiv 2503.17547).

The latents' nested prefixes, each twice as wide as the one before, all reconstruct on their own:

    loss = mean over prefixes w of  Σ ‖z[:w] @ decoder[:w] + b_dec − y‖² / (n · variance)  + aux · …

Latents are selected once, over all of them, as BatchTopK does. The first ones must serve in every prefix and learn
what is general; later ones refine.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.dictionaries.architectures.base import Part
from engine.dictionaries.architectures.batchtopk import BatchTopK
from engine.dictionaries.architectures.codes import Sparse
from engine.dictionaries.architectures.topk import Fit
from engine.dictionaries.sparse import Latents, squared_sum
from engine.dictionaries.weights import Weights


class Matryoshka(BatchTopK):
    """BatchTopK whose prefixes each reconstruct."""

    @property
    def prefixes(self) -> list[int]:
        """Widths of the nested prefixes, ascending; the last is the whole dictionary."""
        levels = self.choices.levels
        return [self.choices.width >> (levels - 1 - level) for level in range(levels)]

    def _fitted(self, weights: Weights, latents: Latents, target: Tensor, read: Tensor) -> Fit:
        """The prefixes' errors, each from the one before, and gradients group by group.

        The latents between two prefixes take part in the wider one and all beyond it, so their gradient follows
        from the sum of those errors.
        """
        prefixes = self.prefixes
        codes = list(_groups(latents, prefixes))
        atoms = [weights.decoder[start:stop] for start, stop in _bounds(prefixes)]
        errors, error, loss = [], -target, target.new_zeros((), dtype=torch.float64).cpu()
        for code, group in zip(codes, atoms, strict=True):
            error = error + code.decode(group, code.values.relu())
            errors.append(error)
        squared = [squared_sum(error) for error in errors]
        unit = self.per_activation(len(target)) * len(prefixes)
        loss = torch.stack(squared).sum() / unit
        parts: list[Part] = []
        by_output = torch.zeros_like(target)
        for code, group, error, (start, stop) in reversed(
            list(zip(codes, atoms, errors, _bounds(prefixes), strict=True))
        ):
            by_output = by_output.add(error, alpha=2 / unit)
            values = code.values.relu()
            by_pre = torch.where(values > 0, code.slopes(group, by_output), 0.0)
            parts.append(Part(code, values, by_pre, by_output, read, slice(start, stop)))
        return Fit(errors[-1], squared[-1], loss, parts, by_output)


def _bounds(prefixes: list[int]) -> list[tuple[int, int]]:
    """First latent and end of each group between two prefixes."""
    return list(zip([0, *prefixes[:-1]], prefixes, strict=True))


def _groups(latents: Latents, prefixes: list[int]) -> Iterator[Sparse]:
    """The entries of each group, numbered from its first latent."""
    rows = latents.rows
    for start, stop in _bounds(prefixes):
        inside = (latents.indices >= start) & (latents.indices < stop)
        offsets = torch.zeros_like(latents.offsets)
        offsets[1:] = torch.bincount(rows[inside], minlength=len(latents)).cumsum(0)
        yield Sparse(Latents(latents.values[inside], latents.indices[inside] - start, offsets, stop - start))
