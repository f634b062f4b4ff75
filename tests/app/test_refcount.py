"""The Qt binding must not lose references: PySide6 6.12.0 takes one of `None` in every void call and aborts Python 3.11."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import numpy as np
import pyqtgraph as pg

REPAINTS = 1000
LOST = 400  # references in a thousand repaints; the fault loses about 158 in each
# 6.11 keeps one reference for each signal that is emitted, which nobody notices: a count only grows.
KEPT = 20  # references in each repaint


def drift_of_none(repaint: Callable[[], object], times: int) -> int:
    """How far the count of references to None moves in ``times`` repaints; stops at a loss, before Python aborts."""
    gc.collect()
    before = sys.getrefcount(None)
    for number in range(times):
        repaint()
        if number % 5 == 0 and sys.getrefcount(None) < before - LOST:
            break
    gc.collect()  # cycles that wait for the collector hold some too
    return sys.getrefcount(None) - before


def test_a_thousand_repaints_keep_the_references_to_none(qtbot):
    plot = pg.PlotWidget()
    qtbot.addWidget(plot)
    plot.resize(400, 300)
    curve = plot.plot()
    generator = np.random.default_rng(0)
    plot.show()
    painted = []

    def repaint() -> None:
        curve.setData(generator.normal(size=200))
        painted.append(not plot.grab().isNull())

    repaint()  # what is made once at the first paint
    drift = drift_of_none(repaint, REPAINTS)
    assert -LOST <= drift <= KEPT * REPAINTS
    assert len(painted) == REPAINTS + 1
    assert all(painted)


def test_a_loss_as_that_of_the_faulty_binding_is_found_before_python_aborts():
    if sys.version_info >= (3, 12):
        assert drift_of_none(lambda: None, 10) == 0  # None is immortal there: nothing can be lost
        return
    kept = [None] * 158 * 1000
    calls = []

    def lose() -> None:
        calls.append(1)
        del kept[:158]

    assert drift_of_none(lose, REPAINTS) < -LOST
    assert len(calls) < 20
