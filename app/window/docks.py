"""A dock with a quiet title: words, room for a button or two, and one to close it."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QDockWidget, QHBoxLayout, QLabel, QToolButton, QWidget

from app.icons import Dresser
from app.theme import XS, S, set_role


def quiet_button(name: str, tip: str = "") -> QToolButton:
    """A flat tool button for an icon; ``name`` is its accessible name and, without ``tip``, its tool tip."""
    made = QToolButton()
    made.setAccessibleName(name)
    made.setToolTip(tip or name)
    made.setIconSize(QSize(16, 16))
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setAutoRaise(True)
    set_role(made, "quiet")
    return made


class Dock(QDockWidget):
    """One side of the window. ``head`` is the row beside its title, for buttons."""

    def __init__(self, name: str, title: str, body: QWidget, dresser: Dresser, parent: QWidget | None = None) -> None:
        super().__init__(title, parent)
        self.setObjectName(name)
        self.setAccessibleName(title)
        # Not floatable: floating docks have broken with every second Qt release, and steal keys on Wayland.
        self.setFeatures(
            QDockWidget.DockWidgetFeature.DockWidgetClosable | QDockWidget.DockWidgetFeature.DockWidgetMovable
        )
        bar = QWidget()
        self.head = QHBoxLayout(bar)
        self.head.setContentsMargins(S, XS, XS, XS)
        self.head.setSpacing(XS)
        words = QLabel(title)
        font = words.font()
        font.setBold(True)
        words.setFont(font)
        self.head.addWidget(words)
        self.head.addStretch(1)
        self._close = quiet_button(f"Hide {title[0].lower()}{title[1:]}")
        dresser.put(self._close, "close", "muted")
        # The View menu's keys do the same; as a stop for Tab it would stand before what the dock is for.
        self._close.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._close.clicked.connect(self.close)
        self.head.addWidget(self._close)
        self.setTitleBarWidget(bar)
        self.setWidget(body)

    def add_to_head(self, widget: QWidget) -> None:
        """Put ``widget`` at the right of the title."""
        self.head.insertWidget(self.head.count() - 1, widget)
