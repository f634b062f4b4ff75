"""The experiment `label-noise`: wrong training labels against grokking."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.figures.kinds import Axis, Lines, Table
from engine.runs.declaration import Metric, experiment
from engine.toys.costs import Cost, cost
from engine.toys.modular.figures import ACCURACY
from engine.toys.modular.sweep import Sweep, axis, numbers, spread
from engine.toys.modular_addition import SIZES, ModularNetwork, ModularSize, memory_of, seconds
from engine.toys.sizes import FRAMES

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.modular.training import ModularTrainer, Setting

Array: TypeAlias = npt.NDArray[Any]
_SEEDS = {"quick": 1, "demo": 1, "paper": 3}
_PARTS = {
    "train, right labels": "clean_accuracy",
    "train, wrong labels: true sum": "corrupted_accuracy",
    "train, wrong labels: as labelled": "corrupted_fitted",
    "test": "test_accuracy",
}


class LabelNoise(ModularNetwork):
    """Parameters of `label-noise`; those left empty come from ``size``."""

    noise: str = Field(
        "0, 1, 2, 5, 10", max_length=100, description="Wrong training labels in percent; 0 is always there"
    )
    seeds: int | None = Field(None, ge=1, le=20, description="Seeds per share; empty: by size")

    @model_validator(mode="after")
    def _noise_is_numbers(self) -> LabelNoise:
        none = [percent for percent in self.percent if percent and self.wrong_labels(percent / 100) < 1]
        if none:
            raise ValueError(
                f"{none[0]:g} % in noise makes none of {self.training_pairs:,} training labels wrong; choose at least "
                f"{100 / self.training_pairs:.2g}"
            )
        return self

    @property
    def preset(self) -> ModularSize:
        """More pairs to train on at size demo, so that it groks sooner."""
        return replace(SIZES["demo"], share=0.6, steps=1_000) if self.size == "demo" else SIZES[self.size]

    @property
    def percent(self) -> tuple[float, ...]:
        """Wrong labels in percent, 0 first."""
        return numbers(self.noise, "noise", 0, 100)

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds to train each with."""
        return list(range(self.seed, self.seed + (self.seeds or _SEEDS[self.size])))


@experiment(
    "label-noise",
    title="Wrong labels against grokking",
    area="Toy models",
    cites="Power et al. 2022, Grokking; Nanda et al. 2023, Progress measures for grokking",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric("Training loss", "nats", "Mean over all networks, before the step", "log"),
        "control_accuracy": Metric(
            "Test accuracy, no noise", "share", "Test pairs answered with their sum, mean over seeds", group="Accuracy"
        ),
        "test_accuracy": Metric(
            "Test accuracy, most noise", "share", "The same with the most wrong labels", group="Accuracy"
        ),
    },
)
def label_noise(p: LabelNoise, run: Run) -> None:
    """Train on a + b mod p with some of the training labels wrong and see what becomes of grokking.

    A share of the training labels is replaced by other numbers, drawn once. The networks of one seed have the same
    first weights, split and order of corruption: the wrong pairs at 1 % are among those at 10 %. No noise is the control.

    **How to read it.** *Accuracy*: test accuracy over steps, for each share. *By part*: training pairs with right
    labels, those with wrong labels counted twice (do they get the true sum, or the label as trained?), and test
    pairs. A network that has found the rule answers wrongly labelled pairs with the true sum; one that has learned
    them by heart repeats the labels.

    **What to expect.** At size demo (p = 53, 60 % of the pairs, 1,000 steps, seed 0) test accuracy ends at 1.00, .98, .95,
    .71 and .47 with 0, 1, 2, 5 and 10 % wrong labels. Only the control groks (step 500). Every network has learned all
    labels, wrong ones too, by step 125 and keeps to them: none of the wrongly labelled pairs gets its true sum. At
    1,500 steps seeds 0 and 1 both ended between .43 and .52 with 10 %.

    **Traps.** The curves of few per cent are late, not flat: train longer before you call grokking blocked. With one
    seed, a difference of a few hundred steps between two curves means nothing.

    The network with the most noise joins the session as `toy:RUN`.
    """
    from engine.models import memory
    from engine.toys.modular.keeping import keep_network
    from engine.toys.modular.training import schedule
    from engine.toys.training import log_steps, train

    memory.require(
        _memory(p), "cpu", what="A sweep of label noise", way_out="choose a smaller p, fewer shares or seeds"
    )
    steps, frames = p.training_steps, log_steps(p.training_steps, FRAMES[p.size])
    sweep = _sweep(p, schedule(steps, p.plan().check, frames))
    names = tuple(f"{percent:g} % wrong" if percent else "no noise" for percent in p.percent)

    def measure(step: int) -> None:
        sweep.measure(step, frames, names, "Test accuracy with wrong training labels", run)
        if step in frames:
            run.show("by part", _by_part(sweep), step=step)

    for number, seed in enumerate(p.seed_numbers):
        noisiest = sweep.trainer.splits[len(sweep.trainer.splits) - len(p.seed_numbers) + number]
        run.keep(f"training_pairs seed {seed}", noisiest.train.numpy().astype(np.int32), what="pairs (a, b) as a·p + b")
        run.keep(f"wrong seed {seed}", noisiest.wrong.numpy(), what="pairs whose label is wrong at the largest share")
    train(run, sweep.trainer, steps, measure=measure, at=sweep.trainer.at, lr=sweep.trainer.plan.lr)
    run.show("table", _table(sweep))
    grokked = sweep.passed("test_accuracy")
    run.fact("grokked_at", [[None if np.isnan(x) else int(x) for x in row] for row in grokked])
    ended = sweep.ended("test_accuracy").mean(1)
    run.say(
        f"After {steps:,} steps test accuracy is {ended[0]:.3f} without noise and {ended[-1]:.3f} with {names[-1]} labels."
    )
    keep_network(run, sweep.trainer.plan.shape, sweep.trainer.theta[-1].detach(), label_noise=p.percent[-1] / 100)


