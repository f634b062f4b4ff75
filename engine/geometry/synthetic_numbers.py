"""Points of numbers whose geometry is known: a helix, and the logarithm with or without an angle in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry.number_design import PERIODS, design

Array: TypeAlias = npt.NDArray[Any]


def planted_helix(
    values: Array,
    random: np.random.Generator,
    *,
    width: int = 64,
    noise: float = 0.3,
    periods: Sequence[float] = PERIODS,
) -> Array:
    """Activations (n, ``width``) float64, B(a) C plus normal noise of standard deviation ``noise``.

    B is the design of a helix (Kantamneni & Tegmark 2025) without its columns that vanish on whole numbers, C is normal.
    """
    columns = design(values, periods=periods)(values)
    mixing = random.standard_normal((columns.shape[1], width))
    return np.asarray(columns @ mixing + noise * random.standard_normal((len(values), width)))


def planted_log(
    values: Array, random: np.random.Generator, *, width: int = 16, code: float = 0.0, omega: float = 6.0
) -> Array:
    """Activations (n, ``width``) float64, log(a) c plus unit noise, and where ``code`` is not 0 an angle of log a.

    The angle is ``code`` · cos(``omega`` log a) along a direction of its own; both directions are normal. ``values`` are
    1 or larger.
    """
    u = np.log(values)
    line, turn = random.standard_normal((2, width))
    found = np.outer(u, line) + random.standard_normal((len(values), width))
    return np.asarray(found + np.outer(code * np.cos(omega * u), turn))
