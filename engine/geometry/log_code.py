"""Is the logarithm of a number written in its activations: as a direction, and as an angle?

The direction is a regression, told from those of a and √a by what each explains beyond the other. The angle is looked for by
least-squares spectral analysis (Lomb 1976; Scargle 1982), since numbers are not evenly spaced in log a, with a threshold for
the whole grid of frequencies at once. That no angular code is found is a result (Newgas 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry import probes
from engine.geometry.errors import GeometryError
from engine.geometry.helix import Points, pca

Array: TypeAlias = npt.NDArray[Any]
FREQUENCIES = 80
PERMUTATIONS = 199
LEVEL = 0.05
TURNS = 2.0  # over the range of the values, below which a cosine is a bend and not a code
RANKED = 20  # components in the ranking
SHUFFLES = 200
TARGETS: dict[str, Callable[[Array], Array]] = {"log a": np.log, "a": np.asarray, "√a": np.sqrt}


@dataclass(frozen=True)
class Target:
    """A function of the number that is read off the activations; ``held`` numbers were not fitted.

    Attributes:
        held: R² of held-out numbers.
        shuffled: the same (20,) after the numbers were shuffled.
        beyond: by other function, the share of what a probe on that function leaves of this one that the activations explain,
            on held-out numbers; NaN where it leaves nothing.
    """

    held: float
    shuffled: Array
    beyond: dict[str, float]


@dataclass(frozen=True)
class Direction:
    """Where log a lies.

    Attributes:
        vector: (width,) unit direction in activation space along which log a grows fastest as read by least squares.
        targets: by name what can be read.
        components: k, how many principal components the probes see.
    """

    vector: Array
    targets: dict[str, Target]
    components: int


def positive(points: Points) -> Points:
    """The rows of numbers from 1 on, which have a logarithm.

    Raises:
        GeometryError: fewer than 6 numbers are left.
    """
    found = points.of(points.distinct[points.distinct >= 1])
    if len(found.distinct) < 6:
        raise GeometryError(f"{len(found.distinct)} numbers have a logarithm; at least 6 are needed.")
    return found


def log_direction(points: Points, random: np.random.Generator, components: int = 10, draws: int = 20) -> Direction:
    """Read log a, a and √a off the first ``components`` components, with a fifth of the numbers held out in turn.

    PCA is fitted without the held-out numbers. There are at most a fifth as many components as numbers.
    """
    points = positive(points)
    a = points.distinct.astype(np.float64)
    k = max(min(components, len(a) // 5), 1)
    fold = probes.folds(a, 5, random)
    parts = [(fold == number, pca(points.of(points.distinct[fold != number]).x, k)) for number in range(5)]
    seen = [(held, found.scores(points.means)) for held, found in parts]
    named = {name: np.asarray(function(a)) for name, function in TARGETS.items()}
    targets = {}
    for name, target in named.items():
        held = probes.r_squared(target[:, None], _predicted(seen, target))
        dealt = [random.permutation(target) for _ in range(draws)]
        chance = np.array([probes.r_squared(one[:, None], _predicted(seen, one)) for one in dealt])
        others = {other: _beyond(seen, target, named[other]) for other in named if other != name}
        targets[name] = Target(held, chance, others)
    whole = pca(points.x, k)
    weight = probes.fit(whole.scores(points.means), named["log a"][:, None]).weight[:, 0] @ whole.components
    return Direction(weight / max(float(np.linalg.norm(weight)), 1e-300), targets, k)


def _predicted(seen: list[tuple[Array, Array]], target: Array) -> Array:
    found = np.empty((len(target), 1))
    for held, scores in seen:
        found[held] = probes.fit(scores[~held], target[~held, None])(scores[held])
    return found


def _beyond(seen: list[tuple[Array, Array]], target: Array, known: Array) -> float:
    """Partial R² of held-out numbers, as `probes.beyond` defines it, with a PCA for each fold."""
    alone = _predicted([(held, known[:, None]) for held, _ in seen], target)
    both = _predicted([(held, np.column_stack([scores, known])) for held, scores in seen], target)
    left = float(np.square(target[:, None] - alone).sum())
    if left <= 1e-9 * float(np.square(target - target.mean()).sum()):
        return float("nan")
    return 1 - float(np.square(target[:, None] - both).sum()) / left


@dataclass(frozen=True)
class Ranking:
    """|correlation| of each principal component with log a, (k,); ``band`` is what shuffled numbers stay below in 95 %.

    ``family`` is what the largest of all components stays below in 95 %.
    """

    correlations: Array
    shares: Array
    band: Array
    family: float


def ranking(points: Points, random: np.random.Generator, components: int = RANKED) -> Ranking:
    """Principal components of ``points`` by their correlation with log a, beside shuffled numbers."""
    points = positive(points)
    found = pca(points.x, components)
    scores, u = found.scores(points.means), np.log(points.distinct)
    scores = scores - scores.mean(axis=0)
    scores = scores / np.maximum(np.linalg.norm(scores, axis=0), 1e-300)
    u = (u - u.mean()) / np.linalg.norm(u - u.mean())
    chance = np.abs(np.stack([random.permutation(u) for _ in range(SHUFFLES)]) @ scores)
    total = float(points.squares.sum()) / max(len(points.values) - 1, 1)
    family = float(np.quantile(chance.max(axis=1), 0.95))
    return Ranking(np.abs(u @ scores), found.variances / total, np.quantile(chance, 0.95, axis=0), family)


@dataclass(frozen=True)
class Angles:
    """A search for cosines of u in activations.

    Attributes:
        omega: (f,) angular frequencies, radians per unit of u.
        gain: (f,) R² that cosine and sine add to a straight line in u.
        threshold: what the largest gain of the whole grid stays below when residuals are shuffled, at the 5 % level.
        p: of the largest gain, (1 + larger draws) / (1 + draws).
        turns: (f,) turns over the range of u.
        draws: shuffles.
    """

    omega: Array
    gain: Array
    threshold: float
    p: float
    turns: Array
    draws: int

    @property
    def best(self) -> int:
        """Index of the largest gain."""
        return int(self.gain.argmax())

    @property
    def bends(self) -> bool:
        """Whether the largest gain is above chance, but at so few turns that it is a bend of the line."""
        return self.p <= LEVEL and float(self.turns[self.best]) < TURNS

    @property
    def found(self) -> bool:
        """Whether the largest gain exceeds the threshold of the whole grid, at 2 turns or more: below lie bends."""
        return bool(self.gain[self.best] > self.threshold and self.turns[self.best] >= TURNS)

    @property
    def strongest(self) -> int:
        """Index of the largest gain among frequencies of at least 2 turns."""
        return int(np.where(self.turns >= TURNS, self.gain, -np.inf).argmax())


def angles(
    u: Array,
    coordinates: Array,
    random: np.random.Generator,
    *,
    known: Array | None = None,
    frequencies: int = FREQUENCIES,
    permutations: int = PERMUTATIONS,
    weight: Array | None = None,
) -> Angles:
    """Least-squares spectral analysis of ``coordinates`` (n, k) along ``u`` (n,), which need not be evenly spaced.

    For each ω of 2πj / (u_max - u_min) / 4, j = 1 … ``frequencies``: R² of [1, u, cos ωu, sin ωu] less that of [1, u]. Chance
    is the largest gain of the whole grid when the residuals of [1, u] are shuffled, so one threshold serves all frequencies.

    Args:
        known: (n, m) further columns beside [1, u]: what is known to be there. A period of 10 along a would come out as an angle
            of log a, since large numbers are dense in it.
        weight: (n,) of the numbers; None for `weights`.

    Raises:
        GeometryError: there are fewer than 6 rows, or ``u`` is constant.
    """
    u, y = np.asarray(u, dtype=np.float64), np.asarray(coordinates, dtype=np.float64)
    if len(u) < 6 or u.min() == u.max():
        raise GeometryError(f"{len(u)} numbers are too few to look for an angle; at least 6 different ones are needed.")
    length = float(u.max() - u.min())
    turns = np.arange(1, frequencies + 1) / 4
    omega = 2 * np.pi * turns / length
    root = np.sqrt(weights(u) if weight is None else weight)[:, None]
    line = _orthonormal(np.column_stack([np.ones(len(u)), u, *([] if known is None else [known])]) * root)
    waves = []
    for one in omega:
        pair = np.stack([np.cos(one * u), np.sin(one * u)], axis=1) * root
        pair -= line @ (line.T @ pair)
        vectors, singular, _ = np.linalg.svd(pair, full_matrices=False)
        waves.append(vectors * (singular > 1e-6 * np.sqrt(len(u))))
    stacked = np.concatenate(waves, axis=1).T  # (2 f, n), an orthonormal pair for each frequency
    weighted = y * root
    rest = weighted - line @ (line.T @ weighted)
    centre = root / np.linalg.norm(root)
    total = float(np.square(weighted - centre @ (centre.T @ weighted)).sum())

    def gains(of: Array) -> Array:
        return np.asarray(np.square(stacked @ of).sum(axis=1).reshape(-1, 2).sum(axis=1) / max(total, 1e-300))

    gain, residuals, left = gains(rest), rest / root, float(np.square(rest).sum())
    largest = np.empty(permutations)
    for draw in range(permutations):
        dealt = random.permutation(residuals, axis=0) * root
        dealt -= line @ (line.T @ dealt)
        # Shuffled residuals lose what falls onto the columns that residuals are free of: back to the size of these.
        largest[draw] = gains(dealt).max() * left / max(float(np.square(dealt).sum()), 1e-300)
    allowed = int(LEVEL * (permutations + 1)) - 1  # draws that may be larger at this level
    threshold = float(np.sort(largest)[::-1][max(allowed, 0)])
    p = (1 + int((largest >= gain.max()).sum())) / (1 + permutations)
    return Angles(omega, gain, threshold, p, turns, permutations)


def rivals(
    values: Array, coordinates: Array, random: np.random.Generator, *, known: Array | None = None
) -> dict[str, Angles]:
    """The same search along a and √a: structure that repeats there as well as along log a is no code of the logarithm.

    Shuffled residuals have no structure at all, so activations that are smooth in any way can exceed their threshold.
    """
    a = np.asarray(values, dtype=np.float64)
    weight = weights(np.log(a))  # that of the logarithm, or gains would be of different variances
    return {
        name: angles(function(a), coordinates, random, known=known, permutations=19, weight=weight)
        for name, function in TARGETS.items()
        if name != "log a"
    }


def _orthonormal(columns: Array) -> Array:
    vectors, singular, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(vectors[:, singular > 1e-8 * singular[0]])


def planted(u: Array, coordinates: Array, turns: float, share: float, random: np.random.Generator) -> Array:
    """Coordinates (n, k) with an angle in them that is known to be there: what the search can find in such data.

    The straight line in ``u`` of ``coordinates`` with its residuals shuffled, and a cosine of so many ``turns`` over the range
    of u along a random direction, of which ``share`` of the variance comes.
    """
    u, y = np.asarray(u, dtype=np.float64), np.asarray(coordinates, dtype=np.float64)
    line = np.stack([np.ones(len(u)), u], axis=1)
    fitted = line @ np.linalg.lstsq(line, y, rcond=None)[0]
    dealt = fitted + random.permutation(y - fitted, axis=0)
    wave = np.cos(2 * np.pi * turns * (u - u.min()) / (u.max() - u.min()))
    wave = (wave - wave.mean()) / max(float(np.linalg.norm(wave - wave.mean())), 1e-300)
    drawn = random.standard_normal(y.shape[1])
    direction = drawn / np.linalg.norm(drawn)
    size = float(np.sqrt(share / (1 - share) * np.square(dealt - dealt.mean(axis=0)).sum()))
    return np.asarray(dealt + size * np.outer(wave, direction))


def weights(u: Array, bins: int = 12) -> Array:
    """Weights (n,) with mean 1 that keep dense stretches of ``u`` (n,) from deciding alone.

    Each of ``bins`` equal stretches of u has a total weight of the root of its number of values: between an equal say of
    each value, where a half of the numbers up to 300 lie in the last eighth of log a, and an equal say of each
    stretch, where the numbers 1 and 2 would count for as much as the last hundred, with all the noise they carry.
    """
    u = np.asarray(u, dtype=np.float64)
    place = np.minimum(((u - u.min()) / (u.max() - u.min()) * bins).astype(int), bins - 1)
    found = 1 / np.sqrt(np.bincount(place, minlength=bins)[place])
    return np.asarray(found / found.mean())


def correlations(values: Array) -> Mapping[str, float]:
    """Correlations of log a with a and √a over ``values``: how alike the three are there."""
    a = np.asarray(values, dtype=np.float64)
    rows = np.corrcoef([np.log(a), a, np.sqrt(a)])
    return {"a": float(rows[0, 1]), "√a": float(rows[0, 2])}
