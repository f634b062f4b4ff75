"""Patch the activation of a number with what a model of it says another number has: does the answer follow?

Kantamneni & Tegmark 2025, Language Models Use Trigonometry to Do Addition. In “a+b=” the activation at a is replaced by
that of another number a', as it is (the ceiling), as a fit predicts it, as principal components give it back, and by the mean
of all numbers (the floor). What counts is the logit of a'+b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from engine.geometry import probes
from engine.geometry.errors import GeometryError
from engine.geometry.helix import DIMS, Points, fit_points, pca, pca_project
from engine.geometry.number_design import PERIODS, design, resolved
from engine.geometry.number_passes import ChangeOf, passes
from engine.geometry.number_reading import Prefixes, read_prefixes
from engine.geometry.number_sums import Sums, answered, ask

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
FULL, MEAN = "full activation", "mean activation"
WIDER = 27  # principal components of the second PCA
RESAMPLES = 1_000
WANTED = 100  # pairs from which on the test counts as well supplied


@dataclass(frozen=True)
class Pairs:
    """Pairs of prompts with the same b, whose answers differ and are both given: rows of `Sums`.

    ``clean`` is patched, ``other`` says with what; ``held`` marks pairs whose other number no fit has seen.
    """

    clean: Array
    other: Array
    held: Array


@dataclass(frozen=True)
class PatchResults:
    """Effects of patching, per pair.

    Attributes:
        methods: what the activation was replaced by, ceiling first, floor last.
        parameters: how many parameters per dimension each has; NaN for the activations themselves.
        hooks, layers: hook points and how many blocks are before each.
        effects: (hooks, methods, pairs) logit of the other answer, patched minus clean, float64.
        right: (hooks, methods, pairs) whether the other answer has the highest logit.
        sums: the prompts; pairs: rows of it.
        train, held: numbers that were fitted, and that were not.
    """

    methods: tuple[str, ...]
    parameters: tuple[float, ...]
    hooks: tuple[str, ...]
    layers: tuple[int, ...]
    effects: Array
    right: Array
    sums: Sums
    pairs: Pairs
    train: Array
    held: Array

    @property
    def clearest(self) -> int:
        """The hook point at which the ceiling is highest, the first of equals."""
        full = self.effects[:, self.methods.index(FULL)].mean(axis=1)
        return int(np.flatnonzero(full >= full.max() - 1e-6 * abs(full.max()))[0])


def split(values: Array, random: np.random.Generator, parts: int = 5) -> tuple[Array, Array]:
    """``values`` to fit and to hold out, a fifth of them."""
    held = probes.folds(values, min(parts, len(values)), random) == 0
    return values[~held], values[held]


def draw_pairs(sums: Sums, held: Array, count: int, random: np.random.Generator) -> Pairs:
    """At most ``count`` different pairs of rows of `Sums`, up to half of them with an other number in ``held``.

    Raises:
        GeometryError: there are fewer than two.
    """
    clean, other = [], []
    for b in np.unique(sums.b[sums.right]):
        rows = np.flatnonzero(sums.right & (sums.b == b))
        one, two = np.meshgrid(rows, rows, indexing="ij")
        differ = sums.answer[one] != sums.answer[two]
        clean.append(one[differ])
        other.append(two[differ])
    found = np.stack([np.concatenate(clean), np.concatenate(other)]) if clean else np.empty((2, 0), int)
    if found.shape[1] < 2:
        raise GeometryError(
            f"The model answers {int(sums.right.sum())} of {len(sums.right)} sums rightly, which make no pairs to patch; give "
            "examples in the template before {a}, smaller numbers, or another model."
        )
    unseen = np.isin(sums.a[found[1]], held)
    parts = [random.permutation(np.flatnonzero(mark)) for mark in (unseen, ~unseen)]
    taken = min(len(parts[0]), max(count // 2, count - len(parts[1])))
    chosen = np.sort(np.concatenate([parts[0][:taken], parts[1][: count - taken]]))
    return Pairs(found[0, chosen], found[1, chosen], unseen[chosen])


def replacements(
    points: Points,
    rows: Array,
    train: Array,
    random: np.random.Generator,
    *,
    periods: Sequence[float] = PERIODS,
    dims: int = DIMS,
) -> dict[str, tuple[float, Array]]:
    """By method its parameters per dimension, and the activations (len(rows), width) it gives for the prompts ``rows``.

    Everything is fitted on the numbers ``train`` only. The shuffled helix was fitted after these were dealt out anew.
    """
    values, wanted = points.distinct, points.values[rows]
    fitted = points.of(train)
    found = pca(fitted.x, dims)
    columns = {"helix": design(values, periods=periods)}
    q = columns["helix"].columns - 1
    columns |= {"circle": design(values, "circle", periods=periods)} if periods else {}
    columns |= {"polynomial": design(values, "polynomial", degree=max(q, 1))}
    given: dict[str, tuple[float, Array]] = {FULL: (np.nan, points.x[rows])}
    for name, one in columns.items():
        given[name] = (one.columns, fit_points(points, one, train=train, found=found).predict(wanted))
    for count in dict.fromkeys((q, max(q, WIDER))):
        given[f"PCA-{count}"] = (np.nan, pca_project(points.x[rows], found, count))
    dealt = random.permutation(fitted.distinct)[fitted.index]
    shuffled = fit_points(Points(dealt, fitted.x), columns["helix"], found=found)
    given["helix, shuffled"] = (columns["helix"].columns, shuffled.predict(wanted))
    given[MEAN] = (0, np.broadcast_to(found.mean, (len(rows), points.x.shape[1])))
    return given


def patching(
    model: OpenModel,
    template: str,
    values: Array,
    hooks: Mapping[str, int],
    random: np.random.Generator,
    *,
    pairs: int = WANTED,
    periods: Sequence[float] = PERIODS,
    dims: int = DIMS,
    train: Array | None = None,
    prepend_bos: bool = True,
    single: bool = False,
    run: Run | None = None,
) -> PatchResults:
    """The causal test of a model's numbers at ``hooks``, which are hook points with the number of blocks before each.

    Args:
        template: as in `engine.geometry.number_sums.ask`.
        values: numbers to ask for.
        random: draws b, the split and the pairs.
        pairs: of prompts, at most.
        periods: of the helix; those that the numbers cannot tell are left out.
        train: numbers to fit, all others are held out; None holds out a fifth.
        single: use only numbers that are one token.

    Raises:
        GeometryError: as `ask` and `draw_pairs`.
    """
    sums = ask(model, template, values, random, prepend_bos=prepend_bos, single=single, run=run)
    known = np.unique(sums.a)
    fitted, held = split(known, random) if train is None else (np.intersect1d(known, train), np.setdiff1d(known, train))
    drawn = draw_pairs(sums, held, pairs, random)
    used = resolved(known, periods)
    prompts = Prefixes.of(sums.ids, sums.position)
    token, rows = sums.token[drawn.other], prompts.index[drawn.other]
    ids, ends, positions = (part[drawn.clean] for part in (sums.ids, sums.end, sums.position))
    effects, rights = [], []
    given: dict[str, tuple[float, Array]] = {}
    for number, (hook, x) in enumerate(read_prefixes(model, prompts, list(hooks), run)):
        points = Points(sums.a[prompts.first], x)
        given = replacements(points, rows, fitted, random, periods=used, dims=dims)
        logit, right = np.zeros((1 + len(given), len(token))), np.zeros((1 + len(given), len(token)), bool)
        changes = [_placing(model, x) for _, x in given.values()]
        for batch, method, logits in passes(model, ids, ends, hook=hook, positions=positions, changes=changes, run=run):
            logit[method, batch], _, right[method, batch] = answered(logits, token[batch])
            if run is not None and method == len(given):
                run.progress(number * len(token) + int(batch[-1]) + 1, len(hooks) * len(token), "pairs")
        effects.append(logit[1:] - logit[0])
        rights.append(right[1:])
    return PatchResults(
        tuple(given), tuple(count for count, _ in given.values()), tuple(hooks), tuple(hooks.values()),
        np.array(effects), np.array(rights), sums, drawn, fitted, held,
    )  # fmt: skip


def _placing(model: OpenModel, x: Array) -> ChangeOf:
    """Puts rows of ``x`` (pairs, width) in the place of activations."""
    placed = torch.from_numpy(np.array(x, dtype=np.float32)).to(model.device)
    return lambda rows: lambda _: placed[torch.from_numpy(rows).to(placed.device)]


def interval(samples: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """95 % bootstrap of the mean over the last axis of ``samples``: lower and upper bound."""
    x = np.asarray(samples, dtype=np.float64)
    n = x.shape[-1]
    if n < 2:
        nothing = np.full(x.shape[:-1], np.nan)
        return nothing, nothing
    weights = random.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    low, high = np.quantile(x @ weights.T, [0.025, 0.975], axis=-1)
    return low, high
