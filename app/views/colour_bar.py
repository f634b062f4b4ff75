"""The scale of colours beside a map: its ends, its unit, and arrows where values lie beyond."""

from __future__ import annotations

import math

import numpy as np
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QFontMetricsF, QImage, QPainter, QPaintEvent, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.theme import Theme, small
from app.views.axes import linear_ticks, linear_words, log_ticks
from engine.figures.cells import Levels, cell_table
from engine.figures.kinds import Axis
from engine.figures.words import number, tick_number

WIDE = 12
ARROW = 7


class ColourBar(QWidget):
    """Upright scale. ``span`` (top and bottom in its own pixels) lets it stand level with the plot."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.levels = Levels(0, 1)
        self.axis = Axis("")
        self.diverging = False
        self._look: Theme | None = None
        self._strip = QImage()
        self._span: tuple[float, float] | None = None
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding)

    def show_levels(self, levels: Levels, axis: Axis, diverging: bool, look: Theme) -> None:
        """Show this scale."""
        if (levels, axis, diverging, look) == (self.levels, self.axis, self.diverging, self._look):
            return
        self.levels, self.axis, self.diverging, self._look = levels, axis, diverging, look
        table = np.ascontiguousarray(cell_table(look.name, diverging)[:0:-1])
        self._strip = QImage(table.tobytes(), 1, len(table), 3, QImage.Format.Format_RGB888).copy()
        beyond = levels.below + levels.above
        words = f"{axis.text() or 'Value'}: colours from {number(levels.low)} to {number(levels.high)}"
        words += f"; {beyond:,} values beyond them take the end colours" if beyond else ""
        self.setAccessibleName("Colour scale")
        self.setAccessibleDescription(words)
        self.setToolTip(words)
        self.updateGeometry()
        self.update()

    def stand_beside(self, span: tuple[float, float]) -> None:
        """Stand level with ``span`` (top, bottom)."""
        if span != self._span:
            self._span = span
            self.update()

    def ticks(self) -> list[tuple[float, str]]:
        """Share from the bottom and word of each tick."""
        low, high = self.levels.low, self.levels.high
        if self.levels.log:
            low, high = math.log10(low), math.log10(high)
            places = log_ticks(low, high, 5)
            words = [tick_number(10**place) for place in places]
        else:
            places = linear_ticks(low, high, 5)
            words = linear_words(places)
        return [((place - low) / (high - low), word) for place, word in zip(places, words, strict=True)]

    def sizeHint(self) -> QSize:
        metrics = QFontMetricsF(small())
        longest = max((metrics.horizontalAdvance(word) for _, word in self.ticks()), default=0)
        label = metrics.height() + 2 if self.axis.text() else 0
        return QSize(math.ceil(WIDE + 6 + longest + label + 8), 80)

    def minimumSizeHint(self) -> QSize:
        return QSize(self.sizeHint().width(), 40)

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._look is None:
            return
        painter = QPainter(self)
        top, bottom = self._span or (6.0, self.height() - 6.0)
        top, bottom = top + ARROW, bottom - ARROW
        strip = QRectF(4, top, WIDE, max(bottom - top, 1))
        painter.drawImage(strip, self._strip)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        last = self._strip.height() - 1
        for beyond, y, way, row in ((self.levels.above, top, -1, 0), (self.levels.below, bottom, 1, last)):
            if beyond:
                painter.setBrush(QBrush(QColor(self._strip.pixel(0, row))))
                tip = QPointF(strip.center().x(), y + way * ARROW)
                painter.drawPolygon(QPolygonF([QPointF(strip.left(), y), QPointF(strip.right(), y), tip]))
        painter.setPen(self._look.line)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.drawRect(strip)
        painter.setFont(small())
        painter.setPen(self._look.muted)
        metrics = QFontMetricsF(small())
        for share, word in self.ticks():
            y = bottom - share * (bottom - top)
            place = QRectF(strip.right() + 5, y - metrics.height() / 2, self.width(), metrics.height())
            painter.drawText(place, int((Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter).value), word)
        text = self.axis.text()
        if text:
            painter.setPen(self._look.text)
            painter.translate(self.width() - metrics.height() - 2, (top + bottom) / 2)
            painter.rotate(-90)
            room = bottom - top + 2 * ARROW
            shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
            along = QRectF(-room / 2, 0, room, metrics.height())
            painter.drawText(along, int(Qt.AlignmentFlag.AlignCenter.value), shown)
        painter.end()
