"""What a run of modular addition shows: while it trains, and of its checkpoints once their key frequencies are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.toys import fourier
from engine.toys.modular import analysis as modular_analysis
from engine.toys.modular import figures as modular_figures
from engine.toys.modular.keeping import keep_network
from engine.toys.modular.network import over_pairs, unpack
from engine.toys.modular.repair import ablations, clusters
from engine.toys.modular.robustness import RADII, Robustness, robustness
from engine.toys.modular.training import COLUMNS, ModularTrainer

if TYPE_CHECKING:
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
CONTROL = 5  # stream of the seed that shuffles numbers
ATTACKED = 1_000  # pairs of each part at most
FORMED = 0.1  # share of log p below which the restricted loss says that the circuit is there
GROUPS = {
    "embeddings": ("embed", "pos"),
    "attention": ("q", "k", "v", "o"),
    "MLP": ("in", "b_in", "out", "b_out"),
    "unembedding": ("unembed",),
}


class Report:
    """The figures and facts of one run; `measure` is called at every step of ``trainer.at``, `finish` at the end."""

    def __init__(self, trainer: ModularTrainer, seed: int, run: Run) -> None:
        self.trainer, self.seed, self.run = trainer, seed, run
        self.shape = trainer.plan.shape
        self.part = trainer.splits[0]

    def describe(self) -> None:
        """Keep the split and say how large everything is."""
        run, part = self.run, self.part
        run.fact("parameters", self.shape.parameters)
        run.fact("training_pairs", len(part.train))
        run.fact("test_pairs", len(part.test))
        run.fact("wrong_labels", int(part.wrong.sum()))
        run.keep("training_pairs", part.train.numpy().astype(np.int32), what="pairs (a, b) as a·p + b")
        run.keep("training_labels", part.labels.numpy().astype(np.int32), what="labels trained on, in the same order")

    def measure(self, step: int) -> None:
        """Log what is measured at ``step``; at a frame show the curves and the spectrum."""
        found = self.trainer.measure(step)
        logged = ("test_loss", "train_accuracy", "test_accuracy", "weight_norm")
        self.run.log(step, **{name: float(found[name][0]) for name in logged})
        if step in self.trainer.frames:
            self._curves()
            self._spectrum(step)

    def _curves(self) -> None:
        of = {name: self.trainer.curve(name)[:, 0] for name in COLUMNS}
        steps, part = np.array(self.trainer.at), self.part
        sizes = (len(part.train), int(part.wrong.sum()), len(part.test))
        self.run.show("accuracy", modular_figures.accuracy(steps, of, self.shape.p, sizes))
        self.run.show("loss", modular_figures.losses(steps, of, self.shape.p))

    def _spectrum(self, step: int) -> None:
        theta = self.trainer.theta[0].detach()
        embedding = modular_analysis.embedding(self.shape, theta)
        unembedding = unpack(self.shape, theta[None])["unembed"][0].T.double().numpy()
        control = fourier.shuffled_shares(embedding, np.random.default_rng([self.seed, CONTROL]))
        figure = modular_figures.spectrum(fourier.shares(embedding), fourier.shares(unembedding), control)
        self.run.show("spectrum", figure, step=step)

    def finish(self) -> None:
        """Look into every checkpoint with the key frequencies of the last one, and keep the network."""
        self._curves()
        logits = self._passed(len(self.trainer.frames) - 1)[1]
        keys = modular_analysis.key_frequencies(modular_analysis.logit_shares(logits))
        run = self.run
        run.fact("key_frequencies", keys)
        run.keep("key_frequencies", np.array(keys, np.int32), what="periods per p, largest logit share first")
        measures = self._movies(keys)
        self._phases(measures, keys)
        self._tables(keys)
        accuracy = float(self.trainer.curve("test_accuracy")[-1, 0])
        theta = self.trainer.theta[0].detach()
        keep_network(run, self.shape, theta, key_frequencies=keys, test_accuracy=accuracy)

    def _passed(self, number: int) -> tuple[Array, Tensor]:
        """Neurons and logits of all pairs at frame ``number``."""
        with torch.no_grad():
            passed = over_pairs(self.shape, self.trainer.snapshots[number][None])
        return passed.hidden[0].numpy(), passed.logits[0]

    def _movies(self, keys: list[int]) -> dict[str, Array]:
        run, frames = self.run, self.trainer.frames
        last_hidden, last_logits = self._passed(len(frames) - 1)
        matrix = modular_analysis.correct_logits(last_logits)
        levels = (float(np.nanmin(matrix)), float(np.nanmax(matrix)))
        final = modular_analysis.embedding(self.shape, self.trainer.snapshots[-1])
        planes = [(k, fourier.plane(final, k)) for k in keys[: modular_figures.CIRCLES]]
        chosen = _purest(last_hidden, keys)
        spectra, norms, measures = [], [], []
        run.stage("Looking into the checkpoints")
        for number, step in run.track(list(enumerate(frames)), unit="checkpoints"):
            hidden, logits = self._passed(number)
            theta = self.trainer.snapshots[number]
            embedding = modular_analysis.embedding(self.shape, theta)
            run.show("circles", modular_figures.circles(embedding, planes), step=step)
            matrix = modular_analysis.correct_logits(logits)
            run.show("sum and difference", modular_figures.sums_and_differences(matrix, levels), step=step)
            run.show("neurons", modular_figures.neurons(hidden, chosen, last_hidden.max(0)), step=step)
            spectra.append(fourier.shares(embedding))
            weights = unpack(self.shape, theta[None])
            norms.append([sum(float(weights[n].double().square().sum()) for n in group) for group in GROUPS.values()])
            found = modular_analysis.progress(logits, self.part, keys)
            train = modular_analysis.loss(logits, self.part.train, self.part.labels)
            measures.append((train, found.test, found.restricted, found.excluded))
        steps = np.array(frames)
        rows = dict(zip(("train", "test", "restricted test", "excluded train"), np.array(measures).T, strict=True))
        by_group = dict(zip(GROUPS, np.array(norms).T, strict=True))
        run.show("spectrum over steps", modular_figures.spectrum_over_steps(frames, np.array(spectra)))
        run.show("progress measures", modular_figures.progress(steps, rows, self.shape.p, keys))
        run.show("weight norm", modular_figures.weight_norms(steps, {**by_group, "all": np.sum(norms, axis=1)}))
        return {**rows, "weight norm": np.sum(norms, axis=1)}

    def _phases(self, measures: dict[str, Array], keys: list[int]) -> None:
        run, trainer = self.run, self.trainer
        frames = np.array(trainer.frames)
        (memorised,), (grokked,) = trainer.passed("train_accuracy"), trainer.passed("test_accuracy")
        formed = None
        if memorised is not None:
            there = (measures["restricted test"] < FORMED * np.log(self.shape.p)) & (frames >= memorised)
            formed = int(frames[there.argmax()]) if there.any() else None
        rows, before = [], 0
        ends = (("memorise", memorised), ("form the circuit", formed), ("clean up", grokked))
        accuracies = {name: trainer.curve(name)[:, 0] for name in ("train_accuracy", "test_accuracy")}
        for name, end in ends:
            at = frames[-1] if end is None else end
            frame, row = int(np.abs(frames - at).argmin()), trainer.at.index(int(at))
            rows.append(
                (name, before, "not reached" if end is None else f"{end:,}", accuracies["train_accuracy"][row],
                 accuracies["test_accuracy"][row], measures["restricted test"][frame], measures["excluded train"][frame],
                 measures["weight norm"][frame])
            )  # fmt: skip
            if end is None:
                break
            before = end
        run.show("phases", modular_figures.phases(rows, keys))
        run.fact("memorised_at", memorised)
        run.fact("circuit_formed_at", formed)
        run.fact("grokked_at", grokked)
        if grokked is None:
            run.say(
                f"It has not grokked in {trainer.step:,} steps: test accuracy is {accuracies['test_accuracy'][-1]:.3f}."
            )
        else:
            run.log(trainer.step, grokked_at=grokked)
            run.say(f"It grokked at step {grokked:,} and knew the training pairs by heart at {memorised or grokked:,}.")

    def _tables(self, keys: list[int]) -> None:
        self.run.stage("Telling how it adds")
        trainer = self.trainer
        frames = np.array(trainer.frames)
        (memorised,) = trainer.passed("train_accuracy")
        # The checkpoint after memorising: the last one at which nothing but the training pairs was known.
        middle = int(np.searchsorted(frames, memorised)) if memorised is not None else len(frames) // 2
        named = {"untrained": 0, "memorised" if memorised is not None else "halfway": middle, "last": len(frames) - 1}
        found, moved = {}, {}
        for name, number in named.items():
            theta = trainer.snapshots[number]
            label = f"{name} (step {trainer.frames[number]:,})"
            found[label] = modular_analysis.mechanism(self.shape, theta, self.part, keys, self.seed)
            for part, rows in (("train", self.part.train), ("test", self.part.test)):
                self.run.point()
                moved[f"{name}, {part}"] = robustness(self.shape, theta, rows[:ATTACKED], self.seed)
        hidden = torch.from_numpy(self._passed(len(frames) - 1)[0])
        groups = clusters(hidden, keys, np.random.default_rng([self.seed, CONTROL]))
        known = {name: number for name, number in named.items() if name != "untrained"}
        parts = {name: ablations(self.shape, trainer.snapshots[n], groups, self.part) for name, n in known.items()}
        self.run.show("parts", modular_figures.ablation_table(parts))
        self.run.show("frequencies", modular_figures.frequency_table(found, keys))
        self.run.show("algorithm", modular_figures.algorithm_table(found, keys, modular_analysis.TRIPLES))
        self._robustness(moved)

    def _robustness(self, moved: dict[str, Robustness]) -> None:
        trained = {name: one for name, one in moved.items() if not name.startswith("untrained")}
        self.run.show("robustness", modular_figures.robustness(RADII, trained, ATTACKED))
        self.run.show("margins", modular_figures.margin_table(moved, RADII))


def _purest(hidden: Array, keys: list[int]) -> list[tuple[int, int]]:
    """(neuron, k): the neuron that is purest in each key frequency, and more of the first ones up to `PICTURES`."""
    frequency, share = modular_analysis.neuron_frequencies(torch.from_numpy(hidden))
    ranked = np.nan_to_num(share, nan=-1.0)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < min(modular_figures.PICTURES, len(share)):
        k = keys[len(chosen) % len(keys)]
        neuron = int(np.where(frequency == k, ranked, ranked - 2).argmax())
        chosen.append((neuron, k if frequency[neuron] == k else int(frequency[neuron])))
        ranked[neuron] = -9.0
    return chosen
