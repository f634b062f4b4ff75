"""What a run leaves besides curves and figures: kept arrays with export, its log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFileDialog, QPlainTextEdit, QVBoxLayout, QWidget

from app.panels.parts import button, row
from app.panels.rows import Rows, RowsView
from app.panels.words import size
from app.theme import S, mono
from engine import files
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

LINES = 12  # of the log that are seen at once


def write_npy(array: Any, path: Path) -> None:
    """Write an array as ``.npy``, without pickle, atomically. Raises `engine.files.DiskError`."""
    with files.replacing(path) as temporary, open(temporary, "wb") as out:
        np.lib.format.write_array(out, np.asanyarray(array, order="C"), allow_pickle=False)


class KeptArrays(QWidget):
    """The kept arrays of a run: name, shape, dtype, size, and a button that writes the chosen one as ``.npy``."""

    def __init__(self, run: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.run, self.workbench = run, workbench
        self._rows = Rows(["Array", "Shape", "Type", "Size"], monospaced=["Array"])
        self.table = RowsView(self._rows, "Kept arrays", most=8)
        self.table.doubleClicked.connect(lambda: self.export())
        self._button = button("Save as .npy…", self.export, tip="Write the selected array to a file for numpy")
        self.table.selectionModel().selectionChanged.connect(lambda: self._offer())
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        whole.addWidget(self.table)
        whole.addLayout(row(self._button))

    def refresh(self) -> None:
        rows = []
        for name in self.workbench.session.kept_names(self.run):
            array = self.workbench.session.kept(self.run, name)
            shape = " × ".join(f"{length:,}" for length in array.shape) or "one number"
            rows.append([name, shape, str(array.dtype), size(array.size * array.dtype.itemsize)])
        self._rows.set_rows(rows)
        if rows and not self.table.selected_rows():
            self.table.selectRow(0)
        self._offer()

    @property
    def count(self) -> int:
        return len(self._rows.rows)

    def export(self) -> None:
        """Ask where, then write the selected array there."""
        selected = self.table.selected_rows()
        if not selected:
            return
        name = self._rows.rows[selected[0]][0]
        folder = Path(self.workbench.settings.folder or Path.home())
        chosen, _ = QFileDialog.getSaveFileName(
            self, f"Save {name}", str(folder / f"{self.run}-{name}.npy"), "NumPy array (*.npy)"
        )
        if not chosen:
            return
        path = Path(chosen) if chosen.endswith(".npy") else Path(chosen + ".npy")
        try:
            write_npy(self.workbench.session.kept(self.run, name), path)
        except SuperscopeError as problem:
            self.workbench.report(problem)
            return
        self.workbench.settings.folder = str(path.parent)
        self.workbench.message.emit("good", f"Saved {name} to {path}", "")

    def _offer(self) -> None:
        self._button.setEnabled(bool(self.table.selected_rows()))


class RunLog(QPlainTextEdit):
    """The lines a run has said, with their time; they can be selected and copied."""

    def __init__(self, run: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.run, self.workbench = run, workbench
        self.setReadOnly(True)
        self.setFont(mono())
        self.setAccessibleName("Log of the run")
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.setTabChangesFocus(True)
        self.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        self._shown = 0

    def refresh(self) -> None:
        """Add the lines that are new."""
        lines = self.workbench.session.log(self.run)
        for line in lines[self._shown :]:
            when = time.strftime("%H:%M:%S", time.localtime(line.get("time", 0)))
            mark = "Warning: " if line.get("level") == "warning" else ""
            self.appendPlainText(f"{when}  {mark}{line.get('text', '')}")
        self._shown = len(lines)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """As high as its lines, wrapped ones counted, up to `LINES`."""
        lines = min(LINES, max(1, int(self.document().size().height())))
        margins = 2 * int(self.document().documentMargin()) + 2
        self.setFixedHeight(lines * self.fontMetrics().lineSpacing() + margins)

    @property
    def count(self) -> int:
        return self._shown
