"""A workbench without window, session or engine, and views shown over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QApplication, QWidget

from app import theme as themes
from app.views import make_view
from app.views.base import FigureView
from app.workbench import Workbench
from engine.figures.kinds import Figure


@pytest.fixture
def bench(qapp: QApplication, home: object) -> Iterator[Workbench]:
    qapp.setStyle("Fusion")
    made = Workbench()
    made.theme = themes.theme("light")
    themes.apply(qapp, made.theme)
    yield made
    made.end()
    qapp.setStyleSheet("")


@pytest.fixture
def show(qtbot: Any, bench: Workbench) -> Callable[..., Any]:
    """Show a figure, or a view, and wait until it is painted."""

    def shown(thing: Figure | FigureView, width: int = 640, height: int = 400) -> Any:
        view = make_view(thing, bench) if isinstance(thing, Figure) else thing
        qtbot.addWidget(view)
        view.resize(width, height)
        view.show()
        qtbot.waitExposed(view)
        settle(qtbot, view)
        return view

    return shown


def settle(qtbot: Any, view: FigureView) -> None:
    """Wait until nothing about the view is out of date."""
    qtbot.waitUntil(lambda: view.paints > 0 and not view.workbench.painter.waiting)
    QApplication.processEvents()


def send(widget: QWidget, kind: QMouseEvent.Type, at: QPoint, button: Qt.MouseButton, held: Qt.MouseButton) -> None:
    """A mouse event as the window system would send it, to the viewport of ``widget``."""
    target = widget.viewport() if hasattr(widget, "viewport") else widget
    place = QPointF(at)
    event = QMouseEvent(kind, place, QPointF(target.mapToGlobal(at)), button, held, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(target, event)


def hover(widget: QWidget, at: QPointF | QPoint) -> None:
    """Move the mouse over ``widget`` to a place of its viewport."""
    place = at.toPoint() if isinstance(at, QPointF) else at
    send(widget, QMouseEvent.Type.MouseMove, place, Qt.MouseButton.NoButton, Qt.MouseButton.NoButton)
    QApplication.processEvents()


def click(widget: QWidget, at: QPointF | QPoint) -> None:
    """Click at a place of the viewport of ``widget``."""
    place = at.toPoint() if isinstance(at, QPointF) else at
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    send(widget, QMouseEvent.Type.MouseButtonPress, place, left, left)
    send(widget, QMouseEvent.Type.MouseButtonRelease, place, left, none)
    QApplication.processEvents()


def hover_data(view: Any, x: float, y: float) -> None:
    """Move the mouse over the plot of ``view`` to (x, y) in axis coordinates."""
    hover(view.plot, view.plot.to_widget(x, y))


def click_data(view: Any, x: float, y: float) -> None:
    click(view.plot, view.plot.to_widget(x, y))


def pixels(view: QWidget) -> np.ndarray:
    """What is seen of ``view``, (h, w, 3) uint8."""
    image = view.grab().toImage().convertToFormat(view.grab().toImage().Format.Format_RGB888)
    raw = np.frombuffer(image.constBits(), dtype=np.uint8).reshape(image.height(), image.bytesPerLine())
    return raw[:, : image.width() * 3].reshape(image.height(), image.width(), 3).copy()


def has_colour(view: QWidget, colour: str, least: int = 1) -> bool:
    """Whether at least so many pixels of ``view`` have exactly this colour."""
    from engine.figures.palette import rgb

    return int((pixels(view) == np.asarray(rgb(colour))).all(axis=-1).sum()) >= least
