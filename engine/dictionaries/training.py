"""Carry out ``train-dictionary``: capture, train, show, measure, store what resuming needs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries import planted, report
from engine.dictionaries.architectures import make
from engine.dictionaries.buffer import Buffer
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.first_look import FirstLook, look
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.material import Material, open_material
from engine.dictionaries.quality import Quality
from engine.dictionaries.requirements import requirements
from engine.dictionaries.splice import Probe
from engine.dictionaries.trainer import Plan, Report, Trainer
from engine.dictionaries.training_parameters import WITH_K
from engine.models import memory
from engine.runs.control import RunStopped
from engine.runs.environment import using_threads
from engine.runs.run import Checkpoint, Run

if TYPE_CHECKING:
    from engine.dictionaries.train_dictionary import TrainDictionary

Array: TypeAlias = npt.NDArray[Any]
ROWS = 1_000  # metric rows in a run, at most about
COLUMNS = 100  # stretches of the run whose activation densities are shown, at most about
SMALL = 3e8  # operations of a batch's encoder product below which one thread serves best
WARM_UP = 1_000  # steps of warm-up at most
CALIBRATION = 4  # chunks of held activations, a few thousand each, on which a threshold is estimated at the end
FIGURES_EVERY = 2.0  # seconds between figures
PARTS = ("trainer", "buffer", "first", "density")  # prefixes of a checkpoint's arrays
clock = time.monotonic


def train(p: TrainDictionary, run: Run) -> None:
    """Carry out the experiment ``train-dictionary``."""
    training = Training(p, run)
    with training.buffer:
        try:
            training.begin()
            training.optimise()
            training.finish()
        except RunStopped:
            training.stopped()
            raise


class Training:
    """One run: what it reads, its buffer and trainer, and when what was last stored or shown."""

    def __init__(self, p: TrainDictionary, run: Run) -> None:
        self.p = p
        self.run = run
        self.material: Material = open_material(p, run)
        source = self.material.source
        self.device = self.material.device
        kept = int(source.counts.sum() - source.counts[self.material.held_out].sum())
        requirements(p, source.d_in, source.d_out, kept).demand(self.device, p, source.d_in)
        self.buffer = Buffer(
            source, p.buffer, batch=p.batch, seed=p.seed, shuffle=p.shuffle, without=self.material.held_out.tolist(),
            overlap=p.overlap, hold=lambda: run.control.must_wait,
        )  # fmt: skip
        self.first: FirstLook | None = None
        self.trainer: Trainer | None = None
        self._probe: Probe | None = None
        self._window = report.Window()
        self._history = report.DensityHistory()
        self._stored = self._shown = clock()
        self._say_what_is_used()
        if run.resumed is not None:
            self._restore(run.resumed)

    def _say_what_is_used(self) -> None:
        run, buffer = self.run, self.buffer
        for name, value in self.material.facts.items():
            run.fact(name, value)
        run.fact("buffer", {"activations": buffer.capacity, "bytes": buffer.bytes, "whole_text": buffer.resident})
        if buffer.capacity < self.p.buffer:
            run.say(
                f"The buffer holds the whole text: {buffer.capacity:,} activations in {memory.in_words(buffer.bytes)}, "
                f"not the {self.p.buffer:,} asked for."
            )
        if self.material.reading is not None and not self.p.include_special:
            run.say("Special tokens (BOS) are left out of training and of all numbers.")

    # ---- training

    def begin(self) -> None:
        """Capture the activations that training begins with, measure them, and make the trainer."""
        if self.trainer is not None:
            return
        self.run.stage("Capturing activations")
        began, start = self.run.seconds, len(self.buffer)
        while self.buffer.hungry:
            self._tick()
            self.buffer.feed()
            self.run.progress(len(self.buffer), self.buffer.first, "activations", since=(start, began))
        self.first = look(self.buffer, self.material.source, self.p.scaling, self.run)
        self._make_trainer()

    def _make_trainer(self, *, empty: bool = False) -> None:
        assert self.first is not None
        p, source = self.p, self.material.source
        architecture = make(p.choices, self.first.moments(self.device))
        if empty:
            weights = architecture.empty(source.d_in, source.d_out, self.device)
        else:
            weights = architecture.initial(source.d_in, source.d_out, torch.Generator().manual_seed(p.seed))
        warm_up, decay = min(round(p.steps * p.warm_up), WARM_UP), round(p.steps * p.decay)
        self.trainer = Trainer(weights, architecture, Plan(p.steps, p.lr, warm_up, decay, p.dead_after, p.schedule))

    def optimise(self) -> None:
        """Take the steps that are left."""
        trainer, buffer, p = self.trainer, self.buffer, self.p
        assert trainer is not None
        # Threads wait for each other at every small product, which costs more than they bring where others compute.
        small = p.threads == 0 and self.device.type == "cpu" and 2 * p.batch * p.width * len(self._mean_in) < SMALL
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
                x, y = self._draw()
                self._act(x, y)
                step = trainer.step(x, y)
            self._measure(step)
            self.run.progress(trainer.done, p.steps, "steps", since=(first, began))
        self._tick()

    @property
    def _mean_in(self) -> Tensor:
        assert self.first is not None
        return self.first.inputs.mean

    def _draw(self) -> tuple[Tensor, Tensor | None]:
        """The next batch, scaled."""
        assert self.first is not None
        x, y = self.buffer.draw(self.p.batch)
        x = x.to(self.device).mul_(self.first.inputs.scale)
        return x, None if y is None else y.to(self.device).mul_(self.first.targets.scale)

    def _act(self, x: Tensor, y: Tensor | None) -> None:
        """Do what was planned for this step, what a person did at it before the run was resumed, and what one asks now."""
        trainer, run, p = self.trainer, self.run, self.p
        assert trainer is not None
        step = trainer.done
        if p.resample_every and step and step % p.resample_every == 0:
            self._do("resample", {}, x, y)
        for action in run.actions(step):
            self._do(action.name, action.values, x, y)

    def _do(self, name: str, values: Mapping[str, Any], x: Tensor, y: Tensor | None) -> None:
        trainer = self.trainer
        assert trainer is not None
        if name == "lr":
            trainer.change_lr(float(values["value"]))
            self.run.say(f"Step {trainer.done:,}: learning rate {trainer.lr:g}.")
            return
        # Numbers of its own at each step, so that a resumed run draws the same.
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([self.p.seed, 8, trainer.done]).generate_state(1)[0])
        )
        count = trainer.resample(x, y, generator)
        self.run.say(f"Step {trainer.done:,}: {count:,} dead latents drawn anew.")

    def _measure(self, step: Report) -> None:
        trainer, p = self.trainer, self.p
        assert trainer is not None
        assert self.first is not None
        done, last = trainer.done, trainer.done == p.steps
        self._window.add(step, p.batch)
        if done % max(1, p.steps // ROWS) == 0 or last:
            seconds = self.run.seconds
            numbers = self._window.row(self.first.unit, seconds)
            self._window = report.Window(since=seconds)
            if self.material.planted is not None and not last:  # the last is that of the dictionary as it is kept
                numbers["planted"] = planted.mean_max_cosine(trainer.weights.decoder, self.material.planted[1])
            self.run.log(
                done, **numbers, **trainer.live(), dead=trainer.dead_share, lr=step.lr, passes=self.buffer.passes
            )
        if p.measure_every and done % p.measure_every == 0 and not last:
            self._measure_prediction()
        if done % max(1, p.steps // COLUMNS) == 0:
            self._history.add(done, trainer.density())
            if clock() - self._shown >= FIGURES_EVERY or last:
                self._show()

    def _measure_prediction(self) -> None:
        """Cross entropy and KL with the dictionary as it is now."""
        trainer = self.trainer
        assert trainer is not None
        assert self.first is not None
        if self._probe is None:
            self._probe = self.material.probe(self.first.targets.mean, self.run)
        found = self._probe(self._dictionary().to(self.device), self.run).values()
        self.run.log(trainer.done, ce_recovered_live=found["ce_recovered"], kl_live=found["kl"])

    def _show(self) -> None:
        assert self.trainer is not None
        self.run.show("density over training", self._history.figure())
        self.run.show("density", report.density_figure(self._history.latest, "while training"))
        self.run.show("atoms", report.norms_figure(self.trainer.decoder_norms()))
        self._shown = clock()

    def _tick(self) -> None:
        """Between two batches: store what resuming needs when it is time or the person pauses, then wait or stop."""
        now = clock()
        if now - self._stored >= self.p.checkpoint_every or (self.run.control.paused and not self.run.control.stopped):
            self._store()
        self.run.point()

    # ---- the end

    def finish(self) -> None:
        """Measure on the contexts held out, show, and keep the dictionary."""
        assert self.trainer is not None
        assert self.first is not None
        self._calibrate()
        self.run.stage("Measuring on held-out contexts")
        found = self.material.evaluate(self._dictionary().to(self.device), self.first.targets.mean, self.run)
        recovery, quality = (None, found) if isinstance(found, Quality) else (found.recovery, found.quality)
        self._show()
        self.run.show("density", report.density_figure(quality.density, "on the contexts held out"))
        self.run.show("quality", report.quality_table(quality))
        if recovery is not None:
            self.run.show("ce", report.ce_table(recovery, self.p.seed))
        numbers = report.final_numbers(recovery, quality)
        if self.material.planted is not None:
            match, table = planted.score(self._dictionary(), *self.material.planted, self.p.seed)
            self.run.show("planted features", table)
            numbers["planted"] = match.mean
            self.run.fact("planted_found", match.found)
            self.run.fact("planted_control", float(match.control.mean()))
        self.run.log(self.trainer.done, **numbers)
        self.run.fact("passes", self.buffer.passes)
        self._keep(finished=True, measured=numbers, density=quality.density)

    def _calibrate(self) -> None:
        """Let the architecture estimate its threshold with the final weights on activations that are held anyway."""
        assert self.trainer is not None
        assert self.first is not None
        rows = torch.cat([x for x, _ in itertools.islice(self.buffer.chunks(), CALIBRATION)])
        rows = rows.to(self.device) * self.first.inputs.scale
        generator = torch.Generator().manual_seed(self.p.seed)
        mixed = rows[torch.randperm(len(rows), generator=generator).to(self.device)]
        self.trainer.architecture.calibrate(self.trainer.weights, torch.split(mixed, self.p.batch))

    def stopped(self) -> None:
        """Keep the dictionary as it is, and what going on needs."""
        self._store()
        if self.trainer is not None and self.trainer.done:
            self._keep(finished=False, measured={}, density=self.trainer.density())
            self.run.fact("passes", self.buffer.passes)

    def _dictionary(self) -> Dictionary:
        """The dictionary as it would be saved now."""
        assert self.trainer is not None
        assert self.first is not None
        p, source, material = self.p, self.material.source, self.material
        config = DictionaryConfig(
            architecture=p.architecture, d_in=source.d_in, d_out=source.d_out, width=p.width,
            k=p.k if p.architecture in WITH_K else None, centre=not source.paired, activation="relu",
            hook_in=material.hook_in, hook_out=material.hook_out, model=material.model,
            scale=self.first.inputs.scale,
        )  # fmt: skip
        return self.trainer.dictionary(config, self.first.inputs.scale, self.first.targets.scale)

    def _keep(self, *, finished: bool, measured: Mapping[str, float], density: Array) -> None:
        assert self.trainer is not None
        p, dictionary = self.p, self._dictionary()
        attributes = dictionary.attributes() | {
            "run": self.run.id, "steps": self.trainer.done, "finished": finished, "metrics": dict(measured),
        }  # fmt: skip
        if self.material.reading is not None:
            attributes |= {
                "text": p.text, "context": int(self.material.reading[1].ids.shape[1]), "prepend_bos": p.prepend_bos,
                "include_special": p.include_special,
            }  # fmt: skip
        arrays = dictionary.arrays() | {"features/density": np.asarray(density, dtype=np.float32)}
        self.run.produce("dictionaries", self.run.id, attributes, arrays)

    # ---- checkpoints

    def _store(self) -> None:
        states: dict[str, tuple[dict[str, Any], dict[str, Array]]] = {
            "buffer": self.buffer.state(),
            "density": ({}, self._history.state()),
        }
        if self.first is not None:
            states["first"] = self.first.state()
        if self.trainer is not None:
            states["trainer"] = self.trainer.state()
        values: dict[str, Any] = {part: state[0] for part, state in states.items()}
        values |= {"architecture": self.p.architecture, "window": asdict(self._window)}
        arrays = {f"{part}-{name}": array for part, state in states.items() for name, array in state[1].items()}
        self.run.checkpoint(values, arrays)
        self._stored = clock()

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
        self._history.restore(arrays["density"])
        self._window = report.Window(**values["window"])
        if "first" in values:
            self.first = FirstLook.restored(values["first"], arrays["first"])
        if "trainer" in values:
            self._make_trainer(empty=True)
            assert self.trainer is not None
            self.trainer.restore(values["trainer"], arrays["trainer"])
