"""Where a run's output goes besides its recording: several places at once, memory, messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Figure
from engine.runs import messages
from engine.runs.run import Checkpoint, Json, Progress, Section, Sink

Array: TypeAlias = npt.NDArray[Any]
Rows: TypeAlias = Mapping[str, tuple[float, float, float]]


class NullSink:
    """Takes everything and does nothing with it; a base for sinks that care for a few kinds only."""

    def progress(self, progress: Progress) -> None:
        """How far the run is."""

    def metrics(self, rows: Rows) -> None:
        """One (step, value, seconds) per metric name."""

    def figure(self, name: str, figure: Figure, step: float | None = None) -> None:
        """A figure to show under ``name``; with ``step`` a frame of its movie."""

    def kept(self, name: str, array: Array, attributes: Mapping[str, Json]) -> None:
        """An array to keep under ``name``."""

    def produced(self, section: Section, id: str, attributes: Mapping[str, Json], arrays: Mapping[str, Array]) -> None:
        """A thing for the session."""

    def fact(self, name: str, value: Json) -> None:
        """A plain fact about what happened."""

    def log(self, level: str, text: str) -> None:
        """A line for the person."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """What resuming needs."""

    def flush(self) -> None:
        """What was put out so far should be seen now."""


class FanOut:
    """Passes everything on to each of ``sinks`` in order; the recording comes first, so that what is seen is safe."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)

    def progress(self, progress: Progress) -> None:
        for sink in self._sinks:
            sink.progress(progress)

    def metrics(self, rows: Rows) -> None:
        for sink in self._sinks:
            sink.metrics(rows)

    def figure(self, name: str, figure: Figure, step: float | None = None) -> None:
        for sink in self._sinks:
            sink.figure(name, figure, step)

    def kept(self, name: str, array: Array, attributes: Mapping[str, Json]) -> None:
        for sink in self._sinks:
            sink.kept(name, array, attributes)

    def produced(self, section: Section, id: str, attributes: Mapping[str, Json], arrays: Mapping[str, Array]) -> None:
        for sink in self._sinks:
            sink.produced(section, id, attributes, arrays)

    def fact(self, name: str, value: Json) -> None:
        for sink in self._sinks:
            sink.fact(name, value)

    def log(self, level: str, text: str) -> None:
        for sink in self._sinks:
            sink.log(level, text)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        for sink in self._sinks:
            sink.checkpoint(checkpoint)

    def flush(self) -> None:
        for sink in self._sinks:
            sink.flush()


class MemorySink(NullSink):
    """Holds a look's figures, facts and arrays until it is answered; ``on_progress`` hears how far it is.

    ``on_flush`` is called when what it holds should be seen before the look has ended.
    """

    def __init__(
        self,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_flush: Callable[[], None] | None = None,
    ) -> None:
        self.figures: dict[str, Figure] = {}
        self.facts: dict[str, Json] = {}
        self.arrays: dict[str, Array] = {}
        self.rows: dict[str, list[tuple[float, float, float]]] = {}
        self.lines: list[tuple[str, str]] = []
        self._on_progress = on_progress
        self._on_flush = on_flush

    def progress(self, progress: Progress) -> None:
        self._on_progress(progress)

    def metrics(self, rows: Rows) -> None:
        for name, row in rows.items():
            self.rows.setdefault(name, []).append(row)

    def figure(self, name: str, figure: Figure, step: float | None = None) -> None:
        self.figures[name] = figure

    def kept(self, name: str, array: Array, attributes: Mapping[str, Json]) -> None:
        self.arrays[name] = array

    def fact(self, name: str, value: Json) -> None:
        self.facts[name] = value

    def log(self, level: str, text: str) -> None:
        self.lines.append((level, text))

    def flush(self) -> None:
        if self._on_flush is not None:
            self._on_flush()


class MessageSink:
    """Tells the window what a run puts out. ``changed`` is called when the run's record has a new fact."""

    def __init__(self, run: str, send: Callable[[messages.Message], None], changed: Callable[[], None]) -> None:
        self._run = run
        self._send = send
        self._changed = changed

    def progress(self, progress: Progress) -> None:
        self._send(messages.Progressed(self._run, progress))

    def metrics(self, rows: Rows) -> None:
        self._send(messages.Measured(self._run, {name: np.array([row]) for name, row in rows.items()}))

    def figure(self, name: str, figure: Figure, step: float | None = None) -> None:
        self._send(messages.Shown(self._run, name, figure, step))

    def kept(self, name: str, array: Array, attributes: Mapping[str, Json]) -> None:
        self._send(messages.Kept(self._run, name, list(array.shape), array.dtype.str, dict(attributes)))

    def produced(self, section: Section, id: str, attributes: Mapping[str, Json], arrays: Mapping[str, Array]) -> None:
        self._send(messages.Produced(self._run, section, id, dict(attributes)))

    def fact(self, name: str, value: Json) -> None:
        self._changed()

    def log(self, level: str, text: str) -> None:
        self._send(messages.Logged(self._run, level, text))

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self._changed()

    def flush(self) -> None:
        """A job's messages are sent as they come."""
