"""The log: what the engine and the window have said, with search. Every line can be selected and copied."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtGui import QColor, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.theme import XS, S, mono

if TYPE_CHECKING:
    from app.workbench import Workbench

LINES = 5000
LEVELS = {"Everything": ("engine", "info", "good", "warning", "error"), "Messages": ("info", "good", "warning", "error"),
          "Warnings and errors": ("warning", "error")}  # fmt: skip


@dataclass(frozen=True)
class Line:
    when: float
    level: str
    run: str
    text: str

    def written(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.when))
        return f"{clock}  {self.run + ': ' if self.run else ''}{self.text}"


class Log(QWidget):
    """Lines, newest last, with a filter by words and by level."""

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self._lines: deque[Line] = deque(maxlen=LINES)
        self._new: deque[Line] = deque(maxlen=LINES)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search the log")
        self.search.setAccessibleName("Search the log")
        self.search.setClearButtonEnabled(True)
        self.search.setMinimumWidth(120)
        self.search.textChanged.connect(self._refill)
        self.level = QComboBox()
        self.level.setAccessibleName("Lines to show")
        self.level.addItems(list(LEVELS))
        self.level.setCurrentText("Messages")
        self.level.currentTextChanged.connect(self._refill)
        self.clear = QPushButton("Clear")
        self.clear.setAccessibleName("Clear the log")
        self.clear.clicked.connect(self._clear)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        self.text.setFont(mono())
        self.text.setAccessibleName("Log")
        self.text.setMaximumBlockCount(LINES)
        self.text.setPlaceholderText("What runs and the engine say appears here.")
        bar = QHBoxLayout()
        bar.setSpacing(S)
        bar.addWidget(self.search, 1)
        bar.addWidget(self.level)
        bar.addWidget(self.clear)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(S, 0, S, S)
        layout.setSpacing(XS)
        layout.addLayout(bar)
        layout.addWidget(self.text)
        workbench.logged.connect(self.add)
        workbench.message.connect(self._said)
        workbench.offer.connect(lambda level, text, details, *_: self._said(level, text, details))
        workbench.theme_changed.connect(self._refill)

    def add(self, run: str, level: str, text: str) -> None:
        """Write a line."""
        self._new.append(Line(time.time(), level, run, text))
        self._workbench.painter.mark(self)

    def lines(self) -> list[str]:
        """All lines, shown or not."""
        return [line.written() for line in (*self._lines, *self._new)]

    def paint_now(self) -> None:
        """Write what is new."""
        while self._new:
            line = self._new.popleft()
            self._lines.append(line)
            if self._fits(line):
                self._write(line)

    def _said(self, level: str, text: str, details: str) -> None:
        self.add("", level, text + (f"\n{details}" if details else ""))

    def _fits(self, line: Line) -> bool:
        words = self.search.text().lower().split()
        written = line.written().lower()
        return line.level in LEVELS[self.level.currentText()] and all(word in written for word in words)

    def _write(self, line: Line) -> None:
        look = self._workbench.theme
        colours: dict[str, QColor] = {"warning": look.warning, "error": look.bad, "engine": look.muted}
        style = QTextCharFormat()
        style.setForeground(colours.get(line.level, look.text))
        bar = self.text.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 2
        cursor = QTextCursor(self.text.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        if not self.text.document().isEmpty():
            cursor.insertBlock()
        cursor.insertText(line.written(), style)
        if at_end:  # a person who scrolled up is reading
            bar.setValue(bar.maximum())

    def _refill(self) -> None:
        self.text.clear()
        for line in self._lines:
            if self._fits(line):
                self._write(line)

    def _clear(self) -> None:
        self._lines.clear()
        self._new.clear()
        self.text.clear()
