"""Turning a cloud of points: the box of its three axes, and dragging with the mouse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PySide6.QtCore import QEvent, QObject, QPointF, Qt
from PySide6.QtGui import QMouseEvent, QPen
from PySide6.QtWidgets import QGraphicsLineItem

from app.theme import Theme, small
from app.views.plot import Plot
from app.views.setup import pg
from engine.figures.kinds import Scatter
from engine.figures.points import extent, turning
from engine.figures.words import tick_number


class Box:
    """The three axes from the cloud's lowest corner, each with its name and its range."""

    def __init__(self, plot: Plot) -> None:
        self._lines = [QGraphicsLineItem() for _ in range(3)]
        self.names = [pg.TextItem(anchor=(0.5, 0.5)) for _ in range(3)]
        for item in (*self._lines, *self.names):
            item.setZValue(2 if item in self._lines else 30)
            plot.box.addItem(item, ignoreBounds=True)
            item.hide()

    def show_axes(self, figure: Scatter, angles: tuple[float, float], look: Theme, *, shown: bool) -> None:
        """Draw the axes as seen from ``angles``, or hide them."""
        for item in (*self._lines, *self.names):
            item.setVisible(shown)
        if not shown:
            return
        centre, half = extent(figure.points)
        turn = turning(*angles)[:2]
        corner = np.asarray([-1.0, -1.0, -1.0])
        pen = QPen(look.muted, 1)
        pen.setCosmetic(True)
        for index, axis in enumerate((figure.x_axis, figure.y_axis, figure.z_axis)):
            end = corner.copy()
            end[index] = 1.0
            (x0, y0), (x1, y1) = turn @ corner, turn @ end
            self._lines[index].setPen(pen)
            self._lines[index].setLine(x0, y0, x1, y1)
            name = axis.text() if axis is not None else "z"
            low, high = centre[index] - half[index], centre[index] + half[index]
            self.names[index].setText(f"{name}\n{tick_number(low)} to {tick_number(high)}", color=look.text)
            self.names[index].setFont(small())
            self.names[index].fill = pg.mkBrush(look.canvas.red(), look.canvas.green(), look.canvas.blue(), 190)
            end[index] = 1.18
            x, y = turn @ end
            self.names[index].setPos(float(x), float(y))


class Turning(QObject):
    """Takes dragging with the left button away from the plot while ``on`` and reports it in pixels."""

    def __init__(self, plot: Plot, turned: Callable[[float, float], None]) -> None:
        super().__init__(plot)
        self.on = False
        self._turned = turned
        self._last: QPointF | None = None
        self._start: QPointF | None = None
        plot.viewport().installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if not self.on or not isinstance(event, QMouseEvent):
            return False
        kind = event.type()
        if kind == QEvent.Type.MouseButtonPress and event.button() == Qt.MouseButton.LeftButton:
            self._last = self._start = event.position()
        elif kind == QEvent.Type.MouseButtonRelease:
            self._last = None
        elif kind == QEvent.Type.MouseMove and self._last is not None and event.buttons() & Qt.MouseButton.LeftButton:
            moved = event.position() - self._last
            self._last = event.position()
            self._turned(moved.x(), moved.y())
            return True
        return False
