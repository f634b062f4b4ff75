"""The figures of `number-helix` about logarithms: the direction, the components, and the search for an angle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Lines, Table
from engine.geometry.log_code import SHUFFLES, TURNS, Angles, Direction, Ranking
from engine.geometry.number_figures import Where

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class LogRow:
    """What was found of the logarithm at one layer."""

    layer: int
    hook: str
    direction: Direction
    ranking: Ranking
    angles: Angles
    rivals: Mapping[str, Angles]


def direction(found: Direction, alike: Mapping[str, float], where: Where, n: int) -> Table:
    """What can be read of log a, a and √a, and of each beyond the others."""
    names = list(found.targets)
    columns: list[Array] = [np.array(names), np.array([found.targets[name].held for name in names])]
    shuffled = [found.targets[name].shuffled for name in names]
    columns += [np.array([one.mean() for one in shuffled]), np.array([one.max() for one in shuffled])]
    for other in names:
        columns.append(np.array([found.targets[name].beyond.get(other, np.nan) for name in names]))
    return Table(
        title="Reading the logarithm",
        note=where.note(
            f"Least squares on {found.components} principal components, n = {n} numbers "
            "from 1 on, a fifth held out at a time (PCA fitted without them). Beyond x: the share of what a straight line "
            "in x leaves of the target that the activations explain; near 0 or below says that x is enough, NaN that "
            f"nothing is left. The three are much alike here (correlation of log a with a {alike['a']:.3f}, with √a "
            f"{alike['√a']:.3f}), so R² alone tells little: log a is there where it is read beyond a, and a is not read "
            f"beyond log a. Shuffled: mean and highest of {len(shuffled[0])} orders of the numbers."
        ),
        axes=(
            Axis("Target"), Axis("R², held-out numbers"), Axis("… shuffled, mean"), Axis("… shuffled, highest"),
            *(Axis(f"Beyond {name}") for name in names),
        ),
        columns=tuple(columns),
    )  # fmt: skip


def ranking(found: Ranking, where: Where, n: int) -> Lines:
    """|Correlation| of principal components with log a."""
    count = len(found.correlations)
    flat = np.full(count, np.nan)
    return Lines(
        title="Components that follow log a",
        note=where.note(
            f"|Correlation| of each principal component with log a, n = {n}. Band: 95 % "
            f"of {SHUFFLES} orders of the numbers for each component; dashed is what the highest of all components stays "
            "below in 95 % of them. Share of variance is that of the component, for comparison."
        ),
        x_axis=Axis("Component"),
        y_axis=Axis("|Correlation| with log a"),
        series=("activations", "numbers shuffled", "share of variance"),
        x=np.arange(1, count + 1, dtype=np.float64),
        y=np.stack([found.correlations, found.band, found.shares]),
        low=np.stack([flat, np.zeros(count), flat]),
        high=np.stack([flat, found.band, flat]),
        reference={"95 % of highest, shuffled": found.family},
    )


def angles(
    found: Angles,
    planted: Angles,
    share: float,
    where: Where,
    said: str,
    *,
    of: str,
    rivals: Mapping[str, Angles] | None = None,
) -> Lines:
    """Gain of R² by frequency, beside the same with an angle planted; ``of`` is what u is."""
    logarithm = of == "log a"
    x = found.omega if logarithm else 2 * np.pi / found.omega
    order = np.argsort(x)
    beside = (
        ", lines in a and √a, the helix and the last digit (from 30 numbers on: what repeats along a would else look like an "
        "angle of log a). Level lines: the highest that the same search finds along a and √a, which a code of log a exceeds"
        if logarithm
        else ""
    )
    flat = {name: float(one.gain[one.strongest]) for name, one in (rivals or {}).items()}
    axis = Axis("Angular frequency ω of log a", "radians per e-fold") if logarithm else Axis("Period", "numbers", "log")
    return Lines(
        title="Angles of the logarithm" if logarithm else "Angles of the number itself (positive control)",
        note=where.note(
            f"{said} R² that cos ωu and sin ωu add to a straight line in u = "
            f"{of}{beside}, over the coordinates on principal components; numbers are weighted so that dense stretches of "
            f"u do not decide alone. Dashed: what the highest gain of the whole grid stays below in 95 % of {found.draws} "
            f"shuffles of the residuals. Planted: residuals shuffled, with a cosine added that holds {share:.0%} of the "
            f"variance: a code of that size would show. Below {TURNS:g} turns over the range of u a gain is a bend of the "
            "line and no code."
        ),
        x_axis=axis,
        y_axis=Axis("Gain of R²", "share of variance"),
        series=("activations", "planted", *(f"highest along {name}" for name in flat)),
        x=x[order],
        y=np.stack([found.gain[order], planted.gain[order], *(np.full(len(x), height) for height in flat.values())]),
        reference={"95 % of highest, shuffled": found.threshold},
    )


def by_layer(rows: Sequence[LogRow], numbers: str) -> Table:
    """Direction and search of every layer."""

    def peak(found: Angles) -> float:
        return float(found.gain[found.strongest])

    found = [
        (
            row.layer, row.hook, row.direction.targets["log a"].held, row.direction.targets["a"].held,
            row.direction.targets["log a"].beyond["a"], row.direction.targets["a"].beyond["log a"],
            float(row.ranking.correlations.max()), peak(row.angles), row.angles.threshold,
            float(row.angles.omega[row.angles.strongest]), *(peak(row.rivals[name]) for name in ("a", "√a")),
        )
        for row in rows
    ]  # fmt: skip
    return Table(
        title="The logarithm by layer",
        note=f"{numbers} R² of held-out numbers from 1 on; beyond: what the one explains of what the other leaves. Gain: "
        f"the largest that an angle of log a of at least {TURNS:g} turns adds, and the threshold that shuffles exceed in 5 % "
        "for the whole grid of one layer. A gain along a or √a that is as large says that the structure is not that of the "
        "logarithm.",
        axes=(
            Axis("Layer", "blocks"), Axis("Hook point"), Axis("R² of log a"), Axis("R² of a"), Axis("log a beyond a"),
            Axis("a beyond log a"), Axis("Largest |correlation| of a component"), Axis("Gain along log a"),
            Axis("Threshold"), Axis("ω", "radians per e-fold"), Axis("Gain along a"), Axis("Gain along √a"),
        ),
        columns=tuple(np.asarray(column) for column in zip(*found, strict=True)),
    )  # fmt: skip
