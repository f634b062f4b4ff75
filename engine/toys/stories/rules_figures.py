"""The figures of `story-understanding`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Bars, Heatmap, Table, TokenStrip
from engine.text import stories
from engine.toys.stories.rules import Rule, Texts
from engine.toys.stories.rules_causes import Cause, Place
from engine.toys.stories.rules_scores import CLOSE, DRAWS, Bootstrap, Interval, Scored, drawn, floor_nats

Array: TypeAlias = npt.NDArray[Any]
NATS = "nats/token"
SHOWN = 0.5  # nats of KL at which a token of the story is fully coloured
BOOTSTRAP = f"Intervals: 2.5 and 97.5 % points of {DRAWS:,} bootstrap resamples of the stories."


def _columns(named: dict[str, tuple[str, Sequence[Any] | Array]]) -> tuple[tuple[Axis, ...], tuple[Array, ...]]:
    """Axes and columns of a table from units and values by label."""
    axes = tuple(Axis(label, unit) for label, (unit, _) in named.items())
    return axes, tuple(np.asarray(values) for _, values in named.values())


@dataclass(frozen=True)
class Ladder:
    """All predictions on the held-out stories, the base first known.

    Attributes:
        base, model: what scores 0 and 1.
        rungs: the predictions in order, ``base`` among them and the last the one with all chosen rules.
    """

    texts: Texts
    base: Scored
    model: Scored
    rungs: Sequence[Scored]
    bootstrap: Bootstrap

    @property
    def everything(self) -> list[Scored]:
        return [*self.rungs, self.model]

    def scores(self, where: Array | None = None) -> list[Interval]:
        """The score of each rung and of the model."""
        return [self.bootstrap.score(self.base, one, self.model, where) for one in self.everything]


def _scored(name: str, score: float) -> str:
    """A rung with its score; without where the model is no better than the base."""
    return name if np.isnan(score) else f"{name}: {score:.2f}"


def bars(ladder: Ladder) -> Bars:
    """Losses from the 2-gram to the floor."""
    shown = [
        (one, score) for one, score in zip(ladder.everything, ladder.scores(), strict=True) if one.name != "1-gram"
    ]
    losses = [ladder.bootstrap.mean(one.nats) for one, _ in shown]
    found = [*losses, ladder.bootstrap.mean(floor_nats(ladder.texts))]
    return Bars(
        title="Ladder of predictions that a person can read",
        note=f"Behind each name its score (L_base - L) / (L_base - L_model), base = {ladder.base.name}; above 1 it beats the "
        f"model. “+” adds a rule to the 3-gram and the rules above. {len(ladder.texts.stories):,} held-out stories. {BOOTSTRAP} "
        "Control: the n-grams, counted in the same stories as the rules.",
        x_axis=Axis("Prediction: score"),
        y_axis=Axis("Held-out loss", NATS),
        label=np.array([*(_scored(one.name, score.value) for one, score in shown), "entropy floor"]),
        value=np.array([one.value for one in found]),
        low=np.array([one.low for one in found]),
        high=np.array([one.high for one in found]),
        horizontal=True,
    )


def scores(ladder: Ladder) -> Table:
    """Loss, score, faithfulness and coverage of every prediction."""
    open_, bootstrap, everything = drawn(ladder.texts), ladder.bootstrap, ladder.everything
    overall, where_drawn = ladder.scores(), ladder.scores(open_)
    losses = [bootstrap.mean(one.nats) for one in everything]
    axes, columns = _columns(
        {
            "Prediction": ("", [one.name for one in everything]),
            "Loss": (NATS, [one.value for one in losses]),
            "low": (NATS, [one.low for one in losses]),
            "high": (NATS, [one.high for one in losses]),
            "Score": ("", [one.value for one in overall]),
            "score low": ("", [one.low for one in overall]),
            "score high": ("", [one.high for one in overall]),
            "Beats the model": ("", ["yes" if one.value > 1 else "" for one in overall]),
            "KL(model‖H)": (NATS, [one.kl.mean() for one in everything]),
            "Agreement, determined": ("share", [one.agrees[~open_].mean() for one in everything]),
            "Coverage": ("share", [(one.kl < CLOSE).mean() for one in everything]),
            "Loss, drawn": (NATS, [one.nats[open_].mean() for one in everything]),
            "Score, drawn": ("", [one.value for one in where_drawn]),
            "KL, drawn": (NATS, [one.kl[open_].mean() for one in everything]),
            "Coverage, drawn": ("share", [(one.kl[open_] < CLOSE).mean() for one in everything]),
        }
    )
    return Table(
        title="Loss and faithfulness of every prediction",
        note=f"Score: (L_base - L_H) / (L_base - L_model), base = {ladder.base.name}. Agreement: the likeliest word is the "
        f"model's, where the words before determine it. Coverage: share of tokens with KL(model‖H) < {CLOSE} nats. Drawn: "
        f"only the {int(open_.sum()):,} of {len(open_):,} tokens that the words before do not determine. {BOOTSTRAP}",
        axes=axes,
        columns=columns,
    )


def slots(ladder: Ladder) -> Table:
    """Floor, model and prediction by grammar position."""
    texts, best = ladder.texts, ladder.rungs[-1]
    here = texts.slots[texts.there]
    floors = stories.slot_floors()
    measured = floor_nats(texts)
    rows = []
    for number, slot in enumerate(stories.SLOTS):
        at = here == number
        n = int(at.sum())
        if not n:
            continue
        error = float(best.kl[at].std() / np.sqrt(n))
        values = [values[at].mean() for values in (measured, ladder.base.nats, ladder.model.nats, best.nats, best.kl)]
        kind = "drawn" if floors[slot] else "determined"
        rows.append((slot, kind, n, floors[slot], *values, error, best.agrees[at].mean()))
    found = list(zip(*rows, strict=True))
    labels = {
        "Slot": "", "Kind": "", "Tokens": "", "Entropy": NATS, "Floor": NATS, f"{ladder.base.name} (control)": NATS,
        "Model": NATS, "H": NATS, "KL(model‖H)": NATS, "KL, standard error": NATS, "Agreement": "share",
    }  # fmt: skip
    return Table(
        title="Model and prediction by grammar slot",
        note=f"H: {best.name}, with all rules before it. Entropy is the grammar's, floor minus the mean log probability that "
        f"it gives these {len(texts.stories):,} stories. Punctuation and copies are easy; look at the drawn slots.",
        axes=tuple(Axis(label, unit) for label, unit in labels.items()),
        columns=tuple(np.asarray(column) for column in found),
    )


def story(ladder: Ladder, number: int) -> TokenStrip:
    """One held-out story, coloured by what the rules miss of the model."""
    chosen = ladder.texts.story == number
    best = ladder.rungs[-1]
    return TokenStrip(
        title="What the rules miss of the model, word by word",
        note=f"KL(model‖H) at each word of the held-out story with the largest sum; H: {best.name}, with all rules before it. "
        f"Mean over all stories {best.kl.mean():.3f} nats a token.",
        value_axis=Axis("KL(model‖H)", "nats"),
        tokens=np.array([f" {word}" for word in (*ladder.texts.stories[number].words, stories.END)]),
        value=best.kl[chosen],
        levels=(0.0, SHOWN),
    )


@dataclass(frozen=True)
class Gain:
    """What one rule is worth, in nats a token: on the base alone, added to those before it, and when left out.

    ``kl_left_out`` is the rise of KL(model‖H) without it.
    """

    rule: Rule
    alone: float
    added: float
    left_out: Interval
    kl_left_out: float


def rules(gains: Sequence[Gain], causes: Sequence[Cause], base: str, count: int) -> Table:
    """All chosen rules with their marginal gains."""
    verdicts = {cause.rule: cause.verdict for cause in causes}
    axes, columns = _columns(
        {
            "Rule": ("", [gain.rule.name for gain in gains]),
            "It says": ("", [gain.rule.sentence for gain in gains]),
            "Evidence": ("", [verdicts.get(gain.rule.name, "behavioural") for gain in gains]),
            "Gain alone": (NATS, [gain.alone for gain in gains]),
            "Gain in order": (NATS, [gain.added for gain in gains]),
            "Loss if left out": (NATS, [gain.left_out.value for gain in gains]),
            "low": (NATS, [gain.left_out.low for gain in gains]),
            "high": (NATS, [gain.left_out.high for gain in gains]),
            "KL if left out": (NATS, [gain.kl_left_out for gain in gains]),
        }
    )
    return Table(
        title="Rules and what each is worth",
        note=f"Alone: added to the {base}. In order: added to the rules above it. Left out: what loss and KL(model‖H) rise "
        f"by without it; below 0 the rule does harm there. {count:,} held-out stories. Causal: a head was located and its "
        f"ablation costs loss where the rule is needed; behavioural: known from data only. {BOOTSTRAP}",
        axes=axes,
        columns=columns,
    )


def ablations(causes: Sequence[Cause], places: Sequence[Place], count: int) -> Heatmap:
    """How much each part of the model matters for each rule."""
    return Heatmap(
        title="Ablations: loss on the slots that each rule needs",
        note=f"Each part is set to its mean over stories at the same slot. Mean over {count:,} held-out stories. “heads L0”: all "
        "heads of that layer at once. The located head of each rule is in the table; the rest of its row is the control.",
        x_axis=Axis("Ablated part"),
        y_axis=Axis("Rule"),
        value_axis=Axis("Rise of the loss", "nats"),
        values=np.stack([cause.rises.mean(axis=1) for cause in causes]),
        x=np.array([place.name for place in places]),
        y=np.array([f"{cause.rule}" for cause in causes]),
        diverging=True,
    )


def evidence(causes: Sequence[Cause], places: Sequence[Place], count: int) -> Table:
    """For each rule the head that was located and what ablating it costs, beside all other heads."""
    rows = []
    for cause in causes:
        excess, error = cause.excess()
        others = cause.others.mean(axis=1) if len(cause.others) else np.zeros(1)
        names = np.delete([place.name for place in places[: cause.heads]], cause.located)
        most = names[others.argmax()] if len(names) else ""
        rows.append(
            (
                cause.rule, cause.verdict, places[cause.located].name, cause.attention[cause.located],
                cause.writes[cause.located], cause.tokens, cause.rises[cause.located].mean(), others.mean(), excess, error,
                most, others.max(), cause.elsewhere[cause.located],
            )
        )  # fmt: skip
    labels = {
        "Rule": "", "Evidence": "", "Head": "", "Attention to the cue": "share", "Writes for it": "logits", "Tokens": "",
        "Rise": "nats", "Rise, other heads (control)": "nats", "Difference": "nats", "Standard error": "nats",
        "Most needed other": "", "its rise": "nats", "Rise elsewhere": "nats",
    }  # fmt: skip
    return Table(
        title="Rules located in the model, and the test by ablation",
        note=f"The head with the largest product of attention to the cue (from the word before the rule's slots) and what its "
        f"OV circuit writes for the cue in the weights. Rise of the loss on the rule's slots when it is mean-ablated, over "
        f"{count:,} held-out stories; control: mean over all other heads, each ablated alone. Causal: difference above 0.05 "
        "nats by 1.96 standard errors. A rule that heads carry out redundantly stays behavioural.",
        axes=tuple(Axis(label, unit) for label, unit in labels.items()),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def skip_trigrams(rows: Sequence[tuple[str, str, str, str, float, float]]) -> Table:
    """The strongest entries of an attention-only model's tables."""
    labels = {"Head": "", "Source": "", "Last word": "", "Next word": "", "Looks": "score", "Writes": "logits"}
    return Table(
        title="Skip-trigrams in the weights",
        note="“source … last word → next word”: looks is E W_QK Eᵀ above its mean over sources, writes E W_OV U above its mean "
        "over words. Strongest first, by their product.",
        axes=tuple(Axis(label, unit) for label, unit in labels.items()),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )
