"""Which prior fits latents best on samples it has not seen, and whether latents are independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from engine.dictionaries.densities import DENSITIES
from engine.dictionaries.priors import FAMILIES, Fitted, hill

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]
RESAMPLES = 1_000
MOST_PAIRS = 200


@dataclass(frozen=True)
class LatentFit:
    """One latent's activations against every family, in units of their own median.

    Attributes:
        latent: its number.
        count: positive samples, half of which were fitted and half scored.
        active: activations on which it is active, all of which or some of which are the samples.
        unit: the median of the fitted half, in units of the latent.
        nll: by family, mean negative log likelihood of the half held out, in nats.
        aic, bic: by family, Akaike's and Bayes' criterion of the fitted half.
        fitted: parameters by family.
        tail: Hill's tail exponent of all samples.
    """

    latent: int
    count: int
    active: int
    unit: float
    nll: dict[str, float]
    aic: dict[str, float]
    bic: dict[str, float]
    fitted: dict[str, Fitted]
    tail: float

    @property
    def winner(self) -> str:
        """The family with the lowest held-out negative log likelihood."""
        return min(self.nll, key=self.nll.__getitem__)


def fit_latent(latent: int, samples: Array, active: int, generator: np.random.Generator) -> LatentFit:
    """Fit every family to a random half of ``samples`` (n,), positive and not all equal, and score it on the rest."""
    shuffled = generator.permutation(samples.astype(np.float64))
    half = len(shuffled) // 2
    unit = float(np.median(shuffled[:half]))
    train, test = shuffled[:half] / unit, shuffled[half:] / unit
    nll, aic, bic, found = {}, {}, {}, {}
    for name, family in FAMILIES.items():
        found[name] = family.fit(train)
        parameters = len(found[name])
        nll[name] = family.nll(test, found[name])
        twice = 2 * half * family.nll(train, found[name])
        aic[name] = twice + 2 * parameters
        bic[name] = twice + np.log(half) * parameters
    return LatentFit(latent, len(samples), active, unit, nll, aic, bic, found, hill(samples))


@dataclass(frozen=True)
class Mean:
    """A mean over latents with its 95 % bootstrap interval, standard deviation and number."""

    value: float
    low: float
    high: float
    deviation: float
    count: int


def mean_over_latents(values: Sequence[float], seed: int) -> Mean:
    """Mean of ``values``, one a latent, from as many resamples of latents as `RESAMPLES` says; NaN are left out."""
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    count = len(found)
    if count == 0:
        return Mean(np.nan, np.nan, np.nan, np.nan, 0)
    draws = np.random.default_rng([seed, 11]).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    low, high = np.percentile(draws @ found / count, [2.5, 97.5])
    deviation = float(np.std(found, ddof=1)) if count > 1 else float("nan")
    return Mean(float(found.mean()), float(low), float(high), deviation, count)


@dataclass(frozen=True)
class Ranking:
    """All fitted latents, and means over them by family."""

    fits: tuple[LatentFit, ...]
    seed: int

    def nll(self, family: str) -> Mean:
        """Held-out negative log likelihood in nats, each latent in units of its median."""
        return mean_over_latents([fit.nll[family] for fit in self.fits], self.seed)

    def behind(self, family: str) -> Mean:
        """By how many nats the family is behind the best one of each latent."""
        return mean_over_latents([fit.nll[family] - min(fit.nll.values()) for fit in self.fits], self.seed)

    def delta(self, criterion: str, family: str) -> float:
        """Mean over latents of AIC or BIC (``aic``, ``bic``) minus that of the latent's best family."""
        values = [getattr(fit, criterion) for fit in self.fits]
        return float(np.mean([value[family] - min(value.values()) for value in values]))

    def wins(self, family: str) -> int:
        """Latents that the family fits best."""
        return sum(fit.winner == family for fit in self.fits)

    def parameter(self, family: str, place: int) -> float:
        """Median over latents of one fitted parameter."""
        return float(np.median([fit.fitted[family][place] for fit in self.fits]))

    def length(self, total: int) -> float:
        """Σ over latents of how often each is active times its best family's negative log likelihood: nats/activation.

        Args:
            total: activations seen.
        """
        return sum(fit.active * min(fit.nll.values()) for fit in self.fits) / total

    @cached_property
    def order(self) -> list[str]:
        """Families, the one with the lowest mean first."""
        return sorted(FAMILIES, key=lambda name: self.nll(name).value)

    @property
    def best_penalty(self) -> str:
        """The family with the lowest mean among those that a penalty of ``train-dictionary`` stands for.

        A generalised normal counts where its exponent is below 1: lp is made for that, and l1 is p = 1.
        """
        convex = self.parameter("generalised_normal", 0) >= 1
        left_out = "generalised_normal" if convex else ""
        return next(name for name in self.order if DENSITIES[name].trains and name != left_out)


