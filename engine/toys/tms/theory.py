"""Which solution of a small toy is best, by quadrature: no training, no chance (Elhage et al. 2022, phase change).

Two features in one dimension, or three in two, the last with another importance than the others. Each candidate W
has columns of norm 1 or of another common scale; the bias that is best for it and the expected loss follow from
integrals over the features, which are 0 with probability 1 − p and U(0, 1) else. Plain numpy, float64.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
NODES = {2: 24, 3: 12}  # Gauss-Legendre nodes of each active feature
BIASES = np.linspace(-1.0, 1.0, 161)
SCALES = np.array([0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2])
ABSENT, ALONE, SUPERPOSED = 0, 1, 2
KINDS = ("not stored", "a dimension of its own", "superposed")


@dataclass(frozen=True)
class Candidate:
    """A solution: its columns (hidden, features) at scale 1, and what becomes of the last feature in it."""

    name: str
    weights: Array
    kind: int


@dataclass(frozen=True)
class Best:
    """The best candidate of each cell (importances, densities).

    Attributes:
        number: of the candidate; ``kind`` what becomes of the last feature; ``loss`` its expected loss.
        weights: (importances, densities, hidden, features).
    """

    number: Array
    kind: Array
    loss: Array
    weights: Array


def candidates(features: int) -> tuple[Candidate, ...]:
    """The solutions that compete for 2 features in 1 dimension, or 3 in 2."""
    if features == 2:
        return (
            Candidate("last not stored", np.array([[1.0, 0.0]]), ABSENT),
            Candidate("only the last", np.array([[0.0, 1.0]]), ALONE),
            Candidate("antipodal pair", np.array([[1.0, -1.0]]), SUPERPOSED),
        )
    x, y, none = np.eye(2)[0], np.eye(2)[1], np.zeros(2)
    turned = [np.array([np.cos(angle), np.sin(angle)]) for angle in (0, 2 * np.pi / 3, 4 * np.pi / 3)]
    columns = (
        ("last not stored", (x, y, none), ABSENT),
        ("others antipodal, last not stored", (x, -x, none), ABSENT),
        ("last and first alone", (x, none, y), ALONE),
        ("others antipodal, last alone", (x, -x, y), ALONE),
        ("last antipodal to one", (x, y, -y), SUPERPOSED),
        ("triangle", tuple(turned), SUPERPOSED),
    )
    return tuple(Candidate(name, np.stack(parts, axis=1), kind) for name, parts, kind in columns)


def quadrature(features: int, density: Array) -> tuple[Array, Array]:
    """Points (features, points) and their weights (densities, points): expectations are weighted sums."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES[features])
    nodes, weights = (nodes + 1) / 2, weights / 2
    points, found = [], []
    p = np.asarray(density, dtype=np.float64)
    for active in itertools.product((False, True), repeat=features):
        axes = [nodes if on else np.zeros(1) for on in active]
        scales = [weights if on else np.ones(1) for on in active]
        points.append(np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")]))
        product = np.prod(np.stack([grid.ravel() for grid in np.meshgrid(*scales, indexing="ij")]), axis=0)
        count = sum(active)
        found.append((p**count * (1 - p) ** (features - count))[:, None] * product)
    return np.concatenate(points, axis=1), np.concatenate(found, axis=1)


def errors(weights: Array, density: Array) -> tuple[Array, Array]:
    """Expected squared error of each feature with the best bias, (densities, features), and those biases.

    Args:
        weights: W (hidden, features).
    """
    features = weights.shape[1]
    points, probability = quadrature(features, density)
    before = weights.T @ (weights @ points)  # (features, points)
    found = np.empty((2, len(density), features))
    for feature in range(features):
        outputs = np.maximum(before[feature] + BIASES[:, None], 0)
        expected = probability @ ((outputs - points[feature]) ** 2).T
        best = expected.argmin(axis=1)
        found[0, :, feature] = expected[np.arange(len(best)), best]
        found[1, :, feature] = BIASES[best]
    return found[0], found[1]


def best(features: int, density: Array, importance: Array) -> Best:
    """The candidate with the lowest expected loss for each importance of the last feature and each density."""
    choices = [(number, scale) for number in range(len(candidates(features))) for scale in SCALES]
    losses = np.empty((len(choices), len(importance), len(density)))
    for place, (number, scale) in enumerate(choices):
        found, _ = errors(candidates(features)[number].weights * scale, density)
        others = found[:, :-1].sum(axis=1)
        losses[place] = (others + np.asarray(importance)[:, None] * found[:, -1]) / features
    place = losses.argmin(axis=0)
    table = np.stack([candidates(features)[number].weights * scale for number, scale in choices])
    number = np.array([number for number, _ in choices])[place]
    kind = np.array([candidate.kind for candidate in candidates(features)])[number]
    return Best(number, kind, losses.min(axis=0), table[place])


def expected_losses(weights: Array, bias: Array, importance: Array, density: Array) -> Array:
    """Expected loss of models that are given, (models,), by the same quadrature.

    Args:
        weights: W (models, hidden, features);  bias, importance: (models, features);  density: (models,).
    """
    known, place = np.unique(density, return_inverse=True)
    points, probability = quadrature(weights.shape[2], known)
    found = np.empty(len(weights))
    for number, p in enumerate(probability):
        here = np.flatnonzero(place == number)
        w, b = weights[here], bias[here][:, :, None]
        errors = np.maximum(np.swapaxes(w, 1, 2) @ (w @ points) + b, 0)
        errors -= points
        np.square(errors, out=errors)
        found[here] = (errors @ p * importance[here]).sum(axis=1) / len(points)
    return found


def borders(kind: Array) -> Array:
    """Cells of a map that touch one of another kind, corners included."""
    padded = np.pad(kind, 1, mode="edge")
    rows, columns = kind.shape
    found = np.zeros(kind.shape, dtype=bool)
    for down, right in itertools.product(range(3), repeat=2):
        found |= padded[down : down + rows, right : right + columns] != kind
    return found
