"""The engine's outgoing messages: joined where the newest says it all, sent about every 30 ms by one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from typing import BinaryIO

import numpy as np

from engine.runs import messages
from engine.runs.messages import Message

EVERY = 0.03  # seconds between deliveries; answers to looks do not wait


class Outbox:
    """Takes messages from any thread without waiting for the reader and writes them in order.

    Metric rows of a run are joined, of progress and of a figure's name only the newest is sent,
    and a record that changes within one state is sent once. Nothing of a run moves across a change
    of its state.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._pending: dict[Hashable, list[Message]] = {}
        self._chapter: dict[str, int] = {}
        self._state: dict[str, object] = {}
        self._count = 0
        self._urgent = False
        self._closed = False
        self.broken = False
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Send ``message`` soon."""
        with self._changed:
            if self._closed or self.broken:
                return
            key = self._key(message)
            if isinstance(message, messages.Measured):
                self._pending.setdefault(key, []).append(message)
            else:
                self._pending[key] = [message]
            self._urgent = self._urgent or isinstance(message, messages.Answered)
            self._changed.notify_all()

    def close(self, timeout: float = 5.0) -> None:
        """Send what is left and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _key(self, message: Message) -> Hashable:
        """Messages of equal key are joined; a key that no other message has keeps one as it is."""
        self._count += 1
        match message:
            case messages.StateChanged(run, record):
                if self._state.get(run) != record.get("state"):
                    self._state[run] = record.get("state")
                    self._chapter[run] = self._chapter.get(run, 0) + 1
                return ("state", run, self._chapter[run])
            case messages.Progressed(run):
                return ("progress", run, self._chapter.get(run, 0))
            case messages.Measured(run):
                return ("metrics", run, self._chapter.get(run, 0))
            case messages.Shown(run, name):
                return ("figure", run, name, self._chapter.get(run, 0))
            case messages.LookProgressed(look):
                return ("look", look)
            case _:
                return self._count

    def _work(self) -> None:
        sent = 0.0
        while True:
            with self._changed:
                while not self._closed:
                    left = sent + EVERY - time.monotonic()
                    if self._pending and (self._urgent or left <= 0):
                        break
                    self._changed.wait(left if self._pending else None)
                pending, self._pending, self._urgent = self._pending, {}, False
                last = self._closed
            sent = time.monotonic()
            try:
                for group in pending.values():
                    self._deliver(group)
                self._stream.flush()
            except (OSError, ValueError):  # the reader is gone; the main loop sees its own pipe end
                self.broken = True
                return
            if last:
                return

    def _deliver(self, group: list[Message]) -> None:
        message = group[0]
        if isinstance(message, messages.Measured):
            message = messages.Measured(message.run, _join([one.rows for one in group if hasattr(one, "rows")]))
        try:
            frame = messages.encode(message)
        except (MemoryError, TypeError, ValueError) as problem:
            text = f"A message ({type(message).__name__}) could not be sent to the window: {problem}."
            frame = messages.encode(messages.Logged(getattr(message, "run", ""), "error", text))
        self._stream.write(frame)


def _join(parts: list[dict[str, messages.Array]]) -> dict[str, messages.Array]:
    rows: dict[str, list[messages.Array]] = {}
    for part in parts:
        for name, values in part.items():
            rows.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in rows.items()}
