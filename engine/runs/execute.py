"""Run one experiment in the calling thread, from its first record to its last."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.files import DiskError
from engine.runs import environment
from engine.runs.control import Control, RunStopped
from engine.runs.declaration import Experiment
from engine.runs.explain import explain
from engine.runs.parameters import Parameters
from engine.runs.recording import FLUSH_EVERY, Recording, RecordingWriter, RunRecord, State
from engine.runs.run import Checkpoint, Run, Sink
from engine.runs.sinks import FanOut, NullSink


def execute(
    experiment: Experiment,
    parameters: Parameters,
    folder: Path,
    sinks: Sequence[Sink] = (),
    control: Control | None = None,
    resume: bool = False,
    *,
    work: Path | None = None,
    announce: Callable[[RunRecord], None] = lambda record: None,
) -> RunRecord:
    """Run ``experiment`` and record it in ``folder``; whatever happens becomes part of the record.

    Args:
        experiment: what to run.
        parameters: checked parameters of it.
        folder: where the recording goes (``WORK/runs/<id>``). A record that is there already gives
            the run's id, title and sweep; else the folder's name is the id.
        sinks: who hears of the output after it is recorded.
        control: pauses and stops the run from another thread.
        resume: go on from the recording's checkpoint; without one start again from the beginning. The
            recording of a run that was saved is in the session file: `engine.session.restore_recording`
            brings it back before.
        work: the session's work folder, where ``toy:RUN`` models are found.
        announce: called with the record after each change of state, in this thread.

    Returns:
        The record. Its state is finished, stopped, interrupted or failed; nothing is raised, not
        even when the disk is full and the record itself could not be written.
    """
    return _Execution(experiment, parameters, folder, sinks, control or Control(), work, announce).carry_out(resume)


class _Execution:
    """The steps of `execute`, which share a record."""

    def __init__(
        self,
        experiment: Experiment,
        parameters: Parameters,
        folder: Path,
        sinks: Sequence[Sink],
        control: Control,
        work: Path | None,
        announce: Callable[[RunRecord], None],
    ) -> None:
        self.experiment = experiment
        self.parameters = parameters
        self.folder = folder
        self.sinks = sinks
        self.control = control
        self.work = work
        self.announce = announce
        values = parameters.model_dump(mode="json")
        self.record = RunRecord(id=folder.name, experiment=experiment.name, parameters=values, created=time.time())
        self.writer: RecordingWriter | None = None
        self.run: Run | None = None

    def carry_out(self, resume: bool) -> RunRecord:
        control = self.control
        try:
            before = self._begin(resume)
            assert self.writer is not None
            assert self.run is not None
            control.on_pause = self._on_pause
            with environment.using_threads(self._threads), _flushing(self.writer):
                try:
                    self._note_environment(before)
                    self.run.point()
                    self.experiment.function(self.parameters, self.run)
                finally:
                    self.stamp()
            state: State = "finished"
        except RunStopped:
            state = "interrupted" if control.interrupted else "stopped"
        except KeyboardInterrupt:
            state = "interrupted"
        except BaseException as problem:  # SystemExit too: a run must not end the program that holds it
            state = "failed"
            self.record.error, self.record.traceback = explain(problem, self.experiment, self.parameters)
        control.on_pause = lambda paused: None
        self._end(state)
        return self.record

    def _begin(self, resume: bool) -> dict[str, Any]:
        """Open the recording; gives the environment that an earlier stretch of the run was computed in."""
        with contextlib.suppress(FileNotFoundError):
            self.record = Recording(self.folder).record()
        record, before = self.record, self.record.environment
        checkpoint = self._checkpoint() if resume else None
        record.experiment = self.experiment.name
        record.parameters = self.parameters.model_dump(mode="json")
        record.seed = int(getattr(self.parameters, "seed", 0))
        record.state, record.error, record.traceback, record.ended = "running", "", "", None
        if checkpoint is None:
            record.started, record.elapsed, record.checkpoint, record.facts = time.time(), 0.0, "", {}
        self.writer = RecordingWriter(self.folder, record)
        if resume:
            self.writer.rewind()
        sink = FanOut([_Stamp(self), self.writer, *self.sinks])
        self.run = Run(
            record.id,
            sink,
            self.control,
            seed=record.seed,
            resumed=checkpoint,
            elapsed=record.elapsed,
            work=self.work,
            sweep=record.sweep,
            acted=record.facts.get("actions", ()),
        )
        self.announce(record)
        if resume and checkpoint is None:
            self.run.say("There is no checkpoint to go on from, so the run starts again from its beginning.")
        return before if checkpoint is not None else {}

    def _note_environment(self, before: dict[str, Any]) -> None:
        assert self.writer is not None
        assert self.run is not None
        if "torch" in before:
            self.run.stage("Loading torch")
            import torch  # noqa: F401  so that its threads are known when the environments are compared

        self.record.environment = environment.describe(self._threads)
        self.writer.write_record()
        if self.run.resumed is not None:
            self.run.say("The run goes on from its last checkpoint.")
        changed = environment.differences(before, self.record.environment)
        if changed:
            self.run.say(
                f"The checkpoint was made in another environment ({changed}), so the rest may differ in the last "
                "digits from a run that was never stopped.",
                "warning",
            )

    @property
    def _threads(self) -> int:
        return int(getattr(self.parameters, "threads", 0))

    def _checkpoint(self) -> Checkpoint | None:
        found = Recording(self.folder).checkpoint() if self.experiment.resumable else None
        if found is None:
            return None
        # Copies, not maps of files: the next checkpoint deletes the folder that they are in.
        return Checkpoint(found.values, {name: np.array(array) for name, array in found.arrays.items()})

    def stamp(self) -> None:
        """Bring time and environment of the record up to now."""
        if self.run is not None:
            self.record.elapsed = self.run.seconds
            self.record.environment |= environment.describe(self._threads)

    def _on_pause(self, paused: bool) -> None:
        assert self.writer is not None
        self.record.state = "paused" if paused else "running"
        self.writer.flush()
        self.writer.write_record()
        self.announce(self.record)

    def _end(self, state: State) -> None:
        record = self.record
        record.state, record.ended = state, time.time()
        if self.writer is not None:
            try:
                self.writer.flush()
                if state == "finished":
                    self.writer.drop_checkpoint()
                self.writer.write_record()
            except DiskError as problem:
                record.state = "failed"
                record.error = record.error or str(problem)
                with contextlib.suppress(DiskError):  # said already; the record in memory still reaches the person
                    self.writer.write_record()
        self.announce(record)


class _Stamp(NullSink):
    """Comes before the recording, so that a checkpoint's record says when and with what it was made."""

    def __init__(self, execution: _Execution) -> None:
        self._execution = execution

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self._execution.stamp()


@contextlib.contextmanager
def _flushing(writer: RecordingWriter) -> Iterator[None]:
    """Write buffered metric rows a few times a second, also while the experiment logs nothing new."""
    done = threading.Event()

    def flush() -> None:
        while not done.wait(FLUSH_EVERY):
            # A full disk is met again by the run's own next write, where it can end the run.
            with contextlib.suppress(DiskError):
                writer.flush()

    thread = threading.Thread(target=flush, name=f"flush {writer.record.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
