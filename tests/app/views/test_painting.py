"""How often views paint, and that painting takes nothing it does not give back."""

from __future__ import annotations

import gc
import sys
import time
from typing import Any

import numpy as np
from PySide6.QtWidgets import QGridLayout, QWidget

from app.paint import REST
from app.views import make_view
from app.views.lines import CurvesView
from engine.figures.kinds import Axis, Lines
from tests.figure_samples import SAMPLES


def rows(count: int) -> np.ndarray:
    return np.stack([np.arange(count), np.random.default_rng(0).random(count), np.arange(count)], axis=1).astype(float)


def test_one_view_a_shot_and_none_more_than_ten_times_a_second(qtbot: Any, bench: Any) -> None:
    page = QWidget()
    qtbot.addWidget(page)
    views = [CurvesView(bench) for _ in range(4)]
    grid = QGridLayout(page)
    for index, view in enumerate(views):
        grid.addWidget(view, index // 2, index % 2)
        view.set_metric("Loss", "", "", "linear", [("a", rows(1000))])
    painted: list[tuple[int, float]] = []
    for index, view in enumerate(views):
        original = view.paint_now

        def paint(index: int = index, original: Any = original) -> None:
            # The painter's own stamp: on a busy machine any amount of time passes until this line.
            painted.append((index, bench.painter._painted[views[index]]))
            original()

        view.paint_now = paint  # type: ignore[method-assign]
    page.resize(800, 600)
    page.show()
    qtbot.waitExposed(page)
    start = time.monotonic()
    count = 1000
    while time.monotonic() - start < 1.0:
        count += 1
        for view in views:
            view.set_metric("Loss", "", "", "linear", [("a", rows(count))])
        qtbot.wait(5)  # let the event loop turn; nothing is concluded from how long
    for index in range(4):
        times = [when for which, when in painted if which == index]
        assert len(times) >= 2
        assert min(np.diff(times)) >= REST * 0.99
    qtbot.waitUntil(lambda: not bench.painter.waiting)


def test_new_numbers_are_painted_once(qtbot: Any, bench: Any) -> None:
    view = CurvesView(bench)
    qtbot.addWidget(view)
    view.set_metric("Loss", "", "", "linear", [("a", rows(1000))])
    view.show()
    qtbot.waitUntil(lambda: view.paints > 0 and not bench.painter.waiting)
    drawn: list[int] = []
    view.plot.paintEvent = lambda event, original=view.plot.paintEvent: (drawn.append(1), original(event))
    for count in (1500, 2000, 3000):  # the range grows each time
        before, seen = view.paints, len(drawn)
        view.set_metric("Loss", "", "", "linear", [("a", rows(count))])
        qtbot.waitUntil(lambda before=before: view.paints > before and not bench.painter.waiting)
        qtbot.waitUntil(lambda seen=seen: len(drawn) > seen)
        assert view.paints == before + 1


def test_hidden_views_are_painted_when_they_are_shown(qtbot: Any, bench: Any) -> None:
    view = make_view(SAMPLES["loss"](), bench)
    qtbot.addWidget(view)
    for _ in range(10):
        view.set_figure(SAMPLES["loss"]())
    assert not bench.painter.active
    assert view.paints == 0
    view.show()
    qtbot.waitUntil(lambda: view.paints > 0 and not bench.painter.waiting)
    assert view.paints <= 2, "ten figures that nobody saw were drawn"


def test_a_thousand_repaints_take_no_reference_to_none(qtbot: Any, bench: Any) -> None:
    view = make_view(SAMPLES["loss"](), bench)
    qtbot.addWidget(view)
    view.show()
    qtbot.waitUntil(lambda: view.paints == 1)
    y = np.random.default_rng(0).random(500)
    view.paint_now()
    view.grab()
    gc.collect()
    before = sys.getrefcount(None)
    for step in range(1000):
        figure = Lines(title="t", x_axis=Axis("x"), y_axis=Axis("y"), series=("a",), x=np.arange(500.0), y=y + step)
        view._figure = figure
        view.paint_now()
        view.plot.viewport().repaint()
    gc.collect()
    # PySide 6.12 takes hundreds of thousands away, until the interpreter aborts. Each drawText of 6.11
    # adds one, which costs nothing.
    assert sys.getrefcount(None) - before > -500


def test_new_figures_add_no_items(qtbot: Any, bench: Any) -> None:
    for name in ("family", "scatter", "lens", "densities", "violins", "heads", "circuit", "spectrum"):
        view = make_view(SAMPLES[name](), bench)
        qtbot.addWidget(view)
        view.show()
        qtbot.waitUntil(lambda view=view: view.paints > 0)
        items = len(view.plot.scene().items())
        for _ in range(5):
            view._figure = SAMPLES[name]()
            view.paint_now()
        assert len(view.plot.scene().items()) == items, name
        view.hide()
