"""Hierarchies of concepts: trees and partial orders, and how orthogonal the vectors of their nodes are.

A hierarchy is a table of which nodes each leaf has on; the root, which is always on, is no feature. The tests
are those of Park et al. 2024: P1, a child's offset from its parent is orthogonal to the parent (and to what tells
its own children apart); P2, the offsets of n siblings are the corners of a regular simplex. Plain numpy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Kind: TypeAlias = Literal["binary", "ternary", "uneven", "partial-order"]
ROOT = -1
TINY = 1e-12
RANK = 0.05  # singular value from which on a dimension counts, as a share of the largest


@dataclass(frozen=True)
class Hierarchy:
    """A hierarchy.

    Attributes:
        names: of the nodes, parents before children.
        parents: the parents of each node; (ROOT,) for those below the root, two of them in a partial order.
        table: (leaves, nodes) 1.0 where a leaf has a node on, itself included.
    """

    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]
    table: Array

    def children(self, node: int) -> list[int]:
        """The nodes of which ``node``, or ROOT, is a parent."""
        return [child for child, above in enumerate(self.parents) if node in above]

    @property
    def depth(self) -> Array:
        """Steps from the root to each node."""
        found: list[int] = []
        for above in self.parents:
            found.append(1 + max(0 if parent == ROOT else found[parent] for parent in above))
        return np.array(found)

    @property
    def leaves(self) -> list[int]:
        """The nodes without children."""
        return [node for node in range(len(self.names)) if not self.children(node)]


def hierarchy(kind: Kind) -> Hierarchy:
    """One of the hierarchies: *binary* of depth 3 (14 nodes), *ternary* of depth 2 (12), *uneven* with one branch of
    depth 5 and two of depth 2 (15), or *partial-order*, where 6 nodes have two parents each (11)."""
    if kind == "partial-order":
        sides = ["a", "b", "x", "y", "z"]
        pairs = list(itertools.product(range(2), range(2, 5)))
        names = (*sides, *(sides[one] + sides[other] for one, other in pairs))
        return _built(names, [*((ROOT,) for _ in sides), *pairs])
    parents: list[tuple[int, ...]] = []
    names_: list[str] = []

    def grow(above: int, called: str, shape: Sequence[Any]) -> None:
        for number, below in enumerate(shape):
            parents.append((above,))
            names_.append(called + "abc"[number])
            grow(len(parents) - 1, names_[-1], below)

    leaf: tuple[Any, ...] = ()
    pair, triple = (leaf, leaf), (leaf, leaf, leaf)
    shapes = {
        "binary": ((pair, pair), (pair, pair)),
        "ternary": (triple, triple, triple),
        "uneven": ((((pair, leaf), leaf), leaf), pair, pair),
    }
    grow(ROOT, "", shapes[kind])
    return _built(tuple(names_), parents)


def _built(names: tuple[str, ...], parents: Sequence[tuple[int, ...]]) -> Hierarchy:
    count = len(names)
    above = np.eye(count)
    for node, group in enumerate(parents):
        for parent in group:
            if parent != ROOT:
                above[node] = np.maximum(above[node], above[parent])
    has_child = {parent for group in parents for parent in group}
    table = above[[node for node in range(count) if node not in has_child]]
    return Hierarchy(names, tuple(parents), table)


def node_vectors(tree: Hierarchy, leaves: Array) -> Array:
    """The vector of each node and, last, of the root: the mean over the leaves below it.

    Args:
        leaves: (..., leaves, width) the vector of each leaf.

    Returns:
        (..., nodes + 1, width).
    """
    below = np.concatenate([tree.table, np.ones((len(tree.table), 1))], axis=1)
    found: Array = (below / below.sum(axis=0)).T @ leaves
    return found


def _cosines(one: Array, other: Array) -> Array:
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    found: Array = np.abs((one * other).sum(axis=-1)) / np.maximum(lengths, TINY)
    return found


def parent_cosines(tree: Hierarchy, vectors: Array) -> Array:
    """P1, first form: |cos(parent, child − parent)| of each node below another node, (..., pairs).

    Args:
        vectors: (..., nodes + 1, width) as `node_vectors` gives them.
    """
    pairs = [(child, parent) for child, group in enumerate(tree.parents) for parent in group if parent != ROOT]
    child, parent = np.array(pairs, dtype=int).reshape(-1, 2).T
    return _cosines(vectors[..., parent, :], vectors[..., child, :] - vectors[..., parent, :])


def offset_cosines(tree: Hierarchy, vectors: Array) -> Array:
    """P1, second form: |cos(child − parent, grandchild − its sibling)| of each two grandchildren, (..., triples).

    The root counts as a parent.
    """
    found = [
        (parent, child, *two)
        for child, group in enumerate(tree.parents)
        for parent, two in itertools.product(group, itertools.combinations(tree.children(child), 2))
    ]
    parent, child, one, other = (vectors[..., n, :] for n in np.array(found, dtype=int).reshape(-1, 4).T)
    return _cosines(child - parent, one - other)


def simplices(tree: Hierarchy, vectors: Array) -> Array:
    """P2 of every group of three siblings or more, (..., groups, 3); two are opposite by algebra, which tests nothing.

    The three numbers: the RMS deviation of the cosines between the siblings' offsets from their mean from
    −1/(n − 1), the dimensions that they span over n − 1, and the coefficient of variation of the edges' lengths.
    """
    groups = [tree.children(parent) for parent in (*range(len(tree.names)), ROOT)]
    found = [_simplex(vectors[..., group, :]) for group in groups if len(group) >= 3]
    return np.stack(found, axis=-2) if found else np.empty((*vectors.shape[:-2], 0, 3))


def _simplex(siblings: Array) -> Array:
    count = siblings.shape[-2]
    offsets = siblings - siblings.mean(axis=-2, keepdims=True)
    one, other = np.triu_indices(count, 1)
    cosines = cosine_matrix(offsets)[..., one, other]
    values = np.linalg.svd(offsets, compute_uv=False)
    edges = np.linalg.norm(offsets[..., one, :] - offsets[..., other, :], axis=-1)
    deviation = np.sqrt(((cosines + 1 / (count - 1)) ** 2).mean(axis=-1))
    rank = (values > RANK * np.maximum(values[..., :1], TINY)).sum(axis=-1) / (count - 1)
    return np.stack([deviation, rank, edges.std(axis=-1) / np.maximum(edges.mean(axis=-1), TINY)], axis=-1)


def cosine_matrix(vectors: Array) -> Array:
    """Cosines between all vectors (..., n, width), 0 for those of no length: (..., n, n)."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), TINY)
    found: Array = unit @ np.swapaxes(unit, -1, -2)
    return found
