"""`Run`: the handle an experiment's function gets. Progress, pause, stop, metrics, figures, arrays."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Figure
from engine.runs.control import Asked, Control

T = TypeVar("T")
Array: TypeAlias = npt.NDArray[Any]
Section: TypeAlias = Literal["models", "corpora", "activations", "dictionaries"]
Json: TypeAlias = Any
FORBIDDEN = frozenset('/\\:*?"<>|')
PROGRESS_EVERY = 0.1  # seconds between progress reports


@dataclass(frozen=True)
class Progress:
    """How far a run is. ``rate`` is in units per second of working (not paused) time.

    ``left`` is the estimated seconds to the end; None while it cannot be known.
    """

    done: float
    total: float | None
    unit: str
    rate: float
    left: float | None
    stage: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """What an experiment needs to go on: ``values`` is JSON, ``arrays`` are numpy arrays by name."""

    values: dict[str, Json] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)


class Sink(Protocol):
    """Where a run's output goes: a recording on disk, messages to the window, memory, or several."""

    def progress(self, progress: Progress) -> None: ...
    def metrics(self, rows: Mapping[str, tuple[float, float, float]]) -> None: ...
    def figure(self, name: str, figure: Figure, step: float | None) -> None: ...
    def kept(self, name: str, array: Array, attributes: Mapping[str, Json]) -> None: ...
    def produced(
        self, section: Section, id: str, attributes: Mapping[str, Json], arrays: Mapping[str, Array]
    ) -> None: ...
    def fact(self, name: str, value: Json) -> None: ...
    def log(self, level: str, text: str) -> None: ...
    def checkpoint(self, checkpoint: Checkpoint) -> None: ...
    def flush(self) -> None: ...


