"""How well a helix fits numbers, beside what less can do: held-out numbers, shuffled numbers, other bases of equal size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry import probes
from engine.geometry.helix import DIMS, HelixFit, Pca, Points, fit_points, pca, pca_project, solve
from engine.geometry.number_design import PERIODS, Conditioning, Design, conditioning, design

Array: TypeAlias = npt.NDArray[Any]
FOLDS = 5  # a fifth of the numbers held out each time
DRAWS = 20  # shuffles, and sets of random periods
RESAMPLES = 1_000
ENOUGH_FOR_DIGITS = 30  # numbers, below which a digit that is held out is hardly seen elsewhere
SHORTEST, LONGEST = 2.0, 100.0  # random periods are drawn between these


@dataclass(frozen=True)
class Score:
    """An R² of numbers that were held out, with its 95 % range: over resampled numbers, or over draws."""

    r2: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """A helix and its controls on one set of points.

    Attributes:
        fit: the helix, fitted on the numbers outside the first fold, which it names as held out.
        in_sample: R² with all numbers fitted, by basis: helix, circle, linear, polynomial, last digit, digits, PCA.
        held: R² of numbers held out in turn (5 folds), by basis; "random periods" is the mean of 20 draws.
        shuffled: R² (20,) of the helix with all numbers fitted after the numbers were shuffled.
        noise: what noise gives in place of that, (q - 1) / (n - 1) of the variance between numbers.
        between: share of the variance between numbers, the most that a function of the number can explain.
        by_component: R² of each principal component with all numbers fitted, (k,).
        variances: of these components, (k,).
        errors: by basis the squared error of each number's rows, by a fit that has not seen it, (n,).
        read: (n, q - 1) the columns of the design as each number's mean activation has them, by such a helix.
        conditioning: of the design.
    """

    fit: HelixFit
    in_sample: dict[str, float]
    held: dict[str, Score]
    shuffled: Array
    noise: float
    between: float
    by_component: Array
    variances: Array
    errors: dict[str, Array]
    read: Array
    conditioning: Conditioning


class CrossFit:
    """Fits of the same points without one fold of the numbers at a time, all rows of a number together.

    Attributes:
        points: what is fitted.
        fold: (n,) fold of each distinct number.
        parts: by fold the numbers that are fitted and the PCA of their rows.
    """

    def __init__(self, points: Points, fold: Array, dims: int = DIMS) -> None:
        self.points = points
        self.fold = fold
        self.parts: list[tuple[Array, Pca]] = []
        for number in range(int(fold.max()) + 1):
            train = points.distinct[fold != number]
            self.parts.append((train, pca(points.of(train).x, dims)))

    def fits(self, columns: Design) -> list[HelixFit]:
        """The fit without each fold."""
        return [fit_points(self.points, columns, train=train, found=found) for train, found in self.parts]

    def predicted(self, columns: Design) -> Array:
        """(n, width): each distinct number by the fit that has not seen it."""
        found = np.empty(self.points.means.shape)
        for number, one in enumerate(self.fits(columns)):
            held = self.fold == number
            found[held] = one.predict(self.points.distinct[held])
        return found

    def read(self, columns: Design) -> Array:
        """(n, q - 1): columns of the design as the mean activation of each number has them, by such fits."""
        found = np.empty((len(self.points.distinct), columns.columns - 1))
        for number, one in enumerate(self.fits(columns)):
            held = self.fold == number
            found[held] = one.read(self.points.means[held])
        return found

    def pca_errors(self, dims: int) -> Array:
        """Squared errors (n,) of each number's rows on ``dims`` components of the other folds."""
        found = np.zeros(len(self.points.distinct))
        for number, (_, components) in enumerate(self.parts):
            chosen = self.fold[self.points.index] == number
            rows = self.points.x[chosen].astype(np.float64)
            squares = np.square(rows - pca_project(rows, components, dims)).sum(axis=1)
            found += np.bincount(self.points.index[chosen], weights=squares, minlength=len(found))
        return found


