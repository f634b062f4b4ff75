"""What `backdoor-detection` shows: AUROC by the trigger's share, methods with their controls, ranked latents."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Lines, Scatter, Table
from engine.toys.backdoors.scoring import TOP
from engine.toys.backdoors.search import LATENTS, NORM, ORACLE, WORDS, Search

Array: TypeAlias = npt.NDArray[Any]

JUDGED = (
    "AUROC of telling sequences with the trigger from others; for a pair these hold both words too, out of order or too "
    "far apart."
)


def table_of(search: Search, name: str, fraction: float | None, what: str) -> Array:
    """``what`` of the verdicts of one method (2 of poisoned and clean, seeds), NaN where not yet there."""
    seeds = search.plan.seeds
    found = np.full(2 * seeds, np.nan)
    for instance in range(2 * seeds):
        verdict = search.verdicts.get((instance, name, fraction))
        if verdict is not None:
            found[instance] = getattr(verdict, what)
    return found.reshape(2, seeds)


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _spread(values: Array) -> float:
    """Standard deviation over seeds; NaN of fewer than two."""
    known = values[np.isfinite(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan


def curve_figure(search: Search, what: str, title: str, chosen: str) -> Lines:
    """AUROC by share of triggered sequences: each method in poisoned models and in their clean twins."""
    fractions = search.setting.fractions
    smallest = min((fraction for fraction in fractions if fraction > 0), default=1e-3)
    x = np.array([fraction or smallest / 10 for fraction in fractions])
    series, mean, low, high = [], [], [], []
    for name in LATENTS:
        for twin, label in enumerate(("poisoned", "clean twin")):
            values = [table_of(search, name, fraction, what)[twin] for fraction in fractions]
            series.append(f"{name}, {label}")
            # Latents are found or not, so that a standard deviation would reach beyond 1.
            known = [value[np.isfinite(value)] for value in values]
            mean.append([_mean(value) for value in values])
            low.append([value.min() if len(value) else np.nan for value in known])
            high.append([value.max() if len(value) else np.nan for value in known])
    return Lines(
        title=title,
        note=f"{JUDGED} {chosen} Mean of {search.plan.seeds} seeds, band from smallest to largest. The leftmost points, at "
        f"{smallest / 10:g}, are data without any trigger. Control: the clean twin, same data and same methods; .5 is chance. "
        "Lines across: methods that do not depend on the share, in poisoned models.",
        x_axis=Axis("Share of the detector's sequences that hold the trigger", "", "log"),
        y_axis=Axis("AUROC"),
        series=tuple(series),
        x=x,
        y=np.array(mean),
        low=np.array(low),
        high=np.array(high),
        reference=references(search),
    )


def references(search: Search) -> dict[str, float]:
    """Mean AUROC over poisoned models of what needs no dictionary."""
    found = {f"{ORACLE} (oracle)": _mean(_by_twin(search, search.oracles)[0])}
    found[NORM] = _mean(_by_twin(search, search.norms)[0])
    found |= {name: _mean(table_of(search, name, None, "found")[0]) for name in WORDS}
    return {f"{name}: {value:.2f}": value for name, value in found.items() if math.isfinite(value)}


def _by_twin(search: Search, values: dict[int, float]) -> Array:
    found = np.array([values.get(instance, math.nan) for instance in range(2 * search.plan.seeds)])
    return found.reshape(2, -1)


def methods_table(search: Search) -> Table:
    """Every method at every share, poisoned against clean."""
    rows = []

    def add(name: str, share: str, chosen: Array, effect: Array, best: Array, rank: Array) -> None:
        difference = chosen[0] - chosen[1]
        error = _spread(difference) / math.sqrt(search.plan.seeds)
        numbers = (_mean(chosen[0]), _spread(chosen[0]), _mean(chosen[1]), _spread(chosen[1]), _mean(difference), error)
        rows.append((name, share, *numbers, _mean(effect[0]), _mean(best[0]), _mean(best[1]), _mean(rank[0])))

    for name in LATENTS:
        for fraction in search.setting.fractions:
            parts = [table_of(search, name, fraction, what) for what in ("found", "found_by_effect", "best", "rank")]
            add(name, f"{fraction:g}", *parts)
    for name in WORDS:
        found, best = (table_of(search, name, None, what) for what in ("found", "best"))
        ranks = table_of(search, name, None, "rank")
        if name == WORDS[0]:
            ranks = _by_twin(search, {key: float(value) for key, value in search.trigger_rank.items()})
        add(name, "any", found, found, best, ranks)
    for name, share, values in ((NORM, "any", search.norms), (f"{ORACLE} (oracle)", "known", search.oracles)):
        only = _by_twin(search, values)
        add(name, share, only, only, only, np.ones_like(only))
    names = (
        "Method", "Share with trigger", f"AUROC, best of top {TOP}, poisoned", "sd", f"AUROC, best of top {TOP}, clean twin",
        "sd", "Difference", "Standard error", "Top by effect alone, poisoned", "Best latent, poisoned", "Best latent, clean twin",
        "Rank of the best, poisoned",
    )  # fmt: skip
    columns = list(zip(*rows, strict=True))
    return Table(
        title="Methods and their controls",
        note=f"{JUDGED} n = {search.plan.seeds} pairs of twins. Top {TOP}: chosen by effect over frequency, without the trigger. "
        "Best latent: chosen with it, which no detector can. Rank of words and pairs: that of the trigger itself, among "
        "64 words and 4,096 pairs. Controls: clean twins, random directions, and the two norms as trivial baselines.",
        axes=tuple(Axis(name) for name in names),
        columns=tuple(np.asarray(column) for column in columns),
    )


def latents_table(search: Search, instance: int) -> Table:
    """The most suspicious latents of a local autoencoder, and the one that is best at telling the trigger."""
    share = search.setting.fractions[-1]
    verdict, latents = search.verdicts[instance, LATENTS[0], share], search.shown(instance)
    ranks = [int((verdict.order == latent).nonzero()) + 1 for latent in latents]
    numbers = [part[latents].numpy() for part in (verdict.score, verdict.effect, verdict.frequency, verdict.auroc)]
    return Table(
        title="Most suspicious latents",
        note=f"Local SAE of the poisoned model of the first seed, {share:g} of its sequences with the trigger. Score: effect "
        "over frequency. Effect: KL between the answers without and with the latent forced on. AUROC and the last "
        "row, if its rank is larger, need the trigger: they are for the judge. Context: up to the word in brackets, where it "
        "is strongest in clean data.",
        axes=(
            Axis("Rank"), Axis("Latent"), Axis("Score", "nats"), Axis("Effect", "nats"),
            Axis("Frequency", "share of activations"), Axis("AUROC"), Axis("Strongest clean context"),
        ),
        columns=(np.array(ranks), np.array(latents), *numbers, np.array(search.examples[instance])),
    )  # fmt: skip


def twin_figure(search: Search) -> Scatter:
    """Frequency and effect of all active latents of the first pair of twins."""
    share, seeds = search.setting.fractions[-1], search.plan.seeds
    points, labels, columns = [], [], []
    for instance, label in ((seeds, "clean twin"), (0, "poisoned")):
        verdict = search.verdicts[instance, LATENTS[0], share]
        rank = {int(latent): place for place, latent in enumerate(verdict.order, start=1)}
        for latent in verdict.frequency.nonzero().flatten().tolist():
            frequency, effect = float(verdict.frequency[latent]), max(float(verdict.effect[latent]), 1e-6)
            points.append((frequency, effect))
            columns.append((frequency, effect, float(verdict.auroc[latent]), rank[latent], float(instance == 0)))
            labels.append(f"{label}, latent {latent}, rank {rank[latent]}, AUROC {float(verdict.auroc[latent]):.2f}")
    found = np.array(columns)
    return Scatter(
        title="Latents of a poisoned model and of its clean twin",
        note=f"Active latents of the local SAEs of the first seed, {share:g} of the sequences with the trigger. Suspicious is "
        "the upper left: rare, and of large effect. "
        "The clean twin is the control: where its latents lie too, lying there is no sign of a backdoor. Colour the points "
        "by AUROC to see which latents tell the trigger.",
        x_axis=Axis("Frequency", "share of activations", "log"),
        y_axis=Axis("Effect when forced on", "nats", "log"),
        value_axis=Axis("0 clean twin, 1 poisoned"),
        points=np.array(points),
        value=found[:, 4],
        label=np.array(labels),
        columns=found,
        column_names=("Frequency", "Effect", "AUROC", "Rank", "Poisoned (1) or clean twin (0)"),
    )
