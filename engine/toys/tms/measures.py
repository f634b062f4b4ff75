"""How weights W store features: norms, dimensionality, superposition and the polytopes they form.

Definitions of Elhage et al. 2022. W is (..., hidden, features): column i is the direction of feature i. Plain numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
TINY = 1e-9
REPRESENTED = 0.5  # norm from which on a feature counts as stored
TOUCHING = 0.2  # cosine from which on two features are of one polytope
OPPOSITE = -0.9  # cosine of an antipodal pair
CLOSE = 0.04  # how near a mean dimensionality has to be to that of a polytope
# Features of a polytope and their dimensionality: dimensions shared out among them.
POLYTOPES = {
    "triangle": (3, 2 / 3),
    "tetrahedron": (4, 3 / 4),
    "pentagon": (5, 2 / 5),
    "square antiprism": (8, 3 / 8),
}
GUIDES = {
    "alone": 1.0,
    "tetrahedron": 3 / 4,
    "triangle": 2 / 3,
    "antipodal pair": 1 / 2,
    "pentagon": 2 / 5,
    "square antiprism": 3 / 8,
}


@dataclass(frozen=True)
class Measures:
    """Of each feature.

    Attributes:
        norms: |W_i|.
        dimensionality: D_i = |W_i|² / Σ_j (Ŵ_i · W_j)², between 0 and 1.
        superposition: S_i = Σ_{j≠i} (Ŵ_i · W_j)², 0 for a feature that shares its direction with none.
        dimensions: hidden / |W|²_F of each W: dimensions per feature.
    """

    norms: Array
    dimensionality: Array
    superposition: Array
    dimensions: Array

    @property
    def represented(self) -> Array:
        """Which features are stored."""
        return self.norms > REPRESENTED


def measure(weights: Array) -> Measures:
    """Measures of W (..., hidden, features), in float64."""
    w = np.asarray(weights, dtype=np.float64)
    norms = np.linalg.norm(w, axis=-2)
    unit = w / (norms + TINY)[..., None, :]
    # Σ_j (Ŵ_i · W_j)² = Ŵ_iᵀ W Wᵀ Ŵ_i, without a table of features by features.
    total = (unit * (w @ np.swapaxes(w, -1, -2) @ unit)).sum(axis=-2)
    own = (unit * w).sum(axis=-2) ** 2
    squares = norms**2
    return Measures(
        norms=norms,
        dimensionality=squares / (total + TINY),
        superposition=np.maximum(total - own, 0.0),
        dimensions=w.shape[-2] / (squares.sum(axis=-1) + TINY),
    )


def gaps(weights: Array) -> Array:
    """Angles in degrees between neighbouring stored features of W (2, features), around the circle."""
    w = np.asarray(weights, dtype=np.float64)[:, measure(weights).represented]
    angles = np.sort(np.degrees(np.arctan2(w[1], w[0])))
    found: Array = np.diff(np.append(angles, angles[0] + 360)) if angles.size else angles
    return found


def shapes(weights: Array) -> list[tuple[str, tuple[int, ...]]]:
    """The polytopes of W (hidden, features) with the features of each, from the largest to the smallest.

    Stored features belong together where they are joined by cosines beyond `TOUCHING`; a group is named by its size
    and its mean dimensionality. Features that are not stored are left out.
    """
    w = np.asarray(weights, dtype=np.float64)
    found = measure(w)
    stored = np.flatnonzero(found.represented)
    unit = w[:, stored] / found.norms[stored]
    cosines = unit.T @ unit
    groups = _components(np.abs(cosines) > TOUCHING)
    named = []
    for group in groups:
        members = stored[group]
        mean = float(found.dimensionality[members].mean())
        named.append((_name(cosines[np.ix_(group, group)], mean), tuple(int(member) for member in members)))
    return sorted(named, key=lambda one: (-len(one[1]), one[1]))


def _components(joined: Array) -> list[list[int]]:
    left, groups = set(range(len(joined))), []
    while left:
        group, edge = set(), {min(left)}
        while edge:
            group |= edge
            edge = {int(n) for member in edge for n in np.flatnonzero(joined[member])} - group
        left -= group
        groups.append(sorted(group))
    return groups


def _name(cosines: Array, dimensionality: float) -> str:
    size = len(cosines)
    if size == 1:
        return "alone"
    if size == 2:
        return "antipodal pair" if cosines[0, 1] < OPPOSITE else "pair"
    for name, (members, expected) in POLYTOPES.items():
        if size == members and abs(dimensionality - expected) < CLOSE:
            return name
    return f"group of {size}"


def described(weights: Array) -> str:
    """The polytopes of W in words: "2 × antipodal pair, alone"."""
    names = [name for name, _ in shapes(weights)]
    counted = {name: names.count(name) for name in names}
    return ", ".join(f"{count} × {name}" if count > 1 else name for name, count in counted.items()) or "none stored"
