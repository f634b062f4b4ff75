"""Steerability: how far each sample is moved by a unit of strength, as a distribution, and what explains it.

The propensity m_i(λ) of sample i is log p(positive) − log p(negative) at strength λ. Its steerability s_i is the slope of
m_i over λ by least squares (Tan et al. 2024, Analyzing the Generalization and Reliability of Steering Vectors). A mean of
slopes hides samples that move the wrong way, so everything here is about the distribution.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.steering.errors import SteeringError

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Interval: TypeAlias = tuple[float, float]

RESAMPLES = 1_000  # bootstrap resamples of samples
PERMUTATIONS = 9_999  # of a factor's values over samples
FEWEST = 7  # strengths
FLAT = 0.25  # a third of the range that rises by less than this share of the steepest third has flattened
BENT = 0.1  # residual, relative to the curve's own spread, from which on a curve counts as bent at all
TOGETHER = 1 << 21  # values permuted or resampled at once


@dataclass(frozen=True)
class Slopes:
    """A least-squares line per sample through m_i(λ); all float64 (samples,).

    Attributes:
        slope: s_i, in the unit of m (nats) per unit of strength.
        intercept: the line at strength 0.
        residual: root mean square distance of m_i from its line, nats.
        relative: residual / root mean square deviation of m_i from its mean: 0 on a line, 1 where the line explains
            nothing; 0 for a sample that does not move.
        spearman: rank correlation of m_i with λ: ±1 where m_i is monotonic; NaN for a sample that does not move.
        saturated: whether m_i bends and flattens or turns at an end of the range: one of the outer thirds rises by less
            than a quarter of the steepest third.
    """

    slope: Floats
    intercept: Floats
    residual: Floats
    relative: Floats
    spearman: Floats
    saturated: Bools


@dataclass(frozen=True)
class Summary:
    """The distribution of s_i. Intervals are 95 % percentile bootstraps over samples, NaN below two, where not said otherwise.

    Attributes:
        n: samples.
        mean, sd: sd with n − 1.
        low, median, high: 10, 50 and 90 % points.
        mean_interval: of the mean.
        anti: share of samples with s_i < 0, the anti-steerable;  anti_interval: by Wilson's score, since a bootstrap of
            samples of which none is negative would have no width.
        normalised: mean / sd;  normalised_interval: its interval. NaN where all slopes are equal.
    """

    n: int
    mean: float
    sd: float
    low: float
    median: float
    high: float
    mean_interval: Interval
    anti: float
    anti_interval: Interval
    normalised: float
    normalised_interval: Interval


@dataclass(frozen=True)
class Explained:
    """How much of the variance of s_i one factor explains.

    Attributes:
        factor: its name;  levels: its values that occur;  n: samples.
        eta2: SS_between / SS_total; NaN where there is one level only or s_i does not vary.
        chance: (levels − 1) / (n − 1), what eta2 is on average where the factor explains nothing.
        p: (1 + permutations with at least this eta2) / (1 + permutations);  permutations: how many there were.
        adjusted: p by Holm for the number of factors declared.
    """

    factor: str
    levels: int
    n: int
    eta2: float
    chance: float
    p: float
    adjusted: float
    permutations: int


@dataclass(frozen=True)
class TwoWay:
    """Mean s_i by the values of two factors: ``mean``, ``sd`` and ``n`` (rows, columns), NaN where nothing is."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    mean: Floats
    sd: Floats
    n: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """How two measurements a and b of the same n samples agree.

    Attributes:
        r: Pearson correlation;  interval: its 95 % bootstrap over samples;  rank: Spearman's. NaN where one is constant.
        slope, intercept: of b on a by least squares.
    """

    n: int
    r: float
    interval: Interval
    rank: float
    slope: float
    intercept: float


def strengths(count: int = FEWEST, low: float = -1.5, high: float = 1.5) -> Floats:
    """``count`` strengths from ``low`` to ``high`` at equal distances, the one nearest to 0 being exactly 0.

    Raises:
        SteeringError: fewer than seven, or a range that does not hold 0.
    """
    if count < FEWEST:
        raise SteeringError(f"{count} strengths are too few for a slope and its residual; use at least {FEWEST}.")
    if not low < 0 < high:
        raise SteeringError(
            f"Strengths from {low:g} to {high:g} leave out 0, where nothing is changed; use a range around it, "
            "-1.5 to 1.5 for example."
        )
    found = np.linspace(low, high, count)
    inner = found[1:-1]
    inner[np.argmin(np.abs(inner))] = 0.0
    return found


