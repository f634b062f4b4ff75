"""The window's side of the engine process: start it, talk to it, notice its death.

One thread decodes what the engine says, one writes what is said to it, one collects its standard
error; none of them touches a Qt object. A 33 ms timer, which runs only while an engine lives,
drains what has come and emits one signal per message.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from PySide6.QtCore import QObject, QTimer, Signal

from engine.runs import messages
from engine.runs.messages import Message

State: TypeAlias = Literal["off", "starting", "ready", "busy", "died"]
TICK = 33  # ms between drains
LINES = 400  # lines of the engine's standard error that are remembered
HALF_DEAD = 2.0  # seconds an engine that closed its output may take to end by itself


def command() -> list[str]:
    """The command line of an engine process, from the same executable as the window."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "--engine-process"]
    return [sys.executable, "-m", "engine", "--engine-process"]


class _Process:
    """One engine process with its three threads. Ends only through `bury`."""

    def __init__(self, words: list[str]) -> None:
        environment = dict(os.environ)
        root = str(Path(__file__).resolve().parent.parent)
        known = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{known}" if known else root
        self.out_of_memory_kills = _out_of_memory_kills()
        self.popen = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self.arrived: deque[Message | None] = deque()
        self.errors: deque[str] = deque(maxlen=LINES)
        self.unread: deque[str] = deque(maxlen=LINES)
        self.outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.ended_at: float | None = None
        self._threads = [
            threading.Thread(target=work, name=f"engine-{name}", daemon=True)
            for name, work in (("reader", self._read), ("writer", self._write), ("errors", self._collect))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        try:
            while (message := messages.read(self.popen.stdout)) is not None:  # type: ignore[arg-type]
                self.arrived.append(message)
        except (OSError, ValueError, KeyError, TypeError) as problem:
            # A broken frame cannot be skipped: where the next begins is unknown.
            self.errors.append(f"The stream from the engine broke off: {problem!r}")
        self.arrived.append(None)

    def _write(self) -> None:
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # the pipe is gone: the reader reports the death
            while (frame := self.outgoing.get()) is not None:
                self.popen.stdin.write(frame)
                self.popen.stdin.flush()
        with contextlib.suppress(OSError):
            self.popen.stdin.close()

    def _collect(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            text = line.decode(errors="replace").rstrip()
            if text:
                self.errors.append(text)
                self.unread.append(text)

    def bury(self, patience: float) -> int:
        """Wait for the end, kill where it does not come, and collect process, threads and pipes."""
        self.outgoing.put(None)
        try:
            code = self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            code = self.popen.wait()
        for thread in self._threads:
            thread.join(5.0)
        for pipe in (self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()
        return code


class EngineClient(QObject):
    """The engine process as the window sees it.

    Signals (each carries the message of `engine.runs.messages` that it is named after):
        state_changed: ``off``, ``starting``, ``ready``, ``busy`` or ``died``.
        died: one sentence on what happened, and details (the end of its standard error).
        wrote: a line on its standard error.
        ticked: after each drain (a 33 ms heart beat while the engine lives).
    """

    state_changed = Signal(str)
    greeted = Signal(object)
    catalogue = Signal(object)
    run_changed = Signal(object)
    progressed = Signal(object)
    measured = Signal(object)
    shown = Signal(object)
    kept = Signal(object)
    produced = Signal(object)
    logged = Signal(object)
    answered = Signal(object)
    look_progressed = Signal(object)
    died = Signal(str, str)
    wrote = Signal(str)
    ticked = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process: _Process | None = None
        self._state: State = "off"
        self._running: set[str] = set()
        self._waiting: list[Message] = []
        self.versions: dict[str, str] = {}
        self._timer = QTimer(self)
        self._timer.setInterval(TICK)
        self._timer.timeout.connect(self._drain)
        self._signals = {
            messages.Hello: self.greeted,
            messages.Catalogue: self.catalogue,
            messages.StateChanged: self.run_changed,
            messages.Progressed: self.progressed,
            messages.Measured: self.measured,
            messages.Shown: self.shown,
            messages.Kept: self.kept,
            messages.Produced: self.produced,
            messages.Logged: self.logged,
            messages.Answered: self.answered,
            messages.LookProgressed: self.look_progressed,
        }

    @property
    def state(self) -> State:
        return self._state

    @property
    def pid(self) -> int | None:
        """The engine's process id; None while there is none."""
        return self._process.popen.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start an engine where there is none. What was sent before goes to it first."""
        if self._process is not None:
            return
        try:
            self._process = _Process(command())
        except OSError as problem:
            self._become("died")
            self.died.emit(f"The engine could not be started ({problem.strerror or problem}).", repr(problem))
            return
        self._running.clear()
        self._become("starting")
        self._timer.start()
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self.send(message)

    def send(self, message: Message) -> None:
        """Say something to the engine. Returns at once; without an engine it waits for the next."""
        if self._process is None:
            self._waiting.append(message)
        else:
            self._process.outgoing.put(messages.encode(message))

    def stop(self, patience: float = 10.0) -> None:
        """End the engine: ask, wait at most ``patience`` seconds, then kill. Its last words are delivered."""
        process, self._process = self._process, None
        self._timer.stop()
        self._waiting.clear()
        if process is None:
            return
        process.outgoing.put(messages.encode(messages.Shutdown()))
        process.bury(patience)
        self._deliver(process)
        self._running.clear()
        self._become("off")

    def _become(self, state: State) -> None:
        if state != self._state:
            self._state = state
            self.state_changed.emit(state)

    def _drain(self) -> None:
        process = self._process
        if process is None:
            return
        ended = self._deliver(process)
        if self._process is not process:  # a slot stopped or replaced it
            return
        if ended and process.ended_at is None:
            process.ended_at = time.monotonic()
        if process.ended_at is not None:
            over = process.popen.poll() is not None
            if over or time.monotonic() - process.ended_at > HALF_DEAD:
                self._mourn(process)
                return
        if self._state in ("ready", "busy"):
            self._become("busy" if self._running else "ready")
        self.ticked.emit()

    def _mourn(self, process: _Process) -> None:
        self._process = None
        self._timer.stop()
        code = process.bury(0.0)
        self._deliver(process)
        self._running.clear()
        sentence = _what_happened(code, process)
        details = "\n".join(process.errors) or "It wrote nothing on its standard error."
        self._become("died")
        self.died.emit(sentence, details)

    def _deliver(self, process: _Process) -> bool:
        """Emit all that has arrived. True when the stream has ended."""
        arrived: list[Message] = []
        ended = False
        while process.arrived:
            message = process.arrived.popleft()
            if message is None:
                ended = True
            else:
                arrived.append(message)
        while process.unread:
            self.wrote.emit(process.unread.popleft())
        for message in merge(arrived):
            if isinstance(message, messages.Hello):
                self.versions = message.versions
                self._become("ready")
            elif isinstance(message, messages.StateChanged):
                active = message.record.get("state") in ("running", "paused")
                (self._running.add if active else self._running.discard)(message.run)
            found = self._signals.get(type(message))
            if found is not None:
                found.emit(message)
        return ended


def merge(arrived: list[Message]) -> list[Message]:
    """One drain's messages without what the next of them makes obsolete, in order.

    Rows of one metric are joined; of progress and of figures of one name only the newest is kept.
    """
    found: list[Message] = []
    newest: dict[Any, int] = {}
    rows: dict[str, int] = {}
    for message in arrived:
        key: Any = None
        if isinstance(message, messages.Progressed):
            key = ("progress", message.run)
        elif isinstance(message, messages.LookProgressed):
            key = ("look", message.look)
        elif isinstance(message, messages.Shown):
            key = ("figure", message.run, message.name)
        elif isinstance(message, messages.StateChanged):
            rows.pop(message.run, None)  # rows before and after a resumption must not be joined
        elif isinstance(message, messages.Measured):
            place = rows.get(message.run)
            if place is not None:
                earlier = found[place]
                assert isinstance(earlier, messages.Measured)
                found[place] = messages.Measured(message.run, _join(earlier.rows, message.rows))
                continue
            rows[message.run] = len(found)
        if key is not None and key in newest:
            found[newest[key]] = message
            continue
        if key is not None:
            newest[key] = len(found)
        found.append(message)
    return found


def _join(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    joined = dict(first)
    for name, rows in second.items():
        joined[name] = np.concatenate([joined[name], rows]) if name in joined else rows
    return joined


def _out_of_memory_kills() -> int:
    """How many processes this machine's kernel has killed for memory; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _what_happened(code: int, process: _Process) -> str:
    if code == -9 and _out_of_memory_kills() > process.out_of_memory_kills:
        return "The engine was killed by the system because memory ran out (signal 9)"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        verb = "was killed" if name in ("SIGKILL", "SIGTERM") else "crashed"
        return f"The engine {verb} (signal {-code}, {name})"
    if code == 0:
        return "The engine ended by itself"
    return f"The engine ended with status {code}"
