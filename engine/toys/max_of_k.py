"""The experiment `max-of-k`: a transformer that finds the largest number, understood well enough to prove it right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import Batch, LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    import torch

    from engine.runs.run import Run
    from engine.toys.maximum.proofs import Proof
    from engine.toys.maximum.transformer import Circuits, MaxTrainer, Plan
    from engine.toys.small_dictionaries import Bench

Array: TypeAlias = npt.NDArray[Any]
WATCHED = 2_000  # sequences of each kind at a snapshot
KEPT = 1_024  # sequences of the toy's data
BRUTE = 2**25  # sequences, up to which all are tried
DICTIONARY_LR = 5e-3
DICTIONARY_BATCH = 256
MAPS = 2  # every so manyth snapshot has the maps, which are large
FEWER = 5  # so many times fewer frames of the dictionaries than of the transformer


@dataclass(frozen=True)
class _Size:
    numbers: int
    k: int
    steps: int
    batch: int
    lr: float
    sequences: int
    widths: tuple[int, ...]
    dictionary_steps: int


# Paper: the published batch, learning rate and shape, for as long as they need.
_SIZES = {
    "quick": _Size(16, 2, 400, 128, 5e-3, 512, (16, 32), 60),
    "demo": _Size(64, 4, 3_000, 256, 3e-3, 4_096, (64, 256), 300),
    "paper": _Size(64, 4, 40_000, 128, 1e-3, 16_384, (64, 256, 1_024, 4_096), 5_000),
}
_Width: TypeAlias = Annotated[int, Field(ge=1, le=16_384)]


class MaxOfK(Parameters):
    """Parameters of `max-of-k`; those left empty come from ``size``."""

    size: Size = "demo"
    numbers: int | None = Field(None, ge=4, le=512, description="Numbers in the vocabulary; empty: by size")
    k: int | None = Field(None, ge=2, le=8, description="Numbers in a sequence; empty: by size")
    d_model: int = Field(32, ge=4, le=512, description="Width of the residual stream and of the one head")
    steps: Steps | None = Field(None, description="Optimiser steps of the transformer; empty: by size")
    batch: Batch | None = Field(None, description="Sequences per step, half of them near ties; empty: by size")
    lr: LearningRate | None = Field(None, description="Learning rate, falling straight to 0; empty: by size")
    widths: list[_Width] | None = Field(
        None, min_length=1, max_length=6, description="Widths of the dictionaries on the logits; empty: by size"
    )
    dictionary_steps: int | None = Field(
        None, ge=1, le=10**6, description="Optimiser steps of the dictionaries; empty: by size"
    )
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _gaps_can_be_listed(self) -> MaxOfK:
        plan = _numbers(self)
        if plan[0] ** 3 * plan[1] > 2**28:
            raise ValueError(f"numbers={plan[0]} and k={plan[1]} make the bounds too long; choose fewer numbers")
        return self


METRICS = {
    "loss": Metric("Training loss", "nats", "Mean cross-entropy at the last position over a batch", "log"),
    "accuracy": Metric(
        "Accuracy, uniform", "share", "Share of uniform sequences whose largest logit is right", group="right"
    ),
    "near_accuracy": Metric(
        "Accuracy, near ties", "share", "The same where the others lie within 3 below the largest", group="right"
    ),
    "rank_one": Metric(
        "Rank-one share",
        "share",
        "Energy of the score table's first singular value, row means taken away",
        group="circuit",
    ),
    "diagonal": Metric(
        "EVOU on the diagonal", "share", "Share of numbers that write their own logit the most", group="circuit"
    ),
    "attention": Metric(
        "Attention on the largest",
        "share",
        "Attention of the last position on the largest number, uniform",
        group="circuit",
    ),
    "fvu": Metric(
        "Dictionaries' FVU", "share", "Mean over all dictionaries of the unexplained variance of a batch", "log"
    ),
}


@experiment(
    "max-of-k",
    title="Max of K",
    area="Toy models",
    cites="Gross, Agrawal, Kwa et al. 2024, Compact Proofs of Model Performance via Mechanistic Interpretability",
    resumable=True,
    estimate="toy-estimate",
    metrics=METRICS,
)
def max_of_k(p: MaxOfK, run: Run) -> None:
    """Train a one-layer attention-only transformer to name the largest of K numbers, and prove how often it is right.

    One head, no MLP, no norm, no biases. The whole computation is two tables: **EQKE** says how much a query attends to each
    number, **EVOU** what a number writes into the logits once it is attended to.

    **How to read it.** Scrub *eqke* and *evou* through training: noise turns into rows that all rise alike, and into a
    diagonal. *singular*: one singular value holds nearly everything (measured: .99997 of the energy at demo size), so
    attention is ruled by one direction, drawn in *direction*: the size of a number, correlated with it at .99.
    *analysis* compares with the untrained transformer (the control), which has .38 there, no
    diagonal, and an accuracy of chance.

    *proof*: the same tables give lower bounds on the accuracy over **all** sequences without trying them. Measured at demo
    size: brute force over 16.8 million sequences finds an accuracy of 1; the cubic bound proves .968 of them from 179 thousand
    cases, the bound of rank one .948. What is not proven is mostly near ties. A loose bound says that something has not
    been understood, which is what makes it a test of an explanation.

    *latents*: TopK dictionaries (k = 1) on the logits. From a few times the vocabulary's width on, each answer has one latent
    of its own (63 of 64 at width 256; at width 64 about half, because atoms begin at random sequences). **Wider ones do not
    split** by query or runner-up: within one answer the logits keep 1 % of their variance (*analysis*), and the
    spare latents die. The dictionary on untrained logits is the control: it splits by the query, which is what those tell.

    **Traps.** Rare near ties decide the true accuracy: uniform samples alone look perfect early, so half of each batch are
    near ties and both are measured. The sign of a singular vector is arbitrary; it is turned to rise.

    The transformer is added as `toy:RUN`, with sequences and their answers as its text.
    """
    from engine.models import memory
    from engine.toys.maximum.transformer import MaxTrainer
    from engine.toys.stages import first_stage, second_stage
    from engine.toys.training import log_steps, train

    plan, size = _plan(p), _SIZES[p.size]
    memory.require(
        _bytes(p),
        "cpu",
        what="Taking this transformer apart",
        way_out="choose fewer numbers, a smaller batch or smaller widths",
    )
    trainer = MaxTrainer(plan)
    untrained = {name: tensor.clone() for name, tensor in trainer.now.items()}
    snapshots = log_steps(plan.steps, FRAMES[p.size])
    watch = _Watch(trainer, untrained, run, snapshots)
    spent = first_stage(run, trainer, lambda: train(run, trainer, plan.steps, measure=watch, at=snapshots, lr=plan.lr))
    _analyse(trainer, untrained, run)
    bench, tokens = _bench(p, trainer, untrained)
    steps = p.dictionary_steps or size.dictionary_steps
    latents = _Latents(bench, tokens, plan, run)
    fewer = log_steps(steps, max(FRAMES[p.size] // FEWER, 4))
    second_stage(run, bench, steps, spent, measure=latents, at=fewer, lr=DICTIONARY_LR)
    latents.finish(p.seed)
    _keep(trainer, run)


def _bytes(p: MaxOfK) -> int:
    """Of the bounds' tables over numbers, and of the dictionaries."""
    from engine.toys.maximum.measures import TESTED
    from engine.toys.small_dictionaries import bytes_of

    size, (numbers, k) = _SIZES[p.size], _numbers(p)
    tried = numbers ** (k - 1) if k > 2 and numbers**k <= BRUTE else 0
    dictionaries = bytes_of((size.sequences, numbers, width) for width in 2 * sorted(set(p.widths or size.widths)))
    read = max(
        p.batch or size.batch, TESTED
    )  # sequences in one pass: residual streams, and logits with their gradients
    return 40 * numbers**3 + 16 * tried + dictionaries + 4 * read * (4 * k * p.d_model + 6 * numbers)


