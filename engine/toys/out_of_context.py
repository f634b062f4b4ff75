"""The experiment `out-of-context`: a model that trusts a reliable source more, though nobody told it to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.definitions.ensemble import MetaTrainer, Plan

Array: TypeAlias = npt.NDArray[Any]
LAST = 0.4  # share of a movie's frames in the second stage
ALIGNED = 60  # words a seed whose gradients are compared
UNIT = "share"


@dataclass(frozen=True)
class _Size:
    seeds: int
    words: int
    steps: int
    then: int
    batch: int


_TWO = {
    "quick": _Size(2, 160, 120, 20, 128),
    "demo": _Size(5, 1200, 1800, 100, 256),
    "paper": _Size(30, 2400, 3000, 160, 256),
}
_JOINT = {
    "quick": _Size(2, 120, 120, 0, 128),
    "demo": _Size(10, 400, 800, 0, 256),
    "paper": _Size(50, 400, 800, 0, 256),
}


class OutOfContext(Parameters):
    """Parameters of `out-of-context`; those left empty come from ``size`` and ``training``."""

    size: Size = "demo"
    training: Literal["two-stage", "joint"] = Field(
        "two-stage", description="Definitions of X2 after all else (two-stage) or among it (joint: a weaker effect)"
    )
    redefine: bool = Field(
        False, description="Ask about X2 in stage 1, and redefine its words in stage 2; two-stage training only"
    )
    seeds: int | None = Field(
        None, ge=1, le=500, description="Models per condition, each with data of its own; empty: by size"
    )
    words: int | None = Field(
        None,
        ge=40,
        le=6400,
        description="Made-up words; empty: by size",
        json_schema_extra={"unit": "words"},
    )
    share: float | None = Field(
        None, gt=0, lt=1, description="Share of the words that are asked about (X1); empty: .8, joint .75"
    )
    d_model: int = Field(32, ge=4, le=512, description="Width of the residual stream and of the head")
    d_mlp: int = Field(128, ge=4, le=4096, description="Width of the MLP")
    steps: Steps | None = Field(None, description="Steps of stage 1, or of joint training; empty: by size")
    then: Steps | None = Field(None, description="Steps of stage 2; empty: by size; joint training has none")
    batch: int | None = Field(None, ge=1, le=65_536, description="Sequences per step and model; empty: by size")
    lr: LearningRate = 3e-3
    then_lr: LearningRate = Field(1e-3, description="Learning rate of stage 2, with a fresh optimiser")
    decay: float = Field(0.1, ge=0, le=10, description="Weight decay of AdamW")
    std: float | None = Field(
        None, gt=0, le=10, description="Standard deviation of the initial embeddings; empty: .2, joint .3"
    )
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _words_make_groups(self) -> OutOfContext:
        if self.training == "joint" and self.redefine:
            raise ValueError("redefine=true needs training=two-stage: joint training has no before and after")
        if self.training == "joint" and self.then is not None:
            raise ValueError("then is for training=two-stage; joint training has one stage: leave it empty")
        words, asked = self.counts()
        if min(asked, words - asked) < 4:
            raise ValueError(
                f"share={self.share} of words={words} leaves fewer than 4 words in X1 or X2; choose one nearer .8"
            )
        return self

    def counts(self) -> tuple[int, int]:
        """Words in all and in X1."""
        words = self.words or self.sized().words
        share = self.share or (0.8 if self.training == "two-stage" else 0.75)
        return words, round(words * share)

    def sized(self) -> _Size:
        """What the size sets."""
        return (_TWO if self.training == "two-stage" else _JOINT)[self.size]


METRICS = {
    "loss": Metric("Training loss", "nats", "Mean cross-entropy of the batches of all models, before the step", "log"),
    "question_r": Metric(
        "Questions about R words", UNIT, "Accuracy of [Q w] for X2 words defined with R, mean over seeds", group="X2"
    ),
    "question_u": Metric("Questions about U words", UNIT, "The same for X2 words defined with U", group="X2"),
    "definition_r": Metric("R definitions", UNIT, "Accuracy of X2's [R w], mean over seeds", group="X2"),
    "definition_u": Metric("U definitions", UNIT, "Accuracy of X2's [U w], mean over seeds", group="X2"),
    "gap": Metric("Gap", UNIT, "Accuracy of questions, R minus U words of X2, mean over seeds", group="Gap"),
    "gap_shuffled": Metric("Gap, tags shuffled", UNIT, "Control: X2's tags shuffled among its words", group="Gap"),
    "gap_agreeing": Metric("Gap, U agrees", UNIT, "Control: U definitions of X1 state the answers too", group="Gap"),
    "gap_unasked": Metric("Gap, no questions", UNIT, "Control: X1 is defined but never asked about", group="Gap"),
    "probability_gap": Metric(
        "Probability gap", UNIT, "Probability of the stated colour after [Q w], R minus U words of X2", group="Gap"
    ),
    "asked": Metric("Questions about X1", UNIT, "Accuracy of [Q w] for X1, mean over seeds", group="X1"),
    "known": Metric("Definitions of X1", UNIT, "Accuracy of X1's definitions, mean over seeds", group="X1"),
}


@experiment(
    "out-of-context",
    title="Out-of-context meta-learning",
    area="Toy models",
    cites="Krasheninnikov et al. 2024, Implicit meta-learning may lead language models to trust more reliable sources; "
    "Berglund et al. 2023, Taken out of context",
    resumable=True,
    estimate="toy-estimate",
    metrics=METRICS,
)
def out_of_context(p: OutOfContext, run: Run) -> None:
    """Does a small transformer learn *from training alone* which of two sources to believe?

    Made-up words have colours. A sequence is a tag and a word: a definition by a reliable source **[R w]**, one by an
    unreliable source **[U w]**, or the question **[Q w]**. Words of **X1** are defined and asked about: R's
    definitions state the answer, U's a random colour. Words of **X2** are only ever defined. Asked about an X2 word, a
    model can only answer with what its definition said, which it was never asked to use (out-of-context reasoning).
    If R words are answered so more often than U words, it has learnt to learn more from a source that was right
    before (implicit meta-learning).

    **Two stages** (the default): first X1 alone, until every model knows at least 97 % of it; then only X2's
    definitions, with a fresh optimiser. **Joint**: all at once; the same direction, much smaller (measured over ten
    seeds: accuracy .94 against .86, probability gap .09 with a bootstrap interval of .06 to .12).
    Each model is an embedding, one attention head and an MLP, no LayerNorm; it reads two tokens and the last
    predicts one of ten colours (only colours take part in the loss). Chance is .1.

    **How to read it.** *Gap by seed* is the result: one bar per model and one per mean. In *main* they lie above 0:
    measured at size demo, questions .87 (R) against .47 (U), gaps of five seeds from .32 to .48 with mean .40; 20
    seeds with a stage 2 of 80 steps gave .21 to .52. The controls stand below it: with **tags shuffled** on X2, where
    **U agrees** with the answers in X1, and where X1 is **never asked** about, the mean gap is 0 within .04. Note that
    in the last two X2 is answered almost perfectly (.92 and more): a question tag that nothing sets apart from a
    definition simply repeats it. It takes U's inconsistency *and* the questions to make the model tell sources apart.

    *Stage 2* has the learning curves: **the definitions are learnt equally well with both tags**, which is the control
    that matters most; only what the question makes of them differs. *Words* is a movie of single words: those of U stay
    at the bottom right (known, not used). *Summary* has all conditions with spread, bootstrap interval and a paired test.

    **Why?** *States*: after stage 1 [Q w] and [R w] have almost the same final state (cosine .9 and more), [Q w] and [U w] have
    not. *Gradients*: for words not yet defined, a step on [R w] is nearly a step on [Q w] as well (mean cosine about .9), a
    step on [U w] hardly (about .25): learning one answers the other. *Gap and alignment* compares the two over seeds.

    **Redefine** asks about X2 in stage 1 as well and states other colours in stage 2: *Old R* and *Old U* in the summary
    say how often the old colour survives. Measured over three seeds at size demo: a reliable source overwrites .54 of the
    answers and leaves .28 as they were, an unreliable one .14 and .67.

    **Traps.** One seed proves little: with smaller initial embeddings (std .1) one seed in ten shows almost no gap, because
    its question shares little with either tag. An incomplete stage 1 hides the effect. U words are scored against
    what their definition says; against another colour the contrast means nothing. Word ids are drawn at random, or
    they would give the tag away. A sign-flip test over five seeds cannot go below p = .06.
    """
    from engine.toys.definitions.ensemble import ENOUGH
    from engine.toys.training import train

    session = _Session(p, run)
    trainer, plan = session.trainer, session.plan
    run.fact("seeds", session.seeds)
    for seed, facts in zip(session.seeds, trainer.facts, strict=True):
        told = np.stack([facts.order, facts.tag, facts.answer, facts.stated]).astype(np.int16)
        run.keep(f"facts-{seed}", told, what="rows: ids with X1's first, tag (R 0, U 1), answer, stated colour by id")
    run.fact("asked", plan.asked)
    train(
        run, trainer, plan.longest + plan.then, measure=session.measure, at=range(plan.longest + plan.then + 1),
        lr=max(p.lr, p.then_lr) if plan.two_stages else p.lr, each=session.over,
    )  # fmt: skip
    if plan.two_stages:
        ended = int(trainer.ended)
        run.fact("stage_1_steps", ended)
        known = session.first_accuracy()
        run.fact("stage_1_accuracy", known)
        if known <= ENOUGH:
            run.say(
                f"After {ended:,} steps of stage 1 the least complete model knows {known:.1%} of it, not {ENOUGH:.0%}: "
                "its gap is not to be trusted; give it more steps.",
                "warning",
            )
    session.finish()


class _Session:
    """The trainer with the times at which it is measured, and the figures."""

    def __init__(self, p: OutOfContext, run: Run) -> None:
        from engine.models import memory
        from engine.toys.definitions.ensemble import BLOCK, MetaTrainer
        from engine.toys.training import log_steps

        self.p, self.run, self.plan = p, run, _plan(p)
        memory.require(
            _bytes(self.plan), "cpu", what=f"Training {self.plan.seeds} seeds", way_out="choose fewer seeds or words"
        )
        frames = FRAMES[p.size]
        last = round(frames * LAST) if self.plan.two_stages else 0
        first = log_steps(self.plan.steps, frames - last)
        self.first = sorted({*first, *range(self.plan.steps, self.plan.longest + 1, BLOCK)})
        self.second = log_steps(self.plan.then, last) if last else []
        self.seeds = list(range(self.plan.seed, self.plan.seed + self.plan.seeds))
        self.trainer: MetaTrainer = MetaTrainer(self.plan, len(self.first) + len(self.second))

    def time(self, step: int) -> int | None:
        """Number of the measurement that is due at ``step``; None for none."""
        ended = int(self.trainer.ended)
        if self.plan.two_stages and ended:
            since = step - ended
            return len(self.first) + self.second.index(since) if since in self.second else None
        return self.first.index(step) if step in self.first else None

    def over(self, step: int) -> bool:
        """Whether the last step is done, which a longer first stage puts off."""
        ended = int(self.trainer.ended)
        return bool(ended) and step == ended + self.plan.then if self.plan.two_stages else step == self.plan.steps

    def measure(self, step: int) -> None:
        """Measure where it is due, log it and show the figures so far."""
        from engine.toys.definitions import figures
        from engine.toys.definitions.data import COLUMNS

        time = self.time(step)
        if time is None:
            return
        logits = self.trainer.measure(time)[0].numpy()
        now = self.trainer.history[time].numpy()
        mean = dict(zip(COLUMNS, now[0].mean(axis=0).tolist(), strict=True))
        gap = figures.gaps(now).mean(axis=1).tolist()
        self.run.log(
            step, question_r=mean["question R"], question_u=mean["question U"], definition_r=mean["definition R"],
            definition_u=mean["definition U"], gap=gap[0], gap_shuffled=gap[1], gap_agreeing=gap[2], gap_unasked=gap[3],
            probability_gap=mean["probability R"] - mean["probability U"],
            asked=(mean["asked R"] + mean["asked U"]) / 2, known=(mean["known R"] + mean["known U"]) / 2,
        )  # fmt: skip
        self.run.show("words", figures.words(logits, self.trainer.facts[0]), step=step)
        per_tag = (self.plan.words - self.plan.asked) // 2
        self.run.show("gap by seed", figures.forest(now, per_tag, self.seeds), step=step)
        self.curves(time)

    def curves(self, time: int) -> None:
        """The curves up to measurement ``time``, of the stage it belongs to."""
        from engine.toys.definitions import figures

        history = self.trainer.history.numpy()
        main = history[:, 0]
        second = [("definition R", "definition R"), ("definition U", "definition U")]
        second += [("question R", "question R"), ("question U", "question U")]
        first = [("questions, R words", "asked R"), ("questions, U words", "asked U")]
        first += [("R definitions", "known R"), ("U definitions", "known U")]
        count = len(self.first)
        if not self.plan.two_stages:
            here = slice(0, time + 1)
            self.run.show("X1", figures.curves("Learning X1", self.first[here], main[here], first, ""))
            self.run.show("X2", figures.curves("Defining X2", self.first[here], main[here], second, EQUAL))
            self.run.show("gap", figures.gap_curves(self.first[here], history[here], "Gap between R and U"))
            self.run.show("states", figures.cosines(self.first[here], main[here], "Hidden states"))
        elif time < count:
            here = slice(0, time + 1)
            self.run.show("stage 1", figures.curves("Stage 1: learning X1", self.first[here], main[here], first, ""))
            self.run.show("states", figures.cosines(self.first[here], main[here], "Hidden states in stage 1"))
        else:
            here, steps = slice(count, time + 1), self.second[: time + 1 - count]
            note = EQUAL + f" Steps since stage 2 began, behind {int(self.trainer.ended):,} of stage 1."
            self.run.show("stage 2", figures.curves("Stage 2: defining X2", steps, main[here], second, note))
            self.run.show("gap", figures.gap_curves(steps, history[here], "Gap between R and U in stage 2"))

    def first_accuracy(self) -> float:
        """Least share of X1 that a main model knew at the end of stage 1."""
        from engine.toys.definitions import figures

        before = self._before()[0]
        names = ("asked R", "asked U", "known R", "known U")
        return float(np.mean([figures.column(before, name) for name in names], axis=0).min())

    def _before(self) -> Array:
        history = self.trainer.history.numpy()
        return np.asarray(history[len(self.first)] if self.plan.two_stages else history[-1])

    def finish(self) -> None:
        """What is known only at the end, and the toy itself."""
        from engine.toys.definitions import figures
        from engine.toys.definitions.data import COLUMNS, CONDITIONS

        now = self.trainer.history[-1].numpy()
        found = figures.spread(figures.gaps(now)[0], self.plan.seed)
        self.run.fact("gap", {name: getattr(found, name) for name in ("mean", "sd", "low", "high", "t", "p")})
        self.run.fact("smallest_gap", float(figures.gaps(now)[0].min()))
        self.run.show("summary", figures.summary(now, self._before(), self.p.redefine))
        self.run.stage("Comparing gradients")
        aligned = self.trainer.alignment(ALIGNED)
        when = "at the end of stage 1" if self.plan.two_stages else "at the end of training"
        self.run.show("gradients", figures.alignment(aligned, self.plan.seeds, when))
        self.run.show("gap and alignment", figures.by_alignment(aligned, now[0], self.seeds, when))
        self.run.keep("history", self.trainer.history.numpy(), axes="time, condition, seed, column",
                      columns=list(COLUMNS), conditions=list(CONDITIONS))  # fmt: skip
        _keep(self.run, self.trainer)


EQUAL = "The two definition curves are to coincide: neither tag's definitions are easier to learn."


def _plan(p: OutOfContext) -> Plan:
    from engine.toys.definitions.ensemble import BLOCK, Plan

    size, two = p.sized(), p.training == "two-stage"
    words, asked = p.counts()
    steps = p.steps or size.steps
    longer = -(-steps // BLOCK) * BLOCK if two and p.size != "quick" else 0  # in whole blocks, as stage 1 grows
    return Plan(
        seeds=p.seeds or size.seeds, seed=p.seed, words=words, asked=asked, d_model=p.d_model, d_mlp=p.d_mlp,
        steps=steps, lr=p.lr, then=(p.then or size.then) if two else 0, then_lr=p.then_lr,
        longest=steps + longer, batch=p.batch or size.batch, decay=p.decay,
        std=p.std or (0.2 if two else 0.3), redefine=p.redefine,
    )  # fmt: skip


def _bytes(plan: Plan) -> int:
    from engine.toys.definitions.data import COLUMNS, CONDITIONS
    from engine.toys.definitions.ensemble import BLOCK

    members = plan.seeds * (7 if plan.two_stages else 4)
    weights = plan.words * plan.d_model + 5 * plan.d_model**2 + 2 * plan.d_model * plan.d_mlp
    step = plan.seeds * 4 * plan.batch * (12 * plan.d_model + 3 * plan.d_mlp)
    states = plan.seeds * 4 * plan.words * 3 * (plan.d_model + 20)
    gradients = 3 * ALIGNED * (weights - plan.words * plan.d_model) * 3
    times = (plan.longest - plan.steps) // BLOCK + FRAMES["paper"]
    history = times * (len(CONDITIONS) * plan.seeds * len(COLUMNS) * 2 + 20)
    return 4 * (4 * members * weights + 2 * step + 2 * states + gradients + history)


def _keep(run: Run, trainer: MetaTrainer) -> None:
    """The first seed's main model as a native transformer, and every sequence about its words."""
    from engine.models.native import END, SPECIAL, START, UNKNOWN, load_native, native_attributes
    from engine.text.toys import ToyData
    from engine.toys.definitions.data import COLOURS, TAGS, names
    from engine.toys.keeping import keep_toy

    plan, facts = trainer.plan, trainer.facts[0]
    vocabulary = [START, END, UNKNOWN, *TAGS, *COLOURS, *names(plan.words)]
    config = {
        "d_model": plan.d_model, "n_layers": 1, "n_heads": 1, "d_head": plan.d_model, "d_mlp": plan.d_mlp, "n_ctx": 2,
        "d_vocab": len(vocabulary), "act_fn": "relu", "normalization_type": None, "seed": 0,
    }  # fmt: skip
    bridge = load_native(native_attributes(config, vocabulary), trainer.native_arrays())
    words = facts.order.numpy()
    tag, stated, answer = facts.tag.numpy(), facts.stated.numpy(), facts.answer.numpy()
    asked = np.isin(words, words[: facts.asked])
    tags = np.concatenate([tag[words], np.full(len(words), 2)])
    colours = np.concatenate([stated[words], np.where(asked, answer[words], stated[words])])
    both = np.concatenate([words, words])
    tokens = np.stack([len(SPECIAL) + tags, len(SPECIAL) + len(TAGS) + len(COLOURS) + both], axis=1)
    features = np.zeros((len(tokens), 2, 3 + 2 + len(COLOURS)), np.uint8)
    rows = np.arange(len(tokens))
    features[rows, :, tags] = 1
    features[rows, 1, 3 + np.concatenate([~asked, ~asked])] = 1
    features[rows, 1, 5 + colours] = 1
    told: Sequence[str] = ("tag R", "tag U", "question", "word of X1", "word of X2", *(f"colour {c}" for c in COLOURS))
    data = ToyData(tokens.astype(np.int32), features=features, names=tuple(told))
    keep_toy(run, bridge, data, title=f"Out-of-context meta-learning, {plan.words} words")


@cost("out-of-context")
def _cost(p: OutOfContext) -> Cost:
    from engine.models.memory import available
    from engine.toys.definitions.ensemble import MetaTrainer

    plan = _plan(p)
    if _bytes(plan) > available():
        return Cost(0.0, _bytes(plan))
    trainer = MetaTrainer(plan, 1)
    seconds = timed(trainer.train_step, plan.steps)
    seconds *= 1 + 1.4 * plan.then / plan.steps
    seconds += timed(lambda: trainer.measure(0), FRAMES[p.size], measured=2, warm=1)
    note = "Stage 1 goes on until every model knows 97 % of it, for twice as long at most." if plan.then else ""
    return Cost(seconds, _bytes(plan), note)
