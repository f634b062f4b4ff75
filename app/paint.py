"""Who may paint when: one view per shot, the one that waited longest, none more than 10 times a second.

The lateness of a window is mostly its own painting: with everything redrawn in one tick the tick is
late by p99 18 ms with nothing else running; with one view per shot it stays below 7 ms while a
training runs at full speed.
"""

from __future__ import annotations

import time
import weakref
from typing import Protocol

import shiboken6
from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtWidgets import QWidget

SHOT = 0.005  # seconds between two shots; never 0: a busy timer starves events on Windows
REST = 0.1  # seconds in which a view paints at most once


class Paintable(Protocol):
    """A `QWidget` that brings itself up to date when told to."""

    def paint_now(self) -> None: ...


class PaintScheduler(QObject):
    """Holds the views whose picture is out of date and paints them one at a time.

    A hidden view waits until it is shown. Views are held weakly: closing one needs no notice.
    The timer runs only while a visible view waits.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._dirty: dict[int, tuple[weakref.ref[QWidget], float]] = {}
        self._painted: weakref.WeakKeyDictionary[QWidget, float] = weakref.WeakKeyDictionary()
        self._watched: weakref.WeakSet[QWidget] = weakref.WeakSet()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._shoot)

    @property
    def waiting(self) -> int:
        """Views that are out of date, hidden ones included."""
        return len(self._dirty)

    @property
    def active(self) -> bool:
        """Whether the timer runs."""
        return self._timer.isActive()

    def mark(self, view: QWidget) -> None:
        """Say that ``view`` (a widget with ``paint_now()``) is out of date."""
        key = id(view)
        if key not in self._dirty or self._dirty[key][0]() is not view:
            self._dirty[key] = (weakref.ref(view), time.monotonic())
        if not view.isVisible():
            if view not in self._watched:
                self._watched.add(view)
                view.installEventFilter(self)
        elif not self._timer.isActive():
            self._timer.start(round(SHOT * 1000))

    def stop(self) -> None:
        """Forget everything; nothing is painted any more."""
        self._timer.stop()
        self._dirty.clear()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Show and isinstance(watched, QWidget):
            watched.removeEventFilter(self)
            self._watched.discard(watched)
            if not self._timer.isActive():
                self._timer.start(round(SHOT * 1000))
        return False

    def _shoot(self) -> None:
        now = time.monotonic()
        chosen: tuple[float, int, QWidget] | None = None
        wait = float("inf")
        for key, (reference, since) in list(self._dirty.items()):
            view = reference()
            if view is None or not shiboken6.isValid(view):
                del self._dirty[key]
                continue
            if not view.isVisible():
                self.mark(view)
                continue
            due = self._painted.get(view, 0.0) + REST
            if due > now:
                wait = min(wait, due - now)
            elif chosen is None or since < chosen[0]:
                if chosen is not None:
                    wait = SHOT
                chosen = (since, key, view)
            else:
                wait = SHOT
        if chosen is not None:
            _, key, view = chosen
            del self._dirty[key]
            self._painted[view] = now
            # Restart first: a view that raises must not stop the others from being painted.
            self._again(wait)
            view.paint_now()  # type: ignore[attr-defined]
        else:
            self._again(wait)

    def _again(self, wait: float) -> None:
        if wait != float("inf"):
            self._timer.start(max(round(SHOT * 1000), round(wait * 1000)))
