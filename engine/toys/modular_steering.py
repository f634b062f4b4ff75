"""The experiment `modular-steering`: methods of steering where the right result is known exactly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import Batch, LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.modular_addition import SIZES, ModularSize, Modulus, check_every
from engine.toys.sizes import Size

if TYPE_CHECKING:
    from torch import Tensor

    from engine.runs.run import Run
    from engine.steering.learned import ShiftTrainer
    from engine.toys.modular.network import Shape
    from engine.toys.modular.steering import Bed, LearnedOutcome, Outcome
    from engine.toys.modular.training import ModularTrainer

HOOK = "blocks.0.hook_resid_mid"
STAGE = "learned_so_far"  # among the values of a checkpoint: the network is there, and so many f have been trained
WEIGHTS, BATCHES, PAIRS = 10, 11, 12  # streams of the seed


@dataclass(frozen=True)
class _Size:
    network: ModularSize
    keys: tuple[int, ...]  # of the hand-built network
    hand_built: bool
    steps: int
    batch: int
    betas: tuple[float, ...]


# Demo trains on 80 % of the pairs: its circles are then clean enough that a rotation is right for every pair.
_SIZES = {
    "quick": _Size(replace(SIZES["quick"], p=13), (1, 5), True, 120, 128, (0.0, 0.1)),
    "demo": _Size(ModularSize(53, 0.8, 48, 4, 192, 3e-3, 900), (3, 7, 19), False, 1_200, 512, (0.0, 0.01, 0.1, 1.0)),
    "paper": _Size(SIZES["paper"], (5, 14, 33, 51), False, 5_000, 512, (0.0, 0.01, 0.1, 1.0)),
}
_Delta: TypeAlias = Annotated[int, Field(ge=1, le=250)]
_Beta: TypeAlias = Annotated[float, Field(ge=0, le=100)]


class ModularSteering(Parameters):
    """Parameters of `modular-steering`; those left empty come from ``size``."""

    size: Size = "demo"
    model: str = Field(
        "",
        description="A toy:RUN of modular addition to steer; empty: a network is trained, or built by hand",
        json_schema_extra={"widget": "model"},
    )
    hand_built: bool | None = Field(
        None, description="Write the weights of a clock by hand in place of training; empty: by size (only quick does)"
    )
    p: Modulus | None = Field(None, description="Modulus: numbers are 0 … p − 1; empty: by size")
    deltas: list[_Delta] = Field([1, 7, 20], min_length=1, max_length=8, description="Shifts δ of the answer, modulo p")
    betas: list[_Beta] | None = Field(
        None, min_length=1, max_length=8, description="Prices β of moving, an f for each; empty: by size"
    )
    steps: Steps | None = Field(None, description="Optimiser steps of each f; empty: by size")
    batch: Batch | None = Field(None, description="Pairs per step of f; empty: by size")
    lr: LearningRate = 3e-3
    hidden: int = Field(256, ge=1, le=8_192, description="Hidden neurons of f")
    held_out: float = Field(0.1, gt=0, le=0.5, description="Share of the pairs (y, y′) that f is not trained on")
    network_steps: Steps | None = Field(None, description="Optimiser steps of the network; empty: by size")
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _a_model_is_not_made(self) -> ModularSteering:
        if self.model and not self.model.startswith("toy:"):
            raise ValueError(
                f"model={self.model!r} does not add modulo p; name a toy:RUN of modular-addition, or leave it empty"
            )
        if self.model and (self.hand_built or self.p or self.network_steps):
            raise ValueError(
                "hand_built, p and network_steps are for a network that is made; leave model empty for them"
            )
        return self

    @property
    def preset(self) -> _Size:
        """What the size says where a parameter is empty."""
        return _SIZES[self.size]

    @property
    def modulus(self) -> int:
        """p of a network that is made."""
        return self.p or self.preset.network.p

    @property
    def by_hand(self) -> bool:
        """Whether the weights are written by hand."""
        return self.preset.hand_built if self.hand_built is None else self.hand_built

    @property
    def prices(self) -> list[float]:
        """The β's, rising."""
        return sorted(set(self.preset.betas if self.betas is None else self.betas))


