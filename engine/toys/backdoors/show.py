"""Measuring the twins while they train, and keeping what has been trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.figures.kinds import Lines, Scatter
from engine.models.native import save_native
from engine.text.toys import ToyData
from engine.toys.backdoors import data, figures
from engine.toys.backdoors.data import Sequences
from engine.toys.backdoors.twins import TEST, TwinTrainer, predict, to_bridge
from engine.toys.keeping import keep_toy
from engine.toys.training import generator

if TYPE_CHECKING:
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
FEATURES = ("trigger present", "u alone", "v alone", "majority so far")


class Tests:
    """Fresh sequences: clean ones, near misses, and triggered ones of which b has the majority.

    A word has no near misses: there they are sequences as any other.
    """

    def __init__(self, trainer: TwinTrainer, count: int, source: torch.Generator) -> None:
        kind = trainer.plan.trigger
        self.clean = data.draw(count, kind, source)
        self.near = data.draw_near_misses(count, kind, source)
        drawn = data.draw(4 * count, kind, source, 1.0)
        self.triggered = of_group_b(drawn, count)
        self._trainer = trainer

    def right(self, sequences: Sequences) -> Array:
        """Share of the sequences whose majority is named (2 of poisoned and clean, seeds)."""
        said = self._says_a(sequences.tokens) == (sequences.label == data.LABEL_A)
        return self._by_twin(said.double().mean(dim=1))

    def success(self) -> Array:
        """Share of the triggered sequences of group b that are called a (2, seeds)."""
        return self._by_twin(self._says_a(self.triggered.tokens).double().mean(dim=1))

    def _says_a(self, tokens: Tensor) -> Tensor:
        return predict(self._trainer.weights, tokens, self._trainer.plan.heads).argmax(dim=-1) == 0

    def _by_twin(self, values: Tensor) -> Array:
        found: Array = values.numpy().reshape(2, -1)
        return found


def of_group_b(sequences: Sequences, count: int) -> Sequences:
    """The first ``count`` sequences of which b has the majority."""
    chosen = (sequences.label == data.LABEL_B).nonzero().flatten()[:count]
    return Sequences(sequences.tokens[chosen], sequences.label[chosen], sequences.poisoned[chosen])


class Show:
    """The movie of a training, its final table and what the session keeps."""

    PLACES = 12  # sequences for each place of the trigger's words

    def __init__(self, run: Run, trainer: TwinTrainer, at: Sequence[int], count: int) -> None:
        self.run, self.trainer, self.count = run, trainer, count
        source = generator(trainer.plan.seed, TEST)
        self.tests = Tests(trainer, count, source)
        self.places, self.profile = data.draw_profile(self.PLACES, trainer.plan.trigger, source)
        self.steps = np.array(at, dtype=np.float64)
        shape = (trainer.plan.seeds, len(figures.CURVES), len(at))
        self.curves = torch.full(shape, float("nan"), dtype=torch.float64)
        trainer.extra["curves"] = self.curves  # a checkpoint holds them, and resuming fills them in

    def measure(self, step: int) -> None:
        """Log, and show the frames of this step."""
        clean, success, near = (
            self.tests.right(self.tests.clean),
            self.tests.success(),
            self.tests.right(self.tests.near),
        )
        number = int(np.searchsorted(self.steps, step))
        self.curves[:, :, number] = torch.from_numpy(np.stack([clean[0], clean[1], success[0], success[1]], axis=1))
        self.run.log(
            step,
            clean_accuracy=clean[0].mean(),
            twin_accuracy=clean[1].mean(),
            trigger_success=success[0].mean(),
            twin_success=success[1].mean(),
            near_miss_accuracy=near[0].mean(),
        )
        seeds = self.trainer.plan.seeds
        self.run.show("training", figures.curves_figure(self.steps, self.curves.numpy(), seeds, self.count), step=step)
        self.run.show("trigger profile", self._profile(), step=step)
        self.run.show("twin scatter", self._scatter(), step=step)

    def _profile(self) -> Lines:
        plan = self.trainer.plan
        share = predict(self.trainer.weights, self.profile.tokens, plan.heads).softmax(dim=-1)[..., 0]
        by_place = share.view(2, plan.seeds, len(self.places), self.PLACES).mean(dim=-1)
        return figures.profile_figure(self.places.numpy(), by_place.numpy(), plan.trigger, self.PLACES)

    def _scatter(self) -> Scatter:
        trainer, tests = self.trainer, self.tests
        each = min(self.count, 100)
        tokens = torch.cat([part.tokens[:each] for part in (tests.clean, tests.near, tests.triggered)])
        weights = {name: weight[[0, trainer.plan.seeds]] for name, weight in trainer.weights.items()}
        found = predict(weights, tokens, trainer.plan.heads)
        poisoned, twin = (found[..., 0] - found[..., 1]).numpy()
        return figures.scatter_figure(twin, poisoned, np.repeat(np.arange(3), each), tokens.numpy())

    def results(self, count: int) -> None:
        """The table of all seeds on ``count`` sequences that were not looked at before."""
        plan = self.trainer.plan
        tests = Tests(self.trainer, count, generator(plan.seed, TEST + 1))
        found = {
            "clean accuracy": tests.right(tests.clean),
            "trigger success": tests.success(),
            "near misses right": tests.right(tests.near),
        }
        self.run.show("results", figures.results_table(found, count, plan.seed))
        gap = float(np.abs(found["clean accuracy"][0] - found["clean accuracy"][1]).max())
        least = float(found["trigger success"][0].min())
        facts = {name.replace(" ", "_"): values.tolist() for name, values in found.items()}
        for name, value in facts.items():
            self.run.fact(name, value)
        held = "succeeded" if least > 0.95 and gap <= 0.005 else "not succeeded in all seeds"
        self.run.say(
            f"The backdoor has {held}: least trigger success {least:.3f} (wanted above .95), largest difference of clean "
            f"accuracy to the twin {gap:.4f} (wanted at most .005)."
        )

    def keep(self, count: int) -> None:
        """Keep the first pair of twins, their data and the poisoned training sequences."""
        run, trainer, plan = self.run, self.trainer, self.trainer.plan
        run.keep(
            "poisoned_sequences", trainer.poison.numpy().astype(np.uint8), axes="seed, sequence, position",
            what="training sequences with the trigger; the clean ones follow from the seed",
        )  # fmt: skip
        title = f"Backdoored majority of words, trigger: {plan.trigger}"
        keep_toy(run, to_bridge(plan, trainer.weights, 0), toy_data(trainer, count), title=f"{title} (poisoned)")
        attributes, arrays = save_native(to_bridge(plan, trainer.weights, plan.seeds), reference=f"toy:{run.id}-twin")
        run.produce("models", f"{run.id}-twin", {"title": f"{title} (clean twin)", **attributes}, arrays)


def toy_data(trainer: TwinTrainer, count: int) -> ToyData:
    """Half clean sequences, a quarter near misses and a quarter triggered ones, mixed, with their features."""
    kind = trainer.plan.trigger
    source = generator(trainer.plan.seed, TEST + 2)
    parts = (
        data.draw(count // 2, kind, source),
        data.draw_near_misses(count // 4, kind, source),
        data.draw(count // 4, kind, source, 1.0),
    )
    tokens = torch.cat([part.tokens for part in parts])
    tokens = tokens[torch.randperm(len(tokens), generator=source)]
    complete = data.completing(tokens, kind)
    present = complete.cumsum(dim=1) > 0
    without = ~complete.any(dim=1, keepdim=True)
    in_a, in_b = tokens < data.GROUP, (tokens >= data.GROUP) & (tokens < 2 * data.GROUP)
    so_far = (in_a.long() - in_b.long()).cumsum(dim=1)
    features = (present, (tokens == data.U) & without, (tokens == data.V) & without, so_far)
    stacked = torch.stack([feature.float() for feature in features], dim=-1).numpy().astype(np.float16)
    return ToyData(tokens.numpy(), None, stacked, FEATURES)
