"""Figures of the experiment `belief-states`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Images, Lines, Scatter, Table
from engine.geometry.probes import Score
from engine.toys.beliefs.survey import FOLDS, Reading, Survey

Array: TypeAlias = npt.NDArray[Any]
UNEXPLAINED = Axis("Unexplained variance 1 − R²", "share", "log")
POINTS = 400  # in a frame of the movie
SIDE = 96  # pixels of a picture
GAP = 1.25  # between truth and probe
# One colour per state; the states of Mess3 are red, green and blue.
HUES = np.array([[230, 40, 40], [40, 170, 60], [50, 80, 230], [240, 180, 20], [170, 60, 200]], float)


def corners(states: int) -> Array:
    """Where certain beliefs lie in the plane: (states, 2), a regular polygon with sides of a triangle's length 1."""
    angle = np.pi / 2 + 2 * np.pi * np.arange(states) / states
    return np.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=1) / np.sqrt(3))


def plane(beliefs: Array) -> Array:
    """Beliefs (n, states) as mixtures of the corners: (n, 2); for three states the equilateral triangle."""
    return np.asarray(beliefs @ corners(beliefs.shape[1]))


def name_states(survey: Survey) -> str:
    states = survey.process.states
    return "triangle" if len(states) == 3 else f"polygon of the {len(states)} states"


def geometry(survey: Survey, score: Score, shown: Array) -> Scatter:
    """Beliefs (left) beside what the probe reads off the last block (right), for the histories ``shown``."""
    truth, read = plane(survey.belief[shown]), plane(score.predicted[shown])
    first, aside = survey.process.states[0], np.array([GAP / 2, 0.0])
    return Scatter(
        title="Beliefs and what the residual stream holds of them",
        note=f"Left: the exact belief after {len(shown)} histories, in the {name_states(survey)} (corners: certainty). "
        "Right: the same beliefs as an affine probe reads them off the last block's residual stream, each by a probe that was "
        f"not fitted on that history. Colour: the true probability of state {first}, on both sides.",
        x_axis=Axis("Truth (left), probe (right)"),
        y_axis=Axis("Height in the plane of beliefs"),
        value_axis=Axis(f"True probability of state {first}"),
        points=np.concatenate([truth - aside, read + aside]).astype(np.float32),
        value=np.tile(survey.belief[shown, 0], 2).astype(np.float32),
    )


def picture(beliefs: Array, truth: Array) -> Array:
    """Points of the plane as pixels (SIDE, SIDE, 3) uint8, each the mean colour of the true beliefs that fall on it."""
    at = plane(beliefs)
    half, middle = 0.8, 0.144  # the triangle's centre of height, and room for what a poor probe scatters
    column = np.floor((at[:, 0] + half) / (2 * half) * SIDE).astype(int)
    row = np.floor((half + middle - at[:, 1]) / (2 * half) * SIDE).astype(int)
    inside = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
    place = row[inside] * SIDE + column[inside]
    count = np.bincount(place, minlength=SIDE * SIDE)
    colour = truth[inside] @ HUES[: truth.shape[1]]
    total = np.stack([np.bincount(place, part, minlength=SIDE * SIDE) for part in colour.T], axis=1)
    pixels = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], 255.0)
    return np.asarray(pixels.reshape(SIDE, SIDE, 3).astype(np.uint8))


def pictures(survey: Survey, parts: Sequence[tuple[str, Array]]) -> Images:
    """Decoded beliefs side by side: pairs of caption and beliefs (histories, states)."""
    return Images(
        title="Belief geometry by layer",
        note=f"Each pixel has the mean colour of the {len(survey.belief):,} histories' true beliefs that fall on it; one colour "
        "per state, mixed by its probability. Held-out affine probes; the last two pictures are controls.",
        x_axis=Axis("Along the plane of beliefs"),
        y_axis=Axis("Height"),
        captions=tuple(caption for caption, _ in parts),
        pixels=np.stack([picture(beliefs, survey.belief) for _, beliefs in parts]),
    )


def layer_names(layers: int) -> tuple[str, ...]:
    """What probes read: the embedding, each block, all blocks side by side."""
    return ("embedding", *(f"block {n}" for n in range(layers)), "all blocks")


def by_layer(now: Array, untrained: Array, recent: Sequence[Score], shuffled: float) -> Lines:
    """1 - R² per layer (0 is the embedding), trained and untrained; values have the concatenation last."""
    n = len(now) - 1
    return Lines(
        title="How much of the belief is missing, by layer",
        note=f"1 − R² of affine probes on held-out histories ({FOLDS}-fold). Layer 0 is the embedding, layer n the stream after "
        "so many blocks. Controls: the same network untrained; any function of the last 1, 2 or 3 tokens; beliefs "
        "shuffled among histories.",
        x_axis=Axis("Blocks passed"),
        y_axis=UNEXPLAINED,
        series=("trained", "untrained", *_recent_names(recent), "shuffled"),
        x=np.arange(n, dtype=float),
        y=np.stack([now[:-1], untrained[:-1], *(np.full(n, 1 - s.r2) for s in recent), np.full(n, shuffled)]),
    )


def over_steps(
    steps: Sequence[float], last: Array, every: Array, untrained: Array, recent: Sequence[Score], shuffled: float
) -> Lines:
    """1 - R² of the last block and of all blocks over training steps."""
    n = len(steps)
    controls = [float(untrained[-2]), *(1 - s.r2 for s in recent), shuffled]
    return Lines(
        title="How much of the belief is missing, over training",
        note=f"1 − R² of affine probes on held-out histories ({FOLDS}-fold). Controls: the untrained network's last block; any "
        "function of the last 1, 2 or 3 tokens; beliefs shuffled among histories.",
        x_axis=Axis("Step"),
        y_axis=UNEXPLAINED,
        series=("last block", "all blocks", "untrained", *_recent_names(recent), "shuffled"),
        x=np.asarray(steps, float),
        y=np.stack([last, every, *(np.full(n, value) for value in controls)]),
    )


