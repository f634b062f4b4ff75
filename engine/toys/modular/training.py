"""Training modular addition: the split, wrong labels, Grokfast's filter, and what is measured on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.toys.modular.network import Shape, initial, over_pairs, sums
from engine.toys.training import Trainer, generator, set_lr

Array: TypeAlias = npt.NDArray[Any]
WARM_UP = 10  # steps over which the learning rate rises to its value
BETAS = (0.9, 0.98)
GROKKED = 0.99  # accuracy to exceed, in two consecutive checks
COLUMNS = (
    "train_accuracy",  # against the labels trained on
    "test_accuracy",
    "train_loss",
    "test_loss",
    "clean_accuracy",  # of training pairs with the right label
    "corrupted_accuracy",  # of training pairs with a wrong label, against the right one
    "corrupted_fitted",  # of the same, against the wrong label
    "weight_norm",  # sum of squares of all weights
)


@dataclass(frozen=True)
class Setting:
    """One instance of an ensemble: its seed, share of wrong training labels, and Grokfast's λ (0: off)."""

    seed: int
    noise: float = 0.0
    grokfast: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What all instances share: the network, the share of pairs to train on, and the optimiser."""

    shape: Shape
    share: float
    lr: float
    weight_decay: float
    alpha: float = 0.98
    check: int = 25


@dataclass(frozen=True)
class Split:
    """Pairs to train on and to test on, as rows a · p + b, and the training labels, ``wrong`` where they were replaced."""

    train: Tensor
    test: Tensor
    labels: Tensor
    wrong: Tensor


def split(p: int, share: float, setting: Setting) -> Split:
    """The split of a seed. Wrong labels are drawn from the p - 1 wrong sums; another share of them changes no split."""
    order = torch.randperm(p * p, generator=generator(setting.seed, 2))
    count = min(max(round(share * p * p), 1), p * p - 1)
    train, test = order[:count], order[count:]
    source = generator(setting.seed, 1)
    wrong = torch.randperm(count, generator=source) < round(setting.noise * count)
    shift = torch.randint(1, p, (count,), generator=source)
    right = sums(p)[train]
    return Split(train, test, torch.where(wrong, (right + shift) % p, right), wrong)


class ModularTrainer(Trainer):
    """Full-batch AdamW on all instances at once; their gradients and moments do not mix.

    Attributes:
        theta: (instances, parameters).
        at: steps to measure at, ``curves`` (len(at), instances, `COLUMNS`) what was measured, NaN before.
        snapshots: (len(frames), parameters) the first instance's weights at ``frames``; zeros before.
    """

    def __init__(self, plan: Plan, settings: Sequence[Setting], at: Sequence[int], frames: Sequence[int] = ()) -> None:
        self.plan, self.settings = plan, list(settings)
        self.at, self.frames = list(at), list(frames)
        shape = plan.shape
        self.splits = [split(shape.p, plan.share, setting) for setting in settings]
        self.theta = torch.stack([initial(shape, setting.seed) for setting in settings]).requires_grad_()
        pairs = shape.p**2
        self._rows = torch.cat([part.train + number * pairs for number, part in enumerate(self.splits)])
        self._labels = torch.cat([part.labels for part in self.splits])
        self._sums = sums(shape.p)
        self._strength = torch.tensor([[setting.grokfast] for setting in settings])
        self.curves = torch.full((len(self.at), len(self.settings), len(COLUMNS)), torch.nan, dtype=torch.float64)
        self.snapshots = torch.zeros(len(self.frames), shape.parameters)
        extra = {"curves": self.curves, "snapshots": self.snapshots}
        self._filtered: Tensor | None = None
        if self._strength.any():
            self._filtered = extra["filtered"] = torch.zeros_like(self.theta, requires_grad=False)
        optimiser = torch.optim.AdamW(
            [self.theta], lr=plan.lr, weight_decay=plan.weight_decay, betas=BETAS, eps=1e-8, fused=True
        )
        super().__init__({"theta": self.theta}, optimiser, extra=extra)

    def train_step(self) -> float:
        """One step of all instances; the mean of their losses before it."""
        assert self.optimiser is not None
        set_lr(self.optimiser, self.plan.lr * min((self.step + 1) / WARM_UP, 1.0))
        logits = over_pairs(self.plan.shape, self.theta, self._rows).logits
        count = len(self.splits[0].train)
        # Each instance's own mean, summed: so each gradient is what it would be alone.
        # In float32 the gradient of a well-known pair rounds to 0, and the weights slip ("slingshots").
        flat = logits.double().reshape(-1, self.plan.shape.p)
        loss = F.cross_entropy(flat, self._labels, reduction="sum") / count
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._filtered is not None:
            self._amplify_slow(self._filtered)
        self.optimiser.step()
        self.step += 1
        return loss.item() / len(self.settings)

    def _amplify_slow(self, filtered: Tensor) -> None:
        """Grokfast (Lee et al. 2024): add λ times the running mean of the gradient, which begins at the first one."""
        gradient = self.theta.grad
        assert gradient is not None
        if self.step == 0:
            filtered.copy_(gradient)
        else:
            filtered.mul_(self.plan.alpha).add_(gradient, alpha=1 - self.plan.alpha)
        gradient.add_(self._strength * filtered)

    @torch.no_grad()
    def measure(self, step: int) -> dict[str, Array]:
        """Fill in the row of ``step`` and keep the weights where a frame is due; each of `COLUMNS` (instances,)."""
        logits = over_pairs(self.plan.shape, self.theta).logits
        losses = -logits.double().log_softmax(-1)  # in float32 small losses are rounded to 0
        guesses = logits.argmax(-1)
        rows = []
        for number, part in enumerate(self.splits):
            right = guesses[number] == self._sums
            train = right[part.train]
            fitted = guesses[number, part.train] == part.labels
            rows.append(
                [
                    fitted.double().mean(),
                    right[part.test].double().mean(),
                    losses[number, part.train, part.labels].mean(),
                    losses[number, part.test, self._sums[part.test]].mean(),
                    train[~part.wrong].double().mean(),
                    train[part.wrong].double().mean(),
                    fitted[part.wrong].double().mean(),
                    self.theta[number].double().square().sum(),
                ]
            )
        self.curves[self.at.index(step)] = torch.tensor(rows, dtype=torch.float64)
        if step in self.frames:
            self.snapshots[self.frames.index(step)] = self.theta[0]
        found = self.curves[self.at.index(step)].numpy()
        return {name: found[:, number] for number, name in enumerate(COLUMNS)}

    def curve(self, name: str) -> Array:
        """What was measured of one of `COLUMNS`: (len(at), instances), NaN where it was not yet."""
        found: Array = self.curves[:, :, COLUMNS.index(name)].numpy()
        return found

    def passed(self, name: str) -> list[int | None]:
        """By instance the first check from which on two in a row exceed `GROKKED` in accuracy ``name``; None if none."""
        checks = [number for number, step in enumerate(self.at) if step and step % self.plan.check == 0]
        above = self.curve(name)[checks] > GROKKED
        twice = above[:-1] & above[1:]
        return [self.at[checks[int(row.argmax())]] if row.any() else None for row in twice.T]


def schedule(steps: int, check: int, frames: Sequence[int]) -> list[int]:
    """Steps to measure at: the movie's frames and every ``check`` steps."""
    return sorted({*frames, *range(check, steps + 1, check), steps})
