"""Drawing of series on shared axes: what `LinesView` and `CurvesView` have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QBrush, QColor, QPainterPath, QPen, QPolygonF
from PySide6.QtWidgets import QGraphicsPathItem, QWidget

from app.views.dots import Dots
from app.views.legend import Entry, Legend, series_pen
from app.views.plotted import PlotView, as_drawn, span
from app.views.reduce import is_sorted, lonely, reduced, smoothed
from app.views.setup import pg
from engine.figures.kinds import Axis
from engine.figures.palette import series_colour
from engine.figures.points import said_of_points
from engine.figures.words import number, quantity

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.figures.kinds import Figure

Floats: TypeAlias = npt.NDArray[np.float64]
Range: TypeAlias = tuple[float, float]
FEW = 40  # points up to which each is marked
TOLD = 4  # series that the read-out names at once
WINDOW = 50  # a smoothed curve averages over 1/50 of its points


@dataclass
class Series:
    """One curve: its name and what is drawn of it, raw and in axis coordinates."""

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    drawn_x: Floats = field(default_factory=lambda: np.zeros(0))
    drawn_y: Floats = field(default_factory=lambda: np.zeros(0))
    even: bool = True  # x never falls: points can be found by bisection

    def prepare(self, log: dict[str, bool]) -> None:
        """Bring it into axis coordinates."""
        self.drawn_x, self.drawn_y = as_drawn(self.x, log["x"]), as_drawn(self.y, log["y"])
        self.drawn_y[~np.isfinite(self.drawn_x)] = np.nan
        self.even = is_sorted(self.drawn_x)

    def left_out(self) -> int:
        lifted = np.isnan(self.x) & np.isnan(self.y)
        return int(np.count_nonzero(~np.isfinite(self.drawn_y) & ~lifted))

    def nearest(self, x: float) -> int | None:
        """The drawable point nearest to x (axis coordinates)."""
        if not len(self.drawn_x):
            return None
        if self.even:
            at = int(np.searchsorted(self.drawn_x, x))
            first, last = max(at - 50, 0), min(at + 50, len(self.drawn_x))
        else:
            first, last = 0, len(self.drawn_x)
        distance = np.abs(self.drawn_x[first:last] - x)
        distance[~np.isfinite(self.drawn_y[first:last])] = np.inf
        best = int(np.argmin(distance))
        return first + best if np.isfinite(distance[best]) else None


class SeriesView(PlotView):
    """Series with legend, references, bands, smoothing and a read-out at the nearest step."""

    logs = ("x", "y")

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        self.series: list[Series] = []
        self.references: dict[str, float] = {}
        self.axes = (Axis(""), Axis(""))
        self.hidden: set[int] = set()
        self.smooth = False
        self._lines: list[pg.PlotCurveItem] = []
        self._raws: list[pg.PlotCurveItem] = []
        self._bands: list[QGraphicsPathItem] = []
        self._rules: list[pg.InfiniteLine] = []
        self._at: tuple[int, int] | None = None  # series and point that are read out
        self._legend_wanted = True
        self._drawing = False
        super().__init__(workbench, figure, parent)
        self.legend = Legend()
        self.legend.hide()
        self.legend.switched.connect(self._switch)
        self.layout_.insertWidget(3, self.legend)
        self.plot.box.sigXRangeChanged.connect(self._moved)
        self._drawn_range: tuple[float, float] | None = None

    def populate(self) -> None:
        self._marks = Dots()
        self._cursor = pg.InfiniteLine(angle=90, movable=False)
        self._pointed_dots = Dots()
        for z, item in ((20, self._marks), (30, self._cursor), (40, self._pointed_dots)):
            item.setZValue(z)
            self.plot.box.addItem(item, ignoreBounds=True)
        self._cursor.hide()
        for axis in (self.plot.x_axis, self.plot.y_axis):
            axis.show_grid(True)

    def add_actions(self) -> None:
        super().add_actions()
        add = self.controls.add
        add("legend", "Legend", self.toggle_legend, key="L", button="legend", checkable=True)
        self.controls.check("legend", True)
        add(
            "smooth",
            "Smooth: mean over 2 % of the points",
            self.toggle_smooth,
            key="S",
            button="smooth",
            checkable=True,
        )

    # ---- what subclasses give

    def take(self) -> tuple[list[Series], dict[str, float], tuple[Axis, Axis]]:
        """Series, reference lines and axes as they are now."""
        raise NotImplementedError

    # ---- drawing

    def draw(self) -> None:
        self._drawing = True
        try:
            self._draw()
        finally:
            self._drawing = False

    def _draw(self) -> None:
        self.series, self.references, self.axes = self.take()
        for one in self.series:
            one.prepare(self.log)
        for axis, meaning, side in ((self.plot.x_axis, self.axes[0], "x"), (self.plot.y_axis, self.axes[1], "y")):
            axis.mean(meaning, self.log[side])
        self._range()
        self._draw_series()
        self._draw_references()
        self._show_legend()
        self.controls.allow("legend", len(self.series) + len(self.references) > 1)
        if self._at is not None:
            self._point(*self._at)

    def visible_series(self) -> list[int]:
        return [index for index in range(len(self.series)) if index not in self.hidden]

    def _range(self) -> None:
        xs = [span(self.series[index].drawn_x) for index in self.visible_series()]
        ys = [span(self.series[index].drawn_y) for index in self.visible_series()]
        for index in self.visible_series():
            for band in (self.series[index].low, self.series[index].high):
                if band is not None:
                    ys.append(span(as_drawn(band, self.log["y"])))
        for index, value in enumerate(self.references.values()):
            if len(self.series) + index not in self.hidden:
                ys.append(span(as_drawn(np.asarray([value]), self.log["y"])))
        found = []
        for spans in (xs, ys):
            known = [one for one in spans if one is not None]
            found.append((min(low for low, _ in known), max(high for _, high in known)) if known else None)
        self.plot.show_range(*self.fitted(found[0], found[1]))

    def fitted(self, x: Range | None, y: Range | None) -> tuple[Range | None, Range | None]:
        """The range to show for data that reach over ``x`` and ``y``."""
        return x, y

    def _draw_series(self) -> None:
        look = self.workbench.theme
        view = self.plot.box.viewRange()[0]
        self._drawn_range = (view[0], view[1])
        columns = max(int(self.plot.box.width()), 200)
        while len(self._lines) < len(self.series):
            self._add_items()
        marks: list[tuple[Floats, Floats, int]] = []
        for index, line in enumerate(self._lines):
            shown = index < len(self.series) and index not in self.hidden
            line.setVisible(shown)
            self._raws[index].setVisible(shown and self.smooth)
            self._bands[index].setVisible(shown and self.series[index].low is not None)
            if not shown:
                continue
            one = self.series[index]
            pen = series_pen(look, index, max(1.0, round(self.devicePixelRatioF())))
            x, y = reduced(one.drawn_x, one.drawn_y, self._drawn_range, columns)
            if self.smooth:
                raw = QPen(pen)
                faint = QColor(pen.color())
                faint.setAlpha(80)
                raw.setColor(faint)
                self._raws[index].setData(x, y, pen=raw, connect="finite")
                window = max(2, len(one.drawn_y) // WINDOW)
                x, y = reduced(one.drawn_x, smoothed(one.drawn_y, window), self._drawn_range, columns)
            line.setData(x, y, pen=pen, connect="finite")
            alone = lonely(y) if np.count_nonzero(np.isfinite(one.drawn_y)) > FEW else np.isfinite(y)
            marks.append((x[alone], y[alone], index))
            self._draw_band(index, one, columns)
        colours = [series_colour(look.name, index) for index in range(max(len(self.series), 1))]
        if marks:
            place = np.concatenate([np.full(len(x), index) for x, _, index in marks])
            x, y = (np.concatenate([mark[side] for mark in marks]) for side in (0, 1))
            self._marks.show_points(x, y, place, colours, size=5)
        else:
            self._marks.show_points(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int), colours, size=5)

    def _add_items(self) -> None:
        band, raw, line = QGraphicsPathItem(), pg.PlotCurveItem(), pg.PlotCurveItem()
        band.setPen(QPen(Qt.PenStyle.NoPen))
        for z, item in ((5, band), (8, raw), (10, line)):
            item.setZValue(z)
            self.plot.box.addItem(item, ignoreBounds=True)
        self._bands.append(band)
        self._raws.append(raw)
        self._lines.append(line)

    def _draw_band(self, index: int, one: Series, columns: int) -> None:
        if one.low is None or one.high is None or self._drawn_range is None:
            return
        path = QPainterPath()
        low, high = as_drawn(one.low, self.log["y"]), as_drawn(one.high, self.log["y"])
        both = np.isfinite(low) & np.isfinite(high) & np.isfinite(one.drawn_x)
        low, high = np.where(both, low, np.nan), np.where(both, high, np.nan)
        x_low, low = reduced(one.drawn_x, low, self._drawn_range, columns)
        x_high, high = reduced(one.drawn_x, high, self._drawn_range, columns)
        if len(x_low) > len(low) // 2 and len(low) != len(one.drawn_x):
            low, high = np.minimum(low[0::2], low[1::2]), np.maximum(high[0::2], high[1::2])
            x_low, x_high = x_low[0::2], x_high[0::2]
        good = np.isfinite(low) & np.isfinite(high)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(int), [0]])))
        for first, last in zip(edges[0::2], edges[1::2], strict=True):
            there = [QPointF(x, y) for x, y in zip(x_low[first:last].tolist(), low[first:last].tolist(), strict=True)]
            back = [QPointF(x, y) for x, y in zip(x_high[first:last].tolist(), high[first:last].tolist(), strict=True)]
            path.addPolygon(QPolygonF(there + back[::-1]))
        colour = QColor(series_colour(self.workbench.theme.name, index))
        colour.setAlpha(46)
        self._bands[index].setBrush(QBrush(colour))
        self._bands[index].setPath(path)

    def _draw_references(self) -> None:
        while len(self._rules) < len(self.references):
            rule = pg.InfiniteLine(angle=0, movable=False)
            rule.setZValue(6)
            self.plot.box.addItem(rule, ignoreBounds=True)
            self._rules.append(rule)
        for index, rule in enumerate(self._rules):
            shown = index < len(self.references) and len(self.series) + index not in self.hidden
            if shown:
                value = as_drawn(np.asarray(list(self.references.values())[index : index + 1]), self.log["y"])[0]
                shown = bool(np.isfinite(value))
                if shown:
                    rule.setPen(self._rule_pen(index))
                    rule.setPos(value)
            rule.setVisible(shown)

    def _rule_pen(self, index: int) -> QPen:
        pen = QPen(self.workbench.theme.muted, 1)
        pen.setCosmetic(True)
        pen.setDashPattern([6, 3] if index % 2 == 0 else [2, 3])
        return pen

    # ---- legend

    def _show_legend(self) -> None:
        entries = [
            Entry(one.name or f"series {index + 1}", series_pen(self.workbench.theme, index))
            for index, one in enumerate(self.series)
        ]
        entries += [
            Entry(f"{name} ({number(value)})", self._rule_pen(index))
            for index, (name, value) in enumerate(self.references.items())
        ]
        self.legend.setVisible(self._legend_wanted and len(entries) > 1)
        if len(entries) > 1:
            self.legend.set_entries(entries, frozenset(self.hidden))

    def toggle_legend(self) -> None:
        self._legend_wanted = not self._legend_wanted
        self.controls.check("legend", self._legend_wanted)
        self._show_legend()

    def _switch(self, index: int, on: bool) -> None:
        (self.hidden.discard if on else self.hidden.add)(index)
        self.workbench.painter.mark(self)

    def toggle_smooth(self) -> None:
        self.smooth = not self.smooth
        self.controls.check("smooth", self.smooth)
        self.workbench.painter.mark(self)

    def _moved(self) -> None:
        """The visible part is another: curves are thinned for it anew."""
        if (
            not self._drawing
            and self._drawn_range is not None
            and tuple(self.plot.box.viewRange()[0]) != self._drawn_range
        ):
            self.workbench.painter.mark(self)

    def resized(self) -> None:
        if self.series:
            self.workbench.painter.mark(self)

    # ---- read-out

    def hover(self, x: float, y: float) -> None:
        across, up = self.plot.pixel()
        best: tuple[float, int, int] | None = None
        for index in self.visible_series():
            point = self.series[index].nearest(x)
            if point is not None:
                one = self.series[index]
                away = np.hypot((one.drawn_x[point] - x) / across * 3, (one.drawn_y[point] - y) / up)
                if best is None or away < best[0]:
                    best = (float(away), index, point)
        if best is None:
            self.leave()
        else:
            self._point(best[1], best[2])
            self.point_hovered.emit(best[2])

    def leave(self) -> None:
        self._at = None
        self._cursor.hide()
        self._pointed_dots.hide()
        super().leave()

    def click(self, x: float, y: float) -> None:
        self.hover(x, y)
        if self._at is not None:
            self.point_clicked.emit(self._at[1])

    def activate(self) -> None:
        if self._at is not None:
            self.point_clicked.emit(self._at[1])

    def unlock(self) -> None:
        self.leave()

    def move_selection(self, right: int, down: int) -> None:
        shown = self.visible_series()
        if not shown:
            return
        if self._at is None or self._at[0] not in shown or self._at[1] >= len(self.series[self._at[0]].x):
            one = self.series[shown[0]]
            middle = self.plot.box.viewRange()[0]
            point = one.nearest((middle[0] + middle[1]) / 2)
            if point is not None:
                self._point(shown[0], point)
            return
        index, point = self._at
        if down:
            index = shown[(shown.index(index) + down) % len(shown)]
            there = self.series[index].nearest(float(self.series[self._at[0]].drawn_x[point]))
            point = there if there is not None else point
        if right:
            drawable = np.flatnonzero(np.isfinite(self.series[index].drawn_y))
            if not len(drawable):
                return
            low, high = self.plot.box.viewRange()[0]
            within = np.count_nonzero((self.series[index].drawn_x >= low) & (self.series[index].drawn_x <= high))
            step = max(1, within // 200)
            place = int(np.searchsorted(drawable, point)) + right * step
            point = int(drawable[min(max(place, 0), len(drawable) - 1)])
        self._point(index, point)
        self.point_hovered.emit(point)

    def _point(self, index: int, point: int) -> None:
        """Mark and read out a point, with what the other series have there."""
        if index >= len(self.series) or point >= len(self.series[index].drawn_x) or index in self.hidden:
            self.leave()
            return
        self._at = (index, point)
        one = self.series[index]
        x = float(one.drawn_x[point])
        look = self.workbench.theme
        self._cursor.setPen(look.blend(look.muted, 0.55, look.canvas))
        self._cursor.setPos(x)
        self._cursor.show()
        told = [(index, point)]
        for other in self.visible_series():
            there = self.series[other].nearest(x) if other != index else None
            if there is not None and abs(self.series[other].drawn_x[there] - x) <= self.plot.pixel()[0] * 4:
                told.append((other, there))
        marked = np.asarray([[self.series[s].drawn_x[p], self.series[s].drawn_y[p]] for s, p in told])
        colours = [series_colour(self.workbench.theme.name, s) for s, _ in told]
        self._pointed_dots.show_points(
            marked[:, 0], marked[:, 1], np.arange(len(told)), colours, size=9, rim=self.workbench.theme.canvas.name()
        )
        self._pointed_dots.show()
        self.read_out(self._said(told))

    def _said(self, told: list[tuple[int, int]]) -> str:
        index, point = told[0]
        parts = [f"{self.axes[0].label or 'x'} {quantity(self.series[index].x[point], self.axes[0])}"]
        alone = len(self.series) == 1
        for s, p in told[:TOLD]:
            one = self.series[s]
            text = quantity(one.y[p], self.axes[1])
            if one.low is not None and one.high is not None:
                text += f" ({number(one.low[p])} to {number(one.high[p])})"
            parts.append(f"{self.axes[1].label if alone and not one.name else one.name} {text}".strip())
        if len(told) > TOLD:
            parts.append(f"and {len(told) - TOLD} more")
        return " · ".join(parts)

    def idle_text(self) -> str:
        missing = said_of_points(sum(one.left_out() for one in self.series), self.log["x"] or self.log["y"])
        note = super().idle_text()
        return " · ".join(part for part in (missing, note) if part)