def _recent_names(recent: Sequence[Score]) -> list[str]:
    return [f"last {n + 1} token{'s' if n else ''}" for n in range(len(recent))]


def loss_by_position(optimal: Array, divergence: Array) -> Lines:
    """Loss of each position's next token: the exact optimum, and the network's (n, context)."""
    n = len(divergence)
    mean = divergence.mean(axis=0)
    error = 1.96 * divergence.std(axis=0, ddof=1) / np.sqrt(n)
    context = divergence.shape[1]
    best = optimal[1 : context + 1]
    return Lines(
        title="Loss by position, against the optimum",
        note=f"Expected loss of the next token after so many tokens. Optimum: exact, over all histories. Network: optimum plus "
        f"its KL divergence from the optimal law, mean over {n:,} sequences, band a 95 % interval. Control: the loss of "
        "one who knows nothing of the past.",
        x_axis=Axis("Tokens read"),
        y_axis=Axis("Loss", "nats/token"),
        series=("network", "optimum"),
        x=np.arange(1, context + 1, dtype=float),
        y=np.stack([best + mean, best]),
        low=np.stack([best + mean - error, best]),
        high=np.stack([best + mean + error, best]),
        reference={"no past": float(optimal[0])},
    )


def loss(steps: Sequence[float], found: Array, optimum: float, blind: float, n: int) -> Lines:
    """Held-out loss over steps against the optimum."""
    return Lines(
        title="Held-out loss",
        note=f"Expected loss over the next token on {n:,} held-out sequences; the optimum is that of exact Bayesian beliefs "
        "on the same sequences. Control: the loss of one who knows nothing of the past.",
        x_axis=Axis("Step"),
        y_axis=Axis("Loss", "nats/token"),
        series=("network",),
        x=np.asarray(steps, float),
        y=found[None],
        reference={"optimum": optimum, "no past": blind},
    )


def divergence_curve(steps: Sequence[float], found: Array, n: int, start: float) -> Lines:
    """KL divergence from the optimal predictions over steps."""
    return Lines(
        title="Distance from the optimal predictions",
        note=f"KL divergence of the network's next-token law from the optimal one, mean over {n:,} held-out sequences and all "
        "positions. Control: the untrained network.",
        x_axis=Axis("Step"),
        y_axis=Axis("KL divergence", "nats/token", "log"),
        series=("network",),
        x=np.asarray(steps, float),
        y=found[None],
        reference={"untrained": start},
    )


def beyond_by_layer(now: Array, untrained: Array) -> Lines:
    """Partial R² beyond the next token per layer, trained and untrained."""
    return Lines(
        title="Belief beyond the next token, by layer",
        note="Share of the belief's variance left by the next token's law (any function of it) that the residual stream "
        "explains, on held-out histories. Layer 0 is the embedding; the last point has all blocks side by side. Below 0: the "
        "probe is worse than none. Control: the untrained network.",
        x_axis=Axis("Layer (last: all blocks)"),
        y_axis=Axis("Partial R²", "share"),
        series=("trained", "untrained"),
        x=np.arange(len(now), dtype=float),
        y=np.stack([now, untrained]),
        reference={"nothing beyond": 0.0},
    )


def table(
    survey: Survey, now: Reading, untrained: Reading, shuffled: Sequence[Score], recent: Sequence[Score]
) -> Table:
    """All probes and controls side by side."""
    names = layer_names(len(now.scores) - 2)
    rows: list[tuple[str, Score, float, float]] = []
    for number, name in enumerate(names):
        start = 1 - untrained.scores[number].r2
        rows.append((f"{name}, trained", now.scores[number], start, float(now.beyond[number])))
        rows.append((f"{name}, untrained", untrained.scores[number], start, float(untrained.beyond[number])))
    rows.append((f"{names[-2]}, shuffled beliefs", shuffled[-2], 1 - untrained.scores[-2].r2, np.nan))
    start = 1 - untrained.scores[-2].r2
    rows += [(name, score, start, np.nan) for name, score in zip(_recent_names(recent), recent, strict=True)]
    missing = np.array([1 - score.r2 for _, score, _, _ in rows])
    return Table(
        title="Probes for the belief",
        note=f"Affine, {FOLDS}-fold over {len(survey.belief):,} distinct histories: each is predicted by a probe that was not "
        "fitted on it. Spread: standard deviation over folds. Times less than untrained: the untrained network's 1 − R² "
        "at the same place (for the token controls at the last block) over this one's. Beyond next token: partial R² given the "
        "next token's law; empty where that law fixes the belief.",
        axes=tuple(
            Axis(name)
            for name in (
                "Read from", "R²", "Spread", "1 − R²", "Times less than untrained", "Beyond next token", "Histories",
            )
        ),
        columns=(
            np.array([name for name, *_ in rows]),
            1 - missing,
            np.array([score.by_fold.std(ddof=1) for _, score, _, _ in rows]),
            missing,
            np.array([start for _, _, start, _ in rows]) / missing,
            np.array([more for *_, more in rows]),
            np.full(len(rows), len(survey.belief)),
        ),
    )  # fmt: skip


def shown(survey: Survey, seed: int) -> Array:
    """The histories of the movie: at most POINTS, drawn once."""
    n = len(survey.belief)
    return np.sort(np.random.default_rng([seed, 6]).permutation(n)[:POINTS])
