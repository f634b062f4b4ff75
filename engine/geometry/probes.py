"""Affine probes with held-out groups: what can be read off activations, and how much of it is new.

Rows that share a group (a token history, a context, a number) are either all fitted on or all held out. Splitting rows
instead would let a probe be scored on copies of what it was fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry.errors import GeometryError

Array: TypeAlias = npt.NDArray[Any]
CUT = 1e-10  # relative size of the covariance's eigenvalues from which on a direction is fitted


@dataclass(frozen=True)
class Probe:
    """An affine map ``x @ weight + bias``: weight (inputs, targets), bias (targets,), float64."""

    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        """Predictions (rows, targets) for ``x`` (rows, inputs)."""
        return np.asarray(x.astype(np.float64, copy=False) @ self.weight + self.bias)


@dataclass(frozen=True)
class Score:
    """How well probes predict rows that they were not fitted on.

    Attributes:
        r2: 1 - (squared errors) / (squared deviations from the mean), both summed over all rows and targets; NaN
            where the targets do not vary.
        by_fold: the same for each fold, (folds,).
        predicted: (rows, targets), each row by the probe that was fitted without its fold.
    """

    r2: float
    by_fold: Array
    predicted: Array


def folds(groups: Array, count: int, random: np.random.Generator) -> Array:
    """The fold of each row, (rows,) 0 … ``count`` - 1: rows of one group (rows,) share theirs.

    Raises:
        GeometryError: there are fewer groups than folds.
    """
    distinct, index = np.unique(groups, return_inverse=True)
    if not 2 <= count <= len(distinct):
        raise GeometryError(
            f"{len(distinct)} groups cannot be shared out among {count} folds; take more data or other folds."
        )
    return np.asarray(random.permutation(np.arange(len(distinct)) % count)[index.ravel()])


def fit(x: Array, y: Array) -> Probe:
    """Least squares of ``y`` (rows, targets) on ``x`` (rows, inputs) and a constant, float64.

    Directions in which ``x`` does not vary are left out, so that inputs may depend on each other.
    """
    x, y = x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    centred = x - x_mean
    values, vectors = np.linalg.eigh(centred.T @ centred)
    kept = values > CUT * max(values[-1], 1e-300)
    used = vectors[:, kept]
    weight = used @ ((used.T @ (centred.T @ (y - y_mean))) / values[kept, None])
    return Probe(weight, y_mean - x_mean @ weight)


def predict(x: Array, y: Array, fold: Array) -> Array:
    """Cross-validated predictions of ``y``, (rows, targets): each row by a probe fitted on all other folds.

    Raises:
        GeometryError: lengths differ.
    """
    if not len(x) == len(y) == len(fold):
        raise GeometryError(f"A probe got {len(x)} inputs, {len(y)} targets and {len(fold)} folds; they have to match.")
    found = np.empty(y.shape)
    for number in np.unique(fold):
        held = fold == number
        found[held] = fit(x[~held], y[~held])(x[held])
    return found


def probe(x: Array, y: Array, fold: Array) -> Score:
    """Affine probes of ``y`` (rows, targets) from ``x`` (rows, inputs), scored on held-out folds (rows,).

    Raises:
        GeometryError: lengths differ.
    """
    predicted = predict(x, y, fold)
    target = y.astype(np.float64)
    each = [r_squared(target[fold == number], predicted[fold == number]) for number in np.unique(fold)]
    return Score(r_squared(target, predicted), np.array(each), predicted)


def r_squared(y: Array, predicted: Array) -> float:
    """R² over all rows and targets, as `Score` defines it."""
    spread = float(np.square(y - y.mean(axis=0)).sum())
    return 1 - float(np.square(y - predicted).sum()) / spread if spread > 0 else float("nan")


def beyond(x: Array, y: Array, known: Array, fold: Array) -> float:
    """Partial R²: the share of the variance that a probe on ``known`` leaves which ``x`` explains beside it.

    1 - errors(x, known) / errors(known), both affine and on held-out folds. NaN where ``known`` leaves nothing (less than
    1e-9 of the variance). One-hot ``known`` is a regression on any function of it.
    """
    target = y.astype(np.float64)
    left = float(np.square(target - predict(known, y, fold)).sum())
    if left <= 1e-9 * float(np.square(target - target.mean(axis=0)).sum()):
        return float("nan")
    both = np.concatenate([x.astype(np.float64), known.astype(np.float64)], axis=1)
    return 1 - float(np.square(target - predict(both, y, fold)).sum()) / left
