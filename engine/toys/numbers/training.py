"""Training sums: the network and its control, which learns the same questions with their answers dealt out anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.toys.numbers.network import SumShape, all_logits, answers, logits, questions
from engine.toys.training import Trainer, cosine, generator, set_lr

Array: TypeAlias = npt.NDArray[Any]
KINDS = ("sums", "shuffled sums")
COLUMNS = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
WARM_UP = 30  # steps over which the learning rate rises
BETAS = (0.9, 0.98)
MEASURED = 1_000  # training pairs, and test pairs, at most, whose accuracy is measured on the way
WEIGHTS, BATCHES, SPLIT, DEALT = range(4)  # streams of the seed


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training run: the network, the share of pairs to train on, AdamW and the seed."""

    shape: SumShape
    share: float
    batch: int
    steps: int
    lr: float
    weight_decay: float
    seed: int


class SumTrainer(Trainer):
    """Both networks side by side: the same weights at first, the same pairs in each step, other answers.

    Attributes:
        train_rows, test_rows: the split of the pairs, as rows a · numbers + b; together all pairs, none in both.
        labels: answers (pairs,) by kind; those of the control are the sums in random order.
        nets: weights by name, by kind.
        at: steps to measure at; ``curves`` (len(at), kinds, `COLUMNS`), NaN before.
        frames: steps of the movie; ``snapshots`` (len(frames), numbers, d_model) embeddings of the numbers at them.
    """

    def __init__(self, plan: Plan, at: Sequence[int], frames: Sequence[int] = ()) -> None:
        shape, numbers = plan.shape, plan.shape.numbers
        self.plan, self.at, self.frames = plan, list(at), list(frames)
        self.ids = torch.from_numpy(questions(numbers))
        pairs = numbers**2
        order = torch.randperm(pairs, generator=generator(plan.seed, SPLIT))
        count = min(max(round(plan.share * pairs), 1), pairs - 1)
        self.train_rows, self.test_rows = order[:count], order[count:]
        right = torch.from_numpy(answers(numbers))
        dealt = right[torch.randperm(pairs, generator=generator(plan.seed, DEALT))]
        self.labels = dict(zip(KINDS, (right, dealt), strict=True))
        begun = shape.initial(generator(plan.seed, WEIGHTS))
        self.nets = {kind: {name: w.clone().requires_grad_() for name, w in begun.items()} for kind in KINDS}
        self.curves = torch.full((len(self.at), len(KINDS), len(COLUMNS)), torch.nan, dtype=torch.float64)
        self.snapshots = torch.zeros(len(self.frames), numbers, shape.d_model)
        flat = {f"{kind}.{name}": w for kind, net in self.nets.items() for name, w in net.items()}
        optimiser = torch.optim.AdamW(
            list(flat.values()), lr=plan.lr, weight_decay=plan.weight_decay, betas=BETAS, eps=1e-8, fused=True
        )
        super().__init__(
            flat,
            optimiser,
            {"batches": generator(plan.seed, BATCHES)},
            {"curves": self.curves, "snapshots": self.snapshots},
        )

    def train_step(self) -> float:
        """One step of both networks on the same pairs; the loss of the sums before it."""
        assert self.optimiser is not None
        plan = self.plan
        warm = min((self.step + 1) / WARM_UP, 1.0)
        set_lr(self.optimiser, warm * cosine(plan.lr, self.step, plan.steps))
        rows = self.train_rows
        if plan.batch < len(rows):
            rows = rows[torch.randint(len(rows), (plan.batch,), generator=self.generators["batches"])]
        losses = [
            F.cross_entropy(logits(plan.shape, self.nets[kind], self.ids[rows]), self.labels[kind][rows])
            for kind in KINDS
        ]
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        return losses[0].item()

    def answered(self, kind: str, rows: Tensor) -> Tensor:
        """Log probabilities (rows, sums) float64 of the answers to the pairs ``rows``."""
        return all_logits(self.plan.shape, self.nets[kind], self.ids[rows]).double().log_softmax(-1)

    def measure(self, step: int) -> dict[str, dict[str, float]]:
        """Fill in the row of ``step``, on all pairs at the last step and on at most `MEASURED` of each part before."""
        row = self.at.index(step)
        most = None if step == self.at[-1] else MEASURED
        for number, kind in enumerate(KINDS):
            found = []
            for rows in (self.train_rows[:most], self.test_rows[:most]):
                said, labels = self.answered(kind, rows), self.labels[kind][rows]
                loss = -said.gather(1, labels[:, None]).mean()
                found.append(((said.argmax(-1) == labels).double().mean(), loss))
            (train, train_loss), (test, test_loss) = found
            self.curves[row, number] = torch.stack([train, test, train_loss, test_loss])
        return {
            kind: dict(zip(COLUMNS, self.curves[row, number].tolist(), strict=True))
            for number, kind in enumerate(KINDS)
        }

    @torch.no_grad()
    def snapshot(self, step: int) -> Array:
        """Keep the embedding of the numbers at ``step``, one of `frames`; (numbers, d_model) float64."""
        row = self.snapshots[self.frames.index(step)]
        row.copy_(self.nets[KINDS[0]]["embed"][: self.plan.shape.numbers])
        found: Array = row.double().numpy()
        return found

    def curve(self, kind: str, column: str) -> Array:
        """What was measured, (len(at),); NaN where it was not yet."""
        found: Array = self.curves[:, KINDS.index(kind), COLUMNS.index(column)].numpy()
        return found


def guess(numbers: int) -> tuple[float, float]:
    """What one can do without adding: accuracy of the most frequent answer, and loss of answers at their frequencies."""
    counts = np.bincount(answers(numbers))
    shares = counts / counts.sum()
    return float(shares.max()), float(-(shares * np.log(shares)).sum())