METRICS = {
    "loss": Metric("Network: loss", "nats", "Mean cross-entropy of its training pairs, before the step", "log"),
    "test_accuracy": Metric("Network: test accuracy", "share", "Test pairs answered with their sum"),
    "shift_loss": Metric("f: loss", "nats", "Loss of its batches; the steps of one β follow those of the other", "log"),
    "shift_success": Metric("f: success", "share", "Share of its batches' pairs answered with the target"),
    "shift_step": Metric("f: step", "|x|", "Mean |x′ − x| / |x| of its batches"),
}


@experiment(
    "modular-steering",
    title="Steering modular addition",
    area="Toy models",
    cites="Nanda et al. 2023, Progress measures for grokking; Engels et al. 2024, Not All Language Model Features Are Linear; "
    "Singh et al. 2024, Representation Surgery; Tan 2024, learned nonlinear steering",
    resumable=True,
    estimate="toy-estimate",
    metrics=METRICS,
)
def modular_steering(p: ModularSteering, run: Run) -> None:
    """A network adds a and b modulo p. Every method of steering tries to make it answer δ more; see what each one moves.

    It reads [a, b, "="]; what it does for (a + δ, b) is known, so every method has an **oracle**, that pair's own
    activation. Three sites: the embedding of a, *mid* (residual stream at "=" before the MLP) and *post* (after it). Methods
    are made from one half of the pairs and judged on the other; (a, b) and (b, a) are in the same half. Size demo trains the
    network (p = 53, 80 % of the pairs), quick writes the weights of a clock by hand, `model=toy:RUN` takes one that is there.

    **How to read it.** *methods*: success is the share of held-out pairs answered a + b + δ. Measured at size demo, seed 0,
    1,353 held-out pairs, δ = 1 / 7 / 20:

    - rotating a's embedding in the key planes: 1.000 / 1.000 / 1.000, and so do the oracle patch and class-pair means at post;
    - **one global vector for "+ δ"**, the mean over y of μ(y + δ) − μ(y): 0 / 0 / 0. Every mean is added and taken away once,
      so it is identically zero, at any site of any network;
    - class-pair means at mid: .001 / 0 / .078. A sum fixes a + b and not a − b, and the mean over a − b cancels the circles:
      the *site* decides. Put in place of x, the target's class mean still has .85 success, because what little is left in it
      points the right way;
    - a least-squares affine map at mid: .65 / .36 / .998 (R² .47 / .28 / .84);
    - learned f: 1.000 each, on pairs (y, y′) that it was not trained on as well.

    *learned* and *distance*: **success alone is not steering.** Without a price f moves x by 2.2 |x| and lands 3.6 times as far
    from real activations as they are from each other, goes another way than the oracle (cosine of the steps .25) and hardly
    cares which y it is told: it overwrites. A price β on moving makes it shorter and truer: at β = .1 success is .999 at
    distance 1.07, cosine .49. Even so its other answers are not the oracle's (*side effect*). *rotation* shows the numbers on
    their circles and where the rotation puts some.

    **Controls.** Floors stand in the table: random vectors of equal norm at each site, shuffled labels, shuffled targets,
    shuffled numbers, the mean of all pairs; chance is 1/p. f is also told a wrong y.

    **Traps.** Distances depend on what counts as real: in networks that treat a and b alike, (b, a) is a near copy of (a, b), and
    with one of them in each half f would seem hundreds of times as far out. A distance of 1 is not "on the manifold" in
    directions in which real activations hardly vary. KL is large because the network is certain: other answers have tiny
    probabilities. One seed is one network; success of a rotation falls to .98 where the network was trained on 60 % of the pairs.

    The network joins the session as `toy:RUN`, and the first f can be taken by the steering bench (`learned=RUN`) at
    blocks.0.hook_resid_mid.
    """

    from engine.toys.modular import steering, steering_figures

    shape, theta, spent = _network(p, run)
    began = time.process_time()
    run.stage("Steering")
    bed = steering.bed(shape, theta, p.seed)
    accuracy = float((bed.logits.argmax(1) == bed.y).double().mean())
    run.fact("accuracy", accuracy)
    run.fact("rotated_frequencies", bed.keys)
    run.fact("held_out_pairs", len(bed.held))
    run.keep("held out", bed.held.numpy().astype(np.int32), what="pairs (a, b) as a·p + b on which methods are judged")
    if accuracy < 0.99:
        run.say(
            f"The network answers {accuracy:.1%} of all pairs: it has not grokked, so no method can do better.",
            "warning",
        )
    deltas = _deltas(p, shape.p)
    table = [one for delta in run.track(deltas, unit="shifts") for one in steering.exact_methods(bed, delta, p.seed)]
    before = bed.embedding
    after = steering.rotated(before, bed.keys, deltas[0])
    run.show(
        "rotation", steering_figures.rotation(before.double().numpy(), after.double().numpy(), bed.keys, deltas[0])
    )
    run.show("methods", steering_figures.methods(table))
    _learn(p, bed, table, deltas, spent + time.process_time() - began, run)