def slopes(propensity: Floats, at: Floats) -> Slopes:
    """The line of each sample's propensity (samples, strengths) over the strengths ``at`` (strengths,).

    Raises:
        SteeringError: shapes differ, fewer than seven strengths, or values that are not finite.
    """
    m, at = np.asarray(propensity, dtype=np.float64), np.asarray(at, dtype=np.float64)
    _check(m, at)
    from scipy.stats import rankdata

    centred, offset = at - at.mean(), m - m.mean(axis=1, keepdims=True)
    slope = offset @ centred / (centred @ centred)
    residual = np.sqrt(np.square(offset - slope[:, None] * centred).mean(axis=1))
    spread = np.sqrt(np.square(offset).mean(axis=1))
    # A sample that does not move has differences of rounding only, which have no shape.
    moves = spread > 1e-12 * np.maximum(np.abs(m).max(axis=1), 1e-300)
    relative = np.divide(residual, spread, out=np.zeros(len(m)), where=moves)
    spearman = np.full(len(m), np.nan)
    if moves.any():
        spearman[moves] = _correlation(rankdata(m[moves], axis=1), rankdata(at)[None])
    return Slopes(
        slope, m.mean(axis=1) - slope * at.mean(), residual, relative, spearman,
        (relative > BENT) & _flattens(m, at, np.sign(slope)),
    )  # fmt: skip


def _check(m: Floats, at: Floats) -> None:
    if m.ndim != 2 or at.shape != m.shape[1:]:
        raise SteeringError(
            f"Propensities of shape {m.shape} do not fit {at.shape} strengths; give one column per strength."
        )
    if len(at) < FEWEST:
        raise SteeringError(f"{len(at)} strengths are too few for a slope and its residual; use at least {FEWEST}.")
    if not np.isfinite(m).all():
        row, column = np.argwhere(~np.isfinite(m))[0]
        raise SteeringError(
            f"The propensity of sample {row} is {m[row, column]} at strength {at[column]:g}; the intervention drives the "
            "model out of what it can compute, so use smaller strengths."
        )


def _flattens(m: Floats, at: Floats, sign: Floats) -> Bools:
    third = (len(at) - 1) // 3
    cuts = [0, third, len(at) - 1 - third, len(at) - 1]
    rise = np.stack([(m[:, b] - m[:, a]) / (at[b] - at[a]) for a, b in itertools.pairwise(cuts)], axis=1)
    ends = sign[:, None] * rise[:, [0, 2]]
    return np.asarray(ends.min(axis=1) < FLAT * np.abs(rise).max(axis=1))


def summary(slope: Floats, random: np.random.Generator, *, resamples: int = RESAMPLES) -> Summary:
    """The distribution of slopes (samples,) with bootstrap intervals over samples.

    Raises:
        SteeringError: there are no samples.
    """
    s = np.asarray(slope, dtype=np.float64)
    n = len(s)
    if n == 0:
        raise SteeringError("There are no samples to sum up; give at least one.")
    sd = float(s.std(ddof=1)) if n > 1 else float("nan")
    draws = _resampled(s, random, resamples)
    spread = draws.std(axis=1, ddof=1) if n > 1 else np.full(len(draws), np.nan)
    low, median, high = (float(point) for point in np.quantile(s, [0.1, 0.5, 0.9]))
    ratios = np.divide(draws.mean(axis=1), spread, out=np.full(len(draws), np.nan), where=spread > 0)
    anti = float((s < 0).mean())
    return Summary(
        n, float(s.mean()), sd, low, median, high,
        mean_interval=interval(draws.mean(axis=1)),
        anti=anti,
        anti_interval=wilson(anti, n),
        normalised=float(s.mean()) / sd if sd > 0 else float("nan"),
        normalised_interval=interval(ratios),
    )  # fmt: skip


def _resampled(values: Floats, random: np.random.Generator, resamples: int) -> Floats:
    """(resamples, n) draws with replacement; NaN of fewer than two values, which have no spread."""
    n = len(values)
    return values[random.integers(0, n, (resamples, n))] if n > 1 else np.full((resamples, 1), np.nan)


def wilson(share: float, n: int) -> Interval:
    """Wilson's 95 % score interval of a ``share`` of n samples (Wilson 1927); all shares where there is none."""
    if n == 0:
        return 0.0, 1.0
    z = 1.959964
    centre, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return max(float(low), 0.0), min(float(high), 1.0)


def interval(draws: Floats) -> Interval:
    """The 2.5 and 97.5 % points of bootstrap ``draws`` (resamples,); NaN where a draw has no value."""
    if not len(draws) or np.isnan(draws).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def explained(
    slope: Floats,
    factors: Mapping[str, Sequence[str]],
    random: np.random.Generator,
    *,
    permutations: int = PERMUTATIONS,
) -> list[Explained]:
    """eta² of s_i (samples,) for each factor declared, with a permutation test, adjusted by Holm for their number.

    A factor with a single level counts as declared all the same: it was one of the tries.

    Raises:
        SteeringError: a factor does not have one value per sample.
    """
    s = np.asarray(slope, dtype=np.float64)
    rows = []
    for name, values in factors.items():
        levels, groups = _levels(name, values, len(s))
        eta2 = eta_squared(s, groups, len(levels))
        p = float("nan")
        if not np.isnan(eta2):
            # Permuted samples that give the same partition differ by rounding only and count as at least as large.
            extreme = _permuted(s, groups, len(levels), random, permutations) >= eta2 - 1e-12
            p = (1 + int(extreme.sum())) / (1 + permutations)
        chance = (len(levels) - 1) / (len(s) - 1) if len(s) > 1 else float("nan")
        rows.append((name, len(levels), eta2, chance, p))
    adjusted = holm([p for *_, p in rows])
    return [
        Explained(name, levels, len(s), eta2, chance, p, high, permutations)
        for (name, levels, eta2, chance, p), high in zip(rows, adjusted, strict=True)
    ]


