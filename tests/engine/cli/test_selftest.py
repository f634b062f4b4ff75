"""``superscope --self-test``: passes on the demo model without Qt, and says what does not work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cli import main, selftest
from engine.errors import SuperscopeError
from tests.engine.cli.test_listing import without_qt
from tests.engine.conftest import ROOT

Capture = pytest.CaptureFixture[str]


def test_it_passes_without_qt_display_or_network_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    blocked = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "QT_QPA_PLATFORM")}
    before = sorted(home.rglob("*"))
    done = without_qt(environment | blocked | {"TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}, "--self-test")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        "engine process",
        "capture, train, save",
        "load",
        "export",
    ]
    assert lines[-1].startswith("Everything works")
    assert not list(scratch.glob("superscope*"))
    assert sorted(home.rglob("*")) == before


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, home: Path) -> pytest.MonkeyPatch:
    """The self-test in this process, without its engine process; its home is taken back."""
    for name in ("SUPERSCOPE_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, os.environ[name])
    monkeypatch.setattr(selftest._SelfTest, "engine_process", lambda self: "skipped")
    return monkeypatch


@pytest.mark.usefixtures("samples")
def test_a_check_that_fails_is_named_in_one_line_with_status_1(quick: pytest.MonkeyPatch, capsys: Capture) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise SuperscopeError("The demo model is missing; install Superscope again.")

    quick.setattr(selftest, "run", broken)
    assert main(["--self-test"]) == 1
    out, err = capsys.readouterr()
    assert err == "capture, train, save: The demo model is missing; install Superscope again.\n"
    assert "Everything works" not in out


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize(
    ("losses", "words"),
    [([1.0, 2.0], "loss did not fall: it went from 1 to 2"), ([1.0, float("nan")], "did not fall"), ([2.0, 1.0], "")],
)
def test_a_loss_that_does_not_fall_is_a_failure(
    quick: pytest.MonkeyPatch, capsys: Capture, losses: list[float], words: str
) -> None:
    from engine.api import run

    def sample(name: str, session: Any, **_: Any) -> Any:
        result = run("sample-counting", session=session)
        if name == "train-dictionary":
            rows = np.zeros((len(losses), 3))
            rows[:, 1] = losses
            result.metrics = result.metrics | {"loss": rows}
        return result

    quick.setattr(selftest, "run", sample)
    assert main(["--self-test"]) == 1, "what is read back is not what was recorded"
    err = capsys.readouterr().err
    assert words in err if words else "load: " in err
