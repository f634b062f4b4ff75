"""Pictures of every panel, both themes, two sizes, from the demo session: ``python -m app.screenshots FOLDER``.

Each theme and size is a process of its own, off-screen, with a real engine. Nothing shown is made
up: the runs are those of the demo session, and what is seen running was started for the picture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication, QWidget

    from app.window.main_window import MainWindow

# Name, size in device-independent pixels, scale.
SIZES = (("1280x800", (1280, 800), 1), ("2560x1440@200", (1280, 720), 2))
THEMES = ("light", "dark")
PATIENCE = 180.0  # seconds for a model to be opened and looked at on a busy machine
SETTLE = 0.4  # seconds of quiet after which a picture is taken


class Photographer:
    """Drives one window and takes its pictures."""

    def __init__(self, application: QApplication, window: MainWindow, folder: Path, ending: str) -> None:
        self._application, self._window = application, window
        self._folder, self._ending = folder, ending

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Let the window live until ``condition`` holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise SystemExit(f"waited {PATIENCE:.0f} s for {what}")
            self._live(0.02)

    def take(self, name: str) -> None:
        """Wait until nothing is computed or out of date, then save the window's picture."""
        workbench = self._window.workbench
        self._live(SETTLE)
        self.wait(lambda: not workbench.looking, f"the answers on {name}")
        self._live(SETTLE)
        self.save(name, self._window)

    def save(self, name: str, widget: QWidget) -> None:
        """Save a widget as it looks now."""
        from app.off_screen import png
        from engine import files

        path = self._folder / f"{name}-{self._ending}.png"
        files.write_bytes(path, png(widget), durable=False)
        print(path, flush=True)

    def _live(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            self._application.processEvents()
            if time.monotonic() >= end:
                return
            time.sleep(0.005)


def session_tour(window: MainWindow, camera: Photographer) -> None:
    """Everything the demo session holds, one panel after another."""
    workbench, tabs = window.workbench, window.tabs
    camera.take("start")
    window.sessions.open_demo()
    workbench.settings.recent.clear()
    runs = [record.id for record in workbench.session.runs()]
    for run in runs:
        tabs.close_all()
        workbench.open_panel("run", run)
        window.tree.select("runs", run)
        camera.take(f"run-{run}")
    tabs.close_all()
    for thing in workbench.session.things("models"):
        reference = str(thing.attributes.get("reference") or thing.id)
        workbench.open_panel("model", reference)
        camera.take("model-card")
        workbench.open_panel("activations", reference)
        camera.take("activations")
        workbench.open_panel("steering", reference)
        camera.take("steering")
    for thing in workbench.session.things("dictionaries"):
        workbench.open_panel("dictionary", thing.id)
        camera.take("dictionary")
    for thing in workbench.session.things("corpora"):
        workbench.open_panel("text", thing.id)
        camera.take("text")
    workbench.open_panel("compare", ",".join(runs))
    camera.take("compare")
    workbench.open_panel("notes")
    camera.take("notes")
    workbench.open_panel("help", "start")
    camera.take("help")
    workbench.open_panel("help", "train-dictionary")
    camera.take("help-experiment")


def work_tour(window: MainWindow, camera: Photographer) -> None:
    """What a person does: open a model, fill a form, start, watch, look for a command, meet an error."""
    workbench = window.workbench
    window.tabs.close_all()
    workbench.open_panel("open-model")
    camera.take("open-model")
    window.choose_experiment()
    camera.take("experiments")
    workbench.show_form("train-dictionary")
    workbench.open_panel("start")
    camera.take("form")
    latents = next(field for field in window.form.fields if field.parameter.name == "k")
    latents.show_value(0)
    latents.changed.emit()
    camera.take("form-out-of-bounds")
    run = workbench.start("train-dictionary", {"steps": 4000, "tokens": 20_000, "width": 512, "k": 8, "threads": 1})
    workbench.start("tiny-language-model", {"size": "quick"})
    workbench.open_panel("run", run)
    window.tree.select("runs", run)
    window.toggle(window.log_dock)
    camera.wait(lambda: len(workbench.metric_names(run)), "the first step of training")
    camera.wait(lambda: len(workbench.metric(run, workbench.metric_names(run)[0])) > 100, "a hundred steps")
    camera.take("running")
    for record in workbench.active():
        workbench.stop(record.id)
    camera.wait(lambda: not workbench.active(), "the runs to stop")
    try:
        window.documents.open(Path("missing.superscope"))
    except SuperscopeError as problem:
        workbench.report(problem)
    camera.take("error")
    palette = window.show_palette()
    palette.search.setText("train")
    camera.save("palette", palette)
    palette.hide()


def photograph(folder: Path, theme: str, size: tuple[int, int], ending: str) -> int:
    """All pictures of one theme and size, in this process."""
    from PySide6.QtCore import Qt
    from PySide6.QtWidgets import QApplication

    from app import theme as themes
    from app.window.main_window import MainWindow
    from app.workbench import Workbench

    application = QApplication(["superscope"])
    application.setStyle("Fusion")
    workbench = Workbench()
    workbench.settings.theme = theme
    workbench.follow_theme()
    themes.apply(application, workbench.theme)
    window = MainWindow(workbench)
    window.setWindowState(Qt.WindowState.WindowNoState)  # the off-screen platform's own screen is smaller
    window.resize(*size)
    window.show()
    camera = Photographer(application, window, folder, ending)
    window.begin()
    camera.wait(lambda: workbench.engine.state == "ready" and workbench.catalogue, "the engine")
    session_tour(window, camera)
    work_tour(window, camera)
    window.shut_down()
    window.deleteLater()
    application.processEvents()
    return 0


def main(arguments: list[str]) -> int:
    """``FOLDER``, or ``FOLDER THEME SIZE`` for one process's share."""
    if len(arguments) == 3:
        name, size, _ = next(entry for entry in SIZES if entry[0] == arguments[2])
        return photograph(Path(arguments[0]), arguments[1], size, f"{arguments[1]}-{name}")
    if len(arguments) != 1:
        print("usage: python -m app.screenshots FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0]).absolute()
    broken = 0
    for theme in THEMES:
        for name, _, scale in SIZES:
            with tempfile.TemporaryDirectory() as home:
                environment = dict(
                    os.environ, SUPERSCOPE_HOME=home, QT_QPA_PLATFORM="offscreen", QT_SCALE_FACTOR=str(scale)
                )
                command = [sys.executable, "-m", "app.screenshots", str(folder), theme, name]
                broken += subprocess.run(command, env=environment, check=False).returncode != 0
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
