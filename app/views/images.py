"""Grids of pictures on one scale of colours; a click enlarges one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import QEvent, QPoint, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetricsF, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QHBoxLayout, QStackedWidget, QWidget

from app.theme import RADIUS, XS, S, Theme, small
from app.views.base import FigureView
from app.views.colour_bar import ColourBar
from app.views.maps import MapItems
from app.views.plot import Plot
from engine.figures.cells import Levels, cell_indices, cell_table, is_diverging, levels, said_of_cells
from engine.figures.kinds import Axis, Figure, Images
from engine.figures.words import named, tick_words

if TYPE_CHECKING:
    from app.workbench import Workbench

LEAST, MOST = 84.0, 340.0  # pixels a side of a tile
Spot = tuple[int, int, int]  # picture, row, column


@dataclass(frozen=True)
class Layout:
    """How tiles are laid out: how many across, and the size of each in pixels, its caption apart."""

    across: int
    width: float
    height: float


class Tiles(QAbstractScrollArea):
    """The grid. Pictures become `QImage`s when they are first seen.

    Signals:
        hovered: picture, row and column under the mouse; -1, -1, -1 for none.
        picked: a picture was clicked.
    """

    hovered = Signal(int, int, int)
    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.viewport().setMouseTracking(True)
        self.viewport().setAutoFillBackground(False)
        self.figure: Images | None = None
        self.current = -1
        self.row = -1  # marked in every picture
        self.levels = Levels(0, 1)
        self._look: Theme | None = None
        self._table = np.zeros((256, 3), dtype=np.uint8)
        self._pictures: dict[int, QImage] = {}
        self._pointed: Spot | None = None

    def show_pictures(self, figure: Images, found: Levels, look: Theme) -> None:
        """Show these pictures with this scale."""
        self.figure, self.levels, self._look = figure, found, look
        diverging = figure.pixels.ndim == 3 and is_diverging(figure.pixels)
        self._table = cell_table(look.name, diverging)
        self._pictures.clear()
        self.current = self.current if self.current < len(figure.pixels) else -1
        self._arrange()

    # ---- layout

    @property
    def count(self) -> int:
        return len(self.figure.pixels) if self.figure is not None else 0

    @property
    def caption_height(self) -> float:
        return QFontMetricsF(small()).height() + 2

    def layout_now(self) -> Layout:
        """The largest tiles with which all pictures fit; small ones that scroll where they do not."""
        if self.figure is None or not self.count:
            return Layout(1, LEAST, LEAST)
        height, width = self.figure.pixels.shape[1:3]
        shape = min(max(height / max(width, 1), 0.4), 2.5)
        room, tall = max(self.viewport().width(), 60), max(self.viewport().height(), 60)
        best = Layout(max(1, int((room + S) / (LEAST + S))), LEAST, LEAST * shape)
        for across in range(1, self.count + 1):
            side = min((room - (across - 1) * S) / across, MOST)
            down = math.ceil(self.count / across)
            fits = down * (side * shape + self.caption_height) + (down - 1) * S <= tall
            if not fits:
                side = ((tall - (down - 1) * S) / down - self.caption_height) / shape
            if side >= LEAST and side > best.width:
                best = Layout(across, side, side * shape)
        return best

    def rectangle(self, picture: int) -> QRectF:
        """Where a picture is drawn, without its caption, in pixels of the viewport."""
        grid = self.layout_now()
        row, column = divmod(picture, grid.across)
        top = row * (grid.height + self.caption_height + S) + self.caption_height - self.verticalScrollBar().value()
        return QRectF(column * (grid.width + S), top, grid.width, grid.height)

    def _arrange(self) -> None:
        grid = self.layout_now()
        down = math.ceil(self.count / grid.across)
        whole = down * (grid.height + self.caption_height + S)
        tall = self.viewport().height()
        self.verticalScrollBar().setRange(0, max(0, round(whole - S) - tall))
        self.verticalScrollBar().setPageStep(tall)
        self.verticalScrollBar().setSingleStep(40)
        self.viewport().update()

    def spot_at(self, place: QPoint) -> Spot | None:
        """Picture, row and column at a place of the viewport."""
        if self.figure is None:
            return None
        grid = self.layout_now()
        column = int(place.x() // (grid.width + S))
        row = int((place.y() + self.verticalScrollBar().value()) // (grid.height + self.caption_height + S))
        picture = row * grid.across + column
        if not (0 <= column < grid.across and 0 <= picture < self.count):
            return None
        box = self.rectangle(picture)
        if not box.contains(place.toPointF()):
            return None
        height, width = self.figure.pixels.shape[1:3]
        y, x = (place.y() - box.top()) / box.height(), (place.x() - box.left()) / box.width()
        return picture, min(int(y * height), height - 1), min(int(x * width), width - 1)

    # ---- painting

    def picture(self, index: int) -> QImage:
        """One picture in colours, a pixel a cell."""
        if index not in self._pictures:
            assert self.figure is not None
            pixels = self.figure.pixels[index]
            if pixels.ndim == 2:
                pixels = self._table[cell_indices(pixels, self.levels)]
            pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
            height, width = pixels.shape[:2]
            self._pictures[index] = QImage(
                pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888
            ).copy()
        return self._pictures[index]

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._look is None or self.figure is None:
            return
        painter = QPainter(self.viewport())
        painter.fillRect(event.rect(), self._look.canvas)
        painter.setFont(small())
        metrics = QFontMetricsF(small())
        for index in range(self.count):
            box = self.rectangle(index)
            if box.bottom() < event.rect().top() or box.top() - self.caption_height > event.rect().bottom():
                continue
            painter.drawImage(box, self.picture(index))
            self._mark_row(painter, box)
            painter.setPen(self._look.text if index == self.current else self._look.muted)
            text = metrics.elidedText(self.figure.captions[index], Qt.TextElideMode.ElideRight, box.width())
            above = QRectF(box.left(), box.top() - self.caption_height, box.width(), self.caption_height)
            painter.drawText(above, int((Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter).value), text)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        marks = [
            (self._pointed[0] if self._pointed else -1, self._look.muted, 1.0),
            (self.current, self._look.accent, 2.0),
        ]
        for index, colour, thick in marks:
            if 0 <= index < self.count:
                painter.setPen(QPen(colour, thick))
                painter.drawRoundedRect(self.rectangle(index).adjusted(-1, -1, 1, 1), RADIUS / 2, RADIUS / 2)
        painter.end()

    def _mark_row(self, painter: QPainter, box: QRectF) -> None:
        assert self.figure is not None
        assert self._look is not None
        height = self.figure.pixels.shape[1]
        if 0 <= self.row < height:
            tall = max(box.height() / height, 3.0)
            middle = box.top() + (self.row + 0.5) * box.height() / height
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(self._look.accent, 1))
            painter.drawRect(QRectF(box.left(), middle - tall / 2, box.width(), tall))

    # ---- mouse and keys

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._point(self.spot_at(event.position().toPoint()))

    def _point(self, spot: Spot | None) -> None:
        if spot != self._pointed:
            self._pointed = spot
            self.viewport().update()
            self.hovered.emit(*(spot or (-1, -1, -1)))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        spot = self.spot_at(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and spot is not None:
            self.choose(spot[0])
            self.picked.emit(spot[0])

    def choose(self, picture: int) -> None:
        """Frame a picture and scroll to it."""
        self.current = picture
        box, bar = self.rectangle(picture), self.verticalScrollBar()
        if box.top() - self.caption_height < 0:
            bar.setValue(round(bar.value() + box.top() - self.caption_height))
        elif box.bottom() > self.viewport().height():
            bar.setValue(round(bar.value() + box.bottom() - self.viewport().height()) + XS)
        self.viewport().update()

    def viewportEvent(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Leave:
            self._point(None)
        return super().viewportEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        event.ignore()  # the view around it knows what keys do

    def sizeHint(self) -> QSize:
        return QSize(480, 320)


class ImagesView(FigureView):
    """`Images`. Hover reads a cell out, a click (or Enter) enlarges a picture, Esc goes back to all of them."""

    empty_hint = "There are no pictures yet. They appear here when the run has made them."

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        self.large: int | None = None
        self.plot: Plot | None = None
        self._cell: tuple[int, int] | None = None
        super().__init__(workbench, figure, parent)

    def make_content(self) -> QWidget:
        content = QWidget()
        row = QHBoxLayout(content)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(S)
        self.stack = QStackedWidget()
        self.tiles = Tiles()
        self.bar = ColourBar()
        self.stack.addWidget(self.tiles)
        row.addWidget(self.stack, 1)
        row.addWidget(self.bar)
        self.tiles.hovered.connect(self._tile_hovered)
        self.tiles.picked.connect(self._tile_picked)
        content.setFocusProxy(self.tiles)
        return content

    def _watch(self, widget: QWidget) -> None:
        super()._watch(self.tiles)

    def add_actions(self) -> None:
        self.controls.add("back", "All pictures", self.unlock, button="all", hint="Esc")

    def is_empty(self) -> bool:
        return self.figure is None or self.figure.pixels.size == 0

    @property
    def axis(self) -> Axis:
        return self.figure.value_axis or Axis("Value")

    def draw(self) -> None:
        figure: Images = self.figure
        look = self.workbench.theme
        if figure.pixels.ndim == 3:
            diverging = is_diverging(figure.pixels)
            found = levels(figure.pixels, diverging=diverging, log=self.axis.scale == "log")
            self.bar.show_levels(found, self.axis, diverging, look)
            self.bar.show()
        else:
            found = Levels(0, 255)
            self.bar.hide()
        self.tiles.show_pictures(figure, found, look)
        self.tiles.setAccessibleName(self.content.accessibleName())
        if self.large is not None and self.large >= len(figure.pixels):
            self.large = None
        self._show_large()

    # ---- one picture, large

    def enlarge(self, picture: int) -> None:
        """Show one picture alone, with its ticks."""
        self.large = picture
        self.tiles.choose(picture)
        self._show_large()
        if self.plot is not None:
            self.plot.setFocus()

    def lock_row(self, row: int) -> None:
        """Mark a row in every picture without a signal: another view has locked its token. -1 marks none."""
        self.tiles.row = row
        self.tiles.viewport().update()

    def _make_plot(self) -> Plot:
        self.plot = Plot()
        self.items = MapItems(self.plot)
        self.plot.moved.connect(self._large_hovered)
        self.plot.left.connect(self._rest)
        self.plot.clicked.connect(self._large_clicked)
        self.plot.installEventFilter(self)
        self.stack.addWidget(self.plot)
        return self.plot

    def _show_large(self) -> None:
        self.controls.allow("back", self.large is not None)
        if self.large is None:
            self.stack.setCurrentWidget(self.tiles)
            return
        figure: Images = self.figure
        plot = self.plot or self._make_plot()
        look = self.workbench.theme
        plot.dress(look)
        pixels = figure.pixels[self.large]
        if pixels.ndim == 2:
            self.items.show_values(pixels, self.tiles.levels, is_diverging(figure.pixels), None, look)
        else:
            self.items.show_colours(pixels, look)
        height, width = pixels.shape[:2]
        plot.box.invertY(True)
        for axis, meaning, ticks, size in (
            (plot.x_axis, figure.x_axis, figure.x, width),
            (plot.y_axis, figure.y_axis, figure.y, height),
        ):
            known = ticks if ticks is not None else np.arange(size)
            axis.name(meaning, tick_words(known), numeric=ticks is None)
        plot.setAccessibleName(f"{figure.captions[self.large]}, picture {self.large + 1} of {len(figure.pixels)}")
        plot.show_range((-0.5, width - 0.5), (-0.5, height - 0.5), pad=0)
        self.items.outline(self._cell, locked=True)
        self.stack.setCurrentWidget(plot)
        self._rest()

    def _large_hovered(self, x: float, y: float) -> None:
        cell = self.items.cell_at(x, y)
        self.items.outline(cell)
        if cell is not None and self.large is not None:
            self.read_out(self._said(self.large, *cell))
            self.cell_hovered.emit(*cell)

    def _large_clicked(self, x: float, y: float) -> None:
        cell = self.items.cell_at(x, y)
        if cell is not None:
            self._lock(*cell)

    def _lock(self, row: int, column: int) -> None:
        self._cell = (row, column)
        self.items.outline(self._cell, locked=True)
        self._rest()
        self.cell_clicked.emit(row, column)

    # ---- grid

    def _tile_hovered(self, picture: int, row: int, column: int) -> None:
        if picture < 0:
            self._rest()
        else:
            self.read_out(self._said(picture, row, column))
            self.point_hovered.emit(picture)
            self.cell_hovered.emit(row, column)

    def _tile_picked(self, picture: int) -> None:
        self.point_clicked.emit(picture)
        self.enlarge(picture)

    def _rest(self) -> None:
        if self.large is not None and self._cell is not None:
            self.read_out(self._said(self.large, *self._cell))
        elif self.large is not None:
            self.read_out(f"{self.figure.captions[self.large]} · Esc goes back to all {len(self.figure.pixels)}")
        else:
            self.read_out("")

    def move_selection(self, right: int, down: int) -> None:
        if self.is_empty():
            return
        if self.large is not None:
            height, width = self.figure.pixels.shape[1:3]
            row, column = self._cell or (0, -right)
            self._lock(min(max(row + down, 0), height - 1), min(max(column + right, 0), width - 1))
            return
        across = self.tiles.layout_now().across
        now = self.tiles.current
        wanted = now + right + down * across if now >= 0 else 0
        self.tiles.choose(min(max(wanted, 0), len(self.figure.pixels) - 1))
        self.read_out(self.figure.captions[self.tiles.current])

    def pan(self, right: int, down: int) -> None:
        """Go to the next picture while one is large."""
        if self.large is not None:
            self.enlarge(min(max(self.large + (right or down), 0), len(self.figure.pixels) - 1))

    def zoom(self, factor: float) -> None:
        if self.large is not None and self.plot is not None:
            self.plot.zoom(factor)

    def activate(self) -> None:
        if self.large is None and self.tiles.current >= 0:
            self._tile_picked(self.tiles.current)

    def unlock(self) -> None:
        self.large, self._cell = None, None
        self._show_large()
        self.tiles.setFocus()
        self.read_out("")

    def _said(self, picture: int, row: int, column: int) -> str:
        figure: Images = self.figure
        if picture >= len(figure.pixels):
            return ""
        parts = [figure.captions[picture]]
        for axis, ticks, at, word in (
            (figure.y_axis, figure.y, row, "row"),
            (figure.x_axis, figure.x, column, "column"),
        ):
            place: Any = ticks[at : at + 1] if ticks is not None else np.asarray([at])
            parts.append(f"{axis.label or word} {tick_words(place)[0]}")
        pixel = figure.pixels[picture, row, column]
        if figure.pixels.ndim == 3:
            parts.append(named(float(pixel), self.axis))
        else:
            parts.append(f"red, green, blue {', '.join(map(str, pixel.tolist()))}")
        return " · ".join(parts)

    def idle_text(self) -> str:
        said = said_of_cells(self.tiles.levels) if self.figure is not None and self.figure.pixels.ndim == 3 else ""
        return " · ".join(part for part in (said, super().idle_text()) if part)
