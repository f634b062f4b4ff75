"""The program as a process: what it imports, how it ends, what it says where it cannot begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app import main as program
from tests.conftest import ROOT

PATIENCE = 90
LOOK_INSIDE = """
import sys
from PySide6.QtCore import QTimer
from app import main
from app.window.main_window import MainWindow

begin = MainWindow.begin

def looked_at(window, *values, **named):
    begin(window, *values, **named)
    def when_ready(state):
        if state == "ready":
            for kind in ("activations", "notes", "open-model", "help", "start"):
                window.workbench.open_panel(kind)
            window.workbench.show_form("train-dictionary")
            from app.views.lines import CurvesView
            window.curves = CurvesView(window.workbench)
            run = window.workbench.session.add_run("sample", {})
            window.workbench.open_panel("run", run.id)
            QTimer.singleShot(300, tell)
    def tell():
        print(" ".join(sorted(name for name in sys.modules if "." not in name)))
        sys.stdout.flush()
        main_window.curves.deleteLater()
        main_window.shut_down()
        from PySide6.QtWidgets import QApplication
        QApplication.quit()
    main_window = window
    window.workbench.engine_changed.connect(when_ready)

MainWindow.begin = looked_at
sys.exit(main.main([]))
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    return dict(os.environ, SUPERSCOPE_HOME=str(home), QT_QPA_PLATFORM="offscreen", PYTHONPATH=str(ROOT), **more)


def test_a_window_with_its_panels_never_imports_torch_or_pydantic(home: Path):
    done = subprocess.run(
        [sys.executable, "-c", LOOK_INSIDE],
        env=environment(home),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"PySide6", "numpy", "pyqtgraph"} <= loaded
    assert not loaded & {"torch", "pydantic", "transformers", "transformer_lens", "matplotlib", "pandas", "scipy"}


def test_the_first_paint_comes_before_heavy_imports_and_five_starts_end_in_peace(home: Path, tmp_path: Path):
    for number in range(5):
        trace = tmp_path / f"trace-{number}"
        process = subprocess.Popen(
            [sys.executable, "-m", "app.main", "--trace-start", str(trace)],
            env=environment(home),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            watched = psutil.Process(process.pid)
            children = _wait_for_engine(watched, trace)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        assert process.returncode == 0, errors
        assert "Traceback" not in errors, errors
        assert output == ""
        seconds, _, heavy = trace.read_text().strip().partition(" ")
        assert 0 < float(seconds) < PATIENCE
        assert heavy == ""
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
    assert list((home / "data" / "work").iterdir()) == []


def _wait_for_engine(process: psutil.Process, trace: Path) -> list[psutil.Process]:
    """Its children, once the first paint is traced and an engine is there."""
    import time

    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        children = process.children(recursive=True)
        if trace.exists() and trace.read_text() and children:
            return children
        time.sleep(0.02)
    raise AssertionError("no engine was started")


def test_a_killed_window_takes_its_engine_along(home: Path, tmp_path: Path):
    trace = tmp_path / "trace"
    process = subprocess.Popen(
        [sys.executable, "-m", "app.main", "--trace-start", str(trace)], env=environment(home), cwd=ROOT
    )
    try:
        children = _wait_for_engine(psutil.Process(process.pid), trace)
    finally:
        process.kill()
        process.wait(PATIENCE)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert not alive


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--unknown"], "--unknown is not known"),
        (["lst"], "did you mean `superscope list`?"),
        (["missing.superscope"], "there is no session missing.superscope"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    assert program.main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_two_sessions_at_a_time_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second = tmp_path / "a.superscope", tmp_path / "b.superscope"
    first.touch()
    second.touch()
    assert program.main([str(first), str(second)]) == 2
    assert "would be the second" in capsys.readouterr().err


def test_verbs_go_to_the_command_line_without_qt(home: Path):
    code = (
        "import sys; sys.modules['PySide6'] = None\n"
        "from app.main import main\n"
        "status = main(['list', '--json'])\n"
        "assert 'app.window' not in sys.modules\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(home), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert '"train-dictionary"' in done.stdout


def test_without_qt_the_window_is_a_sentence_and_status_1(home: Path):
    code = "import sys; sys.modules['PySide6'] = None\nfrom app.main import main\nsys.exit(main([]))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(home), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert done.stderr.startswith("superscope: the window needs PySide6")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there always is a display")
def test_without_a_display_the_window_is_a_sentence_and_status_1(home: Path):
    bare = environment(home)
    for name in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        bare.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "app.main"], env=bare, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert done.stderr.startswith("superscope: there is no display")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there always is a display")
def test_without_a_display_the_demo_is_drawn_off_screen_and_its_places_are_said(home: Path):
    bare = environment(home)
    for name in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        bare.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "app.main", "--demo"],
        env=bare,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    picture, session = (Path(line.partition(": ")[2]) for line in done.stdout.splitlines()[1:])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert session.read_bytes().startswith(b"\x89HDF")