def eta_squared(slope: Floats, groups: npt.NDArray[np.int64], levels: int) -> float:
    """SS_between / SS_total of s (samples,) by group 0 … levels − 1; NaN for one level or without variance."""
    total = float(np.square(slope - slope.mean()).sum())
    if levels < 2 or total <= 1e-24 * max(float(np.square(slope).sum()), 1e-300):
        return float("nan")
    return float(_between((slope - slope.mean())[None], groups, levels)[0]) / total


def _between(centred: Floats, groups: npt.NDArray[np.int64], levels: int) -> Floats:
    """SS_between of each row of ``centred`` (rows, samples)."""
    member = np.zeros((len(groups), levels))
    member[np.arange(len(groups)), groups] = 1
    return np.asarray((np.square(centred @ member) / member.sum(axis=0)).sum(axis=1))


def _permuted(
    s: Floats, groups: npt.NDArray[np.int64], levels: int, random: np.random.Generator, permutations: int
) -> Floats:
    """eta² of each of so many random assignments of the slopes to the samples."""
    centred = s - s.mean()
    total, found, step = float(centred @ centred), [], max(TOGETHER // max(len(s), 1), 1)
    for start in range(0, permutations, step):
        rows = np.repeat(centred[None], min(step, permutations - start), axis=0)
        found.append(_between(random.permuted(rows, axis=1), groups, levels) / total)
    return np.concatenate(found) if found else np.empty(0)


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm 1979 for their number; one that is NaN stays so, and counts in the number."""
    values = np.asarray(p, dtype=np.float64)
    found = np.full(len(values), np.nan)
    order = [int(index) for index in np.argsort(values) if not np.isnan(values[index])]
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * float(values[index])))
        found[index] = largest
    return [float(value) for value in found]


def two_way(slope: Floats, rows: Sequence[str], columns: Sequence[str]) -> TwoWay:
    """Mean, standard deviation and number of s_i (samples,) by the values of two factors, (samples,) each.

    Raises:
        SteeringError: a factor does not have one value per sample.
    """
    s = np.asarray(slope, dtype=np.float64)
    names, across = _levels("rows", rows, len(s))
    heads, along = _levels("columns", columns, len(s))
    n = np.zeros((len(names), len(heads)), dtype=np.int64)
    mean, sd = np.full(n.shape, np.nan), np.full(n.shape, np.nan)
    for row in range(len(names)):
        for column in range(len(heads)):
            cell = s[(across == row) & (along == column)]
            n[row, column] = len(cell)
            mean[row, column] = cell.mean() if len(cell) else np.nan
            sd[row, column] = cell.std(ddof=1) if len(cell) > 1 else np.nan
    return TwoWay(names, heads, mean, sd, n)


def agreement(a: Floats, b: Floats, random: np.random.Generator, *, resamples: int = RESAMPLES) -> Agreement:
    """How ``b`` (samples,) follows ``a``: transferred slopes against their own, or slopes against m_i(0).

    Raises:
        SteeringError: lengths differ.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise SteeringError(f"{a.shape} and {b.shape} values cannot be compared; give one of each per sample.")
    n, none = len(a), float("nan")
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Agreement(n, none, (none, none), none, none, none)
    from scipy.stats import rankdata

    centred = a - a.mean()
    slope = float(centred @ (b - b.mean()) / (centred @ centred))
    chosen = random.integers(0, n, (resamples, n))
    return Agreement(
        n, float(_correlation(a[None], b[None])[0]), interval(_correlation(a[chosen], b[chosen])),
        float(_correlation(rankdata(a)[None], rankdata(b)[None])[0]), slope, float(b.mean() - slope * a.mean()),
    )  # fmt: skip


def _correlation(a: Floats, b: Floats) -> Floats:
    """Pearson's correlation of the rows of a and b; NaN where one does not vary."""
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), size, out=np.full(size.shape, np.nan), where=size > 0))


def _levels(name: str, values: Sequence[str], n: int) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The distinct values in the order in which they first come, and which of them each sample has."""
    if len(values) != n:
        raise SteeringError(f"The factor {name} has {len(values)} values for {n} samples; give one per sample.")
    index = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return tuple(index), np.array([index[value] for value in values], dtype=np.int64)
