"""Pausing, stopping, and standing still for looks."""

from __future__ import annotations

import threading
import time

import pytest

from engine.runs import control as module
from engine.runs.control import Asked, Control, RunStopped


def in_background(control: Control) -> tuple[threading.Event, list[object]]:
    done, outcome = threading.Event(), []

    def work() -> None:
        try:
            outcome.append(control.point())
        except BaseException as problem:
            outcome.append(problem)
        done.set()

    threading.Thread(target=work).start()
    return done, outcome


def test_a_point_costs_nothing_when_nobody_wants_anything() -> None:
    assert Control().point() == 0.0


def test_pause_waits_until_resumed_and_is_announced_both_ways() -> None:
    control, told, began = Control(), [], threading.Event()
    control.on_pause = lambda paused: (told.append(paused), began.set())  # type: ignore[func-returns-value, assignment]
    control.pause()
    done, outcome = in_background(control)
    assert began.wait(5)
    assert told == [True]
    assert not done.is_set()
    control.resume()
    assert done.wait(5)
    assert told == [True, False]
    assert isinstance(outcome[0], float)


def test_stop_ends_a_paused_run() -> None:
    control, began = Control(), threading.Event()
    control.on_pause = lambda paused: began.set()
    control.pause()
    done, outcome = in_background(control)
    assert began.wait(5)
    control.stop()
    assert done.wait(5)
    assert isinstance(outcome[0], RunStopped)
    assert not control.interrupted


def test_an_interruption_after_a_stop_is_still_a_stop() -> None:
    control = Control()
    control.stop()
    control.interrupt()
    assert not control.interrupted
    other = Control()
    other.interrupt()
    assert other.stopped
    assert other.interrupted


def test_an_error_while_the_pause_is_recorded_ends_the_run_and_leaves_the_control_usable() -> None:
    control = Control()

    def full(paused: bool) -> None:
        raise OSError("full")

    control.on_pause = full
    control.pause()
    with pytest.raises(OSError, match="full"):
        control.point()
    control.stop()  # would hang if the lock were still held


def test_actions_come_out_once_in_their_order_and_with_their_own_values() -> None:
    control, values = Control(), {"value": 2.0}
    control.ask("lr", values)
    values["value"] = 3.0
    control.ask("resample", {})
    assert control.asked() == [Asked("lr", {"value": 2.0}), Asked("resample", {})]
    assert control.asked() == []


def test_a_job_waits_for_a_look_and_goes_on_when_it_has_ended() -> None:
    control = Control()
    control.give_way(+1)
    assert control.must_wait
    done, _ = in_background(control)
    assert not done.is_set()
    control.give_way(-1)
    assert done.wait(1.0)
    assert control.point() == 0.0


def test_a_job_waits_for_a_long_look_only_so_long_and_not_again_at_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # A look may wait for the model that the job itself is opening: they must not wait for each other.
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    control = Control()
    control.give_way(+1)
    assert control.point() >= 0.05
    began = time.monotonic()
    for _ in range(100):
        assert control.point() == 0.0
    assert time.monotonic() - began < 1.0
    control.give_way(-1)
    control.give_way(+1)
    assert control.must_wait, "the next look is waited for again"
