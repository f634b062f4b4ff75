"""Fit functions of a number to activations: h(a) ≈ mean + B(a) C through principal components.

Kantamneni & Tegmark 2025, Language Models Use Trigonometry to Do Addition. Which numbers a fit has seen travels with it,
so that whoever uses it later (to patch activations, for example) can keep to numbers that it has not seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry.errors import GeometryError
from engine.geometry.number_design import PERIODS, RCOND, Basis, Design, design

Array: TypeAlias = npt.NDArray[Any]
DIMS = 100  # principal components that are fitted


@dataclass(frozen=True)
class Pca:
    """Principal components: ``components`` (k, width) of unit length, ``variances`` (k,), ``mean`` (width,), float64."""

    mean: Array
    components: Array
    variances: Array

    def scores(self, x: Array) -> Array:
        """Coordinates (n, k) of ``x`` (n, width)."""
        return np.asarray((np.asarray(x, dtype=np.float64) - self.mean) @ self.components.T)

    def first(self, dims: int) -> Pca:
        """The same with the first ``dims`` components only."""
        return Pca(self.mean, self.components[:dims], self.variances[:dims])


def pca(activations: Array, dims: int = DIMS) -> Pca:
    """The first components of ``activations`` (n, width), at most ``dims`` and at most their rank, float64.

    Raises:
        GeometryError: values are not finite, or all rows are equal.
    """
    x = np.asarray(activations, dtype=np.float64)
    if not np.isfinite(x).all():
        raise GeometryError("The activations hold values that are not finite; use dtype float32 or another hook point.")
    mean = x.mean(axis=0)
    centred = x - mean
    n = len(x)
    squares, components = _squares(centred)
    rank = int((squares > 1e-12 * max(squares[0], 1e-300)).sum()) if len(squares) else 0
    if rank == 0 or squares[0] <= 1e-24 * max(float(np.square(mean).sum()), 1e-300):
        raise GeometryError("All activations are equal, so there is nothing to fit; choose another hook point.")
    kept = max(min(dims, rank, n - 1), 1)
    return Pca(mean, np.ascontiguousarray(components[:kept]), np.asarray(squares[:kept] / max(n - 1, 1)))


def _squares(centred: Array) -> tuple[Array, Array]:
    """Squared singular values and right singular vectors of ``centred`` (n, width), the largest first."""
    n, width = centred.shape
    if n <= 2 * width:
        # LAPACK's divide and conquer may fail on rows of which many are equal; then the longer way serves.
        with contextlib.suppress(np.linalg.LinAlgError):
            _, singular, components = np.linalg.svd(centred, full_matrices=False)
            return singular**2, components
    squares, vectors = np.linalg.eigh(centred.T @ centred)
    return squares[::-1], vectors.T[::-1]


def pca_project(activations: Array, found: Pca, dims: int | None = None) -> Array:
    """``activations`` (n, width) as the first ``dims`` components of ``found`` give them back, (n, width) float64."""
    used = found if dims is None else found.first(dims)
    return np.asarray(used.mean + used.scores(activations) @ used.components)


@dataclass(frozen=True)
class Points:
    """Activations of numbers: ``values`` (rows,) whole, ``x`` (rows, width); several rows may have one value.

    Raises:
        GeometryError: lengths differ.
    """

    values: Array
    x: Array

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or len(self.values) != len(self.x):
            raise GeometryError(f"{len(self.values)} numbers and activations of shape {self.x.shape} do not fit.")

    @cached_property
    def distinct(self) -> Array:
        """The different values in order, (n,)."""
        return np.unique(self.values)

    @cached_property
    def index(self) -> Array:
        """Which of ``distinct`` each row has, (rows,)."""
        return np.searchsorted(self.distinct, self.values)

    @cached_property
    def counts(self) -> Array:
        """Rows of each value, (n,)."""
        return np.bincount(self.index, minlength=len(self.distinct))

    @cached_property
    def means(self) -> Array:
        """Mean activation of each value, (n, width) float64."""
        if len(self.distinct) == len(self.values):
            return np.asarray(self.x[np.argsort(self.values)], dtype=np.float64)
        sums = np.zeros((len(self.distinct), self.x.shape[1]))
        np.add.at(sums, self.index, self.x.astype(np.float64))
        return sums / self.counts[:, None]

    @cached_property
    def mean(self) -> Array:
        """Mean over all rows, (width,) float64."""
        return np.asarray(self.counts @ self.means / self.counts.sum())

    @cached_property
    def within(self) -> Array:
        """Squares around the mean of its value, summed over the rows of each value, (n,)."""
        squares = np.square(self.x.astype(np.float64) - self.means[self.index]).sum(axis=1)
        return np.bincount(self.index, weights=squares, minlength=len(self.distinct))

    @cached_property
    def squares(self) -> Array:
        """Squares around the mean of all rows, summed over the rows of each value, (n,)."""
        return np.asarray(self.within + self.counts * np.square(self.means - self.mean).sum(axis=1))

    def errors(self, predicted: Array) -> Array:
        """Squared errors of ``predicted`` (n, width), one row per distinct value, summed over its rows, (n,)."""
        return np.asarray(self.within + self.counts * np.square(self.means - predicted).sum(axis=1))

    def r_squared(self, predicted: Array) -> float:
        """1 - SSE / SST in the full space, over all rows; ``predicted`` (n, width) as in `errors`."""
        return 1 - float(self.errors(predicted).sum()) / float(self.squares.sum())

    @property
    def between(self) -> float:
        """Share of the variance that lies between numbers: what any function of the number can explain at best."""
        return 1 - float(self.within.sum()) / float(self.squares.sum())

    def of(self, values: Array) -> Points:
        """The rows of those ``values``."""
        chosen = np.isin(self.values, values)
        return Points(self.values[chosen], self.x[chosen])


@dataclass(frozen=True)
class HelixFit:
    """Activations as a function of the number, mean + B(a) C · components.

    Attributes:
        design: B.
        coefficients: C, (columns, k) float64.
        pca: the components; fitted on the rows of ``train`` only.
        train: the numbers that were fitted, in order.
        held: the numbers that were not, in order.
    """

    design: Design
    coefficients: Array
    pca: Pca
    train: Array
    held: Array

    def scores(self, values: Array) -> Array:
        """Coordinates (n, k) on the components for ``values`` (n,)."""
        return np.asarray(self.design(values) @ self.coefficients)

    def predict(self, values: Array) -> Array:
        """Activations (n, width) float64 for ``values`` (n,), also for ones that were never seen."""
        return np.asarray(self.pca.mean + self.scores(values) @ self.pca.components)

    def read(self, x: Array) -> Array:
        """The columns of B after the constant as the activations ``x`` (n, width) have them, (n, columns - 1).

        The least-squares inverse of the fit: where the fit holds, this is B(a) again. Noise gives a helix as well for numbers
        that were fitted, so read numbers that were not.
        """
        return np.asarray((self.pca.scores(x) - self.coefficients[0]) @ np.linalg.pinv(self.coefficients[1:]))

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """What a file needs to hold of it: coefficients, components, mean, train and held-out values."""
        return {
            "coefficients": self.coefficients,
            "components": self.pca.components,
            "mean": self.pca.mean,
            "train": self.train,
            "held": self.held,
        }


def fit(
    values: Array,
    activations: Array,
    *,
    basis: Basis = "helix",
    periods: Sequence[float] = PERIODS,
    degree: int = 0,
    dims: int = DIMS,
    train: Array | None = None,
) -> HelixFit:
    """Least squares of the principal coordinates of ``activations`` (rows, width) on functions of ``values`` (rows,).

    Args:
        basis, periods, degree: as in `engine.geometry.number_design.design`; the design looks at all values.
        dims: components fitted at most.
        train: the numbers to fit (all rows of them), PCA included; None for all.

    Raises:
        GeometryError: as `design` and `pca`; or none of the values is in ``train``.
    """
    points = Points(np.asarray(values), np.asarray(activations))
    return fit_points(points, design(points.distinct, basis, periods=periods, degree=degree), dims=dims, train=train)


def fit_points(
    points: Points, columns: Design, *, dims: int = DIMS, train: Array | None = None, found: Pca | None = None
) -> HelixFit:
    """`fit` with a design that is there already, and with the PCA ``found`` where it is."""
    chosen = points if train is None else points.of(train)
    if not len(chosen.values):
        raise GeometryError("None of the numbers to fit is among those that have activations; take others.")
    found = pca(chosen.x, dims) if found is None else found
    coefficients = solve(columns(chosen.distinct), found.scores(chosen.means), chosen.counts)
    return HelixFit(columns, coefficients, found, chosen.distinct, np.setdiff1d(points.distinct, chosen.distinct))


def solve(columns: Array, targets: Array, counts: Array) -> Array:
    """Least squares (q, k) of ``targets`` (n, k), means of ``counts`` (n,) rows each, on ``columns`` (n, q)."""
    # All rows of a number have the same columns, so their mean with its weight gives the same solution.
    weight = np.sqrt(counts.astype(np.float64))[:, None]
    return np.asarray(np.linalg.lstsq(columns * weight, targets * weight, rcond=RCOND)[0])
