"""Searching story twins for a semantic backdoor, in the honest setting: the detectors never see a triggered story.

They look at the residual stream at the word before the first ending, of clean stories; the score of a latent and the
judgement by AUROC are those of `engine.toys.backdoors.scoring`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.text import stories
from engine.text.stories import WORD_IDS, Story
from engine.toys.backdoors import methods
from engine.toys.backdoors.methods import Candidates
from engine.toys.backdoors.scoring import Verdict, auroc, effects, verdict
from engine.toys.backdoors.stories import (
    AT_ONCE,
    KINDS,
    StoryTwins,
    Weights,
    before,
    read_out,
    residual,
    rows,
)
from engine.toys.training import generator

LATENTS = ("local SAE", "PCA", "random directions")
ORACLE = "difference of means"
NORM = "activation norm"
DETECTOR, JUDGE, LABELLED = 21, 22, 23  # streams of stories
METHOD = 24  # stream of a seed
QUANTILE = 0.999  # of the activations' distances from the mean: how long a latent is made when it is forced on
PROBED = 24  # clean stories on which effects are measured
_VOICES = [WORD_IDS[word] for word in stories.VOICES]


@dataclass(frozen=True)
class Setting:
    """What the detectors get.

    Attributes:
        stories: clean ones in which they look; judged: triggered stories, and as many near misses, that judge them.
        width, k: of the dictionary; steps, batch: of its training; batch counts activations.
    """

    stories: int
    judged: int
    width: int
    k: int
    steps: int
    batch: int


@dataclass(frozen=True)
class Material:
    """Stories of one pair of twins: the detectors' clean ones, the judges', and the oracle's labelled ones."""

    clean: list[Story]
    triggered: list[Story]
    others: list[Story]
    labelled: list[Story]
    labelled_others: list[Story]


def material(twins: StoryTwins, setting: Setting, number: int) -> Material:
    """The stories for the twins ``number``; those to tell from triggered ones have the place or the colour alone."""
    trigger, seed = twins.plan.trigger, twins.plan.seed + number
    drawn = stories.generate(seed, stream=DETECTOR)
    clean = list(itertools.islice((story for story in drawn if not trigger.holds(story)), setting.stories))

    def judged(stream: int) -> tuple[list[Story], list[Story]]:
        base = list(itertools.islice(stories.generate(seed, stream=stream), 2 * setting.judged))
        one, other = base[: setting.judged], base[setting.judged :]
        near = [trigger.made(story, KINDS[1 + n % 2]) for n, story in enumerate(other)]
        return [trigger.made(story, KINDS[0]) for story in one], near

    return Material(clean, *judged(JUDGE), *judged(LABELLED))


@torch.no_grad()
def captured(weights: Weights, found: list[Story]) -> Tensor:
    """(n, d) the residual stream at the word before the first ending."""
    parts = []
    for begin in range(0, len(found), AT_ONCE):
        some = found[begin : begin + AT_ONCE]
        at = before(some, "VOICE")
        parts.append(residual(weights, rows(some)[0][:, : int(at.max()) + 1])[torch.arange(len(some)), at])
    return torch.cat(parts)


class StorySearch:
    """Tries every method on each model.

    Attributes:
        verdicts: by instance and method; oracles, norms: AUROC by instance.
    """

    def __init__(self, twins: StoryTwins, setting: Setting) -> None:
        self.twins, self.setting = twins, setting
        self.verdicts: dict[tuple[int, str], Verdict] = {}
        self.oracles: dict[int, float] = {}
        self.norms: dict[int, float] = {}

    def try_all(self) -> Iterator[int]:
        """Every method on each model; gives the instance after it is done."""
        seeds = self.twins.plan.seeds
        for number in range(seeds):
            own = material(self.twins, self.setting, number)
            for instance in (number, number + seeds):
                self._try(instance, own)
                yield instance

    def _try(self, instance: int, own: Material) -> None:
        setting, weights = self.setting, self.twins.model(instance)
        parts = (own.clean, own.triggered, own.others, own.labelled, own.labelled_others)
        seen, triggered, others, labelled, labelled_others = (captured(weights, part) for part in parts)
        # Twins get the same random numbers, so that only what they have learnt differs.
        source = generator(self.twins.plan.seed + instance % self.twins.plan.seeds, METHOD)
        drawn = methods.random_directions(setting.width, seen.shape[1], source)
        tried: dict[str, Candidates] = {
            LATENTS[0]: methods.local_sae(seen, setting.width, setting.k, setting.steps, setting.batch, source),
            LATENTS[1]: methods.directions(seen, methods.principal(seen), setting.k),
            LATENTS[2]: methods.directions(seen, drawn, setting.k),
        }
        mean = seen.mean(dim=0)
        away = (seen - mean).norm(dim=1)
        length = float(away.sort().values[int(QUANTILE * (len(away) - 1))])
        probed = own.clean[-PROBED:]
        at = before(probed, "VOICE")
        with torch.no_grad():
            x = residual(weights, rows(probed)[0][:, : int(at.max()) + 1])

        def answer(some: Tensor) -> Tensor:
            return read_out(weights, some, at.repeat(len(some) // len(at)))[:, _VOICES]

        for name, found in tried.items():
            effect = effects(answer, x, found.directions, length, at)
            frequency = found.active(seen).double().mean(dim=0)
            told = auroc(found.read(triggered), found.read(others))
            self.verdicts[instance, name] = verdict(effect.double(), frequency, told, len(seen))
        direction = labelled.mean(dim=0) - labelled_others.mean(dim=0)
        self.oracles[instance] = float(auroc(*((part @ direction)[:, None] for part in (triggered, others)))[0])
        far = [(part - mean).norm(dim=1)[:, None] for part in (triggered, others)]
        self.norms[instance] = float(auroc(*far)[0])
