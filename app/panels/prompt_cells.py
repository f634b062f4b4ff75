"""How cells of a prompt set look and are typed in: white space that can be seen, problems marked, a grid with keys."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QKeyEvent, QKeySequence, QPainter, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLineEdit,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from app.panels.prompt_rows import PROBLEM_ROLE, PromptModel
from app.theme import set_role
from engine.text.prompts import visible

if TYPE_CHECKING:
    from app.workbench import Workbench

Index = QModelIndex | QPersistentModelIndex
WIDEST, NARROWEST = 340, 64  # pixels of a column at first
NARROW, LESS = 640, 200  # pixels below which a table is narrow, and of its columns at most
SAMPLED = 100  # rows looked at for the widths of columns
_SHOWN = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_READ = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def typed(text: str) -> str:
    """``text`` as it stands in a line of its own while it is edited: a line feed is \\n, a tab \\t, a backslash \\\\."""
    return "".join(_SHOWN.get(sign, sign) for sign in text)


def untyped(text: str) -> str:
    """The text that `typed` wrote."""
    return re.sub(r"\\([ntr\\])", lambda found: _READ[found[1]], text)


def to_tsv(rows: list[list[str]]) -> str:
    """Cells as spreadsheets take them from the clipboard."""
    text = io.StringIO()
    csv.writer(text, "excel-tab").writerows(rows)
    return text.getvalue()


def from_tsv(text: str) -> list[list[str]]:
    """Cells as spreadsheets put them on the clipboard."""
    try:
        return [cells or [""] for cells in csv.reader(io.StringIO(text, newline=""), "excel-tab", strict=True)]
    except csv.Error:  # no spreadsheet's: a text with a quotation mark of its own
        return [line.split("\t") for line in text.splitlines()]


class PromptDelegate(QStyledItemDelegate):
    """Draws spaces at the ends of a text as ␣ and what is wrong on a tinted ground; edits in place."""

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench

    def displayText(self, value: Any, locale: Any) -> str:
        return visible(str(value))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        problem = index.data(PROBLEM_ROLE)
        look = self._workbench.theme
        if problem:
            painter.fillRect(option.rect, look.blend(look.bad, 0.16, look.canvas))  # type: ignore[attr-defined]
        super().paint(painter, option, index)
        cell: QRect = option.rect  # type: ignore[attr-defined]
        painter.setPen(look.line)
        painter.drawLine(cell.bottomLeft(), cell.bottomRight())
        painter.drawLine(cell.topRight(), cell.bottomRight())
        if problem:
            painter.fillRect(QRect(cell.topLeft(), QSize(3, cell.height())), look.bad)

    def createEditor(self, parent: QWidget, option: QStyleOptionViewItem, index: Index) -> QWidget:
        made = QLineEdit(parent)
        name = index.model().headerData(index.column(), Qt.Orientation.Horizontal)
        made.setAccessibleName(f"{name}, row {index.row() + 1}")
        made.setToolTip("A line feed is typed as \\n, a tab as \\t, a backslash as \\\\")
        if index.data(Qt.ItemDataRole.FontRole) is not None:
            made.setFont(index.data(Qt.ItemDataRole.FontRole))
        return made

    def setEditorData(self, editor: QWidget, index: Index) -> None:
        assert isinstance(editor, QLineEdit)
        editor.setText(typed(str(index.data(Qt.ItemDataRole.EditRole))))

    def setModelData(self, editor: QWidget, model: Any, index: Index) -> None:
        assert isinstance(editor, QLineEdit)
        model.setData(index, untyped(editor.text()))


class PromptGrid(QTableView):
    """The rows with columns that can be dragged wider; ``keys`` are what keys do that are not the grid's own."""

    def __init__(self, workbench: Workbench, model: PromptModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.keys: Mapping[str, Callable[[], object]] = {}
        self._fitted: tuple[tuple[str, ...], bool] = ((), False)
        set_role(self, "figure")
        self.setModel(model)
        self.setItemDelegate(PromptDelegate(workbench, self))
        self.setAccessibleName("Rows of the prompt set")
        self.setAccessibleDescription(
            "F2 or typing edits a cell; Insert adds a row, Ctrl+Delete deletes the chosen ones"
        )
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked
            | QAbstractItemView.EditTrigger.EditKeyPressed
            | QAbstractItemView.EditTrigger.AnyKeyPressed
        )
        self.setShowGrid(False)  # the style's lines are lost on a dark ground; the delegate draws its own
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # prompts differ at the end as often as at the beginning
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)  # Tab leaves the table, arrow keys move in it
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setMinimumHeight(120)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.horizontalHeader().setHighlightSections(False)
        self.horizontalHeader().setMinimumSectionSize(NARROWEST)
        self.dress()

    def dress(self) -> None:
        """Take the heights of the font."""
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 8)
        self.viewport().update()

    def fit_columns(self) -> None:
        """Columns as wide as their texts, once for each set of columns."""
        model = self.model()
        assert isinstance(model, PromptModel)
        columns = model.content.columns
        narrow = self.viewport().width() < NARROW  # then completions are to be seen beside their prompt
        if (columns, narrow) == self._fitted:
            return
        self._fitted = (columns, narrow)
        widest = LESS if narrow else WIDEST
        for column, name in enumerate(columns):
            index = model.index(0, column)
            font = model.data(index, Qt.ItemDataRole.FontRole) if index.isValid() else None
            metrics = self.fontMetrics() if font is None else type(self.fontMetrics())(font)
            texts = [visible(row[column]) for row in model.content.rows[:SAMPLED]]
            longest = max((metrics.horizontalAdvance(text) for text in texts), default=0)
            head = self.fontMetrics().horizontalAdvance(name)
            self.setColumnWidth(column, min(max(longest, head, NARROWEST) + 24, widest))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit_columns()

    def event(self, event: QEvent) -> bool:
        # The window has undo and delete of its own; while the table has the focus, these keys are the table's.
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and self._key(event):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        found = self._key(event)
        if found is not None:
            found()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            if not self._is_editing():  # the line passes on the Return that ends it
                self.edit(self.currentIndex())
        else:
            super().keyPressEvent(event)

    def _is_editing(self) -> bool:
        return self.state() == QAbstractItemView.State.EditingState

    def _key(self, event: QKeyEvent) -> Callable[[], object] | None:
        return None if self._is_editing() else self.keys.get(QKeySequence(event.keyCombination()).toString())
