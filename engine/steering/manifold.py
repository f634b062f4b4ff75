"""How far steered activations land from real ones: the distance off the manifold, and how large a step it was.

An intervention may reach its goal by pushing activations to where none ever are. The scale is set by real activations
that the bank does not hold: their median distance to the bank is 1, so a value of 5 is five times as far from the
nearest real activation as real activations are from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.steering.errors import SteeringError

Floats: TypeAlias = npt.NDArray[np.float64]

TOGETHER = 1 << 22  # distances held at once
FEWEST = 3  # activations in a bank


@dataclass(frozen=True)
class Nearest:
    """Distances of n activations to the bank, each relative to the median among real activations.

    Attributes:
        plain: (n,) Euclidean.
        shrunk: (n,) Mahalanobis, with the bank's covariance shrunk as by Ledoit and Wolf 2004.
    """

    plain: Floats
    shrunk: Floats


class Manifold:
    """A bank of real activations, to which distances are measured.

    Attributes:
        size, width: activations in the bank and their width.
        scale, shrunk_scale: median distance of a real activation to the nearest one of the bank: what counts as 1.
        shrinkage: of the covariance towards a multiple of the identity, 0 to 1.
        held_out: whether the scale is of activations outside the bank; else each of the bank to the rest of it.

    Args:
        bank: (m, width) real activations.
        real: (k, width) further real activations that are not in the bank and set the scale; None: those of the bank,
            each without itself.

    Raises:
        SteeringError: the bank has fewer than three activations, widths differ, or real activations do not differ.
    """

    def __init__(self, bank: npt.NDArray[np.floating], real: npt.NDArray[np.floating] | None = None) -> None:
        self._bank = _checked(bank, None)
        self.size, self.width = self._bank.shape
        if self.size < FEWEST:
            raise SteeringError(
                f"{self.size} real activations are too few to measure distances to; give at least {FEWEST} rows."
            )
        self._white, self.shrinkage = _whitening(self._bank)
        self._white_bank = self._whitened(self._bank)
        self.held_out = real is not None and len(real) > 0
        if real is not None and self.held_out:
            others = _checked(real, self.width)
            plain, shrunk = _nearest(others, self._bank), _nearest(self._whitened(others), self._white_bank)
        else:
            plain, shrunk = _nearest(self._bank, None), _nearest(self._white_bank, None)
        self.scale, self.shrunk_scale = float(np.median(plain)), float(np.median(shrunk))
        if not (self.scale > 0 and self.shrunk_scale > 0):
            raise SteeringError(
                "Half of the real activations are copies of others, so there is no distance to measure by; use a set "
                "whose prompts differ."
            )

    def nearest(self, activations: npt.NDArray[np.floating]) -> Nearest:
        """Distances of ``activations`` (n, width) to the nearest of the bank, relative to the scale.

        Raises:
            SteeringError: widths differ, or a value is not finite.
        """
        x = _checked(activations, self.width)
        return Nearest(
            _nearest(x, self._bank) / self.scale, _nearest(self._whitened(x), self._white_bank) / self.shrunk_scale
        )

    def _whitened(self, x: Floats) -> Floats:
        return np.asarray((x - self._bank.mean(axis=0)) @ self._white)


def relative_step(before: npt.NDArray[np.floating], after: npt.NDArray[np.floating]) -> Floats:
    """|x' − x| / |x| of activations (n, width); NaN where x is zero."""
    x, moved = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    size = np.linalg.norm(x, axis=1)
    step = np.linalg.norm(moved - x, axis=1)
    return np.asarray(np.divide(step, size, out=np.full(len(x), np.nan), where=size > 0))


@dataclass(frozen=True)
class Oracle:
    """How an intervention compares with what the model itself does for the other answer; (n,) each.

    Attributes:
        activation: cosine of x' and the oracle's activation, which is high already where nothing was changed.
        step: cosine of x' − x and oracle − x: whether the step goes the right way. NaN where one of them is zero.
    """

    activation: Floats
    step: Floats


def to_oracle(
    before: npt.NDArray[np.floating], after: npt.NDArray[np.floating], oracle: npt.NDArray[np.floating]
) -> Oracle:
    """Cosines of steered activations x' (n, width) to the ``oracle``'s, ``before`` being x.

    Raises:
        SteeringError: shapes differ.
    """
    x = _checked(before, None)
    moved, wanted = _checked(after, x.shape[1]), _checked(oracle, x.shape[1])
    if not len(x) == len(moved) == len(wanted):
        raise SteeringError(f"{len(x)}, {len(moved)} and {len(wanted)} activations cannot be compared row by row.")
    return Oracle(_cosine(moved, wanted), _cosine(moved - x, wanted - x))


def _cosine(a: Floats, b: Floats) -> Floats:
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.divide((a * b).sum(axis=1), size, out=np.full(len(a), np.nan), where=size > 0))


def _checked(x: npt.NDArray[np.floating], width: int | None) -> Floats:
    found = np.asarray(x, dtype=np.float64)
    if found.ndim != 2 or (width is not None and found.shape[1] != width):
        raise SteeringError(f"Activations of shape {found.shape} do not fit a bank of width {width or 'one'}.")
    if not np.isfinite(found).all():
        raise SteeringError("A steered activation is not finite, so it has no distance; use smaller strengths.")
    return found


def _whitening(bank: Floats) -> tuple[Floats, float]:
    """What turns Mahalanobis into Euclidean distances, (width, width), and the shrinkage.

    Of a bank without any variance it is the identity.
    """
    from sklearn.covariance import ledoit_wolf

    covariance, shrinkage = ledoit_wolf(bank)
    values, vectors = np.linalg.eigh(covariance)
    if values[-1] <= 0:
        return np.eye(bank.shape[1]), 1.0
    # Shrinkage keeps the smallest eigenvalue above zero; the bound is for rounding.
    return vectors / np.sqrt(np.maximum(values, values[-1] * 1e-12)), float(shrinkage)


def _nearest(x: Floats, bank: Floats | None) -> Floats:
    """Distance of each of ``x`` to the nearest of ``bank``; without a bank to the nearest other of ``x``."""
    from scipy.spatial.distance import cdist

    others = x if bank is None else bank
    found, step = np.empty(len(x)), max(TOGETHER // len(others), 1)
    for start in range(0, len(x), step):
        # Not by |x|² + |y|² − 2xy, which loses the digits of near neighbours with a large common mean.
        apart = cdist(x[start : start + step], others)
        if bank is None:
            rows = np.arange(len(apart))
            apart[rows, start + rows] = np.inf
        found[start : start + step] = apart.min(axis=1)
    return found
