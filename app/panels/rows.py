"""A read-only table of texts as a Qt model: kept arrays, facts. Virtual, so it may be long."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from app.theme import mono, set_role

Index = QModelIndex | QPersistentModelIndex
NOWHERE = QModelIndex()


class Rows(QAbstractTableModel):
    """Rows of texts under named columns; columns named in ``monospaced`` hold code or tokens."""

    def __init__(self, columns: Sequence[str], monospaced: Sequence[str] = (), parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.columns = list(columns)
        self._monospaced = {self.columns.index(name) for name in monospaced}
        self.rows: list[list[str]] = []

    def set_rows(self, rows: Sequence[Sequence[str]]) -> None:
        found = [list(row) for row in rows]
        if found != self.rows:
            self.beginResetModel()
            self.rows = found
            self.endResetModel()

    def rowCount(self, parent: Index = NOWHERE) -> int:
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = NOWHERE) -> int:
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return self.rows[index.row()][index.column()]
        if role == Qt.ItemDataRole.FontRole and index.column() in self._monospaced:
            return mono()
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return self.columns[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return None


class RowsView(QTableView):
    """Shows `Rows`, as high as its content up to ``most`` rows; Ctrl+C copies the selected rows.

    Column ``flexible`` (the last unless told) takes the room that the others leave.
    """

    def __init__(
        self, model: Rows, name: str, most: int = 12, *, flexible: int = -1, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        set_role(self, "figure")
        self._most = most
        self.setModel(model)
        self.setAccessibleName(name)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setMinimumSectionSize(60)
        header.setSectionResizeMode(flexible % len(model.columns), QHeaderView.ResizeMode.Stretch)
        model.modelReset.connect(self._fit)
        self._fit()

    def show_most(self, rows: int) -> None:
        """Show up to so many rows at once."""
        if rows != self._most:
            self._most = rows
            self._fit()

    def selected_rows(self) -> list[int]:
        return sorted({index.row() for index in self.selectionModel().selectedRows()})

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            model = self.model()
            assert isinstance(model, Rows)
            QGuiApplication.clipboard().setText("\n".join("\t".join(model.rows[row]) for row in self.selected_rows()))
            return
        super().keyPressEvent(event)

    def _fit(self) -> None:
        shown = min(self._most, max(1, self.model().rowCount()))
        line = max(self.fontMetrics().height() + 8, self.verticalHeader().minimumSectionSize())
        self.verticalHeader().setDefaultSectionSize(line)
        self.setFixedHeight(shown * line + self.horizontalHeader().sizeHint().height() + 2 * self.frameWidth() + 2)
