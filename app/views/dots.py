"""Points drawn as copies of small pictures: 20,000 of them in some 10 ms, in up to 256 colours.

pyqtgraph's own scatter keeps a Python record per point, which costs 40 ms per 10,000 whenever
colours change; here positions and colours go to Qt as one array.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pyqtgraph.Qt.internals import PrimitiveArray  # type: ignore[import-untyped]
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPixmap

from app.views.setup import pg


class Dots(pg.GraphicsObject):  # type: ignore[misc]
    """Round points of one size in pixels; ``ring`` draws them hollow, to mark a point."""

    def __init__(self, *, ring: bool = False) -> None:
        super().__init__()
        self._ring = ring
        self._x = self._y = np.zeros(0)
        self._colour = np.zeros(0, dtype=np.intp)
        self._colours: list[str] = []
        self._size, self._rim = 6.0, ""
        self._opacity = 1.0
        self._atlas: tuple[float, QPixmap] | None = None
        self._fragments = PrimitiveArray(QPainter.PixmapFragment, 10)
        self._bounds = QRectF()
        self._pixel: tuple[float, float] | None = None  # reach of a point in axis coordinates, while it holds

    def show_points(
        self,
        x: np.ndarray,
        y: np.ndarray,
        colour: np.ndarray,
        colours: list[str],
        *,
        size: float = 6.0,
        opacity: float = 1.0,
        rim: str = "",
    ) -> None:
        """Draw points at (x, y) in ``colours[colour]`` (``#RRGGBB``), set off from what lies under them by a ``rim``.

        Points that are not finite are left out.
        """
        good = np.isfinite(x) & np.isfinite(y)
        if not good.any() and not len(self._x):
            return
        self.prepareGeometryChange()
        self._pixel = None
        self._x, self._y, self._colour = x[good], y[good], colour[good]
        if (colours, size, rim) != (self._colours, self._size, self._rim):
            self._colours, self._size, self._rim, self._atlas = list(colours), size, rim, None
        self._opacity = opacity
        if len(self._x):
            left, right, low, high = self._x.min(), self._x.max(), self._y.min(), self._y.max()
            self._bounds = QRectF(left, low, right - left, high - low)
        else:
            self._bounds = QRectF()
        self.update()

    @property
    def points(self) -> np.ndarray:
        """What is drawn, (n, 2)."""
        return np.stack([self._x, self._y], axis=1)

    @property
    def drawn_colours(self) -> list[str]:
        return [self._colours[index] for index in self._colour.tolist()]

    def boundingRect(self) -> QRectF:
        # Room for the pictures themselves: a view smaller than a point does not happen.
        if not len(self._x):
            return self._bounds
        if self._pixel is None:
            self._pixel = (abs(self.pixelWidth() or 0.0) * self._size, abs(self.pixelHeight() or 0.0) * self._size)
        across, up = self._pixel
        return self._bounds.adjusted(-across, -up, across, up)

    def viewTransformChanged(self) -> None:
        if len(self._x):
            self.prepareGeometryChange()
        self._pixel = None

    def paint(self, p: QPainter, *_: Any) -> None:
        if not len(self._x):
            return
        widget = self.getViewWidget()
        ratio = widget.devicePixelRatioF() if widget is not None else 1.0
        cell, picture = self._pictures(ratio)
        at = p.transform()
        x = at.m11() * self._x + at.m21() * self._y + at.dx()
        y = at.m12() * self._x + at.m22() * self._y + at.dy()
        seen = p.viewport().adjusted(-20, -20, 20, 20)
        shown = (x > seen.left()) & (x < seen.right()) & (y > seen.top()) & (y < seen.bottom())
        self._fragments.resize(int(shown.sum()))
        table = self._fragments.ndarray()
        table[:, 0], table[:, 1] = x[shown], y[shown]
        table[:, 2] = self._colour[shown] * cell
        table[:, 3] = 0
        table[:, 4:6] = cell
        table[:, 6:8] = 1 / ratio
        table[:, 8], table[:, 9] = 0, self._opacity
        p.resetTransform()
        p.drawPixmapFragments(*self._fragments.drawargs(), picture)  # type: ignore[call-arg]

    def _pictures(self, ratio: float) -> tuple[int, QPixmap]:
        cell = math.ceil(self._size * ratio) + 2
        if self._atlas is None or self._atlas[0] != ratio:
            atlas = QPixmap(cell * max(len(self._colours), 1), cell)
            atlas.fill(Qt.GlobalColor.transparent)
            painter = QPainter(atlas)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            for index, colour in enumerate(self._colours):
                box = QRectF(index * cell + 1, 1, self._size * ratio, self._size * ratio)
                if self._ring:
                    thick = 2 * ratio
                    painter.setPen(QPen(QColor(colour), thick))
                    painter.setBrush(Qt.BrushStyle.NoBrush)
                    box.adjust(thick / 2, thick / 2, -thick / 2, -thick / 2)
                else:
                    thick = 1.5 * ratio if self._rim else 0.0
                    painter.setPen(QPen(QColor(self._rim), thick) if self._rim else QPen(Qt.PenStyle.NoPen))
                    painter.setBrush(QColor(colour))
                    box.adjust(thick / 2, thick / 2, -thick / 2, -thick / 2)
                painter.drawEllipse(box)
            painter.end()
            self._atlas = (ratio, atlas)
        return cell, self._atlas[1]
