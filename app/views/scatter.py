"""Points in the plane, or turned in space, coloured by a value, each with its label on hover."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QComboBox, QLabel, QWidget

from app.theme import Theme, small
from app.views.cloud import Box, Turning
from app.views.dots import Dots
from app.views.maps import MapItems
from app.views.plotted import SCALES, PlotView, as_drawn, span
from engine.figures.cells import Levels, cell_indices, cell_table, levels
from engine.figures.kinds import Axis, Figure, Scatter
from engine.figures.palette import series_colour
from engine.figures.points import CAMERA, project, said_of_points
from engine.figures.words import named, shortened, visible_token

if TYPE_CHECKING:
    from app.workbench import Workbench

MOST = 20_000  # points drawn one by one; more are drawn as an image of their density
REACH = 12.0  # pixels within which the mouse finds a point
GRID = 240  # cells across an image of density
FLAT = "none (flat)"


class ScatterView(PlotView):
    """A `Scatter`. Hover names the nearest point, a click picks it, arrows go from point to point.

    With ``columns`` any of them can be an axis or the colour; with a third axis the cloud is turned
    by dragging, or with Shift and the arrow keys.
    """

    logs = ("x", "y")
    empty_hint = "This figure has no points that could be drawn. They appear here when the run has made them."

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        self.angles = CAMERA
        self._seen = np.zeros((0, 2))  # where each point is drawn, NaN where it is not
        self._picked: int | None = None
        self._pointed_at: int | None = None
        self._levels: Levels | None = None
        self._choices: tuple[Any, ...] = ()
        super().__init__(workbench, figure, parent)
        self._make_choosers()

    def populate(self) -> None:
        self.map = MapItems(self.plot)
        self.dots, self._hover_mark, self._pick_mark = Dots(), Dots(ring=True), Dots(ring=True)
        self.box = Box(self.plot)
        for z, item in ((10, self.dots), (20, self._pick_mark), (21, self._hover_mark)):
            item.setZValue(z)
            self.plot.box.addItem(item, ignoreBounds=True)
        self._turning = Turning(self.plot, self.turn)

    def _make_choosers(self) -> None:
        self.choosers: dict[str, QComboBox] = {}
        self._chooser_labels: dict[str, QLabel] = {}
        for name, words in (("x", "x"), ("y", "y"), ("z", "z"), ("colour", "colour")):
            label, chooser = QLabel(words), QComboBox()
            label.setFont(small())
            chooser.setFont(small())
            chooser.setAccessibleName("Colour by" if name == "colour" else f"{name} axis")
            chooser.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            chooser.setMinimumContentsLength(9)
            chooser.activated.connect(self._chosen)
            label.setBuddy(chooser)
            self.choosers[name], self._chooser_labels[name] = chooser, label
            self.above.addWidget(label)
            self.above.addWidget(chooser)
        self.above.addStretch(1)
        self._show_choosers(False)

    def _show_choosers(self, shown: bool) -> None:
        for name in self.choosers:
            self.choosers[name].setVisible(shown)
            self._chooser_labels[name].setVisible(shown)

    # ---- what is shown

    def is_empty(self) -> bool:
        return self.figure is None or not np.isfinite(self.figure.points).all(axis=1).any()

    def _fill_choosers(self, figure: Scatter) -> None:
        own = [axis.text() for axis in (figure.x_axis, figure.y_axis, figure.z_axis) if axis is not None]
        colour = figure.value_axis.text() if figure.value_axis is not None else "value"
        choices = (figure.column_names, tuple(own), figure.value is not None, colour)
        if choices == self._choices:
            return
        self._choices = choices
        for place, (name, chooser) in enumerate(self.choosers.items()):
            chooser.clear()
            if name == "colour":
                chooser.addItem(colour if figure.value is not None else "none", -1)
            elif place < len(own):
                chooser.addItem(own[place], -1)
            else:
                chooser.addItem(FLAT, -1)
            for index, column in enumerate(figure.column_names):
                if column != chooser.itemText(0):
                    chooser.addItem(column, index)
            longest = max(
                QFontMetrics(chooser.font()).horizontalAdvance(chooser.itemText(i)) for i in range(chooser.count())
            )
            chooser.view().setMinimumWidth(longest + 32)
        self._show_choosers(figure.columns is not None and figure.columns.shape[1] > 0)

    def _chosen(self) -> None:
        self.plot.follow()
        self.workbench.painter.mark(self)

    def shown(self) -> Scatter:
        """The figure with the axes and the colour that were chosen."""
        figure: Scatter = self.figure
        if figure.columns is None:
            return figure
        points, axes = list(figure.points.T), [figure.x_axis, figure.y_axis, figure.z_axis]
        for place, name in enumerate(("x", "y", "z")):
            index = self.choosers[name].currentData()
            if index is not None and index >= 0:
                points[place : place + 1] = [figure.columns[:, index]]
                axes[place] = Axis(figure.column_names[index])
        value, value_axis = figure.value, figure.value_axis
        index = self.choosers["colour"].currentData()
        if index is not None and index >= 0:
            value, value_axis = figure.columns[:, index], Axis(figure.column_names[index])
        x, y, z = axes
        assert x is not None
        assert y is not None
        return replace(
            figure, x_axis=x, y_axis=y, z_axis=z, points=np.stack(points, axis=1), value=value, value_axis=value_axis
        )

    def exported(self) -> Figure | None:
        if self.figure is None:
            return None
        figure = self.shown()
        return replace(
            figure,
            x_axis=replace(figure.x_axis, scale=SCALES[self.log["x"]]),
            y_axis=replace(figure.y_axis, scale=SCALES[self.log["y"]]),
        )

    def camera(self) -> tuple[float, float]:
        return self.angles

    @property
    def solid(self) -> bool:
        """Whether the points have a third axis now."""
        return self.figure is not None and self.shown().points.shape[1] == 3

    # ---- drawing

    def draw(self) -> None:
        self._fill_choosers(self.figure)
        figure = self.shown()
        solid = figure.points.shape[1] == 3
        for side in self.logs:
            self.controls.allow(f"log-{side}", not solid)
        self._turning.on = solid
        self.plot.item.showAxis("bottom", not solid)
        self.plot.item.showAxis("left", not solid)
        self.plot.box.setAspectLocked(solid)
        if solid:
            at, depth = project(figure.points, *self.angles)
            self._seen = np.where(np.isfinite(figure.points).all(axis=1)[:, None], at, np.nan)
            order = np.argsort(depth, kind="stable")
            self.plot.show_range((-1.8, 1.8), (-1.8, 1.6), pad=0)
        else:
            self._seen = np.stack([as_drawn(figure.points[:, i], self.log["xy"[i]]) for i in (0, 1)], axis=1)
            self._seen[~np.isfinite(self._seen).all(axis=1)] = np.nan
            order = np.arange(len(self._seen))
            for axis, meaning, side in ((self.plot.x_axis, figure.x_axis, "x"), (self.plot.y_axis, figure.y_axis, "y")):
                axis.mean(meaning, self.log[side])
                axis.show_grid(True)
            self.plot.show_range(span(self._seen[:, 0]), span(self._seen[:, 1]))
        self.box.show_axes(figure, self.angles, self.workbench.theme, shown=solid)
        self._draw_points(figure, order)
        self._mark(self._pick_mark, self._picked)
        self._hover_mark.hide()

    def _draw_points(self, figure: Scatter, order: np.ndarray) -> None:
        look = self.workbench.theme
        known = np.asarray(np.isfinite(self._seen).all(axis=1))
        order = order[known[order]]
        dense = len(order) > MOST
        self.dots.setVisible(not dense)
        self.map.image.setVisible(dense)
        self.controls.allow("legend", False)
        if dense:
            self._draw_density(figure, known, look)
            return
        size = float(np.clip(9 - np.log10(max(len(order), 1)) * 1.2, 3.5, 7))
        if figure.value is None:
            self._levels = None
            self.bar.hide()
            colours, place = [series_colour(look.name, 0)], np.zeros(len(order), dtype=np.intp)
        else:
            axis = figure.value_axis or Axis("Value")
            self._levels = levels(figure.value, log=axis.scale == "log")
            table = cell_table(look.name, False)
            colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in table.tolist()]
            place = cell_indices(figure.value, self._levels)[order].astype(np.intp)
            self.bar.show_levels(self._levels, axis, False, look)
            self.bar.show()
        x, y = self._seen[order].T
        self.dots.show_points(x, y, place, colours, size=size, opacity=0.85 if len(order) > 500 else 1.0)

    def _draw_density(self, figure: Scatter, known: np.ndarray, look: Theme) -> None:
        """An image of how many points lie where, or of their mean value."""
        x, y = self._seen[known].T
        (x0, x1), (y0, y1) = (span(x) or (0.0, 1.0)), (span(y) or (0.0, 1.0))
        x1, y1 = x1 if x1 > x0 else x0 + 1, y1 if y1 > y0 else y0 + 1
        column = np.minimum(((x - x0) / (x1 - x0) * GRID).astype(np.intp), GRID - 1)
        row = np.minimum(((y - y0) / (y1 - y0) * GRID).astype(np.intp), GRID - 1)
        cell = row * GRID + column
        count = np.bincount(cell, minlength=GRID * GRID).astype(np.float64)
        if figure.value is not None:
            value = np.asarray(figure.value, dtype=np.float64)[known]
            good = np.isfinite(value)
            with np.errstate(invalid="ignore", divide="ignore"):
                total = np.bincount(cell[good], weights=value[good], minlength=GRID * GRID)
                shown = total / np.bincount(cell[good], minlength=GRID * GRID)
            axis = replace(
                figure.value_axis or Axis("Value"), label=f"Mean {(figure.value_axis or Axis('value')).label}"
            )
        else:
            shown, axis = np.where(count > 0, count, np.nan), Axis("Points per cell", "", "log")
        grid = shown.reshape(GRID, GRID)
        self._levels = levels(grid, log=axis.scale == "log")
        self.map.show_values(grid, self._levels, False, None, look)
        self.map.clear_missing(look, grid, self._levels)
        self.map.place(x0, y0, x1 - x0, y1 - y0)
        self.bar.show_levels(self._levels, axis, False, look)
        self.bar.show()

    def turn(self, right: float, up: float) -> None:
        """Turn the cloud by so many pixels of dragging."""
        azimuth, elevation = self.angles
        self.angles = ((azimuth - right * 0.4 + 180) % 360 - 180, float(np.clip(elevation + up * 0.4, -89, 89)))
        self.workbench.painter.mark(self)

    def pan(self, right: int, down: int) -> None:
        if self.solid:
            self.turn(20 * right, -20 * down)
        else:
            super().pan(right, down)

    # ---- points

    @property
    def picked(self) -> int | None:
        return self._picked

    def pick_point(self, index: int) -> None:
        """Mark a point without a signal: another view, or the panel, has chosen it."""
        self._picked = index
        self._mark(self._pick_mark, index)
        self.read_out(self._said(index))

    def nearest(self, x: float, y: float) -> int | None:
        """The point drawn nearest to (x, y), if it is within reach of the mouse."""
        if not len(self._seen):
            return None
        across, up = self.plot.pixel()
        away = np.hypot((self._seen[:, 0] - x) / across, (self._seen[:, 1] - y) / up)
        away[np.isnan(away)] = np.inf
        best = int(np.argmin(away))
        return best if away[best] <= REACH else None

    def hover(self, x: float, y: float) -> None:
        index = self.nearest(x, y)
        if index != self._pointed_at:
            self._pointed_at = index
            self._mark(self._hover_mark, index)
        if index is None:
            self.read_out(self._said(self._picked) if self._picked is not None else "")
        else:
            self.read_out(self._said(index))
            self.point_hovered.emit(index)

    def leave(self) -> None:
        self._pointed_at = None
        self._hover_mark.hide()
        self.read_out(self._said(self._picked) if self._picked is not None else "")

    def click(self, x: float, y: float) -> None:
        index = self.nearest(x, y)
        if index is not None:
            self.pick_point(index)
            self.point_clicked.emit(index)

    def move_selection(self, right: int, down: int) -> None:
        known = np.flatnonzero(np.isfinite(self._seen).all(axis=1))
        if not len(known):
            return
        place = int(np.searchsorted(known, self._picked)) + (right or down) if self._picked is not None else 0
        index = int(known[min(max(place, 0), len(known) - 1)])
        self.pick_point(index)
        self.point_clicked.emit(index)

    def activate(self) -> None:
        if self._picked is not None:
            self.point_clicked.emit(self._picked)

    def unlock(self) -> None:
        self._picked = None
        self._pick_mark.hide()
        self.leave()

    def _mark(self, mark: Dots, index: int | None) -> None:
        found = index is not None and index < len(self._seen) and bool(np.isfinite(self._seen[index]).all())
        mark.setVisible(found)
        if found:
            assert index is not None
            colour = self.workbench.theme.accent if mark is self._pick_mark else self.workbench.theme.text
            x, y = self._seen[index : index + 1].T
            mark.show_points(x, y, np.zeros(1, dtype=np.intp), [colour.name()], size=14)

    def _said(self, index: int) -> str:
        if self.is_empty() or index >= len(self.figure.points):
            return ""
        figure = self.shown()
        axes = (figure.x_axis, figure.y_axis, figure.z_axis)[: figure.points.shape[1]]
        parts = [named(float(value), axis, "z") for value, axis in zip(figure.points[index], axes, strict=True)]
        if figure.value is not None:
            parts.append(named(float(figure.value[index]), figure.value_axis))
        if figure.label is not None:
            parts.insert(0, shortened(visible_token(str(figure.label[index])), 80))
        return " · ".join(parts)

    def idle_text(self) -> str:
        if self.is_empty():
            return super().idle_text()
        left_out = int(len(self._seen) - np.count_nonzero(np.isfinite(self._seen).all(axis=1)))
        total = len(self.figure.points)
        parts = [said_of_points(left_out, any(self.log.values()), "point")]
        if total - left_out > MOST:
            of = "their mean value" if self.shown().value is not None else "density"
            parts.append(f"{total:,} points drawn as an image of {of}")
        parts += ["drag turns the cloud"] if self.solid else []
        return " · ".join(part for part in (*parts, super().idle_text()) if part)

    def dress(self, look: Theme) -> None:
        super().dress(look)
        self.plot.setCursor(Qt.CursorShape.ArrowCursor)
