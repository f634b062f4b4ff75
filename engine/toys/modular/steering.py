"""Steering a network for modular addition from the answer a + b to a + b + δ, where the right result is known exactly.

Three sites: ``embedding`` (of a), ``mid`` (residual stream at "=" before the MLP) and ``post`` (after it). What the
model itself does for a + δ is the oracle that every method is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.geometry.probes import fit as least_squares
from engine.geometry.probes import r_squared
from engine.steering.errors import SteeringError
from engine.steering.learned import ShiftNetwork
from engine.steering.manifold import Manifold, relative_step, to_oracle
from engine.steering.steerability import wilson
from engine.toys import fourier
from engine.toys.modular import analysis
from engine.toys.modular.network import Shape, before_mlp, from_middle, over_pairs, sums, unpack
from engine.toys.training import generator

Array: TypeAlias = npt.NDArray[Any]
EMBEDDING, MID, POST = "embedding", "mid", "post"
HALVES, NOISE, TARGETS = 6, 7, 8  # streams of the seed
DRAWS = 2  # random targets of each held-out pair
POWER = 0.02  # of the embedding's power, above which a frequency is rotated


@dataclass(frozen=True, eq=False)
class Bed:
    """A network with the residual streams of all its pairs, row a · p + b, and the two halves of them.

    Attributes:
        theta: (1, parameters).
        a, b, y: (p²,) int64, y = a + b mod p.
        x: by site (p², d_model).
        logits: (p², p).
        fitted, held: rows from which methods are made, and those on which they are judged. (a, b) and (b, a) are in
            the same half, because networks may hardly tell them apart.
        keys: frequencies with more than 2 % of the embedding's power, the strongest first; the two strongest where none has.
        manifolds: by site real activations to measure distances to; None where they are copies of each other.
    """

    shape: Shape
    theta: Tensor
    a: Tensor
    b: Tensor
    y: Tensor
    x: dict[str, Tensor]
    logits: Tensor
    fitted: Tensor
    held: Tensor
    keys: list[int]
    manifolds: dict[str, Manifold | None]

    @property
    def embedding(self) -> Tensor:
        """Embeddings of the numbers, (p, d_model)."""
        return unpack(self.shape, self.theta)["embed"][0, : self.shape.p]

    def logits_of(self, site: str, moved: Tensor, rows: Tensor) -> Tensor:
        """Logits (n, p) of pairs ``rows`` (n,) with ``moved`` (n, d_model) in place at ``site``."""
        if site == POST:
            return moved @ unpack(self.shape, self.theta)["unembed"][0]
        if site == EMBEDDING:
            moved = before_mlp(self.shape, self.theta, torch.stack([moved, self.embedding[self.b[rows]]], dim=1))
        return from_middle(self.shape, self.theta, moved).logits[0]

    def rest(self, moved: Tensor, rows: Tensor) -> Tensor:
        """`logits_of` at mid: what learned steering is trained through."""
        return self.logits_of(MID, moved, rows)

    def shifted(self, rows: Tensor, delta: int | Tensor) -> Tensor:
        """Rows of (a + δ, b): the oracle of each of ``rows``."""
        p = self.shape.p
        return (self.a[rows] + delta) % p * p + self.b[rows]


def bed(shape: Shape, theta: Tensor, seed: int) -> Bed:
    """The test bed of a network ``theta`` (parameters,)."""
    p = shape.p
    with torch.no_grad():
        passed = over_pairs(shape, theta.detach()[None])
    a, b = torch.arange(p * p) // p, torch.arange(p * p) % p
    embedding = torch.from_numpy(analysis.embedding(shape, theta)).float()
    x = {EMBEDDING: embedding[a], MID: passed.middle[0], POST: passed.final[0]}
    fitted, held = halves(p, seed)
    manifolds = {EMBEDDING: _manifold(embedding.numpy(), None)}
    manifolds |= {site: _manifold(x[site][fitted].numpy(), x[site][held].numpy()) for site in (MID, POST)}
    shares = fourier.shares(embedding.numpy())
    strongest = np.argsort(-shares, kind="stable")
    keys = [int(k) + 1 for k in strongest if shares[k] > POWER] or [int(k) + 1 for k in strongest[:2]]
    return Bed(shape, theta.detach()[None], a, b, sums(p), x, passed.logits[0], fitted, held, keys, manifolds)


def _manifold(bank: Array, real: Array | None) -> Manifold | None:
    try:
        return Manifold(bank, real)
    except SteeringError:
        return None


def halves(p: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two halves of the pairs' rows, in both of which (a, b) and (b, a) come together."""
    a, b = torch.arange(p * p) // p, torch.arange(p * p) % p
    which = torch.rand(p, p, generator=generator(seed, HALVES))
    first = which[torch.minimum(a, b), torch.maximum(a, b)] < 0.5
    return first.nonzero()[:, 0], (~first).nonzero()[:, 0]


