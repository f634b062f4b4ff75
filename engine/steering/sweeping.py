"""A sweep over strengths: propensities, damage and distances of several interventions on the same samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from engine.steering.damage import Damage, Matched, NeutralText, matched
from engine.steering.interventions import Intervention
from engine.steering.manifold import Manifold, relative_step, to_oracle
from engine.steering.propensity import Propensities, Questions, propensities
from engine.steering.steerability import Agreement, Slopes, Summary, agreement, slopes, summary

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run
    from engine.steering.choices import Placement
    from engine.steering.prepare import Prepared

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

BANK = 2_000  # real activations to which distances are measured
STEERED = 500  # activations that are steered to measure distances


@dataclass(frozen=True, eq=False)
class Arm:
    """One thing to compare: an intervention under its name.

    Attributes:
        name: as figures say it;  control: whether it is one.
        intervention: what changes activations.
    """

    name: str
    intervention: Intervention
    control: bool = False


class Ticks:
    """Progress over all tokens that a run will run on; a place to pause and stop."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._began = run.seconds
        self._done = 0
        self.total = 0

    def __call__(self, tokens: int) -> None:
        self._done += tokens
        self._run.progress(self._done, max(self.total, self._done), "tokens", since=(0, self._began))
        self._run.point()


@dataclass(frozen=True, eq=False)
class Distances:
    """Where an intervention takes held-out activations, by strength (strengths,).

    Attributes:
        plain, shrunk: median distance to the nearest real activation, 1 being that of unsteered held-out ones.
        step: median of |x' − x| / |x|.
        to_oracle: mean cosine of the step from a pair's negative activation with the way to its positive one; NaN at
            strength 0 and without pairs.
        n: activations.
    """

    plain: Floats
    shrunk: Floats
    step: Floats
    to_oracle: Floats
    n: int


@dataclass(frozen=True, eq=False)
class Swept:
    """What was measured of one arm.

    Attributes:
        arm: which;  propensities, slopes: of each sample;  summary: of the slopes.
        clean: (samples,) propensities without intervention. They are m_i(0), except where a latent is clamped, to 0 then.
        success: (samples, strengths) bool: m_i(λ) > 0, or where a label is moved, the target is the likeliest answer.
        calibration: s_i against the clean m_i.
        damage: on neutral text;  matched: success where damage is equal.
        distances: off the manifold.
    """

    arm: Arm
    propensities: Propensities
    slopes: Slopes
    summary: Summary
    clean: Floats
    success: Bools
    calibration: Agreement
    damage: Damage
    matched: Matched
    distances: Distances

    @property
    def shifts(self) -> Floats:
        """m_i(λ) less the clean m_i, (samples, strengths) nats."""
        return np.asarray(self.propensities.values - self.clean[:, None])


