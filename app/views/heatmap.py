"""Heat maps: a value per cell, words in the cells, a colour bar, a cell to lock and to move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtWidgets import QWidget

from app.views.maps import MapItems
from app.views.plotted import PlotView
from engine.figures.cells import Levels, levels, said_of_cells, whole_levels
from engine.figures.kinds import Axis, Figure, Heatmap
from engine.figures.words import named, tick_words, visible_token

if TYPE_CHECKING:
    from app.workbench import Workbench


class HeatmapView(PlotView):
    """A `Heatmap`. Hover reads a cell out, a click locks it, the arrow keys move the locked cell."""

    empty_hint = "This map has no cells with a value yet. It appears here when the run has made it."

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        self._locked: tuple[int, int] | None = None
        self._levels = Levels(0, 1)
        self._ticked: dict[str, tuple[Axis, Any]] = {}  # axis and ticks whose words are shown
        self.full_range = False
        super().__init__(workbench, figure, parent)

    def populate(self) -> None:
        self.items = MapItems(self.plot)
        self.bar.show()

    def add_actions(self) -> None:
        super().add_actions()
        self.controls.add(
            "range", "Colours over the full range, outliers included", self.toggle_range, key="R", checkable=True
        )

    # ---- drawing

    def is_empty(self) -> bool:
        return self.figure is None or self.figure.values.size == 0

    def draw(self) -> None:
        figure: Heatmap = self.figure
        rows, columns = figure.values.shape
        look = self.workbench.theme
        log = figure.value_axis.scale == "log"
        if self.full_range:
            self._levels = whole_levels(figure.values, diverging=figure.diverging, log=log)
        else:
            self._levels = levels(figure.values, diverging=figure.diverging, log=log, given=figure.levels)
        self.items.show_values(figure.values, self._levels, figure.diverging, figure.text, look)
        self.plot.box.invertY(figure.origin == "upper")
        for axis, meaning, ticks in (
            (self.plot.x_axis, figure.x_axis, figure.x),
            (self.plot.y_axis, figure.y_axis, figure.y),
        ):
            known = self._ticked.get(axis.orientation)
            if known is None or known[0] != meaning or not np.array_equal(known[1], ticks):
                self._ticked[axis.orientation] = (meaning, ticks)
                axis.name(meaning, tick_words(ticks), numeric=ticks.dtype.kind not in "US")
        self.plot.show_range((-0.5, columns - 0.5), (-0.5, rows - 0.5), pad=0)
        self.bar.show_levels(self._levels, figure.value_axis, figure.diverging, look)
        self.items.outline(None)
        if self._locked is not None and (self._locked[0] >= rows or self._locked[1] >= columns):
            self._locked = None
        self.items.outline(self._locked, locked=True)
        if self._locked is not None:
            self.read_out(self._said(*self._locked))

    def toggle_range(self) -> None:
        self.full_range = not self.full_range
        self.controls.check("range", self.full_range)
        self.workbench.painter.mark(self)

    # ---- read-out and lock

    @property
    def locked_cell(self) -> tuple[int, int] | None:
        return self._locked

    def lock_cell(self, row: int, column: int) -> None:
        """Lock a cell without a signal: another view, or the panel, has chosen it."""
        self._locked = (row, column)
        if self.paints and not self.is_empty():
            self.items.outline(self._locked, locked=True)
            inside = row < self.figure.values.shape[0] and column < self.figure.values.shape[1]
            self.read_out(self._said(row, column) if inside else "")

    def hover(self, x: float, y: float) -> None:
        cell = self.items.cell_at(x, y)
        self.items.outline(cell)
        if cell is None:
            self.leave()
        else:
            self.read_out(self._said(*cell))
            self.cell_hovered.emit(*cell)

    def leave(self) -> None:
        self.items.outline(None)
        self.read_out(self._said(*self._locked) if self._locked is not None else "")

    def click(self, x: float, y: float) -> None:
        cell = self.items.cell_at(x, y)
        if cell is not None:
            self._lock(*cell)

    def move_selection(self, right: int, down: int) -> None:
        if self.is_empty():
            return
        rows, columns = self.figure.values.shape
        if self._locked is None:
            self._lock(0 if self.figure.origin == "upper" else rows - 1, 0)
            return
        down = down if self.figure.origin == "upper" else -down
        row, column = self._locked[0] + down, self._locked[1] + right
        self._lock(min(max(row, 0), rows - 1), min(max(column, 0), columns - 1))

    def activate(self) -> None:
        if self._locked is not None:
            self.cell_clicked.emit(*self._locked)

    def unlock(self) -> None:
        self._locked = None
        self.items.outline(None, locked=True)
        self.leave()

    def _lock(self, row: int, column: int) -> None:
        self.lock_cell(row, column)
        self.cell_clicked.emit(row, column)

    def _said(self, row: int, column: int) -> str:
        figure: Heatmap = self.figure
        places = [
            f"{axis.label or fallback} {tick_words(ticks[at : at + 1])[0]}"
            for axis, fallback, ticks, at in (
                (figure.y_axis, "row", figure.y, row),
                (figure.x_axis, "column", figure.x, column),
            )
        ]
        value = named(float(figure.values[row, column]), figure.value_axis)
        word = [f"“{visible_token(str(figure.text[row, column]))}”"] if figure.text is not None else []
        return " · ".join([*places, *word, value])

    def idle_text(self) -> str:
        said = said_of_cells(self._levels) if self._figure is not None else ""
        return " · ".join(part for part in (said, super().idle_text()) if part)
