"""Curves: `LinesView` for a figure, `CurvesView` for the metrics of runs while they grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QWidget

from app.views.curves import Range, Series, SeriesView
from app.views.plotted import SCALES, as_drawn
from app.views.setup import pg
from engine.figures.kinds import Axis, Figure, Lines
from engine.figures.tabular import drawn_length

if TYPE_CHECKING:
    from app.workbench import Workbench

Rows: TypeAlias = npt.NDArray[np.float64]


class LinesView(SeriesView):
    """A `Lines` figure."""

    empty_hint = "This figure has no points yet. Curves appear here when the run has made them."

    def take(self) -> tuple[list[Series], dict[str, float], tuple[Axis, Axis]]:
        figure: Lines = self.figure
        found = []
        for index, name in enumerate(figure.series):
            used = drawn_length(figure.x[index], figure.y[index])
            rows = (figure.x, figure.y, figure.low, figure.high)
            x, y, low, high = (None if row is None else np.asarray(row[index, :used], np.float64) for row in rows)
            assert x is not None
            assert y is not None
            found.append(Series(name, x, y, low, high))
        return found, figure.reference, (figure.x_axis, figure.y_axis)

    def fitted(self, x: Range | None, y: Range | None) -> tuple[Range | None, Range | None]:
        """Where a unit is to be as long across as up, the range that is too short for its side is widened."""
        if not self.figure.equal or x is None or y is None:
            return x, y
        width, height = max(self.plot.box.width(), 1.0), max(self.plot.box.height(), 1.0)
        unit = max((x[1] - x[0]) / width, (y[1] - y[0]) / height)
        wide, tall = (unit * width - (x[1] - x[0])) / 2, (unit * height - (y[1] - y[0])) / 2
        return (x[0] - wide, x[1] + wide), (y[0] - tall, y[1] + tall)

    def is_empty(self) -> bool:
        figure = self.figure
        return figure is None or not np.isfinite(figure.y).any()

    def exported(self) -> Figure | None:
        figure: Lines | None = self.figure
        if figure is None:
            return None
        return replace(
            figure,
            x_axis=replace(figure.x_axis, scale=SCALES[self.log["x"]]),
            y_axis=replace(figure.y_axis, scale=SCALES[self.log["y"]]),
        )


class CurvesView(SeriesView):
    """Metrics of one run or of several (a sweep), drawn while they grow.

    Rows are (n, 3): step, value, seconds since the start of the run.
    """

    empty_hint = "The curve appears with the first numbers of the run."

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        self._title = self._definition = ""
        self._axis = Axis("Value")
        self._step = "Step"
        self._curves: list[tuple[str, Rows]] = []
        self._seen: tuple[object, ...] = ()
        self._marked: float | None = None
        self.by_time = False
        super().__init__(workbench, None, parent)

    def populate(self) -> None:
        super().populate()
        self._step_line = pg.InfiniteLine(angle=90, movable=False)
        self._step_line.setZValue(25)
        self.plot.box.addItem(self._step_line, ignoreBounds=True)
        self._step_line.hide()

    def mark_step(self, step: float | None) -> None:
        """Draw a line at ``step``; None for none."""
        self._marked = step
        self.workbench.painter.mark(self)

    def draw(self) -> None:
        super().draw()
        place = self._place_of(self._marked)
        self._step_line.setVisible(place is not None)
        if place is not None:
            self._step_line.setPen(pg.mkPen(QColor(self.workbench.theme.accent), width=1, style=Qt.PenStyle.DashLine))
            self._step_line.setValue(place)

    def _place_of(self, step: float | None) -> float | None:
        """Where a step lies on the horizontal axis; None where it does not, such as step 0 on a logarithmic one."""
        if step is None:
            return None
        place = step
        if self.by_time:
            rows = next((rows for _, rows in self._curves if len(rows)), None)
            if rows is None:
                return None
            place = float(rows[max(int(np.searchsorted(rows[:, 0], step, side="right")) - 1, 0), 2])
        drawn = as_drawn(np.array([place]), self.log["x"])
        return float(drawn[0]) if np.isfinite(drawn[0]) else None

    def add_actions(self) -> None:
        super().add_actions()
        self.controls.add("time", "Against time", self.toggle_time, key="T", checkable=True)

    def set_metric(
        self,
        title: str,
        unit: str,
        definition: str,
        scale: str,
        curves: Sequence[tuple[str, Rows]],
        *,
        step: str = "Step",
    ) -> None:
        """Show a metric, or what it has grown to. Cheap when nothing is new.

        Args:
            title: the metric in words, also the label of the axis.
            unit: its unit, "" when it has none.
            definition: how it is computed; the note.
            scale: "linear" or "log", what the axis starts with.
            curves: name in the legend and rows (n, 3) of each run, in the order of colours.
            step: what the steps count, the label of the horizontal axis.
        """
        last = tuple((name, len(rows), float(rows[-1, 0]) if len(rows) else 0.0) for name, rows in curves)
        seen = (title, unit, definition, scale, last)
        if seen == self._seen:
            return
        if self._seen[3:4] != (scale,):
            self.log["y"] = scale == "log"
        self._seen = seen
        self._title, self._definition, self._step = title, definition, step
        self._axis = Axis(title, unit, "log" if scale == "log" else "linear")
        self._curves = list(curves)
        self.workbench.painter.mark(self)

    def title(self) -> str:
        return self._title + (f" ({self._axis.unit})" if self._axis.unit else "")

    def note(self) -> str:
        return self._definition

    def is_empty(self) -> bool:
        return not any(len(rows) and np.isfinite(rows[:, 1]).any() for _, rows in self._curves)

    def toggle_time(self) -> None:
        """Switch the horizontal axis between steps and seconds since the start."""
        self.by_time = not self.by_time
        self.controls.check("time", self.by_time)
        self.plot.follow()
        self.workbench.painter.mark(self)

    def take(self) -> tuple[list[Series], dict[str, float], tuple[Axis, Axis]]:
        column = 2 if self.by_time else 0
        # A copy of the two columns: the live buffer behind the rows may be moved when it grows.
        found = [Series(name, np.array(rows[:, column]), np.array(rows[:, 1])) for name, rows in self._curves]
        return (
            found,
            {},
            (Axis("Time", "s") if self.by_time else Axis(self._step), replace(self._axis, unit=self._axis.unit)),
        )

    @property
    def figure(self) -> Lines | None:
        """The curves as a figure: for export, and for who wants the numbers."""
        if not self._curves:
            return None
        size = max(len(rows) for _, rows in self._curves)
        padded = np.full((len(self._curves), size, 3), np.nan)
        for index, (_, rows) in enumerate(self._curves):
            padded[index, : len(rows)] = rows
        column = 2 if self.by_time else 0
        return Lines(
            title=self._title,
            note=self._definition,
            x_axis=Axis("Time", "s", SCALES[self.log["x"]])
            if self.by_time
            else Axis(self._step, "", SCALES[self.log["x"]]),
            y_axis=replace(self._axis, scale=SCALES[self.log["y"]]),
            series=tuple(name for name, _ in self._curves),
            x=padded[:, :, column],
            y=padded[:, :, 1],
        )

    def exported(self) -> Figure | None:
        return self.figure
