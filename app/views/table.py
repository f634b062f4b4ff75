"""Tables: virtual, sortable, filterable, with copy. Only the rows that are seen are ever turned into text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import (
    QAbstractTableModel,
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    Qt,
    QTimer,
)
from PySide6.QtGui import QFontMetrics, QGuiApplication, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QLineEdit, QTableView, QWidget

from app.theme import Theme, body, set_role, small
from app.views.base import FigureView
from engine.figures.kinds import Figure, Table
from engine.figures.words import cell_word

if TYPE_CHECKING:
    from app.workbench import Workbench

Index: TypeAlias = QModelIndex | QPersistentModelIndex
Order: TypeAlias = npt.NDArray[np.intp]
FILTER_AFTER = 150  # ms after the last letter
SAMPLED = 200  # rows looked at for the widths of columns
WIDEST = 360
_COMPARED = re.compile(r"^\s*(.+?)\s*(<=|>=|=|<|>)\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*$", re.IGNORECASE)


class TableModel(QAbstractTableModel):
    """The columns of a `Table` in the order that sorting and filter give."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.figure: Table | None = None
        self.order: Order = np.zeros(0, dtype=np.intp)
        self.sorted_by: tuple[int, Qt.SortOrder] | None = None
        self.wanted = ""

    @property
    def total(self) -> int:
        return len(self.figure.columns[0]) if self.figure is not None and self.figure.columns else 0

    def show_table(self, figure: Table) -> None:
        """Take new columns, keeping sorting and filter."""
        self.beginResetModel()
        self.figure = figure
        if self.sorted_by is not None and self.sorted_by[0] >= len(figure.columns):
            self.sorted_by = None
        self._arrange()
        self.endResetModel()

    def keep(self, wanted: str) -> None:
        """Show only rows that hold ``wanted`` (any case), or, as ``column > number``, that compare so."""
        self.beginResetModel()
        self.wanted = wanted
        self._arrange()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; what is not finite comes last whichever way."""
        self.beginResetModel()
        self.sorted_by = (column, order) if column >= 0 else None
        self._arrange()
        self.endResetModel()

    def _arrange(self) -> None:
        if self.figure is None:
            return
        kept = np.flatnonzero(self._matching()) if self.wanted.strip() else np.arange(self.total)
        if self.sorted_by is not None:
            column, order = self.sorted_by
            kept = kept[ranked(self.figure.columns[column][kept], order == Qt.SortOrder.DescendingOrder)]
        self.order = kept

    def _matching(self) -> npt.NDArray[np.bool_]:
        assert self.figure is not None
        compared = _COMPARED.match(self.wanted)
        if compared:
            name, sign, limit = compared[1].lower(), compared[2], float(compared[3])
            for axis, column in zip(self.figure.axes, self.figure.columns, strict=True):
                if axis.label.lower().startswith(name) and column.dtype.kind in "iuf":
                    tests = {"<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal, "=": np.equal}
                    found: npt.NDArray[np.bool_] = tests[sign](column, limit)
                    return found
        words = self.wanted.strip().lower()
        hits = np.zeros(self.total, dtype=np.bool_)
        for column in self.figure.columns:
            texts = np.asarray(column.astype(np.str_))
            hits |= np.char.find(np.char.lower(texts), words) >= 0
        return hits

    # ---- Qt's questions

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 (Qt's signature)
        return 0 if parent.isValid() else len(self.order)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() or self.figure is None else len(self.figure.columns)

    def value(self, row: int, column: int) -> Any:
        """The value that is shown at a row and a column of the view."""
        assert self.figure is not None
        return self.figure.columns[column][self.order[row]].item()

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if self.figure is None or not index.isValid():
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return cell_word(self.value(index.row(), index.column()))
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._side(index.column())
        if role == Qt.ItemDataRole.ToolTipRole:
            return str(self.value(index.row(), index.column()))
        return None

    def numeric(self, column: int) -> bool:
        return self.figure is not None and self.figure.columns[column].dtype.kind in "iuf"

    def _side(self, column: int) -> Qt.AlignmentFlag:
        side = Qt.AlignmentFlag.AlignRight if self.numeric(column) else Qt.AlignmentFlag.AlignLeft
        return side | Qt.AlignmentFlag.AlignVCenter

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if self.figure is None:
            return None
        if orientation == Qt.Orientation.Vertical:
            return str(int(self.order[section])) if role == Qt.ItemDataRole.DisplayRole else None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.figure.axes[section].text()
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._side(section)
        return None


def ranked(column: np.ndarray, descending: bool) -> Order:
    """The order that sorts ``column``, stable; NaN last both ways."""
    if column.dtype.kind in "US":
        order = np.argsort(np.char.lower(column), kind="stable")
        return order[::-1] if descending else order
    lost = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), dtype=np.bool_)
    known, unknown = np.flatnonzero(~lost), np.flatnonzero(lost)
    keys = column[known]
    keys = -keys.astype(np.float64) if descending and keys.dtype.kind == "f" else keys
    order = np.argsort(keys, kind="stable")
    if descending and keys.dtype.kind != "f":
        order = len(keys) - 1 - np.argsort(keys[::-1], kind="stable")[::-1]
    return np.concatenate([known[order], unknown])


class Grid(QTableView):
    """The table itself; keys that it does not use go to the view."""

    def __init__(self, view: TableView) -> None:
        super().__init__()
        self._view = view
        self.setAccessibleName("Table")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_E, Qt.Key.Key_Escape) or event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            event.ignore()
            self._view.keyPressEvent(event)
        else:
            super().keyPressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        super().mouseMoveEvent(event)
        self._view.point_at(event.position().toPoint())

    def leaveEvent(self, event: Any) -> None:
        super().leaveEvent(event)
        self._view.leave()


class TableView(FigureView):
    """A `Table`. A header's click sorts, the line above filters, Ctrl+C copies what is selected."""

    empty_hint = "This table has no rows yet. They appear here when the run has made them."

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        self._fitted: tuple[Any, ...] = ()
        super().__init__(workbench, figure, parent)

    def make_content(self) -> QWidget:
        self.model = TableModel(self)
        self.grid = Grid(self)
        set_role(self.grid, "figure")
        self.grid.setModel(self.model)
        self.grid.setSortingEnabled(False)
        self.grid.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.grid.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.grid.setAlternatingRowColors(True)
        self.grid.setShowGrid(False)
        self.grid.setWordWrap(False)
        self.grid.setCornerButtonEnabled(False)
        self.grid.setMouseTracking(True)
        self.grid.setTabKeyNavigation(False)
        self.grid.setFrameShape(QTableView.Shape.NoFrame)
        self.grid.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.grid.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.grid.verticalHeader().hide()
        head = self.grid.horizontalHeader()
        head.setSortIndicatorShown(True)
        head.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        head.setSectionsClickable(True)
        head.setHighlightSections(False)
        head.sectionClicked.connect(self.sort_by)
        head.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.grid.clicked.connect(self._clicked)
        self.grid.selectionModel().currentRowChanged.connect(self._current)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter rows: words, or column > number")
        self.filter.setAccessibleName("Filter rows")
        self.filter.setClearButtonEnabled(True)
        self.filter.setFont(small())
        self.count = QLabel()
        self.count.setFont(small())
        self.count.setAccessibleName("Rows shown")
        self.above.addWidget(self.filter, 1)
        self.above.addWidget(self.count)
        self._typing = QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(FILTER_AFTER)
        self._typing.timeout.connect(self._filter)
        self.filter.textChanged.connect(lambda: self._typing.start())
        self.filter.returnPressed.connect(self._filter)
        return self.grid

    def is_empty(self) -> bool:
        return self.figure is None or not self.figure.columns or len(self.figure.columns[0]) == 0

    def draw(self) -> None:
        chosen = self.selected_rows()
        if self.model.figure is not self.figure:
            self.model.show_table(self.figure)
        self._fit()
        self._count()
        self.select_rows(chosen)

    def dress(self, look: Theme) -> None:
        super().dress(look)
        self.grid.setFont(body())
        self.grid.verticalHeader().setDefaultSectionSize(QFontMetrics(body()).height() + 6)

    def _fit(self) -> None:
        """Columns as wide as their words, once for each set of columns."""
        layout = tuple(axis.text() for axis in self.figure.axes)
        if layout == self._fitted:
            return
        self._fitted = layout
        metrics = QFontMetrics(body())
        for column, values in enumerate(self.figure.columns):
            texts = [cell_word(value) for value in values[:SAMPLED].tolist()]
            longest = max((metrics.horizontalAdvance(text) for text in texts), default=0)
            head = metrics.horizontalAdvance(layout[column]) + 24
            self.grid.setColumnWidth(column, min(max(longest, head) + 28, WIDEST))

    def _count(self) -> None:
        shown, total = len(self.model.order), self.model.total
        rows = "row" if total == 1 else "rows"
        self.count.setText(f"{total:,} {rows}" if shown == total else f"{shown:,} of {total:,} {rows}")

    # ---- sort and filter

    def sort_by(self, column: int) -> None:
        """Sort by a column, then the other way, then not at all."""
        now, up, down = self.model.sorted_by, Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder
        if now is None or now[0] != column:
            wanted: tuple[int, Qt.SortOrder] = (column, down if self.model.numeric(column) else up)
        else:
            first = down if self.model.numeric(column) else up
            wanted = (column, up if now[1] == down else down) if now[1] == first else (-1, up)
        chosen = self.selected_rows()
        self.model.sort(*wanted)
        self.grid.horizontalHeader().setSortIndicator(*wanted)
        self.select_rows(chosen)

    def _filter(self) -> None:
        self._typing.stop()
        if self.filter.text() != self.model.wanted:
            chosen = self.selected_rows()
            self.model.keep(self.filter.text())
            self._count()
            self.select_rows(chosen)

    # ---- rows

    def selected_rows(self) -> list[int]:
        """The selected rows by their place in the figure, in the order shown."""
        rows = sorted(index.row() for index in self.grid.selectionModel().selectedRows())
        return [int(self.model.order[row]) for row in rows if row < len(self.model.order)]

    def select_rows(self, wanted: list[int]) -> None:
        """Select rows by their place in the figure, without a signal."""
        model = self.grid.selectionModel()
        model.blockSignals(True)
        model.clearSelection()
        places = {int(source): row for row, source in enumerate(self.model.order)} if wanted else {}
        flags = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
        for source in wanted:
            if source in places:
                model.select(self.model.index(places[source], 0), flags)
        model.blockSignals(False)
        self.grid.viewport().update()

    def pick_point(self, index: int) -> None:
        """Select and show a row without a signal."""
        self.select_rows([index])
        place = np.flatnonzero(self.model.order == index)
        if len(place):
            self.grid.scrollTo(self.model.index(int(place[0]), 0))

    def _clicked(self, index: QModelIndex) -> None:
        self.point_clicked.emit(int(self.model.order[index.row()]))

    def _current(self, now: QModelIndex, before: QModelIndex) -> None:
        if now.isValid() and before.isValid() and self.grid.hasFocus() and now.row() != before.row():
            self.read_out(self._said(now.row(), now.column()))
            self.point_clicked.emit(int(self.model.order[now.row()]))

    def point_at(self, place: QPoint) -> None:
        index = self.grid.indexAt(place)
        if index.isValid():
            self.read_out(self._said(index.row(), index.column()))
            self.point_hovered.emit(int(self.model.order[index.row()]))
        else:
            self.leave()

    def leave(self) -> None:
        self.read_out("")

    def unlock(self) -> None:
        self.filter.clear()
        self.grid.clearSelection()
        self._filter()

    def _said(self, row: int, column: int) -> str:
        axis = self.figure.axes[column]
        value = self.model.value(row, column)
        unit = f" {axis.unit}" if axis.unit and self.model.numeric(column) else ""
        return f"Row {int(self.model.order[row]):,} · {axis.label} {value}{unit}"

    def copy_data(self) -> None:
        """Copy the selected rows, or the whole table when none is selected."""
        chosen = self.selected_rows()
        if not chosen:
            super().copy_data()
            return
        figure: Table = self.figure
        lines = ["\t".join(axis.text() for axis in figure.axes)]
        lines += ["\t".join(str(column[row].item()) for column in figure.columns) for row in chosen]
        QGuiApplication.clipboard().setText("\n".join(lines) + "\n")
        self.workbench.message.emit(
            "info", f"{len(chosen):,} {'row' if len(chosen) == 1 else 'rows'} on the clipboard.", ""
        )
