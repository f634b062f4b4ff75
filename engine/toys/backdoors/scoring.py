"""How suspicious a latent is, told without the trigger, and how well it tells triggered sequences, told with it.

score = effect / frequency
effect = mean over clean sequences of KL(p(·|x) ‖ p(·|x + c·d at one position))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TOP = 5  # most suspicious latents that a person would look at
AT_ONCE = 4_096  # sequences in one pass

ReadOut = Callable[[Tensor], Tensor]  # residual streams (n, 12, d) to logits (n, labels)


@dataclass(frozen=True)
class Verdict:
    """What one method found in one model.

    Attributes:
        order: latents, the most suspicious first; those that are never active come last.
        score, effect, frequency: (F,) of each latent.
        auroc: (F,) how well each tells triggered from untriggered sequences.
    """

    order: Tensor
    score: Tensor
    effect: Tensor
    frequency: Tensor
    auroc: Tensor

    @property
    def found(self) -> float:
        """AUROC of the best of the `TOP` most suspicious latents."""
        return float(self.auroc[self.order[:TOP]].max())

    @property
    def found_by_effect(self) -> float:
        """The same of the `TOP` latents of largest effect, however often they are active."""
        effect = torch.where(self.frequency > 0, self.effect, 0.0)
        return float(self.auroc[effect.argsort(descending=True, stable=True)[:TOP]].max())

    @property
    def best(self) -> float:
        """AUROC of the best latent of all, which only who knows the trigger can choose."""
        return float(self.auroc.max())

    @property
    def rank(self) -> int:
        """Place of the best latent in the order of suspicion, 1 for the most suspicious."""
        return int((self.order == self.auroc.argmax()).nonzero()) + 1


def suspicion(effect: Tensor, frequency: Tensor, activations: int) -> Tensor:
    """Effect over frequency (F,); 0 for latents that are never active on the ``activations`` looked at."""
    rarest = 1.0 / activations
    return torch.where(frequency > 0, effect / frequency.clamp_min(rarest), 0.0)


def verdict(effect: Tensor, frequency: Tensor, auroc: Tensor, activations: int) -> Verdict:
    """Latents in the order of `suspicion`."""
    score = suspicion(effect, frequency, activations)
    return Verdict(score.argsort(descending=True, stable=True), score, effect, frequency, auroc)


def kl(logits: Tensor, changed: Tensor) -> Tensor:
    """KL(p ‖ p′) in nats of logits ``(…, labels)`` and their changed counterparts."""
    one, other = logits.log_softmax(dim=-1), changed.log_softmax(dim=-1)
    return (one.exp() * (one - other)).sum(dim=-1)


@torch.no_grad()
def effects(read_out: ReadOut, x: Tensor, directions: Tensor, length: float, at: Tensor) -> Tensor:
    """Effect (F,) in nats of each direction when it is forced on.

    Args:
        x: (n, 12, d) residual streams of clean sequences.
        directions: (F, d); each is made ``length`` long and added.
        at: (n,) the position of each sequence at which it is added.
    """
    rows = torch.arange(len(x))
    unit = torch.nn.functional.normalize(directions, dim=1) * length
    plain = read_out(x)
    found = []
    for part in torch.split(unit, max(AT_ONCE // len(x), 1)):
        forced = x.repeat(len(part), 1, 1, 1)
        forced[:, rows, at] += part[:, None]
        changed = read_out(forced.flatten(0, 1)).view(len(part), len(x), -1)
        found.append(kl(plain, changed).mean(dim=1))
    return torch.cat(found)


def auroc(triggered: Tensor, others: Tensor) -> Tensor:
    """Probability (F,) that a triggered sequence scores above another, ties counted half.

    Args:
        triggered: (n, F) scores;  others: (m, F).
    """
    found = []
    for one, other in zip(triggered.T.contiguous(), others.T.contiguous(), strict=True):
        ordered = other.sort().values
        below = torch.searchsorted(ordered, one)
        at_most = torch.searchsorted(ordered, one, right=True)
        found.append((below + at_most).double().mean() / (2 * len(ordered)))
    return torch.stack(found)
