"""What a covariance spectrum says: effective dimensions, what chance alone gives, and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from engine.geometry.covariance import Covariance, Floats, merged
from engine.geometry.errors import GeometryError

RITZ = 32  # components that span the space in which a resample's largest eigenvalues are sought


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a sample covariance, largest first, in squared units of the activations.

    Attributes:
        variances: (d,), never negative.
        components: (d, d), one unit vector a row, the sign chosen so that the largest entry is positive.
    """

    variances: Floats
    components: Floats

    @property
    def shares(self) -> Floats:
        """Share of the total variance of each component (d,); zeros where there is no variance."""
        total = self.variances.sum()
        return self.variances / total if total > 0 else np.zeros_like(self.variances)

    @property
    def participation_ratio(self) -> float:
        """(Σ λ)² / Σ λ²: d where all variances are equal, 1 where only one is not zero, NaN without variance."""
        squares = float(np.square(self.variances).sum())
        return float(self.variances.sum()) ** 2 / squares if squares > 0 else float("nan")

    def explained(self, count: int) -> float:
        """Share of the variance in the first ``count`` components."""
        return float(self.shares[:count].sum())

    def dimensions(self, share: float) -> int:
        """Fewest components that hold at least ``share`` of the variance."""
        short = int(np.count_nonzero(np.cumsum(self.shares) < share - 1e-12))
        return min(short + 1, len(self.variances))


def spectrum(covariance: Covariance) -> Spectrum:
    """Principal components of what ``covariance`` has seen."""
    variances, vectors = scipy.linalg.eigh(covariance.matrix(), overwrite_a=True, check_finite=False, driver="evd")
    components = vectors[:, ::-1].T
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return Spectrum(np.clip(variances[::-1], 0, None), components * signs[:, None])


def variances(covariance: Covariance) -> Spectrum:
    """As `spectrum`, without the components (which take most of the time)."""
    found = scipy.linalg.eigvalsh(covariance.matrix(), overwrite_a=True, check_finite=False)
    return Spectrum(np.clip(found[::-1], 0, None), np.empty((0, covariance.scatter.shape[0])))


def marchenko_pastur_edge(width: int, samples: int, variance: float = 1.0) -> float:
    """Largest eigenvalue expected of ``samples`` draws of ``width`` independent dimensions of equal ``variance``.

    The upper edge (1 + √(width / (samples − 1)))² of Marchenko and Pastur 1967; one sample is spent on the mean.
    """
    return variance * (1 + math.sqrt(width / max(samples - 1, 1))) ** 2


def marchenko_pastur(width: int, samples: int, variance: float = 1.0) -> Floats:
    """Expected sample eigenvalues (width,), largest first, of independent dimensions of equal ``variance``.

    Quantiles of the Marchenko–Pastur distribution; where there are fewer samples than dimensions, the
    eigenvalues beyond samples − 1 are zero.
    """
    freedom = max(samples - 1, 1)
    ratio = width / freedom
    centre, half = 1 + ratio, 2 * np.sqrt(ratio)
    # Over the angle θ with λ = centre + half·cos θ the density has no singular edges; θ = 0 is the largest λ.
    angle = np.linspace(0, np.pi, 8193)
    value = centre + half * np.cos(angle)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = half**2 * np.sin(angle) ** 2 / (2 * np.pi * ratio * value)
    density[~np.isfinite(density)] = 0.0  # the ends, where ratio is 1 and λ reaches zero
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(angle))])
    filled = min(width, freedom)
    places = (np.arange(filled) + 0.5) / filled
    found = np.interp(places * mass[-1], mass, value)
    return variance * np.concatenate([found, np.zeros(width - filled)])


@dataclass(frozen=True)
class Interval:
    """A 95 % bootstrap interval, and the standard deviation of the resampled values."""

    low: float
    high: float
    deviation: float


@dataclass(frozen=True)
class Resampled:
    """Intervals of three numbers of a spectrum over ``resamples`` redraws of ``groups`` groups of contexts."""

    participation_ratio: Interval
    explained_1: Interval
    explained_10: Interval
    groups: int
    resamples: int


def resample(groups: list[Covariance], components: Floats, seed: int, resamples: int = 1_000) -> Resampled | None:
    """Bootstrap over groups of contexts, without forming a covariance for each resample.

    The participation ratio of each resample is exact: with A_g the second moments of group g about the
    common mean and s_g its sum, a resample with weights w has scatter Σ w_g A_g − s sᵀ / n for s = Σ w_g s_g,
    whose trace and Frobenius norm follow from the products of A_g and s_g among each other. The largest
    eigenvalues are those within the span of the first 32 components of all data (Rayleigh–Ritz), at most
    the exact ones.

    Args:
        groups: the covariance of each group.
        components: (d, d) principal components of all groups together, largest first.

    Returns:
        None where fewer than eight groups hold data, too few to say anything.
    """
    used = [group for group in groups if group.count > 0]
    if len(used) < 8:
        return None
    whole = merged(used)
    counts = np.asarray([group.count for group in used], dtype=np.float64)
    sums = np.asarray([group.count * (group.mean - whole.mean) for group in used])
    moments = np.asarray([group.scatter for group in used])
    moments += sums[:, :, None] * (sums / counts[:, None])[:, None, :]
    basis = components[:RITZ]
    draws = np.random.default_rng([seed, 4]).multinomial(len(used), np.full(len(used), 1 / len(used)), size=resamples)
    weights = draws.astype(np.float64)

    flat = moments.reshape(len(used), -1)
    between = flat @ flat.T
    across = np.asarray([sums @ moment @ sums.T for moment in moments])
    lengths = sums @ sums.T
    total = weights @ counts
    trace = weights @ np.trace(moments, axis1=1, axis2=2)
    size = np.einsum("rg,gh,rh->r", weights, lengths, weights, optimize=True)
    frobenius = np.einsum("rg,gh,rh->r", weights, between, weights, optimize=True)
    mixed = np.einsum("rg,gij,ri,rj->r", weights, across, weights, weights, optimize=True)
    spread = trace - size / total
    squares = frobenius - 2 * mixed / total + np.square(size / total)

    small = np.einsum("qi,gij,pj->gqp", basis, moments, basis, optimize=True)
    offset = (weights @ (sums @ basis.T)) / np.sqrt(total)[:, None]
    reduced = np.tensordot(weights, small, axes=1) - offset[:, :, None] * offset[:, None, :]
    largest = np.linalg.eigvalsh(reduced)[:, ::-1]
    one, ten = largest[:, 0] / spread, largest[:, :10].sum(axis=1) / spread
    return Resampled(_interval(spread**2 / squares), _interval(one), _interval(ten), len(used), resamples)


def _interval(values: Floats) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high), float(values.std(ddof=1)))


def demand_variance(covariance: Covariance, hook: str) -> None:
    """Raise unless there are at least two rows that differ.

    Raises:
        GeometryError: fewer than two rows, or all rows are equal.
    """
    if covariance.count < 2:
        raise GeometryError(
            f"Only {covariance.count} activation of {hook} counts, but a spectrum needs at least 2; "
            "use more tokens or include special tokens."
        )
    if not np.trace(covariance.scatter) > 0:
        raise GeometryError(
            f"All {covariance.count:,} activations of {hook} are equal, so there is no variance to take apart; "
            "choose another hook point."
        )
