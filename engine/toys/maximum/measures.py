"""What is measured of a max-of-K transformer, trained or not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.toys.maximum import transformer as model
from engine.toys.maximum.transformer import Plan, forward
from engine.toys.training import generator

TESTED = 20_000  # sequences of each kind


@torch.no_grad()
def right(weights: dict[str, Tensor], tokens: Tensor) -> tuple[float, float, float]:
    """Accuracy, mean cross-entropy and attention on the largest number over ``tokens`` (n, k)."""
    logits, attention = forward(weights, tokens)
    largest = tokens.amax(dim=1)
    loss = float(torch.nn.functional.cross_entropy(logits, largest))
    seen = float((attention * (tokens == largest[:, None])).sum(dim=1).mean())
    return float((logits.argmax(dim=1) == largest).double().mean()), loss, seen


@torch.no_grad()
def within(weights: dict[str, Tensor], tokens: Tensor, numbers: int) -> float:
    """Share of the logits' variance that is left among sequences with the same largest number."""
    logits = forward(weights, tokens)[0][:, :numbers].double()
    one_hot = torch.nn.functional.one_hot(tokens.amax(dim=1), numbers).double()
    means = (one_hot.T @ logits) / one_hot.sum(dim=0)[:, None].clamp_min(1)
    left = (logits - one_hot @ means).square().sum()
    return float(left / (logits - logits.mean(dim=0)).square().sum())


def quantities(plan: Plan, weights: dict[str, Tensor]) -> list[tuple[str, float, str]]:
    """Names, values and definitions of all that the table of the experiment shows."""
    found = model.circuits(weights, plan.numbers, plan.k)
    direction = model.size_direction(found.scores)
    accuracy, loss, attention = right(weights, model.uniform(plan, TESTED, generator(plan.seed, 6)))
    near, near_loss, near_attention = right(weights, model.near_ties(plan, TESTED, generator(plan.seed, 7)))
    inside = within(weights, model.even(plan, TESTED, generator(plan.seed, 11)), plan.numbers)
    own = np.diag(found.writes)
    others = np.where(np.eye(plan.numbers, dtype=bool), -np.inf, found.writes).max(axis=1)
    sample = f"over {TESTED:,} fresh sequences"
    return [
        ("accuracy, uniform", accuracy, f"share right {sample}"),
        ("accuracy, near ties", near, f"share right {sample}"),
        ("loss, uniform", loss, "mean cross-entropy, nats"),
        ("loss, near ties", near_loss, "mean cross-entropy, nats"),
        ("attention on the largest, uniform", attention, "all its copies together, at the last position"),
        ("attention on the largest, near ties", near_attention, "the same"),
        (
            "rank-one share of EQKE",
            float(direction.shares[0]),
            "first squared singular value over their sum, no row means",
        ),
        ("first over second singular value", direction.ratio, "of EQKE without row means"),
        ("correlation with the number", direction.correlation, "of the first right singular vector, its sign left out"),
        ("rising steps", direction.rising, "share of neighbours of which the larger number has the larger entry"),
        (
            "EVOU on the diagonal",
            float((found.writes.argmax(axis=1) == np.arange(plan.numbers)).mean()),
            "share of numbers",
        ),
        ("EVOU margin", float((own - others).mean()), "own logit less the largest other, mean over numbers"),
        ("EVOU margin, least", float((own - others).min()), "the same, of the worst number"),
        ("logits' variance within an answer", inside, "share of the variance, each number the largest equally often"),
    ]
