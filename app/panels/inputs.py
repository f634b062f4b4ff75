"""Numbers and choices that leave the mouse wheel to the page under the mouse, unless they have the focus."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QAbstractSpinBox, QComboBox, QDoubleSpinBox, QSpinBox, QWidget

from app.theme import XS


class WheelWithFocus:
    """Before a Qt class: the wheel changes the value only where the widget has the focus, so that pages scroll."""

    def wheelEvent(self: Any, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)  # type: ignore[misc]
        else:
            event.ignore()


class Number(WheelWithFocus, QSpinBox):
    """A whole number."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _begin(self, name)
        self.setMinimumWidth(72)


class Exact(WheelWithFocus, QDoubleSpinBox):
    """A number with a fraction."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _begin(self, name)


class Choice(WheelWithFocus, QComboBox):
    """One of a few values."""


def _begin(spin: QAbstractSpinBox, name: str) -> None:
    spin.setAccessibleName(name)
    spin.setKeyboardTracking(False)
    spin.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    spin.lineEdit().setTextMargins(XS, 0, 0, 0)  # the style sheet's padding does not reach it
