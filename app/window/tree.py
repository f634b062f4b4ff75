"""The left side: the session as a tree with search, renaming in place and a context menu."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, QPoint, QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QLineEdit, QMenu, QTreeView, QVBoxLayout, QWidget

from app.theme import XS, S, set_role
from app.window.tree_model import ID_ROLE, SEARCH_ROLE, SessionModel

if TYPE_CHECKING:
    from app.workbench import Workbench

ITEM_COMMANDS = (
    "item.open", "item.compare", "-", "item.resume", "item.duplicate", "-", "item.rename", "item.tag", "item.note",
    "-", "item.command", "item.python", "item.help", "-", "item.delete",
)  # fmt: skip


class Filter(QSortFilterProxyModel):
    """Keeps the entries that have every word that was typed, and sections that have such entries."""

    def __init__(self, model: SessionModel, parent: QWidget) -> None:
        super().__init__(parent)
        self._words: list[str] = []
        self.setSourceModel(model)
        self.setRecursiveFilteringEnabled(True)

    def look_for(self, text: str) -> None:
        self._words = text.lower().split()
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: QModelIndex) -> bool:  # type: ignore[override]
        if not self._words:
            return True
        index = self.sourceModel().index(row, 0, parent)
        text = str(index.data(SEARCH_ROLE) or "").lower()
        return bool(index.data(ID_ROLE)) and all(word in text for word in self._words)


class Tree(QTreeView):
    """The view. Enter opens, F2 renames, Delete deletes; several runs can be selected."""

    opened = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.state() != Tree.State.EditingState:
            self.opened.emit()
            return
        super().keyPressEvent(event)


class SessionTree(QWidget):
    """The tree with its search line.

    Signals:
        opened: Enter or a double click on what is selected.
        selection_changed: something else is selected.
    """

    opened = Signal()
    selection_changed = Signal()

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self.model = SessionModel(workbench, self)
        self._filter = Filter(self.model, self)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search the session")
        self.search.setAccessibleName("Search the session")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._look_for)
        self.view = Tree()
        self.view.setAccessibleName("Session")
        self.view.setModel(self._filter)
        self.view.setHeaderHidden(True)
        self.view.setUniformRowHeights(True)
        self.view.setIndentation(14)
        set_role(self.view, "side")
        self.view.setFrameShape(QTreeView.Shape.NoFrame)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.view.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.view.customContextMenuRequested.connect(self._menu)
        self.view.doubleClicked.connect(self._double_clicked)
        self.view.opened.connect(self.opened)
        self.view.selectionModel().selectionChanged.connect(lambda *_: self.selection_changed.emit())
        self._filter.modelReset.connect(self.view.expandAll)
        self._filter.rowsInserted.connect(lambda parent, *_: self.view.expand(parent))
        self.view.expandAll()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(S, 0, S, S)
        layout.setSpacing(XS)
        layout.addWidget(self.search)
        layout.addWidget(self.view)

    def selected(self) -> list[tuple[str, str]]:
        """Section and id of what is selected, from top to bottom."""
        rows = sorted(self.view.selectionModel().selectedRows(), key=lambda index: (index.parent().row(), index.row()))
        found = [self.model.at(self._filter.mapToSource(index)) for index in rows]
        return [(section, id) for section, id in found if id]

    def selected_runs(self) -> list[str]:
        """Ids of the selected runs; empty where anything else is selected too."""
        chosen = self.selected()
        return [id for _, id in chosen] if all(section == "runs" for section, _ in chosen) else []

    def select(self, section: str, id: str) -> None:
        """Select one entry and bring it into view."""
        index = self._filter.mapFromSource(self.model.find(section, id))
        if index.isValid():
            self.view.setCurrentIndex(index)
            self.view.scrollTo(index)

    def edit_title(self) -> None:
        """Rename what is selected, in place."""
        index = self.view.currentIndex()
        if index.isValid():
            self.view.setFocus()
            self.view.edit(index)

    def place_of_selection(self) -> QPoint:
        """Where, on the screen, something about the selection can be shown."""
        rect = self.view.visualRect(self.view.currentIndex())
        return self.view.viewport().mapToGlobal(rect.bottomLeft())

    def _look_for(self, text: str) -> None:
        self._filter.look_for(text)
        self.view.expandAll()

    def _double_clicked(self, index: QModelIndex) -> None:
        if index.data(ID_ROLE):
            self.opened.emit()

    def _menu(self, place: QPoint) -> None:
        if not self.selected():
            return
        commands = self._workbench.commands
        commands.refresh()
        menu = QMenu(self)
        for name in ITEM_COMMANDS:
            if name == "-":
                menu.addSeparator()
            elif commands.find(name).is_possible():
                menu.addAction(commands.action(name))
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.view.viewport().mapToGlobal(place))