def _numbers(p: MaxOfK) -> tuple[int, int]:
    size = _SIZES[p.size]
    return p.numbers or size.numbers, p.k or size.k


def _plan(p: MaxOfK) -> Plan:
    from engine.toys.maximum.transformer import Plan

    size = _SIZES[p.size]
    numbers, k = _numbers(p)
    return Plan(
        numbers=numbers,
        k=k,
        d_model=p.d_model,
        steps=p.steps or size.steps,
        batch=p.batch or size.batch,
        lr=p.lr or size.lr,
        seed=p.seed,
    )


class _Watch:
    """Measures the transformer and shows the frames of its movies."""

    def __init__(self, trainer: MaxTrainer, untrained: dict[str, torch.Tensor], run: Run, snapshots: list[int]) -> None:
        from engine.toys.maximum import transformer as model
        from engine.toys.training import generator

        self.trainer, self.run = trainer, run
        self.mapped = {snapshots[0], *snapshots[::-MAPS]}  # the last one among them
        plan = trainer.plan
        self.uniform = model.uniform(plan, WATCHED, generator(plan.seed, 4))
        self.near = model.near_ties(plan, WATCHED, generator(plan.seed, 5))
        self.control = model.size_direction(model.circuits(untrained, plan.numbers, plan.k).scores)

    def __call__(self, step: int) -> None:
        from engine.toys.maximum import figures
        from engine.toys.maximum import transformer as model
        from engine.toys.maximum.measures import right

        plan, now = self.trainer.plan, self.trainer.now
        circuits = model.circuits(now, plan.numbers, plan.k)
        direction = model.size_direction(circuits.scores)
        accuracy, _, attention = right(now, self.uniform)
        self.run.log(
            step,
            accuracy=accuracy,
            near_accuracy=right(now, self.near)[0],
            rank_one=float(direction.shares[0]),
            diagonal=float((circuits.writes.argmax(axis=1) == np.arange(plan.numbers)).mean()),
            attention=attention,
        )
        if step in self.mapped:
            self.run.show("eqke", figures.scores_map(circuits), step=step)
            self.run.show("evou", figures.writes_map(circuits), step=step)
        self.run.show("singular", figures.singular_lines(direction, self.control), step=step)
        self.run.show("direction", figures.direction_lines(direction, self.control), step=step)


