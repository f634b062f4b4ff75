"""The job lane: recorded runs, first in, first out, one at a time, on a thread of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import SuperscopeError
from engine.files import DiskError
from engine.runs import sweeps
from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.messages import Logged, Message, Start, StateChanged
from engine.runs.parameters import check
from engine.runs.recording import ENDED, Recording, RecordingWriter, RunRecord, State
from engine.runs.sinks import MessageSink


@dataclass(eq=False)
class _Job:
    order: Start
    control: Control = field(default_factory=Control)

    @property
    def run(self) -> str:
        return self.order.run

    @property
    def folder(self) -> Path:
        return Path(self.order.folder)


class JobLane:
    """Runs jobs in the order in which they came, unless they are moved.

    A paused job keeps its place: the next one starts when it has ended. Every method may be called
    from any thread and returns at once.

    Args:
        send: takes the messages to the window.
        restore: called with a work folder and a run's id before that run is resumed; brings back the
            recording of a run that was saved into the session file.
    """

    def __init__(
        self, send: Callable[[Message], None], restore: Callable[[Path, str], object] = lambda work, run: None
    ) -> None:
        self._send = send
        self._restore = restore
        self._changed = threading.Condition()
        self._waiting: list[_Job] = []
        self._current: _Job | None = None
        self._looks = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def start(self, order: Start) -> None:
        """Queue a run."""
        with self._changed:
            known = [job.run for job in (self._current, *self._waiting) if job is not None]
            if order.run not in known and not self._closed:
                self._waiting.append(_Job(order))
                self._changed.notify_all()
                return
        self._send(Logged(order.run, "warning", f"{order.run} is queued or running already."))

    def pause(self, run: str) -> None:
        """Let the running job stand still at its next batch."""
        if (job := self._running(run)) is not None:
            job.control.pause()
        else:
            self._send(Logged(run, "warning", f"{run} is not running, so it cannot be paused."))

    def go_on(self, run: str) -> None:
        """Let a paused job go on."""
        if (job := self._running(run)) is not None:
            job.control.resume()

    def stop(self, run: str) -> None:
        """Stop a running or paused job at its next batch; take a queued one out of the queue."""
        if (job := self._running(run)) is not None:
            job.control.stop()
        elif (job := self._withdraw(run)) is not None:
            self._end_unstarted(job, "stopped")

    def act(self, run: str, action: str, values: dict[str, Any]) -> None:
        """Have the running or paused job do ``action`` between two batches; what cannot be done is said in the log."""
        job = self._running(run)
        if job is None:
            self._send(Logged(run, "warning", f"{run} is not running any more, so nothing was changed in it."))
            return
        try:
            declared = find(job.order.experiment)
            job.control.ask(action, declared.action(action).check(values))
        except SuperscopeError as problem:
            self._send(Logged(run, "warning", str(problem)))

    def move(self, run: str, place: int) -> None:
        """Put a queued job at ``place``; 0 is next."""
        with self._changed:
            for job in self._waiting:
                if job.run == run:
                    self._waiting.remove(job)
                    self._waiting.insert(max(place, 0), job)
                    break

    def order(self) -> list[str]:
        """The queued runs, next one first."""
        with self._changed:
            return [job.run for job in self._waiting]

    def give_way(self, looks: int) -> None:
        """Add (+1) or remove (-1) a look that the running job, or the next, has to wait for."""
        with self._changed:
            self._looks += looks
            if self._current is not None:
                self._current.control.give_way(looks)

    def interrupt(self) -> None:
        """Interrupt what runs and what is queued, and take no more."""
        with self._changed:
            self._closed = True
            left, self._waiting = self._waiting, []
            if self._current is not None:
                self._current.control.interrupt()
            self._changed.notify_all()
        for job in left:
            self._end_unstarted(job, "interrupted")

    def close(self, timeout: float) -> bool:
        """Interrupt everything and wait. True when all has ended within ``timeout`` seconds."""
        self.interrupt()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _running(self, run: str) -> _Job | None:
        with self._changed:
            return self._current if self._current is not None and self._current.run == run else None

    def _withdraw(self, run: str) -> _Job | None:
        with self._changed:
            for job in self._waiting:
                if job.run == run:
                    self._waiting.remove(job)
                    return job
        return None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._carry_out(job)
            except BaseException as problem:  # the lane outlives whatever a job does
                self._fail(job, problem)
            self._let_go_of(job)

    def _let_go_of(self, job: _Job) -> None:
        sweep = job.order.sweep
        with self._changed:
            if self._current is job:
                self._current = None
            others = [other for other in (self._current, *self._waiting) if other is not None]
            over = bool(sweep) and all(other.order.sweep != sweep for other in others)
        if over:
            sweeps.ended(sweep)

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            job = self._current = self._waiting.pop(0)
            job.control.give_way(self._looks)
            return job

    def _carry_out(self, job: _Job) -> None:
        try:
            experiment = find(job.order.experiment)
            parameters = check(experiment.parameters, job.order.parameters)
            if job.order.resume:
                self._restore(job.folder.parent.parent, job.run)
        except SuperscopeError as problem:
            self._end_unstarted(job, "failed", str(problem))
            return
        latest: list[RunRecord] = []

        def announce(record: RunRecord) -> None:
            latest[:] = [record]
            if record.state in ENDED:
                self._let_go_of(job)  # first: who hears of the end may resume the run at once
            self._send(StateChanged(job.run, record.to_json()))

        sink = MessageSink(job.run, self._send, lambda: announce(latest[0]))
        execute(
            experiment,
            parameters,
            job.folder,
            [sink],
            job.control,
            job.order.resume,
            work=job.folder.parent.parent,
            announce=announce,
        )

    def _fail(self, job: _Job, problem: BaseException) -> None:
        self._end_unstarted(job, "failed", f"{job.run} could not be run ({type(problem).__name__}: {problem}).")

    def _end_unstarted(self, job: _Job, state: State, error: str = "") -> None:
        """Record that a job ended without its experiment having run, and say so.

        A run that could not be resumed stays on disk as it was.
        """
        try:
            record = Recording(job.folder).record()
        except (OSError, ValueError):
            record = RunRecord(
                job.run, job.order.experiment, job.order.parameters, job.order.title, created=time.time()
            )
            record.sweep = job.order.sweep
        if job.order.resume:
            record.state = record.state if record.state in ENDED else "failed"
            record.error = error or record.error
            if error:
                self._send(Logged(job.run, "error", error))
        else:
            record.state, record.error, record.ended = state, error, time.time()
            try:
                RecordingWriter(job.folder, record)
            except DiskError as problem:
                record.error = record.error or str(problem)
        self._let_go_of(job)
        self._send(StateChanged(job.run, record.to_json()))
