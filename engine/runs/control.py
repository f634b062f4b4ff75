"""Pausing, stopping, yielding and acting: the few ways in which a person reaches a running experiment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LOOK_SECONDS = 2.0  # how long a job stands still for looks before it shares the machine with them


@dataclass(frozen=True)
class Asked:
    """An action that a person wants done in a run: its name in the declaration, and its values by name."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)


class RunStopped(BaseException):
    """Raised inside an experiment at its next batch after Stop.

    Not an `Exception`, so that a broad ``except Exception`` in an experiment cannot swallow it. An
    experiment that keeps partial results catches it, keeps them, and raises it again.
    """


class Control:
    """Thread-safe flags of one run. The experiment's thread calls `point` at each batch.

    Attributes:
        on_pause: called in the experiment's thread with True when it begins to stand still for a
            person, with False when it goes on. It may raise; the run then ends with that error.
        interrupted: the stop came from outside (the window died, the machine shuts down), not from a person.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paused = False
        self._stopped = False
        self._looks = 0
        self._patience = LOOK_SECONDS
        self._asked: list[Asked] = []
        self.interrupted = False
        self.on_pause: Callable[[bool], None] = lambda paused: None

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self) -> None:
        """Ask the run to wait at its next batch."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        """Let a paused run go on."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def stop(self) -> None:
        """Ask the run to end at its next batch, paused or not."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def interrupt(self) -> None:
        """Stop the run for a reason that is not the person's wish; it ends as interrupted."""
        with self._changed:
            self.interrupted = not self._stopped or self.interrupted
            self._stopped = True
            self._changed.notify_all()

    def give_way(self, looks: int) -> None:
        """Add (+1) or remove (-1) a look that the run has to wait for.

        The run stands still for `LOOK_SECONDS` at most until no look is left: a look may itself
        wait for something that the run holds (the model it is opening), and a long one may share
        the machine.
        """
        with self._changed:
            self._looks += looks
            if self._looks <= 0:
                self._patience = LOOK_SECONDS
            self._changed.notify_all()

    def ask(self, action: str, values: Mapping[str, Any]) -> None:
        """Ask for an action between two batches; a paused run does it when it goes on."""
        with self._changed:
            self._asked.append(Asked(action, dict(values)))

    def asked(self) -> list[Asked]:
        """The actions asked for since the last call, in their order."""
        if not self._asked:
            return []
        with self._changed:
            found, self._asked = self._asked, []
            return found

    @property
    def must_wait(self) -> bool:
        return self._stopped or self._paused or self._waits_for_look

    @property
    def _waits_for_look(self) -> bool:
        return self._looks > 0 and self._patience > 0

    def point(self) -> float:
        """Return at once, or wait while paused or while a look runs. Seconds waited.

        Raises:
            RunStopped: Stop was asked for.
        """
        if not self.must_wait:
            return 0.0
        began = time.monotonic()
        announced = False
        while True:
            with self._changed:
                if self._stopped:
                    raise RunStopped
                if announced == self._paused:
                    if not self.must_wait:
                        return time.monotonic() - began
                    self._wait()
                    continue
                announced = self._paused
            # outside the lock: it writes to disk, and whoever presses Continue must not wait for that
            self.on_pause(announced)

    def _wait(self) -> None:
        if self._paused:
            self._changed.wait()
            return
        asleep = time.monotonic()
        self._changed.wait(self._patience)
        if self._looks > 0:
            self._patience -= time.monotonic() - asleep
