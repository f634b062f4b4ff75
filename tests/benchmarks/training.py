"""Training against a plain dense autograd loop: same weights, same activations, same clip, schedule and Adam.

Steps are timed in turns, after two of each that are not counted. Then 300 steps of both from the same
start show how far the loss curves are apart (goal: within 0.5 %).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from engine.dictionaries.trainer import Plan, Trainer
from tests.benchmarks.peers.cases import CASES, Case, start
from tests.benchmarks.peers.library_superscope import prepared
from tests.engine.dictionaries.dense import dense_loss

AGREEMENT = {"d": 576, "width": 2_304, "batch": 1_024}
STEPS = 300
NEVER = 10**12


class DenseLoop:
    """What `Trainer` does, written down plainly: every product dense, gradients by autograd, unit atoms."""

    def __init__(self, trainer: Trainer) -> None:
        self.weights = {name: tensor.clone().requires_grad_() for name, tensor in trainer.weights.tensors().items()}
        self._architecture, self._plan, self._done = trainer.architecture, trainer.plan, 0
        rates = self._architecture.rates()
        groups = [{"params": [leaf], "rate": rates.get(name, 1.0)} for name, leaf in self.weights.items()]
        self._adam = torch.optim.Adam(groups, eps=6.25e-10)

    def step(self, x: Tensor) -> float:
        """The loss of one step on ``x``."""
        choices, variance = self._architecture.choices, self._architecture.moments.variance
        loss = dense_loss(choices, self.weights, x, variance, progress=self._done / self._plan.steps)
        loss.backward()
        rows = self.weights["decoder"]
        with torch.no_grad():
            rows.grad -= (rows.grad * rows).sum(dim=1, keepdim=True) * rows
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self._plan.clip)
        for group in self._adam.param_groups:
            group["lr"] = self._plan.lr_at(self._done) * group["rate"]
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            rows /= rows.norm(dim=1, keepdim=True)
            if "threshold" in self.weights:
                self.weights["threshold"].clamp_(min=0)
        self._done += 1
        return float(loss.detach())


def seconds(step: Callable[[Tensor], object], x: Tensor) -> float:
    """How long one step takes."""
    began = time.perf_counter()
    step(x)
    return time.perf_counter() - began


def race(case: Case, pairs: int) -> None:
    """Print activations per second of both, and their ratio."""
    begin = start(case)
    ours = prepared(case, begin, Plan(10**6, 1e-4, 1, 0, NEVER))
    dense = DenseLoop(ours)
    times: dict[str, list[float]] = {"ours": [], "dense": []}
    for number in range(pairs + 2):
        part = begin.x.split(case.batch)[number % 2]
        order: list[tuple[str, Callable[[Tensor], object]]] = [("ours", ours.step), ("dense", dense.step)]
        for name, step in order if number % 2 else reversed(order):
            spent = seconds(step, part)
            if number >= 2:
                times[name].append(spent)
    ratios = [slow / fast for slow, fast in zip(times["dense"], times["ours"], strict=True)]
    fast, slow = (case.batch / statistics.median(times[name]) for name in ("ours", "dense"))
    reached = 2 * case.batch * case.d * case.width / statistics.median(times["ours"]) / 1e9
    print(
        f"{case.name}: {fast:,.0f} activations/s against {slow:,.0f}; "
        f"{statistics.median(ratios):.2f} × ({min(ratios):.2f}–{max(ratios):.2f}, n={pairs}); "
        f"the encoder product alone at {reached:.0f} GFLOP/s of the whole step",
        flush=True,
    )


def agree(case: Case) -> str:
    """How far the two loss curves of an architecture come apart over `STEPS` steps."""
    small = replace(case, **AGREEMENT)
    begin = start(small, batches=16)
    ours = prepared(small, begin, Plan.usual(STEPS, 1e-3, NEVER))
    dense = DenseLoop(ours)
    apart = []
    for number in range(STEPS):
        part = begin.x.split(small.batch)[number % 16]
        found, expected = ours.step(part).loss, dense.step(part)
        apart.append(abs(found / expected - 1))
    verdict = "reached" if max(apart) <= 0.005 else "MISSED"
    return (
        f"{small.name}: loss over {STEPS} steps at most {max(apart):.2%} apart (median {statistics.median(apart):.1e}), "
        f"ending at {found:.4f} and {expected:.4f}; goal 0.5 % {verdict}"
    )


def main() -> int:
    """Print the table; the exit status is 0 whatever the numbers are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"float32, {asked.threads} threads")
    for case in CASES:
        race(case, asked.pairs)
    for architecture in {case.architecture: case for case in CASES}.values():
        print(agree(architecture), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
