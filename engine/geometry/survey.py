"""One pass over activations: covariances by group of contexts, the decorrelated control, a sample of tokens."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry.covariance import Covariance, Decorrelated, Floats, groups_of, merged

Array: TypeAlias = npt.NDArray[Any]
GROUPS = 50  # groups of contexts that the bootstrap draws from
GROUP_BYTES = 1 << 28  # memory for their covariances
LEAST_GROUPS = 8  # fewer say nothing about spread
WIDEST = 2_048  # dimensions up to which eight groups are affordable
ROOM_BYTES = 1 << 26  # buffer of the decorrelated control
POINTS = 4_000  # tokens in the scatter
FAR = 10  # tokens with the longest activations that are looked at one by one


class Survey:
    """What `pca-spectrum` gathers from activations, context by context.

    Args:
        counted: (contexts, position) bool, the positions that count.
        width: d.
        seed: of the groups, the control and the sample.

    Attributes:
        sampled: (n, 2) context and position of the tokens drawn for the scatter, in order.
        control: the same activations with each dimension permuted over tokens.
    """

    def __init__(self, counted: Array, width: int, seed: int) -> None:
        self.width = width
        self._counted = counted
        number = len(counted)
        groups = max(1, min(GROUPS, GROUP_BYTES // (8 * width**2), number))
        if width <= WIDEST:
            groups = max(groups, min(LEAST_GROUPS, number))
        self._group = groups_of(number, groups, seed)
        self._covariances = [Covariance(width) for _ in range(groups)]
        self.control = Decorrelated(width, min(ROOM_BYTES // (4 * width), max(int(counted.sum()), 2)), seed)
        places = np.argwhere(counted)
        chosen = np.random.default_rng([seed, 10]).choice(len(places), min(POINTS, len(places)), replace=False)
        self.sampled: Array = places[np.sort(chosen)]
        self._sample = np.empty((len(self.sampled), width), dtype=np.float32)
        self._sample_filled = 0
        self._next = 0
        self._far = np.empty((0, width), dtype=np.float32)
        self._far_places = np.empty((0, 2), dtype=np.int64)

    @property
    def tokens(self) -> int:
        """Activations seen that count."""
        return sum(covariance.count for covariance in self._covariances)

    @property
    def contexts(self) -> int:
        """Contexts seen."""
        return self._next

    @property
    def groups(self) -> list[Covariance]:
        """The covariance of each group of contexts."""
        return self._covariances

    def whole(self) -> Covariance:
        """The covariance of all activations seen."""
        return merged(self._covariances)

    @property
    def sample(self) -> tuple[Array, Array]:
        """Places (n, 2) and activations (n, d) float32 of the sampled tokens seen so far."""
        return self.sampled[: self._sample_filled], self._sample[: self._sample_filled]

    def add(self, activations: Array) -> None:
        """Take in the next contexts' activations (contexts, position, d), which are finite where they count."""
        for context in activations:
            number = self._next
            rows = context[self._counted[number]]
            self._covariances[self._group[number]].add(rows)
            self.control.add(rows)
            until = self._sample_filled + np.searchsorted(self.sampled[self._sample_filled :, 0], number, side="right")
            self._sample[self._sample_filled : until] = context[self.sampled[self._sample_filled : until, 1]]
            self._sample_filled = int(until)
            self._look_for_far(rows, number)
            self._next += 1

    def _look_for_far(self, rows: Array, number: int) -> None:
        both = np.concatenate([self._far, rows])
        positions = np.flatnonzero(self._counted[number])
        places = np.concatenate([self._far_places, np.column_stack([np.full_like(positions, number), positions])])
        longest = np.argsort(-np.linalg.norm(both, axis=1), kind="stable")[:FAR]
        self._far, self._far_places = both[longest], places[longest]

    def far(self, whole: Covariance) -> tuple[float, Array]:
        """Share of all variance that the few longest activations hold, and their places (n, 2), longest first.

        A massive activation (Sun et al. 2024) can outweigh thousands of usual tokens, and then decides the spectrum.
        """
        held = np.square(self._far.astype(np.float64) - whole.mean).sum()
        return float(held / np.trace(whole.scatter)), self._far_places


def projected(rows: Array, mean: Floats, components: Floats) -> Floats:
    """Scores (n, m) of activations (n, d) on ``components`` (m, d), about ``mean``, in the activations' units."""
    scores: Floats = (np.asarray(rows, dtype=np.float64) - mean) @ components.T
    return scores