def _learn(p: ModularSteering, bed: Bed, table: list[Outcome], deltas: Sequence[int], spent: float, run: Run) -> None:
    """Train f at each price, judge it beside the ``table`` of the other methods, and keep it."""
    import torch

    from engine.steering.learned import held_out_pairs
    from engine.toys.modular import steering, steering_figures
    from engine.toys.training import generator

    untrained = held_out_pairs(bed.shape.p, p.held_out, generator(p.seed, PAIRS))
    trainers = _train(p, bed, untrained, spent, run)
    run.stage("Judging f")
    found = [
        steering.learned_outcome(bed, trainer.network, beta, untrained, deltas, p.seed)
        for trainer, beta in run.track(list(zip(trainers, p.prices, strict=True)), unit="networks")
    ]
    table += [outcome for one in found for outcome in one.deltas]
    others = [one for one in table if one.site == steering.MID and not one.method.startswith("learned")]
    histories = [trainer.history.numpy() for trainer in trainers]
    run.show("methods", steering_figures.methods(table))
    run.show("learned", steering_figures.learned(found, bed.shape.p))
    run.show("distance", steering_figures.success_and_distance(found, others))
    run.show("training", steering_figures.training(histories, p.prices, 20, trainers[0].plan.batch))
    run.keep(
        "f history", torch.stack([trainer.history for trainer in trainers]).numpy(), axes="β, step, loss success step"
    )
    run.keep("held-out labels", untrained.numpy(), axes="y, y′", what="pairs (y, y′) that f was not trained on")
    _keep(p, bed, trainers[0], run)
    run.fact("success_of_f_on_held_out_pairs", {f"{one.beta:g}": one.anywhere.success for one in found})
    run.say(_sentence(found))


def _deltas(p: ModularSteering, modulus: int) -> list[int]:
    """The shifts modulo p, each once and without 0."""
    from engine.toys.errors import ToyError

    found = list(dict.fromkeys(delta % modulus for delta in p.deltas if delta % modulus))
    if not found:
        raise ToyError(
            f"deltas={p.deltas} leave every answer modulo {modulus} as it is; give a shift that is no multiple of {modulus}."
        )
    return found


def _sentence(found: Sequence[LearnedOutcome]) -> str:
    parts = [
        f"{one.anywhere.success:.1%} at β = {one.beta:g}, {np.median(one.anywhere.distance):.1f} times as far from real "
        "activations as they are from each other"
        for one in (found[0], *found[1:][-1:])
    ]
    return f"f answers held-out pairs with the target: {'; '.join(parts)}."