@dataclass(frozen=True)
class Pairs:
    """Latents that are most often active together, against independence.

    Attributes:
        first, second: (pairs,) numbers of the latents.
        together: (pairs,) activations on which both are active.
        expected: (pairs,) how many there would be if they were independent.
        odds: (pairs,) odds ratio, one half added to each count: below 1 they exclude each other.
        low, high: (pairs,) 95 % interval of it (Woolf 1955).
        information: (pairs,) mutual information of the two being active, in nats.
        entropy: Σ over all latents of the entropy of being active, in nats per activation: what a prior of
            independent latents pays for saying which are active.
        saved: nats per activation that knowing these pairs saves: the largest sum of information over pairs
            that form no cycle (Chow & Liu 1968).
    """

    first: Array
    second: Array
    together: Array
    expected: Floats
    odds: Floats
    low: Floats
    high: Floats
    information: Floats
    entropy: float
    saved: float

    @property
    def exclusive(self) -> float:
        """Share of the pairs whose odds ratio is below 1; NaN without pairs."""
        return float(np.mean(self.odds < 1)) if len(self.odds) else float("nan")


def pairs(latents: Array, both: Array, total: int, most: int = MOST_PAIRS) -> Pairs:
    """The pairs most often active together.

    Args:
        latents: (n,) numbers of the latents.
        both: (n, n) activations on which two are active; on the diagonal, on which one is.
        total: activations.
        most: pairs at most; those never active together are left out.
    """
    rows, columns = np.triu_indices(len(latents), k=1)
    order = np.argsort(-both[rows, columns], kind="stable")[:most]
    order = order[both[rows, columns][order] > 0]
    rows, columns = rows[order], columns[order]
    single = np.diag(both).astype(np.float64)
    n11 = both[rows, columns].astype(np.float64)
    n10, n01 = single[rows] - n11, single[columns] - n11
    n00 = total - n11 - n10 - n01
    logarithm = np.log((n11 + 0.5) * (n00 + 0.5) / ((n10 + 0.5) * (n01 + 0.5)))
    reach = 1.96 * np.sqrt(sum(1 / (n + 0.5) for n in (n11, n10, n01, n00)))
    table = np.stack([n11, n10, n01, n00])
    information = _entropy(single[rows] / total) + _entropy(single[columns] / total) - _joint_entropy(table / total)
    information = np.maximum(information, 0)
    tree = minimum_spanning_tree(coo_array((-information - 1e-12, (rows, columns)), shape=both.shape).tocsr())
    return Pairs(
        latents[rows], latents[columns], both[rows, columns], single[rows] * single[columns] / total,
        np.exp(logarithm), np.exp(logarithm - reach), np.exp(logarithm + reach), information,
        float(_entropy(single / total).sum()), float(max(-tree.sum(), 0)),
    )  # fmt: skip


def _entropy(share: Floats) -> Floats:
    return _joint_entropy(np.stack([share, 1 - share]))


def _joint_entropy(shares: Floats) -> Floats:
    """Entropy in nats over the first axis."""
    return np.asarray(-np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)), axis=0))
