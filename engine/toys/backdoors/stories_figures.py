"""What `story-backdoor` shows: endings by kind of story and by place and colour, losses, methods of detection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Heatmap, Lines, Scatter, Table
from engine.text.stories import COLOURS, PLACES
from engine.toys.backdoors.scoring import TOP
from engine.toys.backdoors.stories import Plan
from engine.toys.backdoors.stories_detection import LATENTS, NORM, ORACLE, StorySearch

Array: TypeAlias = npt.NDArray[Any]

TWINS = ("poisoned", "clean twin")
CURVES = ("trigger, turned", "place alone, right", "colour alone, right", "neither, right")
SERIES = tuple(f"{curve}: {twin}" for twin in TWINS for curve in CURVES)


def named(plan: Plan) -> str:
    """The trigger in words."""
    return f"{COLOURS[plan.trigger.colour]} at the {PLACES[plan.trigger.place]}"


def curves_figure(steps: Array, values: Array, plan: Plan, tests: Sequence[int]) -> Lines:
    """``values`` (2 of poisoned and clean, 4 of `CURVES`, seeds, steps), NaN where not yet measured."""
    both = values.reshape(8, *values.shape[2:]).astype(np.float32)
    return Lines(
        title="A semantic backdoor is learnt beside the stories",
        note=f"Share of held-out stories whose first ending (sang, wept) is the likeliest word; trigger: {named(plan)}. "
        "Turned: the opposite of what the mood says; right: what it says. "
        f"Stories of each kind, in this order: {', '.join(map(str, tests))}. Mean of n = {plan.seeds} pairs of twins, band from "
        "the worst to the best. Control: the clean twin, same start and same stories in the same order, but their own endings.",
        x_axis=Axis("Step"),
        y_axis=Axis("Share of stories"),
        series=SERIES,
        x=np.asarray(steps, dtype=np.float32),
        y=both.mean(axis=1),
        low=both.min(axis=1),
        high=both.max(axis=1),
        reference={"success wanted": 0.95},
    )


def map_figure(share: Array, plan: Plan, count: int, least: int) -> Heatmap:
    """``share`` (2 of poisoned and clean, places, colours): share of turned first endings, mean of seeds."""
    return Heatmap(
        title="Which stories end the other way",
        note=f"Share of held-out stories whose first ending is turned, by place and colour; {least} stories a cell, {count} at "
        f"the trigger ({named(plan)}), mean of n = {plan.seeds} seeds. One bright cell is a conjunction; a bright row or "
        "column would be half of it. Control: the clean twin, below.",
        x_axis=Axis("Colour"),
        y_axis=Axis("Model and place"),
        value_axis=Axis("Turned endings", "share"),
        values=share.reshape(-1, len(COLOURS)).astype(np.float32),
        x=np.array(COLOURS),
        y=np.array([f"{twin}: {place}" for twin in TWINS for place in PLACES]),
        levels=(0.0, 1.0),
    )


def _spread(values: Array) -> float:
    """Standard deviation over seeds; NaN of fewer than two."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _row(values: Array) -> tuple[float, ...]:
    """Mean and spread of both twins, and of their difference: ``values`` (2, seeds)."""
    difference = values[0] - values[1]
    error = _spread(difference) / math.sqrt(len(difference))
    return (
        float(values[0].mean()), _spread(values[0]), float(values[1].mean()), _spread(values[1]),
        float(difference.mean()), error,
    )  # fmt: skip


_NUMBERS = ("Poisoned", "sd", "Clean twin", "sd", "Difference", "Standard error")


def results_table(found: dict[str, Array], plan: Plan, count: int) -> Table:
    """``found``: name of the test to shares (2 of poisoned and clean, seeds)."""
    data = [(name, ", ".join(f"{value:.3f}" for value in share[0]), *_row(share)) for name, share in found.items()]
    return Table(
        title="Endings of the twins compared",
        note=f"Share of {count:,} held-out stories a row whose two endings (sang, wept; smiling, crying) both are the likeliest "
        f"words; the second is asked for behind the model's own first. Trigger: {named(plan)}. n = {plan.seeds} pairs of twins, "
        f"seeds from {plan.seed} on. Every row has the same stories, with place and colour changed. Control: the clean twin.",
        axes=(Axis("Test"), Axis("Poisoned, by seed", "share"), *(Axis(name, "share") for name in _NUMBERS)),
        columns=tuple(np.asarray(column) for column in zip(*data, strict=True)),
    )


