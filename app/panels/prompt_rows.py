"""The rows of a prompt set as an editable Qt model: cells of text, with what is wrong marked and changes taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtGui import QUndoCommand

from app.theme import mono
from engine.text.prompt_files import CYCLIC, classes_of, make_set, problems_of
from engine.text.prompt_sets import COLUMNS, PromptRow, PromptSet
from engine.text.prompts import is_rows, visible

if TYPE_CHECKING:
    from app.workbench import Workbench

Index: TypeAlias = QModelIndex | QPersistentModelIndex
Cells: TypeAlias = tuple[str, ...]
NOWHERE = QModelIndex()
HELP = {
    "prompt": "What both completions follow",
    "positive": "The completion that steering is to make likelier; in sets with labels, the one that the label names",
    "negative": "The completion that it is compared with",
    "suffix": "Text behind the completion when activations are read, so that they are not read on the answer",
    "label": "The class of the prompt: a number, a day",
}
PROBLEM_ROLE = Qt.ItemDataRole.UserRole


@dataclass(frozen=True)
class Content:
    """What the table holds: ``rows`` have the cells of `COLUMNS`, then one for each of ``factors``.

    ``cyclic`` is the mark that the last class is followed by the first; days and months need none.
    """

    factors: Cells = ()
    rows: tuple[Cells, ...] = ()
    cyclic: bool = False

    @property
    def columns(self) -> Cells:
        return (*COLUMNS, *self.factors)

    def to_set(self, *, name: str, reference: str, note: str = "") -> PromptSet:
        """The prompt set of these rows; those that are empty throughout are left out."""
        return make_set(
            (_row(cells, self.factors) for cells in self.rows if any(cells)),
            name=name,
            reference=reference,
            cyclic=True if self.cyclic else None,
            note=note,
        )

    def with_cells(self, cells: Mapping[tuple[int, int], str]) -> Content:
        """With other texts by row and column; a row behind the last one is made."""
        width = len(self.columns)
        rows = [list(row) for row in self.rows]
        for (row, column), text in cells.items():
            rows.extend([""] * width for _ in range(row + 1 - len(rows)))
            rows[row][column] = text
        return replace(self, rows=tuple(tuple(row) for row in rows))

    def with_rows(self, place: int, rows: Iterable[Cells]) -> Content:
        return replace(self, rows=(*self.rows[:place], *rows, *self.rows[place:]))

    def without_rows(self, gone: Iterable[int]) -> Content:
        left_out = set(gone)
        return replace(self, rows=tuple(row for number, row in enumerate(self.rows) if number not in left_out))

    def with_factor(self, name: str) -> Content:
        return replace(self, factors=(*self.factors, name), rows=tuple((*row, "") for row in self.rows))

    def without_factor(self, name: str) -> Content:
        place = self.columns.index(name)
        rows = tuple(row[:place] + row[place + 1 :] for row in self.rows)
        return replace(self, factors=tuple(factor for factor in self.factors if factor != name), rows=rows)

    def first_problem(self) -> tuple[int, int, str] | None:
        """Row, column and words of the first thing that is wrong; None where nothing is."""
        for number, row in enumerate(self.rows):
            for column, words in problems(row[: len(COLUMNS)]).items() if any(row) else ():
                return number, column, words
        return None


@dataclass(frozen=True)
class Source:
    """Where a content came from: what it is called, by what it is opened again, what is known of it, what it was."""

    name: str = ""
    reference: str = ""
    note: str = ""
    content: Content = Content()

    @classmethod
    def of(cls, prompts: PromptSet) -> Source:
        """A set as a source; rows that were given as such have no reference but themselves."""
        reference = "" if is_rows(prompts.reference) else prompts.reference
        return cls(prompts.name, reference, prompts.note, content_of(prompts))


State: TypeAlias = tuple[Content, Source]


def content_of(prompts: PromptSet) -> Content:
    """The content of a set."""
    factors = prompts.factors
    rows = tuple(
        (
            row.prompt,
            row.positive,
            row.negative,
            row.suffix,
            row.label,
            *(row.factors.get(name, "") for name in factors),
        )
        for row in prompts.rows
    )
    marked = prompts.cyclic and not classes_of(row.label for row in prompts.rows)[1]
    return Content(factors, rows, marked)


def reserved(name: str) -> bool:
    """Whether a column of every set has this name, so that no factor can have it."""
    return name.strip().lower() in (*COLUMNS, CYCLIC, "factors")


@lru_cache(maxsize=1 << 16)
def problems(cells: Cells) -> dict[int, str]:
    """What is wrong with a row, by column: sentences that begin with the column's name, in lower case."""
    found = problems_of(_row(cells, ()))
    return {COLUMNS.index(name): f"{name} {words}." for name, words in found.items()}


