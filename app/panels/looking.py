"""Pieces of the activation viewer that know nothing of models: place, veil, prompt, hook chooser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QMargins, QObject, QPoint, QRect, QStringListModel, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QComboBox, QCompleter, QLineEdit, QPlainTextEdit, QWidget

from app.panels.hook_points import matches
from app.theme import RADIUS, XS, M, mono, set_role

if TYPE_CHECKING:
    from app.workbench import Workbench

WAITING = "Looking…"
WORD_AFTER = 400  # ms of waiting after which the veil says so


@dataclass(frozen=True)
class Cell:
    """A locked place: ``layer`` and token ``position``, both counted from 0."""

    layer: int
    position: int


class Place(QObject):
    """The place that strip, map, attention and detail share.

    Signals:
        moved: the new `Cell`; once per change, whoever caused it.
    """

    moved = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._cell = Cell(0, 0)
        self._layers, self._positions = 1, 1

    @property
    def cell(self) -> Cell:
        return self._cell

    @property
    def positions(self) -> int:
        """How many positions there are."""
        return self._positions

    def bound(self, layers: int, positions: int) -> None:
        """How many layers and positions there are now; the place is brought inside."""
        self._layers, self._positions = max(1, layers), max(1, positions)
        self.go(self._cell.layer, self._cell.position)

    def go(self, layer: int | None = None, position: int | None = None) -> None:
        """Lock a layer, a position or both."""
        layer = self._cell.layer if layer is None else layer
        position = self._cell.position if position is None else position
        cell = Cell(min(max(layer, 0), self._layers - 1), min(max(position, 0), self._positions - 1))
        if cell != self._cell:
            self._cell = cell
            self.moved.emit(cell)

    def step(self, layers: int, positions: int) -> None:
        """Move by so many layers and positions, as the arrow keys do."""
        self.go(self._cell.layer + layers, self._cell.position + positions)


class Veil(QWidget):
    """Dims what lies under it while a newer picture is on its way; lets the mouse through.

    One that ``speaks`` says after a while what is going on.
    """

    def __init__(self, over: QWidget, workbench: Workbench, *, speaks: bool = False) -> None:
        super().__init__(over)
        self.workbench, self._over, self._speaks = workbench, over, speaks
        self._words = ""
        self._late = QTimer(self)
        self._late.setSingleShot(True)
        self._late.setInterval(WORD_AFTER)
        self._late.timeout.connect(self._say)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        over.installEventFilter(self)
        self.hide()

    def set_waiting(self, waiting: bool, *, silent: bool = False) -> None:
        """Draw or lift the veil; ``silent`` where nothing is going on that it could tell of."""
        self._words = ""
        self._late.stop()
        if waiting:
            self.setGeometry(self._over.rect())
            self.raise_()
            if self._speaks and not silent:
                self._late.start()
        self.setVisible(waiting)

    def _say(self) -> None:
        self._words = WAITING
        self.update()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize:
            self.setGeometry(self._over.rect())
        return False

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        colour = QColor(self.workbench.theme.canvas)  # a copy: the theme's own colour is everybody's
        colour.setAlpha(150)
        painter.fillRect(self.rect(), colour)
        if self._words:
            theme = self.workbench.theme
            room = self.fontMetrics().size(0, self._words).grownBy(QMargins(M, XS, M, XS))
            pill = QRect(QPoint(0, 0), room)
            pill.moveCenter(self.rect().center())
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setBrush(theme.panel)
            painter.setPen(theme.line)
            painter.drawRoundedRect(pill, RADIUS, RADIUS)
            painter.setPen(theme.text)
            painter.drawText(pill, Qt.AlignmentFlag.AlignCenter, self._words)
        painter.end()


class PromptEdit(QPlainTextEdit):
    """The text to look at: a few lines, grows with what is typed up to ``most``; Tab leaves it."""

    def __init__(self, most: int = 5, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._most = most
        self.setTabChangesFocus(True)
        self.setFont(mono())
        set_role(self, "field")
        self.setAccessibleName("Prompt")
        self.setPlaceholderText("Type a text; the model runs on it as soon as you pause.")
        self.document().documentLayout().documentSizeChanged.connect(lambda size: self._fit())
        self._fit()

    def _fit(self) -> None:
        lines = max(2, min(self._most, int(self.document().size().height())))
        margins = 2 * int(self.document().documentMargin()) + 2 * self.frameWidth() + 8  # and the field's padding
        self.setFixedHeight(lines * self.fontMetrics().lineSpacing() + margins)


class HookChooser(QComboBox):
    """One of many hook points, found by typing words of it in any order ("post 12").

    Signals:
        chosen: a name from the list, when it is another than before.
    """

    chosen = Signal(str)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setAccessibleName(name)
        self.setFont(mono())
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(22)
        self._names: list[str] = []
        self._current = ""
        self._found = QStringListModel(self)
        completer = QCompleter(self._found, self)
        completer.setCompletionMode(QCompleter.CompletionMode.UnfilteredPopupCompletion)
        completer.setMaxVisibleItems(14)
        completer.activated.connect(self.choose)
        self._completer = completer
        self._edit = QLineEdit()
        self._edit.setFont(mono())
        self._edit.setAccessibleName(name)
        self._edit.setPlaceholderText("Search hook points")
        self._edit.textEdited.connect(self._search)
        self._edit.editingFinished.connect(self._settle)
        self.setLineEdit(self._edit)
        self.setCompleter(completer)
        self.textActivated.connect(self.choose)

    @property
    def current(self) -> str:
        return self._current

    @property
    def names(self) -> list[str]:
        return list(self._names)

    def set_names(self, names: list[str]) -> None:
        """The names to choose from; the chosen one stays where it is among them."""
        if names == self._names:
            return
        self._names = names
        self.blockSignals(True)
        self.clear()
        self.addItems(names)
        self.blockSignals(False)
        self.show_name(self._current if self._current in names else (names[0] if names else ""))

    def show_name(self, name: str) -> None:
        """Take ``name`` as chosen, without a signal."""
        self._current = name
        self.blockSignals(True)
        self.setCurrentIndex(self._names.index(name) if name in self._names else -1)
        self.setEditText(name)
        self.blockSignals(False)
        self._edit.setCursorPosition(0)
        self.setToolTip(name)

    def choose(self, name: str) -> None:
        """Choose ``name`` and say so, where it is one of the names and another than before."""
        if name not in self._names:
            return
        changed = name != self._current
        self.show_name(name)
        if changed:
            self.chosen.emit(name)

    def _search(self, text: str) -> None:
        words = text.lower().split()
        self._found.setStringList([name for name in self._names if matches(name, words)])
        self._completer.complete()

    def _settle(self) -> None:
        """What was typed and is no name falls back to the only match, else to what was chosen before."""
        text = self._edit.text()
        if text in self._names:
            self.choose(text)
            return
        found = [name for name in self._names if matches(name, text.lower().split())] if text.strip() else []
        if len(found) == 1:
            self.choose(found[0])
        else:
            self.show_name(self._current)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self._edit.text() != self._current:
            self.show_name(self._current)
            return
        super().keyPressEvent(event)
