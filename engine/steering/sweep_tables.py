"""The tables of `steering-sweep`: the distribution in numbers, success at matched damage, and declared factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Table
from engine.steering.steerability import RESAMPLES, Explained
from engine.steering.sweep_figures import CONTROLS, Setting, between

if TYPE_CHECKING:
    from engine.steering.sweeping import Swept

Floats: TypeAlias = npt.NDArray[np.float64]

INTERVALS = f"95 % intervals: {RESAMPLES:,} bootstrap resamples"


def matched_table(found: Sequence[Swept], setting: Setting, matched_at: float) -> Table:
    """Success of each method where damage is equal."""
    rows = []
    for one in found:
        at = one.matched
        row = (
            one.arm.name, at.strength, between(at.strength_interval), at.ce, "yes" if at.reached else "no", at.shift,
            between(at.shift_interval), at.share, between(at.share_interval), float(one.success[:, _zero(one)].mean()),
        )  # fmt: skip
        rows.append(row)
    return Table(
        title=f"Success at matched damage, {setting.where}",
        note=f"Read where added cross entropy (CE) on neutral text first reaches {matched_at:g} nats per token, going up from "
        "strength 0, by straight lines between neighbouring strengths; where it stays below within the range (reached: no) at "
        f"the last strength. Shift: mean of m(λ) − m without steering. Success: share of samples for which "
        f"{setting.success}. n = {setting.samples}. {INTERVALS} of samples and of contexts together. {CONTROLS}",
        axes=(
            Axis("Method"), Axis("Strength"), Axis("95 % interval of strength"),
            Axis("Added CE", "nats/token"), Axis("Reached"), Axis("Shift", "nats"),
            Axis("95 % interval of shift"), Axis("Success", "share"), Axis("95 % interval of success"),
            Axis("Success at strength 0"),
        ),
        columns=_columns(rows),
    )  # fmt: skip


def _zero(one: Swept) -> int:
    return int(np.argmin(np.abs(one.propensities.strengths)))


def steerability_table(found: Sequence[Swept], setting: Setting) -> Table:
    """The distribution of s_i in numbers, one row per method."""
    rows = []
    for one in found:
        s, line = one.summary, one.slopes
        row = (
            one.arm.name, s.n, s.mean, between(s.mean_interval), s.sd, s.low, s.median, s.high, s.anti,
            between(s.anti_interval), s.normalised, between(s.normalised_interval), float(np.median(line.residual)),
            float(np.median(line.relative)), _median(line.spearman), float(line.saturated.mean()), one.calibration.r,
            between(one.calibration.interval),
        )  # fmt: skip
        rows.append(row)
    nats = "nats/strength"
    return Table(
        title=f"Steerability in numbers, {setting.where}",
        note=f"s: least-squares slope of {setting.propensity} over strength, one per sample; n = {setting.samples}. "
        "Anti-steerable: share with s < 0. Normalised: mean / deviation. Residual: root mean square distance from the line; "
        "relative to the curve's own spread it is 0 on a line and 1 where the line says nothing. Saturated: bent, and flat or "
        f"turning at an end of the range. Calibration: correlation of s with m without steering. Deviation: standard deviation. "
        f"{INTERVALS} of samples; of the anti-steerable share Wilson's. {CONTROLS}",
        axes=(
            Axis("Method"), Axis("n", "samples"), Axis("Mean s", nats), Axis("95 % interval of mean"),
            Axis("Deviation", nats), Axis("10 % point", nats), Axis("Median", nats), Axis("90 % point", nats),
            Axis("Anti-steerable", "share"), Axis("95 % interval of that"), Axis("Normalised"),
            Axis("95 % interval of normalised"), Axis("Median residual", "nats"), Axis("Median relative residual"),
            Axis("Median Spearman"), Axis("Saturated", "share"), Axis("Calibration r"), Axis("95 % interval of r"),
        ),
        columns=_columns(rows),
    )  # fmt: skip


def factor_table(found: Mapping[str, Sequence[Explained]], setting: Setting, declared: str) -> Table:
    """eta² of each declared factor by method."""
    rows = [
        (method, one.factor, one.levels, one.n, one.eta2, one.chance, one.p, one.adjusted)
        for method, factors in found.items()
        for one in factors
    ]
    permutations = max((one.permutations for factors in found.values() for one in factors), default=0)
    return Table(
        title=f"What explains steerability, {setting.where}",
        note=f"η² = SS between / SS total of s over n = {setting.samples}: the share of the variance between samples that a "
        "factor explains. Chance: (values − 1) / (n − 1), what η² is on average of a factor that explains nothing. "
        f"p: {permutations:,} permutations of s over samples, (1 + those with at least this η²) / (1 + all). Holm: adjusted "
        f"for the factors declared, by method. {declared} Samples of one value of a factor may share values of another: see "
        f"the two-way maps. {CONTROLS}",
        axes=(
            Axis("Method"), Axis("Factor"), Axis("Values"), Axis("n", "samples"), Axis("η²", "share"),
            Axis("η² by chance", "share"), Axis("p"), Axis("p, Holm"),
        ),
        columns=_columns(rows),
    )  # fmt: skip


def _median(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _columns(rows: Sequence[tuple[str | float, ...]]) -> tuple[npt.NDArray[np.generic], ...]:
    return tuple(np.asarray(column) for column in zip(*rows, strict=True))
