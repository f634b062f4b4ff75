"""Ctrl+K: every action, experiment, run and model by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter
from PySide6.QtWidgets import (
    QFrame,
    QLabel,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from app.icons import GLYPHS, icon
from app.theme import M, S, body, set_role, small
from app.window.chooser import SearchLine

if TYPE_CHECKING:
    from app.workbench import Workbench

WIDTH, ROWS, MOST = 560, 12, 200
KINDS = {"models": "Model", "dictionaries": "Dictionary", "corpora": "Text"}
DETAIL = Qt.ItemDataRole.UserRole
KEYS = Qt.ItemDataRole.UserRole + 1
Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True)
class Choice:
    """One line: words, where it belongs, its keys, what it does."""

    title: str
    detail: str
    icon: str
    run: Callable[[], object]
    keys: str = ""
    extra: str = ""


def choices(workbench: Workbench) -> list[Choice]:
    """Everything that can be done now, commands first."""
    found = [
        Choice(
            command.shown(), command.group, command.icon or "command", _runner(workbench, command.name), command.keys()
        )
        for command in workbench.commands
        if command.is_possible() and (command.widget is None or command.widget.isVisible())
    ]
    for name, experiment in workbench.catalogue.items():
        if experiment["lane"] == "job":
            found.append(
                Choice(
                    experiment["title"],
                    experiment["area"],
                    "experiment",
                    lambda name=name: workbench.show_form(name),  # type: ignore[misc]
                    extra=name,
                )
            )
    if not workbench.begun:
        return found
    for record in reversed(workbench.session.runs()):
        found.append(
            Choice(
                record.title or record.id,
                f"Run, {record.state}",
                record.state,
                lambda id=record.id: workbench.open_panel("run", id),  # type: ignore[misc]
                extra=f"{record.id} {record.experiment}",
            )
        )
    for section, kind in (("models", "model"), ("dictionaries", "dictionary"), ("corpora", "text")):
        for thing in workbench.session.things(section):
            title = str(thing.attributes.get("title") or thing.attributes.get("name") or thing.id)
            found.append(
                Choice(
                    title,
                    "Prompt set" if thing.attributes.get("kind") == "prompts" else KINDS[section],
                    section,
                    lambda kind=kind, id=thing.id: workbench.open_panel(kind, id),  # type: ignore[misc]
                    extra=f"{thing.id} {thing.attributes.get('reference', '')}",
                )
            )
    return found


def score(words: str, choice: Choice) -> float | None:
    """How well a choice fits what was typed, lower is better; None where it does not fit."""
    title = choice.title.lower()
    everything = f"{title} {choice.detail} {choice.extra}".lower()
    total = 0.0
    for word in words.lower().split():
        if title.startswith(word):
            total += 0
        elif f" {word}" in f" {title}":
            total += 1
        elif word in title:
            total += 2
        elif word in everything:
            total += 3
        elif _scattered(word, title):
            total += 5
        else:
            return None
    return total


def _scattered(word: str, text: str) -> bool:
    """Whether the letters occur in order, each at the head of a word or behind the one before ("tdi" in "train a dictionary")."""
    if len(word) < 2:
        return False
    letters = iter(text)
    return all(letter in letters for letter in word) and word[0] == text[0]


def _runner(workbench: Workbench, name: str) -> Callable[[], object]:
    return lambda: workbench.commands.run(name)


class _Found(QAbstractListModel):
    def __init__(self, workbench: Workbench, parent: QWidget) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self.choices: list[Choice] = []

    def show(self, found: list[Choice]) -> None:
        self.beginResetModel()
        self.choices = found
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 Qt's signature
        return 0 if parent.isValid() else len(self.choices)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        choice = self.choices[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return choice.title
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{choice.title}, {choice.detail}" + (f", {choice.keys}" if choice.keys else "")
        if role == Qt.ItemDataRole.DecorationRole:
            return icon(choice.icon if choice.icon in GLYPHS else "command", self._workbench.theme, "muted")
        return {DETAIL: choice.detail, KEYS: choice.keys}.get(Qt.ItemDataRole(role))


class _Painter(QStyledItemDelegate):
    """Title at the left, where it belongs and its keys at the right, muted."""

    def __init__(self, workbench: Workbench, parent: QWidget) -> None:
        super().__init__(parent)
        self._workbench = workbench

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(WIDTH - 2 * S, QFontMetrics(body()).height() + 2 * S)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        look = self._workbench.theme
        rect: QRect = option.rect
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        painter.save()
        if chosen:
            painter.fillRect(rect, look.blend(look.accent, 0.16, look.canvas))
        sign = QRect(rect.left() + S, rect.center().y() - 7, 16, 16)
        index.data(Qt.ItemDataRole.DecorationRole).paint(painter, sign)
        right = "   ".join(part for part in (index.data(DETAIL), index.data(KEYS)) if part)
        painter.setFont(small())
        painter.setPen(look.muted)
        inner = rect.adjusted(S + 24, 0, -S, 0)
        painter.drawText(inner, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, right)
        room = inner.width() - painter.fontMetrics().horizontalAdvance(right) - M
        painter.setFont(body())
        painter.setPen(look.text)
        title = painter.fontMetrics().elidedText(str(index.data()), Qt.TextElideMode.ElideRight, room)
        painter.drawText(inner, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, title)
        painter.restore()


class Palette(QFrame):
    """The palette. Made once; shown above the middle of the window."""

    def __init__(self, workbench: Workbench, window: QWidget) -> None:
        super().__init__(window, Qt.WindowType.Popup)
        self._workbench = workbench
        self._window = window
        self._all: list[Choice] = []
        self.setAccessibleName("Commands")
        self.setFrameShape(QFrame.Shape.StyledPanel)
        set_role(self, "card")
        self.search = SearchLine()
        self.search.setPlaceholderText("Type an action, an experiment, a run or a model")
        self.search.setAccessibleName("Search commands")
        self.search.textChanged.connect(self._look_for)
        self.search.moved.connect(self._move)
        self.search.returnPressed.connect(self._run)
        self._found = _Found(workbench, self)
        self.list = QListView()
        self.list.setAccessibleName("Found commands")
        self.list.setModel(self._found)
        self.list.setItemDelegate(_Painter(workbench, self.list))
        self.list.setFrameShape(QListView.Shape.NoFrame)
        self.list.setUniformItemSizes(True)
        self.list.setMinimumHeight(1)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setMouseTracking(True)
        self.list.entered.connect(self.list.setCurrentIndex)
        self.list.clicked.connect(lambda _: self._run())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(S, S, S, S)
        layout.setSpacing(S)
        layout.addWidget(self.search)
        layout.addWidget(self.list)
        self.nothing = QLabel(self)
        self.nothing.setWordWrap(True)
        self.nothing.setTextFormat(Qt.TextFormat.PlainText)
        set_role(self.nothing, "muted")
        layout.addWidget(self.nothing)
        workbench.catalogue_changed.connect(self._learn)

    def popup(self) -> None:
        """Show everything that can be done now."""
        self._all = choices(self._workbench)
        self.search.clear()
        self._look_for("")
        width = min(WIDTH, self._window.width() - 4 * M)
        corner = self._window.mapToGlobal(self._window.rect().topLeft())
        self.setGeometry(corner.x() + (self._window.width() - width) // 2, corner.y() + 56, width, self._height())
        self.show()
        self.search.setFocus()

    def _learn(self) -> None:
        """The experiments have come to be known while somebody types."""
        if self.isVisible():
            self._all = choices(self._workbench)
            self._look_for(self.search.text())

    def _height(self) -> int:
        """As many whole rows as are found and fit: half a line at the end looks like a mistake."""
        row = self.list.itemDelegate().sizeHint(QStyleOptionViewItem(), QModelIndex()).height()
        rest = self.search.sizeHint().height() + 3 * S + 2 * self.frameWidth()
        most = min(ROWS, (self._window.height() - 8 * M - rest) // row)
        if not self._found.rowCount():
            return rest + max(row, self.nothing.heightForWidth(WIDTH - 2 * S))
        return rest + row * max(min(most, self._found.rowCount()), 1)

    def _look_for(self, text: str) -> None:
        scored = [(score(text, choice), place) for place, choice in enumerate(self._all)]
        fitting = sorted((value, place) for value, place in scored if value is not None)
        self._found.show([self._all[place] for _, place in fitting[:MOST]])
        self.list.setVisible(bool(fitting))
        self.nothing.setVisible(not fitting)
        waits = "" if self._workbench.catalogue else " Experiments are known once the engine has started."
        self.nothing.setText(f"Nothing fits “{text.strip()}”.{waits}")
        self._move(0)
        self.resize(self.width(), self._height())

    def _move(self, step: int) -> None:
        count = self._found.rowCount()
        if count:
            place = self.list.currentIndex().row() + step if step else 0
            self.list.setCurrentIndex(self._found.index(max(0, min(place, count - 1))))

    def _run(self) -> None:
        index = self.list.currentIndex()
        if index.isValid():
            choice = self._found.choices[index.row()]
            self.hide()
            choice.run()