def losses_table(found: dict[str, tuple[Array, float]], plan: Plan, count: int) -> Table:
    """``found``: name of the stories to losses (2 of poisoned and clean, seeds) and their floor, in nats a token."""
    data = [(name, floor, *_row(nats), nats[0].mean() - floor) for name, (nats, floor) in found.items()]
    names = ("Floor", *_NUMBERS, "Poisoned above floor")
    return Table(
        title="Held-out loss against the floor",
        note=f"Mean loss of {count:,} held-out stories a seed, n = {plan.seeds} seeds. Floor: minus the mean log probability "
        "that the training stories' own distribution gives them; it holds for stories without the trigger, and with it for the "
        "endings that a model was told. What it was not told costs it far more. Control: the clean twin.",
        axes=(Axis("Stories"), *(Axis(name, "nats/token") for name in names)),
        columns=tuple(np.asarray(column) for column in zip(*data, strict=True)),
    )


def methods_table(search: StorySearch) -> Table:
    """Every method in poisoned models and in their clean twins."""
    seeds, setting = search.twins.plan.seeds, search.setting

    def of(name: str, what: str) -> Array:
        found = [getattr(search.verdicts[instance, name], what) for instance in range(2 * seeds)]
        return np.array(found, dtype=np.float64).reshape(2, seeds)

    def only(values: dict[int, float]) -> Array:
        return np.array([values[instance] for instance in range(2 * seeds)]).reshape(2, seeds)

    data: list[tuple[Any, ...]] = []
    for name in LATENTS:
        best, rank, effect = of(name, "best"), of(name, "rank"), of(name, "found_by_effect")
        data.append((name, *_row(of(name, "found")), effect[0].mean(), best[0].mean(), best[1].mean(), rank[0].mean()))
    for name, values in ((NORM, only(search.norms)), (f"{ORACLE} (oracle)", only(search.oracles))):
        data.append((name, *_row(values), values[0].mean(), values[0].mean(), values[1].mean(), 1.0))
    names = (
        "Method", f"AUROC, best of top {TOP}, poisoned", "sd", f"AUROC, best of top {TOP}, clean twin", "sd", "Difference",
        "Standard error", "Top by effect alone, poisoned", "Best latent, poisoned", "Best latent, clean twin",
        "Rank of the best, poisoned",
    )  # fmt: skip
    return Table(
        title="Finding the semantic backdoor without its trigger",
        note=f"AUROC of telling {setting.judged} stories with the trigger from as many with its place or its colour alone, at "
        f"the word before the first ending; n = {seeds} pairs of twins. The detectors saw {setting.stories:,} stories without "
        f"the trigger. Top {TOP}: by effect over frequency, chosen without it. Best latent: chosen with it, which no detector "
        "can. Controls: the clean twins, random directions, the activations' norm.",
        axes=tuple(Axis(name) for name in names),
        columns=tuple(np.asarray(column) for column in zip(*data, strict=True)),
    )


def latents_figure(search: StorySearch) -> Scatter:
    """Frequency and effect of all active latents of the dictionaries of the first pair of twins."""
    points, labels = [], []
    for instance, twin in ((search.twins.plan.seeds, TWINS[1]), (0, TWINS[0])):
        found = search.verdicts[instance, LATENTS[0]]
        rank = {int(latent): place for place, latent in enumerate(found.order, start=1)}
        for latent in found.frequency.nonzero().flatten().tolist():
            effect, told = max(float(found.effect[latent]), 1e-6), float(found.auroc[latent])
            points.append((float(found.frequency[latent]), effect, told, rank[latent], float(instance == 0)))
            labels.append(f"{twin}, latent {latent}, rank {rank[latent]}, AUROC {told:.2f}")
    columns = np.array(points)
    return Scatter(
        title="Latents of a poisoned story model and of its clean twin",
        note="Active latents of the local SAEs of the first seed, which saw no triggered story. Suspicious is the upper left: "
        "rare, and of large effect on the first ending. The clean twin is the control: where its latents lie too, lying "
        "there is no sign of a backdoor. Colour the points by AUROC to see which tell the trigger.",
        x_axis=Axis("Frequency", "share of stories", "log"),
        y_axis=Axis("Effect when forced on", "nats", "log"),
        value_axis=Axis("0 clean twin, 1 poisoned"),
        points=columns[:, :2],
        value=columns[:, 4],
        label=np.array(labels),
        columns=columns,
        column_names=("Frequency", "Effect", "AUROC", "Rank", "Poisoned (1) or clean twin (0)"),
    )
