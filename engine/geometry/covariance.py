"""Mean and covariance of activations that stream by, in float64, and the control without correlations."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]


class Covariance:
    """Running mean (d,) and scatter (d, d) of rows, merged as by Chan, Golub and LeVeque 1983.

    Each batch is centred on its own mean before it is squared, so that a large common offset costs
    no digits, and the result does not depend on how the rows were cut into batches.

    Attributes:
        count: rows seen.
        mean: their mean (d,).
        scatter: sum of the outer products of (row − mean), (d, d).
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean: Floats = np.zeros(width)
        self.scatter: Floats = np.zeros((width, width))

    def add(self, rows: Array) -> None:
        """Take in rows (n, d) of any float type."""
        if len(rows) == 0:
            return
        exact = torch.from_numpy(np.asarray(rows, dtype=np.float64))
        mean = exact.mean(dim=0)
        centred = exact - mean
        if self.count:  # the term of `merge` for the means, as one more row of the same product
            weight = math.sqrt(self.count * len(exact) / (self.count + len(exact)))
            centred = torch.cat([centred, (mean - torch.from_numpy(self.mean))[None] * weight])
        # torch's product, not numpy's: it keeps to the threads that the run may use, and adds in place.
        torch.from_numpy(self.scatter).addmm_(centred.T, centred)
        self._move_mean(len(exact), mean.numpy())

    def merge(self, other: Covariance) -> None:
        """Take in everything that ``other`` has seen."""
        if other.count == 0:
            return
        self.scatter += other.scatter
        if self.count:
            apart = other.mean - self.mean
            self.scatter += np.outer(apart, apart * (self.count * other.count / (self.count + other.count)))
        self._move_mean(other.count, other.mean)

    def _move_mean(self, count: int, mean: Floats) -> None:
        whole = self.count + count
        self.mean = self.mean + (mean - self.mean) * (count / whole)
        self.count = whole

    def matrix(self) -> Floats:
        """The sample covariance (d, d), divided by count − 1; zeros below two rows."""
        return self.scatter / max(self.count - 1, 1)


def merged(parts: list[Covariance]) -> Covariance:
    """One accumulator that has seen what all ``parts`` (at least one, of equal width) have seen."""
    whole = Covariance(len(parts[0].mean))
    for part in parts:
        whole.merge(part)
    return whole


class Decorrelated:
    """The covariance of the same activations with each dimension permuted over tokens by itself.

    Every dimension keeps exactly its values and thus its variance; what is lost is which values
    occurred together. Rows wait in a buffer of ``room`` rows; when it is full each dimension is
    shuffled on its own, half of the rows go into the covariance and half wait on. A text that fits
    the buffer is permuted uniformly; in a longer one a value moves by about ``room`` tokens.
    """

    def __init__(self, width: int, room: int, seed: int) -> None:
        self.room = max(room, 2)
        self._seed = seed
        self._rng = np.random.default_rng([seed, 1])
        self._waiting = np.empty((width, self.room), dtype=np.float32)
        self._filled = 0
        self._covariance = Covariance(width)

    def add(self, rows: Array) -> None:
        """Take in rows (n, d). What has been buffered does not depend on how rows are cut into batches."""
        start = 0
        while start < len(rows):
            some = min(len(rows) - start, self.room - self._filled)
            self._waiting[:, self._filled : self._filled + some] = rows[start : start + some].T
            self._filled += some
            start += some
            if self._filled == self.room:
                self._rng.permuted(self._waiting, axis=1, out=self._waiting)
                half = self.room // 2
                self._covariance.add(self._waiting[:, half:].T)
                self._filled = half

    def so_far(self) -> Covariance:
        """The covariance of all rows seen so far, those that wait permuted among themselves."""
        whole = Covariance(len(self._waiting))
        whole.merge(self._covariance)
        rng = np.random.default_rng([self._seed, 2])
        whole.add(rng.permuted(self._waiting[:, : self._filled], axis=1).T)
        return whole


def groups_of(contexts: int, groups: int, seed: int) -> npt.NDArray[np.int64]:
    """A group 0 … groups − 1 for each context, at random and of equal sizes up to one; (contexts,)."""
    return np.random.default_rng([seed, 3]).permutation(contexts) % groups
