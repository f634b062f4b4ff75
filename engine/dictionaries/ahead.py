"""Capture in a thread that runs ahead of the trainer: a bounded row of chunks in a fixed order.

The thread decides nothing: which chunk comes when is settled before it starts, so a run with it and a run
without it compute the same.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
HELD = 0.05  # seconds between two looks at whether a person still holds the run


class _Line(Generic[T]):
    """What is ready, between the capturing thread and the one that takes."""

    def __init__(self, depth: int, hold: Callable[[], bool]) -> None:
        self._changed = threading.Condition()
        self._ready: deque[T | BaseException] = deque()
        self._depth = depth
        self._hold = hold
        self._wanted = self._closed = False

    def may_go_on(self) -> bool:
        """Wait until there is room and nobody holds the run, unless the trainer waits. False once closed."""
        with self._changed:
            while not self._closed:
                full = len(self._ready) >= self._depth
                wanted = self._wanted and not self._ready
                if not full and (wanted or not self._hold()):
                    return True
                self._changed.wait(None if full else HELD)
            return False

    def put(self, found: T | BaseException) -> None:
        with self._changed:
            self._ready.append(found)
            self._changed.notify_all()

    def take(self) -> T:
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
            while not self._ready:
                if self._closed:
                    raise RuntimeError("nothing is captured ahead any more")
                self._changed.wait()
            self._wanted = False
            found = self._ready.popleft()
            self._changed.notify_all()
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()


def _work(line: _Line[T], read: Callable[[int], T], places: Iterable[int], threads: int) -> None:
    torch.get_num_threads()  # a thread takes the process' number at its first question, and would then overrule ours
    torch.set_num_threads(threads)
    for place in places:
        if not line.may_go_on():
            return
        try:
            found = read(place)
        except BaseException as problem:  # it belongs to whoever asks for this chunk
            line.put(problem)
            return
        line.put(found)


class Ahead(Generic[T]):
    """Reads ``places`` in order, at most ``depth`` of them ahead of `take`.

    The thread computes with as many threads as the caller has now. It ends with the last place, with an error,
    with `close`, and when nobody holds this object any more.

    Args:
        read: gives what is at a place; must not refer to this object.
        places: what to read; may be endless.
        depth: most results that wait.
        hold: while it says True nothing is read, unless `take` waits for it.
    """

    def __init__(
        self, read: Callable[[int], T], places: Iterable[int], *, depth: int, hold: Callable[[], bool] = lambda: False
    ) -> None:
        self._line: _Line[T] = _Line(depth, hold)
        self._thread = threading.Thread(
            target=_work, args=(self._line, read, places, torch.get_num_threads()), name="capture ahead", daemon=True
        )
        weakref.finalize(self, self._line.close)
        self._thread.start()

    def take(self) -> T:
        """The next result. Raises what reading it raised."""
        return self._line.take()

    def close(self) -> None:
        """Read no more, and wait for the thread: for what it reads now at most."""
        self._line.close()
        self._thread.join()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
