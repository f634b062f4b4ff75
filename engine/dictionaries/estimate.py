"""What training a dictionary would take: memory from the shapes, time from a few steps and contexts that are timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.dictionaries.architectures import make
from engine.dictionaries.buffer import RATE, first_part
from engine.dictionaries.requirements import Requirements, requirements
from engine.dictionaries.sources import StoredSource, open_stored
from engine.dictionaries.trainer import Plan, Trainer
from engine.dictionaries.training import SMALL
from engine.dictionaries.training_parameters import TRANSCODERS, TrainDictionary
from engine.dictionaries.weights import Moments
from engine.figures.kinds import Axis, Table
from engine.models import memory
from engine.models.capture import capture
from engine.models.facts import Before, facts_before
from engine.models.opening import OpenModel, choose_device, open_model, open_models
from engine.models.references import parse
from engine.runs.environment import using_threads
from engine.runs.run import Run

SMALL_MODEL = 5_000_000  # parameters of a model that is opened for an estimate
WORK = 1e9  # operations of a step that is timed as it is; of larger ones a part is timed
LONG = 0.1  # seconds of a context from which on one is enough
PATIENCE = 0.15  # seconds spent on timing one thing
MEASURED = 4  # passes over the held-out contexts: clean, spliced, and two ablations


@dataclass(frozen=True)
class Known:
    """What is known of the activations before they are captured.

    Attributes:
        d_in, d_out: widths of input and target.
        activations: to train on, about.
        per_context: activations of a context or block, about.
        capture: seconds a context; None while the model is not open.
        measure: seconds to measure on one held-out context; None likewise.
        model: bytes that opening the model takes yet.
        note: what a person should know of these numbers.
    """

    d_in: int
    d_out: int
    activations: int
    per_context: float
    capture: float | None
    measure: float | None
    model: int = 0
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """Bytes by part, and seconds; None where the model would have to be opened to know.

    Attributes:
        memory: bytes by part, the largest first.
        needed, free: bytes in all, and those that are free, at the place where it is tightest.
        problem: why it cannot be started; "" where it can.
        first, capture, step, training, measure: seconds to the first live point, of the capture, of a step, of all
            steps, of the measurements.
        note: how far to trust this.
    """

    memory: dict[str, int]
    needed: int
    free: int
    problem: str
    first: float | None
    capture: float | None
    step: float
    steps: int
    measure: float | None
    note: str

    @property
    def training(self) -> float:
        return self.step * self.steps

    @property
    def total(self) -> float | None:
        """Seconds of the whole run, capture and steps one after the other."""
        if self.capture is None or self.measure is None:
            return None
        return self.capture + self.training + self.measure

    @property
    def sentence(self) -> str:
        """The estimate in words."""
        if self.problem:
            return self.problem
        room = f"About {memory.in_words(self.needed)} of memory of {memory.in_words(self.free)} that are free."
        steps = f"{in_time(self.training)} for {self.steps:,} steps of {in_time(self.step)}"
        if self.total is None or self.capture is None or self.measure is None:
            return f"{room} About {steps}, and the capture, whose time is known once the model is open."
        return (
            f"{room} About {in_time(self.total)}: {in_time(self.capture)} to capture, {steps}, "
            f"{in_time(self.measure)} to measure."
        )

    def values(self) -> dict[str, Any]:
        """As facts of a look."""
        seconds = {
            "first_point": self.first, "capture": self.capture, "step": self.step, "training": self.training,
            "measure": self.measure, "total": self.total,
        }  # fmt: skip
        return {
            "sentence": self.sentence, "fits": not self.problem, "problem": self.problem, "note": self.note,
            "memory": self.memory, "memory_needed": self.needed, "memory_free": self.free, "seconds": seconds,
        }  # fmt: skip

    def figure(self) -> Table:
        """Parts and their sizes."""
        rows = [(f"Memory: {part}", memory.in_words(size)) for part, size in self.memory.items() if size]
        rows += [("Memory in all", memory.in_words(self.needed)), ("Memory free", memory.in_words(self.free))]
        for name, seconds in (
            ("First live point after", self.first), ("Capture", self.capture), ("One step", self.step),
            (f"{self.steps:,} steps", self.training), ("Measuring", self.measure), ("In all", self.total),
        ):  # fmt: skip
            rows.append((name, "known once the model is open" if seconds is None else in_time(seconds)))
        return Table(
            title="Estimate",
            note=self.problem or self.note,
            axes=(Axis("Part"), Axis("About")),
            columns=(np.array([name for name, _ in rows]), np.array([value for _, value in rows])),
        )


def estimate(p: TrainDictionary, run: Run) -> Estimate:
    """What training with ``p`` would take on this machine as it is now.

    Raises:
        SuperscopeError: the model, hook point or file cannot be read.
    """
    device = choose_device(p.device)
    known = _stored(p, run) if p.activations else _of_model(p, device, run)
    needs = requirements(p, known.d_in, known.d_out, known.activations)
    needed, free = _tightest(needs, known.model, device)
    problem = ""
    if needed > free:
        problem = (
            f"Training {p.width:,} latents on {known.d_in:,} dimensions needs about {memory.in_words(needed)} of memory, "
            f"and {memory.in_words(free)} are free; choose a smaller width or a smaller buffer."
        )
    seconds, scaled = step_seconds(p, known.d_in, known.d_out, device, run.point)
    notes = [known.note, "Smaller steps were timed and scaled up." if scaled else ""]
    capture_all = first = measure = None
    if known.capture is not None and known.measure is not None:
        begin, whole = _captured(p, known.activations)
        capture_all = whole / known.per_context * known.capture
        first = begin / known.per_context * known.capture + seconds
        probes = p.steps // p.measure_every if p.measure_every else 0
        measure = (p.held_out + 8 * probes) * known.measure
    parts = needs.training | needs.data | {"model": known.model}
    return Estimate(
        memory=dict(sorted(parts.items(), key=lambda part: -part[1])), needed=needed, free=free, problem=problem,
        first=first, capture=capture_all, step=seconds, steps=p.steps, measure=measure, note=" ".join(filter(None, notes)),
    )  # fmt: skip


def _captured(p: TrainDictionary, activations: int) -> tuple[int, int]:
    """Activations captured before the first step, and in all."""
    capacity = min(p.buffer, activations)
    first, drawn = first_part(capacity, p.batch), p.steps * p.batch
    if capacity == activations:
        return first, min(activations, first + RATE * drawn)
    return first, min(first + RATE * drawn, capacity + drawn)


def _tightest(needs: Requirements, model: int, device: str) -> tuple[int, int]:
    """Bytes needed and free at the place where least is left."""
    wanted = needs.on(device)
    wanted[device if device in wanted else "cpu"] += model
    rooms = [(size, memory.available(place)) for place, size in wanted.items()]
    return min(rooms, key=lambda room: room[1] - room[0])


def _stored(p: TrainDictionary, run: Run) -> Known:
    targets = open_stored(p.activations_out, run.work) if p.architecture in TRANSCODERS else None
    source = StoredSource(open_stored(p.activations, run.work), targets)
    some = np.arange(min(8, len(source.counts)))
    seconds = _fastest(lambda: source.harvest(some)) / len(some)
    kept = max(len(source.counts) - min(p.held_out, len(source.counts) // 5), 1)
    return Known(
        source.d_in, source.d_out, int(source.counts.sum() * kept / len(source.counts)), float(source.counts.mean()),
        seconds, seconds,
    )  # fmt: skip


def _of_model(p: TrainDictionary, device: str, run: Run) -> Known:
    before = facts_before(p.model, device=device, dtype=p.dtype, work=run.work)
    model = _open(p, before, device, run)
    context = min(p.context, model.facts.context if model else int(before.values.get("context") or p.context))
    text = context - 1 if p.prepend_bos else context
    contexts = max(-(-p.tokens // text), 1)
    per_context = float(context if p.include_special else text)
    activations = int(max(contexts - min(p.held_out, contexts // 5), 1) * per_context)
    note = f"The text is taken to hold {p.tokens:,} tokens."
    if model is None:
        widths = [_width(hook, before.values) for hook in p.hooks]
        note += " The model is not open, so its widths are read from its files."
        return Known(widths[0], widths[1], activations, per_context, None, None, before.needed, note)
    widths = [model.check_hook(hook) for hook in p.hooks]
    seconds, whole = _timed_capture(model, list(dict.fromkeys(p.hooks)), context)
    return Known(widths[0], widths[1], activations, per_context, seconds, MEASURED * whole, 0, note)


def _open(p: TrainDictionary, before: Before, device: str, run: Run) -> OpenModel | None:
    """The model where it is open already, or small enough to be opened for this."""
    reference = parse(p.model).text
    for model in open_models():
        if (model.reference, model.facts.device, model.facts.dtype) == (reference, device, p.dtype):
            return model
    if before.here and before.parameters <= SMALL_MODEL:
        return open_model(p.model, device=p.device, dtype=p.dtype, run=run, work=run.work)
    return None


def _width(hook: str, values: dict[str, Any]) -> int:
    """What a hook point's name says of its width, for a model that is not open."""
    stream = int(values.get("d_model") or 768)
    inner = ".mlp." in hook and hook.rpartition(".")[2] in ("hook_pre", "hook_post", "hook_pre_linear")
    return int(values.get("d_mlp") or 4 * stream) if inner else stream


