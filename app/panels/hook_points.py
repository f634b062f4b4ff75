"""Hook points as a tree and as a searchable list: grouped by layer and part, found by words in any order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PySide6.QtCore import QAbstractItemModel, QModelIndex, QObject, QPersistentModelIndex, QSortFilterProxyModel, Qt

from app.theme import mono

Index = QModelIndex | QPersistentModelIndex
NOWHERE = QModelIndex()
COLUMNS = ("Hook point", "Shape", "Part", "Note")
NAME = Qt.ItemDataRole.UserRole
_LAYER = re.compile(r"^blocks\.(\d+)\.")


@dataclass(frozen=True)
class HookPoint:
    """One hook point: its name, the shape of what passes there ("(batch, position, d_model)"), part and note.

    ``width`` is the number of values per token, 0 where there is no vector per token.
    """

    name: str
    shape: str = ""
    layer: int | None = None
    part: str = ""
    note: str = ""
    width: int = 0


@dataclass
class Branch:
    """A node of the tree: a heading (``hook`` is None) or a hook point."""

    text: str
    hook: HookPoint | None = None
    parent: Branch | None = None
    children: list[Branch] = field(default_factory=list)
    row: int = 0

    def add(self, child: Branch) -> Branch:
        child.parent, child.row = self, len(self.children)
        self.children.append(child)
        return child


def layer_of(name: str) -> int | None:
    """The layer of a hook point by its name; None outside the blocks."""
    found = _LAYER.match(name)
    return int(found[1]) if found else None


def read(entries: Sequence[Mapping[str, Any]]) -> list[HookPoint]:
    """Hook points from the plain values an answer carries."""
    found = []
    for entry in entries:
        shape = entry.get("shape", "")
        layer = entry.get("layer")
        found.append(
            HookPoint(
                name=str(entry["name"]),
                shape=shape if isinstance(shape, str) else "(" + ", ".join(str(part) for part in shape) + ")",
                layer=layer if isinstance(layer, int) else layer_of(str(entry["name"])),
                part=str(entry.get("part", "") or ""),
                note=str(entry.get("note", "") or ""),
                width=int(entry.get("width", 0) or 0),
            )
        )
    return found


def tree_of(points: Sequence[HookPoint]) -> Branch:
    """The root of a tree: one branch per layer, and one for what lies before and after the blocks."""
    root = Branch("")
    outside = [point for point in points if point.layer is None]
    if outside:
        branch = root.add(Branch("Around the blocks"))
        for point in outside:
            branch.add(Branch(point.name, point))
    for layer in sorted({point.layer for point in points if point.layer is not None}):
        branch = root.add(Branch(f"Layer {layer}"))
        for point in points:
            if point.layer == layer:
                branch.add(Branch(point.name.partition(f"blocks.{layer}.")[2] or point.name, point))
    return root


class HookTree(QAbstractItemModel):
    """The tree as a Qt model. `NAME` gives a hook point's full name, "" for a heading."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._root = Branch("")

    def set_points(self, points: Sequence[HookPoint]) -> None:
        self.beginResetModel()
        self._root = tree_of(points)
        self.endResetModel()

    def _branch(self, index: Index) -> Branch:
        return index.internalPointer() if index.isValid() else self._root

    def index(self, row: int, column: int, parent: Index = NOWHERE) -> QModelIndex:
        if not self.hasIndex(row, column, parent):
            return QModelIndex()
        return self.createIndex(row, column, self._branch(parent).children[row])

    def parent(self, index: Index = NOWHERE) -> QModelIndex:  # type: ignore[override]
        above = self._branch(index).parent
        if above is None or above is self._root:
            return QModelIndex()
        return self.createIndex(above.row, 0, above)

    def rowCount(self, parent: Index = NOWHERE) -> int:
        return 0 if parent.column() > 0 else len(self._branch(parent).children)

    def columnCount(self, parent: Index = NOWHERE) -> int:
        return len(COLUMNS)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        branch = self._branch(index)
        hook = branch.hook
        if role == NAME:
            return hook.name if hook else ""
        if role == Qt.ItemDataRole.DisplayRole:
            if hook is None:
                count = len(branch.children)
                return (branch.text, f"{count} hook point{'s' if count != 1 else ''}", "", "")[index.column()]
            return (branch.text, hook.shape, hook.part, hook.note)[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole and hook is not None:
            return hook.name if index.column() == 0 else (hook.note or hook.name)
        if role == Qt.ItemDataRole.AccessibleTextRole and hook is not None:
            return (hook.name, hook.shape, hook.part, hook.note)[index.column()]
        if role == Qt.ItemDataRole.FontRole and hook is not None and index.column() < 2:
            return mono()
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return COLUMNS[section]
        return None


class HookSearch(QSortFilterProxyModel):
    """Shows the hook points in which every word of the search occurs, in any order and column, under their layers."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._words: list[str] = []

    def search(self, text: str) -> None:
        self._words = text.lower().split()
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: Index) -> bool:
        model = self.sourceModel()
        index = model.index(row, 0, parent)
        name = index.data(NAME)
        if not name:
            return any(self.filterAcceptsRow(child, index) for child in range(model.rowCount(index)))
        columns = (str(model.index(row, column, parent).data() or "") for column in range(1, len(COLUMNS)))
        return matches(f"{name} {' '.join(columns)}", self._words)


def matches(text: str, words: Sequence[str]) -> bool:
    """Whether every word occurs in ``text``; a bare number has to be a whole number in it ("1" is not layer 12)."""
    lower = text.lower()
    return all(
        re.search(rf"(?<!\d){word}(?!\d)", lower) is not None if word.isdigit() else word in lower for word in words
    )
