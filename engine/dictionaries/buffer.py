"""A buffer between the source of activations and the optimiser: mixed, bounded in memory, the same on every machine.

Activations come in by chunks of contexts and go out one by one: each draw is a random sample of all that wait,
or, without shuffling, the next in the text's order. Training begins with a first part of the buffer; from then
on two activations come in for each that goes out, until the buffer is full or holds the whole text. What
comes in when depends on nothing but how much has gone out, so a run can be stopped, resumed and repeated bit for
bit, with capture running ahead in a thread of its own or without.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.ahead import Ahead
from engine.dictionaries.chunks import TOGETHER, Chunks
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.orders import InOrder, Order, Shuffled
from engine.dictionaries.sources import Pair, Source

Array: TypeAlias = npt.NDArray[Any]
Indices: TypeAlias = npt.NDArray[np.int64]
SLICE = 8_192  # activations looked at together
FIRST_BATCHES, FIRST_SHARE, FIRST_LEAST = 16, 8, 8_192  # what training begins with: these, or 1/8 of the buffer
RATE = 2  # activations that come in for each that goes out, until the buffer is full
AHEAD_BYTES, AHEAD_MOST = 2**27, 16  # what is captured ahead: bytes, chunks


class Buffer:
    """Delivers batches of activations in an order that depends on seed and sizes alone.

    ``while buffer.hungry: buffer.feed()`` before each ``draw``. Between any two calls the state is whole and can
    be stored. With ``overlap`` it owns a thread, so it has to be closed.

    Args:
        source: gives the activations of contexts.
        capacity: most activations held; more than the text has are not used.
        batch: activations of the largest draw.
        seed: of all orders.
        shuffle: draw at random; else in the text's order.
        without: contexts that are kept out.
        overlap: capture ahead in a thread.
        hold: while it says True nothing is captured ahead (a person has paused the run).
        device: where the activations are kept.

    Raises:
        DictionaryError: no activation counts, or the buffer is smaller than two batches or two contexts.

    Attributes:
        total: activations in the text.
        resident: the buffer holds the whole text.
        first: activations that are there, about, when the first batch is drawn.
        drawn: activations delivered.
    """

    def __init__(
        self,
        source: Source,
        capacity: int,
        *,
        batch: int,
        seed: int,
        shuffle: bool = True,
        without: Iterable[int] = (),
        overlap: bool = False,
        hold: Callable[[], bool] = lambda: False,
        device: torch.device | str = "cpu",
    ) -> None:
        counts = source.counts.copy()
        counts[list(without)] = 0
        self.total = int(counts.sum())
        self.capacity = fitting(counts, capacity, batch)
        self.resident = self.capacity == self.total
        self.first = first_part(self.capacity, batch)
        self.drawn = 0
        self._source = source
        together = int(np.clip(self.capacity // (4 * int(counts.max())), 1, TOGETHER))
        self._chunks = Chunks(counts, together, seed=seed, shuffle=shuffle)
        self._order: Order = Shuffled(self.capacity, self.resident, seed) if shuffle else InOrder(self.capacity)
        self._x = torch.empty(self.capacity, source.d_in, device=device)
        self._y = torch.empty(self.capacity, source.d_out, device=device) if source.paired else None
        self._taken = 0  # chunks that have come in, over all passes
        self._came = 0  # activations that have come in
        self._overlap = overlap
        self._hold = hold
        self._ahead: Ahead[Pair] | None = None

    @property
    def bytes(self) -> int:
        """Memory of the buffer."""
        return sum(rows.numel() * rows.element_size() for rows in (self._x, self._y) if rows is not None)

    @property
    def passes(self) -> float:
        """Passes over the text so far, by activations delivered."""
        return self.drawn / self.total

    def __len__(self) -> int:
        """Activations held: of a resident text those that have come in, else those still to be delivered."""
        return self._came if self.resident else len(self._order)

    def chunks(self) -> Iterator[Pair]:
        """The activations held and their targets, a few thousand at a time."""
        slots = self._held()
        for start in range(0, len(slots), SLICE):
            yield self._rows(slots[start : start + SLICE])

    @property
    def hungry(self) -> bool:
        """More activations have to come in before the next batch."""
        if self.resident and self._taken == len(self._chunks):
            return False
        if not self.resident and len(self._order) + self._chunks.size(self._taken) > self.capacity:
            return False
        return self._came < self.first + RATE * self.drawn

    def feed(self) -> Pair | None:
        """Take in the next chunk. Its activations and targets, not to be changed, or None when it is not hungry.

        Raises:
            SuperscopeError: what capturing the chunk raised, wherever that ran.
        """
        if not self.hungry:
            return None
        x, y = self._next()
        slots = torch.from_numpy(self._order.put(len(x))).to(self._x.device)
        self._x[slots] = x.to(self._x.device)
        if self._y is not None and y is not None:
            self._y[slots] = y.to(self._y.device)
        self._taken += 1
        self._came += len(x)
        return x, y

    def draw(self, batch: int) -> Pair:
        """The next ``batch`` activations (batch, d_in) and targets, each once a pass, on the buffer's device."""
        parts = []
        wanted = batch
        while wanted:
            if len(self._order) == 0:
                if self.hungry or not self.resident:
                    raise ValueError("feed the buffer before drawing from it")
                self._order.again()
            some = self._order.take(min(wanted, len(self._order)))
            parts.append(some)
            wanted -= len(some)
            self.drawn += len(some)
        return self._rows(np.concatenate(parts))

    def close(self) -> None:
        """Capture no more; the thread has ended then. The buffer can still be stored, and even fed."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _next(self) -> Pair:
        read = partial(_read, self._source, self._chunks)
        if not self._overlap:
            return read(self._taken)
        if self._ahead is None:
            places = range(self._taken, len(self._chunks)) if self.resident else itertools.count(self._taken)
            chunk = 4 * self._chunks.size(self._taken) * (self._source.d_in + self._source.d_out)
            depth = int(np.clip(AHEAD_BYTES // chunk, 2, AHEAD_MOST))
            self._ahead = Ahead(read, places, depth=depth, hold=self._hold)
        return self._ahead.take()

    def _held(self) -> Indices:
        return np.arange(self._came) if self.resident else self._order.waiting

    def _rows(self, slots: Indices) -> Pair:
        where = torch.from_numpy(slots).to(self._x.device)
        return self._x[where], None if self._y is None else self._y[where]

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Values and arrays from which `restore` goes on exactly: contents, order and place in the text."""
        held = slice(self._came) if self.resident else torch.from_numpy(self._held()).to(self._x.device)
        values = {"taken": self._taken, "came": self._came, "drawn": self.drawn, "total": self.total}
        arrays = {"rows": self._x[held].cpu().numpy()}
        if self._y is not None:
            arrays["targets"] = self._y[held].cpu().numpy()
        if self.resident:
            arrays["order"] = self._order.waiting.copy()
        return values, arrays

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from what `state` gave.

        Raises:
            DictionaryError: the checkpoint belongs to another text or another buffer.
        """
        rows, targets = arrays["rows"], arrays.get("targets")
        if values["total"] != self.total or not _fit(rows, self._x) or not _fit(targets, self._y):
            raise DictionaryError(
                f"The checkpoint's buffer was filled from a text of {values['total']:,} activations, but this text has "
                f"{self.total:,}, or it has another width; start the run anew."
            )
        self.close()
        self._x[: len(rows)] = torch.from_numpy(np.array(rows)).to(self._x.device)
        if targets is not None and self._y is not None:
            self._y[: len(targets)] = torch.from_numpy(np.array(targets)).to(self._y.device)
        self._taken, self._came, self.drawn = int(values["taken"]), int(values["came"]), int(values["drawn"])
        waiting = np.asarray(arrays["order"]) if self.resident else np.arange(len(rows))
        self._order.restore(waiting, self._came, self.drawn)


def first_part(capacity: int, batch: int) -> int:
    """Activations with which training begins: enough to measure their variance, few enough to begin soon."""
    return min(capacity, max(FIRST_BATCHES * batch, capacity // FIRST_SHARE, FIRST_LEAST))


def fitting(counts: Indices, capacity: int, batch: int) -> int:
    """The size of a buffer for contexts that give ``counts`` activations: ``capacity``, or all there are.

    Raises:
        DictionaryError: no activation counts, or it is smaller than two batches or two contexts.
    """
    total = int(counts.sum())
    if total == 0:
        raise DictionaryError("No token of the text counts, so there is nothing to train on; use more text.")
    least = 2 * max(int(counts.max()), batch)
    if capacity < min(least, total):
        raise DictionaryError(
            f"A buffer of {capacity:,} activations is too small: it has to hold two batches and two contexts; "
            f"give at least buffer={least}."
        )
    return min(capacity, total)


def _read(source: Source, chunks: Chunks, place: int) -> Pair:
    return source.harvest(chunks.at(place))


def _fit(rows: Array | None, into: Tensor | None) -> bool:
    if rows is None or into is None:
        return rows is None and into is None
    return rows.ndim == 2 and rows.shape[1] == into.shape[1] and len(rows) <= len(into)
