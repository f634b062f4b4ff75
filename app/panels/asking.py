"""`Asker`: what a panel asks of the engine while one types. After a pause, newest only, stale answers ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.runs.messages import Answered, LookProgressed

PAUSE = 300  # ms without a change after which the question is put


class Asker(QObject):
    """One panel's line to the engine.

    Signals:
        answered: `Answered` to the newest question, partial ones (``done`` false) included.
        failed: the sentence and the details of an answer that is an error.
        progressed: `Progress` of the newest question.
        waiting: whether a question is out or about to be put.
    """

    answered = Signal(object)
    failed = Signal(str, str)
    progressed = Signal(object)
    waiting = Signal(bool)

    def __init__(self, workbench: Workbench, panel: str, experiment: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.workbench, self.panel, self.experiment = workbench, panel, experiment
        self.asked: dict[str, Any] = {}
        self._look: int | None = None
        self._wanted: dict[str, Any] | None = None
        self._is_waiting = False
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.timeout.connect(self._put)

    @property
    def is_waiting(self) -> bool:
        return self._is_waiting

    def ask(self, parameters: dict[str, Any], *, pause: int = PAUSE) -> None:
        """Ask with ``parameters`` after ``pause`` ms; a question that is not put yet is replaced."""
        self._wanted = parameters
        self._say(True)
        if pause:
            self._pause.start(pause)
        else:
            self._put()

    def cancel(self) -> None:
        """Forget what was asked; no answer comes any more."""
        self._pause.stop()
        self._wanted = None
        look, self._look = self._look, None
        if look is not None:
            self.workbench.cancel(look)
        self._say(False)

    def _put(self) -> None:
        self._pause.stop()
        if self._wanted is None:
            return
        self.asked, self._wanted = self._wanted, None
        # No look is the newest while `ask` runs: an answer that comes from inside it is an old one.
        self._look = None
        self._look = self.workbench.ask(self.panel, self.experiment, self.asked, self._answer, self._progress)

    def _answer(self, said: Answered) -> None:
        if said.look != self._look:
            return
        if said.done or said.error:
            self._look = None
            self._say(self._wanted is not None)
        if said.error:
            self.failed.emit(said.error, said.traceback)
        else:
            self.answered.emit(said)

    def _progress(self, said: LookProgressed) -> None:
        if said.look == self._look:
            self.progressed.emit(said.progress)

    def _say(self, waiting: bool) -> None:
        if waiting != self._is_waiting:
            self._is_waiting = waiting
            self.waiting.emit(waiting)
