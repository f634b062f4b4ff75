"""Figures and statistics of the experiment `out-of-context`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Bars, Histogram, Lines, Scatter, Table
from engine.toys.definitions.data import COLOURS, COLUMNS, CONDITIONS, SHUFFLED, UNASKED

Array: TypeAlias = npt.NDArray[Any]
ACCURACY = Axis("Accuracy", "share")
GAP = Axis("Accuracy of questions, R minus U", "share")
CHANCE = 1 / len(COLOURS)
RESAMPLES = 10_000
SHORT = ("main", "shuffled", "U agrees", "unasked")


def column(history: Array, name: str) -> Array:
    """One of `COLUMNS` of a history (…, columns)."""
    return np.asarray(history[..., COLUMNS.index(name)])


def gaps(history: Array) -> Array:
    """Accuracy of questions about X2's R words minus that about its U words: (…,) of a history (…, columns)."""
    return column(history, "question R") - column(history, "question U")


@dataclass(frozen=True)
class Spread:
    """Mean of one value per seed with its spread.

    Attributes:
        mean, sd: over seeds; sd is NaN for one seed.
        low, high: 95 % percentile bootstrap interval of the mean over seeds.
        t: mean over its standard error; p: exact two-sided, over all flips of signs (or 10,000 of them).
    """

    mean: float
    sd: float
    low: float
    high: float
    t: float
    p: float


def spread(values: Array, seed: int = 0) -> Spread:
    """Describe one value per seed, (n,)."""
    n = len(values)
    mean = float(values.mean())
    if n < 2 or not np.isfinite(values).all():
        return Spread(mean, math.nan, math.nan, math.nan, math.nan, math.nan)
    random = np.random.default_rng([seed, 4])
    low, high = np.percentile(values[random.integers(n, size=(RESAMPLES, n))].mean(axis=1), [2.5, 97.5])
    sd = float(values.std(ddof=1))
    t = mean / (sd / math.sqrt(n)) if sd else math.nan
    exact = 2**n <= RESAMPLES
    signs = np.array(list(itertools.product((-1, 1), repeat=n))) if exact else random.choice((-1, 1), (RESAMPLES, n))
    flipped = np.abs((signs * values).mean(axis=1))
    return Spread(mean, sd, float(low), float(high), t, float((flipped >= abs(mean) - 1e-12).mean()))


def band(values: Array) -> tuple[Array, Array, Array]:
    """Mean, mean - sd, mean + sd over the last axis (seeds)."""
    mean = values.mean(axis=-1)
    sd = values.std(axis=-1, ddof=1) if values.shape[-1] > 1 else np.zeros_like(mean)
    return mean, mean - sd, mean + sd


def curves(title: str, steps: Sequence[float], history: Array, wanted: Sequence[tuple[str, str]], note: str) -> Lines:
    """Columns of main's history (times, seeds, columns) over ``steps``; ``wanted`` are pairs of series and column."""
    parts = [band(column(history, name)) for _, name in wanted]
    return Lines(
        title=title,
        note=f"Mean over {history.shape[1]} seeds, band one standard deviation between seeds. {note}",
        x_axis=Axis("Step"),
        y_axis=ACCURACY,
        series=tuple(name for name, _ in wanted),
        x=np.asarray(steps, float),
        y=np.stack([p[0] for p in parts]),
        low=np.stack([p[1] for p in parts]),
        high=np.stack([p[2] for p in parts]),
        reference={"chance": CHANCE},
    )


def gap_curves(steps: Sequence[float], history: Array, title: str) -> Lines:
    """The gap over steps for all conditions: history (times, conditions, seeds, columns)."""
    mean, low, high = band(gaps(history))
    return Lines(
        title=title,
        note=f"Mean over {history.shape[2]} seeds, band one standard deviation between seeds. Controls: X2's tags "
        "shuffled among its words; U definitions of X1 that agree with the answers; X1 never asked about.",
        x_axis=Axis("Step"),
        y_axis=GAP,
        series=CONDITIONS,
        x=np.asarray(steps, float),
        y=mean.T,
        low=low.T,
        high=high.T,
        reference={"no gap": 0.0},
    )


