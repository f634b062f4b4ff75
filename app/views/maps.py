"""`MapPlot`: cells of colour with ticks in words, text in the cells, a locked cell and a colour bar.

The parts that heat maps and enlarged pictures share.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen
from PySide6.QtWidgets import QGraphicsRectItem

from app.theme import Theme, small
from app.views.plot import Plot
from app.views.setup import pg
from engine.figures.cells import Levels, cell_indices, cell_table
from engine.figures.palette import CHALK, INK, dark_ink
from engine.figures.words import visible_token

Array: TypeAlias = npt.NDArray[Any]
LEAST = (26.0, 13.0)  # pixels of a cell from which words are written into it


class CellWords(pg.GraphicsObject):  # type: ignore[misc]
    """A word in each visible cell, once cells are large enough; dark or light by the colour under it."""

    def __init__(self) -> None:
        super().__init__()
        self._words: Array | None = None
        self._dark = np.zeros((0, 0), dtype=np.bool_)

    def show_words(self, words: Array | None, dark: npt.NDArray[np.bool_]) -> None:
        """Write ``words`` (rows, columns); ``dark`` says which are written in dark ink."""
        self.prepareGeometryChange()
        self._words, self._dark = words, dark
        self.update()

    def boundingRect(self) -> QRectF:
        if self._words is None:
            return QRectF()
        rows, columns = self._words.shape
        return QRectF(-0.5, -0.5, columns, rows)

    def paint(self, p: QPainter, *_: Any) -> None:
        if self._words is None:
            return
        at = p.transform()
        wide, tall = abs(at.m11()), abs(at.m22())
        turned = wide < LEAST[0] and wide >= LEAST[1] and tall >= LEAST[0]  # narrow columns are read sideways
        if not turned and (wide < LEAST[0] or tall < LEAST[1]):
            return
        seen = self.getViewBox().viewRect()
        rows, columns = self._words.shape
        first, last = max(round(seen.top()), 0), min(round(seen.bottom()) + 1, rows)
        left, right = max(round(seen.left()), 0), min(round(seen.right()) + 1, columns)
        font = small()
        metrics = QFontMetricsF(font)
        p.setFont(font)
        ink, chalk = QColor(INK), QColor(CHALK)
        for row in range(first, last):
            for column in range(left, right):
                word = str(self._words[row, column])
                if word:
                    p.resetTransform()
                    p.translate(at.map(QPointF(column, row)))
                    if turned:
                        p.rotate(-90)
                    along, across = (tall, wide) if turned else (wide, tall)
                    box = QRectF(2 - along / 2, -across / 2, along - 4, across)
                    p.setPen(ink if self._dark[row, column] else chalk)
                    text = fitting(visible_token(word), metrics, box.width())
                    p.drawText(box, int(Qt.AlignmentFlag.AlignCenter.value), text)


class MapItems:
    """The items of a map on a plot: picture, words, the hovered and the locked cell."""

    def __init__(self, plot: Plot) -> None:
        self.plot = plot
        self.image = pg.ImageItem()
        self.words = CellWords()
        self.hovered, self.locked, self._halo = (QGraphicsRectItem() for _ in range(3))
        for z, item in ((0, self.image), (5, self.words), (10, self.hovered), (11, self._halo), (12, self.locked)):
            item.setZValue(z)
            plot.box.addItem(item, ignoreBounds=True)
        for item in (self.hovered, self._halo, self.locked):
            item.setBrush(Qt.BrushStyle.NoBrush)
            item.hide()
        self.shape = (0, 0)

    def show_values(self, values: Array, levels: Levels, diverging: bool, words: Array | None, look: Theme) -> None:
        """Show ``values`` (rows, columns); what is not finite has its own colour."""
        table = cell_table(look.name, diverging)
        indices = cell_indices(values, levels)
        self.shape = (values.shape[0], values.shape[1])
        # The table goes first: a lookup table of 256 with bytes at levels 0–255 is drawn without a copy.
        self.image.setLookupTable(table, update=False)
        self.image.setImage(indices, levels=(0, 255), autoLevels=False)
        self.image.setRect(QRectF(-0.5, -0.5, values.shape[1], values.shape[0]))
        dark = dark_ink(table) if words is not None else np.zeros(256, dtype=np.bool_)
        self.words.show_words(words, dark[indices] if words is not None else np.zeros(self.shape, dtype=np.bool_))
        self._dress(look)

    def show_colours(self, pixels: Array, look: Theme) -> None:
        """Show ``pixels`` (rows, columns, 3) uint8 as they are."""
        self.shape = (pixels.shape[0], pixels.shape[1])
        self.image.setLookupTable(None, update=False)
        self.image.setImage(np.ascontiguousarray(pixels), levels=(0, 255), autoLevels=False)
        self.image.setRect(QRectF(-0.5, -0.5, pixels.shape[1], pixels.shape[0]))
        self.words.show_words(None, np.zeros(self.shape, dtype=np.bool_))
        self._dress(look)

    def _dress(self, look: Theme) -> None:
        for item, colour, width in (
            (self.hovered, look.muted, 1),
            (self._halo, look.canvas, 4),
            (self.locked, look.accent, 2),
        ):
            pen = QPen(colour, width)
            pen.setCosmetic(True)
            pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
            item.setPen(pen)

    def clear_missing(self, look: Theme, values: Array, levels: Levels) -> None:
        """Draw missing cells as canvas: in an image of density they are places without points."""
        table = cell_table(look.name, False)
        table[0] = look.canvas.getRgb()[:3]
        self.image.setLookupTable(table, update=True)

    def place(self, x: float, y: float, width: float, height: float) -> None:
        """Lay the picture over this rectangle instead of one unit a cell."""
        self.image.setRect(QRectF(x, y, width, height))

    def cell_at(self, x: float, y: float) -> tuple[int, int] | None:
        """Row and column of the cell at (x, y) in axis coordinates."""
        row, column = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
        return (row, column) if 0 <= row < self.shape[0] and 0 <= column < self.shape[1] else None

    def outline(self, cell: tuple[int, int] | None, *, locked: bool = False) -> None:
        """Mark a cell; None takes the mark away."""
        for item in (self.locked, self._halo) if locked else (self.hovered,):
            item.setVisible(cell is not None)
            if cell is not None:
                item.setRect(QRectF(cell[1] - 0.5, cell[0] - 0.5, 1, 1))


def fitting(text: str, metrics: QFontMetricsF, room: float) -> str:
    """As much of ``text`` as has room: its first words where one of them fits, else letters.

    In a narrow cell letters say more than an ellipsis would.
    """
    if metrics.horizontalAdvance(text) <= room:
        return text
    words = text.split(" ")
    for count in range(len(words) - 1, 0, -1):  # "1.15 ±0.2 (3)" becomes "1.15", not "1.15 ±0."
        first = " ".join(words[:count])
        if first.strip() and metrics.horizontalAdvance(first) <= room:
            return first
    if room > 60:
        return metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
    while text and metrics.horizontalAdvance(text) > room:
        text = text[:-1]
    return text