def _timed_capture(model: OpenModel, hooks: list[str], context: int) -> tuple[float, float]:
    """Seconds of a context up to the hook points, and about those of a whole forward pass."""
    ids = np.random.default_rng(0).integers(0, model.facts.vocabulary, (8, context))

    def read(count: int) -> None:
        for _ in capture(model, ids[:count], hooks, batch=8):
            pass

    read(1)
    seconds = _fastest(lambda: read(1))
    if seconds < LONG:
        seconds = _fastest(lambda: read(8)) / 8
    layers = [model.hook_point(hook).layer for hook in hooks]
    deepest = max((layer + 1 for layer in layers if layer is not None), default=model.facts.layers)
    embedding = model.facts.vocabulary * model.facts.d_model / max(model.facts.parameters, 1)
    return seconds, seconds * model.facts.layers / deepest * (1 + embedding)


def step_seconds(
    p: TrainDictionary, d_in: int, d_out: int, device: str, point: Callable[[], None] = lambda: None
) -> tuple[float, bool]:
    """Seconds of one optimiser step on random activations, and whether smaller steps had to be scaled up.

    A step takes a + b · batch seconds, and both grow with the width: where it is large, a and b are found from two
    small batches at a smaller width. What is measured is noisy, so a is held between nothing and as much as b · batch
    of the smaller batch.

    Args:
        p: parameters of ``train-dictionary``.
        d_in, d_out: widths of input and target.
        device: where to compute.
        point: called between steps; may wait, or raise to stop.
    """
    work = 6.0 * (d_in + d_out) * p.width * p.batch
    small = p.threads == 0 and device == "cpu" and 2 * p.batch * p.width * d_in < SMALL
    with using_threads(1 if small else p.threads):
        if work <= WORK:
            return _step_seconds(p, p.width, p.batch, d_in, d_out, device, point), False
        batch = int(np.clip(p.batch * WORK / work, min(p.batch, 256), p.batch))
        width = int(np.clip(WORK / (6.0 * (d_in + d_out) * batch), min(p.width, max(512, p.k)), p.width))
        whole = _step_seconds(p, width, batch, d_in, d_out, device, point)
        half = _step_seconds(p, width, batch // 2, d_in, d_out, device, point)
    each = float(np.clip(whole - half, whole / 3, whole / 2)) / (batch - batch // 2)
    return (whole - each * batch + each * p.batch) * p.width / width, True


def _step_seconds(
    p: TrainDictionary, width: int, batch: int, d_in: int, d_out: int, device: str, point: Callable[[], None]
) -> float:
    choices = p.model_copy(update={"width": width, "k": min(p.k, width)}).choices
    generator = torch.Generator().manual_seed(0)
    paired = choices.transcodes
    x = torch.randn(batch, d_in, generator=generator).to(device)
    y = torch.randn(batch, d_out, generator=generator).to(device) if paired else None
    mean = torch.zeros(d_in, device=device)
    moments = Moments(mean, torch.zeros(d_out, device=device) if paired else mean, float(d_out))
    architecture = make(choices, moments)
    weights = architecture.initial(d_in, d_out, generator)
    trainer = Trainer(weights, architecture, Plan(10**6, 1e-6, 0, 0, 10**12))

    def step() -> None:
        point()
        trainer.step(x, y)

    return _fastest(step)


def _fastest(act: Callable[[], object]) -> float:
    """Seconds of ``act``, the least of several times: what else the machine does only adds to them."""
    times: list[float] = []
    while sum(times) < (PATIENCE if len(times) >= 3 else 3 * PATIENCE) and len(times) < 10:
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return min(times)


def in_time(seconds: float) -> str:
    """A duration as a person reads it: 3 ms, 0.4 s, 12 s, 5 min, 2.1 h."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.00995 else f"{1000 * seconds:.0f} ms"
    for unit, size, until in (("s", 1.0, 99.5), ("min", 60.0, 99.5 * 60), ("h", 3600.0, 48 * 3600.0)):
        if seconds < until:
            number = seconds / size
            return f"{number:.1f} {unit}" if number < 9.95 else f"{number:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"
