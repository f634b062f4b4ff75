"""Which contexts are captured together: fixed in advance, the same in every pass, whatever the buffer holds.

A forward pass may round differently in another company. With chunks that do not depend on how full a buffer
is, an activation is the same bits whenever and by whomever it is captured, so passes can be resumed and shared.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Indices: TypeAlias = npt.NDArray[np.int64]
TOGETHER = 8  # contexts captured at once, between two chances to pause


class Chunks:
    """Contexts in chunks, and chunks in the order of an endless row of passes.

    Args:
        counts: (N,) activations that each context gives; contexts with none are in no chunk.
        together: contexts per chunk.
        seed: of the partition and of the order of each pass.
        shuffle: mix contexts; else they stay in the text's order.
    """

    def __init__(self, counts: Indices, together: int, *, seed: int, shuffle: bool) -> None:
        contexts = np.flatnonzero(counts)
        if shuffle:
            contexts = np.random.default_rng([seed, 6]).permutation(contexts)
        self._members = [np.sort(contexts[at : at + together]) for at in range(0, len(contexts), together)]
        self._sizes = np.asarray([int(counts[members].sum()) for members in self._members], dtype=np.int64)
        self._seed = seed
        self._shuffle = shuffle
        self._pass = 0, np.arange(len(self._members))

    def __len__(self) -> int:
        """Chunks in a pass."""
        return len(self._members)

    def at(self, place: int) -> Indices:
        """Contexts, ascending, of the chunk at ``place``, counted over all passes."""
        return self._members[self._number(place)]

    def size(self, place: int) -> int:
        """Activations of the chunk at ``place``."""
        return int(self._sizes[self._number(place)])

    def _number(self, place: int) -> int:
        number, within = divmod(place, len(self._members))
        known = self._pass  # read once: the capturing thread and the trainer's may be in different passes
        if known[0] != number:
            order = np.arange(len(self._members))
            if self._shuffle and number > 0:
                order = np.random.default_rng([self._seed, 6, number]).permutation(order)
            known = self._pass = number, order
        return int(known[1][within])