class Run:
    """One execution of an experiment.

    Attributes:
        id: the run's id in its session (``train-dictionary-3``).
        seed: the seed of the run, from the parameter ``seed`` (0 where there is none).
        resumed: the checkpoint to go on from, or None for a fresh start.
        work: the session's work folder, in which ``toy:RUN`` models are looked up; None without a session.
        replay: what a person did in the stretch of the run that is computed again after a resumption, as
            (step, action, values) in the order of the steps; `actions` gives it at its step.
        sweep: the sweep it belongs to, "" for none; what its runs share is kept by that name (`engine.runs.sweeps`).
    """

    def __init__(
        self,
        id: str,
        sink: Sink,
        control: Control | None = None,
        *,
        seed: int = 0,
        resumed: Checkpoint | None = None,
        elapsed: float = 0.0,
        work: Path | None = None,
        sweep: str = "",
        acted: Sequence[Mapping[str, Json]] = (),
    ) -> None:
        self.id = id
        self.seed = seed
        self.resumed = resumed
        self.work = work
        self.sweep = sweep
        self.control = control or Control()
        self._acted = [dict(action) for action in acted]
        self.replay = sorted(
            ((float(one["step"]), str(one["name"]), dict(one["values"])) for one in self._acted), key=lambda one: one[0]
        )
        self._replaying = False
        self._sink = sink
        self._began = time.monotonic() - elapsed
        self._waited = 0.0
        self._reported = 0.0
        self._stage = ""

    @property
    def seconds(self) -> float:
        """Working seconds since the run began: pauses are left out, earlier stretches counted in."""
        return time.monotonic() - self._began - self._waited

    def point(self) -> None:
        """Wait here while paused or while a look has precedence.

        Raises:
            RunStopped: the person asked the run to stop.
        """
        self._waited += self.control.point()

    def actions(self, step: float) -> list[Asked]:
        """The declared actions to do now, before the batch of ``step``; each is done once.

        First those that a person did at this step before the run was resumed, then those asked for
        since the last call, which are recorded with the step. An experiment with actions asks at each
        batch, after its checkpoint and before it computes anything.
        """
        if not self._replaying:  # what was done before the checkpoint is part of it
            self.replay = [one for one in self.replay if one[0] >= step]
            self._replaying = True
        again = [one for one in self.replay if one[0] <= step]
        self.replay = self.replay[len(again) :]
        new = self.control.asked()
        for action in new:
            self.record_action(step, action.name, action.values)
        return [Asked(name, values) for _, name, values in again] + new

    def record_action(self, step: float, name: str, values: Mapping[str, Json]) -> None:
        """Record that a person did ``name`` at ``step``: a fact of the run, which a resumed run does again."""
        self._acted.append({"step": step, "name": name, "values": dict(values)})
        self._sink.fact("actions", list(self._acted))

    def stage(self, text: str) -> None:
        """Name what the run is doing now, in a few words ("Opening smollm2")."""
        self._stage = text
        self._sink.progress(Progress(0, None, "", 0.0, None, text))
        self.point()

    def track(
        self,
        items: Iterable[T],
        *,
        total: float | None = None,
        unit: str = "steps",
        start: float = 0,
        size: Iterable[float] | None = None,
    ) -> Iterator[T]:
        """Go through ``items`` with progress, pause and stop at each.

        Args:
            items: what to go through.
            total: how many units there will be; taken from ``len(items)`` where it has one.
            unit: what is counted, plural ("tokens").
            start: units done before (a resumed run).
            size: units per item, where an item is not one unit.
        """
        if total is None and isinstance(items, Sized):
            total = start + len(items)
        sizes = iter(size) if size is not None else None
        done = float(start)
        working = self.seconds
        for item in items:
            self.point()
            yield item
            done += next(sizes) if sizes is not None else 1
            self.progress(done, total, unit, since=(start, working))
        self.progress(done, total, unit, since=(start, working), force=True)
        self.point()

    def progress(
        self, done: float, total: float | None, unit: str, *, since: tuple[float, float] = (0, 0.0), force: bool = False
    ) -> None:
        """Report progress; at most ten reports a second pass on."""
        now = time.monotonic()
        if not force and now - self._reported < PROGRESS_EVERY:
            return
        self._reported = now
        spent = self.seconds - since[1]
        rate = (done - since[0]) / spent if spent > 0 else 0.0
        left = (total - done) / rate if total is not None and rate > 0 else None
        self._sink.progress(Progress(done, total, unit, rate, left, self._stage))

    def log(self, step: float, **metrics: float) -> None:
        """Append one row per metric: plotted live, saved as (step, value, seconds)."""
        seconds = self.seconds
        for name in metrics:
            _check_name(name)
        self._sink.metrics({name: (float(step), float(value), seconds) for name, value in metrics.items()})

    def show(self, name: str, figure: Figure, *, step: float | None = None) -> None:
        """Show a figure; a later one of the same name replaces it.

        With ``step`` it is a frame of the run's movie as well, which a person scrubs on the timeline. The frames
        of one name differ in their numbers only: title, axes, texts and shapes stay the same
        (`engine.runs.movies.MovieError`).
        """
        _check_name(name)
        self._sink.figure(name, figure, step)

    def keep(self, name: str, array: Any, **attributes: Json) -> None:
        """Keep an array (anything `numpy.asarray` takes) under ``name``; ``attributes`` describe it (unit, axes)."""
        _check_name(name)
        self._sink.kept(name, np.asarray(array), attributes)

    def produce(
        self, section: Section, id: str, attributes: Mapping[str, Json], arrays: Mapping[str, Array] | None = None
    ) -> None:
        """Add a thing other runs can pick up to the session: a model, a corpus, a store or a dictionary.

        A thing with the same section and id replaces the older one, so a model that is opened
        twice is listed once.
        """
        self._sink.produced(section, id, attributes, arrays or {})

    def fact(self, name: str, value: Json) -> None:
        """Record a plain fact about what happened (tokens found, passes over the text, positions left out)."""
        self._sink.fact(name, value)

    def say(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        """Write a line to the log, for the person."""
        self._sink.log(level, text)

    def flush(self) -> None:
        """Answer a look with what was shown and said so far, while it goes on; a job's output is seen as it comes."""
        self.point()
        self._sink.flush()

    def checkpoint(self, values: Mapping[str, Json], arrays: Mapping[str, Array]) -> None:
        """Store what resuming needs, replacing the previous checkpoint as a whole."""
        self._sink.checkpoint(Checkpoint(dict(values), dict(arrays)))


def _check_name(name: str) -> None:
    """Refuse what cannot name a file and an HDF5 dataset on every system."""
    if not name or name[0] == "." or name[-1] in ". " or FORBIDDEN.intersection(name) or not name.isprintable():
        raise ValueError(f"{name!r} cannot name a metric, figure or array: use letters, digits, spaces and - _ . ( )")
