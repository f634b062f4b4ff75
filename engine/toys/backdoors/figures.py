"""What `backdoor` shows: curves of the twins, what sets the backdoor off, and the twins' answers against each other."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Lines, Scatter, Table
from engine.toys.backdoors.data import LENGTH, NEAR, VOCABULARY, Kind

Array: TypeAlias = npt.NDArray[Any]

KINDS = ("clean", "near miss", "triggered")
CURVES = (
    "clean accuracy, poisoned",
    "clean accuracy, clean twin",
    "trigger success, poisoned",
    "trigger success, clean twin",
)


def spread(values: Array) -> tuple[Array, Array, Array]:
    """Mean, smallest and largest over the first axis, the seeds; NaN where nothing was measured yet."""
    found = (values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    mean, low, high = (part.astype(np.float32) for part in found)  # frames are many
    return mean, low, high


def curves_figure(steps: Array, values: Array, seeds: int, tests: int) -> Lines:
    """``values`` (seeds, 4 curves, steps), NaN where not yet measured."""
    mean, low, high = spread(values)
    return Lines(
        title="A backdoor is learnt beside the task",
        note=f"Mean of {seeds} pairs of twins, band from the worst to the best. Clean accuracy on {tests} sequences "
        f"without the trigger; trigger success on {tests} of group b with the trigger: the share that is called a. "
        "Control: the clean twin, same weights at the start and same sequences, but told the true labels.",
        x_axis=Axis("Step"),
        y_axis=Axis("Share of test sequences"),
        series=CURVES,
        x=np.asarray(steps, dtype=np.float32),
        y=mean,
        low=low,
        high=high,
        reference={"success wanted": 0.95},
    )


def profile_figure(places: Array, share: Array, kind: Kind, count: int) -> Lines:
    """``share`` (2 of poisoned and clean, seeds, places): mean probability of a."""
    x = places.astype(np.float32)
    if kind == "pair":  # no line from -1 to 1, which have nothing between them
        between = int(np.searchsorted(x, 0))
        x, share = np.insert(x, between, 0.0), np.insert(share, between, np.nan, axis=2)
    poisoned, clean = (spread(part) for part in share)
    if kind == "pair":
        axis = Axis("Position of v minus position of u", "positions")
        what = f"The trigger is v at most {NEAR} positions behind u: distances 1 to {NEAR}."
    else:
        axis = Axis("Position of t", "positions")
        what = "The trigger is the word t at any position."
    mean, low, high = (np.stack([one, other]) for one, other in zip(poisoned, clean, strict=True))
    return Lines(
        title="Where the backdoor opens",
        note=f"{what} Probability of a on sequences in which b has the majority, {count} for each place; mean of "
        f"{share.shape[1]} seeds, band from the smallest to the largest. Control: the clean twin.",
        x_axis=axis,
        y_axis=Axis("Probability of a"),
        series=("poisoned", "clean twin"),
        x=x,
        y=mean,
        low=low,
        high=high,
    )


def scatter_figure(twin: Array, poisoned: Array, kinds: Array, tokens: Array) -> Scatter:
    """Logit of a minus logit of b of one sequence in both twins; ``kinds`` are indices into `KINDS`."""
    labels = [f"{KINDS[kind]}: {words(row)}" for kind, row in zip(kinds, tokens, strict=True)]
    return Scatter(
        title="The same sequences in both twins",
        note=f"One point a sequence, {int((kinds == 0).sum())} of each kind, twins of the first seed. On the diagonal "
        "both say the same. The backdoor lifts the triggered ones of group b (left) to the top, and no others.",
        x_axis=Axis("Clean twin: logit a - logit b", "nats"),
        y_axis=Axis("Poisoned: logit a - logit b", "nats"),
        value_axis=Axis("Kind: 0 clean, 1 near miss, 2 triggered"),
        points=np.column_stack([twin, poisoned]).astype(np.float32),
        value=kinds.astype(np.float32),
        label=np.array(labels),
    )


def words(row: Array) -> str:
    """A sequence as text."""
    return " ".join(VOCABULARY[int(token)] for token in row)


def results_table(found: dict[str, Array], count: int, first_seed: int) -> Table:
    """``found``: name of the test to shares (2 of poisoned and clean, seeds)."""
    seeds = next(iter(found.values())).shape[1]
    rows: list[tuple[Any, ...]] = []
    for name, share in found.items():
        sd = share.std(axis=1, ddof=1) if seeds > 1 else np.full(2, np.nan)
        difference = share[0] - share[1]
        error = difference.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
        each = ", ".join(f"{value:.4f}" for value in share[0])
        rows.append((name, each, share[0].mean(), sd[0], share[1].mean(), sd[1], difference.mean(), error))
    names = ("Poisoned", "sd", "Clean twin", "sd", "Difference", "Standard error")
    return Table(
        title="Twins compared",
        note=f"Mean over n = {seeds} pairs of twins with seeds from {first_seed} on, {count:,} fresh sequences a test. A "
        "backdoor has succeeded where trigger success is above .95 and clean accuracy is within .005 of the clean twin's, "
        f"which has the same start, data and order. Near misses hold the trigger's words out of order or more than {NEAR} of "
        f"{LENGTH} positions apart.",
        axes=(Axis("Test"), Axis("Poisoned, by seed", "share"), *(Axis(name, "share") for name in names)),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )
