"""The linked pictures of the activation viewer: token strip, map, locked cell, attention. One place locks them all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontMetricsF, QResizeEvent
from PySide6.QtWidgets import QSplitter, QVBoxLayout, QWidget

from app.panels.cell_detail import CellDetail
from app.panels.looking import Cell, Place, Veil
from app.theme import M, S, mono
from engine.figures.kinds import Figure, Heatmap, Images

if TYPE_CHECKING:
    from app.workbench import Workbench

STRIP_FRAME, STRIP_MOST = 74, 190  # pixels around the tokens, and what a long prompt may take in all
MAP, ATTENTION, DETAIL = 430, 360, 250  # least pixels: heights, and the width of the locked cell's numbers

WORD, MAP_FRAME = 14, 150  # pixels: of a row with words in it, and around the rows of the map


class ActivationPictures(QWidget):
    """Shows the figures of an answer. Clicks and arrow keys in any picture move ``place``."""

    def __init__(self, workbench: Workbench, place: Place, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench, self.place = workbench, place
        self.strip: Any = None
        self.map: Any = None
        self.attention: Any = None
        self.detail = CellDetail(workbench)
        self.detail.setMinimumWidth(DETAIL)
        self._first = 0  # position of the first row and column of the attention pictures
        self._veils: list[tuple[Veil, bool]] = []  # with whether another cell alone changes what is under it
        self._middle = QSplitter(Qt.Orientation.Horizontal)
        self._middle.setChildrenCollapsible(False)
        self._middle.setMinimumHeight(MAP)
        self._whole = QVBoxLayout(self)
        self._whole.setContentsMargins(0, 0, 0, 0)
        self._whole.setSpacing(M)
        place.moved.connect(self._follow)

    def show_answer(self, figures: dict[str, Figure], facts: dict[str, Any]) -> None:
        """Show the figures of an answer; views are made with the first one and kept."""
        if self.map is None:
            self._make(figures)
        else:
            self.strip.set_figure(figures["tokens"])
            self.map.set_figure(figures["map"])
        self._show_attention(figures.get("attention"), facts)
        self.detail.show_cell(figures.get("logits"), figures.get("detail"))
        self._fit_strip()
        self._fit_map(figures["map"])
        self._follow(self.place.cell)

    def set_waiting(self, waiting: bool, *, cell_only: bool = False) -> None:
        """Dim the pictures that are about to change."""
        for veil, of_cell in self._veils:
            veil.set_waiting(waiting and (of_cell or not cell_only))

    def set_outdated(self) -> None:
        """Leave the pictures dimmed: they show something else than what is asked for, and no other is coming."""
        for veil, _ in self._veils:
            veil.set_waiting(True, silent=True)

    def _make(self, figures: dict[str, Figure]) -> None:
        from app.views import make_view  # late: views bring pyqtgraph

        self.strip = make_view(figures["tokens"], self.workbench)
        self.map = make_view(figures["map"], self.workbench)
        self.strip.point_clicked.connect(lambda position: self.place.go(position=position))
        self.map.cell_clicked.connect(lambda layer, position: self.place.go(layer, position))
        self._middle.addWidget(self.map)
        self._middle.addWidget(self.detail)
        self._middle.setStretchFactor(0, 5)
        self._middle.setStretchFactor(1, 3)
        self._whole.addWidget(self.strip)
        self._whole.addWidget(self._middle, 3)
        for view, of_cell in ((self.strip, False), (self.map, False), (self.detail, True)):
            self._veils.append((Veil(view, self.workbench, speaks=view is self.map), of_cell))

    def _show_attention(self, figure: Figure | None, facts: dict[str, Any]) -> None:
        if figure is not None and self.attention is None:
            from app.views import make_view  # late: views bring pyqtgraph

            self.attention = make_view(figure, self.workbench)
            self.attention.setMinimumHeight(ATTENTION)
            self.attention.cell_clicked.connect(lambda row, column: self.place.go(position=self._first + row))
            self._whole.addWidget(self.attention, 2)
            self._veils.append((Veil(self.attention, self.workbench), True))
        elif figure is not None:
            self.attention.set_figure(figure)
        if self.attention is not None:
            self.attention.setVisible(figure is not None)
        if isinstance(figure, Images):
            # Of a long prompt only a stretch is shown: the one that ends with the locked position or later.
            shown, count = figure.pixels.shape[1], len(facts["tokens"])
            self._first = 0 if shown == count else max(facts["position"] + 1, shown) - shown

    def _fit_strip(self) -> None:
        """As high as the tokens need, up to `STRIP_MOST`; longer prompts scroll."""
        tokens = self.strip.figure.tokens
        letters = sum(len(token) for token in tokens.tolist())
        across = max(1.0, (self.width() - 4 * S) / QFontMetricsF(mono()).horizontalAdvance("n"))
        lines = math.ceil(letters / across)
        tall = round(max(1, lines) * self.strip.flow.line_height) + STRIP_FRAME
        self.strip.setFixedHeight(min(tall, STRIP_MOST))

    def _fit_map(self, figure: Figure) -> None:
        """High enough that the words in its cells can be read, where it has any."""
        worded = isinstance(figure, Heatmap) and figure.text is not None
        rows = figure.values.shape[0] if isinstance(figure, Heatmap) else 0
        self._middle.setMinimumHeight(max(MAP, MAP_FRAME + WORD * rows) if worded else MAP)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self.strip is not None and event.size().width() != event.oldSize().width():
            self._fit_strip()

    def _follow(self, cell: Cell) -> None:
        if self.map is None:
            return
        self.strip.pick_point(cell.position)
        self.map.lock_cell(cell.layer, cell.position)
        if self.attention is not None:
            self.attention.lock_row(cell.position - self._first)
