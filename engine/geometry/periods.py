"""Which periods along the number line activations are made of: periodograms with and without trend, and their chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry.errors import GeometryError

Array: TypeAlias = npt.NDArray[Any]
SHUFFLES = 200
CHANCE = 0.95  # share of shuffles that have no peak at all
MOST_PEAKS = 12
FINEST = 4  # frequencies at most, in multiples of those that the numbers can tell apart


@dataclass(frozen=True)
class Peak:
    """A period that stands out: its power, that power over what chance gives on average, and its share of the variance."""

    period: float
    power: float
    ratio: float
    share: float


@dataclass(frozen=True)
class Spectrum:
    """Power along the number line.

    Attributes:
        frequencies: (f,) periods per number, above 0 and up to 1/2.
        centred: (f,) power of the centred activations, |Σ h(a) exp(-2πi f a)|² / n, averaged over the dimensions.
        detrended: (f,) the same without the straight line in a.
        band: (2, f) 2.5 % and 97.5 % of the detrended power when the numbers are shuffled; None where that was not asked for.
        family: what the largest power of all frequencies stays below in 95 % of shuffles; NaN likewise.
        expected: mean detrended power of shuffled numbers at any frequency: squares / (n - 1) / dimensions.
        peaks: periods above ``family``, strongest first; () without a band.
    """

    frequencies: Array
    centred: Array
    detrended: Array
    expected: float
    band: Array | None = None
    family: float = float("nan")
    peaks: tuple[Peak, ...] = ()

    @property
    def periods(self) -> Array:
        """(f,) numbers per period."""
        return np.asarray(1 / self.frequencies)


def grid(values: Array, periods: Sequence[float] = ()) -> Array:
    """Frequencies k / M up to 1/2 at which ``periods`` are met exactly, where whole periods allow that.

    M is the smallest multiple of the periods' common multiple that is not below the range N of the values. With N = 361 the
    period 10 lies between k = 36 and 37 of N; with M = 400 it is k = 40. Where M would exceed 4 N it is N.
    """
    length = int(values.max() - values.min()) + 1
    whole = [int(period) for period in periods if float(period).is_integer()]
    common = math.lcm(*whole) if whole else 1
    m = math.ceil(length / common) * common
    if m > FINEST * length:
        m = length
    return np.arange(1, m // 2 + 1) / m


def spectrum(
    values: Array,
    means: Array,
    random: np.random.Generator | None = None,
    *,
    periods: Sequence[float] = (),
    hamming: bool = False,
    shuffles: int = SHUFFLES,
) -> Spectrum:
    """Power of ``means`` (n, width), one row for each of the different ``values`` (n,), by frequency.

    Args:
        random: shuffles the numbers for the band; None for no band.
        periods: met exactly by the frequencies (`grid`).
        hamming: weigh the numbers with a Hamming window after centring, which narrows the feet of strong peaks.

    Raises:
        GeometryError: there are fewer than 6 values, or one of them twice.
    """
    a = np.asarray(values, dtype=np.float64)
    if len(a) < 6 or len(np.unique(a)) != len(a):
        raise GeometryError(
            f"A spectrum needs at least 6 different numbers, one row each; these are {len(a)} rows of {len(np.unique(a))}."
        )
    x = np.asarray(means, dtype=np.float64)
    x = x[np.argsort(a)]
    a = np.sort(a)
    frequencies = grid(a, periods)
    waves = np.exp(-2j * np.pi * np.outer(frequencies, a))
    if hamming:
        place = (a - a[0]) / (a[-1] - a[0])
        waves = waves * (0.54 - 0.46 * np.cos(2 * np.pi * place))
    waves /= np.sqrt(np.square(np.abs(waves[0])).mean())  # a window costs power; noise keeps its level
    centred = x - x.mean(axis=0)
    line = a - a.mean()
    detrended = centred - np.outer(line, line @ centred / (line @ line))
    expected = float(np.square(detrended).sum()) / (len(a) - 1) / x.shape[1]
    found = Spectrum(frequencies, _power(waves, centred), _power(waves, detrended), expected)
    if random is None:
        return found
    draws = _shuffled(waves, detrended, random, shuffles)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    family = float(np.quantile(draws.max(axis=1), CHANCE))
    peaks = _peaks(waves, frequencies, a, detrended, family)
    return Spectrum(frequencies, found.centred, found.detrended, expected, np.stack([low, high]), family, peaks)


def _peaks(waves: Array, frequencies: Array, a: Array, x: Array, family: float) -> tuple[Peak, ...]:
    """Periods of the detrended ``x`` (n, width) that exceed ``family``, each looked for when those before are taken out.

    What is taken out has no feet, which would count as peaks beside it; and chance is that of what is left.
    """
    left, total = x, float(np.square(x).sum())
    columns = np.stack([np.ones(len(a)), a - a.mean()], axis=1)
    found: list[Peak] = []
    while len(found) < MOST_PEAKS and columns.shape[1] <= len(a) / 2 and total > 0:
        rest = float(np.square(left).sum())
        power = _power(waves, left)
        best = int(power.argmax())
        if rest <= 1e-9 * total or power[best] <= family * rest / total:
            break
        angle = 2 * np.pi * frequencies[best] * a
        columns = np.column_stack([columns, np.cos(angle), np.sin(angle)])
        basis, singular, _ = np.linalg.svd(columns, full_matrices=False)
        basis = basis[:, singular > 1e-8 * singular[0]]
        left = x - basis @ (basis.T @ x)
        chance = rest / (len(a) - 1) / x.shape[1]
        share = (rest - float(np.square(left).sum())) / total
        found.append(Peak(float(1 / frequencies[best]), float(power[best]), float(power[best] / chance), share))
    return tuple(found)


def _power(waves: Array, x: Array) -> Array:
    return np.asarray(np.square(np.abs(waves @ x)).mean(axis=1) / len(x))


def _shuffled(waves: Array, x: Array, random: np.random.Generator, shuffles: int) -> Array:
    """(shuffles, f) power with the rows of ``x`` (n, width) in random order."""
    # Power is the sum over dimensions, which a rotation leaves: fewer dimensions do where there are fewer numbers.
    if x.shape[1] > len(x):
        squares, vectors = np.linalg.eigh(x @ x.T)
        rotated = vectors * np.sqrt(np.maximum(squares, 0))
    else:
        rotated = x
    scale = rotated.shape[1] / x.shape[1]
    real, imaginary = waves.real.astype(np.float32), waves.imag.astype(np.float32)
    rotated = rotated.astype(np.float32)
    found = np.empty((shuffles, len(waves)))
    for draw in range(shuffles):
        dealt = random.permutation(rotated, axis=0)
        power = np.square(real @ dealt).mean(axis=1) + np.square(imaginary @ dealt).mean(axis=1)
        found[draw] = power / len(x) * scale
    return found
