"""What a network for modular addition computes: frequencies, progress measures, clock or pizza.

Sources: Nanda et al. 2023 (frequencies, restricted and excluded loss), Zhong et al. 2023 (gradient
symmetricity, distance irrelevance). ``logits`` are (p², p) over all pairs, pair (a, b) in row a · p + b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.toys import fourier
from engine.toys.modular.network import Shape, over_embeddings, over_pairs, sums, unpack
from engine.toys.modular.training import Split
from engine.toys.training import generator

Array: TypeAlias = npt.NDArray[Any]
KEY_SHARE = 0.02  # of the logits' variance, above which a frequency is a key frequency
TRIPLES = 200  # random (a, b, c) that gradient symmetricity is averaged over
SINGLE = 0.85  # share of a neuron's variance in one frequency above which it counts as of that frequency


def centred(logits: Tensor) -> Tensor:
    """Logits without the mean of each output and of each input, float64."""
    values = logits.double()
    return values.sub(values.mean(0) + values.mean(1, keepdim=True) - values.mean())


def by_sum(values: Tensor) -> Tensor:
    """Mean of ``values`` (p², width) over the p pairs of each sum, (p, width)."""
    p = round(len(values) ** 0.5)
    found: Tensor = torch.zeros(p, values.shape[1], dtype=values.dtype).index_add_(0, sums(p), values) / p
    return found


def waves(p: int) -> Tensor:
    """cos(2πk(s - c)/p) of all k, (p // 2, p, p)."""
    k = torch.arange(1, p // 2 + 1, dtype=torch.float64)[:, None, None]
    numbers = torch.arange(p)
    return torch.cos(2 * torch.pi * k * ((numbers[:, None] - numbers) % p) / p)


def logit_shares(logits: Tensor) -> Array:
    """Share of the centred logits' variance along cos(w_k(a + b - c)), (p // 2,); zeros where all logits are equal."""
    p = logits.shape[1]
    values = centred(logits)
    total = float(values.square().sum())
    shapes = waves(p)
    along = p * torch.einsum("sc,ksc->k", by_sum(values), shapes)
    found = along.square() / (p * shapes.square().sum((1, 2)))
    return np.asarray((found / total if total > 0 else found * 0).numpy())


def key_frequencies(shares: Array) -> list[int]:
    """Frequencies with more than `KEY_SHARE` of the logits' variance, largest first; the two largest where there are fewer."""
    order = np.argsort(-shares, kind="stable")
    count = max(int((shares > KEY_SHARE).sum()), min(2, len(shares)))
    return [int(number) + 1 for number in order[:count]]


def projected(logits: Tensor, keys: list[int]) -> Tensor:
    """The part of the logits along cos w_k(a + b) and sin w_k(a + b) of the ``keys``, float64 (p², p)."""
    p = logits.shape[1]
    basis = torch.from_numpy(np.concatenate([fourier.basis(p, k) for k in keys], axis=1))
    return (basis @ (basis.T @ by_sum(logits.double())))[sums(p)]


def restricted(logits: Tensor, keys: list[int]) -> Tensor:
    """Logits of which only the ``keys`` and each output's mean are kept."""
    return projected(logits, keys) + logits.double().mean(0)


def excluded(logits: Tensor, keys: list[int]) -> Tensor:
    """Logits without the ``keys``."""
    return logits.double() - projected(logits, keys)


def loss(logits: Tensor, rows: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy of ``rows``, nats, computed in float64."""
    return -float(logits[rows].double().log_softmax(-1)[torch.arange(len(rows)), labels].mean())


def correct_logits(logits: Tensor) -> Array:
    """M[s, d]: the logit of the right answer where a + b = s and a - b = d (mod p); NaN where p is even and no pair is."""
    p = logits.shape[1]
    a, b = np.divmod(np.arange(p * p), p)
    values = logits.double().gather(1, sums(p)[:, None])[:, 0].numpy()
    total, count = np.zeros((p, p)), np.zeros((p, p))
    np.add.at(total, ((a + b) % p, (a - b) % p), values)
    np.add.at(count, ((a + b) % p, (a - b) % p), 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def distance_irrelevance(matrix: Array) -> float:
    """Mean over d of the deviation along s of `correct_logits`, over its deviation in all: near 1 clock, near 0 pizza."""
    whole = float(np.nanstd(matrix))
    return float(np.nanstd(matrix, axis=0).mean() / whole) if whole > 0 else float("nan")


def symmetricity(shape: Shape, theta: Tensor, seed: int) -> Array:
    """Cosine of dQ_c/dE_a and dQ_c/dE_b for `TRIPLES` random (a, b, c): 1 where a and b enter alike."""
    source = generator(seed, 3)
    triples = torch.randint(shape.p, (TRIPLES, 3), generator=source)
    embed = unpack(shape, theta.detach())["embed"][0]
    pairs = embed[triples[:, :2]].requires_grad_()
    chosen = over_embeddings(shape, theta.detach(), pairs).gather(1, triples[:, 2:])
    (gradient,) = torch.autograd.grad(chosen.sum(), pairs)
    found: Array = torch.cosine_similarity(gradient[:, 0], gradient[:, 1], dim=-1).double().numpy()
    return found


def explained(logits: Tensor, keys: list[int]) -> dict[str, float]:
    """Share of the centred logits' variance that candidates fitted by least squares explain.

    ``clock``: cos w(a + b - c);  ``pizza``: |cos(w(a - b) / 2)| cos w(a + b - c);  ``both``: the two together.
    """
    p = logits.shape[1]
    values = centred(logits).flatten()
    a, b = np.divmod(np.arange(p * p), p)
    shapes = waves(p)
    clock = [shapes[k - 1][sums(p)] for k in keys]
    apart = [torch.from_numpy(np.abs(np.cos(np.pi * k * (a - b) / p))) for k in keys]
    pizza = [centred(wave * factor[:, None]) for wave, factor in zip(clock, apart, strict=True)]
    found = {}
    for name, candidates in (("clock", clock), ("pizza", pizza), ("both", [*clock, *pizza])):
        design = torch.stack([candidate.flatten() for candidate in candidates], dim=1)
        fit = torch.linalg.lstsq(design.T @ design, design.T @ values, driver="gelsd").solution
        total = float(values.square().sum())
        found[name] = float(fit @ (design.T @ values)) / total if total > 0 else float("nan")
    return found


def neuron_frequencies(hidden: Tensor) -> tuple[Array, Array]:
    """Of each neuron over all pairs (p², neurons): its best frequency, and that frequency's share of its variance.

    A frequency's share is the 2-D Fourier power at {0, k, -k}² without the constant. Neurons that never
    change have share NaN.
    """
    p, neurons = round(len(hidden) ** 0.5), hidden.shape[1]
    images = (hidden - hidden.mean(0)).T.reshape(neurons, p, p)
    power = torch.fft.fft2(images).abs().double().square()
    total = power.sum((1, 2))
    shares = []
    for k in range(1, p // 2 + 1):
        at = torch.tensor(sorted({0, k, -k % p}))
        shares.append(power[:, at[:, None], at].sum((1, 2)) - power[:, 0, 0])
    best = torch.stack(shares).max(0)
    share = torch.where(total > 0, best.values / total, torch.nan)
    return (best.indices + 1).numpy(), share.numpy()


@dataclass(frozen=True)
class Progress:
    """Progress measures of one checkpoint; losses in nats.

    Attributes:
        test, restricted, excluded: loss on test pairs, the same from key frequencies only, and on training pairs
            without them.
    """

    test: float
    restricted: float
    excluded: float


def progress(logits: Tensor, part: Split, keys: list[int]) -> Progress:
    """The progress measures of Nanda et al. 2023."""
    right = sums(logits.shape[1])
    test = right[part.test]
    return Progress(
        test=loss(logits, part.test, test),
        restricted=loss(restricted(logits, keys), part.test, test),
        excluded=loss(excluded(logits, keys), part.train, part.labels),
    )


@dataclass(frozen=True)
class Mechanism:
    """How one checkpoint adds.

    Attributes:
        symmetricity: (`TRIPLES`,) cosines.
        explained: by candidate.
        neuron_share: (neurons,) in the best frequency of each, NaN for dead ones; ``neuron_frequency`` which that is.
    """

    symmetricity: Array
    distance_irrelevance: float
    explained: dict[str, float]
    key_share: float
    embedding_shares: Array
    logit_shares: Array
    neuron_frequency: Array
    neuron_share: Array
    progress: Progress
    weight_norm: float


def mechanism(shape: Shape, theta: Tensor, part: Split, keys: list[int], seed: int) -> Mechanism:
    """Look into one checkpoint, ``theta`` (parameters,)."""
    with torch.no_grad():
        passed = over_pairs(shape, theta[None])
    logits = passed.logits[0]
    shares = logit_shares(logits)
    frequency, share = neuron_frequencies(passed.hidden[0])
    return Mechanism(
        symmetricity=symmetricity(shape, theta[None], seed),
        distance_irrelevance=distance_irrelevance(correct_logits(logits)),
        explained=explained(logits, keys),
        key_share=float(shares[[k - 1 for k in keys]].sum()),
        embedding_shares=fourier.shares(embedding(shape, theta)),
        logit_shares=shares,
        neuron_frequency=frequency,
        neuron_share=share,
        progress=progress(logits, part, keys),
        weight_norm=float(theta.double().square().sum()),
    )


def embedding(shape: Shape, theta: Tensor) -> Array:
    """The embedding of the numbers, (p, d_model)."""
    found: Array = unpack(shape, theta[None])["embed"][0, : shape.p].detach().double().numpy()
    return found
