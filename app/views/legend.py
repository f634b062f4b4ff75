"""The legend: a row of switches, one per series, each with its line and its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
from PySide6.QtWidgets import QLayout, QLayoutItem, QSizePolicy, QToolButton, QWidget

from app.theme import Theme, set_role, small
from engine.figures.palette import Dash, dash_of, series_colour
from engine.figures.words import shortened

MOST = 24  # switches; further series are counted, and shown all the same
SAMPLE = QSize(22, 12)
STYLES: dict[Dash, Qt.PenStyle] = {
    "solid": Qt.PenStyle.SolidLine,
    "dashed": Qt.PenStyle.DashLine,
    "dotted": Qt.PenStyle.DotLine,
    "dashdot": Qt.PenStyle.DashDotLine,
}


def series_pen(look: Theme, index: int, width: float = 1.0) -> QPen:
    """The pen of series ``index``: its colour, and from the fifth on its dash; cosmetic."""
    pen = QPen(QColor(series_colour(look.name, index)), width)
    pen.setStyle(STYLES[dash_of(index)])
    pen.setCosmetic(True)
    return pen


@dataclass(frozen=True)
class Entry:
    """A switch: ``pen`` draws the sample; ``fixed`` ones are named but cannot be switched."""

    name: str
    pen: QPen


class Flow(QLayout):
    """Lays widgets out in lines, as words are."""

    def __init__(self, gap: int = 2) -> None:
        super().__init__()
        self._items: list[QLayoutItem] = []
        self._gap = gap
        self.setContentsMargins(0, 0, 0, 0)

    def addItem(self, item: QLayoutItem) -> None:
        self._items.append(item)

    def count(self) -> int:
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return self._place(QRect(0, 0, width, 0), move=False)

    def setGeometry(self, rect: QRect) -> None:
        super().setGeometry(rect)
        self._place(rect, move=True)

    def sizeHint(self) -> QSize:
        return self.minimumSize()

    def minimumSize(self) -> QSize:
        size = QSize()
        for item in self._items:
            size = size.expandedTo(item.minimumSize())
        return size

    def _place(self, rect: QRect, *, move: bool) -> int:
        x, y, tallest = rect.x(), rect.y(), 0
        for item in self._items:
            if item.isEmpty():
                continue
            size = item.sizeHint()
            if x > rect.x() and x + size.width() > rect.right() + 1:
                x, y, tallest = rect.x(), y + tallest + self._gap, 0
            if move:
                item.setGeometry(QRect(QPoint(x, y), size))
            x += size.width() + self._gap
            tallest = max(tallest, size.height())
        return y + tallest - rect.y()


class Legend(QWidget):
    """Switches of series. Buttons are made once and reused.

    Signals:
        switched: series by index, and whether it is shown now.
    """

    switched = Signal(int, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._flow = Flow()
        self.setLayout(self._flow)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setAccessibleName("Legend")
        self._buttons: list[QToolButton] = []
        self._shown: list[tuple[str, str, int]] = []

    def set_entries(self, entries: Sequence[Entry], hidden: frozenset[int] = frozenset()) -> None:
        """Show these series, those in ``hidden`` switched off."""
        drawn = [(entry.name, entry.pen.color().name(), entry.pen.style().value) for entry in entries]
        if drawn != self._shown:
            self._shown = drawn
            while len(self._buttons) < min(len(entries), MOST):
                self._buttons.append(self._button(len(self._buttons)))
            for index, button in enumerate(self._buttons):
                button.setVisible(index < len(entries))
                if index < len(entries):
                    self._write(button, entries[index], len(entries) - MOST if index == MOST - 1 else 0)
            self.updateGeometry()
        for index, button in enumerate(self._buttons):
            button.blockSignals(True)
            button.setChecked(index not in hidden)
            button.blockSignals(False)
            self._strike(button, index in hidden)

    @property
    def names(self) -> list[str]:
        """What the visible switches say."""
        return [button.accessibleName() for button in self._buttons if not button.isHidden()]

    def button(self, index: int) -> QToolButton:
        return self._buttons[index]

    def _toggled(self, index: int, on: bool) -> None:
        self._strike(self._buttons[index], not on)
        self.switched.emit(index, on)

    @staticmethod
    def _strike(button: QToolButton, off: bool) -> None:
        if button.font().strikeOut() != off:
            font = small()
            font.setStrikeOut(off)
            button.setFont(font)

    def _button(self, index: int) -> QToolButton:
        button = QToolButton(self)
        set_role(button, "legend")
        button.setCheckable(True)
        button.setChecked(True)
        button.setFont(small())
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setIconSize(SAMPLE)
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        button.toggled.connect(lambda on: self._toggled(index, on))
        self._flow.addWidget(button)
        return button

    def _write(self, button: QToolButton, entry: Entry, more: int) -> None:
        ratio = self.devicePixelRatioF()
        sample = QPixmap(SAMPLE * ratio)
        sample.setDevicePixelRatio(ratio)
        sample.fill(Qt.GlobalColor.transparent)
        painter = QPainter(sample)
        pen = QPen(entry.pen)
        pen.setWidthF(2)
        pen.setCosmetic(False)
        painter.setPen(pen)
        painter.drawLine(0, SAMPLE.height() // 2, SAMPLE.width(), SAMPLE.height() // 2)
        painter.end()
        faded = QPixmap(sample.size())
        faded.setDevicePixelRatio(ratio)
        faded.fill(Qt.GlobalColor.transparent)
        painter = QPainter(faded)
        painter.setOpacity(0.25)
        painter.drawPixmap(0, 0, sample)
        painter.end()
        icon = QIcon()
        icon.addPixmap(sample, QIcon.Mode.Normal, QIcon.State.On)
        icon.addPixmap(faded, QIcon.Mode.Normal, QIcon.State.Off)
        button.setIcon(icon)
        name = entry.name or "series"
        text = shortened(name, 36) + (f" … and {more} more" if more > 0 else "")
        button.setText(text.replace("&", "&&"))
        button.setAccessibleName(f"Show {name}")
        button.setToolTip(f"{name}: click to hide or show")
