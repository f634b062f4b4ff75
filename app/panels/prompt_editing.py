"""The rows of a prompt set under the hands of a person: rows and factors come and go, cells are pasted, all can be undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication, QKeySequence, QUndoStack
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.panels.prompt_cells import PromptGrid, from_tsv, to_tsv
from app.panels.prompt_rows import Content, Edit, PromptModel, Source, reserved
from engine.text.prompt_files import MOST_ROWS
from engine.text.prompt_sets import COLUMNS

if TYPE_CHECKING:
    from app.workbench import Workbench


class PromptEditor(QWidget):
    """The grid, with what a person can do in it.

    Signals:
        edited: the content or its source is another: after an edit, and after one was taken back or done again.
        refused: why something was not done, as a sentence.
        unfiltered: a new row is about to be shown, which no filter may hide.
    """

    edited = Signal()
    refused = Signal(str)
    unfiltered = Signal()

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.source = Source()
        self._is_new = True
        self.stack = QUndoStack(self)
        self.model = PromptModel(workbench, self._type, self)
        self.grid = PromptGrid(workbench, self.model)
        self.grid.keys = self._keys()
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self.grid)
        self.setFocusProxy(self.grid)

    @property
    def content(self) -> Content:
        return self.model.content

    @property
    def is_edited(self) -> bool:
        """Whether the content differs from that of its source."""
        return self.content != self.source.content

    def open(self, source: Source) -> None:
        """Show another set, which can be taken back unless it is the first."""
        if self._is_new:
            self._is_new = False
            self._put(source.content, source)
        elif (source.content, source) != (self.content, self.source):
            self.stack.push(Edit("Open", (self.content, self.source), (source.content, source), self._put))

    def mark(self, source: Source) -> None:
        """The content as it is now is that of ``source``: it was saved or kept there."""
        self.source = source
        self.edited.emit()

    def _keys(self) -> dict[str, Callable[[], object]]:
        standard = QKeySequence.StandardKey
        found: dict[str, Callable[[], object]] = {
            "Ins": self.add_row,
            "Ctrl+D": self.duplicate_rows,
            "Ctrl+Del": self.delete_rows,
            "Del": self.clear_cells,
            "Ctrl+Y": self.stack.redo,
        }
        for key, run in (
            (standard.Undo, self.stack.undo),
            (standard.Redo, self.stack.redo),
            (standard.Copy, self.copy),
            (standard.Paste, self.paste),
        ):
            found |= {sequence.toString(): run for sequence in QKeySequence.keyBindings(key)}
        return found

    def add_row(self) -> None:
        """Add an empty row below the current one, and go to its first cell."""
        self.unfiltered.emit()
        content = self.content
        current = self._current_row()
        place = len(content.rows) if current is None else current + 1
        if self._room(1):
            self._edit("Add row", content.with_rows(place, [("",) * len(content.columns)]))
            self.go_to(place, 0)

    def duplicate_rows(self) -> None:
        """Put copies of the chosen rows below them."""
        chosen = self.chosen_rows()
        if chosen and self._room(len(chosen)):
            content = self.content
            self._edit("Duplicate rows", content.with_rows(chosen[-1] + 1, [content.rows[row] for row in chosen]))
            self.go_to(chosen[-1] + 1, max(0, self.grid.currentIndex().column()))

    def delete_rows(self) -> None:
        """Delete the chosen rows."""
        chosen = self.chosen_rows()
        if chosen:
            column = max(0, self.grid.currentIndex().column())
            self._edit("Delete rows", self.content.without_rows(chosen))
            self.go_to(min(chosen[0], len(self.content.rows) - 1), column)

    def clear_cells(self) -> None:
        """Empty the chosen cells."""
        cells = dict.fromkeys(self._chosen_cells(), "")
        if cells:
            self._edit("Clear cells", self.content.with_cells(cells))

    def copy(self) -> None:
        """Put the chosen cells on the clipboard, as spreadsheets take them."""
        cells = self._chosen_cells()
        if cells:
            rows, columns = sorted({row for row, _ in cells}), sorted({column for _, column in cells})
            content = self.content
            chosen = [
                [content.rows[row][column] if (row, column) in cells else "" for column in columns] for row in rows
            ]
            QGuiApplication.clipboard().setText(to_tsv(chosen))

    def paste(self) -> None:
        """Put the clipboard's cells from the current one on; rows that are missing are added."""
        block = from_tsv(QGuiApplication.clipboard().text())
        index = self.grid.currentIndex()
        if not block:
            return
        content, width = self.content, max(len(row) for row in block)
        first = index.column() if index.isValid() else 0
        chosen = self._chosen_cells()
        if width == len(block) == 1 and len(chosen) > 1:  # one text for all that is chosen
            self._edit("Paste", content.with_cells(dict.fromkeys(chosen, block[0][0])))
            return
        # Below the last row that is shown come new ones, behind all others.
        place = index.row() if index.isValid() else len(self.model.order)
        shown = self.model.order[place : place + len(block)]
        rows = [*shown, *range(len(content.rows), len(content.rows) + len(block) - len(shown))]
        if not self._room(len(block) - len(shown)):
            return
        cells = {
            (row, first + offset): text
            for row, texts in zip(rows, block, strict=True)
            for offset, text in enumerate(texts)
            if first + offset < len(content.columns)
        }
        lost = first + width - len(content.columns)
        self._edit("Paste", content.with_cells(cells))
        if lost > 0:
            columns = "column" if lost == 1 else "columns"
            self.refused.emit(f"{lost} {columns} of what was pasted had no place and were left out; add factors first.")

    def add_factor(self, name: str) -> bool:
        """Add a column for the factor ``name``; False where it cannot have that name."""
        name = name.strip()
        if not name or reserved(name) or name in self.content.factors:
            reason = "has a column already" if name else "is no name"
            self.refused.emit(f"“{name}” {reason}; give the factor another name.")
            return False
        self._edit("Add factor", self.content.with_factor(name))
        self.go_to(self._current_row() or 0, len(self.content.columns) - 1)
        return True

    def delete_factor(self) -> None:
        """Delete the factor whose column is the current one."""
        factor = self.current_factor()
        if factor:
            self._edit("Delete factor", self.content.without_factor(factor))

    def toggle_cycle(self) -> None:
        """Say whether the last class is followed by the first, or that it is not."""
        content = self.content
        after = Content(content.factors, content.rows, not content.cyclic)
        self._edit("Labels are a cycle" if after.cyclic else "Labels are no cycle", after)

    def chosen_rows(self) -> list[int]:
        """The rows, counted in the whole set, in which a cell is chosen."""
        return sorted({row for row, _ in self._chosen_cells()})

    def _type(self, row: int, column: int, text: str) -> None:
        self._edit("Typing", self.content.with_cells({(row, column): text}))

    def _edit(self, words: str, after: Content) -> None:
        if after != self.content:
            self.stack.push(Edit(words, (self.content, self.source), (after, self.source), self._put))

    def _room(self, count: int) -> bool:
        """Whether so many rows more are allowed; says so where they are not."""
        fits = len(self.content.rows) + count <= MOST_ROWS
        if not fits:
            self.refused.emit(f"A prompt set has at most {MOST_ROWS:,} rows; delete some first.")
        return fits

    def _put(self, content: Content, source: Source) -> None:
        """Show ``content``, with the current cell where it was."""
        self.source = source
        before, index = self.content, self.grid.currentIndex()
        row, column = self._current_row(), index.column()
        self.model.show_content(content)
        self.grid.fit_columns()
        reshaped = content.factors != before.factors or len(content.rows) != len(before.rows)
        if reshaped and row is not None and content.rows:
            self.go_to(min(row, len(content.rows) - 1), min(column, len(content.columns) - 1))
        self.edited.emit()

    def go_to(self, row: int, column: int) -> None:
        """Make the cell of a row of the content the current one; nothing where the filter hides it."""
        place = self.model.place_of(row)
        if place >= 0:
            index = self.model.index(place, column)
            self.grid.setCurrentIndex(index)
            self.grid.scrollTo(index)

    def current_factor(self) -> str:
        """The factor whose column is the current one; "" for none."""
        column = self.grid.currentIndex().column()
        return self.content.columns[column] if column >= len(COLUMNS) else ""

    def _current_row(self) -> int | None:
        index = self.grid.currentIndex()
        return self.model.order[index.row()] if index.isValid() and index.row() < len(self.model.order) else None

    def _chosen_cells(self) -> set[tuple[int, int]]:
        order = self.model.order
        return {(order[index.row()], index.column()) for index in self.grid.selectionModel().selectedIndexes()}
