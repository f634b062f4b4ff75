"""What steering is made of: directions, affine maps and planes, found from activations by their classes.

All functions take and give float64 arrays unless they say otherwise. Rows of ``positive`` and ``negative`` belong
together: row i of both is the same prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
POWER = 0.02  # of the class means' variance: the share from which on a frequency counts as a key frequency
ROUND = 0.05  # how thin the smaller axis of a plane's ellipse may be beside the larger one
PENALTIES = np.logspace(-10, 3, 27)  # ridge penalties, in units of the largest squared singular value


@dataclass(frozen=True, eq=False)
class Affine:
    """x ↦ weight (x − centre) + bias, float64: weight (width, width), bias and centre (width,).

    Attributes:
        facts: plain values that say how it was found.
    """

    weight: Array
    bias: Array
    centre: Array
    facts: dict[str, float]

    def __call__(self, x: Array) -> Array:
        """Images (n, width) of ``x`` (n, width)."""
        return np.asarray((x - self.centre) @ self.weight.T + self.bias)


@dataclass(frozen=True, eq=False)
class Planes:
    """Planes in which the class means turn.

    Attributes:
        planes: (K, 2, width), all 2 K directions orthonormal, the strongest plane first.
        frequencies: (K,) rounds that all classes together make in each plane.
        angles: (K,) radians from a class to the next, 2 π frequency / classes.
        centre: (width,) mean of the class means.
        shares: (K,) share of each frequency in the class means' variance.
        left_out: share of that variance at key frequencies without a plane: half of an even number of classes, which has
            a cosine only, and those whose classes lie on a line.
    """

    planes: Array
    frequencies: npt.NDArray[np.int64]
    angles: Array
    centre: Array
    shares: Array
    left_out: float


def difference(positive: Array, negative: Array) -> Array:
    """Mean of ``positive`` (n, width) less the mean of ``negative`` (m, width): (width,)."""
    return np.asarray(_float(positive).mean(0) - _float(negative).mean(0))


def shuffled_difference(positive: Array, negative: Array, random: np.random.Generator) -> Array:
    """The control: `difference` (width,) after the two rows of each pair have changed places by the toss of a coin."""
    sign = random.choice([-1.0, 1.0], size=len(positive))
    return np.asarray((sign[:, None] * (_float(positive) - _float(negative))).mean(0))


def random_vector(width: int, norm: float, random: np.random.Generator) -> Array:
    """The control: a vector (width,) of length ``norm`` in a direction drawn uniformly."""
    drawn = random.standard_normal(width)
    return np.asarray(drawn * (norm / np.linalg.norm(drawn)))


def mean_matching(source: Array, target: Array) -> Affine:
    """x + (mean of target − mean of source): the least change that matches the means (Singh, Ravfogel et al. 2024)."""
    source, target = _float(source), _float(target)
    return Affine(np.eye(source.shape[1]), target.mean(0), source.mean(0), {})


def gaussian_transport(source: Array, target: Array) -> Affine:
    """The optimal transport map between Gaussians with the classes' means and covariances.

    mean_t + S^(-1/2) (S^(1/2) T S^(1/2))^(1/2) S^(-1/2) (x − mean_s), with S and T the covariances of source and target,
    both shrunk towards a multiple of the identity (Ledoit and Wolf 2004), since rows are fewer than dimensions.

    Singh, Ravfogel et al. 2024, Representation Surgery.

    Args:
        source, target: (n, width) and (m, width), at least 2 rows each.
    """
    from sklearn.covariance import ledoit_wolf

    source, target = _float(source), _float(target)
    (s, shrunk_s), (t, shrunk_t) = ledoit_wolf(source), ledoit_wolf(target)
    weight = transport(s, t)
    return Affine(
        weight,
        target.mean(0),
        source.mean(0),
        {"shrinkage_source": float(shrunk_s), "shrinkage_target": float(shrunk_t)},
    )


def transport(s: Array, t: Array) -> Array:
    """The symmetric matrix A (width, width) with A S A = T, for positive definite S and positive semidefinite T."""
    values, vectors = np.linalg.eigh(s)
    values = np.maximum(values, values[-1] * 1e-14 if values[-1] > 0 else 1e-300)
    root = (vectors * np.sqrt(values)) @ vectors.T
    back = (vectors / np.sqrt(values)) @ vectors.T
    inner = root @ t @ root
    inner_values, inner_vectors = np.linalg.eigh((inner + inner.T) / 2)
    middle = (inner_vectors * np.sqrt(np.maximum(inner_values, 0))) @ inner_vectors.T
    found = back @ middle @ back
    return np.asarray((found + found.T) / 2)


def least_squares(source: Array, target: Array) -> Affine:
    """Ridge regression of the way from each source row to its target on the source.

    What is penalised is weight − identity, so that dimensions in which few pairs say nothing stay as they are. The
    penalty is the one of `PENALTIES` with the least leave-one-out error (exact, by the hat matrix).

    Args:
        source, target: (n, width) pairs, at least 2.
    """
    source, target = _float(source), _float(target)
    way = target - source
    centre, mean_way = source.mean(0), way.mean(0)
    u, values, v = np.linalg.svd(source - centre, full_matrices=False)
    squares = values**2
    scale = max(float(squares[0]), 1e-300)
    inside = u.T @ (way - mean_way)
    best, chosen = np.inf, PENALTIES[-1]
    for penalty in PENALTIES:
        kept = squares / (squares + penalty * scale)
        left = (way - mean_way) - u @ (kept[:, None] * inside)
        leverage = 1 / len(u) + np.square(u) @ kept
        error = float(np.square(left / np.maximum(1 - leverage, 1e-12)[:, None]).sum())
        if error < best:
            best, chosen = error, penalty
    slope = (v.T * (values / (squares + chosen * scale))) @ inside
    weight = np.eye(source.shape[1]) + slope.T
    return Affine(weight, target.mean(0), centre, {"ridge_penalty": float(chosen)})


def class_means(
    x: Array, labels: npt.NDArray[np.int64], classes: int, templates: npt.NDArray[np.int64] | None = None
) -> Array:
    """Mean of the rows of ``x`` (n, width) of each class 0 … ``classes`` - 1, (classes, width).

    Args:
        labels: (n,) class of each row; every class has a row.
        templates: (n,) number of each row's template. What differs between templates is then taken out: least squares of a
            class effect plus a template effect, and each class as if it had been seen in all templates alike. Without
            it classes that came in other templates differ by those.
    """
    x = _float(x)
    of_class = np.eye(classes)[labels]
    if templates is None:
        return np.asarray((of_class.T @ x) / of_class.sum(0)[:, None])
    # Template effects add up to 0, so that the class effect is the mean over templates.
    of_template = _one_hot(templates)
    of_both = np.concatenate([of_class, of_template - of_template.mean(1, keepdims=True)], axis=1)
    effects = np.linalg.lstsq(of_both, x, rcond=None)[0]
    return np.asarray(effects[:classes])


def explained(x: Array, labels: npt.NDArray[np.int64], templates: npt.NDArray[np.int64]) -> float:
    """Partial R² of the classes: the share of the variance within templates that class effects explain; NaN without any.

    Args: as those of `class_means`, except that classes may lack rows.
    """
    x, of_template = _float(x), _one_hot(templates)
    of_both = np.concatenate([of_template, _one_hot(labels)], axis=1)
    inside, left = (
        np.square(x - part @ np.linalg.lstsq(part, x, rcond=None)[0]).sum() for part in (of_template, of_both)
    )
    return 1 - float(left / inside) if inside > 1e-12 * np.square(x).sum() else float("nan")


def class_spectrum(means: Array) -> Array:
    """Share of each frequency 1 … n // 2 over the classes in the variance of the class means (n, width): (n // 2,)."""
    n = len(means)
    centred = _float(means) - _float(means).mean(0)
    power = np.square(np.abs(np.fft.rfft(centred, axis=0))).sum(1)[1:]
    power[: (n - 1) // 2] *= 2  # each of these stands for two frequencies of opposite sign
    total = power.sum()
    return np.asarray(power / total if total > 0 else power)


def circular_planes(means: Array, *, least: float = POWER) -> Planes:
    """The planes in which class means (n, width), in the order of their classes, go round.

    Of each frequency with more than ``least`` of the variance: the cosine and the sine component over the classes, made
    orthonormal as a pair with the least change (polar factor), after what they share with stronger planes was taken away.
    No plane may be left; `Planes.planes` is then (0, 2, width).
    """
    means = _float(means)
    n, centre = len(means), means.mean(0)
    shares = class_spectrum(means)
    key = [int(k) for k in 1 + np.argsort(-shares, kind="stable") if shares[k - 1] > least]
    found: list[Array] = []
    kept: list[int] = []
    for k in key:
        angles = 2 * np.pi * k * np.arange(n) / n
        pair = np.stack([np.cos(angles), np.sin(angles)]) @ (means - centre)
        for plane in found:
            pair = pair - (pair @ plane.T) @ plane
        u, values, v = np.linalg.svd(pair, full_matrices=False)
        if 2 * k == n or values[1] <= ROUND * values[0]:
            continue
        found.append(u @ v)
        kept.append(k)
    frequencies = np.array(kept, dtype=np.int64)
    return Planes(
        np.array(found).reshape(-1, 2, means.shape[1]),
        frequencies,
        2 * np.pi * frequencies / max(n, 1),
        centre,
        shares[frequencies - 1],
        float(sum(shares[k - 1] for k in key if k not in kept)),
    )


def auroc(positive: Array, negative: Array) -> float:
    """Chance that a value of ``positive`` (n,) exceeds one of ``negative`` (m,), equal ones counted half; NaN if none."""
    from engine.dictionaries.planted import aurocs

    if not len(positive) or not len(negative):
        return float("nan")
    values = np.concatenate([positive, negative])
    return float(aurocs(values[:, None], np.arange(len(values))[:, None] < len(positive))[0, 0])


def _one_hot(numbers: npt.NDArray[np.int64]) -> Array:
    known, place = np.unique(numbers, return_inverse=True)
    return np.eye(len(known))[place]


def _float(x: Array) -> Array:
    return np.asarray(x, dtype=np.float64)
