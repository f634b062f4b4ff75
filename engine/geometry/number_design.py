"""The columns on which activations of numbers are regressed: helix, circle, straight line, polynomial, digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry.errors import GeometryError

Array: TypeAlias = npt.NDArray[Any]
Basis: TypeAlias = Literal["helix", "circle", "linear", "polynomial", "last digit", "digits"]
PERIODS = (2.0, 5.0, 10.0, 100.0)
VANISHING = 1e-9  # of a column whose other values are of size 1
RCOND = 1e-8
FEWEST = 6  # values, below which there is nothing to fit


@dataclass(frozen=True)
class Design:
    """A function B(a) of numbers; make one with `design`.

    Attributes:
        basis: which.
        periods: T of the cosines and sines; () without.
        scale: what the linear column is divided by, the largest absolute value.
        low, high: the range of values, which a polynomial has on [-1, 1].
        degree: of the polynomial; 0 without.
        names: of the columns, the constant "1" first.
        dropped: columns left out because they are 0 at every value.
    """

    basis: Basis
    periods: tuple[float, ...]
    scale: float
    low: float
    high: float
    degree: int
    names: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    def __call__(self, values: Array) -> Array:
        """Columns (n, columns) float64 for ``values`` (n,)."""
        a = np.asarray(values, dtype=np.float64)
        if self.basis == "polynomial":
            # Chebyshev on [-1, 1]: raw powers up to 99⁹ have no digits left to fit with.
            x = 2 * (a - self.low) / (self.high - self.low) - 1
            return np.asarray(np.polynomial.chebyshev.chebvander(x, self.degree))
        columns = (
            _digits(a, self.basis, self.high) if self.by_digits else _columns(a, self.basis, self.periods, self.scale)
        )
        return np.stack([columns[name] for name in self.names], axis=1)

    @property
    def by_digits(self) -> bool:
        """Whether the columns say which digits a number has."""
        return self.basis in ("last digit", "digits")

    @property
    def columns(self) -> int:
        """Number of columns q, the constant included: parameters per dimension."""
        return len(self.names)


def design(
    values: Array,
    basis: Basis = "helix",
    *,
    periods: Sequence[float] = PERIODS,
    degree: int = 0,
    keep_vanishing: bool = False,
) -> Design:
    """The design for ``values`` (n,), all of those that the model will be used on.

    helix: [1, a / a_max, cos(2πa/T), sin(2πa/T) for each T]; circle: without the linear column; linear: [1, a / a_max];
    polynomial: Chebyshev of ``degree`` over the range of the values; last digit: a column for each; digits: a column for each
    digit at each place, and for none there (Levy & Geva 2024, Language Models Encode Numbers Using Digit Representations).

    Columns that are 0 at every value are left out: sin(2πa/2) is 1e-14 on whole numbers, and a solver would put 1e13 of it on
    noise. ``keep_vanishing`` keeps them, to see that.

    Raises:
        GeometryError: the values are all equal, a period is not above 0, or there is no degree.
    """
    a = np.asarray(values, dtype=np.float64)
    if len(a) == 0 or a.min() == a.max():
        raise GeometryError("All numbers are equal, so nothing can be fitted to them; take more numbers.")
    wrong = [period for period in periods if not period > 0]
    if wrong:
        raise GeometryError(f"A period of {wrong[0]:g} is not above 0; choose periods such as 2, 5, 10 and 100.")
    scale, low, high = float(np.abs(a).max()), float(a.min()), float(a.max())
    if basis == "polynomial":
        if degree < 1:
            raise GeometryError(f"A polynomial of degree {degree} is constant; choose a degree of at least 1.")
        named = tuple("1" if k == 0 else f"Chebyshev {k}" for k in range(degree + 1))
        return Design(basis, (), scale, low, high, degree, named)
    if basis in ("last digit", "digits"):
        return Design(basis, (), scale, low, high, 0, tuple(_digits(a, basis, high)))
    used = () if basis == "linear" else tuple(dict.fromkeys(float(period) for period in periods))
    columns = _columns(a, basis, used, scale)
    vanishing = [name for name, column in columns.items() if np.abs(column).max() < VANISHING]
    dropped = () if keep_vanishing else tuple(vanishing)
    return Design(basis, used, scale, low, high, 0, tuple(name for name in columns if name not in dropped), dropped)


def _columns(a: Array, basis: Basis, periods: Sequence[float], scale: float) -> dict[str, Array]:
    columns = {"1": np.ones(len(a))}
    if basis != "circle":
        columns["a"] = a / scale
    for period in periods:
        angle = 2 * np.pi * a / period
        columns[f"cos {period:g}"], columns[f"sin {period:g}"] = np.cos(angle), np.sin(angle)
    return columns


def _digits(a: Array, basis: Basis, high: float) -> dict[str, Array]:
    whole = np.abs(a).astype(np.int64)
    columns = {"1": np.ones(len(a))}
    for place in range(1 if basis == "last digit" else len(str(int(high)))):
        digit = whole // 10**place % 10
        there = (whole >= 10**place) | (place == 0)
        columns |= {f"{10**place}s digit {k}": ((digit == k) & there).astype(np.float64) for k in range(10)}
        if place:
            columns[f"{10**place}s digit none"] = (~there).astype(np.float64)
    return columns


@dataclass(frozen=True)
class Conditioning:
    """How well a design can be solved: condition number (largest over smallest singular value) and effective rank."""

    number: float
    rank: int


def conditioning(columns: Array) -> Conditioning:
    """Condition number of ``columns`` (n, q), and how many singular values exceed 1e-8 of the largest."""
    singular = np.linalg.svd(np.asarray(columns, dtype=np.float64), compute_uv=False)
    smallest = float(singular[-1])
    number = float(singular[0]) / smallest if smallest > 0 else float("inf")
    return Conditioning(number, int((singular > RCOND * singular[0]).sum()))


def resolved(values: Array, periods: Sequence[float], share: float = 0.75, held: float = 0.2) -> tuple[float, ...]:
    """Those of ``periods`` that ``values`` can tell, in their order.

    A period longer than the range of the values is no period there. What is left is shortened from the longest until the helix
    has no more columns than ``share`` of the numbers that are fitted, a share ``held`` of all being held out.

    Raises:
        GeometryError: there are fewer than 6 values.
    """
    distinct = np.unique(np.asarray(values))
    if len(distinct) < FEWEST:
        raise GeometryError(
            f"{len(distinct)} different numbers are too few to fit a helix; at least {FEWEST} are needed. Take numbers "
            "of several tokens, or a model that has more."
        )
    range_ = float(distinct[-1] - distinct[0]) + 1
    found = [period for period in dict.fromkeys(float(period) for period in periods) if period <= range_]
    most = share * (1 - held) * len(distinct)
    while found and design(distinct, periods=found).columns > most:
        found.remove(max(found))
    return tuple(found)
