"""Ctrl+C: the first stops the run at its next batch and saves, the second leaves at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

from engine.cli import INTERRUPTED
from engine.cli.arguments import say
from engine.runs.control import Control

T = TypeVar("T")
LOOK_FOR_SIGNALS = 0.2  # seconds; Windows delivers Ctrl+C only between waits


class Interrupts:
    """What Ctrl+C and SIGTERM do while a command runs. ``control`` is the run that goes on now.

    SIGTERM counts as Ctrl+C: it is how a cluster's scheduler announces the end of a job's time.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self.control: Control | None = None
        self.asked = False
        self._scratch = scratch

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Within, signals come here."""
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(kind, self._handle) for kind in kinds]
        try:
            yield
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)
            os._exit(INTERRUPTED)
        self.asked = True
        if self.control is not None:
            self.control.interrupt()
        say("\nStopping at the next batch; Ctrl+C again leaves at once.")


def in_thread(work: Callable[[], T]) -> T:
    """Do ``work`` on another thread and wait, so that signals are answered while it is inside native code."""
    done: list[T] = []
    problems: list[BaseException] = []

    def target() -> None:
        try:
            done.append(work())
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=target, name="run", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_FOR_SIGNALS)
    if problems:
        raise problems[0]
    return done[0]