def _sweep(p: LabelNoise, at: list[int]) -> Sweep:
    from engine.toys.modular.training import ModularTrainer, Setting

    plan = p.plan()

    def make(settings: list[Setting]) -> ModularTrainer:
        return ModularTrainer(plan, settings, at)

    return Sweep(make, lambda seed, percent: Setting(seed, noise=percent / 100), p.percent, p.seed_numbers)


def _by_part(sweep: Sweep) -> Lines:
    ended = np.stack([sweep.ended(column) for column in _PARTS.values()])
    many = len(sweep.seeds) > 1
    return Lines(
        title="Accuracy by part of the pairs",
        note=f"At the step of the frame; n = {len(sweep.seeds)} seed(s) per point, mean{' and range' if many else ''}. "
        "Pairs with wrong labels are counted against the true sum and against the label as trained. Controls: no noise, "
        "which has no pairs with wrong labels, and chance, 1/p.",
        x_axis=Axis("Wrong training labels", "%"),
        y_axis=ACCURACY,
        series=tuple(_PARTS),
        x=np.array(sweep.values),
        y=ended.mean(2),
        low=ended.min(2) if many else None,
        high=ended.max(2) if many else None,
        reference={"chance": 1 / sweep.trainer.plan.shape.p},
    )


def _table(sweep: Sweep) -> Table:
    ended = {name: sweep.ended(column) for name, column in _PARTS.items()}
    memorised, grokked = sweep.passed("train_accuracy"), sweep.passed("test_accuracy")
    rows, shown = [], 2 if len(sweep.seeds) > 1 else 1
    for number, percent in enumerate(sweep.values):
        parts = [value for found in ended.values() for value in (found[number].mean(), spread(found[number]))[:shown]]
        rows.append((percent, int(sweep.trainer.splits[number * len(sweep.seeds)].wrong.sum()), len(sweep.seeds), *parts,
                     _latest(memorised[number]), _latest(grokked[number])))  # fmt: skip
    accuracies = [
        column for name in _PARTS for column in (name.capitalize(), f"{name.capitalize()}: standard deviation")[:shown]
    ]
    names = (
        "Wrong labels (%)",
        "Wrong labels (pairs)",
        "Seeds",
        *accuracies,
        "All labels fitted (step)",
        "Grokked (step)",
    )
    return Table(
        title="Wrong labels and grokking",
        note="Accuracies at the last step, means over seeds, with their standard deviation if there are several. Steps: "
        "the first from which on two checks in a row exceed 99 %, the latest of the seeds; missing if one does not. "
        "Control: the first row, no noise.",
        axes=tuple(axis(name) for name in names),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def _latest(steps: Array) -> float:
    return float(steps.max())


def _memory(p: LabelNoise) -> int:
    return memory_of(p, len(p.percent) * len(p.seed_numbers))


@cost("label-noise")
def _cost(p: LabelNoise) -> Cost:
    from engine.models.memory import available

    if _memory(p) > available():
        return Cost(0.0, _memory(p))
    trainer = _sweep(p, [0]).trainer
    return Cost(1.1 * seconds(p, trainer) + 2, _memory(p), "All networks train side by side.")