def score(
    points: Points, random: np.random.Generator, *, periods: Sequence[float] = PERIODS, dims: int = DIMS
) -> Scores:
    """Fit a helix of ``periods`` and all of its controls to ``points``; ``random`` draws folds, shuffles and periods.

    Raises:
        GeometryError: as `engine.geometry.helix.fit`; there are fewer than 5 numbers.
    """
    values = points.distinct
    helix = design(values, periods=periods)
    whole = pca(points.x, dims)
    cross = CrossFit(points, probes.folds(values, FOLDS, random), dims)
    resample = random.integers(0, len(values), (RESAMPLES, len(values)))
    columns: dict[str, Design] = {
        "helix": helix,
        "circle": design(values, "circle", periods=periods) if periods else helix,
        "linear": design(values, "linear"),
        "polynomial": design(values, "polynomial", degree=helix.columns - 1),
    }
    if len(values) >= ENOUGH_FOR_DIGITS:
        columns |= {"last digit": design(values, "last digit"), "digits": design(values, "digits")}
    in_sample, errors = {}, {}
    for name, one in columns.items():
        in_sample[name] = points.r_squared(fit_points(points, one, found=whole).predict(values))
        errors[name] = points.errors(cross.predicted(one))
    like = helix.columns - 1  # dimensions that the helix can spread in around its mean
    left = np.square(points.x - pca_project(points.x, whole, like)).sum()
    in_sample["PCA"] = 1 - float(left) / float(points.squares.sum())
    errors["PCA"] = cross.pca_errors(like)
    held = {name: _resampled(one, points, resample) for name, one in errors.items()}
    in_sample["random periods"], held["random periods"] = _random_periods(cross, whole, len(helix.periods), random)
    fitted = fit_points(points, helix, found=whole)
    total = np.square(whole.scores(points.x)).sum(axis=0)
    return Scores(
        fit=cross.fits(helix)[0],
        in_sample=in_sample,
        held=held,
        shuffled=shuffled(points, helix, whole, random),
        noise=(helix.columns - 1) / (len(values) - 1) * points.between,
        between=points.between,
        by_component=(points.counts[:, None] * np.square(fitted.scores(values))).sum(axis=0) / total,
        variances=whole.variances,
        errors=errors,
        read=cross.read(helix),
        conditioning=conditioning(helix(values)),
    )


def shuffled(points: Points, columns: Design, found: Pca, random: np.random.Generator, draws: int = DRAWS) -> Array:
    """R² (draws,) of the design fitted to all numbers after they were dealt out anew; rows of a number stay together."""
    scores, values = found.scores(points.means), points.distinct
    kept = []
    for _ in range(draws):
        B = columns(random.permutation(values))
        predicted = B @ solve(B, scores, points.counts)
        kept.append(points.r_squared(found.mean + predicted @ found.components))
    return np.array(kept)


def _random_periods(cross: CrossFit, whole: Pca, count: int, random: np.random.Generator) -> tuple[float, Score]:
    """Mean R² with all numbers fitted, and the one of held-out numbers with its range over the draws."""
    points, values = cross.points, cross.points.distinct
    longest = max(min(LONGEST, float(values[-1] - values[0]) + 1), SHORTEST + 1)
    fitted, held = [], []
    for _ in range(DRAWS):
        columns = design(values, periods=random.uniform(SHORTEST, longest, max(count, 1)).tolist())
        fitted.append(points.r_squared(fit_points(points, columns, found=whole).predict(values)))
        held.append(points.r_squared(cross.predicted(columns)))
    low, high = np.quantile(held, [0.025, 0.975])
    return float(np.mean(fitted)), Score(float(np.mean(held)), float(low), float(high))


def _resampled(errors: Array, points: Points, resample: Array) -> Score:
    """R² of the squared errors (n,) of the numbers, with its range over resampled numbers."""
    r2 = 1 - float(errors.sum()) / float(points.squares.sum())
    draws = 1 - errors[resample].sum(axis=1) / points.squares[resample].sum(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Score(r2, float(low), float(high))
