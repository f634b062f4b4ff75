"""Bars with error marks, upright or lying."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import QLineF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPen
from PySide6.QtWidgets import QGraphicsRectItem, QWidget

from app.theme import Theme
from app.views.plotted import PlotView, as_drawn
from app.views.setup import pg
from engine.figures.kinds import Axis, Bars, Figure
from engine.figures.palette import series_colour
from engine.figures.points import drawable, said_of_points
from engine.figures.words import number, quantity, visible_token

if TYPE_CHECKING:
    from app.workbench import Workbench

WIDE = 0.72  # share of a place that its bar takes


class BarItems(pg.GraphicsObject):  # type: ignore[misc]
    """All bars of a figure in one item; a bar without a value is a small cross at the base line."""

    def __init__(self) -> None:
        super().__init__()
        self.base = 0.0
        self.value = self.low = self.high = np.zeros(0)
        self.lying = False
        self._look: Theme | None = None

    def show_bars(
        self, value: np.ndarray, low: np.ndarray, high: np.ndarray, base: float, lying: bool, look: Theme
    ) -> None:
        """Draw bars from ``base`` to ``value``; marks from ``low`` to ``high`` where both are finite."""
        self.prepareGeometryChange()
        self.value, self.low, self.high, self.base, self.lying, self._look = value, low, high, base, lying, look
        self.update()

    def boundingRect(self) -> QRectF:
        every = np.concatenate([self.value, self.low, self.high, [self.base]])
        every = every[np.isfinite(every)]
        along = (float(every.min()), float(every.max() - every.min()))
        box = QRectF(-0.5, along[0], max(len(self.value), 1), along[1])
        return turned(box) if self.lying else box

    def paint(self, p: QPainter, *_: Any) -> None:
        if self._look is None:
            return
        colours = [QColor(series_colour(self._look.name, index)) for index in (0, 1)]
        p.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        p.setPen(Qt.PenStyle.NoPen)
        for index, value in enumerate(self.value.tolist()):
            if np.isfinite(value):
                p.setBrush(QBrush(colours[1 if value < self.base and self.base == 0 else 0]))
                p.drawRect(self._turned(QRectF(index - WIDE / 2, self.base, WIDE, value - self.base).normalized()))
        pen = QPen(self._look.text, 1)
        pen.setCosmetic(True)
        p.setPen(pen)
        marks = []
        for index, (low, high) in enumerate(zip(self.low.tolist(), self.high.tolist(), strict=True)):
            if np.isfinite(low) and np.isfinite(high) and np.isfinite(self.value[index]):
                marks += [QLineF(index, low, index, high)]
                marks += [QLineF(index - 0.12, end, index + 0.12, end) for end in (low, high)]
        p.drawLines([self._turned_line(mark) for mark in marks])
        self._crosses(p)

    def _crosses(self, p: QPainter) -> None:
        at = p.transform()
        p.resetTransform()
        assert self._look is not None
        p.setPen(QPen(self._look.muted, 1))
        for index in np.flatnonzero(~np.isfinite(self.value)).tolist():
            x, y = (self.base, index) if self.lying else (index, self.base)
            middle = at.map(QLineF(x, y, x, y)).p1()
            p.drawLine(QLineF(middle.x() - 3, middle.y() - 3, middle.x() + 3, middle.y() + 3))
            p.drawLine(QLineF(middle.x() - 3, middle.y() + 3, middle.x() + 3, middle.y() - 3))
        p.setTransform(at)

    def _turned(self, box: QRectF) -> QRectF:
        return turned(box) if self.lying else box

    def _turned_line(self, line: QLineF) -> QLineF:
        return QLineF(line.y1(), line.x1(), line.y2(), line.x2()) if self.lying else line


class BarsView(PlotView):
    """`Bars`. Hover or the arrow keys read a bar out, a click picks it."""

    logs = ("y",)
    empty_hint = "There are no bars with a value yet. They appear here when the run has made them."

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        self._picked: int | None = None
        super().__init__(workbench, figure, parent)
        self.controls.action("log-y").setText("Logarithmic values")

    def populate(self) -> None:
        self.bars = BarItems()
        self._zero = pg.InfiniteLine(angle=0, movable=False)
        self._frame = QGraphicsRectItem()
        for z, item in ((2, self._frame), (5, self._zero), (10, self.bars)):
            item.setZValue(z)
            self.plot.box.addItem(item, ignoreBounds=True)
        self._frame.setPen(QPen(Qt.PenStyle.NoPen))
        self._frame.hide()

    def is_empty(self) -> bool:
        return self.figure is None or not np.isfinite(self.figure.value).any()

    def exported(self) -> Figure | None:
        figure: Bars | None = self.figure
        if figure is None:
            return None
        return replace(figure, y_axis=replace(figure.y_axis, scale="log" if self.log["y"] else "linear"))

    def draw(self) -> None:
        figure: Bars = self.figure
        log, look = self.log["y"], self.workbench.theme
        value = as_drawn(figure.value, log)
        gone = np.full(len(value), np.nan)
        low = as_drawn(figure.low, log) if figure.low is not None else gone
        high = as_drawn(figure.high, log) if figure.high is not None else gone
        every = np.concatenate([value, low, high])
        every = every[np.isfinite(every)]
        if log:
            base = float(np.floor(every.min() - 0.05)) if every.size else 0.0
            along = (base, float(every.max()) + 0.05) if every.size else (0.0, 1.0)
        else:
            base = 0.0
            along = (min(float(every.min()), 0.0), max(float(every.max()), 0.0)) if every.size else (0.0, 1.0)
        self.bars.show_bars(value, low, high, base, figure.horizontal, look)
        words = [visible_token(str(name)) for name in figure.label.tolist()]
        names, numbers = (self.plot.x_axis, self.plot.y_axis)[:: -1 if figure.horizontal else 1]
        names.name(Axis(figure.x_axis.label, figure.x_axis.unit), words)
        numbers.mean(figure.y_axis, log)
        names.show_grid(False)
        numbers.show_grid(True)
        places = (-0.6, len(words) - 0.4)
        extent = along[1] - along[0] or 1.0
        room = (along[0] - (0.05 if along[0] < 0 and not log else 0.002) * extent, along[1] + 0.05 * extent)
        self.plot.box.invertY(figure.horizontal)
        x, y = (room, places) if figure.horizontal else (places, room)
        self.plot.show_range(x, y, pad=0)
        pen = QPen(look.muted, 1)
        pen.setCosmetic(True)
        self._zero.setPen(pen)
        self._zero.setAngle(90 if figure.horizontal else 0)
        self._zero.setPos(base)
        self._zero.setVisible(not log)
        shade = QColor(look.accent)
        shade.setAlpha(36)
        self._frame.setBrush(QBrush(shade))
        self._outline(self._picked)

    # ---- read-out

    def pick_point(self, index: int) -> None:
        """Mark a bar without a signal."""
        self._picked = index
        self._outline(index)
        self.read_out(self._said(index))

    @property
    def picked(self) -> int | None:
        return self._picked

    def _index(self, x: float, y: float) -> int | None:
        index = round(y if self.figure.horizontal else x)
        return index if 0 <= index < len(self.figure.label) else None

    def hover(self, x: float, y: float) -> None:
        index = self._index(x, y) if not self.is_empty() else None
        if index is None:
            self.leave()
        else:
            self._outline(index)
            self.read_out(self._said(index))
            self.point_hovered.emit(index)

    def leave(self) -> None:
        self._outline(self._picked)
        self.read_out(self._said(self._picked) if self._picked is not None else "")

    def click(self, x: float, y: float) -> None:
        index = self._index(x, y) if not self.is_empty() else None
        if index is not None:
            self.pick_point(index)
            self.point_clicked.emit(index)

    def move_selection(self, right: int, down: int) -> None:
        if not self.is_empty():
            start = self._picked if self._picked is not None else -1
            self.pick_point(min(max(start + (right or down), 0), len(self.figure.label) - 1))
            assert self._picked is not None
            self.point_clicked.emit(self._picked)

    def activate(self) -> None:
        if self._picked is not None:
            self.point_clicked.emit(self._picked)

    def unlock(self) -> None:
        self._picked = None
        self.leave()

    def _outline(self, index: int | None) -> None:
        shown = index is not None and index < len(self.figure.label)
        self._frame.setVisible(shown)
        if shown:
            assert index is not None
            far = 1e6
            column = QRectF(index - 0.5, -far, 1.0, 2 * far)
            self._frame.setRect(turned(column) if self.figure.horizontal else column)

    def _said(self, index: int) -> str:
        figure: Bars = self.figure
        if index >= len(figure.label):
            return ""
        name = visible_token(str(figure.label[index]))
        text = quantity(float(figure.value[index]), figure.y_axis)
        if figure.low is not None and figure.high is not None:
            text += f" ({number(float(figure.low[index]))} to {number(float(figure.high[index]))})"
        return f"{figure.x_axis.label or 'Bar'} {name} · {figure.y_axis.label} {text}"

    def idle_text(self) -> str:
        said = ""
        if self.figure is not None:
            left_out = int(np.count_nonzero(~drawable(self.figure.value, self.log["y"])))
            said = said_of_points(left_out, self.log["y"])
        return " · ".join(part for part in (said, super().idle_text()) if part)


def turned(box: QRectF) -> QRectF:
    """The rectangle with its sides exchanged: what a bar is when it lies."""
    return QRectF(box.y(), box.x(), box.height(), box.width())
