"""The experiment `tiny-language-model`: a transformer small enough to understand, on a language that is known exactly."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.figures.kinds import Axis, Heatmap, Lines, Table, TokenStrip
from engine.runs.control import RunStopped
from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.text import stories
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.stories.training import Plan, StoryTrainer

Array: TypeAlias = npt.NDArray[Any]

LOSS = Axis("Loss", "nats/token", "log")
NATS = Axis("Loss", "nats")
FILMED = 48  # held-out stories in each frame of the movie
KEPT = 8_192  # positions of held-out stories that are kept as the toy's data


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
    "quick": _Size(60, 1_000, 200, 8, 2, 64, 4, 20),
    "demo": _Size(600, 20_000, 1_000, 16, 2, 64, 4, 50),
    "paper": _Size(10_000, 100_000, 2_000, 64, 4, 128, 8, 250),
}

_Contexts: TypeAlias = Annotated[
    int,
    Field(ge=1, le=65_536, description="Contexts per optimiser step", json_schema_extra={"unit": "contexts"}),
]


class TinyLanguageModel(Parameters):
    """Parameters of `tiny-language-model`; those left empty come from ``size``."""

    size: Size = "demo"
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
    estimate="toy-estimate",
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

    **How to read it.** *Loss* shows training and held-out loss against the floor and, as controls, against counted
    1-, 2- and 3-grams of the same training stories. A loss near the floor means that the model copies names and
    objects, agrees in gender and mood and knows which animal lives where. *Slots* splits the
    held-out loss by position in the grammar: where the floor is 0 the word is determined, and what is left is the
    model's error; where it is not, the excess over the floor is. *Story* shades one held-out story by loss.
    *Learning* is a movie of the loss by slot: drag the timeline and watch the model learn the fixed words first, then
    what may stand where, and last what this story said (names, animals, colours), which no 3-gram can.

    The model is added to the session as `toy:RUN`, ready to be opened, looked at and taken apart, and with it held-out
    stories as the text `toy:RUN`, in contexts as the model reads them. What the grammar knows at each word (name, gender,
    place, sentiment, animal, colour, object, branch, slot) is marked there as features, against which dictionaries
    trained on this model can be scored. `story-understanding` asks how much of the model readable rules explain.
    The held-out stories are drawn independently; training stories that are among them are left out.
    """
    from engine.models import memory
    from engine.toys.stories.training import StoryTrainer

    run.stage("Drawing stories")
    plan = _plan(p)
    memory.require(_bytes(plan), "cpu", what="Training this model", way_out="choose a smaller size or batch")
    trainer = StoryTrainer(plan, run.point)
    curves = _train(trainer, _SIZES[p.size].evaluate_every, FRAMES[p.size], run)
    nats = trainer.held_out_losses()
    run.show("slots", _slot_table(trainer, curves, nats))
    _finish(trainer, curves, float(nats.mean()), run)


def _plan(p: TinyLanguageModel) -> Plan:
    from engine.toys.stories.training import Plan

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
        from engine.toys.stories import ngrams
        from engine.toys.stories.training import VOCABULARY

        training = [story.ids for story in trainer.split.training]
        held_out = [story.ids for story in trainer.split.held_out]
        start = stories.WORD_IDS[stories.START]
        tables = ngrams.probabilities(training, len(VOCABULARY), start)
        self.ngram_losses = ngrams.losses(tables, held_out, start)
        self.by_slot = _by_slot(trainer.split.held_out, self.ngram_losses[-1])
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


def _train(trainer: StoryTrainer, every: int, frames: int, run: Run) -> _Curves:
    from engine.toys.training import log_steps

    curves = _Curves(trainer)
    steps = trainer.plan.steps
    filmed = frozenset(log_steps(steps, frames))
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
        if step in filmed:
            run.show("learning", _frame(trainer, curves), step=step)
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


def _frame(trainer: StoryTrainer, curves: _Curves) -> Heatmap:
    """The loss by slot now, beside the floor and the 3-gram: a frame of the movie."""
    from engine.toys.stories.training import story_losses

    filmed = trainer.split.held_out[:FILMED]
    nats = story_losses(trainer.bridge, filmed, trainer.plan.context)
    trainer.bridge.train()
    floors = stories.slot_floors()
    rows = [_by_slot(filmed, nats), [floors[slot] for slot in stories.SLOTS], curves.by_slot]
    return Heatmap(
        title="Learning: loss by grammar slot",
        note=f"Mean over {len(filmed)} held-out stories. The floor is the entropy of the slot given the words before it. "
        f"Control: 3-gram of the same training stories, over {len(trainer.split.held_out):,} held-out ones.",
        x_axis=Axis("Grammar slot"),
        y_axis=Axis("Prediction"),
        value_axis=NATS,
        values=np.array(rows, dtype=np.float32),
        x=np.array([_label(slot) for slot in stories.SLOTS]),
        y=np.array(["model", "entropy floor", "3-gram"]),
        levels=(0.0, round(math.log(len(stories.VOCABULARY)), 1)),
    )


def _by_slot(found: list[stories.Story], nats: Array) -> Array:
    """The mean of ``nats`` (tokens,) at each slot, NaN where there is none: (slots,)."""
    slots = np.concatenate([[stories.SLOTS.index(slot) for slot in story.slots] for story in found])
    sums = np.bincount(slots, weights=nats, minlength=len(stories.SLOTS))
    counts = np.bincount(slots, minlength=len(stories.SLOTS))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


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
    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy
    from engine.toys.stories.training import FEATURES, story_features, story_losses

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
    enough = KEPT // trainer.plan.context
    ids, counted, features = story_features(trainer.split.held_out[: 4 * enough], trainer.plan.context)
    data = ToyData(ids[:enough], counted[:enough], features[:enough], FEATURES, next_token=True)
    keep_toy(
        run, trainer.bridge, data, title=f"Tiny language model, {trainer.plan.layers} layers",
        trained_on="stories", test_loss=test_loss, entropy_floor=stories.floor(),
    )  # fmt: skip
    run.say(f"Its held-out loss is {test_loss:.4f} nats/token, {test_loss - curves.floor:.4f} above the floor.")


def _bytes(plan: Plan) -> int:
    """About the memory that training takes: weights and moments, activations and their gradients, stories."""
    weights = 12 * plan.layers * plan.d_model**2 + (2 * 68 + plan.context) * plan.d_model
    activations = plan.layers * (14 * plan.d_model + 3 * plan.heads * plan.context) + 4 * 68
    return 16 * weights + 8 * plan.batch * plan.context * activations + 4_000 * (plan.stories + plan.held_out)


@cost("tiny-language-model")
def _cost(p: TinyLanguageModel) -> Cost:
    from engine.models.memory import available
    from engine.toys.stories.training import StoryTrainer

    plan = _plan(p)
    if _bytes(plan) > available():
        return Cost(0.0, _bytes(plan))
    trainer = StoryTrainer(replace(plan, stories=min(plan.stories, 500), held_out=min(plan.held_out, 100)))
    return Cost(timed(trainer.train_step, plan.steps), _bytes(plan))
