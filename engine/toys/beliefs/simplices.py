"""Simplices in activations, and what dictionaries make of them: corners, tiles, or neither.

A simplex of V corners: activations x = Σ w_v X_v + rest with weights w ≥ 0 that add up to 1, such as the beliefs of an
observer over V hidden states. Weights are (n, V), activations (n, d).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.toys.errors import ToyError

if TYPE_CHECKING:
    from engine.toys.small_dictionaries import Small

Array: TypeAlias = npt.NDArray[Any]
BINS = 16  # of the triangle's plane, along each axis
TOP = 0.1  # share of a corner's samples, those nearest to it, whose mean stands for it
FEW = 3  # samples in a bin from which on it counts


@dataclass(frozen=True)
class Simplex:
    """Activations and their weights, in two halves.

    Attributes:
        name: for figures.
        x, weights: (n, d) and (n, V), to train on.
        held_x, held_weights: to measure on.
        corners: names.
    """

    name: str
    x: Array
    weights: Array
    held_x: Array
    held_weights: Array
    corners: tuple[str, ...]


def affine_map(x: Array, y: Array) -> tuple[Array, Array]:
    """Least squares y ≈ x @ A + b: A (d, V) and b (V,)."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    slope = np.linalg.lstsq(x - mean_x, y - mean_y, rcond=1e-9)[0]
    return slope, mean_y - mean_x @ slope


def r_squared(y: Array, found: Array) -> float:
    """1 − Σ ‖y − ŷ‖² / Σ ‖y − mean‖²."""
    return float(1 - np.sum((y - found) ** 2) / np.sum((y - y.mean(axis=0)) ** 2))


def gaussian_twin(simplex: Simplex, random: np.random.Generator) -> Simplex:
    """The control: activations of the same mean and covariance without a simplex.

    Their weights are what an affine least squares map, fitted on the true activations, reads from them.
    """
    mean = simplex.x.mean(axis=0)
    left, values, right = np.linalg.svd(simplex.x - mean, full_matrices=False)
    del left
    spread = (values[:, None] / np.sqrt(len(simplex.x))) * right
    slope, shift = affine_map(simplex.x, simplex.weights)
    drawn = [mean + random.standard_normal((len(part), len(values))) @ spread for part in (simplex.x, simplex.held_x)]
    x, held = (np.asarray(part, np.float32) for part in drawn)
    return Simplex("control: Gaussian", x, x @ slope + shift, held, held @ slope + shift, simplex.corners)


def auroc(scores: Array, positive: Array) -> Array:
    """Area under the receiver operating characteristic of each column of ``scores`` (n, F); ties count half.

    0.5 throughout where all or none of the n are ``positive``.
    """
    count = int(positive.sum())
    if count in (0, len(positive)):
        return np.full(scores.shape[1], 0.5)
    found = np.empty(scores.shape[1])
    for column in range(scores.shape[1]):
        _, where, times = np.unique(scores[:, column], return_inverse=True, return_counts=True)
        ranks = np.cumsum(times) - (times - 1) / 2
        total = ranks[where[positive]].sum()
        found[column] = (total - count * (count + 1) / 2) / (count * (len(positive) - count))
    return found


def barycentric(x: Array, corners: Array) -> Array:
    """Coordinates (n, V), which add up to 1, of the points nearest to ``x`` (n, d) in the plane of ``corners`` (V, d).

    Raises:
        ToyError: the corners lie in fewer than V − 1 dimensions.
    """
    edges = corners[1:] - corners[0]
    if np.linalg.matrix_rank(edges, tol=1e-6 * max(float(np.abs(edges).max()), 1e-12)) < len(edges):
        raise ToyError("The corners of the simplex lie on each other or in one line; train longer or on more samples.")
    rest = np.linalg.lstsq(edges.T, (x - corners[0]).T, rcond=None)[0].T
    return np.concatenate((1 - rest.sum(axis=1, keepdims=True), rest), axis=1)


def regularity(corners: Array) -> float:
    """Root mean square deviation from a regular simplex of the cosines between corners seen from their centre (P2).

    0 for a regular simplex, whose cosines are −1 / (V − 1); NaN for fewer than three corners, where all is regular.
    """
    if len(corners) < 3:
        return float("nan")
    arms = corners - corners.mean(axis=0)
    arms = arms / np.maximum(np.linalg.norm(arms, axis=1, keepdims=True), 1e-12)
    cosines = (arms @ arms.T)[np.triu_indices(len(corners), 1)]
    return float(np.sqrt(np.mean((cosines + 1 / (len(corners) - 1)) ** 2)))


