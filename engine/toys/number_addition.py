"""The experiment `number-addition`: a small transformer that adds numbers which are one token each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys import fourier
from engine.toys.costs import Cost, cost, timed
from engine.toys.numbers import figures as number_figures
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.numbers.training import Plan, SumTrainer

Array: TypeAlias = npt.NDArray[Any]
CHECKS = 30  # of the accuracy, in a run
SHUFFLE, SAMPLE = 5, 6  # streams of the seed: shuffled numbers, pairs that are kept as data
KEPT = 4_000_000  # bytes of features that are kept


@dataclass(frozen=True)
class _Size:
    numbers: int
    layers: int
    d_model: int
    heads: int
    d_mlp: int
    batch: int
    steps: int
    lr: float


# Demo is the cheapest setting found that answers over 95 % of held-out pairs in under a minute, control included.
_SIZES = {
    "quick": _Size(12, 1, 32, 2, 64, 64, 200, 5e-3),
    "demo": _Size(100, 2, 64, 4, 256, 256, 1_800, 5e-3),
    "paper": _Size(100, 4, 128, 4, 512, 512, 20_000, 1e-3),
}
_Pairs: TypeAlias = Annotated[
    int, Field(ge=1, le=65_536, description="Pairs per optimiser step", json_schema_extra={"unit": "pairs"})
]


class NumberAddition(Parameters):
    """Parameters of `number-addition`; those left empty come from ``size``."""

    size: Size = "demo"
    numbers: int | None = Field(None, ge=4, le=500, description="Numbers to add: 0 … numbers − 1; empty: by size")
    train_share: float = Field(0.8, gt=0, lt=1, description="Share of all pairs (a, b) to train on")
    layers: int | None = Field(None, ge=1, le=16, description="Transformer blocks; empty: by size")
    d_model: int | None = Field(None, ge=4, le=1024, description="Width of the residual stream; empty: by size")
    heads: int | None = Field(None, ge=1, le=64, description="Attention heads per block; empty: by size")
    d_mlp: int | None = Field(None, ge=1, le=8192, description="Neurons per block; empty: by size")
    batch: _Pairs | None = Field(None, description="Pairs per optimiser step; empty: by size")
    lr: LearningRate | None = Field(
        None, description="Highest learning rate of AdamW, with cosine decay; empty: by size"
    )
    weight_decay: float = Field(1.0, ge=0, le=100, description="Weight decay of AdamW")
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _sizes_make_sense(self) -> NumberAddition:
        size = _SIZES[self.size]
        width, heads = self.d_model or size.d_model, self.heads or size.heads
        if width % heads:
            raise ValueError(f"d_model={width} cannot be shared out among heads={heads}; choose a multiple")
        pairs = self.number_count**2
        if not 1 <= round(self.train_share * pairs) < pairs:
            raise ValueError(
                f"train_share={self.train_share:g} of {pairs:,} pairs leaves one part empty; choose 0.8 for example"
            )
        return self

    @property
    def number_count(self) -> int:
        """How many numbers are added."""
        return self.numbers or _SIZES[self.size].numbers


@experiment(
    "number-addition",
    title="Addition of numbers",
    area="Toy models",
    cites="Kantamneni & Tegmark 2025, Language Models Use Trigonometry to Do Addition",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric("Training loss", "nats", "Cross-entropy of the sum in one batch, before the step", "log"),
        "test_accuracy": Metric(
            "Sums", "share", "Held-out pairs answered rightly, at most 1,000 of them before the last step",
            group="Test accuracy",
        ),
        "control_accuracy": Metric(
            "Shuffled sums", "share", "The same of the network whose answers were dealt out anew", group="Test accuracy"
        ),
    },
)  # fmt: skip
def number_addition(p: NumberAddition, run: Run) -> None:
    """Train a small transformer on “a + b =”, each number one token, to ask how it writes down a number.

    “12 + 7 =” — 19. Operands are 0 to 99, answers 0 to 198, and a fifth of the 10,000 pairs is held out. The network knows
    nothing of digits: 12 and 13 are two words like any others, and only the sums in which they stand tell which is larger.
    This is the model on which `number-helix` can be tested causally in seconds: choose `toy:RUN` there, with the
    template `{a} + {b} =`.

    **How to read it.** *Accuracy*: the held-out pairs follow the training pairs when the network has found an order of the
    numbers. The **control** learns the same questions with the sums dealt out anew: it can only memorise, and its
    held-out accuracy stays at the level of a guess. *Numbers* is a movie of the embedding on its principal components: a cloud
    becomes a thread with the numbers in order. *Spectrum* is the same along the number axis, beside shuffled numbers: a bent
    line has its power at the lowest frequencies, digits would have it at periods of 10, 5 and 2. *Pairs* shows where the network
    is still wrong.

    **What to expect.** At size demo seeds 0 and 1 answered 96 % and 98 % of the held-out pairs, and the control .5 %. The
    embedding is a bent number line: frequencies 1 to 3 hold most of the power, and nothing stands out at the periods of digits,
    which large language models have and a network without digits has no reason for.

    **Traps.** Sums near 0 and 198 occur in few pairs, so the corners are learned last. A movie on components chosen from the
    last checkpoint shows what came out, not what the untrained network had. Tokens above 99 are answers only: as operands they
    were never seen.

    The network joins the session as `toy:RUN`, its questions as the text `toy:RUN`.
    """
    from engine.models import memory
    from engine.toys.numbers.training import SumTrainer
    from engine.toys.training import log_steps, train

    plan = _plan(p)
    memory.require(_bytes(plan), "cpu", what="These networks", way_out="choose smaller widths or fewer numbers")
    frames = log_steps(plan.steps, FRAMES[p.size])
    trainer = SumTrainer(plan, _checks(plan.steps), frames)
    run.fact("parameters", plan.shape.parameters)
    run.fact("training_pairs", len(trainer.train_rows))
    run.fact("test_pairs", len(trainer.test_rows))
    for part, rows in (("training_pairs", trainer.train_rows), ("test_pairs", trainer.test_rows)):
        run.keep(part, rows.numpy().astype(np.int32), what="pairs (a, b) as a · numbers + b")

    def measure(step: int) -> None:
        if step in frames:
            _spectrum(trainer.snapshot(step), step, p.seed, run)
        if step in trainer.at:
            found = trainer.measure(step)
            sums, control = (values["test_accuracy"] for values in found.values())
            run.log(step, test_accuracy=sums, control_accuracy=control)
            _curves(trainer, run)

    train(run, trainer, plan.steps, measure=measure, at=sorted({*frames, *trainer.at}), lr=plan.lr)
    _finish(trainer, run)


def _plan(p: NumberAddition) -> Plan:
    from engine.toys.numbers.network import SumShape
    from engine.toys.numbers.training import Plan

    size = _SIZES[p.size]
    shape = SumShape(
        numbers=p.number_count,
        layers=p.layers or size.layers,
        d_model=p.d_model or size.d_model,
        heads=p.heads or size.heads,
        d_mlp=p.d_mlp or size.d_mlp,
    )
    return Plan(
        shape=shape,
        share=p.train_share,
        batch=p.batch or size.batch,
        steps=p.steps or size.steps,
        lr=p.lr or size.lr,
        weight_decay=p.weight_decay,
        seed=p.seed,
    )


def _checks(steps: int) -> list[int]:
    """Steps at which accuracy is measured: the beginning, `CHECKS` equal parts, the end."""
    return sorted({0, *range(max(steps // CHECKS, 1), steps + 1, max(steps // CHECKS, 1)), steps})


def _curves(trainer: SumTrainer, run: Run) -> None:
    from engine.toys.numbers.training import KINDS, guess

    def rows(what: str) -> dict[str, Array]:
        return {
            f"{kind}, {part}": trainer.curve(kind, f"{part}_{what}") for kind in KINDS for part in ("train", "test")
        }

    best, entropy = guess(trainer.plan.shape.numbers)
    steps, pairs = np.array(trainer.at), (len(trainer.train_rows), len(trainer.test_rows))
    run.show("accuracy", number_figures.accuracy(steps, rows("accuracy"), pairs, best))
    run.show("loss", number_figures.losses(steps, rows("loss"), entropy))


def _spectrum(embedding: Array, step: int, seed: int, run: Run) -> None:
    control = fourier.shuffled_shares(embedding, np.random.default_rng([seed, SHUFFLE]))
    run.show("spectrum", number_figures.spectrum(embedding, control), step=step)


def _finish(trainer: SumTrainer, run: Run) -> None:
    import torch

    from engine.toys.numbers.training import COLUMNS, KINDS

    numbers, pairs = trainer.plan.shape.numbers, (len(trainer.train_rows), len(trainer.test_rows))
    snapshots = trainer.snapshots.double().numpy()
    last = snapshots[-1] - snapshots[-1].mean(0)
    _, singular, components = np.linalg.svd(last, full_matrices=False)
    shares = (singular**2 / (singular**2).sum())[:3]
    for step, embedding in zip(trainer.frames, snapshots, strict=True):
        found = number_figures.number_line(embedding, snapshots[-1].mean(0), components[:3], shares)
        run.show("numbers", found, step=step)
    said = trainer.answered(KINDS[0], torch.arange(numbers**2))
    right = said.gather(1, trainer.labels[KINDS[0]][:, None]).exp().reshape(numbers, numbers).numpy()
    run.show("pairs", number_figures.right_by_pair(right, trainer.test_rows.numpy()))
    rows = []
    for kind in KINDS:
        for name, at in ((f"{kind}, untrained", 0), (kind, -1)):
            train, test, train_loss, test_loss = (float(trainer.curve(kind, column)[at]) for column in COLUMNS)
            n = pairs[1] if at else min(pairs[1], 1_000)
            rows.append((name, train, test, float(np.sqrt(test * (1 - test) / n)), train_loss, test_loss))
    run.show("table", number_figures.table(rows, pairs))
    accuracy, control = rows[1][2], rows[3][2]
    run.fact("test_accuracy", accuracy)
    run.say(
        f"It answers {accuracy:.1%} of {pairs[1]:,} pairs that it was not trained on; the network with shuffled sums "
        f"{control:.1%}."
    )
    _keep(trainer, accuracy, run)


def _keep(trainer: SumTrainer, accuracy: float, run: Run) -> None:
    """Keep the network as ``toy:RUN`` and questions as its text, with the sum that is asked for planted at "="."""
    import torch

    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy
    from engine.toys.numbers.network import LENGTH, TOGETHER, answers, final, native, questions
    from engine.toys.numbers.training import KINDS

    shape, net = trainer.plan.shape, trainer.nets[KINDS[0]]
    asked = answers(shape.numbers)
    most = max(KEPT // (LENGTH * shape.sums), 1)
    kept = np.random.default_rng([trainer.plan.seed, SAMPLE]).permutation(len(asked))[:most]
    counted = np.zeros((len(kept), LENGTH), bool)
    counted[:, -1] = True
    features = np.zeros((len(kept), LENGTH, shape.sums), np.uint8)
    features[np.arange(len(kept)), LENGTH - 1, asked[kept]] = 1
    names = tuple(f"a + b = {c}" for c in range(shape.sums))
    with torch.no_grad():
        every = torch.split(torch.from_numpy(questions(shape.numbers)), TOGETHER)
        streams = [final(shape, net, part) for part in every]
    stream = torch.cat(streams).double().numpy()
    directions = np.stack([stream[asked == c].mean(0) for c in range(shape.sums)]) - stream.mean(0)
    keep_toy(
        run,
        native(shape, net),
        ToyData(questions(shape.numbers)[kept].astype(np.int32), counted, features, names),
        title=f"Addition of 0 to {shape.numbers - 1}",
        planted={f"blocks.{shape.layers - 1}.hook_resid_post": (names, directions.astype(np.float32))},
        numbers=shape.numbers,
        template="{a} + {b} =",
        example="12 + 7 =" if shape.numbers > 12 else "2 + 1 =",
        test_accuracy=accuracy,
    )


def _bytes(plan: Plan) -> int:
    """At the peak: both networks with moments, a step, answers to all pairs, and what is kept of the embedding."""
    shape = plan.shape
    step = min(plan.batch, shape.numbers**2) * 4 * shape.layers * (12 * shape.d_model + 3 * shape.d_mlp)
    whole = shape.numbers**2 * (16 * shape.sums + 8 * shape.d_model) + 2_048 * 16 * shape.layers * shape.d_mlp
    return 300_000_000 + 40 * shape.parameters + 16 * step + whole + 8 * 120 * shape.numbers * shape.d_model


@cost("number-addition")
def _cost(p: NumberAddition) -> Cost:
    from engine.models.memory import available
    from engine.toys.numbers.training import SumTrainer

    plan = _plan(p)
    if _bytes(plan) > available():
        return Cost(0.0, _bytes(plan))
    trainer = SumTrainer(plan, [0])
    seconds = timed(trainer.train_step, plan.steps)
    return Cost(1.1 * seconds + 1, _bytes(plan), "The network and its control train side by side.")
