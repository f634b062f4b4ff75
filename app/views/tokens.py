"""Token strips: tokens in a wrapping flow, each shaded by its value. Only visible lines are painted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QEvent, QPoint, QRectF, Qt, Signal
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFocusEvent,
    QFontMetricsF,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QToolTip, QWidget

from app.theme import RADIUS, Theme, mono
from app.views.base import FigureView
from engine.figures.cells import strip_top
from engine.figures.kinds import TokenStrip
from engine.figures.palette import CHALK, INK, dark_ink, mixed_shade
from engine.figures.words import named, visible_token

LEADING = 8  # pixels between lines of tokens
GAP = 2  # pixels between tokens: where a token is a whole word, there is no space that parts it from the next


class TokenFlow(QAbstractScrollArea):
    """The tokens. Values are shades, the locked token has a frame.

    Signals:
        hovered: the token under the mouse, -1 for none.
        picked: a token was clicked.
    """

    hovered = Signal(int)
    picked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.viewport().setMouseTracking(True)
        self.viewport().setAutoFillBackground(False)
        self.setMinimumHeight(34)
        self.texts: list[str] = []
        self.locked = self.pointed = -1
        self._look: Theme | None = None
        self._shades: npt.NDArray[np.float64] | None = None
        self._dark = self._missing = np.zeros(0, dtype=np.bool_)
        self._tips: list[str] = []
        self._widths = np.zeros(0)
        self._breaks = np.zeros(0, dtype=np.intp)
        self._starts = np.zeros(1, dtype=np.intp)  # first token of each line, and the count at the end
        self._left = np.zeros(0)

    def show_tokens(self, figure: TokenStrip, look: Theme) -> None:
        """Show tokens and shades."""
        self._look = look
        tokens = figure.tokens.tolist()
        kinds, place = np.unique(figure.tokens, return_inverse=True) if tokens else (figure.tokens, np.zeros(0, int))
        metrics = QFontMetricsF(mono())
        shown = [visible_token(token) for token in kinds.tolist()]
        self.texts = [shown[index] for index in place.tolist()]
        wide = np.asarray([metrics.horizontalAdvance(text) for text in shown])
        self._widths = wide[place] + GAP if tokens else np.zeros(0)
        self._breaks = np.flatnonzero([token.endswith("\n") for token in tokens]) + 1
        if figure.value is None:
            self._shades, self._missing = None, np.zeros(len(tokens), dtype=np.bool_)
        else:
            self._shades = mixed_shade(figure.value, look.name, top=strip_top(figure.value, figure.levels))
            self._dark = dark_ink(self._shades)
            self._missing = ~np.isfinite(np.asarray(figure.value, dtype=np.float64))
        self.locked = self.locked if self.locked < len(tokens) else -1
        self._wrap()

    # ---- layout

    @property
    def line_height(self) -> float:
        return QFontMetricsF(mono()).height() + LEADING

    @property
    def lines(self) -> int:
        return len(self._starts) - 1

    def _wrap(self) -> None:
        """Break lines greedily: each takes the tokens that fit, and ends after a newline."""
        count, room = len(self._widths), max(float(self.viewport().width()) - 4, 20.0)
        ends = np.concatenate([[0.0], np.cumsum(self._widths)])
        starts, at = [0], 0
        while at < count:
            stop = int(np.searchsorted(ends, ends[at] + room, "right")) - 1
            after = np.searchsorted(self._breaks, at, "right")
            if after < len(self._breaks):
                stop = min(stop, int(self._breaks[after]))
            at = max(stop, at + 1)
            starts.append(at)
        self._starts = np.asarray(starts, dtype=np.intp)
        line = np.repeat(np.arange(len(starts) - 1), np.diff(self._starts))
        self._left = ends[:-1] - ends[self._starts[line]] + 2 if count else np.zeros(0)
        tall = self.viewport().height()
        self.verticalScrollBar().setRange(0, max(0, round(self.lines * self.line_height + LEADING) - tall))
        self.verticalScrollBar().setPageStep(tall)
        self.verticalScrollBar().setSingleStep(round(self.line_height))
        self.viewport().update()

    def line_of(self, token: int) -> int:
        return int(np.searchsorted(self._starts, token, "right")) - 1

    def rectangle(self, token: int) -> QRectF:
        """Where a token is drawn, in pixels of the viewport."""
        top = self.line_of(token) * self.line_height + LEADING / 2 - self.verticalScrollBar().value()
        wide = min(self._widths[token], self.viewport().width() - 4) - GAP
        return QRectF(self._left[token], top, wide, self.line_height - 3)

    def token_at(self, place: QPoint) -> int:
        """The token at a place of the viewport; -1 for none."""
        line = int((place.y() + self.verticalScrollBar().value() - LEADING / 2) // self.line_height)
        if not 0 <= line < self.lines:
            return -1
        first, last = int(self._starts[line]), int(self._starts[line + 1])
        token = first + int(np.searchsorted(self._left[first:last], place.x(), "right")) - 1
        return token if first <= token < last and self.rectangle(token).right() + GAP >= place.x() else -1

    def beside(self, token: int, right: int, down: int) -> int:
        """The token that is so many places to the right and lines down."""
        if down:
            line = min(max(self.line_of(token) + down, 0), self.lines - 1)
            first, last = int(self._starts[line]), int(self._starts[line + 1])
            middle = self._left[first:last] + self._widths[first:last] / 2
            here = self._left[token] + self._widths[token] / 2
            token = first + int(np.argmin(np.abs(middle - here)))
        return min(max(token + right, 0), len(self.texts) - 1)

    def lock(self, token: int) -> None:
        """Frame a token and scroll to it; -1 lets go."""
        self.locked = token
        if 0 <= token < len(self.texts):
            box, bar = self.rectangle(token), self.verticalScrollBar()
            if box.top() < 0:
                bar.setValue(bar.value() + round(box.top()) - LEADING)
            elif box.bottom() > self.viewport().height():
                bar.setValue(bar.value() + round(box.bottom()) - self.viewport().height() + LEADING)
        self.viewport().update()

    # ---- painting

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._look is None:
            return
        painter = QPainter(self.viewport())
        painter.fillRect(event.rect(), self._look.canvas)
        painter.setFont(mono())
        metrics = QFontMetricsF(mono())
        offset, tall = self.verticalScrollBar().value(), self.line_height
        first = max(int((event.rect().top() + offset) // tall) - 1, 0)
        last = min(int((event.rect().bottom() + offset) // tall) + 1, self.lines - 1)
        ink, chalk = QColor(INK), QColor(CHALK)
        for token in range(int(self._starts[first]), int(self._starts[last + 1]) if self.lines else 0):
            box = self.rectangle(token)
            text_colour = self._look.text
            if self._missing[token]:
                painter.fillRect(box, self._look.blend(self._look.missing, 0.5, self._look.canvas))
                painter.fillRect(box, QBrush(self._look.muted, Qt.BrushStyle.BDiagPattern))
            elif self._shades is not None:
                painter.fillRect(box, QColor(*np.rint(self._shades[token]).astype(int).tolist()))
                text_colour = ink if self._dark[token] else chalk
            painter.setPen(text_colour)
            text = self.texts[token]
            if self._widths[token] - GAP > box.width() + 0.5:
                text = metrics.elidedText(text, Qt.TextElideMode.ElideRight, box.width())
            painter.drawText(box, int((Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter).value), text)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for token, colour, thick in ((self.pointed, self._look.muted, 1.0), (self.locked, self._look.accent, 2.0)):
            if 0 <= token < len(self.texts):
                painter.setPen(QPen(colour, thick))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRoundedRect(self.rectangle(token).adjusted(-1, -1, 1, 1), RADIUS / 2, RADIUS / 2)
        painter.end()

    # ---- mouse and keys

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._wrap()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self.point(self.token_at(event.position().toPoint()))

    def point(self, token: int) -> None:
        """Take ``token`` as what the mouse is on."""
        if token != self.pointed:
            self.pointed = token
            self.viewport().update()
            self.hovered.emit(token)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        token = self.token_at(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and token >= 0:
            self.lock(token)
            self.picked.emit(token)

    def viewportEvent(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Leave:
            self.point(-1)
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            token = self.token_at(event.pos())
            if token >= 0 and token < len(self._tips):
                QToolTip.showText(event.globalPos(), self._tips[token], self)
            else:
                QToolTip.hideText()
            return True
        return super().viewportEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        event.ignore()  # the view around it knows what keys do

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.viewport().update()

    def set_tips(self, tips: list[str]) -> None:
        """What the tool tip of each token says."""
        self._tips = tips


class TokenStripView(FigureView):
    """A `TokenStrip`. Hover reads a token out, a click locks it, arrow keys go from token to token."""

    empty_hint = "There are no tokens yet. They appear here when there is text to show."

    def make_content(self) -> QWidget:
        self.flow = TokenFlow()
        self.flow.hovered.connect(self._hovered)
        self.flow.picked.connect(self._picked)
        return self.flow

    def is_empty(self) -> bool:
        return self.figure is None or len(self.figure.tokens) == 0

    def draw(self) -> None:
        self.flow.show_tokens(self.figure, self.workbench.theme)
        few = len(self.figure.tokens) <= 5000
        self.flow.set_tips([self._said(token) for token in range(len(self.figure.tokens))] if few else [])
        if self.flow.locked >= 0:
            self.read_out(self._said(self.flow.locked))

    @property
    def locked_token(self) -> int | None:
        return self.flow.locked if self.flow.locked >= 0 else None

    def pick_point(self, index: int) -> None:
        """Lock a token without a signal."""
        self.flow.lock(index)
        if not self.is_empty() and 0 <= index < len(self.figure.tokens):
            self.read_out(self._said(index))

    def _hovered(self, token: int) -> None:
        if token >= 0:
            self.read_out(self._said(token))
            self.point_hovered.emit(token)
        else:
            self.read_out(self._said(self.flow.locked) if self.flow.locked >= 0 else "")

    def _picked(self, token: int) -> None:
        self.read_out(self._said(token))
        self.point_clicked.emit(token)

    def move_selection(self, right: int, down: int) -> None:
        if self.is_empty():
            return
        token = self.flow.beside(self.flow.locked, right, down) if self.flow.locked >= 0 else 0
        self.flow.lock(token)
        self._picked(token)

    def activate(self) -> None:
        if self.flow.locked >= 0:
            self.point_clicked.emit(self.flow.locked)

    def unlock(self) -> None:
        self.flow.lock(-1)
        self.read_out("")

    def _said(self, token: int) -> str:
        figure: TokenStrip = self.figure
        parts = [f"Position {token:,}", f"“{visible_token(str(figure.tokens[token]))}”"]
        if figure.value is not None:
            parts.append(named(float(figure.value[token]), figure.value_axis))
        return " · ".join(parts)

    def idle_text(self) -> str:
        figure: TokenStrip | None = self.figure
        parts = []
        if figure is not None and figure.value is not None and len(figure.tokens):
            parts.append(f"full shade at {named(strip_top(figure.value, figure.levels), figure.value_axis)}")
            lost = int(np.count_nonzero(~np.isfinite(figure.value)))
            parts += [f"{lost:,} not finite (hatched)"] if lost else []
        return " · ".join(part for part in (*parts, super().idle_text()) if part)
