"""What a run will need, asked of the engine while its form is filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QWidget

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.runs.messages import Answered

REST = 500  # ms after the last change before the engine is asked
PANEL = "form-estimate"
NAME = "estimate"  # of the table whose note is the sentence, where no fact "sentence" has it


class Estimator(QTimer):
    """Asks the look that an experiment declares as its ``estimate``, half a second after the last change.

    The look takes the experiment's own parameters, or the experiment's name and all of them as ``parameters``: then it
    answers for many experiments.

    Signals:
        said: one sentence ("" for none) and its level, ``muted`` or ``warning``.
    """

    said = Signal(str, str)

    def __init__(self, workbench: Workbench, form: QWidget) -> None:
        super().__init__(form)
        self._workbench, self._form = workbench, form
        self._look = self._experiment = ""
        self._wanted: dict[str, Any] = {}
        self._runs = 0
        self._asked: dict[str, Any] | None = None
        self.setSingleShot(True)
        self.setInterval(REST)
        self.timeout.connect(self._ask)

    def use(self, look: str, experiment: str) -> None:
        """Ask this look about ``experiment`` from now on ("" for none), and forget what the last one said."""
        self.stop()
        self._look, self._experiment, self._asked = look, experiment, None
        self.said.emit("", "muted")

    def ask(self, runs: list[dict[str, Any]]) -> None:
        """The form stands for these runs; the first of them is asked about."""
        described = self._workbench.catalogue.get(self._look)
        if described is None:
            return
        known = described["parameters"].get("properties", {})
        if known.keys() == {"experiment", "parameters"}:
            self._wanted = {"experiment": self._experiment, "parameters": runs[0]}
        else:
            self._wanted = {name: value for name, value in runs[0].items() if name in known}
        self._runs = len(runs)
        self.start()

    def rest(self) -> None:
        """Ask nothing: the form has to be mended first."""
        self.stop()
        self._asked = None
        self.said.emit("", "muted")

    def _ask(self) -> None:
        if self._form.isVisible() and self._wanted != self._asked:
            self._asked = self._wanted
            self._workbench.ask(PANEL, self._look, self._wanted, self._answered)

    def _answered(self, answer: Answered) -> None:
        if self._asked is None or not answer.done:  # another experiment, or something to mend, came between
            return
        if answer.error:
            self.said.emit(answer.error, "warning")
            return
        figure = answer.figures.get(NAME)
        sentence = str(answer.facts.get("sentence") or (figure.note if figure is not None else ""))
        level = "muted" if answer.facts.get("fits", True) else "warning"
        self.said.emit(f"First of {self._runs} runs: {sentence}" if self._runs > 1 and sentence else sentence, level)
