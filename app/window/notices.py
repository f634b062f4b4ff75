"""Messages above the tabs: what happened, what to do about it, and the details one click away."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.icons import Dresser, pixmap
from app.theme import XS, M, S, mono, set_role
from app.window.docks import quiet_button

if TYPE_CHECKING:
    from app.workbench import Workbench

MOST = 3
SECONDS = {"info": 6, "good": 6}  # warnings and errors stay until they are closed
ROLES = {"info": "notice", "good": "notice", "warning": "notice-warning", "error": "notice-error"}


class Notice(QFrame):
    """One message. ``actions`` are words and what they do."""

    def __init__(
        self,
        workbench: Workbench,
        dresser: Dresser,
        level: str,
        text: str,
        details: str,
        actions: list[tuple[str, Callable[[], object]]],
    ) -> None:
        super().__init__()
        self.level, self.said, self.count = level, text, 1
        self.left = False
        set_role(self, ROLES[level])
        self._sign = QLabel()
        self._sign.setAccessibleName({"good": "Done", "info": "Note"}.get(level, level.capitalize()))
        self.recolour(workbench)
        self.words = QLabel(text)
        self.words.setWordWrap(True)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.words.setAccessibleName(text)
        top = QHBoxLayout()
        top.setSpacing(S)
        top.addWidget(self._sign)
        top.addWidget(self.words, 1)
        for label, act in actions:
            button = QPushButton(label)
            button.setAccessibleName(label)
            button.clicked.connect(lambda _=False, act=act: self._act(act))
            top.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(M, XS, S, XS)
        layout.addLayout(top)
        if details:
            self._add_details(top, layout, details)
        close = quiet_button("Close this message")
        dresser.put(close, "close", "muted")
        close.clicked.connect(self.leave)
        top.addWidget(close)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.leave)
        if level in SECONDS:
            self._timer.start((SECONDS[level] + (9 if actions else 0)) * 1000)

    def _add_details(self, top: QHBoxLayout, layout: QVBoxLayout, details: str) -> None:
        box = QPlainTextEdit(details)
        box.setReadOnly(True)
        box.setFont(mono())
        box.setAccessibleName("Details")
        box.setMaximumHeight(220)
        box.hide()
        copy = QPushButton("Copy details")
        copy.setAccessibleName("Copy details")
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(f"{self.said}\n\n{details}"))
        copy.hide()
        more = QPushButton("Details")
        more.setAccessibleName("Details")
        more.setCheckable(True)
        more.toggled.connect(box.setVisible)
        more.toggled.connect(copy.setVisible)
        top.addWidget(copy)
        top.addWidget(more)
        layout.addWidget(box)

    def recolour(self, workbench: Workbench) -> None:
        """Draw the sign in the theme's colours."""
        look = workbench.theme
        colour = {"info": look.accent, "good": look.good, "warning": look.warning, "error": look.bad}[self.level]
        self._sign.setPixmap(pixmap(self.level, 16, colour, self.devicePixelRatioF()))

    def again(self) -> None:
        """The same was said once more."""
        self.count += 1
        self.words.setText(f"{self.said} ({self.count} times)")

    def _act(self, act: Callable[[], object]) -> None:
        self.leave()
        act()

    def leave(self) -> None:
        """Go away."""
        self.left = True
        self._timer.stop()
        self.hide()
        self.setParent(None)
        self.deleteLater()


class Notices(QWidget):
    """The messages, newest last; the oldest goes when there are too many."""

    def __init__(self, workbench: Workbench, dresser: Dresser, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self._dresser = dresser
        self._notices: list[Notice] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(XS)
        workbench.message.connect(lambda level, text, details: self.say(level, text, details))
        workbench.offer.connect(self._offer)
        workbench.theme_changed.connect(self._recolour)

    def shown(self) -> list[Notice]:
        """The messages there are now."""
        # A list of its own: asking the layout leaves wrappers of its items behind, whose addresses Qt gives to
        # widgets later, and PySide then takes such a widget for the item.
        self._notices = [notice for notice in self._notices if not notice.left]
        return list(self._notices)

    def say(
        self,
        level: str,
        text: str,
        details: str = "",
        actions: list[tuple[str, Callable[[], object]]] | None = None,
    ) -> None:
        """Show a message; one that is shown already is counted instead."""
        level = level if level in ROLES else "info"
        for notice in self.shown():
            if (notice.level, notice.said) == (level, text):
                notice.again()
                return
        notice = Notice(self._workbench, self._dresser, level, text, details, actions or [])
        self._notices.append(notice)
        self._column.addWidget(notice)
        for notice in self.shown()[:-MOST]:
            notice.leave()

    def _offer(self, level: str, text: str, details: str, words: str, command: str) -> None:
        self.say(level, text, details, actions=[(words, lambda: self._workbench.commands.run(command))])

    def _recolour(self) -> None:
        for notice in self.shown():
            notice.recolour(self._workbench)

    def clear(self) -> None:
        """Close every message."""
        for notice in self.shown():
            notice.leave()
