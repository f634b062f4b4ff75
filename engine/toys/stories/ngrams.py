"""N-gram predictors of stories: the controls beside which a language model's loss is read.

Interpolated counts after Witten & Bell 1991: ``p(w|h) = (c(hw) + T(h) p(w|h')) / (c(h) + T(h))``, with
``T(h)`` the number of distinct words seen behind the history ``h`` and ``h'`` the history without its
first word; the 1-gram adds one to each count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

ORDERS = (1, 2, 3)


class NGrams:
    """Interpolated n-grams of any order, from the histories that occur: the same numbers as `probabilities`.

    Args:
        stories, words, start: as there.
        orders: the longest one.
    """

    def __init__(self, stories: Sequence[Sequence[int]], words: int, start: int, orders: int) -> None:
        self.words, self.start, self.orders = words, start, orders
        target = np.concatenate([np.asarray(story) for story in stories])
        counts = np.bincount(target, minlength=words) + 1.0
        self._first = counts / counts.sum()
        self._tables: list[tuple[Array, Array]] = []
        for length in range(1, orders):
            keys, rows = np.unique(self._keys(stories, length), return_inverse=True)
            found = np.bincount(rows * words + target, minlength=len(keys) * words).reshape(-1, words)
            self._tables.append((keys, found.astype(np.float32)))

    def _keys(self, stories: Sequence[Sequence[int]], length: int) -> Array:
        found = np.zeros(1, np.int64)
        for column in _histories(stories, length, self.start):
            found = found * self.words + column
        return found

    def distributions(self, stories: Sequence[Sequence[int]]) -> Iterator[Array]:
        """For each order 1, 2, … the probabilities of every word at every token: (tokens, words) float32."""
        tokens = sum(len(story) for story in stories)
        now = np.broadcast_to(self._first.astype(np.float32), (tokens, self.words))
        yield now
        for length, (keys, counts) in enumerate(self._tables, start=1):
            wanted = self._keys(stories, length)
            places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            seen = np.flatnonzero(keys[places] == wanted)
            now = now.copy()
            now[seen] = interpolated(counts[places[seen]], now[seen])
            yield now


def interpolated(counts: Array, shorter: Array) -> Array:
    """Witten and Bell's estimate from ``counts`` (…, words) and a shorter history's probabilities of that shape."""
    distinct = np.count_nonzero(counts, axis=-1, keepdims=True)
    total = counts.sum(axis=-1, keepdims=True) + distinct
    found: Array = np.where(total > 0, (counts + distinct * shorter) / np.maximum(total, 1), shorter)
    return found


def probabilities(stories: Sequence[Sequence[int]], words: int, start: int, orders: int = 3) -> list[Array]:
    """Tables ``p[history..., word]`` of 1, 2, … ``orders`` dimensions of size ``words``, float64.

    Args:
        stories: each story's ids, its end among them.
        words: size of the vocabulary.
        start: the id that stands before a story's first word, as often as the history is long.
    """
    target = np.concatenate([np.asarray(story) for story in stories])
    uniform = np.bincount(target, minlength=words) + 1.0
    tables = [uniform / uniform.sum()]
    for order in range(2, orders + 1):
        keys = np.ravel_multi_index((*_histories(stories, order - 1, start), target), (words,) * order)
        counts = np.bincount(keys, minlength=words**order).reshape((words,) * order).astype(float)
        tables.append(interpolated(counts, np.broadcast_to(tables[-1], counts.shape)))
    return tables


def losses(tables: Sequence[Array], stories: Sequence[Sequence[int]], start: int) -> list[Array]:
    """For each order the loss in nats of every token of ``stories``, one after another: (tokens,) float64."""
    target = np.concatenate([np.asarray(story) for story in stories])
    return [-np.log(table[(*_histories(stories, order, start), target)]) for order, table in enumerate(tables)]


def _histories(stories: Sequence[Sequence[int]], length: int, start: int) -> list[Array]:
    """The words ``length``, …, 1 before each token, as that many arrays (tokens,)."""
    padded = [np.concatenate((np.full(length, start), np.asarray(story))) for story in stories]
    return [np.concatenate([row[back : len(row) - length + back] for row in padded]) for back in range(length)]
