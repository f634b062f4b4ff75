"""Scoring a dictionary against the features that were planted in a toy: by direction, and by when they are active."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata
from torch import Tensor

from engine.dictionaries.form import Dictionary
from engine.figures.kinds import Axis, Table

Array: TypeAlias = npt.NDArray[Any]
CONTROLS = 20  # random dictionaries of the same size
FOUND = 0.9  # cosine from which a planted feature counts as found


@dataclass(frozen=True)
class Match:
    """How well the atoms of a dictionary match planted directions.

    Attributes:
        cosine: (features,) largest cosine of each planted direction with an atom;  latent: (features,) that atom.
        alone: (features,) cosine where each latent may stand for one feature only (the best assignment), 0 for
            features that get none.
        control: (CONTROLS,) mean largest cosine of dictionaries of random atoms, as many in as many dimensions.
    """

    cosine: Array
    latent: Array
    alone: Array
    control: Array

    @property
    def mean(self) -> float:
        """Mean max cosine similarity (MMCS, Sharkey et al. 2022) over the planted features."""
        return float(self.cosine.mean())

    @property
    def found(self) -> float:
        """Share of planted features with an atom of cosine `FOUND` or more."""
        return float((self.cosine >= FOUND).mean())


def cosines(atoms: Tensor, directions: Array) -> Array:
    """Cosines (features, latents) of planted directions (features, d) with atoms (latents, d); 0 for vectors of length 0."""
    wanted = torch.from_numpy(np.array(directions, dtype=np.float64))
    rows = atoms.detach().cpu().double()
    found = torch.nn.functional.normalize(wanted, dim=1) @ torch.nn.functional.normalize(rows, dim=1).T
    return np.asarray(found.numpy())


def mean_max_cosine(atoms: Tensor, directions: Array) -> float:
    """Mean over planted directions (features, d) of the largest cosine with an atom (latents, d)."""
    return float(cosines(atoms, directions).max(axis=1).mean())


def match(atoms: Tensor, directions: Array, seed: int) -> Match:
    """Match atoms (latents, d) to planted directions (features, d); ``seed`` of the random control."""
    found = cosines(atoms, directions)
    features, latents = linear_sum_assignment(found, maximize=True)
    alone = np.zeros(len(found))
    alone[features] = found[features, latents]
    generator = torch.Generator().manual_seed(seed)
    control = [
        mean_max_cosine(torch.randn(atoms.shape, generator=generator), directions) for _ in range(CONTROLS)
    ]  # fmt: skip
    return Match(found.max(axis=1), found.argmax(axis=1), alone, np.array(control))


@dataclass(frozen=True)
class Detection:
    """How well single latents tell when planted features are active.

    Attributes:
        latent: (features,) the latent chosen on the first half of the sequences, −1 where it could not be.
        auroc: (features,) its area under the ROC curve on the second half; NaN where a half lacks either class.
        control: (features,) the same with the features' values shuffled.
        active: (features,) share of activations on which the feature is active.
    """

    latent: Array
    auroc: Array
    control: Array
    active: Array


def detect(latents: Array, features: Array, groups: Array, seed: int) -> Detection:
    """Choose a latent per planted feature on one half of the sequences and judge it on the other.

    Args:
        latents: (activations, latents) values.
        features: (activations, features); a feature is active where it is not 0.
        groups: (activations,) number of the sequence that each is from: what one half shows is not in the other.
        seed: of the two halves, and of the shuffled control.
    """
    random = np.random.default_rng([seed, 5])
    known = random.permutation(np.unique(groups))
    chosen_on = np.isin(groups, known[: len(known) // 2])
    first, second = np.flatnonzero(chosen_on), np.flatnonzero(~chosen_on)
    active = np.asarray(features) != 0
    shuffled = active[random.permutation(len(active))]
    chosen, auroc = _judge(latents, active, first, second)
    _, control = _judge(latents, shuffled, first, second)
    return Detection(chosen, auroc, control, active.mean(axis=0))


def _judge(latents: Array, active: Array, first: Array, second: Array) -> tuple[Array, Array]:
    curves = aurocs(latents[first], active[first])
    chosen = np.where(np.isnan(curves).all(axis=1), -1, np.nan_to_num(curves, nan=-1.0).argmax(axis=1))
    found = np.full(len(chosen), np.nan)
    for feature, latent in enumerate(chosen):
        if latent >= 0:
            found[feature] = aurocs(latents[second][:, [latent]], active[second][:, [feature]])[0, 0]
    return chosen, found


def aurocs(values: Array, active: Array) -> Array:
    """Areas under the ROC curves (features, latents) of values (n, latents) for active (n, features) bool.

    Mann–Whitney with ties at their mean rank; NaN where a feature is always or never active.
    """
    ranks = rankdata(values, axis=0)
    positive = active.sum(axis=0)[:, None].astype(np.float64)
    negative = len(active) - positive
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (active.T.astype(np.float64) @ ranks - positive * (positive + 1) / 2) / (positive * negative)
    return np.asarray(np.where((positive > 0) & (negative > 0), area, np.nan))


def match_table(found: Match, names: tuple[str, ...], hook: str) -> Table:
    """Each planted feature with the atom that comes nearest, weakest first."""
    order = np.argsort(found.cosine, kind="stable")
    return Table(
        title="Planted features",
        note=f"{len(names):,} features planted at {hook}; mean largest cosine {found.mean:.3f} "
        f"(sd {found.cosine.std():.3f}), {found.found:.0%} with {FOUND:g} or more. Control: {len(found.control)} "
        f"dictionaries of as many random atoms reach {found.control.mean():.3f} (sd {found.control.std():.3f}). "
        "Assigned: each latent stands for one feature at most.",
        axes=(Axis("Feature"), Axis("Latent"), Axis("Largest cosine"), Axis("Assigned cosine"), Axis("Random control")),
        columns=(
            np.array(names)[order],
            found.latent[order],
            found.cosine[order],
            found.alone[order],
            np.full(len(names), found.control.mean()),
        ),
    )


def score(dictionary: Dictionary, names: tuple[str, ...], directions: Array, seed: int) -> tuple[Match, Table]:
    """`match` of a dictionary's atoms with its table."""
    found = match(dictionary.W_dec, directions, seed)
    return found, match_table(found, names, dictionary.config.hook_out)
