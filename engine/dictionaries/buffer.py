"""A shuffle buffer between the model and the optimiser: mixed, bounded in memory, and the same on every machine.

Activations of contexts come in whole and go out one by one in random order. Where the buffer holds the
whole text, each activation is captured once and every pass over the text is a fresh permutation. Where the
text is larger, the buffer is refilled whenever half of it has gone out, with contexts in an order that is
drawn anew for each pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.errors import DictionaryError

Array: TypeAlias = npt.NDArray[Any]
Indices: TypeAlias = npt.NDArray[np.int64]
Harvest: TypeAlias = Callable[[Indices], Tensor]
CHUNK = 8  # contexts captured at once, between two chances to pause
SLICE = 8_192  # activations looked at together


class ActivationBuffer:
    """Delivers batches of activations in an order that depends on the seed alone.

    `feed` until `hungry` is false, then `draw`. Between any two calls the state is whole and can be stored.

    Args:
        counts: (N,) activations that each context gives; contexts with none are never asked for.
        harvest: gives the activations (sum of their counts, D) float32 of the contexts it is asked for.
        width: D.
        capacity: most activations held; more than the text has are not used.
        batch: activations of the largest draw.
        seed: of all orders.

    Raises:
        DictionaryError: no activation counts, or the buffer is smaller than two batches or two contexts.

    Attributes:
        total: activations in the text.
        resident: the buffer holds the whole text.
        drawn: activations delivered.
    """

    def __init__(self, counts: Indices, harvest: Harvest, width: int, capacity: int, *, batch: int, seed: int) -> None:
        self._contexts = np.flatnonzero(counts)
        self._counts = np.asarray(counts, dtype=np.int64)
        self.total = int(self._counts.sum())
        least = 2 * max(int(self._counts.max(initial=0)), batch)
        if self.total == 0:
            raise DictionaryError("No token of the text counts, so there is nothing to train on; use more text.")
        if capacity < min(least, self.total):
            raise DictionaryError(
                f"A buffer of {capacity:,} activations is too small: it has to hold two batches and two contexts; "
                f"give at least buffer={least}."
            )
        self.capacity = min(capacity, self.total)
        self.resident = self.total <= capacity
        self.drawn = 0
        self._harvest = harvest
        self._seed = seed
        self._rows = torch.empty(self.capacity, width, dtype=torch.float32)
        self._order = np.empty(0, dtype=np.int64)  # slots still to go out, in order
        self._at = 0
        self._fresh: list[Indices] = []  # slots filled since the last shuffle
        self._taken = 0  # contexts captured, over all passes
        self._shuffles = 0
        self._filling = True
        self._pass: tuple[int, Indices] = (-1, self._order)  # a pass over the text and its order of contexts

    @property
    def bytes(self) -> int:
        """Memory of the buffer."""
        return self._rows.numel() * self._rows.element_size()

    @property
    def passes(self) -> float:
        """Passes over the text so far, by activations delivered."""
        return self.drawn / self.total

    def __len__(self) -> int:
        """Activations held: all of a resident text, else those still to be delivered."""
        return self.total if self._keeps_slots else len(self._used())

    def chunks(self) -> Iterator[Tensor]:
        """The activations held, a few thousand (n, D) at a time."""
        slots = np.arange(self.total) if self._keeps_slots else self._used()
        for start in range(0, len(slots), SLICE):
            yield self._rows[torch.from_numpy(slots[start : start + SLICE])]

    @property
    def hungry(self) -> bool:
        """More contexts have to be captured before the next batch."""
        return self._filling

    def feed(self) -> Tensor | None:
        """Capture the next few contexts. Their activations (n, D), or None when the buffer is full already."""
        contexts = self._next_contexts()
        if len(contexts) == 0:
            self._finish_filling()
            return None
        activations = self._harvest(contexts)
        free = np.ones(self.capacity, dtype=bool)
        free[self._used()] = False
        slots = np.flatnonzero(free)[: int(self._counts[contexts].sum())]
        self._rows[torch.from_numpy(slots)] = activations.float().cpu()
        self._fresh.append(slots)
        self._taken += len(contexts)
        if len(self._next_contexts()) == 0:
            self._finish_filling()
        return activations

    def draw(self, batch: int) -> Tensor:
        """The next ``batch`` activations (batch, D) float32, without replacement within a pass."""
        parts = []
        wanted = batch
        while wanted:
            if self._at == len(self._order):  # only where the text is resident: else half the buffer is left
                self._shuffle(np.arange(self.total))
            some = self._order[self._at : self._at + wanted]
            parts.append(self._rows[torch.from_numpy(some)])
            self._at += len(some)
            wanted -= len(some)
        found = torch.cat(parts) if len(parts) > 1 else parts[0]
        self.drawn += len(found)
        if not self.resident and len(self._order) - self._at <= self.capacity // 2:
            self._filling = True
        return found

    def _used(self) -> Indices:
        return np.concatenate([self._order[self._at :], *self._fresh])

    def _next_contexts(self) -> Indices:
        """Up to `CHUNK` contexts whose activations fit; none when the buffer is as full as it gets."""
        room = self.capacity - sum(map(len, self._fresh))
        if not self.resident:
            room -= len(self._order) - self._at
        number = len(self._contexts)
        if self.resident and self._taken >= number:
            return np.empty(0, dtype=np.int64)
        found: list[np.int64] = []
        for taken in range(self._taken, self._taken + CHUNK):
            place = taken % number
            if found and place == 0:
                break  # a chunk stays within one pass, so that no context is in it twice
            context = self._contexts[self._in_pass(taken // number)[place]]
            room -= int(self._counts[context])
            if room < 0:
                break
            found.append(context)
        return np.asarray(found, dtype=np.int64)

    def _in_pass(self, number: int) -> Indices:
        if self._pass[0] != number:
            self._pass = number, np.random.default_rng([self._seed, 6, number]).permutation(len(self._contexts))
        return self._pass[1]

    def _finish_filling(self) -> None:
        self._shuffle(self._used())
        self._fresh = []
        self._filling = False

    def _shuffle(self, slots: Indices) -> None:
        self._order = np.random.default_rng([self._seed, 7, self._shuffles]).permutation(slots)
        self._shuffles += 1
        self._at = 0

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Values and arrays from which `restore` goes on exactly: contents, order and place in the text."""
        slots = self._used()
        rows = self._rows.numpy() if self._keeps_slots else self._rows.numpy()[slots]
        values = {
            "taken": self._taken,
            "drawn": self.drawn,
            "shuffles": self._shuffles,
            "filling": self._filling,
            "waiting": len(self._order) - self._at,
            "total": self.total,
        }
        arrays = {"rows": rows, "order": self._order[self._at :]} if self._keeps_slots else {"rows": rows}
        return values, arrays

    @property
    def _keeps_slots(self) -> bool:
        return self.resident and not self._filling

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from what `state` gave.

        Raises:
            DictionaryError: the checkpoint belongs to another text or another buffer.
        """
        rows = np.asarray(arrays["rows"])
        if values["total"] != self.total or rows.shape[1:] != self._rows.shape[1:] or len(rows) > self.capacity:
            raise DictionaryError(
                f"The checkpoint's buffer was filled from a text of {values['total']:,} activations, but this text has "
                f"{self.total:,}; start the run anew."
            )
        self._rows[: len(rows)] = torch.from_numpy(np.array(rows))
        self._taken, self.drawn = int(values["taken"]), int(values["drawn"])
        self._shuffles, self._filling = int(values["shuffles"]), bool(values["filling"])
        self._at = 0
        if self._keeps_slots:
            self._order, self._fresh = np.array(arrays["order"]), []
        else:
            waiting = int(values["waiting"])
            self._order = np.arange(waiting)
            self._fresh = [np.arange(waiting, len(rows))]