def rotated(table: Tensor, keys: Sequence[int], delta: int) -> Tensor:
    """``table`` (p, width), row a for the number a, with its circles of frequencies ``keys`` turned by ``delta`` numbers.

    In the plane of frequency k every row is turned by 2πkδ/p, which puts it where a + δ is; all else stays:
    x_a + (u_k(a + δ) - u_k(a)) @ plane_k (Engels et al. 2024).
    """
    values = table.double().cpu()
    centred = values - values.mean(0)
    found = values.clone()
    for k in keys:
        basis = torch.from_numpy(fourier.basis(len(values), k))
        part = basis @ (basis.T @ centred)
        found += part.roll(-delta, 0) - part
    return found.to(table.dtype)


def class_means(x: Tensor, y: Tensor, p: int) -> Tensor:
    """Mean of ``x`` (n, width) by class ``y`` (n,), (p, width) float32; a class without rows has the mean of all."""
    total = torch.zeros(p, x.shape[1], dtype=torch.float64).index_add_(0, y, x.double())
    count = torch.bincount(y, minlength=p)[:, None]
    return torch.where(count > 0, total / count.clamp_min(1), x.double().mean(0)).float()


def global_vector(means: Tensor, delta: int) -> Tensor:
    """Mean over y of means[y + δ] - means[y], (width,): the one vector for "+ δ". Each mean is added and taken away once."""
    return (means.double().roll(-delta, 0) - means.double()).mean(0).float()


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method did on held-out pairs.

    Attributes:
        method, site, delta: which; ``delta`` 0 where targets are drawn at random.
        n: pairs;  success: share answered y + δ;  low, high: its 95 % interval (Wilson).
        step: (n,) |x' - x| / |x|.
        distance: (n,) to the nearest real activation, relative to the median among real ones; NaN where not measured.
        cosine: (n,) of x' and the oracle's x, which may be high where nothing was changed;  turn: of x' - x and the
            oracle's step, NaN where a step is zero.
        side: (n,) KL in nats from the oracle's distribution over all other answers, renormalised without y + δ.
        note: one more number in words (R², a norm).
    """

    method: str
    site: str
    delta: int
    n: int
    success: float
    low: float
    high: float
    step: Array
    distance: Array
    cosine: Array
    turn: Array
    side: Array
    note: str = ""


def judged(
    bed: Bed, method: str, site: str, moved: Tensor, delta: int | Tensor, rows: Tensor, note: str = ""
) -> Outcome:
    """Put ``moved`` (n, d_model) in place of the activations of pairs ``rows`` (n,) at ``site``.

    Args:
        delta: one for all, or (n,).
    """
    with torch.no_grad():
        logits = bed.logits_of(site, moved, rows)
    oracle, target = bed.shifted(rows, delta), (bed.y[rows] + delta) % bed.shape.p
    right = (logits.argmax(1) == target).double()
    low, high = wilson(float(right.mean()), len(rows))
    x, wanted, put = (part.numpy() for part in (bed.x[site][rows], bed.x[site][oracle], moved))
    manifold = bed.manifolds[site]
    to_it = to_oracle(x, put, wanted)
    distance = np.full(len(rows), np.nan) if manifold is None else manifold.nearest(put).plain
    return Outcome(
        method,
        site,
        delta if isinstance(delta, int) else 0,
        len(rows),
        float(right.mean()),
        low,
        high,
        relative_step(x, put),
        distance,
        to_it.activation,
        to_it.step,
        side_effect(logits, bed.logits[oracle], target),
        note,
    )


def side_effect(logits: Tensor, oracle: Tensor, target: Tensor) -> Array:
    """KL(oracle ‖ steered) in nats over all answers but the ``target`` (n,), renormalised, float64 (n,)."""
    off = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, target[:, None], True)
    steered, wanted = (values.double().masked_fill(off, -torch.inf).log_softmax(1) for values in (logits, oracle))
    apart = (wanted - steered).masked_fill(off, 0.0)
    found: Array = (wanted.exp() * apart).sum(1).numpy()
    return found


def exact_methods(bed: Bed, delta: int, seed: int) -> list[Outcome]:
    """All methods that need no training, with their floors, on the held-out half."""
    rows, p = bed.held, bed.shape.p
    source = generator(seed, NOISE)
    embedding = bed.embedding.detach()
    turned = rotated(embedding, bed.keys, delta)[bed.a[rows]]
    order = torch.randperm(p, generator=source)
    at_random = torch.empty_like(embedding)
    at_random[order] = rotated(embedding[order], bed.keys, delta)
    mid, post = bed.x[MID][rows], bed.x[POST][rows]
    oracle = bed.shifted(rows, delta)
    target = (bed.y[rows] + delta) % p

    def means(site: str, *, shuffled: bool = False) -> Tensor:
        y = bed.y[bed.fitted]
        if shuffled:
            y = y[torch.randperm(len(y), generator=source)]
        return class_means(bed.x[site][bed.fitted], y, p)

    by_site = {site: means(site) for site in (MID, POST)}
    shuffled = means(POST, shuffled=True)
    y = bed.y[rows]
    whole = {site: global_vector(one, delta) for site, one in by_site.items()}
    at_post = by_site[POST][target] - by_site[POST][y]
    tried: list[tuple[str, str, Tensor, str]] = [
        ("rotation of a's embedding", EMBEDDING, turned, f"{len(bed.keys)} planes"),
        ("oracle patch", MID, bed.x[MID][oracle], ""),
        ("class-pair means", POST, post + at_post, ""),
        ("one global vector", POST, post + whole[POST], f"norm {float(whole[POST].norm()):.0e}"),
        ("class-pair means", MID, mid + by_site[MID][target] - by_site[MID][y], ""),
        ("one global vector", MID, mid + whole[MID], f"norm {float(whole[MID].norm()):.0e}"),
        ("least-squares affine map", MID, *_affine(bed, delta, source, shuffled=False)),
        ("target's class mean as x", MID, by_site[MID][target], "in place of x"),
        ("mean patch, all pairs", MID, bed.x[MID][bed.fitted].mean(0).expand_as(mid), "floor"),
        ("rotation, numbers shuffled", EMBEDDING, at_random[bed.a[rows]], "floor"),
        ("class-pair means, shuffled", POST, post + shuffled[target] - shuffled[y], "floor"),
        ("affine map, targets shuffled", MID, *_affine(bed, delta, source, shuffled=True)),
        ("random vector, equal norm", EMBEDDING, _noisy(bed, EMBEDDING, turned, source), "floor, of the rotation"),
        ("random vector, equal norm", MID, _noisy(bed, MID, bed.x[MID][oracle], source), "floor, of the oracle's step"),
        ("random vector, equal norm", POST, _noisy(bed, POST, post + at_post, source), "floor, of class-pair means"),
    ]
    return [judged(bed, method, site, moved, delta, rows, note) for method, site, moved, note in tried]


def _noisy(bed: Bed, site: str, moved: Tensor, source: torch.Generator) -> Tensor:
    """Activations moved as far as in ``moved``, each in a direction of its own that is drawn."""
    x = bed.x[site][bed.held]
    drawn = torch.randn(x.shape, generator=source)
    lengths: Tensor = (moved - x).norm(dim=1) / drawn.norm(dim=1)
    return x + drawn * lengths[:, None]


def _affine(bed: Bed, delta: int, source: torch.Generator, *, shuffled: bool) -> tuple[Tensor, str]:
    """Held-out activations mapped by least squares from x to the oracle's, and the map's R² there."""
    x, target = bed.x[MID].numpy(), bed.x[MID][bed.shifted(torch.arange(len(bed.y)), delta)].numpy()
    fitted, held = bed.fitted.numpy(), bed.held.numpy()
    order = torch.randperm(len(fitted), generator=source).numpy() if shuffled else np.arange(len(fitted))
    found = least_squares(x[fitted], target[fitted[order]])(x[held])
    r2 = r_squared(target[held].astype(np.float64), found)
    return torch.from_numpy(found).float(), f"R² {r2:.2f}" + (", floor" if shuffled else "")


@dataclass(frozen=True, eq=False)
class LearnedOutcome:
    """What a learned f did on held-out pairs.

    Attributes:
        beta: the price of moving that it was trained with.
        deltas: by δ, with the true y;  anywhere: with a random target y' of the pairs (y, y') that it was trained on;
            new: of the pairs (y, y') that it was not.
        wrong_y: as ``anywhere``, but f is told a random y in place of the true one: whether it uses that at all.
    """

    beta: float
    deltas: list[Outcome]
    anywhere: Outcome
    new: Outcome
    wrong_y: Outcome


def learned_outcome(
    bed: Bed, network: ShiftNetwork, beta: float, untrained: Tensor, deltas: Sequence[int], seed: int
) -> LearnedOutcome:
    """Judge f; ``untrained`` (p, p) bool are the pairs (y, y') that it was not trained on."""
    p, source = bed.shape.p, generator(seed, TARGETS)

    def put(name: str, rows: Tensor, delta: int | Tensor, told: Tensor | None = None) -> Outcome:
        y = bed.y[rows]
        with torch.no_grad():
            moved = network(bed.x[MID][rows], y if told is None else told, (y + delta) % p)
        return judged(bed, name, MID, moved, delta, rows, f"β = {beta:g}")

    rows = bed.held.repeat(DRAWS)
    delta = torch.randint(1, p, (len(rows),), generator=source)
    told = (bed.y[rows] + torch.randint(1, p, (len(rows),), generator=source)) % p
    known = ~untrained[bed.y[rows], (bed.y[rows] + delta) % p]
    item, target = untrained[bed.y[bed.held]].nonzero().unbind(1)
    some = torch.randperm(len(item), generator=source)[: len(rows)]
    new, to_new = bed.held[item[some]], (target[some] - bed.y[bed.held[item[some]]]) % p
    return LearnedOutcome(
        beta,
        [put("learned f", bed.held, one) for one in deltas],
        put("learned f, any y'", rows[known], delta[known]),
        put("learned f, pairs (y, y') held out", new, to_new),
        put("learned f, told a wrong y", rows[known], delta[known], told[known]),
    )
