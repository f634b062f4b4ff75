"""The plotting surface: a themed pyqtgraph plot with its own axes, keys and mouse manners.

- drag pans, Ctrl + wheel zooms, and so does the wheel alone once the plot has the focus (otherwise it
  scrolls the page that the plot lies on)
- it never ranges itself: the view says what to show (`show_range`), until a person zooms or pans
"""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from PySide6.QtWidgets import QFrame, QWidget

from app.theme import Theme
from app.views.axes import PlotAxis
from app.views.setup import pg

PAD = 0.04  # share of the range left free at each side
ZOOM = 1.25  # factor of one key press


class Plot(pg.PlotWidget):  # type: ignore[misc]
    """A plot without frame.

    Signals:
        moved: the mouse is at (x, y) in axis coordinates.
        left: the mouse went away.
        clicked: a click at (x, y); a drag is none.
        resized: the picture has another size.
        zoomed: a person panned or zoomed.
    """

    moved = Signal(float, float)
    left = Signal()
    clicked = Signal(float, float)
    resized = Signal()
    zoomed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        self.x_axis, self.y_axis = PlotAxis("bottom"), PlotAxis("left")
        self._by_key = False
        self._ring = QPen()
        super().__init__(parent, axisItems={"bottom": self.x_axis, "left": self.y_axis})
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(80, 60)
        self.item = self.getPlotItem()
        self.item.setMenuEnabled(False)
        self.item.hideButtons()
        self.item.layout.setContentsMargins(0, 6, 8, 0)
        self.box = self.item.getViewBox()
        self.box.disableAutoRange()
        self.box.setDefaultPadding(0)
        for unused in ("top", "right"):
            self.item.getAxis(unused).unlinkFromView()  # hidden, but would follow each range
        for axis in (self.x_axis, self.y_axis):
            axis.setZValue(-1000)  # the grid lies under the data
        self.following = True
        self.box.sigRangeChangedManually.connect(self._by_hand)
        self.scene().sigMouseMoved.connect(self._mouse)
        self.scene().sigMouseClicked.connect(self._click)

    def dress(self, look: Theme) -> None:
        """Take the theme's colours."""
        self.setBackground(look.canvas)
        self._ring = QPen(look.accent, 1)
        for axis in (self.x_axis, self.y_axis):
            axis.dress(look)

    # ---- range

    def show_range(self, x: tuple[float, float] | None, y: tuple[float, float] | None, pad: float = PAD) -> None:
        """Show this range while nobody has zoomed; a None leaves that axis alone."""
        if self.following:
            self._set(x, y, pad)

    def _set(self, x: tuple[float, float] | None, y: tuple[float, float] | None, pad: float) -> None:
        for side, wanted in (("x", x), ("y", y)):
            if wanted is not None:
                low, high = widened(*wanted, pad)
                now = self.box.viewRange()[0 if side == "x" else 1]
                if not np.allclose(now, (low, high), rtol=1e-12, atol=0):
                    self.box.setRange(**{f"{side}Range": (low, high)}, padding=0, disableAutoRange=False)
        # pyqtgraph moves the items only while it paints, which asks for a second painting.
        self.box.updateMatrix()

    def follow(self) -> None:
        """Let the view say what to show again."""
        self.following = True

    def _by_hand(self, *_: object) -> None:
        self.following = False
        self.zoomed.emit()

    def zoom(self, factor: float) -> None:
        """Zoom by ``factor`` about the middle (above 1 is closer)."""
        self.box.scaleBy((1 / factor, 1 / factor))
        self._by_hand()

    def pan(self, x: float, y: float) -> None:
        """Move by shares of what is shown."""
        (x0, x1), (y0, y1) = self.box.viewRange()
        self.box.translateBy(x=x * (x1 - x0), y=y * (y1 - y0))
        self._by_hand()

    def pixel(self) -> tuple[float, float]:
        """Axis coordinates that one pixel takes, across and up."""
        (x0, x1), (y0, y1) = self.box.viewRange()
        width, height = max(self.box.width(), 1.0), max(self.box.height(), 1.0)
        return (x1 - x0) / width, (y1 - y0) / height

    def to_widget(self, x: float, y: float) -> QPointF:
        """Where axis coordinates (x, y) are drawn, in pixels of this widget."""
        return QPointF(self.mapFromScene(self.box.mapViewToScene(QPointF(x, y))))

    def inner(self) -> QRectF:
        """The rectangle that the data are drawn in, in pixels of this widget."""
        return QRectF(self.mapFromScene(self.box.sceneBoundingRect()).boundingRect())

    # ---- mouse and keys

    def _mouse(self, at: QPointF) -> None:
        if self.box.sceneBoundingRect().contains(at):
            point = self.box.mapSceneToView(at)
            self.moved.emit(point.x(), point.y())
        else:
            self.left.emit()

    def _click(self, event: object) -> None:
        at = event.scenePos()  # type: ignore[attr-defined]
        button = event.button()  # type: ignore[attr-defined]
        if button == Qt.MouseButton.LeftButton and self.box.sceneBoundingRect().contains(at):
            point = self.box.mapSceneToView(at)
            self.clicked.emit(point.x(), point.y())

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.left.emit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus() or event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            super().wheelEvent(event)
        else:
            event.ignore()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        event.ignore()  # the view around it knows what keys do

    def resizeEvent(self, event: object) -> None:
        super().resizeEvent(event)
        self.resized.emit()

    # ---- focus by key is shown

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._by_key = event.reason() in (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason)
        super().focusInEvent(event)
        self.viewport().update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        self._by_key = False
        super().focusOutEvent(event)
        self.viewport().update()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self._by_key:
            painter = QPainter(self.viewport())
            painter.setPen(self._ring)
            painter.drawRect(self.viewport().rect().adjusted(0, 0, -1, -1))
            painter.end()


def widened(low: float, high: float, pad: float = PAD) -> tuple[float, float]:
    """A range with room at both ends; a range of no extent gets one."""
    if high < low:
        low, high = high, low
    extent = high - low
    if extent <= abs(low) * 1e-12:
        extent = abs(low) * 0.1 or 1.0
        return low - extent / 2, high + extent / 2
    return low - pad * extent, high + pad * extent