def _row(cells: Sequence[str], factors: Sequence[str]) -> PromptRow:
    count = len(COLUMNS)
    named = {name: value for name, value in zip(factors, cells[count:], strict=True) if value}
    return PromptRow(*cells[:count], factors=named)


class Edit(QUndoCommand):
    """A change that can be taken back, of rows or to another set. ``put`` shows a content and its source."""

    def __init__(self, words: str, before: State, after: State, put: Callable[[Content, Source], None]) -> None:
        super().__init__(words)
        self._before, self._after, self._put = before, after, put

    def undo(self) -> None:
        self._put(*self._before)

    def redo(self) -> None:
        self._put(*self._after)


class PromptModel(QAbstractTableModel):
    """Shows a `Content`, all rows or those that a filter leaves; a cell that is typed in goes to ``edited``.

    Args:
        edited: called with row and column in the content and the new text.
    """

    def __init__(
        self, workbench: Workbench, edited: Callable[[int, int, str], None], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._workbench, self._edited = workbench, edited
        self.content = Content()
        self.wanted = ""
        self.order: list[int] = []

    def show_content(self, content: Content) -> None:
        """Show another content; the filter stays."""
        before, self.content = self.content, content
        if content.factors == before.factors and len(content.rows) == len(before.rows):
            # Rows that were just edited stay where they are, whether the filter fits them still or not.
            last = self.index(len(self.order) - 1, len(content.columns) - 1)
            self.dataChanged.emit(self.index(0, 0), last)
            return
        self.beginResetModel()
        self._arrange()
        self.endResetModel()

    def keep(self, wanted: str) -> None:
        """Show only rows with ``wanted`` in one of their cells, in upper or lower case."""
        self.beginResetModel()
        self.wanted = wanted
        self._arrange()
        self.endResetModel()

    def place_of(self, row: int) -> int:
        """Where a row of the content is shown; -1 where the filter hides it."""
        return self.order.index(row) if row in self.order else -1

    def _arrange(self) -> None:
        words = self.wanted.strip().lower()
        rows = self.content.rows
        self.order = [number for number, row in enumerate(rows) if any(words in cell.lower() for cell in row)]

    # ---- Qt's questions

    def rowCount(self, parent: Index = NOWHERE) -> int:
        return 0 if parent.isValid() else len(self.order)

    def columnCount(self, parent: Index = NOWHERE) -> int:
        return 0 if parent.isValid() else len(self.content.columns)

    def flags(self, index: Index) -> Qt.ItemFlag:
        return super().flags(index) | Qt.ItemFlag.ItemIsEditable

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        row = self.content.rows[self.order[index.row()]]
        text = row[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return text
        if role == Qt.ItemDataRole.FontRole and index.column() < len(COLUMNS) - 1:
            return mono()
        if role in (PROBLEM_ROLE, Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole):
            problem = problems(row[: len(COLUMNS)]).get(index.column(), "") if any(row) else ""
            if role == PROBLEM_ROLE:
                return problem
            if role == Qt.ItemDataRole.ToolTipRole:
                return problem or visible(text) or None
            return f"{self.content.columns[index.column()]}: {text or 'empty'}{'. ' if problem else ''}{problem}"
        return None

    def setData(self, index: Index, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        if role != Qt.ItemDataRole.EditRole or not index.isValid():
            return False
        if str(value) != self.data(index, role):
            self._edited(self.order[index.row()], index.column(), str(value))
        return True

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Vertical:
            return f"{self.order[section] + 1:,}" if role == Qt.ItemDataRole.DisplayRole else None
        name = self.content.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return name.capitalize() if section < len(COLUMNS) else name
        if role == Qt.ItemDataRole.ToolTipRole:
            return HELP.get(name, "A factor: something else in which rows differ, declared beforehand")
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return None