def plane(weights: Array) -> Array:
    """Weights (n, 3) as points (n, 2) of a triangle with sides of 1; the first two weights where there are not three."""
    if weights.shape[1] != 3:
        return np.asarray(weights[:, :2])
    triangle = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    return np.asarray(weights @ triangle)


def firing_maps(on: Array, weights: Array, bins: int = BINS) -> Array:
    """How often each latent is active in each bin of the plane: (F, bins, bins), NaN where fewer than `FEW` samples are.

    Args:
        on: (n, F) bool.
        weights: (n, V).
    """
    points = plane(weights)
    low, high = points.min(axis=0), points.max(axis=0)
    place = np.minimum(((points - low) / np.maximum(high - low, 1e-12) * bins).astype(int), bins - 1)
    flat = place[:, 1] * bins + place[:, 0]
    samples = np.bincount(flat, minlength=bins * bins)
    fired = np.zeros((on.shape[1], bins * bins))
    for row, column in zip(fired, on.T.astype(float), strict=True):
        row[:] = np.bincount(flat, weights=column, minlength=bins * bins)
    rate = np.where(samples >= FEW, fired / np.maximum(samples, 1), np.nan)
    return np.asarray(rate.reshape(-1, bins, bins))


@dataclass(frozen=True)
class Found:
    """What a dictionary has made of a simplex, on the held-out half.

    Attributes:
        fvu: unexplained variance.
        alive: latents that are active at all.
        auroc: (V,) of the best latent for each corner: it tells samples nearest to that corner from others.
        latents: (V,) those latents.
        mean_corners: (V, d) mean reconstruction of the samples nearest to each corner.
        decoder_corners: (V, d) b_dec and the best latent's atom times its mean activity there.
        r2_means, r2_decoder: of weights by barycentric coordinates of the activations in these corners.
        p2_means, p2_decoder: their `regularity`.
        area: mean share of the occupied bins in which a living latent is active on half of the samples or more.
        local: variance of the weights where a latent is active over that of all samples, mean over living latents.

    ``area`` and ``local`` are NaN where no latent is alive.
    """

    fvu: float
    alive: int
    auroc: Array
    latents: Array
    mean_corners: Array
    decoder_corners: Array
    r2_means: float
    r2_decoder: float
    p2_means: float
    p2_decoder: float
    area: float
    local: float


def judge(one: Small, simplex: Simplex) -> Found:
    """Measure the dictionary ``one``, trained on ``simplex.x``, on the half held out."""
    import torch

    x, w = simplex.held_x, simplex.held_weights
    codes = one.codes(torch.from_numpy(x))
    rebuilt = ((codes @ one.atoms + one.weights.b_dec) / one.scale).numpy().astype(np.float64)
    latents = codes.numpy()
    on = latents > 0
    living = on.any(axis=0)
    nearest = w.argmax(axis=1)
    found, best, means, atoms = [], [], [], []
    bias, decoder = (tensor.numpy().astype(np.float64) for tensor in (one.weights.b_dec, one.atoms))
    for corner in range(w.shape[1]):
        scores = auroc(latents, nearest == corner)
        best.append(int(scores.argmax()))
        found.append(float(scores.max()))
        top = np.argsort(-w[:, corner], kind="stable")[: max(int(TOP * len(w) / w.shape[1]), 1)]
        means.append(rebuilt[top].mean(axis=0))
        atoms.append((bias + latents[top, best[-1]].mean() * decoder[best[-1]]) / one.scale)
    total = w.var(axis=0).sum()
    maps = firing_maps(on[:, living], w)
    occupied = np.isfinite(maps[0]) if len(maps) else np.zeros((1, 1), bool)
    corners, rays = np.stack(means), np.stack(atoms)
    return Found(
        fvu=float(((rebuilt - x) ** 2).sum() / ((x - simplex.x.mean(axis=0)) ** 2).sum()),
        alive=int(living.sum()),
        auroc=np.array(found),
        latents=np.array(best),
        mean_corners=corners,
        decoder_corners=rays,
        r2_means=_coordinates_fit(x, w, corners),
        r2_decoder=_coordinates_fit(x, w, rays),
        p2_means=regularity(corners),
        p2_decoder=regularity(rays),
        area=float(np.mean([(m[occupied] >= 0.5).mean() for m in maps])) if len(maps) else float("nan"),
        local=float(np.mean([w[column].var(axis=0).sum() / total for column in on[:, living].T]))
        if living.any()
        else float("nan"),
    )


def _coordinates_fit(x: Array, weights: Array, corners: Array) -> float:
    """R² of the weights by barycentric coordinates as they are; NaN where the corners span no simplex."""
    try:
        return r_squared(weights, barycentric(x, corners))
    except ToyError:
        return float("nan")
