"""Random boolean facts in a ReLU layer: many models trained at once, and what they have stored.

A model of h neurons answers for two items i and j with ``c + Σ_k w_k ReLU(A_ki + B_kj + b_k)``; the fact is 1 where
that is positive. Newgas 2025, "Progress report on a toy model of memorization"; Cover 1965, "Geometrical and
statistical properties of systems of linear inequalities".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.toys.training import Trainer, cosine, generator, set_lr

WEIGHTS, FACTS, SPLIT, OTHER = range(4)  # streams of a run's seed
CHUNK = 65_536  # activations that are worked on at once: what stays in a processor's cache
BETAS = (0.9, 0.99)


def parameters(items: int, hidden: int) -> int:
    """Trained numbers N of a model: A, B, b, w and c."""
    return 2 * items * hidden + 2 * hidden + 1


def free_parameters(items: int, hidden: int) -> int:
    """N without the three directions per neuron that change nothing: two shifts between A, B and b, and a scale."""
    return parameters(items, hidden) - 3 * hidden


@dataclass(frozen=True)
class Table:
    """Facts: ``answers`` (items, items) of 0 and 1, and the ``order`` (items²,) in which cells become facts."""

    answers: Tensor
    order: Tensor

    @classmethod
    def draw(cls, items: int, seed: int) -> Table:
        """Fair coins, and a random order."""
        answers = torch.randint(0, 2, (items, items), generator=generator(seed, FACTS)).float()
        return cls(answers, torch.randperm(items * items, generator=generator(seed, SPLIT)))

    @property
    def items(self) -> int:
        """How many each of the two tokens can be."""
        return len(self.answers)

    def chosen(self, facts: int) -> Tensor:
        """(items, items) of 1 where the cell is one of the first ``facts`` facts, else 0."""
        found = torch.zeros(self.items**2)
        found[self.order[:facts]] = 1.0
        return found.view(self.items, self.items)

    def majority(self, facts: int) -> float:
        """Share of the facts that the commoner answer gets right."""
        mean = float(self.answers.flatten()[self.order[:facts]].mean())
        return max(mean, 1 - mean)


@dataclass(frozen=True)
class Models:
    """Several models of one size: A and B (models, h, items), bias and out (models, h), offset (models,)."""

    a: Tensor
    b: Tensor
    bias: Tensor
    out: Tensor
    offset: Tensor

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, which: slice | Tensor | list[int]) -> Models:
        return Models(*(getattr(self, entry.name)[which] for entry in fields(self)))

    def detached(self) -> Models:
        """Copies that are not trained on."""
        return Models(*(getattr(self, entry.name).detach().clone() for entry in fields(self)))

    def hidden(self) -> Tensor:
        """Activations (models, h, items, items) on the whole table."""
        return ((self.a + self.bias[..., None])[..., :, None] + self.b[..., None, :]).relu_()

    def logits(self) -> Tensor:
        """(models, items, items)."""
        return torch.cat([_summed(part, part.hidden()) for part in self.parts()])

    def components(self) -> Tensor:
        """What each neuron adds to the logits (models, h, items, items): a ReLU of an outer sum, times its weight."""
        return self.hidden() * self.out[..., None, None]

    def parts(self) -> list[Models]:
        """The models in groups that are small enough to be worked on at once."""
        size = max(CHUNK // (self.out.shape[1] * self.a.shape[-1] ** 2), 1)
        return [self[start : start + size] for start in range(0, len(self), size)]


def _summed(models: Models, hidden: Tensor) -> Tensor:
    count, width, items, _ = hidden.shape
    return (
        torch.bmm(models.out[:, None], hidden.view(count, width, -1)).view(count, items, items)
        + models.offset[:, None, None]
    )


def initial(count: int, items: int, hidden: int, source: torch.Generator) -> Models:
    """Models before training: A and B of sd .7, w of sd 1 / sqrt(h), no biases."""
    return Models(
        torch.randn(count, hidden, items, generator=source) * 0.7,
        torch.randn(count, hidden, items, generator=source) * 0.7,
        torch.zeros(count, hidden),
        torch.randn(count, hidden, generator=source) / math.sqrt(hidden),
        torch.zeros(count),
    )


def entropies(models: Models, answers: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats over the facts of each model, and the share it gets right: (models,) float64 each.

    Args:
        answers: (items, items);  chosen: (models, items, items) or (items, items), 1 for facts.
    """
    return score(models.logits(), answers, chosen)