def forest(now: Array, words: int, seeds: Sequence[int]) -> Bars:
    """The gap of each seed and condition with intervals: ``now`` (conditions, seeds, columns), ``words`` per tag."""
    label, value, low, high = [], [], [], []
    r, u = column(now, "question R"), column(now, "question U")
    error = 1.96 * np.sqrt((r * (1 - r) + u * (1 - u)) / words)
    for condition, name in enumerate(SHORT):
        found = spread((r - u)[condition])
        label.append(f"{name}: mean")
        value.append(found.mean)
        low.append(found.low)
        high.append(found.high)
        for s, seed in enumerate(seeds):
            gap = float(r[condition, s] - u[condition, s])
            label.append(f"{name}: seed {seed}")
            value.append(gap)
            low.append(gap - float(error[condition, s]))
            high.append(gap + float(error[condition, s]))
    return Bars(
        title="Does a reliable tag make a definition count for more?",
        note="Accuracy of questions about X2 words that were defined with R, minus those defined with U, at this step. "
        f"Marks: 95 % intervals, of a seed over its {words} words per tag (normal approximation), of a mean over "
        f"{len(seeds)} seeds (bootstrap). Main should lie above 0, the three controls at it.",
        x_axis=Axis("Condition and seed"),
        y_axis=GAP,
        label=np.array(label),
        value=np.array(value),
        low=np.array(low),
        high=np.array(high),
        horizontal=True,
    )


def words(logits: Array, facts: Any) -> Scatter:
    """Probability of the stated colour behind definition and question, per X2 word of one member.

    Args:
        logits: (tags, words, colours) of it.
        facts: its `Facts`.
    """
    x2 = facts.order[facts.asked :].numpy()
    tag, stated = facts.tag.numpy()[x2], facts.stated.numpy()[x2]
    chance = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chance /= chance.sum(axis=-1, keepdims=True)
    defined, asked = chance[tag, x2, stated], chance[2, x2, stated]
    return Scatter(
        title="Definitions learned, questions answered",
        note=f"One point per X2 word of the first seed ({len(x2)}): what its definition teaches (right) and what a "
        "question about it then gets (up). 0 is a word defined with R, 1 one defined with U.",
        x_axis=Axis("Probability of the stated colour after [tag w]"),
        y_axis=Axis("… and after the question [Q w]"),
        value_axis=Axis("Tag (R 0, U 1)"),
        points=np.stack([defined, asked], axis=1).astype(np.float32),
        value=tag.astype(np.uint8),
    )


def cosines(steps: Sequence[float], history: Array, title: str) -> Lines:
    """Cosines between hidden states over steps: main's history (times, seeds, columns)."""
    wanted = (("[Q w] and [R w]", "cosine R"), ("[Q w] and [U w]", "cosine U"), ("[Q w] and [R w′]", "cosine other"))
    parts = [band(column(history, name)) for _, name in wanted]
    return Lines(
        title=title,
        note="Between final residual streams of X2 words, mean over words and then over "
        f"{history.shape[1]} seeds; band one standard deviation between seeds. Control: another word w′.",
        x_axis=Axis("Step"),
        y_axis=Axis("Cosine"),
        series=tuple(name for name, _ in wanted),
        x=np.asarray(steps, float),
        y=np.stack([p[0] for p in parts]),
        low=np.stack([p[1] for p in parts]),
        high=np.stack([p[2] for p in parts]),
        reference={"orthogonal": 0.0},
    )


