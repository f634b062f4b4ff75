"""Prior densities of an active latent (a > 0): fitted by maximum likelihood, evaluated, inverted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize_scalar
from scipy.special import digamma, erfinv, gammaincinv, gammaln, ndtri

Floats: TypeAlias = npt.NDArray[np.float64]
Fitted: TypeAlias = tuple[float, ...]
LEAST_EXPONENT, MOST_EXPONENT = 0.05, 20.0
TAIL = 0.05  # share of the largest activations that the tail exponent is read from


@dataclass(frozen=True)
class Family:
    """How a family of densities on a > 0 is computed; ``engine.dictionaries.densities`` says what it is.

    Attributes:
        fit: the parameters of largest likelihood for samples (n,), positive and not all equal.
        log_density: of samples, given the parameters.
        quantile: of probabilities in (0, 1), given the parameters.
    """

    fit: Callable[[Floats], Fitted]
    log_density: Callable[..., Floats]
    quantile: Callable[..., Floats]

    def nll(self, samples: Floats, fitted: Fitted) -> float:
        """Mean negative log likelihood of ``samples`` (n,) in nats."""
        return -float(np.mean(self.log_density(samples, *fitted)))


def _fit_gamma(a: Floats) -> Fitted:
    gap = np.log(np.mean(a)) - np.mean(np.log(a))
    shape = np.exp(brentq(lambda u: u - digamma(np.exp(u)) - gap, -12.0, 25.0, xtol=1e-10))
    return float(shape), float(np.mean(a) / shape)


def _log_gamma(a: Floats, shape: float, s: float) -> Floats:
    return np.asarray((shape - 1) * np.log(a) - a / s - gammaln(shape) - shape * np.log(s))


def _fit_log_normal(a: Floats) -> Fitted:
    logarithms = np.log(a)
    return float(np.mean(logarithms)), float(np.std(logarithms))


def _log_log_normal(a: Floats, mean: float, deviation: float) -> Floats:
    logarithms = np.log(a)
    standard = (logarithms - mean) / deviation
    return np.asarray(-0.5 * standard**2 - logarithms - np.log(deviation) - 0.5 * np.log(2 * np.pi))


def _powers(a: Floats, exponent: float) -> tuple[Floats, float]:
    """a^p divided by its largest value, and the logarithm of the mean of a^p: no overflow for any p."""
    logarithms = exponent * np.log(a)
    largest = float(logarithms.max())
    scaled = np.exp(logarithms - largest)
    return scaled, largest + float(np.log(np.mean(scaled)))


def _fit_weibull(a: Floats) -> Fitted:
    logarithms = np.log(a)
    mean = float(np.mean(logarithms))

    def slope(u: float) -> float:
        powers, _ = _powers(a, np.exp(u))
        return float(powers @ logarithms / powers.sum() - np.exp(-u) - mean)

    exponent = float(np.exp(brentq(slope, np.log(1e-3), np.log(1e4), xtol=1e-10)))
    return exponent, float(np.exp(_powers(a, exponent)[1] / exponent))


def _log_weibull(a: Floats, exponent: float, s: float) -> Floats:
    relative = np.log(a / s)
    return np.asarray(np.log(exponent / s) + (exponent - 1) * relative - np.exp(exponent * relative))


def _generalised_scale(a: Floats, p: float) -> float:
    """Logarithm of the best scale for exponent ``p``: s^p = p · mean(a^p)."""
    return float(np.log(p) + _powers(a, p)[1]) / p


def _fit_generalised_normal(a: Floats) -> Fitted:
    def nll(u: float) -> float:
        p = np.exp(u)
        return float(-u + _generalised_scale(a, p) + gammaln(1 / p) + 1 / p)

    p = float(np.exp(_lowest(nll, np.linspace(np.log(LEAST_EXPONENT), np.log(MOST_EXPONENT), 13))))
    return p, float(np.exp(_generalised_scale(a, p)))


def _log_generalised_normal(a: Floats, p: float, s: float) -> Floats:
    return np.asarray(np.log(p) - np.log(s) - gammaln(1 / p) - (a / s) ** p)


def _fit_half_cauchy(a: Floats) -> Fitted:
    # At the best scale, the mean of u² / (1 + u²) is one half; it falls from one to zero as s grows.
    def excess(u: float) -> float:
        squares = (a / np.exp(u)) ** 2
        return float(np.mean(squares / (1 + squares))) - 0.5

    return (float(np.exp(brentq(excess, np.log(a.min()) - 1, np.log(a.max()) + 1, xtol=1e-10))),)


def _log_half_cauchy(a: Floats, s: float) -> Floats:
    return np.asarray(np.log(2 / (np.pi * s)) - np.log1p((a / s) ** 2))


def _fit_lomax(a: Floats) -> Fitted:
    def nll(u: float) -> float:
        mean = float(np.mean(np.log1p(a / np.exp(u))))
        return float(np.log(mean)) + u + 1 + mean

    # Exponential samples drive s to infinity, where the two are the same.
    s = float(np.exp(_lowest(nll, np.log(np.median(a)) + np.linspace(-8.0, 9.0, 18))))
    return float(1 / np.mean(np.log1p(a / s))), s


def _log_lomax(a: Floats, kappa: float, s: float) -> Floats:
    return np.asarray(np.log(kappa / s) - (kappa + 1) * np.log1p(a / s))


def _lowest(function: Callable[[float], float], grid: Floats) -> float:
    """Where ``function`` is lowest: the best point of the grid, refined between its neighbours."""
    best = int(np.argmin([function(float(point)) for point in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x)


FAMILIES: dict[str, Family] = {
    "exponential": Family(
        lambda a: (float(np.mean(a)),), lambda a, s: -a / s - np.log(s), lambda q, s: -s * np.log1p(-q)
    ),
    "half_normal": Family(
        lambda a: (float(np.sqrt(np.mean(a**2))),),
        lambda a, s: 0.5 * np.log(2 / np.pi) - np.log(s) - 0.5 * (a / s) ** 2,
        lambda q, s: s * np.sqrt(2) * erfinv(q),
    ),
    "gamma": Family(_fit_gamma, _log_gamma, lambda q, shape, s: s * gammaincinv(shape, q)),
    "log_normal": Family(
        _fit_log_normal, _log_log_normal, lambda q, mean, deviation: np.exp(mean + deviation * ndtri(q))
    ),
    "weibull": Family(_fit_weibull, _log_weibull, lambda q, exponent, s: s * (-np.log1p(-q)) ** (1 / exponent)),
    "generalised_normal": Family(
        _fit_generalised_normal, _log_generalised_normal, lambda q, p, s: s * gammaincinv(1 / p, q) ** (1 / p)
    ),
    "half_cauchy": Family(_fit_half_cauchy, _log_half_cauchy, lambda q, s: s * np.tan(np.pi * q / 2)),
    "lomax": Family(_fit_lomax, _log_lomax, lambda q, kappa, s: s * np.expm1(-np.log1p(-q) / kappa)),
}


def hill(samples: Floats, share: float = TAIL) -> float:
    """Tail exponent α of P(a > t) ∝ t^−α from the largest ``share`` of ``samples`` (n,) (Hill 1975).

    NaN where that are fewer than two samples, or they are all equal.
    """
    count = int(share * len(samples))
    if count < 2:
        return float("nan")
    largest = np.sort(samples)[-count - 1 :]
    mean = float(np.mean(np.log(largest[1:] / largest[0])))
    return 1 / mean if mean > 0 else float("nan")


def usable(samples: npt.NDArray[Any]) -> bool:
    """Whether a density can be fitted: positive, finite, and not all equal."""
    return bool(len(samples) > 1 and np.isfinite(samples).all() and 0 < samples.min() < samples.max())
