"""TopK training against a plain dense autograd loop: same weights, same activations, same clip, schedule and Adam.

Steps are timed in turns, after two of each that are not counted. Then 300 steps of both from the same
start show how far the loss curves are apart (goal: within 0.5 %).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from engine.dictionaries.architectures import make
from engine.dictionaries.choices import Choices
from engine.dictionaries.trainer import Plan, Trainer
from engine.dictionaries.weights import Moments
from tests.engine.dictionaries.dense import DenseTrainer

K = 32
CASES = ((576, 9_216, 4_096), (576, 9_216, 1_024), (768, 12_288, 1_024))  # d, width, batch
AGREEMENT = (576, 2_304, 1_024)
STEPS = 300


def activations(d: int, count: int, generator: torch.Generator) -> Tensor:
    """Sums of about 20 of 4·d random directions with exponential sizes, plus a little noise: (count, d)."""
    atoms = torch.nn.functional.normalize(torch.randn(4 * d, d, generator=generator), dim=1)
    active = torch.rand(count, 4 * d, generator=generator) < 20 / (4 * d)
    size = -torch.log1p(-torch.rand(count, 4 * d, generator=generator))
    return (active * size) @ atoms + 0.05 * torch.randn(count, d, generator=generator)


def trainers(d: int, width: int, x: Tensor, steps: int) -> tuple[Trainer, DenseTrainer]:
    """Ours and the dense loop, with equal weights of their own."""
    mean = x.mean(dim=0)
    variance = float((x - mean).square().sum(dim=1).mean())
    plan = Plan.usual(steps, 1e-3, dead_after=10**12)
    chosen = Choices("topk", width, K)
    architecture = make(chosen, Moments(mean, mean, variance))
    weights = architecture.initial(d, d, torch.Generator().manual_seed(1))
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.tensors().items()}
    return Trainer(weights, architecture, plan), DenseTrainer(leaves, chosen, variance, plan)


def seconds(step: Callable[[Tensor], object], x: Tensor) -> float:
    """How long one step takes."""
    began = time.perf_counter()
    step(x)
    return time.perf_counter() - began


def race(d: int, width: int, batch: int, pairs: int) -> None:
    """Print activations per second of both, and their ratio."""
    generator = torch.Generator().manual_seed(0)
    x = activations(d, 2 * batch, generator)
    ours, dense = trainers(d, width, x, 10**6)
    times: dict[str, list[float]] = {"ours": [], "dense": []}
    for number in range(pairs + 2):
        part = x[:batch] if number % 2 else x[batch:]
        order = [("ours", ours.step), ("dense", dense.step)]
        for name, step in order if number % 2 else reversed(order):
            spent = seconds(step, part)
            if number >= 2:
                times[name].append(spent)
    ratios = [slow / fast for slow, fast in zip(times["dense"], times["ours"], strict=True)]
    fast, slow = (batch / statistics.median(times[name]) for name in ("ours", "dense"))
    product = 2 * batch * d * width
    reached = product / statistics.median(times["ours"]) / 1e9
    print(
        f"d={d} width={width} batch={batch}: {fast:,.0f} activations/s against {slow:,.0f}; "
        f"{statistics.median(ratios):.2f} × ({min(ratios):.2f}–{max(ratios):.2f}, n={pairs}); "
        f"the encoder product alone at {reached:.0f} GFLOP/s of the whole step",
        flush=True,
    )


def agree() -> None:
    """Print how far the two loss curves come apart over `STEPS` steps."""
    d, width, batch = AGREEMENT
    generator = torch.Generator().manual_seed(2)
    x = activations(d, 16 * batch, generator)
    ours, dense = trainers(d, width, x, STEPS)
    apart = []
    for number in range(STEPS):
        part = x[(number % 16) * batch :][:batch]
        found, expected = ours.step(part).loss, dense.step(part)
        apart.append(abs(found / expected - 1))
    verdict = "reached" if max(apart) <= 0.005 else "MISSED"
    print(
        f"Loss over {STEPS} steps, d={d} width={width} batch={batch}: at most {max(apart):.2%} apart (median "
        f"{statistics.median(apart):.1e}), ending at {found:.4f} and {expected:.4f}; goal 0.5 % {verdict}"
    )


def main() -> int:
    """Print the table; the exit status is 0 whatever the numbers are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"TopK, k={K}, float32, {asked.threads} threads")
    for d, width, batch in CASES:
        race(d, width, batch, asked.pairs)
    agree()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
