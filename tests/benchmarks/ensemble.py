"""64 toys (n=20, m=5, batch 256) trained at once against one after the other: same weights, same data, same Adam.

The ordinary loop is autograd and `torch.optim.Adam` on one model, as one would write it. Both draw each model's data
from the same stream of random numbers, within the time that is measured. Rounds are timed in turns, after one of each
that is not counted. Then 50 steps of both from the same start show how far weights and losses are apart
(goal: rtol 1e-4).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from engine.toys.ensembles import Ensemble, Streams, xavier
from engine.toys.tms.data import Features
from engine.toys.training import generator

MODELS, FEATURES, HIDDEN, BATCH = 64, 20, 5, 256
LR = 1e-2
GOAL, AIM = 6.0, 9.0
STEPS = 50


class Alone:
    """One model, trained by autograd and torch's Adam."""

    def __init__(self, weights: Tensor, importance: Tensor, source: Features) -> None:
        self.weights, self.importance, self.source = weights.clone().requires_grad_(), importance, source
        self.bias = torch.zeros(weights.shape[1], requires_grad=True)
        self.adam = torch.optim.Adam([self.weights, self.bias], lr=LR)

    def step(self) -> Tensor:
        """The loss of one step."""
        x = self.source.draw()[0].T
        hidden = x @ self.weights.T
        loss = (self.importance * (x - torch.relu(hidden @ self.weights + self.bias)) ** 2).mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return loss.detach()


def both() -> tuple[Callable[[int], None], Callable[[int], None], Ensemble, list[Alone]]:
    """Functions that take so many steps of all models, ours and the ordinary loop."""
    weights = xavier(MODELS, HIDDEN, FEATURES, generator(0, 0))
    importance = 0.7 ** torch.arange(FEATURES)
    density = torch.logspace(0, -1.3, MODELS)
    ours = Ensemble(weights, importance.expand(MODELS, FEATURES))
    data = Features(density, FEATURES, BATCH, Streams(0, 1, MODELS, FEATURES * BATCH))
    alone = []
    for number in range(MODELS):
        streams = Streams(0, 1, 1, FEATURES * BATCH, first=number)
        alone.append(Alone(weights[number], importance, Features(density[[number]], FEATURES, BATCH, streams)))

    def at_once(steps: int) -> None:
        for _ in range(steps):
            ours.step(data.draw(), LR)

    def in_turn(steps: int) -> None:
        for one in alone:
            for _ in range(steps):
                one.step()

    return at_once, in_turn, ours, alone


def apart(ours: Ensemble, alone: list[Alone]) -> float:
    """The largest difference of a weight or bias, relative to the largest of its model."""
    worst = 0.0
    for number, one in enumerate(alone):
        for found, expected in ((ours.weights[number], one.weights), (ours.bias[number], one.bias)):
            worst = max(worst, float((found - expected.detach()).abs().max() / expected.detach().abs().max()))
    return worst


def race(rounds: int, steps: int, threads: int) -> None:
    """Print milliseconds per step of all models and the ratio."""
    torch.set_num_threads(threads)
    at_once, in_turn, *_ = both()
    times: dict[str, list[float]] = {"ours": [], "ordinary": []}
    for number in range(rounds + 1):
        order = [("ours", at_once), ("ordinary", in_turn)]
        for name, work in order if number % 2 else reversed(order):
            began = time.perf_counter()
            work(steps)
            if number:
                times[name].append((time.perf_counter() - began) / steps * 1e3)
    ratios = [slow / fast for slow, fast in zip(times["ordinary"], times["ours"], strict=True)]
    middle = statistics.median(ratios)
    verdict = "aim reached" if middle >= AIM else "goal reached" if middle >= GOAL else "MISSED"
    print(
        f"{threads} thread{'s' if threads > 1 else ''}: {middle:.2f} × ({min(ratios):.2f}–{max(ratios):.2f}, n={rounds}); "
        f"{statistics.median(times['ours']):.2f} ms a step of all against {statistics.median(times['ordinary']):.2f}; "
        f"goal {GOAL:g} (aim {AIM:g}) {verdict}",
        flush=True,
    )


def main() -> int:
    """Print the rows; the exit status is 0 whatever the numbers are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    print(f"{MODELS} models, n={FEATURES}, m={HIDDEN}, batch {BATCH}, float32")
    for threads in asked.threads:
        race(asked.rounds, asked.steps, threads)
    at_once, in_turn, ours, alone = both()
    at_once(STEPS)
    in_turn(STEPS)
    worst = apart(ours, alone)
    print(f"after {STEPS} steps weights and biases at most {worst:.1e} apart; goal 1e-4 "
          f"{'reached' if worst <= 1e-4 else 'MISSED'}")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
