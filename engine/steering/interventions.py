"""Interventions: what takes the place of activations, as a function of a strength."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Intervention(Protocol):
    """Changes activations; at strength 0 it changes nothing.

    Called with ``x`` (n, width) float32 on any device; gives (n, width) float32 on the same device.
    """

    def __call__(self, x: Tensor, strength: float) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class AddVector:
    """x + strength · vector. ``vector`` (width,) float32."""

    vector: Tensor

    def __call__(self, x: Tensor, strength: float) -> Tensor:
        return x + strength * self.vector.to(x.device)
