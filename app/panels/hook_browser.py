"""The hook points of a model as a searchable tree, with what one can do at each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, QPoint, Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QMenu,
    QTreeView,
    QVBoxLayout,
    QWidget,
)

from app.panels.hook_points import NAME, HookPoint, HookSearch, HookTree
from app.panels.parts import button, label, row
from app.theme import S, set_role

if TYPE_CHECKING:
    from app.workbench import Workbench

TALL = 420  # pixels of the tree at least
WIDE = (230, 220, 90)  # pixels of the columns before the note


class _Tree(QTreeView):
    """A tree in which Enter and Ctrl+C mean the hook point that is chosen."""

    entered = Signal()
    copied = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copied.emit()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.entered.emit()
        else:
            super().keyPressEvent(event)


def said_of(point: HookPoint) -> str:
    """A hook point in one line: name, values per token, what to know of it."""
    values = f"{point.width:,} values per token" if point.width else f"{point.shape}, no vector per token"
    return " · ".join(part for part in (point.name, values, point.note) if part)


class HookBrowser(QWidget):
    """Search line, tree and actions. ``reference`` is the model that the actions are about."""

    def __init__(self, reference: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.reference, self.workbench = reference, workbench
        self._points: dict[str, HookPoint] = {}
        self._model = HookTree(self)
        self._found = HookSearch(self)
        self._found.setSourceModel(self._model)
        self.line = QLineEdit()
        self.line.setPlaceholderText("Search hook points: words in any order, as in resid post 3")
        self.line.setAccessibleName("Search hook points")
        self.line.setClearButtonEnabled(True)
        self.line.textChanged.connect(self._search)
        self.count = label(role="muted", wrap=False)
        self.tree = self._make_tree()
        self._actions = {
            "Copy name": button("Copy name", self.copy_name, tip="Copy the hook point's name"),
            "Look at activations": button("Look at activations", self.look, tip="On a prompt, in every layer"),
            "PCA…": button("PCA…", lambda: self._form("pca-spectrum"), tip="How many dimensions the vectors use"),
            "Train dictionary…": button(
                "Train dictionary…", lambda: self._form("train-dictionary"), tip="A sparse autoencoder of its vectors"
            ),
        }
        self.note = label(role="muted")
        top = QHBoxLayout()
        top.setSpacing(S)
        top.addWidget(self.line, 1)
        top.addWidget(self.count)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        whole.addLayout(top)
        whole.addWidget(self.tree, 1)
        whole.addWidget(self.note)
        whole.addLayout(row(*self._actions.values()))
        self._offer()

    def _make_tree(self) -> _Tree:
        tree = _Tree()
        set_role(tree, "figure")
        tree.setModel(self._found)
        tree.setAccessibleName("Hook points")
        tree.setUniformRowHeights(True)
        tree.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        tree.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        tree.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        tree.customContextMenuRequested.connect(self._menu)
        tree.doubleClicked.connect(lambda _: self.look())
        tree.entered.connect(self.look)
        tree.copied.connect(self.copy_name)
        tree.setMinimumHeight(TALL)
        tree.header().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        tree.header().setStretchLastSection(True)
        for column, wide in enumerate(WIDE):
            tree.header().resizeSection(column, wide)
        tree.selectionModel().currentChanged.connect(lambda *_: self._offer())
        return tree

    def set_points(self, points: list[HookPoint]) -> None:
        """Show these hook points."""
        self._points = {point.name: point for point in points}
        self._model.set_points(points)
        self._search(self.line.text())
        if not self.line.text() and self._found.rowCount():
            self.tree.expand(self._found.index(min(1, self._found.rowCount() - 1), 0))

    @property
    def chosen(self) -> HookPoint | None:
        """The hook point that is chosen in the tree."""
        index = self.tree.currentIndex()
        return self._points.get(str(index.siblingAtColumn(0).data(NAME) or "")) if index.isValid() else None

    def choose(self, name: str) -> None:
        """Choose a hook point by name and scroll to it; one that is not shown is passed over."""
        found = self._place(name, QModelIndex())
        if found is not None:
            self.tree.setCurrentIndex(found)
            self.tree.scrollTo(found)

    def _place(self, name: str, parent: QModelIndex) -> QModelIndex | None:
        for at in range(self._found.rowCount(parent)):
            index = self._found.index(at, 0, parent)
            if index.data(NAME) == name:
                return index
            inside = self._place(name, index)
            if inside is not None:
                return inside
        return None

    # ---- actions

    def copy_name(self) -> None:
        point = self.chosen
        if point is not None:
            QGuiApplication.clipboard().setText(point.name)
            self.workbench.message.emit("good", f"{point.name} copied.", "")

    def look(self) -> None:
        """Open the activation viewer at the chosen hook point."""
        point = self.chosen
        if point is not None and point.layer is not None and point.width:
            stream = point.name.partition(f"blocks.{point.layer}.")[2]
            self.workbench.open_panel("activations", self.reference, {"stream": stream, "layer": point.layer})

    def _form(self, experiment: str) -> None:
        point = self.chosen
        if point is not None and point.width:
            self.workbench.show_form(experiment, {"model": self.reference, "hook": point.name})

    def _offer(self) -> None:
        """Allow what makes sense at the chosen hook point, and say why not where it does not."""
        point = self.chosen
        vector = point is not None and point.width > 0
        allowed = {
            "Copy name": point is not None,
            "Look at activations": vector and point is not None and point.layer is not None,
            "PCA…": vector,
            "Train dictionary…": vector,
        }
        for name, made in self._actions.items():
            made.setEnabled(allowed[name])
        self.note.setText(said_of(point) if point is not None else "Choose a hook point to see what one can do there.")

    def _menu(self, place: QPoint) -> None:
        if self.chosen is None:
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for name, made in self._actions.items():
            words = name if name == "Copy name" else f"{name.rstrip('…')} here{'…' if name.endswith('…') else ''}"
            menu.addAction(words, made.click).setEnabled(made.isEnabled())
        menu.popup(self.tree.viewport().mapToGlobal(place))

    # ---- search

    def _search(self, text: str) -> None:
        self._found.search(text)
        shown = sum(self._found.rowCount(self._found.index(at, 0)) for at in range(self._found.rowCount()))
        total = len(self._points)
        self.count.setText(f"{shown:,} of {total:,}" if text.strip() else f"{total:,} hook points")
        if text.strip():
            self.tree.expandAll()
            if shown == 1:
                first = self._found.index(0, 0)
                self.tree.setCurrentIndex(self._found.index(0, 0, first))
        self._offer()
