"""The experiment `grokfast-comparison`: does amplifying slow gradients make this network grok sooner?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.figures.kinds import Table
from engine.runs.declaration import Metric, experiment
from engine.toys.costs import Cost, cost
from engine.toys.modular.sweep import Sweep, axis, numbers, spread
from engine.toys.modular_addition import ModularNetwork, memory_of, seconds
from engine.toys.sizes import FRAMES

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.modular.training import ModularTrainer, Setting

Array: TypeAlias = npt.NDArray[Any]
_STRENGTHS = {"quick": "0, 2", "demo": "0, 1", "paper": "0, 0.5, 1, 2, 5"}
_SEEDS = {"quick": 1, "demo": 1, "paper": 3}


class GrokfastComparison(ModularNetwork):
    """Parameters of `grokfast-comparison`; those left empty come from ``size``."""

    strengths: str | None = Field(None, max_length=100, description="Values of λ to compare; 0 is always there")
    seeds: int | None = Field(None, ge=1, le=20, description="Seeds per value; empty: by size")

    @model_validator(mode="after")
    def _strengths_are_numbers(self) -> GrokfastComparison:
        _ = self.values
        return self

    @property
    def values(self) -> tuple[float, ...]:
        """The λ to compare, 0 first."""
        return numbers(self.strengths or _STRENGTHS[self.size], "strengths", 0, 100)

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds to train each with."""
        return list(range(self.seed, self.seed + (self.seeds or _SEEDS[self.size])))


@experiment(
    "grokfast-comparison",
    title="Grokfast, compared",
    area="Toy models",
    cites="Lee, Kang, Kim & Lee 2024, Grokfast",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric("Training loss", "nats", "Mean over all networks, before the step", "log"),
        "control_accuracy": Metric(
            "Test accuracy, λ = 0", "share", "Test pairs answered with their sum, mean over seeds", group="Accuracy"
        ),
        "test_accuracy": Metric(
            "Test accuracy, largest λ", "share", "The same with the largest λ, mean over seeds", group="Accuracy"
        ),
        "speedup": Metric(
            "Speed-up, largest λ",
            "×",
            "Steps to grok at λ = 0 over those with the largest λ, mean over the seeds in which both grokked",
        ),
    },
)
def grokfast_comparison(p: GrokfastComparison, run: Run) -> None:
    """Train the same network on a + b mod p with and without Grokfast and compare when each groks.

    Grokfast keeps a running mean of the gradient, m ← α m + (1 − α) g, and steps along g + λ m: slow directions, which
    are thought to generalise, count 1 + λ times. The networks of one seed start from the same weights and see the
    same pairs; only λ differs, and λ = 0 is the control.

    **How to read it.** *Accuracy*: a curve that rises further left groks sooner. *Comparison*: the step from which test
    accuracy exceeds 99 % in two checks in a row, and the ratio to λ = 0 of the same seed; above 1 is faster.

    **What to expect: no guarantee.** At size demo Grokfast is *slower*: on seed 0 the control grokked at step 1,175, and
    λ = 0.5, 1 and 5 at 3,300, 2,425 and 3,425; λ = 2 had not by 3,500. With d_model = 64, d_mlp = 256,
    train_share = 0.5 and lr = 0.002, λ = 2 was 1.2 times as *fast* (step 875 against 1,050). The published gains are at
    weak weight decay and p = 97; a large λ at a large learning rate may keep the network from even fitting its
    training pairs. A ratio from one seed is an anecdote: take several.

    The network with the largest λ joins the session as `toy:RUN`.
    """
    from engine.models import memory
    from engine.toys.modular.keeping import keep_network
    from engine.toys.modular.training import schedule
    from engine.toys.training import log_steps, train

    way_out = "choose a smaller p, fewer strengths or seeds"
    memory.require(_memory(p), "cpu", what="Comparing Grokfast", way_out=way_out)
    steps, frames = p.training_steps, log_steps(p.training_steps, FRAMES[p.size])
    sweep = _sweep(p, schedule(steps, p.plan().check, frames))
    names = tuple(f"λ = {value:g}" for value in p.values)

    def measure(step: int) -> None:
        sweep.measure(step, frames, names, "Test accuracy with and without Grokfast", run)

    for seed, part in zip(p.seed_numbers, sweep.trainer.splits, strict=False):
        run.keep(f"training_pairs seed {seed}", part.train.numpy().astype(np.int32), what="pairs (a, b) as a·p + b")
    train(run, sweep.trainer, steps, measure=measure, at=sweep.trainer.at, lr=sweep.trainer.plan.lr)
    grokked = sweep.passed("test_accuracy")
    ratios = grokked[0] / grokked
    run.show("comparison", _table(sweep, grokked, ratios))
    run.fact("grokked_at", [[None if np.isnan(x) else int(x) for x in row] for row in grokked])
    if np.isfinite(ratios[-1]).any():
        run.log(steps, speedup=float(np.nanmean(ratios[-1])))
        run.say(f"λ = {p.values[-1]:g} took {np.nanmean(1 / ratios[-1]):.2f} times the steps of λ = 0.")
    else:
        run.say(f"λ = 0 and λ = {p.values[-1]:g} have not both grokked within {steps:,} steps: there is no ratio.")
    keep_network(run, sweep.trainer.plan.shape, sweep.trainer.theta[-1].detach(), grokfast=p.values[-1])


def _sweep(p: GrokfastComparison, at: list[int]) -> Sweep:
    from engine.toys.modular.training import ModularTrainer, Setting

    plan = p.plan()

    def make(settings: list[Setting]) -> ModularTrainer:
        return ModularTrainer(plan, settings, at)

    return Sweep(make, lambda seed, value: Setting(seed, grokfast=value), p.values, p.seed_numbers)


def _table(sweep: Sweep, grokked: Array, ratios: Array) -> Table:
    memorised, final = sweep.passed("train_accuracy"), sweep.ended("test_accuracy")
    many = len(sweep.seeds) > 1
    rows: list[tuple[Any, ...]] = []
    for number, value in enumerate(sweep.values):
        for at, seed in enumerate(sweep.seeds):
            one = (memorised[number, at], grokked[number, at], final[number, at], ratios[number, at])
            rows.append((value, str(seed), *one, np.nan)[: 7 if many else 6])
        if many:
            known = ratios[number][np.isfinite(ratios[number])]
            mean = float(known.mean()) if len(known) else np.nan
            label = f"mean, n = {len(known)}"
            rows.append((value, label, np.nan, np.nan, final[number].mean(), mean, spread(known)))
    names = ("λ", "Seed", "Train above 99 % (step)", "Test above 99 % (step)", "Test accuracy at the end", "Speed-up (×)",
             "Standard deviation (×)")  # fmt: skip
    return Table(
        title="Grokfast against the control",
        note=f"Speed-up: steps to grok at λ = 0, the control, over those at λ, same seed; n = {len(sweep.seeds)} seed(s). "
        "Above 1 is faster, below 1 slower; missing where one of the two has not grokked.",
        axes=tuple(axis(name) for name in names[: len(rows[0])]),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def _memory(p: GrokfastComparison) -> int:
    return memory_of(p, len(p.values) * len(p.seed_numbers))


@cost("grokfast-comparison")
def _cost(p: GrokfastComparison) -> Cost:
    from engine.models.memory import available

    if _memory(p) > available():
        return Cost(0.0, _memory(p))
    trainer = _sweep(p, [0]).trainer
    return Cost(1.1 * seconds(p, trainer) + 2, _memory(p), "All networks train side by side.")
