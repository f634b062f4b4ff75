"""How well a prediction explains a model of stories: loss, score, faithfulness and coverage, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.text import stories
from engine.toys.stories.rules import Texts

Array: TypeAlias = npt.NDArray[Any]
CLOSE = 0.05  # nats of KL(model‖H) below which a token counts as covered
DRAWS = 1_000  # bootstrap resamples of stories
TINY = 1e-30  # below every probability that is not 0


@dataclass(frozen=True)
class Scored:
    """A prediction on held-out stories, token by token.

    Attributes:
        name: of the prediction.
        nats: (tokens,) its loss.
        kl: (tokens,) KL(model‖prediction) in nats.
        agrees: (tokens,) whether its likeliest word is the model's.
    """

    name: str
    nats: Array
    kl: Array
    agrees: Array

    @property
    def loss(self) -> float:
        """Mean loss in nats a token."""
        return float(self.nats.mean())


def scored(name: str, prediction: Array, model: Array, texts: Texts) -> Scored:
    """``prediction`` (tokens, words) against the model's log probabilities ``model`` of that shape."""
    target = texts.ids[texts.there]
    logs = np.log(np.maximum(prediction, TINY)).astype(np.float64)
    said = model.astype(np.float64)
    kl = (np.exp(said) * (said - logs)).sum(axis=1)
    agrees = prediction.argmax(axis=1) == model.argmax(axis=1)
    return Scored(name, -logs[np.arange(len(target)), target], np.maximum(kl, 0.0), agrees)


def scored_model(model: Array, texts: Texts) -> Scored:
    """The model itself."""
    target = texts.ids[texts.there]
    nats = -model[np.arange(len(target)), target].astype(np.float64)
    return Scored("model", nats, np.zeros(len(target)), np.ones(len(target), bool))


def score(base: float, found: float, model: float) -> float:
    """``(L_base - L_H) / (L_base - L_model)``: 0 for the base, 1 for the model, above 1 where H beats it.

    NaN where the model is no better than the base: there is nothing to explain.
    """
    gap = base - model
    return (base - found) / gap if gap > 0 else float("nan")


@dataclass(frozen=True)
class Interval:
    """A value with the 2.5 and 97.5 % points of its bootstrap."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Resamples stories, since the tokens of one depend on each other."""

    def __init__(self, texts: Texts, seed: int) -> None:
        self._story, count = texts.story, len(texts.stories)
        random = np.random.default_rng([seed, 77])
        self._weights = random.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)
        self._count = count

    def sums(self, values: Array, where: Array | None = None) -> tuple[float, Array]:
        """The sum of ``values`` (tokens,) over all tokens or those ``where``, and over each resample (DRAWS,)."""
        chosen = values if where is None else np.where(where, values, 0.0)
        per_story = np.bincount(self._story, weights=chosen, minlength=self._count)
        return float(chosen.sum()), self._weights @ per_story

    def mean(self, values: Array, where: Array | None = None) -> Interval:
        """The mean of ``values`` a token."""
        ones = np.ones(len(values))
        (total, totals), (tokens, many) = self.sums(values, where), self.sums(ones, where)
        if not tokens:
            return Interval(float("nan"), float("nan"), float("nan"))
        return _interval(total / tokens, totals / np.maximum(many, 1))

    def score(self, base: Scored, found: Scored, model: Scored, where: Array | None = None) -> Interval:
        """The understanding score of ``found``; numerator and denominator are resampled together."""
        (b, bs), (f, fs), (m, ms) = (self.sums(one.nats, where) for one in (base, found, model))
        gap = bs - ms
        return _interval(score(b, f, m), (bs - fs) / np.where(gap > 0, gap, np.nan))


def _interval(value: float, draws: Array) -> Interval:
    if np.isnan(value) or np.isnan(draws).all():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def floor_nats(texts: Texts) -> Array:
    """Minus the log probability that the grammar gives each token: (tokens,) float64."""
    return -np.concatenate([story.log_probabilities for story in texts.stories])


def drawn(texts: Texts) -> Array:
    """(tokens,) bool: whether a token's slot is drawn, not determined by the words before it."""
    floors = np.array([stories.slot_floors()[slot] for slot in stories.SLOTS])
    found: Array = floors[texts.slots[texts.there]] > 0
    return found
