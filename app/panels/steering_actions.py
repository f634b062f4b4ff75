"""The line above the steering bench: which model, and what one can do with what is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QWidget

from app.panels import models
from app.panels.inputs import Choice
from app.panels.parts import button
from app.theme import S
from engine.runs import snippets

if TYPE_CHECKING:
    from app.workbench import Workbench


class SteeringActions(QWidget):
    """Model and buttons.

    Signals:
        model_chosen: the reference of another model.
        copied: how to write it: `snippets.as_command` or `snippets.as_python`.
        kept, swept: Keep and Run sweep were pressed.
    """

    model_chosen = Signal(str)
    copied = Signal(object)
    kept = Signal()
    swept = Signal()

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self._reference = ""
        self.models = Choice()
        self.models.setAccessibleName("Model")
        # No wider than it needs to be: the longest name of a session must not push the window's sides away.
        self.models.setSizeAdjustPolicy(Choice.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.models.setMinimumContentsLength(19)
        self.models.activated.connect(lambda _: self._chosen())
        words = QLabel("Model")
        words.setBuddy(self.models)
        card = button("Model card", lambda: self.workbench.open_panel("model", self._reference))
        self.copy = button("Copy as…", lambda: None, tip="The same look as a command or as Python")
        menu = QMenu(self.copy)
        for named, write in (("command", snippets.as_command), ("Python", snippets.as_python)):
            menu.addAction(f"Copy as {named}", self._copier(write))
        self.copy.setMenu(menu)
        self.keep = button("Keep", self.kept.emit, tip="Record both texts and the figures as a run of the session")
        self.keep.setEnabled(False)
        self.sweep = button(
            "Run sweep",
            self.swept.emit,
            role="primary",
            tip="Measure these choices on all rows over a range of strengths, as a run",
        )
        whole = QHBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        whole.addWidget(words)
        whole.addWidget(self.models)
        whole.addStretch(1)
        for made in (card, self.copy, self.keep, self.sweep):
            whole.addWidget(made)

    def _copier(self, write: Any) -> Callable[[], None]:
        return lambda: self.copied.emit(write)

    def list_models(self, reference: str) -> None:
        """Show the model that is steered, and offer those of the session."""
        self._reference = reference
        found = models.listed(reference, self.workbench)
        self.models.clear()
        for known in found:
            self.models.addItem(models.title_of(known, self.workbench), known)
        self.models.setCurrentIndex(found.index(reference))
        self.models.setToolTip(reference)

    def _chosen(self) -> None:
        reference = str(self.models.currentData())
        if reference != self._reference:
            self._reference = reference
            self.model_chosen.emit(reference)
