"""Graphs: named nodes, edges as wide as their weight; what hangs together with a node lights up on hover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QFontMetricsF, QPainter, QPen
from PySide6.QtWidgets import QWidget

from app.theme import Theme, small
from app.views.plotted import PlotView, span
from app.views.setup import pg
from engine.figures.kinds import Figure, Graph
from engine.figures.words import named, quantity, shortened, visible_token

if TYPE_CHECKING:
    from app.workbench import Workbench

WIDEST = 5.0  # pixels of the heaviest edge
REACH = 12.0
WIDTHS = 8  # steps of width: edges of one step are drawn at once
NAMED = 26  # letters of a node's name


class GraphItem(pg.GraphicsObject):  # type: ignore[misc]
    """Edges, nodes and as many names as do not overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.at = np.zeros((0, 2))
        self.edges = np.zeros((0, 2), dtype=np.intp)
        self.weight = np.zeros(0)
        self.names: list[str] = []
        self.lit: int | None = None
        self.picked: int | None = None
        self.written: list[int] = []
        self._look: Theme | None = None

    def show_graph(self, figure: Graph, look: Theme) -> None:
        """Draw this graph."""
        self.prepareGeometryChange()
        self.at = np.asarray(figure.position, dtype=np.float64).reshape(-1, 2)
        self.edges = np.asarray(figure.edges).reshape(-1, 2).astype(np.intp)
        self.weight = np.asarray(figure.weight, dtype=np.float64)
        self.names = [shortened(visible_token(str(name)), NAMED) for name in figure.nodes.tolist()]
        self._look = look
        self.update()

    def boundingRect(self) -> QRectF:
        x, y = span(self.at[:, 0]), span(self.at[:, 1])
        if x is None or y is None:
            return QRectF()
        across, up = abs(self.pixelWidth() or 0) * 80, abs(self.pixelHeight() or 0) * 24
        return QRectF(x[0], y[0], x[1] - x[0], y[1] - y[0]).adjusted(-across, -up, across, up)

    def viewTransformChanged(self) -> None:
        self.prepareGeometryChange()

    def paint(self, p: QPainter, *_: Any) -> None:
        if self._look is None or not len(self.at):
            return
        turn = p.transform()
        p.resetTransform()
        p.setRenderHint(QPainter.RenderHint.Antialiasing)
        spots = [turn.map(QPointF(x, y)) for x, y in self.at.tolist()]
        self._draw_edges(p, spots)
        self._draw_nodes(p, spots)
        self._write_names(p, spots)

    def _draw_edges(self, p: QPainter, spots: list[QPointF]) -> None:
        assert self._look is not None
        finite = np.isfinite(self.weight)
        top = float(np.abs(self.weight[finite]).max()) if finite.any() else 1.0
        step = np.ceil(np.where(finite, np.abs(self.weight), 0) / (top or 1.0) * WIDTHS).astype(int).clip(1, WIDTHS)
        series = self._look.series
        for kind, colour, style in (
            (finite & (self.weight >= 0), series[0], Qt.PenStyle.SolidLine),
            (finite & (self.weight < 0), series[1], Qt.PenStyle.DashLine),
            (~finite, self._look.missing, Qt.PenStyle.DotLine),
        ):
            for wide in np.unique(step[kind]).tolist():
                for near in (False, True):
                    members = np.flatnonzero(kind & (step == wide) & (self._touched() == near))
                    if len(members):
                        ink = QColor(colour)
                        ink.setAlphaF(0.9 if near or self.lit is None else 0.15)
                        p.setPen(QPen(ink, max(WIDEST * wide / WIDTHS, 1.0), style))
                        p.drawLines([QLineF(spots[a], spots[b]) for a, b in self.edges[members].tolist()])

    def _touched(self) -> np.ndarray:
        if self.lit is None:
            return np.zeros(len(self.edges), dtype=np.bool_)
        found: np.ndarray = (self.edges == self.lit).any(axis=1)
        return found

    def _draw_nodes(self, p: QPainter, spots: list[QPointF]) -> None:
        assert self._look is not None
        p.setBrush(QBrush(self._look.text))
        p.setPen(QPen(self._look.canvas, 1.5))
        for spot in spots:
            p.drawEllipse(spot, 5, 5)
        p.setBrush(Qt.BrushStyle.NoBrush)
        for index, colour in ((self.lit, self._look.text), (self.picked, self._look.accent)):
            if index is not None and index < len(spots):
                p.setPen(QPen(colour, 2))
                p.drawEllipse(spots[index], 8, 8)

    def _write_names(self, p: QPainter, spots: list[QPointF]) -> None:
        """Write names above their nodes, the lit and the picked one first, then those that still have room."""
        assert self._look is not None
        metrics = QFontMetricsF(small())
        p.setFont(small())
        taken: list[QRectF] = []
        self.written = []
        seen = QRectF(p.viewport())
        first = [index for index in (self.lit, self.picked) if index is not None and index < len(spots)]
        degree = np.bincount(self.edges.ravel(), minlength=len(spots))
        rest = [int(index) for index in np.argsort(-degree[: len(spots)], kind="stable") if int(index) not in first]
        ground = QColor(self._look.canvas)
        ground.setAlpha(200)
        for index in dict.fromkeys([*first, *rest]):
            wide = metrics.horizontalAdvance(self.names[index]) + 6
            box = QRectF(spots[index].x() - wide / 2, spots[index].y() - 9 - metrics.height(), wide, metrics.height())
            box.moveLeft(min(max(box.left(), seen.left()), seen.right() - wide))
            if box.top() < seen.top():
                box.moveTop(spots[index].y() + 9)
            if index not in first and any(box.intersects(other) for other in taken):
                continue
            taken.append(box)
            self.written.append(index)
            p.setPen(Qt.PenStyle.NoPen)
            p.setBrush(QBrush(ground))
            p.drawRect(box)
            p.setPen(self._look.text)
            p.drawText(box, int(Qt.AlignmentFlag.AlignCenter.value), self.names[index])


