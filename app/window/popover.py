"""A small place to type beside what it is about: tags, a note. Enter or Save keeps, Escape forgets."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QLineEdit, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.theme import M, S, set_role


class Popover(QFrame):
    """One text to change. ``keep`` gets the new text; a long text has several lines."""

    def __init__(self, title: str, text: str, keep: Callable[[str], object], window: QWidget, *, long: bool) -> None:
        super().__init__(window, Qt.WindowType.Popup)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setAccessibleName(title)
        set_role(self, "card")
        self._keep = keep
        words = QLabel(title)
        self.editor: QLineEdit | QPlainTextEdit
        if long:
            self.editor = QPlainTextEdit(text)
            self.editor.setTabChangesFocus(True)
            self.editor.setMinimumSize(360, 140)
        else:
            self.editor = QLineEdit(text)
            self.editor.setMinimumWidth(260)
            self.editor.returnPressed.connect(self.accept)
            self.editor.selectAll()
        self.editor.setAccessibleName(title)
        save = QPushButton("Save")
        save.setAccessibleName("Save")
        set_role(save, "primary")
        save.clicked.connect(self.accept)
        cancel = QPushButton("Cancel")
        cancel.setAccessibleName("Cancel")
        cancel.clicked.connect(self.close)
        buttons = QHBoxLayout()
        buttons.setSpacing(S)
        buttons.addStretch(1)
        buttons.addWidget(cancel)
        buttons.addWidget(save)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(M, M, M, M)
        layout.setSpacing(S)
        layout.addWidget(words)
        layout.addWidget(self.editor)
        layout.addLayout(buttons)

    def text(self) -> str:
        return self.editor.text() if isinstance(self.editor, QLineEdit) else self.editor.toPlainText()

    def accept(self) -> None:
        """Keep the text and go."""
        text = self.text()
        self.close()
        self._keep(text)

    def popup(self, place: QPoint) -> None:
        """Show it at ``place`` on the screen, moved where it would leave the screen."""
        self.adjustSize()
        room = self.screen().availableGeometry()
        x = max(room.left(), min(place.x(), room.right() - self.width()))
        y = max(room.top(), min(place.y(), room.bottom() - self.height()))
        self.move(x, y)
        self.show()
        self.editor.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        is_return = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_return and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.accept()
            return
        super().keyPressEvent(event)
