"""Bilinear layers in closed form: each output of ``P((Lx) * (Rx))`` is a quadratic form of the input.

After Pearce, Dooms, Rigg, Oramas & Sharkey 2024, "Bilinear MLPs enable weight-based mechanistic interpretability".
All sums in float64, in numpy: nothing here is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def interactions(left: Array, right: Array, out: Array, embed: Array | None = None) -> Array:
    """The symmetric matrices Q (outputs, inputs, inputs) with ``y_o = x^T Q_o x`` exactly.

    ``Q_o = sum_h out_ho (l_h r_h^T + r_h l_h^T) / 2``. An embedding before the layer is folded in: ``E Q E^T``.

    Args:
        left, right: (d, hidden), the two factors; a constant 1 in the input carries all lower orders.
        out: (hidden, outputs).
        embed: (inputs, d), or None where the layer reads the input itself.
    """
    first, second = (np.asarray(factor, np.float64) for factor in (left, right))
    if embed is not None:
        first, second = np.asarray(embed, np.float64) @ first, np.asarray(embed, np.float64) @ second
    whole = np.stack([(first * weight) @ second.T for weight in np.asarray(out, np.float64).T])
    found: Array = (whole + whole.transpose(0, 2, 1)) / 2
    return found


def forms(matrices: Array, x: Array) -> Array:
    """``x^T Q_o x`` for each sample and output: (samples, outputs)."""
    return np.stack([((x @ matrix) * x).sum(axis=1) for matrix in matrices], axis=1)


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (outputs, n) of symmetric matrices by falling magnitude, and eigenvectors (outputs, n, inputs).

    A vector's sign means nothing, since an output is ``sum_i values_i (vectors_i . x)^2``.
    """

    values: Array
    vectors: Array

    def kept(self, x: Array, most: int) -> Array:
        """The outputs with 0, 1, … ``most`` eigenvectors of each kept: (most + 1, samples, outputs)."""
        terms = self.values[:, :most, None] * (self.vectors[:, :most] @ x.T) ** 2
        sums = np.cumsum(terms, axis=1).transpose(1, 2, 0)
        return np.concatenate([np.zeros((1, *sums.shape[1:])), sums])


def spectrum(matrices: Array) -> Spectrum:
    """Eigenvalues and eigenvectors of ``matrices`` (outputs, inputs, inputs)."""
    values, vectors = np.linalg.eigh(matrices)
    order = np.argsort(-np.abs(values), axis=1, kind="stable")
    return Spectrum(
        np.take_along_axis(values, order, axis=1),
        np.take_along_axis(vectors.transpose(0, 2, 1), order[:, :, None], axis=1),
    )


def signed(values: Array) -> Array:
    """Eigenvalues (…, n) divided by their root sum of squares, falling: spectra of unequal size become comparable."""
    norm = np.linalg.norm(values, axis=-1, keepdims=True)
    found: Array = -np.sort(-values / np.where(norm > 0, norm, 1), axis=-1)
    return found


def effective_rank(values: Array) -> Array:
    """``(sum |v|)^2 / sum v^2`` over the last axis: how many eigenvalues of equal size would weigh as much."""
    squares = (values**2).sum(axis=-1)
    found: Array = np.abs(values).sum(axis=-1) ** 2 / np.where(squares > 0, squares, 1)
    return found


def tensor_spectrum(matrices: Array) -> tuple[Array, Array]:
    """Higher-order SVD of the whole layer over its outputs.

    The tensor (outputs, i, j) is laid out as (outputs, pairs i <= j) with entries off the diagonal weighted by
    the root of 2, which keeps its norm.

    Returns:
        Singular values, falling, and the output directions (outputs, n) that belong to them.
    """
    rows, columns = np.triu_indices(matrices.shape[1])
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0))
    directions, values, _ = np.linalg.svd(matrices[:, rows, columns] * weight, full_matrices=False)
    return values, directions


def canonical(matrices: Array) -> Array:
    """Of all matrices that say the same on n bits and a constant 1 (last), the one without products of bit and constant.

    For a bit x² = x, so of (outputs, n + 1, n + 1) only ``Q_ii + 2 Q_i1`` is determined: it stands on the diagonal.
    """
    found = np.array(matrices, dtype=np.float64)
    bits = np.arange(matrices.shape[1] - 1)
    found[:, bits, bits] += 2 * found[:, bits, -1]
    found[:, bits, -1] = found[:, -1, bits] = 0.0
    return found


def coefficients(matrices: Array) -> Array:
    """Coefficients of the monomials: ``Q_ii`` of x_i², and ``2 Q_ij`` of the product x_i x_j."""
    found = 2.0 * matrices
    axis = np.arange(matrices.shape[1])
    found[:, axis, axis] /= 2
    return found
