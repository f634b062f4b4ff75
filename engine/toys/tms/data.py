"""Sparse features: independent, in pairs that fire together, or in pairs of which at most one fires."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from engine.toys.ensembles import Streams

Variant: TypeAlias = Literal["independent", "correlated", "anticorrelated"]


class Features:
    """Batches x (instances, features, batch): a feature is U(0, 1) with probability ``density``, else 0.

    One uniform number u decides both: x = max(u − (1 − p), 0) / p. *Correlated* pairs of features (2k, 2k + 1) share
    whether they fire and have magnitudes of their own; of *anticorrelated* ones the second may fire only where the
    first does not, with probability p / (1 − p), so that each still fires with probability p.

    Args:
        density: (instances,) probability p that a feature is not 0; up to 1/2 for anticorrelated pairs.
        streams: as many as there are densities, with features · batch numbers a step (`numbers`).
    """

    def __init__(
        self, density: Tensor, features: int, batch: int, streams: Streams, variant: Variant = "independent"
    ) -> None:
        self.density, self.variant, self._streams = density.float().reshape(-1, 1, 1), variant, streams
        self._shape = (len(density), features, batch)

    def seek(self, step: int) -> None:
        """Make the batch of ``step`` the next one."""
        self._streams.seek(step)

    def draw(self) -> Tensor:
        """The next batch, valid until the one after."""
        if self.variant != "independent":
            return sparse(self._streams.uniform().view(self._shape), self.density, self.variant)
        p = self.density
        # u = (c + 2³¹) / 2³², and (u − (1 − p)) / p in one multiplication and one addition
        x = self._streams.centred().view(self._shape)
        return x.mul_(2.0**-32 / p).add_((p - 0.5) / p).clamp_min_(0)


def sparse(uniform: Tensor, density: Tensor, variant: Variant = "independent") -> Tensor:
    """Features x (instances, features, samples) from numbers in [0, 1) of that shape and densities (instances,)."""
    p = density.to(uniform.dtype).reshape(-1, 1, 1)
    x = (uniform - (1 - p)).div(p).clamp_min(0)
    if variant == "independent":
        return x
    paired = uniform.shape[1] // 2 * 2  # the last of an odd number is alone
    gate, other = uniform[:, 0:paired:2], uniform[:, 1:paired:2]
    x[:, 0:paired:2] = torch.where(gate < p, gate / p, 0.0)
    if variant == "correlated":
        x[:, 1:paired:2] = torch.where(gate < p, other, 0.0)
    else:
        x[:, 1:paired:2] = torch.where((gate >= p) & (gate < 2 * p), gate / p - 1, 0.0)
    return x
