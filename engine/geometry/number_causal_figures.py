"""The figures of causal tests on numbers: effect of patching by layer, per-pair distributions, tables, ablations."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Figure, Histogram, Lines, Table
from engine.geometry.number_ablation import AblationResults
from engine.geometry.number_patching import PatchResults, interval

Array: TypeAlias = npt.NDArray[Any]
EFFECT = Axis("Change of the other answer", "logits")
CHANGE = Axis("Change of the answer", "nats")


def figures(found: PatchResults, random: np.random.Generator) -> dict[str, Figure]:
    """All figures of a patching test by name; ``random`` draws the bootstraps."""
    return {
        "patching": by_layer(found, random),
        "patching-accuracy": accuracy_by_layer(found, random),
        "patched-pairs": per_pair(found),
        "patching-table": table(found, random),
    }


def about(found: PatchResults) -> str:
    """n, what a pair is, the controls, and what was held out."""
    n, sums = len(found.pairs.clean), found.sums
    unseen = int(found.pairs.held.sum())
    return (
        f"n = {n} pairs of sums with the same b and different answers, both given by the model, which answers "
        f"{int(sums.right.sum()):,} of {len(sums.right):,} with an answer of one token ({sums.asked:,} were asked). At the token "
        "of a the activation is replaced by that of the other number; effect: logit of the other answer, patched minus clean. "
        "Ceiling: its activation as it is. Floor: the mean of all "
        f"numbers; control: a helix fitted to shuffled numbers. Fits saw {len(found.train)} numbers; in {unseen} pairs the other "
        f"number is one of the {len(found.held)} held out."
    )


def by_layer(found: PatchResults, random: np.random.Generator) -> Lines:
    """Mean effect with its 95 % bootstrap over pairs, one line per method."""
    low, high = interval(found.effects, random)
    return _lines(found, "Effect of patching by layer", EFFECT, found.effects.mean(axis=2), low, high)


def accuracy_by_layer(found: PatchResults, random: np.random.Generator) -> Lines:
    """Share of pairs in which the other answer is given, with its 95 % bootstrap over pairs."""
    low, high = interval(found.right, random)
    axis = Axis("Other answer given", "share of pairs")
    return _lines(found, "Answers after patching by layer", axis, found.right.mean(axis=2), low, high)


def _lines(found: PatchResults, title: str, axis: Axis, mean: Array, low: Array, high: Array) -> Lines:
    return Lines(
        title=title,
        note=f"{about(found)} Bands: 95 % bootstrap over pairs. Layer: blocks before the hook point.",
        x_axis=Axis("Layer", "blocks before"),
        y_axis=axis,
        series=found.methods,
        x=np.array(found.layers, dtype=np.float64),
        y=mean.T,
        low=low.T,
        high=high.T,
    )


def per_pair(found: PatchResults) -> Histogram:
    """The distribution over pairs of every method, where the ceiling is highest."""
    here = found.clearest
    return Histogram(
        title=f"Effect of patching per pair at {found.hooks[here]}",
        note=f"{about(found)} Shown where the ceiling is highest.",
        x_axis=EFFECT,
        y_axis=Axis("Pairs"),
        groups=found.methods,
        samples=found.effects[here],
        violins=True,
    )


def table(found: PatchResults, random: np.random.Generator) -> Table:
    """Every method at every layer: distribution over pairs, accuracy, and the effect for numbers fitted and held out."""
    low, high = interval(found.effects, random)
    held, rows = found.pairs.held, []
    for number, hook in enumerate(found.hooks):
        for row, method in enumerate(found.methods):
            effect = found.effects[number, row]
            quantiles = np.quantile(effect, [0.1, 0.5, 0.9])
            seen, unseen = (float(effect[mark].mean()) if mark.any() else np.nan for mark in (~held, held))
            rows.append(
                (hook, method, found.parameters[row], len(effect), effect.mean(), low[number, row], high[number, row],
                 effect.std(ddof=1), *quantiles, found.right[number, row].mean(), seen, unseen)
            )  # fmt: skip
    axes = (
        Axis("Hook point"), Axis("Replaced by"), Axis("Parameters per dimension"), Axis("Pairs"), Axis("Mean", "logits"),
        Axis("95 % from", "logits"), Axis("95 % to", "logits"), Axis("Standard deviation", "logits"), Axis("10 %", "logits"),
        Axis("Median", "logits"), Axis("90 %", "logits"), Axis("Other answer given", "share"),
        Axis("Mean, fitted numbers", "logits"), Axis("Mean, held-out numbers", "logits"),
    )  # fmt: skip
    return Table(
        title="Patching in numbers",
        note=f"{about(found)} 95 %: bootstrap over pairs. PCA-k gives back the "
        "other number's own activation on the first k components of the fitted numbers, or on all of them where there are fewer; "
        "fits predict it from the number alone.",
        axes=axes,
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def ablation_figures(found: AblationResults, random: np.random.Generator) -> dict[str, Figure]:
    """Figures of an ablation by name."""
    return {"ablation": ablation_violins(found), "ablation-table": ablation_table(found, random)}


def about_ablation(found: AblationResults) -> str:
    """n, what is removed, and the control."""
    draws, n = found.random_changes.shape[1:]
    return (
        f"n = {n} prompts for {found.sums.operation}, of which {int(found.clean_right.sum())} are answered rightly without an "
        f"edit. At the token of a at {found.hook} the component along a direction is set to its mean; change: log probability of "
        f"the answer, ablated minus clean. Control: {draws} random "
        "directions among the principal components that remove exactly as much variance each."
    )


def ablation_violins(found: AblationResults) -> Histogram:
    """Change per prompt for each direction and for the random ones it is matched with."""
    draws, n = found.random_changes.shape[1:]
    groups, samples = [], []
    for number, name in enumerate(found.names):
        groups += [name, f"random, as {name}"]
        samples += [np.pad(found.changes[number], (0, (draws - 1) * n), constant_values=np.nan)]
        samples += [found.random_changes[number].ravel()]
    return Histogram(
        title="Answers without a direction",
        note=f"{about_ablation(found)} The prompts of all random directions are pooled.",
        x_axis=CHANGE,
        y_axis=Axis("Prompts"),
        groups=tuple(groups),
        samples=np.stack(samples),
        violins=True,
    )


def ablation_table(found: AblationResults, random: np.random.Generator) -> Table:
    """Each direction beside its random ones."""
    low, high = interval(found.changes, random)
    rows = []
    for number, name in enumerate(found.names):
        change, dealt = found.changes[number], found.random_changes[number].mean(axis=1)
        others = found.random_right[number].mean(axis=1)
        rank = (1 + int((dealt <= change.mean()).sum())) / (1 + len(dealt))
        rows.append(
            (name, found.share[number], found.clean_right.mean(), found.right[number].mean(), others.mean(), others.min(),
             others.max(), change.mean(), low[number], high[number], *np.quantile(change, [0.1, 0.5, 0.9]), dealt.mean(),
             dealt.min(), dealt.max(), rank, found.cosines[number].max())
        )  # fmt: skip
    nats = "nats"
    axes = (
        Axis("Direction"), Axis("Variance removed", "share"), Axis("Accuracy before"), Axis("Accuracy after"),
        Axis("… random, mean"), Axis("… least"), Axis("… most"), Axis("Change", nats), Axis("95 % from", nats),
        Axis("95 % to", nats), Axis("10 %", nats), Axis("Median", nats), Axis("90 %", nats), Axis("Change, random", nats),
        Axis("… lowest", nats), Axis("… highest", nats), Axis("p"), Axis("Largest |cosine| of a random one"),
    )  # fmt: skip
    return Table(
        title="Ablation in numbers",
        note=f"{about_ablation(found)} Change: mean with its 95 % bootstrap over prompts, and quantiles "
        "over prompts. p: share of random directions that do at least as much harm, counted with the direction itself. Where a "
        "random direction has a large cosine with it, as directions of very large variance have to, the control says little.",
        axes=axes,
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )
