"""Fourier analysis over an index: which frequencies a table of vectors, one per number, is made of.

Every function takes ``table`` (n, width), row a for the number a, and counts frequencies k = 1 … n // 2 in
periods per n numbers. Columns are centred first, or the constant would hide everything else.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def frequencies(n: int) -> Array:
    """The frequencies 1 … n // 2 of ``n`` numbers."""
    return np.arange(1, n // 2 + 1)


def basis(n: int, k: int) -> Array:
    """Orthonormal cosine and sine of frequency ``k`` over 0 … n - 1, (n, 2).

    (n, 1) where n is even and k is n / 2: that frequency has no sine.
    """
    angles = 2 * np.pi * k * np.arange(n) / n
    if 2 * k == n:
        return np.asarray((np.cos(angles) / np.sqrt(n))[:, None])
    return np.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.sqrt(2 / n))


def power(table: Array) -> Array:
    """Sum of squares per frequency, (n // 2,): together those of the centred table (Parseval)."""
    values = np.asarray(table, dtype=np.float64)
    values = values.reshape(len(values), -1)
    n = len(values)
    squares = (np.abs(np.fft.rfft(values - values.mean(0), axis=0)) ** 2).sum(1)[1:]
    twice = np.full(len(squares), 2.0)
    if n % 2 == 0:
        twice[-1] = 1.0
    return np.asarray(squares * twice / n)


def shares(table: Array) -> Array:
    """`power` as shares that sum to 1; zeros where all rows are equal."""
    found = power(table)
    total = found.sum()
    return np.asarray(found / total if total > 0 else found)


def shuffled_shares(table: Array, rng: np.random.Generator, count: int = 20) -> Array:
    """The control: `shares` of the same rows in random order, (count, n // 2)."""
    return np.stack([shares(rng.permutation(np.asarray(table), axis=0)) for _ in range(count)])


def gini(values: Array) -> float:
    """Gini coefficient of values ≥ 0: 0 where all are equal, towards 1 where one holds everything."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, total = len(ordered), ordered.sum()
    if total <= 0:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def plane(table: Array, k: int) -> Array:
    """Unit directions (2, width) along which the rows of ``table`` follow cosine and sine of frequency ``k``.

    (1, width) where ``k`` is half of an even number of rows, which has no sine (`basis`).

    Coordinates of a table are ``(table - table.mean(0)) @ plane.T``; numbers on a circle have cos and sin there.
    A plane chosen by the data shows a ring in noise as well: compare with the same for shuffled rows.
    """
    values = np.asarray(table, dtype=np.float64)
    directions = basis(len(values), k).T @ (values - values.mean(0))
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    return np.asarray(directions / np.maximum(lengths, 1e-30))


def around(n: int, k: int) -> Array:
    """The numbers 0 … n - 1 in the order in which frequency ``k`` has them on its circle, the first again at the end."""
    order = np.lexsort((np.arange(n), k * np.arange(n) % n))
    return np.append(order, order[0])
