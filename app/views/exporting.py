"""Exports in the background: drawing a picture for a paper takes about a second, which the window does not have."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import shiboken6
from PySide6.QtCore import QObject, Signal

from engine.figures.export import write_figure
from engine.figures.kinds import Figure

if TYPE_CHECKING:
    from app.workbench import Workbench

Job = Callable[[], object]


class Exporter(QObject):
    """Writes figures one after another on a thread that ends when there is nothing left to write.

    Signals:
        finished: the path, and the problem or None; comes on the window's thread.
    """

    finished = Signal(str, object)

    def __init__(self, workbench: Workbench) -> None:
        super().__init__(workbench)
        self.setObjectName("exporter")
        self._workbench = workbench
        self._lock = threading.Lock()
        self._jobs: deque[tuple[str, Job]] = deque()
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self.finished.connect(self._tell)

    @property
    def busy(self) -> bool:
        """Whether something is being written."""
        return self._waiting > 0

    def write(self, figure: Figure, path: Path, theme: str, camera: tuple[float, float]) -> None:
        """Write ``figure`` to ``path``; a message says when it is there, or why not."""
        self._waiting += 1
        with self._lock:
            self._jobs.append((str(path), lambda: write_figure(figure, path, theme, camera=camera)))
            if self._thread is None:
                # Not a daemon: a file that was asked for is finished even when the window closes.
                self._thread = threading.Thread(target=self._work, name="exporter")
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._thread = None
                    return
                path, job = self._jobs.popleft()
            problem: Exception | None = None
            try:
                job()
            except Exception as found:  # whatever it is, the person is told on the window's thread
                problem = found
            if shiboken6.isValid(self):
                self.finished.emit(path, problem)

    def _tell(self, path: str, problem: Exception | None) -> None:
        self._waiting -= 1
        if problem is None:
            self._workbench.message.emit("good", f"Written: {path}", "")
        else:
            self._workbench.report(problem)


def exporter(workbench: Workbench) -> Exporter:
    """The exporter of this workbench."""
    found = workbench.findChild(Exporter, "exporter")
    return found if found is not None else Exporter(workbench)
