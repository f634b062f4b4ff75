"""The two tests of a hierarchy on trained models and on three controls, at every hidden width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.toys.hierarchies import trees
from engine.toys.hierarchies.trees import Hierarchy

Array: TypeAlias = npt.NDArray[Any]
CONDITIONS = ("tree", "independent features", "random directions", "relabelled tree")
TESTS = ("P1 parent", "P1 offsets", "P2 deviation", "P2 rank", "P2 edges")
DRAWS = 20  # of random directions, and relabellings of each model


@dataclass(frozen=True)
class Survey:
    """Results of all widths.

    Attributes:
        mean, spread: (widths, conditions, tests): over repeats, each a mean over the pairs or groups of all trees;
            NaN where a hierarchy has none to test.
        repeats: (conditions,) how many there are: models, draws, or relabellings of all models.
    """

    mean: Array
    spread: Array
    repeats: tuple[int, ...]


class Surveyor:
    """Surveys W (widths, 2, restarts, hidden, trees · nodes): trained on a hierarchy, and on independent features.

    Args:
        widths: hidden units that are used at each width; the others are 0.
        seed: of random directions and relabellings, which stay the same at every step.
    """

    def __init__(self, tree: Hierarchy, count: int, widths: list[int], seed: int) -> None:
        self.tree, self.trees, self.widths = tree, count, widths
        rng = np.random.default_rng([seed, 4])
        nodes = len(tree.names)
        self._relabelled = np.stack([rng.permutation(len(tree.table)) for _ in range(DRAWS)])
        self._random = [rng.standard_normal((DRAWS, nodes, width)) for width in widths]
        self._tested_random = [self._tests(tree.table @ directions) for directions in self._random]

    def leaves(self, weights: Array) -> Array:
        """The vector of each leaf of each tree, (..., trees, leaves, hidden), from W (..., hidden, trees · nodes)."""
        columns = np.swapaxes(weights, -1, -2)
        columns = columns.reshape(*columns.shape[:-2], self.trees, len(self.tree.names), columns.shape[-1])
        found: Array = self.tree.table @ columns
        return found

    def conditions(self, weights: Array, width: int) -> list[Array]:
        """Leaf vectors (leaves, hidden) of the first tree in one model of each condition; W (2, hidden, features)."""
        tree, independent = self.leaves(weights)[:, 0]
        return [tree, independent, self.tree.table @ self._random[width][0], tree[self._relabelled[0]]]

    def _tests(self, leaves: Array) -> Array:
        """The five tests of leaf vectors (..., leaves, hidden): (..., 5)."""
        vectors = trees.node_vectors(self.tree, leaves)
        found = [trees.parent_cosines(self.tree, vectors), trees.offset_cosines(self.tree, vectors)]
        groups = trees.simplices(self.tree, vectors)
        found += [groups[..., number] for number in range(3)]
        empty = np.full(leaves.shape[:-2], np.nan)
        return np.stack([one.mean(axis=-1) if one.shape[-1] else empty for one in found], axis=-1)

    def survey(self, weights: Array) -> Survey:
        """All tests of all conditions; W as the class has it."""
        leaves = self.leaves(np.asarray(weights, dtype=np.float64))
        trained = self._tests(leaves).mean(axis=-2)  # over trees: (widths, 2, restarts, tests)
        again = leaves[:, 0][..., self._relabelled, :]  # (widths, restarts, trees, draws, leaves, hidden)
        relabelled = self._tests(again).mean(axis=2)
        relabelled = relabelled.reshape(len(self.widths), -1, len(TESTS))
        each = [
            [trained[place, 0], trained[place, 1], self._tested_random[place], relabelled[place]]
            for place in range(len(self.widths))
        ]
        return Survey(
            mean=np.array([[repeats.mean(axis=0) for repeats in row] for row in each]),
            spread=np.array([[repeats.std(axis=0) for repeats in row] for row in each]),
            repeats=tuple(len(repeats) for repeats in each[0]),
        )