class GraphView(PlotView):
    """A `Graph`. Hover shows what a node is joined to, a click picks it, arrow keys go to the next node that way."""

    empty_hint = "This graph has no nodes yet. It appears here when the run has made it."

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        super().__init__(workbench, figure, parent)

    def populate(self) -> None:
        self.graph = GraphItem()
        self.plot.box.addItem(self.graph, ignoreBounds=True)
        self.plot.item.hideAxis("bottom")
        self.plot.item.hideAxis("left")

    def is_empty(self) -> bool:
        return self.figure is None or len(self.figure.nodes) == 0

    def draw(self) -> None:
        figure: Graph = self.figure
        self.graph.show_graph(figure, self.workbench.theme)
        x, y = span(self.graph.at[:, 0]), span(self.graph.at[:, 1])
        self.plot.show_range(x, y, pad=0.12)

    def dress(self, look: Theme) -> None:
        super().dress(look)
        self.graph.update()

    # ---- nodes

    @property
    def picked(self) -> int | None:
        return self.graph.picked

    def pick_point(self, index: int) -> None:
        """Mark a node without a signal."""
        self.graph.picked = index
        self.graph.update()
        self.read_out(self._said(index))

    def _nearest(self, x: float, y: float) -> int | None:
        if not len(self.graph.at):
            return None
        across, up = self.plot.pixel()
        away = np.hypot((self.graph.at[:, 0] - x) / across, (self.graph.at[:, 1] - y) / up)
        best = int(np.nanargmin(away)) if np.isfinite(away).any() else 0
        return best if away[best] <= REACH else None

    def nearest_edge(self, x: float, y: float) -> int | None:
        """The edge that passes within reach of (x, y)."""
        if not len(self.graph.edges):
            return None
        scale = np.asarray(self.plot.pixel())
        start, end = (self.graph.at[self.graph.edges[:, side]] / scale for side in (0, 1))
        here, along = np.asarray([x, y]) / scale, end - start
        length = np.maximum((along**2).sum(axis=1), 1e-12)
        share = np.clip(((here - start) * along).sum(axis=1) / length, 0, 1)
        away = np.hypot(*(start + share[:, None] * along - here).T)
        away[np.isnan(away)] = np.inf
        best = int(np.argmin(away))
        return best if away[best] <= REACH / 2 else None

    def hover(self, x: float, y: float) -> None:
        index = self._nearest(x, y)
        if index != self.graph.lit:
            self.graph.lit = index
            self.graph.update()
        if index is not None:
            self.read_out(self._said(index))
            self.point_hovered.emit(index)
            return
        edge = self.nearest_edge(x, y)
        if edge is not None:
            a, b = (self.graph.names[int(node)] for node in self.graph.edges[edge])
            self.read_out(f"{a} → {b} · {named(float(self.graph.weight[edge]), self.figure.weight_axis, 'weight')}")
        else:
            self._rest()

    def _rest(self) -> None:
        self.read_out(self._said(self.graph.picked) if self.graph.picked is not None else "")

    def leave(self) -> None:
        self.graph.lit = None
        self.graph.update()
        self._rest()

    def click(self, x: float, y: float) -> None:
        index = self._nearest(x, y)
        if index is not None:
            self.pick_point(index)
            self.point_clicked.emit(index)

    def move_selection(self, right: int, down: int) -> None:
        if self.is_empty():
            return
        now = self.graph.picked
        if now is None or now >= len(self.graph.at):
            found: int | None = 0
        else:
            off = (self.graph.at - self.graph.at[now]) / np.asarray(self.plot.pixel())
            along = off @ np.asarray([right, -down])
            cost = np.where(along > 0, along + 2 * np.abs(off @ np.asarray([down, right])), np.inf)
            found = int(np.argmin(cost)) if np.isfinite(cost).any() else None
        if found is not None:
            self.pick_point(found)
            self.point_clicked.emit(found)

    def activate(self) -> None:
        if self.graph.picked is not None:
            self.point_clicked.emit(self.graph.picked)

    def unlock(self) -> None:
        self.graph.picked = None
        self.leave()

    def _said(self, index: int) -> str:
        if index >= len(self.graph.names):
            return ""
        parts = [self.graph.names[index]]
        for side, other, words in ((1, 0, "from"), (0, 1, "to")):
            members = np.flatnonzero(self.graph.edges[:, side] == index)
            weight = np.where(np.isfinite(self.graph.weight[members]), np.abs(self.graph.weight[members]), -1)
            strongest = members[np.argsort(-weight, kind="stable")]
            told = []
            for edge in strongest[:3].tolist():
                weight_said = quantity(float(self.graph.weight[edge]), self.figure.weight_axis)
                told.append(f"{self.graph.names[int(self.graph.edges[edge, other])]} {weight_said}")
            if told:
                more = f" and {len(members) - 3} more" if len(members) > 3 else ""
                parts.append(f"{words} {', '.join(told)}{more}")
        return " · ".join(parts)

    def idle_text(self) -> str:
        if self.is_empty():
            return super().idle_text()
        finite = self.graph.weight[np.isfinite(self.graph.weight)]
        widest = (
            f"widest edge {named(float(np.abs(finite).max()), self.figure.weight_axis, 'weight')}"
            if finite.size
            else ""
        )
        lost = len(self.graph.weight) - finite.size
        missing = f"{lost:,} edges without a finite weight (dotted)" if lost else ""
        negative = "negative edges dashed" if (finite < 0).any() else ""
        return " · ".join(part for part in (widest, negative, missing, super().idle_text()) if part)