def _analyse(trainer: MaxTrainer, untrained: dict[str, torch.Tensor], run: Run) -> None:
    """Tables of the trained transformer beside the untrained one."""
    from engine.toys.maximum import figures
    from engine.toys.maximum.measures import quantities
    from engine.toys.maximum.transformer import circuits, size_direction

    run.stage("Proving")
    plan = trainer.plan
    measured = []
    proofs: list[tuple[str, str, Proof]] = []
    accuracy = {}
    for name, weights in (("trained", trainer.now), ("untrained", untrained)):
        found = circuits(weights, plan.numbers, plan.k)
        direction = size_direction(found.scores)
        rows = quantities(plan, weights)
        measured.append(rows)
        accuracy[name] = rows[0][1]
        for how, proof in _proofs(found, run).items():
            proofs.append((name, how, proof))
            if how == "brute force":
                accuracy[name] = proof.right
        run.keep(f"singular-values-{name}", direction.shares, unit="share of the energy")
    both = [(name, one, other, text) for (name, one, text), (_, other, _) in zip(*measured, strict=True)]
    run.show("analysis", figures.analysis_table(both))
    run.show("proof", figures.proof_table(proofs, accuracy))
    run.fact("accuracy", accuracy["trained"])


def _proofs(found: Circuits, run: Run) -> dict[str, Proof]:
    from engine.toys.maximum import proofs as max_proofs
    from engine.toys.maximum.transformer import size_direction

    direction = size_direction(found.scores)
    proofs = {}
    if found.numbers**found.k <= BRUTE:
        proofs["brute force"] = max_proofs.brute_force(found, run.point)
    proofs["cubic"] = max_proofs.cubic(found, run.point)
    proofs["rank one"] = max_proofs.rank_one(found, direction.rank_one, direction.rest, run.point)
    return proofs


