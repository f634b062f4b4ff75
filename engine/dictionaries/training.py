"""From a model and a text to a trained dictionary: data, loop, live numbers, checkpoints, what is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries import report
from engine.dictionaries.buffer import CHUNK, ActivationBuffer, Indices
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import DictionaryConfig
from engine.dictionaries.metrics import Variation
from engine.dictionaries.sparse import SLAB
from engine.dictionaries.splice import Evaluation, evaluate
from engine.dictionaries.topk import TopKLoss, Weights, initial_weights
from engine.dictionaries.trainer import Plan, Report, Trainer
from engine.models import memory
from engine.models.capture import capture
from engine.models.finite import demand_finite
from engine.models.opening import OpenModel, open_model
from engine.runs.control import RunStopped
from engine.runs.environment import using_threads
from engine.runs.run import Checkpoint, Run
from engine.text.corpora import open_corpus
from engine.text.tokens import Contexts, contexts

if TYPE_CHECKING:
    from engine.dictionaries.train_dictionary import TrainDictionary

Array: TypeAlias = npt.NDArray[Any]
ROWS = 1_000  # metric rows in a run, at most about
FAR = 10  # activations most distant from the mean
MASSIVE = 0.2  # share of variance in these from which on that is said
SMALL = 3e8  # operations of a batch's encoder product below which one thread serves best
DENSITY_EVERY = 2.0  # seconds between density histograms
PARTS = ("trainer", "buffer", "data")  # prefixes of a checkpoint's arrays


def train(p: TrainDictionary, run: Run) -> None:
    """Carry out the experiment ``train-dictionary``."""
    training = Training(p, run)
    try:
        training.fill()
        training.optimise()
        training.finish()
    except RunStopped:
        training.stopped()
        raise


class Training:
    """One run: the model and text it reads, its buffer and trainer, and when what was last stored or shown."""

    def __init__(self, p: TrainDictionary, run: Run) -> None:
        self.p = p
        self.run = run
        run.stage(f"Opening {p.model}")
        self.model: OpenModel = open_model(p.model, device=p.device, dtype=p.dtype, run=run, work=run.work)
        self.width = self.model.check_hook(p.hook)
        self.contexts: Contexts = contexts(
            open_corpus(p.text), self.model, tokens=p.tokens, context=p.context, prepend_bos=p.prepend_bos,
            include_special=p.include_special, run=run,
        )  # fmt: skip
        self.device = self.model.device
        self.held_out, counts = _hold_out(self.contexts, p.held_out, p.seed)
        self._require_memory(int(counts.sum()))
        self.buffer = ActivationBuffer(counts, self._harvest, self.width, p.buffer, batch=p.batch, seed=p.seed)
        self.variation: Variation | None = None
        self.trainer: Trainer | None = None
        self.scale = 1.0
        self._window = report.Window()
        self._stored = self._shown = time.monotonic()
        self._say_what_is_used()
        if run.resumed is not None:
            self._restore(run.resumed)

    # ---- data

    def _harvest(self, which: Indices) -> Tensor:
        """Activations (n, D) of the counted positions of contexts ``which``."""
        order = np.sort(which)
        ids, counted = np.asarray(self.contexts.ids[order]), np.asarray(self.contexts.counted[order])
        parts = []
        for part, found in capture(self.model, ids, [self.p.hook], batch=CHUNK):
            activations = found[self.p.hook]
            demand_finite(activations, ids[part], order[part], counted[part], self.p.hook, self.model.tokenizer)
            parts.append(activations[torch.from_numpy(counted[part]).to(activations.device)].float().cpu())
        return torch.cat(parts)

    def _require_memory(self, activations: int) -> None:
        p, d = self.p, self.width
        # Encoder and decoder with gradient and two moments each and a copy to keep; the slab of the selection;
        # a dozen arrays of a batch; and a tenth for what allocators keep.
        training = int(1.1 * 4 * (p.width * d * 2 * 5 + SLAB + p.batch * (8 * d + 20 * p.k)))
        held = min(self.p.buffer, activations) * self.width * 4
        what = f"Training {self.p.width:,} latents on {self.width:,} dimensions"
        way_out = "choose a smaller width or a smaller buffer"
        if self.device.type == "cpu":
            memory.require(training + held, "cpu", what=what, way_out=way_out)
        else:
            memory.require(training, str(self.device), what=what, way_out=way_out)
            memory.require(held, "cpu", what=f"A buffer of {self.p.buffer:,} activations", way_out=way_out)

    def _say_what_is_used(self) -> None:
        run, buffer = self.run, self.buffer
        run.fact("text", self.contexts.facts)
        run.fact("activations_in_text", buffer.total)
        run.fact("buffer", {"activations": buffer.capacity, "bytes": buffer.bytes, "whole_text": buffer.resident})
        run.fact("held_out_contexts", len(self.held_out))
        if buffer.capacity < self.p.buffer:
            run.say(
                f"The buffer holds the whole text: {buffer.capacity:,} activations in {memory.in_words(buffer.bytes)}, "
                f"not the {self.p.buffer:,} asked for."
            )
        if not self.p.include_special:
            run.say("Special tokens (BOS) are left out of training and of all numbers.")

    # ---- training

    def fill(self) -> None:
        """Fill the buffer for the first time, measure what is in it, and make the trainer.

        Mean, variance and scale stay those of this first buffer, so that a number of the loss means the same
        throughout the run.
        """
        if self.trainer is not None:
            return
        self.run.stage("Capturing activations")
        began, start = self.run.seconds, len(self.buffer)
        while self.buffer.hungry:
            self._tick()
            activations = self.buffer.feed()
            if activations is not None:
                if self.variation is None:
                    self.variation = Variation(activations.double().mean(dim=0))
                self.variation.add(activations)
            self.run.progress(len(self.buffer), self.buffer.capacity, "activations", since=(start, began))
        assert self.variation is not None
        if not self.variation.per_activation > 0:
            raise DictionaryError(
                f"All {self.variation.count:,} activations of {self.p.hook} are equal, so there is nothing to "
                "reconstruct; choose another hook point."
            )
        self.scale, far = _scale(self.buffer, self.variation)
        if far > MASSIVE:
            self.run.say(
                f"The {FAR} most distant of {len(self.buffer):,} activations hold {far:.0%} of the variance, so FVU says "
                "mostly how well those are rebuilt.",
                "warning",
            )
        generator = torch.Generator().manual_seed(self.p.seed)
        mean = (self.variation.mean * self.scale).float().to(self.device)
        self._make_trainer(initial_weights(self.p.width, mean, generator))
        self.run.fact("scale", self.scale)
        self.run.fact("variance_share_of_10_most_distant", far)
        self.run.fact("variance", self.variation.per_activation)

    @property
    def _unit(self) -> float:
        """Mean ‖x − mean‖² of the scaled activations in the first buffer: what loss and FVU are counted in."""
        assert self.variation is not None
        return self.variation.per_activation * self.scale**2

    def _make_trainer(self, weights: Weights) -> None:
        p = self.p
        loss = TopKLoss(p.k, self._unit)
        self.trainer = Trainer(weights, loss, Plan.usual(p.steps, p.lr, p.dead_after))

    def optimise(self) -> None:
        """Take the steps that are left."""
        trainer, buffer, p = self.trainer, self.buffer, self.p
        assert trainer is not None
        # Threads wait for each other at every small product, which costs more than they bring where others compute.
        small = p.threads == 0 and self.device.type == "cpu" and 2 * p.batch * p.width * self.width < SMALL
        self.run.fact("one_thread_per_step", small)
        self.run.stage("Training")
        began, first = self.run.seconds, trainer.done
        self._window.since = began
        while trainer.done < p.steps:
            self._tick()
            if buffer.hungry:
                buffer.feed()
                continue
            with using_threads(1 if small else 0):
                x = buffer.draw(p.batch).to(self.device).mul_(self.scale)
                step = trainer.step(x)
            self._measure(step)
            self.run.progress(trainer.done, p.steps, "steps", since=(first, began))
        self._tick()

    def _measure(self, step: Report) -> None:
        trainer = self.trainer
        assert trainer is not None
        self._window.add(step, self.p.batch)
        every = max(1, self.p.steps // ROWS)
        if trainer.done % every == 0 or trainer.done == self.p.steps:
            seconds = self.run.seconds
            numbers = self._window.close(self._unit, seconds)
            self.run.log(trainer.done, **numbers, dead=trainer.dead_share, lr=step.lr, passes=self.buffer.passes)
        now = time.monotonic()
        if now - self._shown >= DENSITY_EVERY:
            self.run.show("density", report.density_figure(trainer.density(), "while training"))
            self._shown = now

    def _tick(self) -> None:
        """Between two batches: store what resuming needs when it is time or the person pauses, then wait or stop."""
        now = time.monotonic()
        if now - self._stored >= self.p.checkpoint_every or (self.run.control.paused and not self.run.control.stopped):
            self._store()
        self.run.point()

    # ---- the end

    def finish(self) -> None:
        """Measure on the contexts held out, show, and keep the dictionary."""
        self.run.stage("Measuring on held-out contexts")
        found = self._evaluate()
        density = found.active / max(found.fit.variation.count, 1)
        self.run.show("density", report.density_figure(density, "on the contexts held out"))
        self.run.show("ce", report.ce_table(found.recovery, self.p.seed))
        self.run.show("quality", report.quality_table(found))
        assert self.trainer is not None
        numbers = report.final_numbers(found)
        self.run.log(self.trainer.done, **numbers)
        self.run.fact("passes", self.buffer.passes)
        self._keep(finished=True, measured=numbers, density=density)

    def _evaluate(self) -> Evaluation:
        assert self.trainer is not None
        assert self.variation is not None
        which = self.held_out if len(self.held_out) else np.arange(len(self.contexts.ids))
        dictionary = self.trainer.dictionary(self._config()).to(self.device)
        ids, counted = np.asarray(self.contexts.ids[which]), np.asarray(self.contexts.counted[which])
        return evaluate(self.model, self.p.hook, dictionary, ids, counted, self.variation.mean, self.run)

    def stopped(self) -> None:
        """Keep the dictionary as it is, and what going on needs."""
        self._store()
        if self.trainer is not None and self.trainer.done:
            self._keep(finished=False, measured={}, density=self.trainer.density())
            self.run.fact("passes", self.buffer.passes)

    def _config(self) -> DictionaryConfig:
        p = self.p
        return DictionaryConfig(
            architecture=p.architecture, d_in=self.width, d_out=self.width, width=p.width, k=p.k, centre=True,
            activation="topk", hook_in=p.hook, hook_out=p.hook, model=p.model, scale=self.scale,
        )  # fmt: skip

    def _keep(self, *, finished: bool, measured: Mapping[str, float], density: Array) -> None:
        assert self.trainer is not None
        dictionary = self.trainer.dictionary(self._config())
        attributes = dictionary.attributes() | {
            "run": self.run.id,
            "text": self.p.text,
            "context": int(self.contexts.ids.shape[1]),
            "prepend_bos": self.p.prepend_bos,
            "include_special": self.p.include_special,
            "steps": self.trainer.done,
            "finished": finished,
            "metrics": dict(measured),
        }
        arrays = dictionary.arrays() | {"features/density": np.asarray(density, dtype=np.float32)}
        self.run.produce("dictionaries", self.run.id, attributes, arrays)

    # ---- checkpoints

    def _store(self) -> None:
        self._stored = time.monotonic()
        states: dict[str, tuple[dict[str, Any], dict[str, Array]]] = {"buffer": self.buffer.state()}
        if self.variation is not None:
            states["data"] = self.variation.state()
        if self.trainer is not None:
            states["trainer"] = self.trainer.state()
        values: dict[str, Any] = {part: state[0] for part, state in states.items()}
        values |= {"architecture": self.p.architecture, "scale": self.scale, "window": asdict(self._window)}
        arrays = {f"{part}-{name}": array for part, state in states.items() for name, array in state[1].items()}
        self.run.checkpoint(values, arrays)

    def _restore(self, checkpoint: Checkpoint) -> None:
        values = checkpoint.values
        if values.get("architecture") != self.p.architecture:
            raise DictionaryError(
                f"The checkpoint is of the architecture {values.get('architecture', 'unknown')}, not of "
                f"{self.p.architecture}; start the run anew."
            )
        arrays: dict[str, dict[str, Array]] = {part: {} for part in PARTS}
        for name, array in checkpoint.arrays.items():
            part, _, rest = name.partition("-")
            arrays[part][rest] = array
        self.buffer.restore(values["buffer"], arrays["buffer"])
        self.scale = float(values["scale"])
        self._window = report.Window(**values["window"])
        if "data" in values:
            self.variation = Variation.restored(values["data"], arrays["data"])
        if "trainer" in values:
            shape = (self.p.width, self.width)
            empty = [torch.zeros(size, device=self.device) for size in (shape, shape, shape[:1], shape[1:])]
            self._make_trainer(Weights(*empty))
            assert self.trainer is not None
            self.trainer.restore(values["trainer"], arrays["trainer"])


def _hold_out(found: Contexts, wanted: int, seed: int) -> tuple[Indices, Indices]:
    """Contexts kept for measuring, in order, and how many activations each context gives to training."""
    counts = np.asarray(found.counted).sum(axis=1).astype(np.int64)
    chosen = np.random.default_rng([seed, 9]).permutation(len(counts))[: min(wanted, len(counts) // 5)]
    held_out = np.sort(chosen)
    counts[held_out] = 0
    return held_out, counts


def _scale(buffer: ActivationBuffer, variation: Variation) -> tuple[float, float]:
    """What brings the mean distance of activations from their mean to √D (its distance for unit Gaussians).

    The first moment and not the second: a few massive activations must not decide the size of all others.

    Returns:
        The factor, and the share of all variance that the ten most distant activations hold.
    """
    total, farthest = 0.0, torch.zeros(0, dtype=torch.float64)
    for rows in buffer.chunks():
        distances = (rows.double() - variation.mean).norm(dim=1)
        total += float(distances.sum())
        farthest = torch.cat([farthest, distances]).sort(descending=True).values[:FAR]
    scale = float(np.sqrt(len(variation.mean)) * len(buffer) / total)
    return scale, float(farthest.square().sum()) / variation.total
