"""The window's side of the engine: it notices a death, says what happened, restarts, and loses nothing."""

from __future__ import annotations

import os
import signal

import numpy as np
import psutil
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPushButton

from app.engine_client import EngineClient, merge
from engine.figures import Axis, Lines
from engine.runs.messages import Ask, Logged, Measured, Progressed, Shown, StateChanged
from engine.runs.recording import Recording
from engine.runs.run import Progress
from tests.app.conftest import LONG, Shell


def rows(*steps: float) -> np.ndarray:
    return np.array([[step, 10 * step, 0.0] for step in steps])


def curve(title: str) -> Lines:
    return Lines(title=title, x_axis=Axis("x"), y_axis=Axis("y"), series=("a",), x=np.arange(3), y=np.arange(3))


def test_merging_keeps_the_newest_progress_and_figure_and_every_row_in_order():
    said = [
        Measured("a", {"loss": rows(1)}),
        Progressed("a", Progress(1, 9, "steps", 1.0, None)),
        Shown("a", "line", curve("old")),
        Measured("b", {"loss": rows(7)}),
        Measured("a", {"loss": rows(2, 3), "fvu": rows(3)}),
        Progressed("a", Progress(2, 9, "steps", 1.0, None)),
        Shown("a", "line", curve("new")),
        Logged("a", "info", "said"),
    ]
    merged = merge(said)
    measured = {message.run: message.rows for message in merged if isinstance(message, Measured)}
    assert np.array_equal(measured["a"]["loss"], rows(1, 2, 3))
    assert np.array_equal(measured["a"]["fvu"], rows(3))
    assert np.array_equal(measured["b"]["loss"], rows(7))
    assert [message.progress.done for message in merged if isinstance(message, Progressed)] == [2]
    assert [message.figure.title for message in merged if isinstance(message, Shown)] == ["new"]
    assert sum(isinstance(message, Logged) for message in merged) == 1


def test_merging_does_not_join_rows_across_a_change_of_state():
    said = [Measured("a", {"loss": rows(5)}), StateChanged("a", {"state": "running"}), Measured("a", {"loss": rows(3)})]
    assert merge(said) == said


def test_an_engine_greets_answers_and_leaves_without_a_trace(qtbot, sample_experiments):
    client = EngineClient()
    assert client.state == "off"
    with qtbot.waitSignals([client.greeted, client.catalogue], timeout=LONG):
        client.start()
    pid = client.pid
    assert pid is not None
    assert client.state == "ready"
    with qtbot.waitSignal(client.answered, timeout=LONG) as answered:
        client.send(Ask(1, "panel", "sample-echo", {"text": "hello"}))
    assert answered.args[0].facts["text"] == "hello"
    client.stop()
    assert client.state == "off"
    assert not psutil.pid_exists(pid)


def test_what_is_sent_without_an_engine_reaches_the_next(qtbot, sample_experiments):
    client = EngineClient()
    client.send(Ask(4, "panel", "sample-echo", {"text": "early"}))
    with qtbot.waitSignal(client.answered, timeout=LONG) as answered:
        client.start()
    assert answered.args[0].look == 4
    client.stop()


def test_an_engine_that_does_not_leave_is_killed(qtbot, sample_experiments):
    client = EngineClient()
    with qtbot.waitSignal(client.greeted, timeout=LONG):
        client.start()
    pid = client.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    client.stop(patience=0.3)
    assert not psutil.pid_exists(pid)


def test_a_death_is_told_with_its_signal(qtbot, sample_experiments):
    client = EngineClient()
    with qtbot.waitSignal(client.greeted, timeout=LONG):
        client.start()
    assert client.pid is not None
    with qtbot.waitSignal(client.died, timeout=LONG) as died:
        os.kill(client.pid, signal.SIGSEGV)
    assert "signal 11, SIGSEGV" in died.args[0]
    assert client.state == "died"
    assert not client.alive


def test_a_killed_engine_leaves_window_rows_and_a_run_to_resume(shell: Shell):
    workbench = shell.workbench
    run = workbench.start("sample-endless", {"seconds": 0.01})
    queued = workbench.start("sample-counting", {})
    shell.wait(lambda: "count" in workbench.metric_names(run) and len(workbench.metric(run, "count")) > 60)
    seen = np.array(workbench.metric(run, "count"))
    first = workbench.engine.pid
    assert first is not None
    with shell.qtbot.waitSignal(workbench.engine.died, timeout=LONG):
        os.kill(first, signal.SIGKILL)
    shell.wait(lambda: workbench.engine.state == "ready")
    assert workbench.engine.pid != first
    assert shell.window.isVisible()
    told = " ".join(shell.notices())
    assert "killed (signal 9, SIGKILL)" in told
    assert run in told
    assert shell.state(run) == "interrupted"
    assert shell.state(queued) == "interrupted"
    # What the window had seen is still there, and all but the last unflushed moments are on disk.
    assert np.array_equal(workbench.metric(run, "count")[: len(seen)], seen)
    recorded = Recording(workbench.session.run_folder(run))
    assert recorded.record().state == "interrupted"
    written = recorded.metric("count")
    assert len(written) > 10
    assert np.array_equal(written, workbench.metric(run, "count")[: len(written)])
    resume = next(
        button for button in shell.window.notices.shown()[-1].findChildren(QPushButton) if button.text() == "Resume"
    )
    shell.wait(resume.isVisible)
    shell.qtbot.mouseClick(resume, Qt.MouseButton.LeftButton)
    shell.wait(lambda: shell.state(run) in ("running", "failed"))
    workbench.stop(run)
    shell.wait(lambda: shell.state(queued) == "finished")
    assert workbench.metric(queued, "count")[-1, 1] == 5


def test_a_look_that_the_engine_dies_of_is_answered_with_a_sentence(shell: Shell):
    answers: list = []
    shell.workbench.ask("panel", "sample-echo", {"how": "wait"}, lambda said: answers.append(said))
    pid = shell.workbench.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    shell.wait(lambda: answers)
    assert "while it was looking" in answers[0].error


def test_an_engine_that_keeps_dying_is_not_started_again_by_itself(shell: Shell):
    engine = shell.workbench.engine
    for _ in range(3):
        shell.wait(lambda: engine.state == "ready")
        assert engine.pid is not None
        with shell.qtbot.waitSignal(engine.died, timeout=LONG):
            os.kill(engine.pid, signal.SIGKILL)
    assert engine.state == "died"
    assert not engine.alive
    assert "waits until the next run" in shell.notices()[-1]
    run = shell.run("sample-counting")
    assert shell.state(run) == "finished"


def test_a_resumed_walk_shows_each_step_once(shell: Shell):
    workbench = shell.workbench
    run = workbench.start("sample-walk", {"steps": 40, "disturb": "stop"})
    shell.wait(lambda: shell.state(run) == "stopped")
    before = len(workbench.metric(run, "x"))
    workbench.resume(run)
    shell.wait(lambda: shell.state(run) == "finished")
    assert before > 21  # past the last checkpoint, so that steps are said twice
    assert np.array_equal(workbench.metric(run, "x")[:, 0], np.arange(40))
    assert np.array_equal(workbench.metric(run, "x"), Recording(workbench.session.run_folder(run)).metric("x"))