def _network(p: ModularSteering, run: Run) -> tuple[Shape, Tensor, float]:
    """Shape and weights (parameters,) of the network to steer, and the processor seconds that it took."""
    import torch

    from engine.toys.modular.clock import clock
    from engine.toys.modular.network import Shape

    if run.resumed is not None and STAGE in run.resumed.values:
        values = run.resumed.values
        return Shape(**values["shape"]), torch.from_numpy(np.array(run.resumed.arrays["theta"])), float(values["spent"])
    if p.model:
        return *_read(p.model, run), 0.0
    if p.by_hand:
        run.say("The network's weights are written by hand: a clock. Nothing is trained but f.")
        keys = [k for k in p.preset.keys if 2 * k < p.modulus] or [1]
        return *clock(p.modulus, keys), 0.0
    return _trained(p, run)


def _read(reference: str, run: Run) -> tuple[Shape, Tensor]:
    from engine.models.references import parse
    from engine.models.toys import load_toy, network_weights, stored
    from engine.toys.errors import ToyError
    from engine.toys.modular.network import from_native, vocabulary

    run.stage(f"Opening {reference}")
    attributes, arrays = stored(parse(reference), run.work)
    p = attributes.get("p")
    model = load_toy(attributes, network_weights(arrays)) if isinstance(p, int) else None
    words = model.tokenizer.get_vocab() if model is not None else {}
    if (
        model is None
        or not isinstance(p, int)
        or any(words.get(word) != n for n, word in enumerate(vocabulary(p)[: p + 1]))
    ):
        raise ToyError(f"{reference} does not add modulo p; name a toy:RUN of modular-addition.")
    return from_native(model)


def _network_trainer(p: ModularSteering) -> tuple[ModularTrainer, int]:
    from engine.toys.modular.network import Shape as NetworkShape
    from engine.toys.modular.training import ModularTrainer, Plan, Setting, schedule

    size = p.preset.network
    steps = p.network_steps or size.steps
    shape = NetworkShape(p.modulus, size.d_model, size.heads, size.d_mlp)
    check = check_every(steps)
    plan = Plan(shape, share=size.share, lr=size.lr, weight_decay=1.0, check=check)
    return ModularTrainer(plan, [Setting(p.seed)], schedule(steps, check, [0])), steps


def _trained(p: ModularSteering, run: Run) -> tuple[Shape, Tensor, float]:
    from engine.toys.modular import figures
    from engine.toys.modular.training import COLUMNS
    from engine.toys.training import train

    before = float(run.resumed.values["cpu_seconds"]) if run.resumed is not None else 0.0
    began = time.process_time()
    trainer, steps = _network_trainer(p)

    def measure(step: int) -> None:
        run.log(step, test_accuracy=float(trainer.measure(step)["test_accuracy"][0]))

    train(run, trainer, steps, measure=measure, at=trainer.at, lr=trainer.plan.lr, stage="Training the network")
    run.resumed = None  # the checkpoint was the network's, and f does not begin from it
    part = trainer.splits[0]
    curves = {name: trainer.curve(name)[:, 0] for name in COLUMNS}
    sizes = (len(part.train), 0, len(part.test))
    run.show("accuracy", figures.accuracy(np.array(trainer.at), curves, p.modulus, sizes))
    run.fact("network_cpu_seconds", round(before + time.process_time() - began, 1))
    return trainer.plan.shape, trainer.theta[0].detach().clone(), before + time.process_time() - began


def _shift_trainer(p: ModularSteering, bed: Bed, untrained: Tensor, beta: float) -> ShiftTrainer:
    """A trainer of f for the price ``beta``; all prices share first weights and batches."""
    from engine.steering.learned import ShiftNetwork, ShiftPlan, ShiftTrainer
    from engine.toys.modular.steering import MID
    from engine.toys.training import generator

    x, size = bed.x[MID], p.preset
    plan = ShiftPlan(p.steps or size.steps, p.batch or size.batch, p.lr, p.hidden, beta)
    network = ShiftNetwork.of(x, bed.shape.p, hidden=p.hidden, source=generator(p.seed, WEIGHTS))
    source = generator(p.seed, BATCHES)
    return ShiftTrainer(network, x, bed.y, bed.fitted, untrained, bed.rest, plan, source)


