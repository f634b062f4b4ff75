"""The strength of steering: a slider that shows 0 and the data's own range, and the exact number beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractSlider, QHBoxLayout, QLabel, QSizePolicy, QWidget

from app.panels.inputs import Exact, WheelWithFocus
from app.panels.steering_words import signed
from app.theme import RADIUS, S, edge, small

if TYPE_CHECKING:
    from app.workbench import Workbench

MARGIN = 14  # pixels beside the track: half a handle, and half of the number at an end
HANDLE = 8  # radius
STEPS = 120  # that a range has, about
PAGE = 10  # steps that Page up and Page down go
MOST = 100.0  # the experiment takes no strength beyond it
BAND = "the data's own range"


def nice_step(span: float) -> float:
    """1, 2 or 5 times a power of ten, so that ``span`` has about `STEPS` of them."""
    rough = max(span, 1e-9) / STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def marks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most`` of them; 0 is one where it lies between."""
    power = 10.0 ** math.floor(math.log10(max(high - low, 1e-9) / max(most, 2)))
    for factor in (1, 2, 5, 10, 20):
        gap = factor * power
        first, last = math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9)
        if last - first < most:
            return [round(place * gap, 9) for place in range(first, last + 1)]
    return [0.0]


class StrengthSlider(WheelWithFocus, QAbstractSlider):
    """A strength, by mouse and keys: arrows go a step, Page up and down ten, Home to 0.

    Signals:
        chosen: the strength, each time a person has moved it.
    """

    chosen = Signal(float)

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self.strength = 0.0
        self._low, self._high, self._step = 0.0, 0.0, 0.05
        self._band: tuple[float, float] | None = None
        self._shows = False
        self.setOrientation(Qt.Orientation.Horizontal)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Strength")
        self.setSingleStep(1)
        self.setPageStep(PAGE)
        self.valueChanged.connect(self._moved)
        workbench.theme_changed.connect(self.update)
        self.set_range(-3.0, 3.0)

    # ---- values

    @property
    def step(self) -> float:
        """How far an arrow key goes."""
        return self._step

    @property
    def range(self) -> tuple[float, float]:
        """The strengths at both ends."""
        return self._low, self._high

    @property
    def band(self) -> tuple[float, float] | None:
        """The data's own range, where it is known."""
        return self._band

    def set_range(self, low: float, high: float) -> None:
        """Let the slider go from ``low`` to ``high``; it always reaches 0 and the present strength."""
        low, high = min(low, 0.0, self.strength), max(high, 0.0, self.strength)
        if not high > low:
            low, high = -1.0, 1.0
        if (low, high) == (self._low, self._high):
            return
        self._low, self._high, self._step = low, high, nice_step(high - low)
        self._silently(lambda: self.setRange(math.floor(low / self._step + 1e-9), math.ceil(high / self._step - 1e-9)))
        self.show_strength(self.strength)

    def set_band(self, low: float | None, high: float | None) -> None:
        """Mark the data's own range; None where there is none."""
        self._band = None if low is None or high is None or not high > low else (low, high)
        self._describe()
        self.update()

    def show_strength(self, strength: float) -> None:
        """Take a strength, without a signal; one beyond the ends widens the range."""
        self.strength = min(max(strength, -MOST), MOST)
        if not self._low <= self.strength <= self._high:
            self.set_range(self._low, self._high)
        self._silently(lambda: self.setValue(round(self.strength / self._step)))
        self._describe()
        self.update()

    def _silently(self, change: object) -> None:
        self._shows, before = True, self._shows
        change()  # type: ignore[operator]
        self._shows = before

    def _moved(self, value: int) -> None:
        if self._shows:
            return
        self.strength = min(max(round(value * self._step, 9), self._low), self._high)
        self._describe()
        self.update()
        self.chosen.emit(self.strength)

    def _describe(self) -> None:
        """Say the value as it is: what Qt itself tells a screen reader counts steps."""
        told = f"{signed(self.strength)} of {signed(self._low)} to {signed(self._high)}"
        if self._band is not None:
            told += f"; {BAND} is {signed(self._band[0])} to {signed(self._band[1])}"
        self.setAccessibleDescription(told)
        self.setToolTip(
            f"Strength {told}.\nArrow keys: {self._step:g}, Page up and down: {PAGE * self._step:g}, Home: 0"
        )

    # ---- mouse and keys

    def place_of(self, strength: float) -> float:
        """Where a strength lies, in pixels from the left."""
        return MARGIN + (strength - self._low) / (self._high - self._low) * max(self.width() - 2 * MARGIN, 1)

    def _go(self, x: float) -> None:
        share = (x - MARGIN) / max(self.width() - 2 * MARGIN, 1)
        self.setSliderPosition(round((self._low + share * (self._high - self._low)) / self._step))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.setSliderDown(True)
            self._go(event.position().x())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self.isSliderDown():
            self._go(event.position().x())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.setSliderDown(False)
            self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Home:
            self.setValue(0)
            if self.strength:  # it was nearer to 0 than a step
                self._moved(0)
        else:
            super().keyPressEvent(event)

    # ---- picture

    def sizeHint(self) -> QSize:
        return QSize(320, 2 * QFontMetrics(small()).height() + 2 * HANDLE + 6)

    def minimumSizeHint(self) -> QSize:
        return QSize(160, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        look, font = self.workbench.theme, small()
        tall = QFontMetrics(font).height()
        middle = tall + HANDLE + 2
        painter = QPainter(self)
        painter.setFont(font)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_band(painter, middle, tall)
        left, right = self.place_of(self._low), self.place_of(self._high)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(edge(look))
        painter.drawRoundedRect(QRectF(left, middle - 2, right - left, 4), 2, 2)
        zero, here = self.place_of(0.0), self.place_of(self.strength)
        painter.setBrush(look.accent)
        painter.drawRect(QRectF(min(zero, here), middle - 2, abs(here - zero), 4))
        self._paint_marks(painter, middle, tall)
        painter.setBrush(look.accent)
        painter.setPen(QPen(look.text if self.hasFocus() else look.canvas, 2))
        painter.drawEllipse(QPointF(here, middle), HANDLE - 1, HANDLE - 1)
        painter.end()

    def _paint_band(self, painter: QPainter, middle: float, tall: int) -> None:
        if self._band is None:
            return
        look = self.workbench.theme
        left, right = (self.place_of(min(max(end, self._low), self._high)) for end in self._band)
        painter.setPen(QPen(edge(look), 1))
        painter.setBrush(look.blend(look.accent, 0.2, look.canvas))
        painter.drawRoundedRect(QRectF(left, middle - HANDLE, right - left, 2 * HANDLE), RADIUS, RADIUS)
        painter.setPen(look.muted)
        wide = QFontMetrics(painter.font()).horizontalAdvance(BAND) + 2
        start = min(max((left + right - wide) / 2, 0.0), max(self.width() - wide, 0.0))
        painter.drawText(QRectF(start, 0, wide, tall), Qt.AlignmentFlag.AlignCenter, BAND)

    def _paint_marks(self, painter: QPainter, middle: float, tall: int) -> None:
        look = self.workbench.theme
        for value in marks(self._low, self._high, max(3, min(9, self.width() // 60))):
            x = self.place_of(value)
            painter.setPen(QPen(look.text if value == 0 else look.muted, 2 if value == 0 else 1))
            painter.drawLine(QPointF(x, middle + (-HANDLE if value == 0 else 2)), QPointF(x, middle + HANDLE))
            place = QRectF(x - 40, middle + HANDLE + 1, 80, tall)
            place.moveLeft(min(max(place.left(), 0.0 - 40 + MARGIN), self.width() - 80 + 40 - MARGIN))
            painter.drawText(place, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop, signed(value))


class Strength(QWidget):
    """Slider and exact number, which show the same strength.

    Signals:
        chosen: the strength, each time a person has changed it.
    """

    chosen = Signal(float)

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = StrengthSlider(workbench)
        self.exact = Exact("Strength, exact")
        self.exact.setRange(-MOST, MOST)
        self.exact.setDecimals(2)
        self.exact.setMinimumWidth(84)
        self.exact.setToolTip("The exact strength; it may lie beyond the ends of the slider")
        words = QLabel("Strength")
        words.setBuddy(self.slider)
        whole = QHBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        whole.addWidget(words)
        whole.addWidget(self.slider, 1)
        whole.addWidget(self.exact)
        self.slider.chosen.connect(self._slid)
        self.exact.valueChanged.connect(self._typed)

    @property
    def strength(self) -> float:
        return self.slider.strength

    @property
    def is_dragged(self) -> bool:
        """Whether the mouse holds the handle."""
        return self.slider.isSliderDown()

    def show_strength(self, strength: float) -> None:
        """Take a strength, without a signal."""
        self.slider.show_strength(strength)
        self._show_exact()

    def bound(self, ends: tuple[float, float] | None, band: tuple[float, float] | None) -> None:
        """Take what the data say: the ends of the slider and the data's own range."""
        if ends is not None and not self.is_dragged:  # under the mouse the scale stays
            self.slider.set_range(*ends)
        self.slider.set_band(*(band or (None, None)))
        self._show_exact()

    def _show_exact(self) -> None:
        self.exact.blockSignals(True)
        self.exact.setSingleStep(self.slider.step)
        self.exact.setDecimals(max(2, math.ceil(-math.log10(self.slider.step))))
        self.exact.setValue(self.slider.strength)
        self.exact.blockSignals(False)

    def _slid(self, strength: float) -> None:
        self._show_exact()
        self.chosen.emit(strength)

    def _typed(self, strength: float) -> None:
        self.slider.show_strength(strength)
        self.chosen.emit(self.slider.strength)
