"""A real workbench over a fresh session, with an engine process that knows the sample experiments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QApplication

from app import theme as themes
from app.panels import make_panel
from app.panels.panel import Panel
from app.workbench import Workbench
from engine.session import Session
from tests.conftest import MODEL_HOME

from .steering_scene import closed, looks, scene  # noqa: F401  fixtures

ENDED = ("finished", "stopped", "interrupted", "failed")
LONG = 60_000  # ms that an engine process may take on a busy machine


class Bench:
    """A workbench and what tests do with it again and again."""

    def __init__(self, qtbot, workbench: Workbench) -> None:
        self.qtbot, self.workbench = qtbot, workbench
        self.panels: list[Panel] = []

    def open(self, kind: str, key: str) -> Panel:
        """A shown panel; it is closed with the test."""
        panel = make_panel(kind, key, self.workbench)
        self.qtbot.addWidget(panel)
        panel.resize(900, 700)
        panel.show()
        self.panels.append(panel)
        return panel

    def close(self, panel: Panel) -> None:
        self.panels.remove(panel)
        panel.closing()
        panel.close()

    def close_all(self) -> None:
        for panel in list(self.panels):
            self.close(panel)

    def run(self, experiment: str, **parameters: object) -> str:
        """A run that has ended."""
        run = self.workbench.start(experiment, parameters)
        self.wait_until_ended(run)
        return run

    def wait_until_ended(self, run: str) -> None:
        self.wait(lambda: self.workbench.record(run).state in ENDED)

    def wait(self, condition) -> None:
        self.qtbot.waitUntil(condition, timeout=LONG)

    def painted(self) -> None:
        """Wait until no visible view is out of date."""
        self.wait(lambda: not self.workbench.painter.active)


def begun(application: QApplication) -> Workbench:
    """A workbench with an empty session and an engine that starts."""
    made = Workbench()
    themes.apply(application, made.theme)
    made.begin(Session.create("Panels"))
    return made


def ended(workbench: Workbench) -> None:
    workbench.end()
    workbench.session.close(discard=True)
    workbench.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def own_bench(qtbot, qapp, sample_experiments: None) -> Iterator[Bench]:
    """A workbench whose engine starts and ends with the test and knows the sample experiments."""
    made = Bench(qtbot, begun(qapp))
    made.wait(lambda: "sample-counting" in made.workbench.catalogue)
    yield made
    made.close_all()
    ended(made.workbench)


@pytest.fixture
def bench(own_bench: Bench) -> Bench:
    return own_bench


@pytest.fixture(scope="module")
def shared_workbench(qapp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """One for all tests of a module: its engine imports torch once."""
    home = tmp_path_factory.mktemp("home")
    (home / "cache").mkdir()
    (home / "cache" / "models").symlink_to(MODEL_HOME, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERSCOPE_HOME", str(home))
        made = begun(qapp)
    yield made
    ended(made)


@pytest.fixture
def shared_bench(qtbot, shared_workbench: Workbench) -> Iterator[Bench]:
    made = Bench(qtbot, shared_workbench)
    made.wait(lambda: "activations" in shared_workbench.catalogue)
    yield made
    made.close_all()
    made.painted()