def score(logits: Tensor, answers: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The same for any ``logits`` (models, items, items)."""
    count = chosen.sum(dim=(-2, -1)).double()
    nats = (F.softplus(logits) - answers * logits) * chosen
    right = ((logits > 0) == (answers > 0.5)) * chosen
    return nats.sum(dim=(-2, -1), dtype=torch.float64) / count, right.sum(dim=(-2, -1), dtype=torch.float64) / count


def bits(facts: Tensor | float, nats: Tensor) -> Tensor:
    """What is stored, ``F (1 - CE / ln 2)``: one bit a fact less what is still unknown of it."""
    return facts * (1 - nats / math.log(2))


def gradients(models: Models, answers: Tensor, weight: Tensor) -> tuple[Tensor, Models]:
    """Loss (models,), the weighted sum of cross-entropies, and its gradients, written out by hand.

    ``weight`` (models, items, items) is 1 / F at facts and 0 elsewhere.
    """
    found = [_gradients(part, answers, w) for part, w in zip(models.parts(), _like(weight, models), strict=True)]
    losses = torch.cat([loss for loss, _ in found])
    names = [entry.name for entry in fields(Models)]
    return losses, Models(*(torch.cat([getattr(one, name) for _, one in found]) for name in names))


def _like(weight: Tensor, models: Models) -> list[Tensor]:
    size = len(models.parts()[0])
    return [weight[start : start + size] for start in range(0, len(weight), size)]


def _gradients(models: Models, answers: Tensor, weight: Tensor) -> tuple[Tensor, Models]:
    hidden = models.hidden()
    count, width = models.out.shape
    logits = _summed(models, hidden)
    error = torch.sigmoid(logits).sub_(answers).mul_(weight)
    loss = ((F.softplus(logits) - answers * logits) * weight).sum(dim=(1, 2))
    out = torch.bmm(hidden.view(count, width, -1), error.view(count, -1, 1))[..., 0]
    back = (hidden > 0) * error[:, None]
    a = back.sum(dim=3) * models.out[..., None]
    b = back.sum(dim=2) * models.out[..., None]
    return loss, Models(a, b, a.sum(dim=2), out, error.sum(dim=(1, 2)))


@dataclass(frozen=True)
class Group:
    """Models of one width: ``restarts`` for each number of facts."""

    hidden: int
    facts: tuple[int, ...]
    restarts: int

    @property
    def count(self) -> int:
        """Models in all."""
        return len(self.facts) * self.restarts

    def chosen(self, table: Table) -> Tensor:
        """(models, items, items) of 1 for facts, number of facts first, then restarts."""
        return torch.stack([table.chosen(facts) for facts in self.facts]).repeat_interleave(self.restarts, dim=0)

    def split(self, values: Tensor) -> Tensor:
        """Values (models,) as (numbers of facts, restarts)."""
        return values.view(len(self.facts), self.restarts)


class MemoryTrainer(Trainer):
    """Trains all models of all groups at once, each by itself: full batch, Adam, learning rate along a cosine to 0."""

    def __init__(self, table: Table, groups: Sequence[Group], *, steps: int, lr: float, seed: int) -> None:
        source = generator(seed, WEIGHTS)
        self.table, self.groups = table, tuple(groups)
        self.models = [initial(group.count, table.items, group.hidden, source) for group in groups]
        weights = {
            f"{entry.name}.{number}": getattr(models, entry.name).requires_grad_()
            for number, models in enumerate(self.models)
            for entry in fields(Models)
        }
        super().__init__(weights, torch.optim.Adam(weights.values(), lr=lr, betas=BETAS))
        self.chosen = [group.chosen(table) for group in groups]
        self.weight = [chosen / chosen.sum(dim=(1, 2), keepdim=True) for chosen in self.chosen]
        self.steps, self.lr = steps, lr

    @torch.no_grad()
    def train_step(self) -> float:
        """One step of all models; the mean of their losses before it."""
        assert self.optimiser is not None
        set_lr(self.optimiser, cosine(self.lr, self.step, self.steps))
        losses = []
        for models, weight in zip(self.models, self.weight, strict=True):
            loss, found = gradients(models, self.table.answers, weight)
            losses.append(loss)
            for entry in fields(Models):
                getattr(models, entry.name).grad = getattr(found, entry.name)
        self.optimiser.step()
        self.step += 1
        return float(torch.cat(losses).mean())

    @torch.no_grad()
    def measure(self, number: int) -> tuple[Tensor, Tensor]:
        """Cross-entropy (nats) and accuracy of group ``number``: (numbers of facts, restarts) each, float64."""
        group = self.groups[number]
        nats, right = entropies(self.models[number], self.table.answers, self.chosen[number])
        return group.split(nats), group.split(right)


def svd_rank(items: int, budget: int) -> int:
    """The largest rank whose factors cost no more than ``budget`` numbers; rank r costs ``2 m r - r²``."""
    if budget >= items**2:
        return items
    return int(items - math.sqrt(items**2 - budget))


def svd_logits(table: Table, chosen: Tensor, rank: int) -> Tensor:
    """Control: the truncated SVD of the facts as ±1 (others 0), scaled to the least cross-entropy: (items, items)."""
    target = (2 * table.answers - 1) * chosen
    left, values, right = torch.linalg.svd(target.double())
    found = (left[:, :rank] * values[:rank]) @ right[:rank]
    scales = torch.logspace(-2, 3, 101, dtype=torch.float64)
    nats, _ = score(found * scales[:, None, None], table.answers.double(), chosen.double())
    scaled: Tensor = found * scales[nats.argmin()]
    return scaled
