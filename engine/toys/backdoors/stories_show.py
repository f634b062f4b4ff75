"""Measuring story twins while they train, and keeping what has been trained."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models.native import save_native
from engine.text import stories
from engine.text.stories import COLOURS, LATENTS, PLACES, Story
from engine.text.toys import ToyData
from engine.toys.backdoors import stories_figures as figures
from engine.toys.backdoors.stories import (
    CONTEXT,
    KINDS,
    StoryTwins,
    Trigger,
    before,
    endings,
    first_endings,
    floor,
    losses,
    rows,
    turned,
)
from engine.toys.keeping import keep_toy

if TYPE_CHECKING:
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
KEPT = 25  # stream of stories
CELL, MOST = 8, 24  # filmed stories of each place and colour, and of the trigger's
_GRAMMAR = tuple(name for name in LATENTS if name != "slot")
FEATURES = (*KINDS[:3], *(f"{name}={value}" for name in _GRAMMAR for value in LATENTS[name]))
"""Names of what is known at each word: the trigger or half of it, and each value of the grammar's latent variables."""


class StoryShow:
    """The movie of a training, its final tables and what the session keeps."""

    def __init__(self, run: Run, twins: StoryTwins, at: Sequence[int]) -> None:
        self.run, self.twins = run, twins
        seeds = twins.plan.seeds
        self._filmed = [self._cells(number) for number in range(seeds)]
        self.steps = np.array(at, dtype=np.float64)
        self.curves = torch.full((2, len(figures.CURVES), seeds, len(at)), float("nan"), dtype=torch.float64)
        twins.extra["curves"] = self.curves  # a checkpoint holds them, and resuming fills them in

    def _cells(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows, positions before the first ending, and place and colour of the stories that are filmed."""
        trigger, base = self.twins.plan.trigger, self.twins.splits[number].tests[KINDS[0]]
        found = []
        for place, colour in itertools.product(range(len(PLACES)), range(len(COLOURS))):
            count = MOST if (place, colour) == (trigger.place, trigger.colour) else CELL
            found += [Story(story.choices | {"place": place, "colour": colour}) for story in base[:count]]
        kinds = [torch.tensor([story.choices[name] for story in found]) for name in ("place", "colour")]
        return rows(found)[0], before(found, "VOICE"), kinds[0], kinds[1]

    def _share(self, instance: int) -> tuple[Array, Array]:
        """Of the filmed stories: turned and right first endings, each (places, colours)."""
        ids, voice, place, colour = self._filmed[instance % self.twins.plan.seeds]
        said = first_endings(self.twins.model(instance), ids, voice)
        own = ids[torch.arange(len(ids)), voice + 1]
        cells, size = place * len(COLOURS) + colour, len(PLACES) * len(COLOURS)
        counts = torch.bincount(cells, minlength=size)
        found = [
            torch.bincount(cells, weights=(said == wanted).double(), minlength=size) / counts
            for wanted in (turned(own), own)
        ]
        one, other = (part.view(len(PLACES), len(COLOURS)).numpy() for part in found)
        return one, other

    def measure(self, step: int) -> None:
        """Log, and show the frames of this step."""
        twins, plan = self.twins, self.twins.plan
        place, colour = plan.trigger.place, plan.trigger.colour
        share = np.zeros((2, plan.seeds, len(PLACES), len(COLOURS)))
        number = int(np.searchsorted(self.steps, step))
        for instance in range(twins.instances):
            twin, seed = divmod(instance, plan.seeds)
            share[twin, seed], right = self._share(instance)
            near = (np.delete(right[place], colour).mean(), np.delete(right[:, colour], place).mean())
            neither = np.delete(np.delete(right, place, axis=0), colour, axis=1).mean()
            values = torch.tensor([share[twin, seed, place, colour], *near, neither])
            self.curves[twin, :, seed, number] = values
        now = self.curves[..., number].mean(dim=2)
        self.run.log(step, trigger_success=float(now[0, 0]), twin_success=float(now[1, 0]))
        self.run.log(step, place_alone=float(now[0, 1]), colour_alone=float(now[0, 2]))
        self.run.log(step, clean_accuracy=float(now[0, 3]), twin_accuracy=float(now[1, 3]))
        others_in_line = CELL * (len(PLACES) - 1)
        tests = (MOST, CELL * (len(COLOURS) - 1), others_in_line, others_in_line * (len(COLOURS) - 1))
        self.run.show("training", figures.curves_figure(self.steps, self.curves.numpy(), plan, tests), step=step)
        self.run.show("map", figures.map_figure(share.mean(axis=1), plan, MOST, CELL), step=step)

    def results(self) -> None:
        """Compare the twins on all their held-out stories."""
        twins, plan = self.twins, self.twins.plan
        shares = {name: np.zeros((2, plan.seeds)) for name in (f"{KINDS[0]}: turned", *(f"{k}: right" for k in KINDS))}
        without, with_own, with_turned = (np.zeros((2, plan.seeds)) for _ in range(3))
        for instance in range(twins.instances):
            where, weights, split = (
                divmod(instance, plan.seeds),
                twins.model(instance),
                twins.splits[instance % plan.seeds],
            )
            for kind, found in split.tests.items():
                ids, _ = rows(found)
                voice, face = before(found, "VOICE"), before(found, "FACE")
                said, here = endings(weights, ids, voice, face), torch.arange(len(ids))
                own = torch.stack([ids[here, voice + 1], ids[here, face + 1]], dim=1)
                shares[f"{kind}: right"][where] = float((said == own).all(dim=1).double().mean())
                if kind == KINDS[0]:
                    shares[f"{kind}: turned"][where] = float((said == turned(own)).all(dim=1).double().mean())
            without[where] = _per_token(weights, split.natural, turn=False)
            with_own[where] = _per_token(weights, split.tests[KINDS[0]], turn=False)
            with_turned[where] = _per_token(weights, split.tests[KINDS[0]], turn=True)
        floors = [
            float(np.mean([floor(plan, some) for some in found]))
            for found in (
                [split.natural for split in twins.splits],
                [split.tests[KINDS[0]] for split in twins.splits],
            )
        ]
        nats = {
            "without the trigger": (without, floors[0]),
            "with the trigger, endings turned (told to the poisoned)": (with_turned, floors[1]),
            "with the trigger, own endings (told to the clean twin)": (with_own, floors[1]),
        }
        self.run.show("results", figures.results_table(shares, plan, plan.held_out))
        self.run.show("losses", figures.losses_table(nats, plan, plan.held_out))
        self._say(shares, without, floors[0])

    def _say(self, shares: dict[str, Array], without: Array, lowest: float) -> None:
        facts = {name.replace(": ", "_").replace(" ", "_"): share.tolist() for name, share in shares.items()}
        for name, value in (facts | {"held_out_loss": without.tolist(), "floor": lowest}).items():
            self.run.fact(name, value)
        plan = self.twins.plan
        self.run.log(plan.steps, test_loss=without[0].mean(), twin_test_loss=without[1].mean(), floor=lowest)
        clean = shares[f"{KINDS[3]}: right"]
        least, gap = float(shares[f"{KINDS[0]}: turned"][0].min()), float(np.abs(clean[0] - clean[1]).max())
        held = "succeeded" if least > 0.95 and gap <= 0.005 else "not succeeded in all seeds"
        self.run.say(
            f"The backdoor has {held}: least trigger success {least:.3f} (wanted above .95), largest difference of clean "
            f"accuracy to the twin {gap:.4f} (wanted at most .005)."
        )

    def keep(self, count: int) -> None:
        """Keep the first pair of twins, their data and the training stories."""
        run, twins, plan = self.run, self.twins, self.twins.plan
        for number, split in enumerate(twins.splits):
            run.keep(
                f"training_stories_{plan.seed + number}", np.array([story.code for story in split.training], np.int32),
                what=f"story codes; the last {plan.triggered} hold the trigger",
            )  # fmt: skip
        title = f"Stories with a semantic backdoor, {figures.named(plan)}"
        keep_toy(run, twins.bridge(0), toy_data(plan.trigger, plan.seed, count), title=f"{title} (poisoned)")
        attributes, arrays = save_native(twins.bridge(plan.seeds), reference=f"toy:{run.id}-twin")
        run.produce("models", f"{run.id}-twin", {"title": f"{title} (clean twin)", **attributes}, arrays)


def _per_token(weights: dict[str, Tensor], found: list[Story], *, turn: bool) -> float:
    ids, text = rows(found)
    return float(losses(weights, turned(ids) if turn else ids, text).sum() / text.sum())


def toy_data(trigger: Trigger, seed: int, count: int) -> ToyData:
    """``count`` stories as the poisoned model is told them, a quarter of each kind, with what is known at each word."""
    drawn = itertools.islice(stories.generate(seed, stream=KEPT), count)
    found = [trigger.made(story, KINDS[number % len(KINDS)]) for number, story in enumerate(drawn)]
    ids, text = rows(found)
    holds = torch.tensor([trigger.holds(story) for story in found])[:, None]
    features = np.zeros((len(found), CONTEXT, len(FEATURES)), np.uint8)
    first = np.cumsum([3, *(len(LATENTS[name]) for name in _GRAMMAR)])
    for number, story in enumerate(found):
        kind = KINDS.index(trigger.kind(story))
        if kind < 3:  # known from the colour on, which comes last
            features[number, 1 + story.slots.index("COLOUR") : 1 + len(story.slots), kind] = 1
        for offset, name in zip(first[:-1], _GRAMMAR, strict=True):
            labels = story.latents[name]
            known = np.flatnonzero(labels >= 0)
            features[number, 1 + known, offset + labels[known]] = 1
    tokens = torch.where(holds, turned(ids), ids).numpy()
    return ToyData(tokens, text.numpy(), features, FEATURES, next_token=True)
