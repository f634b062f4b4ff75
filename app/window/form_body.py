"""The fields of a form in rows: plain ones, those folded under Advanced, and groups that fold on their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from app.theme import XS, M, S, set_role, small
from app.window.fields import Field
from app.window.schema import label_of


@dataclass
class _Row:
    """A field and what stands around it."""

    field: Field
    around: list[QWidget]

    def show_if(self, wanted: bool) -> None:
        for widget in (self.field, *self.around):
            widget.setVisible(wanted)
        if wanted:
            self.field.check()
        else:
            self.field.problem.hide()


class Fold(QWidget):
    """A word that shows and hides what is beneath it; closed at first."""

    def __init__(self, words: str, named: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QToolButton()
        self.button.setText(words)
        self.button.setAccessibleName(named)
        self.button.setCheckable(True)
        self.button.setArrowType(Qt.ArrowType.RightArrow)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        set_role(self.button, "quiet")
        self.inside = QWidget()
        self.column = QVBoxLayout(self.inside)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(S)
        self.inside.hide()
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        whole.addWidget(self.button, 0, Qt.AlignmentFlag.AlignLeft)
        whole.addWidget(self.inside)
        self.button.toggled.connect(self._unfold)

    def _unfold(self, on: bool) -> None:
        self.inside.setVisible(on)
        self.button.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)


@dataclass
class _Group:
    fold: Fold
    rows: list[_Row] = field(default_factory=list)


class FormBody(QWidget):
    """The rows of ``fields``.

    Attributes:
        stops: what Tab stops at, from top to bottom.
    """

    def __init__(self, fields: list[Field], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.stops: list[QWidget] = []
        self._rows: list[_Row] = []
        self._groups: list[_Group] = []
        column = QVBoxLayout(self)
        column.setContentsMargins(M, 0, M, 0)
        column.setSpacing(M)
        self._fill(column, [entry for entry in fields if not entry.parameter.advanced], groups_first=False)
        folded = [entry for entry in fields if entry.parameter.advanced]
        if folded:
            fold = self._fold("Advanced", "Advanced parameters")
            before = len(self._rows)
            self._fill(fold.column, folded, groups_first=True)
            self._groups.append(_Group(fold, self._rows[before:]))
            column.addWidget(fold)
        column.addStretch(1)

    def show_only(self, names: Iterable[str]) -> None:
        """Hide the fields of other parameters, and the groups that hold none of these."""
        wanted = set(names)
        for row in self._rows:
            row.show_if(row.field.parameter.name in wanted)
        for group in self._groups:
            group.fold.setVisible(any(row.field.parameter.name in wanted for row in group.rows))

    def reveal(self, shown: Field) -> None:
        """Open the groups that a field is in."""
        for group in self._groups:
            if any(row.field is shown for row in group.rows):
                group.fold.button.setChecked(True)

    def _fold(self, words: str, named: str) -> Fold:
        fold = Fold(words, named)
        self.stops.append(fold.button)
        return fold

    def _fill(self, column: QVBoxLayout, fields: list[Field], *, groups_first: bool) -> None:
        """Put fields into a column: those of a section in a group of their own, the others as they stand."""
        if groups_first:
            self._fill_groups(column, fields)
        loose = [entry for entry in fields if not entry.parameter.section]
        if loose:
            column.addWidget(self._grid(loose))
        if not groups_first:
            self._fill_groups(column, fields)

    def _fill_groups(self, column: QVBoxLayout, fields: list[Field]) -> None:
        for section in dict.fromkeys(entry.parameter.section for entry in fields if entry.parameter.section):
            fold = self._fold(section, f"{section} parameters")
            before = len(self._rows)
            fold.column.addWidget(self._grid([entry for entry in fields if entry.parameter.section == section]))
            self._groups.append(_Group(fold, self._rows[before:]))
            column.addWidget(fold)

    def _grid(self, fields: list[Field]) -> QWidget:
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(S)
        grid.setVerticalSpacing(S)
        grid.setColumnStretch(1, 1)
        for place, entry in enumerate(fields):
            self._rows.append(_Row(entry, _put(grid, place, entry)))
            self.stops += entry.stops()
        return holder


def _put(grid: QGridLayout, place: int, entry: Field) -> list[QWidget]:
    """Lay a field out in its two rows of the grid; what was put around it."""
    words = QLabel(label_of(entry.parameter.name))
    words.setBuddy(entry.editor)
    words.setToolTip(entry.editor.toolTip())
    if entry.parameter.widget == "prompt":
        column = QVBoxLayout()
        column.setSpacing(XS)
        for widget in (words, entry, entry.problem):
            column.addWidget(widget)
        grid.addLayout(column, 2 * place, 0, 1, 3)
        return [words]
    # As high as the editor and at its top: beside its text, also when a problem stands beneath.
    words.setMinimumHeight(entry.editor.sizeHint().height())
    grid.addWidget(words, 2 * place, 0, Qt.AlignmentFlag.AlignTop)
    grid.addWidget(entry.problem, 2 * place + 1, 1, 1, 2)
    unit = entry.parameter.unit
    grid.addWidget(entry, 2 * place, 1, 1, 1 if unit or entry.parameter.kind in ("integer", "number") else 2)
    if not unit:
        return [words]
    behind = QLabel(unit)
    behind.setFont(small())
    behind.setMinimumHeight(entry.editor.sizeHint().height())
    set_role(behind, "muted")
    grid.addWidget(behind, 2 * place, 2, Qt.AlignmentFlag.AlignTop)
    return [words, behind]


def tab_through(stops: list[QWidget]) -> None:
    """Let Tab go through ``stops`` in this order."""
    for first, second in itertools.pairwise(stops):
        QWidget.setTabOrder(first, second)
