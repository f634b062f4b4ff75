"""Histograms: steps per group on shared bins, or violins (mirrored counts) side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QBrush, QColor, QPainterPath, QPen, QPolygonF
from PySide6.QtWidgets import QGraphicsLineItem, QGraphicsPathItem, QWidget

from app.views.legend import Entry, Legend, series_pen
from app.views.plotted import SCALES, PlotView, as_drawn
from app.views.setup import pg
from engine.figures.kinds import Axis, Figure, Histogram
from engine.figures.palette import series_colour
from engine.figures.points import Binned, binned, drawable, said_of_points
from engine.figures.words import number, visible_token

if TYPE_CHECKING:
    from app.workbench import Workbench

HALF = 0.42  # half the width of the widest violin, in the distance between two


class HistogramView(PlotView):
    """A `Histogram`. Hover reads out the bin and its counts; arrow keys go from bin to bin."""

    logs = ("x", "y")
    empty_hint = "This histogram has no counts yet. It appears here when the run has made it."

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        self.binned = Binned(np.asarray([0.0, 1.0]), np.zeros((0, 1)))
        self.hidden: set[int] = set()
        self._steps: list[QGraphicsPathItem] = []
        self._medians: list[QGraphicsLineItem] = []
        self._at: tuple[int, int] | None = None  # group and bin that are read out
        self._legend_wanted = True
        super().__init__(workbench, figure, parent)
        self.legend = Legend()
        self.legend.hide()
        self.legend.switched.connect(self._switch)
        self.layout_.insertWidget(3, self.legend)

    def populate(self) -> None:
        self._band = pg.LinearRegionItem(movable=False)
        self._band.setZValue(1)
        for line in self._band.lines:
            line.setPen(QPen(Qt.PenStyle.NoPen))
        self.plot.box.addItem(self._band, ignoreBounds=True)
        self._band.hide()

    def add_actions(self) -> None:
        super().add_actions()
        self.controls.add("legend", "Legend", self.toggle_legend, key="L", button="legend", checkable=True)
        self.controls.check("legend", True)

    # ---- drawing

    def is_empty(self) -> bool:
        if self.figure is None:
            return True
        rows = self.figure.counts if self.figure.counts is not None else self.figure.samples
        return not np.isfinite(rows).any()

    @property
    def violins(self) -> bool:
        return bool(self.figure is not None and self.figure.violins)

    def exported(self) -> Figure | None:
        figure: Histogram | None = self.figure
        if figure is None:
            return None
        y = figure.y_axis if self.violins else replace(figure.y_axis, scale=SCALES[self.log["y"]])
        return replace(figure, x_axis=replace(figure.x_axis, scale=SCALES[self.log["x"]]), y_axis=y)

    def draw(self) -> None:
        figure: Histogram = self.figure
        self.controls.allow("log-y", not self.violins)
        self.binned = binned(replace(figure, x_axis=replace(figure.x_axis, scale="log" if self.log["x"] else "linear")))
        while len(self._steps) < len(figure.groups):
            self._add_items()
        for item in (*self._steps, *self._medians):
            item.hide()
        (self._draw_violins if self.violins else self._draw_steps)(figure)
        names = [name or f"group {index + 1}" for index, name in enumerate(figure.groups)]
        many = len(names) > 1 and not self.violins
        self.legend.setVisible(self._legend_wanted and many)
        self.controls.allow("legend", many)
        if many:
            pens = [series_pen(self.workbench.theme, index) for index in range(len(names))]
            entries = [Entry(name, pen) for name, pen in zip(names, pens, strict=True)]
            self.legend.set_entries(entries, frozenset(self.hidden))
        if self._at is not None:
            self._point(*self._at)

    def _add_items(self) -> None:
        path, median = QGraphicsPathItem(), QGraphicsLineItem()
        path.setZValue(10)
        median.setZValue(11)
        for item in (path, median):
            self.plot.box.addItem(item, ignoreBounds=True)
        self._steps.append(path)
        self._medians.append(median)

    def _shown(self) -> list[int]:
        return [index for index in range(len(self.figure.groups)) if index not in self.hidden]

    def _draw_steps(self, figure: Histogram) -> None:
        log_y = self.log["y"]
        self.plot.x_axis.mean(figure.x_axis, self.log["x"])
        self.plot.y_axis.mean(figure.y_axis, log_y)
        self.plot.x_axis.show_grid(False)
        self.plot.y_axis.show_grid(True)
        edges = as_drawn(self.binned.edges, self.log["x"])
        shown = [self.binned.counts[index] for index in self._shown()]
        most = max((float(np.nanmax(row, initial=0)) for row in shown), default=0.0)
        floor = 0.0
        if log_y:
            least = min((float(row[row > 0].min()) for row in shown if (row > 0).any()), default=1.0)
            floor = np.log10(least) - 0.3
            most = np.log10(most) if most > 0 else 0.0
        known = edges[np.isfinite(edges)]
        if len(known):
            top = most + 0.05 * (most - floor or 1.0)
            self.plot.show_range((float(known[0]), float(known[-1])), None, pad=0.01)
            self.plot.show_range(None, (floor - 0.002 * (top - floor), top), pad=0)
        for index in self._shown():
            heights = as_drawn(self.binned.counts[index], log_y)
            heights = np.where(np.isfinite(heights), heights, floor)
            colour = QColor(series_colour(self.workbench.theme.name, index))
            pen = series_pen(self.workbench.theme, index)
            colour.setAlpha(60 if len(figure.groups) == 1 else 22)
            self._steps[index].setPen(pen)
            self._steps[index].setBrush(QBrush(colour))
            self._steps[index].setPath(outline(edges, heights, floor))
            self._steps[index].show()

    def _draw_violins(self, figure: Histogram) -> None:
        words = [visible_token(name) for name in figure.groups]
        self.plot.x_axis.name(Axis(""), words)
        self.plot.y_axis.mean(figure.x_axis, self.log["x"])
        self.plot.x_axis.show_grid(False)
        self.plot.y_axis.show_grid(True)
        edges = as_drawn(self.binned.edges, self.log["x"])
        self.plot.show_range((-0.6, len(words) - 0.4), None, pad=0)
        self.plot.show_range(None, (float(np.nanmin(edges)), float(np.nanmax(edges))))
        for index in range(len(words)):
            counts = np.nan_to_num(self.binned.counts[index])
            filled = np.flatnonzero(counts > 0)
            if not len(filled):
                continue
            first, last = int(filled[0]), int(filled[-1]) + 1
            half = np.repeat(counts[first:last] / counts.max() * HALF, 2)
            height = np.repeat(edges[first : last + 1], 2)[1:-1]
            points = [QPointF(index - w, h) for w, h in zip(half, height, strict=True)]
            points += [QPointF(index + w, h) for w, h in zip(half[::-1], height[::-1], strict=True)]
            path = QPainterPath()
            path.addPolygon(QPolygonF(points))
            path.closeSubpath()
            colour = QColor(series_colour(self.workbench.theme.name, index))
            colour.setAlpha(80)
            self._steps[index].setPen(series_pen(self.workbench.theme, index))
            self._steps[index].setBrush(QBrush(colour))
            self._steps[index].setPath(path)
            self._steps[index].show()
            middle = self.median(index)
            if middle is not None:
                at = float(as_drawn(np.asarray([middle]), self.log["x"])[0])
                pen = QPen(self.workbench.theme.text, 2)
                pen.setCosmetic(True)
                self._medians[index].setPen(pen)
                self._medians[index].setLine(index - 0.15, at, index + 0.15, at)
                self._medians[index].show()

    def median(self, group: int) -> float | None:
        """The median of a group's drawable samples; None where only counts are known."""
        if self.figure.samples is None:
            return None
        row = np.asarray(self.figure.samples[group], dtype=np.float64)
        kept = row[drawable(row, self.log["x"])]
        return float(np.median(kept)) if kept.size else None

    # ---- legend

    def toggle_legend(self) -> None:
        self._legend_wanted = not self._legend_wanted
        self.controls.check("legend", self._legend_wanted)
        self.workbench.painter.mark(self)

    def _switch(self, index: int, on: bool) -> None:
        (self.hidden.discard if on else self.hidden.add)(index)
        self.workbench.painter.mark(self)

    # ---- read-out

    def hover(self, x: float, y: float) -> None:
        if self.is_empty():
            return
        edges = as_drawn(self.binned.edges, self.log["x"])
        along = y if self.violins else x
        place = int(np.searchsorted(edges, along, "right")) - 1
        group = round(x) if self.violins else 0
        if 0 <= place < len(edges) - 1 and 0 <= group < len(self.figure.groups):
            self._point(group, place)
            self.point_hovered.emit(place)
        else:
            self.leave()

    def leave(self) -> None:
        self._at = None
        self._band.hide()
        super().leave()

    def click(self, x: float, y: float) -> None:
        self.hover(x, y)
        self.activate()

    def activate(self) -> None:
        if self._at is not None:
            self.point_clicked.emit(self._at[1])

    def unlock(self) -> None:
        self.leave()

    def move_selection(self, right: int, down: int) -> None:
        if self.is_empty():
            return
        bins, groups = self.binned.counts.shape[1], len(self.figure.groups)
        group, place = self._at if self._at is not None else (0, -1 if not self.violins else 0)
        along, across = (-down, right) if self.violins else (right, down)
        group = min(max(group + across, 0), groups - 1)
        place = min(max(place + along, 0), bins - 1)
        self._point(group, place)
        self.point_hovered.emit(place)

    def _point(self, group: int, place: int) -> None:
        if place >= self.binned.counts.shape[1] or group >= self.binned.counts.shape[0]:
            self.leave()
            return
        self._at = (group, place)
        edges = as_drawn(self.binned.edges[place : place + 2], self.log["x"])
        colour = QColor(self.workbench.theme.muted)
        colour.setAlpha(40)
        self._band.setBrush(QBrush(colour))
        self._band.setVisible(not self.violins)
        self._band.setRegion((float(edges[0]), float(edges[1])))
        self.read_out(self._said(group, place))

    def _said(self, group: int, place: int) -> str:
        figure: Histogram = self.figure
        low, high = self.binned.edges[place], self.binned.edges[place + 1]
        unit = f" {figure.x_axis.unit}" if figure.x_axis.unit else ""
        parts = [f"{figure.x_axis.label or 'x'} {number(low)} to {number(high)}{unit}"]
        groups = [group] if self.violins else self._shown()[:4]
        for index in groups:
            name = figure.groups[index] if len(figure.groups) > 1 else ""
            count = number(self.binned.counts[index, place])
            parts.append(" ".join(part for part in (name, figure.y_axis.label.lower(), count) if part))
        if self.violins and (middle := self.median(group)) is not None:
            parts.append(f"median {number(middle)}{unit}")
        return " · ".join(parts)

    def idle_text(self) -> str:
        said = said_of_points(self.binned.left_out, self.log["x"], "sample")
        return " · ".join(part for part in (said, super().idle_text()) if part)


def outline(edges: np.ndarray, heights: np.ndarray, floor: float) -> QPainterPath:
    """The steps of a histogram from the floor and back to it."""
    good = np.isfinite(edges)
    path = QPainterPath()
    if good.sum() < 2:
        return path
    xs = np.repeat(edges, 2)
    ys = np.concatenate([[floor], np.repeat(heights, 2), [floor]])
    keep = np.isfinite(xs)
    points = [QPointF(x, y) for x, y in zip(xs[keep].tolist(), ys[keep].tolist(), strict=True)]
    path.addPolygon(QPolygonF(points))
    return path