def _bench(p: MaxOfK, trainer: MaxTrainer, untrained: dict[str, torch.Tensor]) -> tuple[Bench, torch.Tensor]:
    """Dictionaries on the logits of the trained and of the untrained transformer for the same sequences."""
    import torch

    from engine.toys.maximum import transformer as model
    from engine.toys.small_dictionaries import Bench, Job
    from engine.toys.training import generator

    plan, size = trainer.plan, _SIZES[p.size]
    tokens = model.even(plan, size.sequences, generator(plan.seed, 8))
    jobs = []
    for name, weights in (("trained", trainer.now), ("control: untrained", untrained)):
        with torch.no_grad():
            logits = model.forward(weights, tokens)[0][:, : plan.numbers].contiguous()
        mean = logits.mean(dim=0)
        jobs += [
            Job(name, logits, width, 1, centre=mean, bias=True, label=name)
            for width in sorted(set(p.widths or size.widths))
        ]
    steps = p.dictionary_steps or size.dictionary_steps
    carried = {name: tensor for name, tensor in trainer.now.items() if name in trainer.weights}
    return Bench(jobs, steps=steps, lr=DICTIONARY_LR, batch=DICTIONARY_BATCH, seed=p.seed, carried=carried), tokens


class _Latents:
    """Shows the movie of the narrowest dictionaries, and at the end a table of all."""

    def __init__(self, bench: Bench, tokens: torch.Tensor, plan: Plan, run: Run) -> None:
        self.bench, self.tokens, self.plan, self.run = bench, tokens, plan, run
        narrow = min(one.job.width for one in bench.small)
        self.shown = [one for one in bench.small if one.job.width == narrow]
        self.order = [table.argmax(axis=1).argsort(kind="stable") for _, table in self._activity()]

    def _activity(self) -> list[tuple[str, Array]]:
        from engine.toys.maximum.latents import by_largest

        largest, heads = self.tokens.amax(dim=1), ("", "untrained ")
        tables = [by_largest(one.codes(), largest, self.plan.numbers).numpy() for one in self.shown]
        return list(zip(heads, tables, strict=True))

    def __call__(self, step: int) -> None:
        from engine.toys.maximum.figures import latents_map

        self.run.show("latents", latents_map(self._activity(), self.order, self.shown[0].job.width), step=step)

    def finish(self, seed: int) -> None:
        """Show the table."""
        from engine.toys.maximum.figures import latents_table
        from engine.toys.maximum.latents import meaning
        from engine.toys.training import generator

        source = generator(seed, 9)
        rows = [
            (one.job.label, one.job.width, meaning(one, self.tokens, self.plan.numbers, source))
            for one in self.bench.small
        ]
        self.run.show("dictionaries", latents_table(rows, len(self.tokens)))


def _keep(trainer: MaxTrainer, run: Run) -> None:
    """The transformer, and sequences with their answers as its text; only the position of the answer counts."""
    import torch

    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy
    from engine.toys.maximum import transformer as model
    from engine.toys.training import generator

    plan = trainer.plan
    sequences = model.even(plan, KEPT, generator(plan.seed, 10))
    largest = sequences.amax(dim=1)
    tokens = torch.cat((sequences, largest[:, None]), dim=1).numpy()
    counted = np.zeros(tokens.shape, bool)
    counted[:, plan.k - 1] = True
    features = np.zeros((*tokens.shape, plan.numbers), np.uint8)
    features[np.arange(KEPT), plan.k - 1, largest.numpy()] = 1
    names = tuple(f"largest {number}" for number in range(plan.numbers))
    now = trainer.now
    written = now["embed.weight"][: plan.numbers] @ now["blocks.0.attn.v.weight"].T @ now["blocks.0.attn.o.weight"].T
    keep_toy(
        run,
        trainer.model(),
        ToyData(tokens, counted, features, names),
        title=f"Max of {plan.k} numbers below {plan.numbers}",
        planted={"blocks.0.hook_attn_out": (names, written.numpy())},
    )


@cost("max-of-k")
def _cost(p: MaxOfK) -> Cost:
    from engine.models.memory import available
    from engine.toys.maximum.transformer import MaxTrainer

    if _bytes(p) > available():
        return Cost(0.0, _bytes(p))
    plan, size = _plan(p), _SIZES[p.size]
    trainer = MaxTrainer(plan)
    untrained = {name: tensor.clone() for name, tensor in trainer.now.items()}
    seconds = timed(trainer.train_step, plan.steps)
    bench, _ = _bench(p, trainer, untrained)
    seconds += timed(bench.train_step, p.dictionary_steps or size.dictionary_steps, measured=3, warm=1)
    if plan.numbers**plan.k <= BRUTE:
        seconds += 2 * plan.numbers**plan.k * 8e-8  # both transformers, tried on every sequence
    return Cost(seconds, _bytes(p))
