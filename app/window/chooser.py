"""The list of experiments, grouped by area, with search: where a run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QModelIndex, QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QKeyEvent, QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QAbstractItemView, QLabel, QLineEdit, QTreeView, QVBoxLayout, QWidget

from app.panels.markdown import plain
from app.theme import S, set_role

if TYPE_CHECKING:
    from app.workbench import Workbench

NAME = Qt.ItemDataRole.UserRole
SEARCH = Qt.ItemDataRole.UserRole + 1


class SearchLine(QLineEdit):
    """Arrow keys and Enter go to the list below, so that typing and choosing need no change of focus.

    Signals:
        moved: up (-1) or down (+1) was pressed.
    """

    moved = Signal(int)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1, Qt.Key.Key_PageUp: -8, Qt.Key.Key_PageDown: 8}.get(
            Qt.Key(event.key()), 0
        )
        if step:
            self.moved.emit(step)
        else:
            super().keyPressEvent(event)


class _Found(QSortFilterProxyModel):
    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._words: list[str] = []
        self.setRecursiveFilteringEnabled(True)

    def look_for(self, text: str) -> None:
        self._words = text.lower().split()
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: QModelIndex) -> bool:  # type: ignore[override]
        index = self.sourceModel().index(row, 0, parent)
        text = index.data(SEARCH)
        if text is None:
            return False  # an area is kept by what is in it
        return all(word in text for word in self._words)


class Chooser(QWidget):
    """Experiments by area.

    Signals:
        chosen: an experiment's name.
    """

    chosen = Signal(str)

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self.search = SearchLine()
        self.search.setPlaceholderText("Search experiments")
        self.search.setAccessibleName("Search experiments")
        self.search.setClearButtonEnabled(True)
        self._items = QStandardItemModel(self)
        self._found = _Found(self)
        self._found.setSourceModel(self._items)
        self.view = QTreeView()
        self.view.setAccessibleName("Experiments")
        self.view.setModel(self._found)
        self.view.setHeaderHidden(True)
        set_role(self.view, "side")
        self.view.setFrameShape(QTreeView.Shape.NoFrame)
        self.view.setIndentation(14)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.hint = QLabel("The list of experiments comes from the engine, which is starting.")
        self.hint.setWordWrap(True)
        set_role(self.hint, "muted")
        self.search.textChanged.connect(self._look_for)
        self.search.moved.connect(self._move)
        self.search.returnPressed.connect(self._choose_current)
        self.view.activated.connect(self._choose)
        self.view.clicked.connect(self._choose)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(S, 0, S, S)
        layout.setSpacing(S)
        layout.addWidget(self.search)
        layout.addWidget(self.hint)
        layout.addWidget(self.view, 1)
        workbench.catalogue_changed.connect(self.fill)
        workbench.theme_changed.connect(self.fill)
        self.fill()

    def fill(self) -> None:
        """Read the catalogue again."""
        self._items.clear()
        areas: dict[str, QStandardItem] = {}
        muted = self._workbench.theme.muted
        for name, experiment in self._workbench.catalogue.items():
            if experiment["lane"] != "job":
                continue
            area = areas.get(experiment["area"])
            if area is None:
                area = areas[experiment["area"]] = QStandardItem(experiment["area"])
                area.setFlags(Qt.ItemFlag.ItemIsEnabled)
                area.setForeground(muted)
                self._items.appendRow(area)
            area.appendRow(_item(name, experiment))
        self.hint.setVisible(not areas)
        self.view.expandAll()

    def _look_for(self, text: str) -> None:
        self._found.look_for(text)
        self.view.expandAll()
        self._move(0)

    def _move(self, step: int) -> None:
        """Go ``step`` experiments down, areas passed over; 0 goes to the first."""
        indices = [
            self._found.index(row, 0, self._found.index(area, 0))
            for area in range(self._found.rowCount())
            for row in range(self._found.rowCount(self._found.index(area, 0)))
        ]
        if not indices:
            return
        current = self.view.currentIndex()
        place = indices.index(current) + step if step and current in indices else 0
        self.view.setCurrentIndex(indices[max(0, min(place, len(indices) - 1))])

    def _choose_current(self) -> None:
        if not self.view.currentIndex().data(NAME):
            self._move(0)
        self._choose(self.view.currentIndex())

    def _choose(self, index: QModelIndex) -> None:
        name = index.data(NAME)
        if name:
            self.chosen.emit(name)


def _item(name: str, experiment: dict[str, Any]) -> QStandardItem:
    item = QStandardItem(experiment["title"])
    item.setData(name, NAME)
    first = plain(experiment["help"].split("\n\n")[0])
    item.setData(f"{experiment['title']} {name} {experiment['area']} {first}".lower(), SEARCH)
    item.setToolTip(f"{name}: {first}" if first else name)
    item.setData(experiment["title"], Qt.ItemDataRole.AccessibleTextRole)
    return item
