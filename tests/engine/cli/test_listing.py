"""``superscope list``, ``--help``, ``--version``, ``models``; and that all of it works without Qt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from engine.cli import main
from tests.engine.conftest import ROOT

Capture = pytest.CaptureFixture[str]

# What a machine without Qt does: no module of it can be found.
WITHOUT_QT = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("PySide6", "shiboken6", "pyqtgraph", "superqt", "qtawesome", "app"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from engine.cli import main
status = main(sys.argv[1:])
seen = {"PySide6", "shiboken6", "pyqtgraph", "app"} & set(sys.modules)
sys.exit(status if not seen else f"imported {seen}")
"""


def without_qt(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_QT, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)


def test_the_version_is_printed(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"superscope {engine.__version__}\n"


def test_no_verb_prints_the_help(capsys: Capture) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    for verb in ("list", "run", "resume", "show", "export", "models", "--self-test", "--version"):
        assert verb in out


def test_the_hidden_entries_are_not_in_the_help(capsys: Capture) -> None:
    main(["--help"])
    out = capsys.readouterr().out
    assert "--engine-process" not in out
    assert "--save-session" not in out


@pytest.mark.usefixtures("samples")
def test_the_list_names_parameters_defaults_and_bounds(capsys: Capture) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Samples" in lines
    assert "  sample-counting: Counting" in lines
    assert "    Counts to `steps`." in lines
    parameter = next(line.split() for line in lines if line.strip().startswith("k=3"))
    assert parameter[:5] == ["k=3", "1", "…", "65536", "latents"]


@pytest.mark.usefixtures("samples")
def test_the_list_as_json_is_an_array_of_experiments_with_schemas(capsys: Capture) -> None:
    assert main(["list", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    one = found["sample-counting"]
    assert {"name", "title", "area", "parameters"} <= set(one)
    assert one["parameters"]["properties"]["k"]["minimum"] == 1


@pytest.mark.usefixtures("samples")
def test_help_behind_an_experiment_is_its_help_page(capsys: Capture) -> None:
    assert main(["run", "sample-counting", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# Counting\n")
    assert "Peano 1889" in out


def test_models_lists_references_sizes_and_what_is_here(capsys: Capture) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert {"demo", "smollm2"} <= {line.split()[0] for line in out.splitlines() if line}
    assert main(["models", "--json"]) == 0
    assert {one["reference"] for one in json.loads(capsys.readouterr().out)} >= {"demo", "smollm2"}


@pytest.mark.parametrize("reference", ["demo", "no-model", "org/never-fetched"])
def test_what_cannot_be_removed_is_said(
    reference: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert main(["models", "--remove", reference]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1


def test_a_download_can_be_removed(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--org--small" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"x" * 5000)
    assert main(["models"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("org/small"))
    assert "here" in line
    assert "5 kB" in line
    assert main(["models", "--remove", "org/small"]) == 0
    assert "5 kB freed" in capsys.readouterr().out
    assert not snapshot.exists()


@pytest.mark.parametrize(
    "words",
    [
        [], ["--version"], ["list"], ["list", "--json"], ["models"], ["run", "sample-counting"],
        ["run", "sample-counting", "--help"], ["run", "sample-counting", "--json"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_verb_works_where_there_is_no_qt(with_samples: dict[str, str], words: list[str]) -> None:
    done = without_qt(with_samples, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(with_samples: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "list", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=with_samples, cwd=ROOT,
    )  # fmt: skip
    process.stdout.close()  # type: ignore[union-attr]
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) == 0


@pytest.mark.usefixtures("samples")
def test_a_console_without_the_signs_gets_their_codes(with_samples: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine", "list"],
        capture_output=True, env=with_samples | {"PYTHONIOENCODING": "ascii"}, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert b"\\u2026" in done.stdout