class Bench:
    """What all arms are measured on: the same questions, the same neutral text, the same real activations.

    Args:
        real: of the arm that is looked at first: its bank and held-out activations set the scale of distances.
        paired: whether those hold all positive rows followed by the negative ones of the same pairs.
        heard: called after each batch with its tokens; may wait, or raise to stop.
    """

    def __init__(
        self,
        model: OpenModel,
        questions: Questions,
        neutral: NeutralText,
        real: Prepared,
        *,
        paired: bool,
        placement: Placement,
        strengths: Floats,
        seed: int,
        heard: Callable[[int], None],
    ) -> None:
        self.strengths, self.questions, self.neutral, self.seed = strengths, questions, neutral, seed
        self._hook, self._placement, self._heard, self._device = real.hook, placement, heard, model.device
        random = np.random.default_rng([seed, 11])
        self.manifold, self._pairs, self._x = _real(real, paired, random)
        self.clean = questions.log_probabilities(real.hook, placement, heard=heard)

    @property
    def size(self) -> int:
        """Tokens that one arm runs on, about."""
        return (len(self.strengths) - 1) * (self.questions.size + self.neutral.size)

    def propensities(
        self, intervention: Intervention, done: Callable[[int, Floats], None] = lambda index, found: None
    ) -> Propensities:
        """Propensities of all samples under ``intervention`` at all strengths."""
        return propensities(
            self.questions, intervention, self.strengths, hook=self._hook, placement=self._placement,
            clean=self.clean, heard=self._heard, done=done,
        )  # fmt: skip

    def sweep(
        self,
        arm: Arm,
        *,
        shifted: Callable[[float, float], None] = lambda strength, shift: None,
        damaged: Callable[[float, float], None] = lambda strength, ce: None,
    ) -> Swept:
        """All measurements of ``arm``.

        Args:
            shifted, damaged: called after each strength with it and the mean shift of m_i, or the mean added cross
                entropy.

        Raises:
            SteeringError: something is not finite.
        """
        before = self.clean[:, 0] - self.clean[:, 1]

        def heard(index: int, found: Floats) -> None:
            shifted(float(self.strengths[index]), float((found[:, 0] - found[:, 1] - before).mean()))

        measured = self.propensities(arm.intervention, heard)
        damage = self.neutral.damage(
            arm.intervention, self.strengths, hook=self._hook, heard=self._heard,
            done=lambda index, ce: damaged(float(self.strengths[index]), ce),
        )  # fmt: skip
        return self._summed(arm, measured, damage)

    def _summed(self, arm: Arm, measured: Propensities, damage: Damage) -> Swept:
        # The same resamples for each arm, so that their intervals do not differ by chance.
        random = np.random.default_rng([self.seed, 12])
        found = slopes(measured.values, self.strengths)
        success = measured.success if measured.success is not None else measured.values > 0
        before = self.clean[:, 0] - self.clean[:, 1]
        return Swept(
            arm, measured, found, summary(found.slope, random), before, success,
            agreement(before, found.slope, random), damage,
            matched(measured.values, success, damage, random, clean=before), self.distances(arm.intervention),
        )  # fmt: skip

    def distances(self, intervention: Intervention) -> Distances:
        """Where ``intervention`` takes the real held-out activations, strength by strength."""
        shape = len(self.strengths)
        plain, shrunk, step, cosine = (np.full(shape, np.nan) for _ in range(4))
        for index, strength in enumerate(self.strengths.tolist()):
            self._heard(0)
            moved = self._moved(self._x, intervention, strength)
            near = self.manifold.nearest(moved)
            plain[index], shrunk[index] = np.median(near.plain), np.median(near.shrunk)
            step[index] = np.nanmedian(relative_step(self._x, moved))
            if self._pairs is not None:
                good, bad = self._pairs
                found = to_oracle(bad, self._moved(bad, intervention, strength), good).step
                cosine[index] = np.nanmean(found) if np.isfinite(found).any() else np.nan
        return Distances(plain, shrunk, step, cosine, len(self._x))

    def _moved(self, x: Floats, intervention: Intervention, strength: float) -> Floats:
        with torch.no_grad():
            found = intervention(torch.from_numpy(x.astype(np.float32)).to(self._device), strength)
        return np.asarray(found.double().cpu().numpy())


def _real(
    prepared: Prepared, paired: bool, random: np.random.Generator
) -> tuple[Manifold, tuple[Floats, Floats] | None, Floats]:
    """The manifold of real activations; held-out pairs (positive, negative), None without; those that are steered."""
    bank, real = (part.double().cpu().numpy() for part in (prepared.bank, prepared.real))
    pairs = None
    if paired:
        good, bad = np.split(real, 2)
        chosen = _drawn(len(good), STEERED // 2, random)
        pairs = good[chosen], bad[chosen]
        held = np.concatenate(pairs)
    else:
        held = real[_drawn(len(real), STEERED, random)]
    return Manifold(bank[_drawn(len(bank), BANK, random)], held), pairs, held


def _drawn(count: int, most: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """At most so many of ``count`` indices, ascending."""
    chosen = random.choice(count, most, replace=False) if count > most else np.arange(count)
    return np.sort(chosen).astype(np.int64)