def _train(p: ModularSteering, bed: Bed, untrained: Tensor, spent: float, run: Run) -> list[ShiftTrainer]:
    """Train an f for each β, or go on from the checkpoint, exactly as without the interruption."""
    from engine.runs.control import RunStopped
    from engine.steering.learned import train_shift

    trainers = [_shift_trainer(p, bed, untrained, beta) for beta in p.prices]
    done, took = 0, 0.0
    if run.resumed is not None:
        done, took = int(run.resumed.values[STAGE]), float(run.resumed.values["took"])
        for number, trainer in enumerate(trainers):
            mark = f"{number}."
            kept = {n.removeprefix(mark): a for n, a in run.resumed.arrays.items() if n.startswith(mark)}
            if kept:
                trainer.restore(kept)
    began = time.process_time()

    def save() -> None:
        arrays = {"theta": bed.theta[0].numpy()}
        for number, trainer in enumerate(trainers):
            if trainer.step:
                arrays |= {f"{number}.{name}": array for name, array in trainer.checkpoint().items()}
        values = {STAGE: done, "shape": asdict(bed.shape), "spent": spent, "took": took + time.process_time() - began}
        run.checkpoint(values, arrays)

    try:
        for number in range(done, len(trainers)):
            run.stage(f"Training f, β = {p.prices[number]:g}")
            train_shift(run, trainers[number], before=number * trainers[number].plan.steps)
            done = number + 1
            save()
    except RunStopped:
        save()
        raise
    took += time.process_time() - began
    run.fact("f_cpu_seconds_each", round(took / len(trainers), 1))
    run.fact("cpu_seconds", round(spent + took, 1))
    return trainers


def _keep(p: ModularSteering, bed: Bed, trainer: ShiftTrainer, run: Run) -> None:
    """Keep the first f for the bench, and the network where it was made here."""
    import torch

    from engine.steering.learned import LearnedShift, Readout, keep_learned
    from engine.toys.modular.keeping import keep_network
    from engine.toys.modular.steering import MID

    if not p.model:
        keep_network(run, bed.shape, bed.theta[0], rotated_frequencies=bed.keys)
    # The native model's stream has one dimension more, which is 1 at "=".
    x = torch.nn.functional.pad(bed.x[MID][bed.fitted], (0, 1), value=1.0)
    readout = Readout.fit(x, bed.y[bed.fitted], bed.shape.p)
    classes = tuple(str(number) for number in range(bed.shape.p))
    keep_learned(run, LearnedShift(trainer.network.widened(1.0), readout, classes, HOOK, p.model or f"toy:{run.id}"))


@cost("modular-steering")
def _cost(p: ModularSteering) -> Cost:
    import torch

    from engine.models.memory import available
    from engine.steering.learned import held_out_pairs
    from engine.toys.modular.clock import clock
    from engine.toys.modular.steering import bed

    size, modulus = p.preset, p.modulus
    pairs, d_mlp, d = modulus**2, size.network.d_mlp, size.network.d_model
    heads = size.network.heads
    wanted = pairs * (6 * d_mlp + 12 * modulus + 12 * d * heads) * 4
    wanted += (p.batch or size.batch) * (p.hidden + d_mlp + 3 * modulus) * 16 + 200_000_000
    if wanted > available():
        return Cost(0.0, wanted)
    seconds = 1.0 + 4.0 * (pairs / 2_809) ** 2 * (len(p.deltas) + 2) / 3
    if not p.model and not p.by_hand:
        trainer, steps = _network_trainer(p)
        seconds += timed(trainer.train_step, steps, measured=10)
    test = bed(*clock(min(modulus, 23), [1]), p.seed)  # f costs nearly the same on a small network
    untrained = held_out_pairs(test.shape.p, p.held_out, torch.Generator())
    shift = _shift_trainer(p, test, untrained, 0.0)
    seconds += 1.5 * len(p.prices) * timed(shift.train_step, shift.plan.steps, measured=10)
    return Cost(seconds, wanted)