def alignment(found: Array, seeds: int, when: str) -> Histogram:
    """Cosines (n, 4) between gradients of definitions and questions."""
    groups = ("[R w] and [Q w]", "[U w] and [Q w]", "[R w] and [Q w′]", "[U w] and [Q w′]")
    return Histogram(
        title="Does a definition's gradient answer the question too?",
        note=f"Cosine of the gradients of a definition's loss and a question's, over all weights, {when}: "
        f"{len(found):,} X2 words of {seeds} seeds, none drawn twice. Control: a question about another word w′ with "
        "the same colour, which shares all but the word's embedding.",
        x_axis=Axis("Cosine of gradients"),
        y_axis=Axis("Words"),
        groups=groups,
        samples=found.T.astype(np.float32),
        violins=True,
    )


def by_alignment(found: Array, now: Array, seeds: Sequence[int], when: str) -> Scatter:
    """Each seed's gap at the end against its mean gradient alignment: ``found`` (n, 4), ``now`` (seeds, columns)."""
    mean = found.reshape(len(seeds), -1, found.shape[1]).mean(axis=1)
    difference = mean[:, 0] - mean[:, 1]
    gap = gaps(now)
    known = len(seeds) > 2 and difference.std() > 0 and gap.std() > 0
    correlation = f"{np.corrcoef(difference, gap)[0, 1]:.2f}" if known else "not defined"
    return Scatter(
        title="Gradient alignment and gap by seed",
        note=f"One point per seed ({len(seeds)}); alignment {when}. Correlation {correlation}: few seeds, read it as a hint.",
        x_axis=Axis("Mean cosine of gradients, R minus U"),
        y_axis=GAP,
        points=np.stack([difference, gap], axis=1),
        label=np.array([f"seed {seed}" for seed in seeds]),
    )


def summary(now: Array, first: Array, redefine: bool) -> Table:
    """All conditions side by side: ``now`` and ``first`` (conditions, seeds, columns) at the end and before stage 2."""
    names = ["Condition", "Seeds", "Questions R", "Questions U", "Gap", "Gap sd", "Gap low", "Gap high", "t", "p"]
    names += ["Probability gap", "Gap minus shuffled", "p of it", "Definitions R", "Definitions U"]
    names += ["Asked before", "Known before"] + (["Old R", "Old U"] if redefine else [])
    table = []
    for condition, name in enumerate(CONDITIONS):
        own, before = now[condition], first[condition]
        found = spread(gaps(own))
        probability = column(own, "probability R") - column(own, "probability U")
        paired = spread(gaps(own) - gaps(now[SHUFFLED]))
        asked = (column(before, "asked R") + column(before, "asked U")) / 2
        known = (column(before, "known R") + column(before, "known U")) / 2
        row: list[Any] = [name, len(own), column(own, "question R").mean(), column(own, "question U").mean()]
        row += [found.mean, found.sd, found.low, found.high, found.t, found.p, probability.mean()]
        row += [math.nan, math.nan] if condition == SHUFFLED else [paired.mean, paired.p]
        row += [column(own, "definition R").mean(), column(own, "definition U").mean()]
        row += [math.nan if condition == UNASKED else asked.mean(), known.mean()]
        row += [column(own, "old R").mean(), column(own, "old U").mean()] if redefine else []
        table.append(row)
    old = " Old: share of questions that still get the colour from before the redefinition." if redefine else ""
    return Table(
        title="Summary",
        note="X2 at the end, means over seeds. Gap: questions R minus U, with its 95 % bootstrap interval over seeds; t and "
        "p (all flips of signs, two-sided; its least value is 2 / 2ⁿ) are paired by seed, and so is the gap minus that with "
        "shuffled tags. Definitions R and U are to be equal: neither tag's are learned better "
        "(where tags are shuffled, half of these definitions were seen with the other tag). Asked and known: accuracy "
        "on X1's questions and definitions before X2 is learned (joint training: at the end)." + old,
        axes=tuple(Axis(name) for name in names),
        columns=tuple(np.asarray(values) for values in zip(*table, strict=True)),
    )
