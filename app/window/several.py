"""A button that opens a list in which several values are ticked: a sweep over choices."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QMenu, QToolButton, QWidget

from app.theme import set_role

TICKING = (Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter)


class TickMenu(QMenu):
    """A menu that stays open while its entries are ticked; Escape or a click elsewhere closes it."""

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        action = self.activeAction()
        if action is not None and action.isCheckable():
            action.trigger()
        else:
            super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        action = self.activeAction()
        if action is not None and event.key() in TICKING:
            action.trigger()
        else:
            super().keyPressEvent(event)


class SeveralButton(QToolButton):
    """Offers ``(words, value)`` to be ticked.

    Attributes:
        offered: the values by their words.

    Signals:
        chosen: a person ticked or unticked one; the values that are ticked now, in the order offered.
    """

    chosen = Signal(list)

    def __init__(self, of: str, offered: tuple[tuple[str, Any], ...], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.offered = dict(offered)
        self.setText("…")
        self.setAccessibleName(f"Several values of {of}")
        self.setToolTip("Sweep: tick several values, and each gets its own run")
        self.setAccessibleDescription(self.toolTip())
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        set_role(self, "quiet")
        menu = TickMenu(self)
        menu.setAccessibleName(self.accessibleName())
        self._ticks: list[QAction] = []
        for words in self.offered:
            tick = menu.addAction(words)
            tick.setCheckable(True)
            tick.triggered.connect(lambda: self.chosen.emit(self.values()))
            self._ticks.append(tick)
        self.setMenu(menu)

    def values(self) -> list[Any]:
        """The values that are ticked."""
        return [self.offered[tick.text()] for tick in self._ticks if tick.isChecked()]

    def set_values(self, values: list[Any]) -> None:
        """Tick these and no others."""
        for tick in self._ticks:
            tick.setChecked(self.offered[tick.text()] in values)
