"""One axis of a plot: at most six ticks, numbers or words, a light grid, a label with its unit.

Data are in *axis coordinates*: on a log axis these are the logarithms to base ten, which the views
compute themselves, so that the axis is the only thing that knows how to write them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from PySide6.QtCore import QLineF, QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPen

from app.theme import Theme, body, small
from app.views.setup import pg
from engine.figures.kinds import Axis
from engine.figures.words import every, tick_number

MOST = 6
ROOM = {"bottom": 60, "left": 26}  # pixels from tick to tick at least
LONGEST = {"bottom": 92, "left": 150}  # pixels a word at a tick may take
SHARE, WIDEST = 0.45, 230  # of a plot's width that words at its left may take, and pixels of that at most
GAP = 8
NUMBERS = 10  # numbered rows or columns that are named at most


class PlotAxis(pg.AxisItem):  # type: ignore[misc]
    """An axis that shows numbers (linear or log) or one word per whole number."""

    # On the class: pyqtgraph resizes an axis while it is being made.
    meaning = Axis("")
    log = False
    words: list[str] | None = None
    upright = numeric = False
    range = [0.0, 1.0]  # noqa: RUF012 (replaced, never changed in place)
    _drawn: tuple[tuple[Any, ...], list[tuple[QLineF, QRectF, str]]] | None = None

    def __init__(self, orientation: str) -> None:
        self._font = small()
        self._metrics = QFontMetricsF(self._font)
        self._longest = 0.0  # width of the widest word
        self._label_font = body()
        self._label_metrics = QFontMetricsF(self._label_font)
        self._label_pen = QPen()
        super().__init__(orientation)
        self.setStyle(autoReduceTextSpace=False, tickLength=0)

    def dress(self, look: Theme) -> None:
        """Take the theme's colours."""
        self._font = small()
        self._metrics = QFontMetricsF(self._font)
        self._drawn = None
        self.setTextPen(look.muted)
        self.setTickPen(look.line)
        self.setPen(look.line)
        self._label_font = body()
        self._label_metrics = QFontMetricsF(self._label_font)
        self._label_pen = QPen(look.text)
        self._show_label()

    def mean(self, meaning: Axis, log: bool = False) -> None:
        """Say what the numbers are; ``log`` when they are logarithms to base ten."""
        if (meaning, log, None) != (self.meaning, self.log, self.words):
            self.meaning, self.log, self.words = meaning, log, None
            self._show_label()
            self._forget_room()

    def name(self, meaning: Axis, words: list[str], *, numeric: bool = False) -> None:
        """Show ``words[i]`` at the whole number i; ``numeric`` ones stay level, and few are enough."""
        if (meaning, words, numeric) != (self.meaning, self.words, self.numeric):
            self.meaning, self.words, self.log, self.numeric = meaning, words, False, numeric
            self._longest = max((self._metrics.horizontalAdvance(word) for word in words), default=0.0)
            self._show_label()
            self.fit_words()

    def setRange(self, mn: float, mx: float) -> None:
        """Take the range of the view. pyqtgraph's own also lays the label out anew each time."""
        if [mn, mx] != self.range and math.isfinite(mx - mn):
            self.range = [mn, mx]
            self._make_room()
            self.update()

    def show_grid(self, shown: bool) -> None:
        self.setGrid(255 if shown else False)

    def _show_label(self) -> None:
        # Drawn by `paint`: pyqtgraph's label is laid out as HTML and overlaps what it has no room for.
        self.showLabel(False)
        (self._updateHeight if self.orientation == "bottom" else self._updateWidth)()
        self.update()

    def label_within(self, room: float) -> str:
        """The label with its unit; the unit alone, or a cut label, where there is no room for it."""
        whole = self.meaning.text()
        for text in (whole, self.meaning.unit):
            if text and self._label_metrics.horizontalAdvance(text) <= room:
                return text
        return self._label_metrics.elidedText(whole, Qt.TextElideMode.ElideRight, room)

    # ---- numbers

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float | None, list[float]]]:
        low, high = sorted((float(minVal), float(maxVal)))
        if not math.isfinite(high - low) or high <= low:
            return []
        low, high = low - 1e-9 * (high - low), high + 1e-9 * (high - low)  # a tick at the very end counts
        most = int(np.clip(size / ROOM.get(self.orientation, 60), 3, MOST))
        if self.log:
            return [(None, log_ticks(low, high, most))]
        ticks = linear_ticks(low, high, most)
        return [(ticks[1] - ticks[0] if len(ticks) > 1 else None, ticks)]

    def tickStrings(self, values: list[float], scale: float, spacing: float | None) -> list[str]:
        if self.log:
            return [tick_number(10.0**value) if abs(value) < 300 else "" for value in values]
        return linear_words(values)

    # ---- words

    def fit_words(self) -> None:
        """Choose between level and upright words, and make room for them."""
        if self.words is None:
            return
        longest = self._longest
        bounded = min(longest, self._longest_word())
        if self.orientation == "bottom":
            self.upright = self._crowded(longest)
            self.textHeight = round(bounded) + 4 if self.upright else round(self._metrics.height())
            self._updateHeight()
        else:
            self.textWidth = round(bounded) + 4
            self._updateWidth()
        self.update()

    def _longest_word(self) -> float:
        """Pixels that a word may take: beside a wide plot more than beside a narrow one."""
        view, most = self.linkedView(), LONGEST[self.orientation]
        if self.orientation == "bottom" or view is None:
            return most
        return float(max(most, min(WIDEST, SHARE * (view.width() + self.width()))))

    def _forget_room(self) -> None:
        self.upright = False
        if self.orientation == "bottom":
            self.textHeight = round(self._metrics.height())
            self._updateHeight()
        else:
            self.textWidth = 30
            self._updateWidth()
        self._make_room()
        self.update()

    def _make_room(self) -> None:
        """Widen an upright axis for the numbers it shows now; it never narrows, so that live plots stand still."""
        if self.words is None and self.orientation == "left":
            metrics = self._metrics
            words = self.tickStrings(self._places(), 1.0, None)
            widest = math.ceil(max((metrics.horizontalAdvance(word) for word in words), default=0.0))
            if widest > self.textWidth:
                self.textWidth = widest
                self._updateWidth()

    def resizeEvent(self, event: Any = None) -> None:
        super().resizeEvent(event)
        if self.words is None:
            return
        if self.orientation == "left":
            if round(min(self._longest, self._longest_word())) + 4 != self.textWidth:
                self.fit_words()
        elif self._crowded(self._longest) != self.upright:
            self.fit_words()

    def _crowded(self, longest: float) -> bool:
        """Whether level words would touch."""
        length = self.geometry().width()
        return not self.numeric and length > 0 and (longest + GAP) * len(self.words or ()) > length

    def boundingRect(self) -> QRectF:
        # With a grid pyqtgraph leaves no room beyond the ends, where labels stand too.
        across, up = (30, 0) if self.orientation == "bottom" else (0, 12)
        return QRectF(super().boundingRect()).adjusted(-across, -up, across, up)

    def _label_height(self) -> float:
        return self._label_metrics.height() + 2 if self.meaning.text() else 0.0

    def _updateHeight(self) -> None:
        self._fix(self.setMinimumHeight, self.setMaximumHeight, self.textHeight + 4 + self._label_height())

    def _updateWidth(self) -> None:
        self._fix(self.setMinimumWidth, self.setMaximumWidth, self.textWidth + 8 + self._label_height())

    def _fix(self, least: Callable[[float], None], most: Callable[[float], None], size: float) -> None:
        size = size if self.isVisible() else 0
        most(size)
        least(size)

    # ---- drawing

    def _places(self) -> list[float]:
        """Where ticks stand, in axis coordinates."""
        bounds = self.geometry()
        length = bounds.width() if self.orientation == "bottom" else bounds.height()
        levels = self.tickValues(self.range[0], self.range[1], length)
        return levels[0][1] if levels else []

    def _number_specs(self) -> list[tuple[QLineF, QRectF, str]]:
        """Grid line, rectangle and text of each number."""
        bounds = self.mapRectFromParent(self.geometry())
        low, high = self.range
        view = self.linkedView()
        if high == low or view is None:
            return []
        inner = view.mapRectToItem(self, view.boundingRect())
        metrics = self._metrics
        tall, specs = metrics.height(), []
        places = self._places()
        for place, word in zip(places, self.tickStrings(places, 1.0, None), strict=True):
            share = (place - low) / (high - low)
            if self.orientation == "bottom":
                at = round(bounds.left() + share * bounds.width())
                wide = metrics.horizontalAdvance(word) + 2
                line = QLineF(at, inner.top(), at, inner.bottom())
                specs.append((line, QRectF(at - wide / 2, bounds.top() + 3, wide, tall), word))
            else:
                at = round(bounds.top() + (1 - share) * bounds.height())
                line = QLineF(inner.left(), at, inner.right(), at)
                specs.append((line, QRectF(bounds.left(), at - tall / 2, bounds.width() - 6, tall), word))
        return specs

    def _word_specs(self) -> list[tuple[QRectF, int, str]]:
        """Rectangle, flags and text of each word that is in view and has room."""
        bounds = self.mapRectFromParent(self.geometry())
        flat = self.orientation == "bottom"
        length = bounds.width() if flat else bounds.height()
        low, high = self.range
        if self.words is None or high == low or length <= 0:
            return []
        metrics = self._metrics
        first, last = max(math.ceil(min(low, high)), 0), min(math.floor(max(low, high)), len(self.words) - 1)
        wanted = min(self._longest, LONGEST["bottom"]) + GAP if flat and not self.upright else metrics.height()
        room = int(length / max(wanted, 1))
        step = every(math.ceil(abs(high - low) - 1e-6), min(room, NUMBERS) if self.numeric else room)
        specs: list[tuple[QRectF, int, int]] = []
        for place in range(-(-first // step) * step, last + 1, step):
            share = (place - low) / (high - low)
            if flat:
                at = bounds.left() + share * length
                box = QRectF(at - wanted / 2, bounds.top() + 3, wanted, metrics.height())
                if self.upright:
                    box = QRectF(at - metrics.height() / 2, bounds.top() + 3, metrics.height(), LONGEST["bottom"])
                flags = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop
            else:
                at = bounds.top() + (1 - share) * length
                box = QRectF(bounds.left(), at - metrics.height() / 2, bounds.width() - 4, metrics.height())
                flags = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            specs.append((box, flags.value, place))
        across = self.textWidth if not flat else LONGEST["bottom"] if self.upright else wanted
        shown = [self.words[place] for _, _, place in specs]
        texts = [metrics.elidedText(word, Qt.TextElideMode.ElideRight, across) for word in shown]
        if len(set(texts)) < len(set(shown)):  # cut at the end they are the same: then that is where they differ
            texts = [metrics.elidedText(word, Qt.TextElideMode.ElideMiddle, across) for word in shown]
        return [(box, flags, text) for (box, flags, _), text in zip(specs, texts, strict=True)]

    def paint(self, p: QPainter, *_: Any) -> None:
        p.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        p.setRenderHint(QPainter.RenderHint.TextAntialiasing, True)
        self._paint_label(p)
        p.setFont(self._font)
        if self.words is not None:
            p.setPen(self.textPen())
            for box, flags, text in self._word_specs():
                self._write(p, box, flags, text)
            return
        view = self.linkedView()
        key = (*self.range, self.geometry().getRect(), view.geometry().getRect() if view is not None else None,
               self.meaning, self.log)  # fmt: skip
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, self._number_specs())
        if self.grid_shown:
            p.setPen(self.tickPen())
            p.drawLines([line for line, _, _ in self._drawn[1]])
        p.setPen(self.textPen())
        side = Qt.AlignmentFlag.AlignHCenter if self.orientation == "bottom" else Qt.AlignmentFlag.AlignRight
        flags = int((side | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextDontClip).value)
        for _, box, word in self._drawn[1]:
            p.drawText(box, flags, word)

    def _paint_label(self, p: QPainter) -> None:
        size, tall = self.size(), self._label_metrics.height()
        if not self.meaning.text() or not self.isVisible():
            return
        p.setFont(self._label_font)
        p.setPen(self._label_pen)
        middle = int((Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextDontClip).value)
        if self.orientation == "bottom":
            p.drawText(QRectF(0, size.height() - tall, size.width(), tall), middle, self.label_within(size.width()))
            return
        p.save()
        p.translate(0, size.height() / 2)
        p.rotate(-90)
        room = size.height()
        p.drawText(QRectF(-room / 2, 0, room, tall), middle, self.label_within(room))
        p.restore()

    def _write(self, p: QPainter, box: QRectF, flags: int, text: str) -> None:
        if not self.upright:
            p.drawText(box, flags, text)
            return
        p.save()
        p.translate(box.center().x(), box.top())
        p.rotate(-90)
        along = QRectF(-box.height(), -box.width() / 2, box.height(), box.width())
        p.drawText(along, int((Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter).value), text)
        p.restore()

    @property
    def grid_shown(self) -> bool:
        return self.grid is not False

    @property
    def shown_words(self) -> list[str]:
        """The words that are drawn now."""
        return [text for _, _, text in self._word_specs()]


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between ``low`` and ``high``: at most ``most`` of them, a step of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    finer: list[float] = []
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        ticks = [count * step for count in range(first, last + 1)]
        if len(ticks) <= most:
            break
        finer = ticks
    return ticks if len(ticks) > 1 or len(finer) > MOST else finer or ticks


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Ticks between two logarithms: decades, with 2 and 5 of each where there is room, or round numbers within one."""
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    if last - first >= most:
        step = every(last - first + 1, most)
        return [float(place) for place in range(-(-first // step) * step, last + 1, step)]
    decades = range(first - 1, last + 1)
    for parts in ((1, 2, 5), (1, 3), (1,)):
        places = [decade + math.log10(part) for decade in decades for part in parts]
        inside = [place for place in places if low - 1e-9 <= place <= high + 1e-9]
        if len(inside) <= most:
            break
    if len(inside) < 2 and abs(high) < 300:
        return [math.log10(tick) for tick in linear_ticks(10.0**low, 10.0**high, most) if tick > 0]
    return inside


def linear_words(values: list[float]) -> list[str]:
    """Numbers at ticks, all with as many decimals as their step needs."""
    if not values:
        return []
    size = max(abs(value) for value in values)
    step = min((abs(b - a) for a, b in pairwise(values)), default=size or 1.0)
    if size >= 1e6 or 0 < size < 1e-3 or (step > 0 and step < 1e-5):
        return [tick_number(value) for value in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    decimals += int(abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6)
    return [f"{value:,.{decimals}f}" if abs(value) > 1e-12 else "0" for value in values]
