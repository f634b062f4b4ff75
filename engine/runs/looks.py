"""The look lane: what a panel asks while a person types or hovers. Starts at once, the newest wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import SuperscopeError
from engine.runs.control import Control, RunStopped
from engine.runs.declaration import find
from engine.runs.explain import explain
from engine.runs.messages import Answered, Ask, LookProgressed, Message
from engine.runs.parameters import check
from engine.runs.run import Run
from engine.runs.sinks import MemorySink

GRACE = 0.5  # seconds that a new look leaves the one it replaces to reach its next batch


@dataclass(eq=False)
class _Look:
    question: Ask
    control: Control = field(default_factory=Control)
    computing: bool = False


class LookLane:
    """Answers looks, one per panel; ``give_way`` hears +1 when one begins to compute and -1 when it has ended.

    A look that is replaced or cancelled is never answered.
    """

    def __init__(self, send: Callable[[Message], None], give_way: Callable[[int], None]) -> None:
        self._send = send
        self._give_way = give_way
        self._changed = threading.Condition()
        self._looks: list[_Look] = []
        self.work: Path | None = None

    def ask(self, question: Ask) -> None:
        """Start a look on a thread of its own; it replaces its panel's earlier one."""
        look = _Look(question)
        with self._changed:
            for earlier in self._looks:
                if earlier.question.panel == question.panel:
                    earlier.control.stop()
            self._looks.append(look)
            self._changed.notify_all()
        threading.Thread(target=self._answer, args=(look,), name=f"look {question.look}", daemon=True).start()

    def cancel(self, look: int) -> None:
        """Stop a look; it is not answered."""
        with self._changed:
            for known in self._looks:
                if known.question.look == look:
                    known.control.stop()
            self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Stop all looks and wait. True when all have ended within ``timeout`` seconds."""
        with self._changed:
            for look in self._looks:
                look.control.stop()
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._looks, timeout)

    def _answer(self, look: _Look) -> None:
        try:
            if self._take_turn(look):
                self._give_way(+1)
                try:
                    answer = self._compute(look)
                finally:
                    self._give_way(-1)
                if answer is not None:
                    self._send(answer)
        finally:
            with self._changed:
                self._looks.remove(look)
                self._changed.notify_all()

    def _take_turn(self, look: _Look) -> bool:
        """Wait until the look it replaces has stopped, or `GRACE`. False when this one is replaced meanwhile."""
        until = time.monotonic() + GRACE
        panel = look.question.panel

        def others_compute() -> bool:
            return any(other.computing and other is not look and other.question.panel == panel for other in self._looks)

        with self._changed:
            while not look.control.stopped and others_compute() and time.monotonic() < until:
                self._changed.wait(max(until - time.monotonic(), 0))
            look.computing = not look.control.stopped
            return look.computing

    def _compute(self, look: _Look) -> Answered | None:
        question = look.question

        def failed(error: str, trace: str = "") -> Answered | None:
            if look.control.stopped:
                return None
            return Answered(question.look, question.panel, {}, {}, error=error, traceback=trace)

        try:
            experiment = find(question.experiment)
            parameters = check(experiment.parameters, question.parameters)
        except SuperscopeError as problem:
            return failed(str(problem))

        def so_far() -> None:
            if not look.control.stopped:
                found = dict(sink.figures), dict(sink.facts), dict(sink.arrays)
                self._send(Answered(question.look, question.panel, *found, done=False))

        sink = MemorySink(lambda progress: self._send(LookProgressed(question.look, question.panel, progress)), so_far)
        try:
            run = Run(
                f"look-{question.look}", sink, look.control, seed=int(getattr(parameters, "seed", 0)), work=self.work
            )
            experiment.function(parameters, run)
        except RunStopped:
            return None
        except BaseException as problem:  # a look that fails, memory included, ends only itself
            return failed(*explain(problem, experiment, parameters))
        if look.control.stopped:
            return None
        return Answered(question.look, question.panel, sink.figures, sink.facts, sink.arrays)
