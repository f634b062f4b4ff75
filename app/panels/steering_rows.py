"""The rows of the bench's prompt set: made when they are first wanted, hidden otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from app.panels.prompt_table import PromptTable
    from app.workbench import Workbench

TALL = 300  # pixels: some eight rows


class SteeringRows(QWidget):
    """An editable table that follows the prompt set chosen elsewhere, and says when it holds another.

    Signals:
        chosen: the reference of the set that the table holds now: opened there, or edited.
    """

    chosen = Signal(str)

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self.table: PromptTable | None = None
        self._reference = ""
        self._whole = QVBoxLayout(self)
        self._whole.setContentsMargins(0, 0, 0, 0)
        self.hide()

    def show_rows(self, wanted: bool) -> None:
        """Show or hide the table."""
        if wanted and self.table is None:
            from app.panels.prompt_table import PromptTable  # late: most people steer with a set as it is

            self.table = PromptTable(self.workbench, self._reference)
            self.table.setMinimumHeight(TALL)
            self.table.chooser.hide()  # sets are chosen where the other choices are
            whole = self.table.layout()
            first = whole.itemAt(0) if whole is not None else None
            line = first.layout() if first is not None else None
            if isinstance(line, QHBoxLayout):  # what stands beside it moves to its place
                line.addStretch(1)
            self.table.changed.connect(lambda _: self._changed())
            self._whole.addWidget(self.table)
        self.setVisible(wanted)

    def follow(self, reference: str) -> None:
        """Hold the set named ``reference``."""
        if reference != self._reference:
            self._reference = reference
            if self.table is not None:
                self.table.open(reference)

    def closing(self) -> None:
        """The panel goes."""
        if self.table is not None:
            self.table.closing()

    def _changed(self) -> None:
        assert self.table is not None
        reference = self.table.reference()
        if reference != self._reference and not self.table.problem:
            self._reference = reference
            self.chosen.emit(reference)
