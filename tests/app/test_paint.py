"""The paint scheduler: one view per shot, the one that waited longest, none too often, none that is hidden."""

from __future__ import annotations

import itertools
import time

from PySide6.QtWidgets import QWidget

from app.paint import REST, PaintScheduler


class View(QWidget):
    def __init__(self, log: list[tuple[str, float]], name: str) -> None:
        super().__init__()
        self.log, self.name = log, name

    def paint_now(self) -> None:
        self.log.append((self.name, time.monotonic()))


def views(qtbot, count: int) -> tuple[list[View], list[tuple[str, float]]]:
    log: list[tuple[str, float]] = []
    made = [View(log, str(number)) for number in range(count)]
    for view in made:
        qtbot.addWidget(view)
        view.show()
    return made, log


def test_the_view_that_waited_longest_is_painted_first_and_one_per_shot(qtbot):
    made, log = views(qtbot, 4)
    painter = PaintScheduler()
    for view in (made[2], made[0], made[3], made[1]):
        painter.mark(view)
    assert log == []
    qtbot.waitUntil(lambda: len(log) == 4)
    assert [name for name, _ in log] == ["2", "0", "3", "1"]
    gaps = [later - earlier for (_, earlier), (_, later) in itertools.pairwise(log)]
    assert min(gaps) >= 0.004
    assert not painter.active


def test_a_view_is_painted_at_most_ten_times_a_second_and_never_forgotten(qtbot):
    (view,), log = views(qtbot, 1)
    painter = PaintScheduler()
    painter.mark(view)
    qtbot.waitUntil(lambda: len(log) == 1)
    painter.mark(view)
    painter.mark(view)
    qtbot.waitUntil(lambda: len(log) == 2)
    assert log[1][1] - log[0][1] >= REST - 0.005
    qtbot.waitUntil(lambda: not painter.active)
    assert painter.waiting == 0


def test_a_view_that_rests_does_not_hold_up_the_others(qtbot):
    (busy, other), log = views(qtbot, 2)
    painter = PaintScheduler()
    painter.mark(busy)
    qtbot.waitUntil(lambda: len(log) == 1)
    painter.mark(busy)
    painter.mark(other)
    qtbot.waitUntil(lambda: len(log) == 3)
    assert [name for name, _ in log] == ["0", "1", "0"]


def test_a_hidden_view_waits_until_it_is_shown(qtbot):
    (view,), log = views(qtbot, 1)
    view.hide()
    painter = PaintScheduler()
    painter.mark(view)
    assert not painter.active
    assert painter.waiting == 1
    view.show()
    qtbot.waitUntil(lambda: len(log) == 1)
    assert not painter.active


def test_a_view_that_is_hidden_while_it_waits_costs_nothing(qtbot):
    (view,), log = views(qtbot, 1)
    painter = PaintScheduler()
    painter.mark(view)
    view.hide()
    qtbot.waitUntil(lambda: not painter.active)
    assert log == []
    view.show()
    qtbot.waitUntil(lambda: len(log) == 1)


def test_a_view_that_is_deleted_while_it_waits_is_forgotten(qtbot):
    (other,), log = views(qtbot, 1)
    view = View(log, "deleted")
    view.show()
    painter = PaintScheduler()
    painter.mark(view)
    painter.mark(other)
    view.deleteLater()
    qtbot.waitUntil(lambda: len(log) == 1 and not painter.active)
    assert log[0][0] == "0"
    assert painter.waiting == 0


def test_a_view_that_fails_does_not_stop_the_others(qtbot):
    class Broken(View):
        def paint_now(self) -> None:
            raise ValueError("broken")

    (good,), log = views(qtbot, 1)
    broken = Broken(log, "broken")
    qtbot.addWidget(broken)
    broken.show()
    painter = PaintScheduler()
    with qtbot.captureExceptions() as problems:
        painter.mark(broken)
        painter.mark(good)
        qtbot.waitUntil(lambda: len(log) == 1)
    assert len(problems) == 1
