"""Take a direction out of the activation of a number: does the model still answer, and would any direction have done?

Mean ablation: x - ((x - mean) · u) u for a unit direction u. Every direction is compared with random ones that remove
exactly as much variance, since a direction that carries more of it does more harm whatever it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.geometry import probes
from engine.geometry.errors import GeometryError
from engine.geometry.helix import Pca, Points, pca
from engine.geometry.number_passes import ChangeOf, passes
from engine.geometry.number_reading import Prefixes, read_prefixes
from engine.geometry.number_sums import Sums, answered

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
DRAWS = 20
COMPONENTS = 10  # that directions are read off, and random ones drawn in, at least
STEPS = 200  # bisections


@dataclass(frozen=True)
class AblationResults:
    """What taking out directions does, per prompt.

    Attributes:
        names: of the directions; hook: where they were taken out, at the number a.
        share: (directions,) of the variance that each removes.
        clean: (prompts,) log probability of the right answer, clean_right whether it was given.
        changes: (directions, prompts) of that log probability, nats; right whether the answer is still given.
        random_changes, random_right: (directions, draws, prompts) the same for random directions of equal variance.
        cosines: (directions, draws) |cosine| of each random direction with the one it is matched with.
        sums: the prompts.
    """

    names: tuple[str, ...]
    hook: str
    share: Array
    clean: Array
    clean_right: Array
    changes: Array
    right: Array
    random_changes: Array
    random_right: Array
    cosines: Array
    sums: Sums


def removed(direction: Array, x: Array) -> float:
    """Variance that mean ablation of the unit ``direction`` (width,) takes out of ``x`` (n, width): that along it."""
    return float(np.var((x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)) @ direction))


def value_directions(points: Points, components: int = COMPONENTS) -> dict[str, Array]:
    """Unit directions (width,) along which log a and a are read off the first ``components`` by least squares.

    Numbers below 1, which have no logarithm, count for a alone.

    Raises:
        GeometryError: there are fewer than 6 numbers from 1 on.
    """
    found = {}
    for name, function in (("log a", np.log), ("a", np.asarray)):
        part = points.of(points.distinct[points.distinct >= 1]) if name == "log a" else points
        if len(part.distinct) < 6:
            raise GeometryError(f"{len(part.distinct)} numbers have a logarithm; at least 6 are needed.")
        seen = pca(part.x, max(min(components, len(part.distinct) // 5), 1))
        target = np.asarray(function(part.distinct.astype(np.float64)))[:, None]
        vector = probes.fit(seen.scores(part.means), target).weight[:, 0] @ seen.components
        found[name] = vector / np.linalg.norm(vector)
    return found


def matched_directions(
    x: Array, variance: float, random: np.random.Generator, draws: int = DRAWS, components: int = COMPONENTS
) -> Array:
    """Random unit directions (draws, width) that carry exactly ``variance`` of ``x`` (n, width) each.

    They lie among the first principal components, as many more than ``components`` as it takes to have one with less
    variance. A direction begins as a Gaussian vector there; its coordinates are then weighed by a power of the components'
    variances, found by bisection, which makes the variance along it the wanted one.

    Raises:
        GeometryError: no direction has so much variance.
    """
    whole = pca(x, min(x.shape))
    spread = whole.variances * (1 - 1 / len(x))  # as `removed` counts it
    if not 0 <= variance <= spread[0] * (1 + 1e-9):
        raise GeometryError(
            f"No direction of these activations has a variance of {variance:g}; the most is {spread[0]:g}."
        )
    below = np.flatnonzero(spread < variance)
    used = min(max(components, int(below[0]) + 1 if len(below) else len(spread)), len(spread))
    return np.stack([_matched(whole.first(used), spread[:used], variance, random) for _ in range(draws)])


def _matched(found: Pca, spread: Array, variance: float, random: np.random.Generator) -> Array:
    begun = random.standard_normal(len(spread))
    scale = np.log(spread / spread[0])

    def at(power: float) -> Array:
        weighed = np.log(np.abs(begun)) + power * scale
        vector = np.sign(begun) * np.exp(weighed - weighed.max())
        return np.asarray(vector / np.linalg.norm(vector))

    # The variance along it grows with the power: bracket the wanted one, then halve.
    low, high = -1.0, 1.0
    for _ in range(60):
        if _along(at(low), spread) <= variance:
            break
        low *= 2
    for _ in range(60):
        if _along(at(high), spread) >= variance:
            break
        high *= 2
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _along(at(middle), spread) < variance else (low, middle)
    return np.asarray(at((low + high) / 2) @ found.components)


def _along(vector: Array, spread: Array) -> float:
    return float(np.square(vector) @ spread)


def mean_ablation(direction: Array, mean: Array) -> Callable[[Tensor], Tensor]:
    """The change x - ((x - mean) · u) u of activations (n, width) for the unit ``direction`` u (width,)."""
    u, centre = (torch.from_numpy(np.array(part, dtype=np.float32)) for part in (direction, mean))

    def change(x: Tensor) -> Tensor:
        along = u.to(x.device)
        return x - ((x - centre.to(x.device)) @ along)[:, None] * along

    return change


def ablation(
    model: OpenModel,
    sums: Sums,
    hook: str,
    random: np.random.Generator,
    *,
    directions: Mapping[str, Array] | None = None,
    prompts: int = 100,
    draws: int = DRAWS,
    run: Run | None = None,
) -> AblationResults:
    """Take ``directions`` out at ``hook``, at the number a of ``prompts`` sums, each beside ``draws`` random ones.

    Args:
        sums: the prompts, right and wrong; ``prompts`` of them are drawn.
        directions: unit vectors (width,) by name; None for `value_directions`.

    Raises:
        GeometryError: as `value_directions`.
        ModelError: there is no such hook point.
    """
    prompts_read = Prefixes.of(sums.ids, sums.position)
    ((_, read),) = read_prefixes(model, prompts_read, [hook], run)
    points = Points(sums.a, read[prompts_read.index])
    found = dict(value_directions(points) if directions is None else directions)
    x = points.x.astype(np.float64)
    mean = x.mean(axis=0)
    rows = np.sort(random.permutation(len(sums.a))[:prompts])
    variances = [removed(u, x) for u in found.values()]
    others = [matched_directions(x, variance, random, draws) for variance in variances]
    vectors = [vector for u, dealt in zip(found.values(), others, strict=True) for vector in (u, *dealt)]
    changes, right = _after(model, sums, hook, rows, vectors, mean, run)
    changes, right = (part.reshape(len(found), 1 + draws, len(rows)) for part in (changes, right))
    return AblationResults(
        tuple(found), hook, np.array(variances) / float(x.var(axis=0).sum()), sums.log_probability[rows],
        sums.right[rows], changes[:, 0], right[:, 0], changes[:, 1:], right[:, 1:],
        np.array([np.abs(dealt @ u) for dealt, u in zip(others, found.values(), strict=True)]), sums,
    )  # fmt: skip


def _after(
    model: OpenModel, sums: Sums, hook: str, rows: Array, vectors: list[Array], mean: Array, run: Run | None
) -> tuple[Array, Array]:
    """(vectors, rows) change of the right answer's log probability, and whether it is still given, without each vector."""

    def without(vector: Array) -> ChangeOf:
        change = mean_ablation(vector, mean)
        return lambda _: change

    found, right = np.zeros((1 + len(vectors), len(rows))), np.zeros((1 + len(vectors), len(rows)), bool)
    ids, ends, positions = (part[rows] for part in (sums.ids, sums.end, sums.position))
    changes = [without(vector) for vector in vectors]
    for batch, number, logits in passes(model, ids, ends, hook=hook, positions=positions, changes=changes, run=run):
        _, found[number, batch], right[number, batch] = answered(logits, sums.token[rows[batch]])
        if run is not None and number == len(vectors):
            run.progress(int(batch[-1]) + 1, len(rows), "prompts")
    return found[1:] - found[0], right[1:]
