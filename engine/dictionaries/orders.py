"""In which order a buffer's activations go out: at random without replacement, or as they came in.

An order knows slots, not activations. A slot is free, or waits to be delivered. In a buffer that keeps its
activations (``kept``), slots fill up one after another and `again` lets all of them wait anew.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Indices: TypeAlias = npt.NDArray[np.int64]


class Order(Protocol):
    """Which slots are filled next, and which go out next."""

    @property
    def waiting(self) -> Indices:
        """Slots (n,) that wait."""
        ...

    def __len__(self) -> int:
        """How many slots wait."""
        ...

    def put(self, count: int) -> Indices:
        """Slots (count,) for new activations, which wait from now on."""
        ...

    def take(self, count: int) -> Indices:
        """Slots (count,) to deliver now, in this order; at most as many as wait."""
        ...

    def again(self) -> None:
        """Let all slots of a full buffer wait anew."""
        ...

    def restore(self, waiting: Indices, filled: int, taken: int) -> None:
        """Go on where ``waiting`` waited, ``filled`` slots of a kept buffer were filled, ``taken`` had gone out."""
        ...


class Shuffled:
    """Each draw is a uniform sample, without replacement, of all that wait."""

    def __init__(self, capacity: int, kept: bool, seed: int) -> None:
        self._slots = np.arange(capacity)  # the first ones wait; behind them, unless kept, the free ones
        self._kept = kept
        self._seed = seed
        self._number = self._filled = self._taken = 0

    @property
    def waiting(self) -> Indices:
        return self._slots[: self._number]

    def __len__(self) -> int:
        return self._number

    def put(self, count: int) -> Indices:
        place = slice(self._number, self._number + count)
        if self._kept:
            self._slots[place] = np.arange(self._filled, self._filled + count)
        self._filled += count
        self._number += count
        return self._slots[place].copy()

    def take(self, count: int) -> Indices:
        draws = np.random.default_rng([self._seed, 7, self._taken])
        places = draws.choice(self._number, count, replace=False)
        picked = self._slots[places]
        left = self._number - count
        gone = np.zeros(count, dtype=bool)  # of the last places, which the picked ones are to move to
        gone[places[places >= left] - left] = True
        self._slots[places[places < left]] = self._slots[left : self._number][~gone]
        self._slots[left : self._number] = picked
        self._number = left
        self._taken += count
        return picked

    def again(self) -> None:
        self._number = len(self._slots)
        self._slots = np.arange(self._number)

    def restore(self, waiting: Indices, filled: int, taken: int) -> None:
        self._number, self._filled, self._taken = len(waiting), filled, taken
        self._slots[: len(waiting)] = waiting
        if not self._kept:
            self._slots[len(waiting) :] = np.setdiff1d(np.arange(len(self._slots)), waiting)


class InOrder:
    """First in, first out."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._came = self._went = 0  # slots follow each other round and round

    @property
    def waiting(self) -> Indices:
        return np.arange(self._went, self._came) % self._capacity

    def __len__(self) -> int:
        return self._came - self._went

    def put(self, count: int) -> Indices:
        self._came += count
        return np.arange(self._came - count, self._came) % self._capacity

    def take(self, count: int) -> Indices:
        self._went += count
        return np.arange(self._went - count, self._went) % self._capacity

    def again(self) -> None:
        self._came += self._capacity

    def restore(self, waiting: Indices, filled: int, taken: int) -> None:
        self._went = int(waiting[0]) if len(waiting) else filled
        self._came = self._went + len(waiting)
