"""How far the embeddings of a sum may be moved before the network answers wrongly (Humayun et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.toys.modular.network import Shape, over_embeddings, sums, unpack
from engine.toys.training import generator

Array: TypeAlias = npt.NDArray[Any]
RADII = (0.05, 0.1, 0.2, 0.3, 0.5)  # in mean embedding norms
ASCENT, STEP = 10, 0.25  # steps of the attack, and their length in radii


def _excess(logits: Tensor, labels: Tensor) -> Tensor:
    """log Σ of the other logits' exponentials minus the right logit: the loss is its softplus, but this never saturates."""
    right = logits.gather(1, labels[:, None])[:, 0]
    return logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1).sub(right)


def attack(shape: Shape, theta: Tensor, pairs: Tensor, labels: Tensor, radius: float) -> Tensor:
    """Embeddings (n, 2, d_model) moved at most ``radius`` (L2 over both) by projected ascent of the loss."""
    moved = torch.zeros_like(pairs)
    for _ in range(ASCENT):
        moved.requires_grad_()
        excess = _excess(over_embeddings(shape, theta, pairs + moved), labels)
        (gradient,) = torch.autograd.grad(excess.sum(), moved)
        moved = moved.detach() + STEP * radius * gradient / _length(gradient)
        moved = moved * (radius / _length(moved)).clamp(max=1.0)
    return pairs + moved


def _length(vectors: Tensor) -> Tensor:
    found: Tensor = vectors.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None]
    return found


@dataclass(frozen=True)
class Robustness:
    """Of the pairs looked at in one checkpoint.

    Attributes:
        adversarial, random: (`RADII`,) accuracy after the attack, and after random moves of the same length.
        margin: (n,) first-order distance to the nearest wrong answer: lead of the right logit over the best other,
            divided by the norm of the lead's gradient, in mean embedding norms; below 0 where the answer is wrong.
    """

    adversarial: Array
    random: Array
    margin: Array


def robustness(shape: Shape, theta: Tensor, rows: Tensor, seed: int) -> Robustness:
    """Attack the pairs ``rows`` (n,) of a checkpoint ``theta`` (parameters,)."""
    weights = theta.detach()[None]
    embed = unpack(shape, weights)["embed"][0, : shape.p]
    norm = float(embed.norm(dim=1).mean())
    labels = sums(shape.p)[rows]
    pairs = embed[torch.stack([rows // shape.p, rows % shape.p], dim=1)]
    source = generator(seed, 4)
    direction = torch.randn(pairs.shape, generator=source)
    direction = direction / _length(direction)

    def accuracy(moved: Tensor) -> float:
        with torch.no_grad():
            return float((over_embeddings(shape, weights, moved).argmax(1) == labels).double().mean())

    adversarial = [accuracy(attack(shape, weights, pairs, labels, radius * norm)) for radius in RADII]
    random = [accuracy(pairs + radius * norm * direction) for radius in RADII]
    return Robustness(np.array(adversarial), np.array(random), margins(shape, weights, pairs, labels) / norm)


def margins(shape: Shape, theta: Tensor, pairs: Tensor, labels: Tensor) -> Array:
    """The right logit's lead over the best other, over the norm of its gradient, (n,)."""
    moved = pairs.clone().requires_grad_()
    logits = over_embeddings(shape, theta, moved)
    best = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    lead = logits.gather(1, labels[:, None])[:, 0] - best
    (gradient,) = torch.autograd.grad(lead.sum(), moved)
    found: Array = (lead.detach() / _length(gradient)[:, 0, 0]).double().numpy()
    return found
