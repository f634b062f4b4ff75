"""A person at the table of a prompt set, for tests."""

from __future__ import annotations

import json

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QLineEdit, QWidget

from app.panels.prompt_table import PromptTable
from engine.text.prompt_sets import PromptSet

Key, Modifier = Qt.Key, Qt.KeyboardModifier
CTRL = Modifier.ControlModifier
ROWS = "\n".join(
    json.dumps({"prompt": f"It is {n}", "positive": " good", "negative": " bad", "template": name})
    for n, name in enumerate("aabb")
)


class Hand:
    """A person at a table: keys and mouse, and what was said."""

    def __init__(self, qtbot, table: PromptTable) -> None:
        self.qtbot, self.table, self.grid = qtbot, table, table.editor.grid
        self.sets: list[PromptSet] = []
        self.said: list[str] = []
        table.changed.connect(self.sets.append)
        table.workbench.message.connect(lambda level, sentence, details: self.said.append(sentence))

    def press(self, key: Key, modifier: Modifier = Modifier.NoModifier) -> None:
        self.qtbot.keyClick(self.grid, key, modifier)

    def go(self, row: int, column: int) -> None:
        """Click a cell, counted as it is shown."""
        self.qtbot.mouseClick(self.grid.viewport(), Qt.MouseButton.LeftButton, pos=self.place(row, column))

    def drag(self, first: tuple[int, int], last: tuple[int, int]) -> None:
        self.go(*first)
        self.qtbot.mouseClick(
            self.grid.viewport(), Qt.MouseButton.LeftButton, Modifier.ShiftModifier, self.place(*last)
        )

    def place(self, row: int, column: int) -> QPoint:
        index = self.grid.model().index(row, column)
        self.grid.scrollTo(index)
        return self.grid.visualRect(index).center()

    def line(self) -> QLineEdit:
        """The line in which a cell is edited."""
        return next(line for line in self.grid.viewport().findChildren(QLineEdit) if line.isVisible())

    def write(self, row: int, column: int, text: str) -> None:
        self.go(row, column)
        self.press(Key.Key_F2)
        line = self.line()
        line.selectAll()
        self.finish(line, text)

    def finish(self, line: QLineEdit, text: str) -> None:
        self.qtbot.keyClicks(line, text)
        self.qtbot.keyClick(line, Key.Key_Return)
        self.ended()

    def ended(self) -> None:
        """Wait until no cell is edited: Qt takes up the text when the key has been dealt with."""
        self.qtbot.waitUntil(lambda: not self.grid.viewport().findChildren(QLineEdit))

    @property
    def cells(self) -> list[list[str]]:
        return [list(row) for row in self.table.editor.content.rows]


def named(table: PromptTable, name: str) -> QWidget:
    """The part of a table that has this accessible name."""
    return next(child for child in table.findChildren(QWidget) if child.accessibleName() == name)
