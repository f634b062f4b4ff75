"""Fixtures for the window's tests: a real window over a real engine, and a check that nothing is left behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import shiboken6
from PySide6.QtCore import QCoreApplication, QEvent, QTimer
from PySide6.QtWidgets import QApplication, QWidget

from app import theme as themes
from app.window.main_window import MainWindow
from app.workbench import Workbench
from tests.engine.conftest import environment_with

ENDED = ("finished", "stopped", "interrupted", "failed")
LONG = 60_000  # ms that an engine process may take on a busy machine


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fail a test after which a thread, an active timer, a process or a window of ours is still there."""
    threads = set(threading.enumerate())
    timers = {id(timer) for timer in _timers()}
    processes = {child.pid for child in psutil.Process().children(recursive=True)}
    windows = {id(widget) for widget in _windows()}
    yield
    if QApplication.instance() is not None:
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    left = [f"thread {thread.name}" for thread in set(threading.enumerate()) - threads if thread.is_alive()]
    left += [f"timer of {timer.parent()!r}" for timer in _timers() if id(timer) not in timers]
    for child in psutil.Process().children(recursive=True):
        if child.pid not in processes:
            left.append(f"process {child.pid} {' '.join(child.cmdline())} ({child.status()})")
    left += [f"window {widget!r}" for widget in _windows() if id(widget) not in windows]
    assert not left, "left behind: " + "; ".join(left)


def _timers() -> list[QTimer]:
    return [
        thing for thing in gc.get_objects() if type(thing) is QTimer and shiboken6.isValid(thing) and thing.isActive()
    ]


def _windows() -> list[QWidget]:
    """Top-level widgets that are shown, or of a class of ours."""
    if QApplication.instance() is None:
        return []
    return [
        widget
        for widget in QApplication.topLevelWidgets()
        if shiboken6.isValid(widget) and (widget.isVisible() or type(widget).__module__.startswith("app."))
    ]


class Shell:
    """A window and what tests do with it again and again."""

    def __init__(self, qtbot, window: MainWindow) -> None:
        self.qtbot, self.window, self.workbench = qtbot, window, window.workbench

    def wait(self, condition: Callable[[], object]) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=LONG)

    def begin(self, path: Path | None = None, *, copy: bool = False) -> None:
        """Do what happens after the first paint, and wait for the engine."""
        self.window.begin(path, copy=copy)
        self.wait(lambda: "sample-counting" in self.workbench.catalogue)
        self.wait(lambda: self.workbench.engine.state in ("ready", "busy"))

    def run(self, experiment: str, **parameters: object) -> str:
        """A run that has ended."""
        run = self.workbench.start(experiment, parameters)
        self.wait(lambda: self.state(run) in ENDED)
        return run

    def state(self, run: str) -> str:
        return str(self.workbench.record(run).state)

    def notices(self) -> list[str]:
        return [notice.said for notice in self.window.notices.shown()]


@pytest.fixture
def sample_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine processes know the small numpy experiments of the engine's tests."""
    environment = environment_with(tmp_path / "site", {"sample": "tests.engine.runs.sample"})
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])


@pytest.fixture
def plain_shell(qtbot, home: Path, sample_experiments: None) -> Iterator[Shell]:
    """A painted window that has not begun: no session, no engine."""
    application = QApplication.instance()
    assert isinstance(application, QApplication)
    application.setStyle("Fusion")
    workbench = Workbench()
    workbench.settings.theme = "light"
    workbench.follow_theme()
    themes.apply(application, workbench.theme)
    window = MainWindow(workbench)
    window.resize(1280, 800)
    with qtbot.waitSignal(window.painted):
        window.show()
    yield Shell(qtbot, window)
    window.shut_down()
    window.deleteLater()
    workbench.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def shell(plain_shell: Shell) -> Shell:
    """A window with an empty session and a running engine."""
    plain_shell.begin()
    return plain_shell
