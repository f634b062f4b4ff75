"""Dictionaries of other programs that are dropped on the window: their run first, then their card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.window.main_window import MainWindow

GOING = ("queued", "running", "paused")


def open_dictionary(window: MainWindow, path: Path) -> None:
    """Open what lies at ``path``; its run shows how far that is and what is wrong with it."""
    workbench = window.workbench
    try:
        run = workbench.start("open-dictionary", {"dictionary": str(path)}, title=f"Open {path.name}")
    except SuperscopeError as problem:
        workbench.report(problem)
        return
    workbench.open_panel("run", run)
    _Waiting(window, run)


class _Waiting(QObject):
    """Shows the card of the dictionary that a run has opened; of several, the run's table and the tree do."""

    def __init__(self, window: MainWindow, run: str) -> None:
        super().__init__(window)
        self._workbench, self._run = window.workbench, run
        self._workbench.run_changed.connect(self._changed)
        self._workbench.session_changed.connect(self._end)

    def _changed(self, run: str) -> None:
        if run != self._run or self._workbench.record(run).state in GOING:
            return
        made = [
            thing.id for thing in self._workbench.session.things("dictionaries") if thing.attributes.get("run") == run
        ]
        if len(made) == 1 and self._workbench.record(run).state == "finished":
            self._workbench.open_panel("dictionary", made[0])
        self._end()

    def _end(self) -> None:
        self._workbench.run_changed.disconnect(self._changed)
        self._workbench.session_changed.disconnect(self._end)
        self.deleteLater()
