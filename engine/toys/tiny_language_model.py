"""The experiment `tiny-language-model`: a transformer small enough to understand, on a language that is known exactly."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.figures.kinds import Axis, Lines, Table, TokenStrip
from engine.runs.control import RunStopped
from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.text import stories

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.story_training import Plan, StoryTrainer

Array: TypeAlias = npt.NDArray[Any]

LOSS = Axis("Loss", "nats/token", "log")
NATS = Axis("Loss", "nats")


@dataclass(frozen=True)
class _Size:
    steps: int
    stories: int
    held_out: int
    batch: int
    layers: int
    d_model: int
    heads: int
    evaluate_every: int


# Demo is the setting of the measured loss .285 at a floor of .279; paper has room for the last thousandths.
_SIZES = {
    "quick": _Size(60, 1_000, 200, 12, 2, 64, 4, 20),
    "demo": _Size(600, 20_000, 1_000, 16, 2, 64, 4, 50),
    "paper": _Size(10_000, 100_000, 2_000, 64, 4, 128, 8, 250),
}

_Contexts: TypeAlias = Annotated[
    int,
    Field(ge=1, le=65_536, description="Contexts per optimiser step", json_schema_extra={"unit": "contexts"}),
]


class TinyLanguageModel(Parameters):
    """Parameters of `tiny-language-model`; those left empty come from ``size``."""

    size: Literal["quick", "demo", "paper"] = Field(
        "demo", description="quick takes seconds, demo under a minute, paper hours"
    )
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    batch: _Contexts | None = Field(None, description="Contexts per optimiser step; empty: by size")
    lr: LearningRate = 2e-3
    context: int = Field(
        128,
        ge=42,
        le=1024,
        description="Tokens per context, in which stories are packed",
        json_schema_extra={"unit": "tokens"},
    )
    stories: int | None = Field(
        None,
        ge=100,
        le=10**7,
        description="Stories drawn for training; empty: by size",
        json_schema_extra={"unit": "stories"},
    )
    layers: int | None = Field(None, ge=1, le=16, description="Transformer blocks; empty: by size")
    d_model: int | None = Field(None, ge=8, le=1024, description="Width of the residual stream; empty: by size")
    heads: int | None = Field(None, ge=1, le=64, description="Attention heads per block; empty: by size")
    attention_only: bool = Field(False, description="Leave out the MLPs")
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> TinyLanguageModel:
        size = _SIZES[self.size]
        width, heads = self.d_model or size.d_model, self.heads or size.heads
        if width % heads:
            raise ValueError(f"d_model={width} cannot be shared out among heads={heads}; choose a multiple")
        return self


@experiment(
    "tiny-language-model",
    title="Tiny language model",
    area="Toy models",
    cites="Eldan & Li 2023, TinyStories",
    resumable=True,
    metrics={
        "loss": Metric(
            "Training loss",
            "nats/token",
            "Mean cross-entropy of the words and ends of the whole stories in one batch, before the step",
            "log",
            "Loss",
        ),
        "test_loss": Metric(
            "Held-out loss",
            "nats/token",
            "Mean cross-entropy of all words and ends of the held-out stories",
            "log",
            "Loss",
        ),
        "floor": Metric(
            "Entropy floor",
            "nats/token",
            "Minus the mean log probability that the grammar itself gives the held-out stories: no model can do better",
            "log",
            "Loss",
        ),
    },
)
def tiny_language_model(p: TinyLanguageModel, run: Run) -> None:
    """Train a small transformer on stories from a grammar whose probabilities are known.

    A story has 39 or 40 words, eight of which are drawn (day, name, place, mood, animal, colour,
    object, and which of two sentences follows); all others can be known from the words before
    them. The entropy of those draws over the story's length is a **floor** of .2794 nats a token that no model can
    go below; on the held-out stories of a run it differs in the fourth digit, and that value is drawn.

    **How to read it.** *Loss* shows training and held-out loss against the floor and against counted
    1-, 2- and 3-grams of the same training stories. A loss near the floor means that the model copies names and
    objects, agrees in gender and mood and knows which animal lives where. *Slots* splits the
    held-out loss by position in the grammar: where the floor is 0 the word is determined, and what is left is the
    model's error; where it is not, the excess over the floor is. *Story* shades one held-out story by loss.

    The model is added to the session as `toy:RUN`, ready to be opened, looked at and taken apart.
    The held-out stories are drawn independently; training stories that are among them are left out.
    """
    from engine.toys.story_training import StoryTrainer

    run.stage("Drawing stories")
    trainer = StoryTrainer(_plan(p), run.point)
    curves = _train(trainer, _SIZES[p.size].evaluate_every, run)
    nats = trainer.held_out_losses()
    run.show("slots", _slot_table(trainer, curves, nats))
    _finish(trainer, curves, float(nats.mean()), run)


def _plan(p: TinyLanguageModel) -> Plan:
    from engine.toys.story_training import Plan

    size = _SIZES[p.size]
    return Plan(
        layers=p.layers or size.layers,
        d_model=p.d_model or size.d_model,
        heads=p.heads or size.heads,
        attention_only=p.attention_only,
        context=p.context,
        stories=p.stories or size.stories,
        held_out=size.held_out,
        batch=p.batch or size.batch,
        steps=p.steps or size.steps,
        lr=p.lr,
        seed=p.seed,
    )


class _Curves:
    """The losses so far, as they are drawn and as a checkpoint keeps them."""

    def __init__(self, trainer: StoryTrainer) -> None:
        from engine.toys import ngrams
        from engine.toys.story_training import VOCABULARY

        training = [story.ids for story in trainer.split.training]
        held_out = [story.ids for story in trainer.split.held_out]
        start = stories.WORD_IDS[stories.START]
        tables = ngrams.probabilities(training, len(VOCABULARY), start)
        self.ngram_losses = ngrams.losses(tables, held_out, start)
        self.floor = -float(np.concatenate([story.log_probabilities for story in trainer.split.held_out]).mean())
        self.training: list[float] = []
        self.held_out: list[tuple[float, float]] = []

    @property
    def measured(self) -> float:
        """The step at which the held-out loss was measured last; 0 before any."""
        return self.held_out[-1][0] if self.held_out else 0

    def reference(self) -> dict[str, float]:
        ladder = {f"{order}-gram": float(nats.mean()) for order, nats in enumerate(self.ngram_losses, start=1)}
        return {"entropy floor": self.floor, **ladder}

    def figure(self) -> Lines:
        length = max(len(self.training), len(self.held_out), 1)
        x, y = np.full((2, length), np.nan), np.full((2, length), np.nan)
        x[0, : len(self.training)] = np.arange(1, len(self.training) + 1)
        y[0, : len(self.training)] = self.training
        for number, (step, value) in enumerate(self.held_out):
            x[1, number], y[1, number] = step, value
        return Lines(
            title="Loss on stories",
            note="Mean over all words and ends of whole stories. Floor: entropy of the grammar on the held-out stories. "
            "Controls: interpolated n-gram counts of the same training stories.",
            x_axis=Axis("Step"),
            y_axis=LOSS,
            series=("training", "held out"),
            x=x,
            y=y,
            reference=self.reference(),
        )


def _train(trainer: StoryTrainer, every: int, run: Run) -> _Curves:
    curves = _Curves(trainer)
    steps = trainer.plan.steps
    began = time.process_time()
    spent = 0.0
    if run.resumed is not None:
        trainer.restore(run.resumed)
        curves.training = run.resumed.arrays["training"].tolist()
        curves.held_out = [(float(step), float(value)) for step, value in run.resumed.arrays["held_out"]]
        spent = float(run.resumed.values["cpu_seconds"])
    _record_plan(trainer, curves, run)

    def save() -> None:
        values, arrays = trainer.checkpoint()
        values["cpu_seconds"] = spent + time.process_time() - began
        arrays["training"] = np.array(curves.training)
        arrays["held_out"] = np.array(curves.held_out).reshape(-1, 2)
        run.checkpoint(values, arrays)

    def measure_where_due() -> None:
        """Also what a stop left undone: it may come while the loss of a step is being measured."""
        step = trainer.step
        if step and (step % every == 0 or step == steps) and curves.measured != step:
            test_loss = float(trainer.held_out_losses().mean())
            curves.held_out.append((step, test_loss))
            run.log(step, test_loss=test_loss, floor=curves.floor)
            run.show("loss", curves.figure())
            save()

    try:
        run.stage("Training")
        measure_where_due()
        for _ in run.track(range(trainer.step, steps), total=steps, start=trainer.step):
            loss = trainer.train_step()
            curves.training.append(loss)
            run.log(trainer.step, loss=loss)
            measure_where_due()
    except RunStopped:
        save()
        raise
    run.fact("cpu_seconds", round(spent + time.process_time() - began, 1))
    return curves


def _record_plan(trainer: StoryTrainer, curves: _Curves, run: Run) -> None:
    split = trainer.split
    run.fact("parameters", sum(weight.numel() for weight in trainer.bridge.parameters()))
    run.fact("training_stories", len(split.training))
    run.fact("held_out_stories", len(split.held_out))
    run.fact("stories_left_out", split.left_out)
    run.fact("passes", round(trainer.passes, 3))
    run.fact("grammar_floor", stories.floor())
    run.fact("ladder", curves.reference())
    run.keep("training_stories", np.array([story.code for story in split.training], np.int32), what="story codes")
    run.keep("held_out_stories", np.array([story.code for story in split.held_out], np.int32), what="story codes")


def _slot_table(trainer: StoryTrainer, curves: _Curves, nats: Array) -> Table:
    held_out = trainer.split.held_out
    slots = np.concatenate([[stories.SLOTS.index(slot) for slot in story.slots] for story in held_out])
    words = np.concatenate([(*story.words, stories.END) for story in held_out])
    floors = stories.slot_floors()
    rows = []
    for number, slot in enumerate(stories.SLOTS):
        here = slots == number
        n = int(here.sum())
        error = float(nats[here].std() / math.sqrt(n)) if n else math.nan
        mean, control = (float(values[here].mean()) if n else math.nan for values in (nats, curves.ngram_losses[-1]))
        example = str(words[here][0]) if n else ""
        rows.append((_label(slot), example, n, floors[slot], mean, error, mean - floors[slot], control))
    columns = list(zip(*rows, strict=True))
    names = ("Slot", "Example", "Tokens", "Entropy floor", "Model loss", "Standard error", "Excess", "3-gram loss")
    return Table(
        title="Held-out loss by grammar slot",
        note=f"Over {len(held_out):,} held-out stories. The floor is the entropy of the slot given the words before it, in "
        "expectation over the grammar; excess is model loss minus floor. Control: 3-gram of the same training stories.",
        axes=tuple(Axis(name, "" if index < 3 else "nats") for index, name in enumerate(names)),
        columns=tuple(np.asarray(column) for column in columns),
    )


def _label(slot: str) -> str:
    """A slot's name for people: ``NAME2`` is “name 2”."""
    word = slot.rstrip("12345")
    return f"{word.lower()} {slot[len(word) :]}".rstrip()


def _finish(trainer: StoryTrainer, curves: _Curves, test_loss: float, run: Run) -> None:
    from engine.models.native import save_native
    from engine.toys.story_training import story_losses

    story = trainer.split.held_out[0]
    shaded = story_losses(trainer.bridge, [story], trainer.plan.context)
    run.show(
        "story",
        TokenStrip(
            title="A held-out story",
            note="Shaded by the model's loss on each token given those before it; dark words are drawn, light ones follow.",
            value_axis=NATS,
            tokens=np.array([*story.words, stories.END]),
            value=shaded,
        ),
    )
    attributes, arrays = save_native(trainer.bridge, reference=f"toy:{run.id}")
    attributes["trained_on"] = "stories"
    attributes["test_loss"] = test_loss
    attributes["entropy_floor"] = stories.floor()
    run.produce("models", run.id, attributes, arrays)
    run.say(
        f"The model is in the session as toy:{run.id}; its held-out loss is {test_loss:.4f} nats/token, "
        f"{test_loss - curves.floor:.4f} above the floor."
    )
