"""Verbs on sessions: run, resume, show, export; locks, damage, and what is left on disk."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine import places
from engine.api import RunFailed, load, run, sweep
from engine.cli import main
from engine.errors import ParameterError
from engine.session import Session, SessionError
from tests.engine.cli.test_listing import without_qt
from tests.engine.conftest import ROOT

Capture = pytest.CaptureFixture[str]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.superscope"


def left_beside(file: Path) -> list[str]:
    """What is in the session's folder besides its file and lock."""
    return sorted(path.name for path in file.parent.iterdir() if path.name.startswith((file.name, f".{file.name}")))


@pytest.mark.usefixtures("samples")
def test_a_missing_file_is_made_and_a_run_is_added_to_it_each_time(file: Path, capsys: Capture) -> None:
    assert main(["run", "sample-counting", "--session", str(file)]) == 0
    assert main(["run", "sample-counting", "--set", "k=[7,8]", "--session", str(file), "--json"]) == 0
    ids = [one["id"] for one in json.loads(capsys.readouterr().out.partition("\n[")[2].join(["[", ""]))]
    assert ids == ["sample-counting-2", "sample-counting-3"]
    assert main(["show", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["title"] == "mine"
    assert [one["id"] for one in found["runs"]] == [f"sample-counting-{n}" for n in (1, 2, 3)]
    first = found["runs"][0]
    assert {"id", "experiment", "state", "parameters", "metrics", "figures", "error"} <= set(first)
    assert (first["state"], first["metrics"], first["figures"]) == ("finished", {"count": 5, "times_k": 15}, ["line"])
    assert found["runs"][1]["sweep"] == found["runs"][2]["sweep"] != ""
    assert {section: found[section] for section in ("models", "corpora", "activations", "dictionaries")} == {
        "models": [], "corpora": [], "activations": [], "dictionaries": []
    }  # fmt: skip
    assert file.name in left_beside(file)
    assert not [name for name in left_beside(file) if name.endswith((".work", ".tmp"))]
    assert not list((places.data() / "work").glob("*")) or not (places.data() / "work").exists()


@pytest.mark.usefixtures("samples")
def test_the_text_of_show_names_runs_states_metrics_and_figures(file: Path, capsys: Capture) -> None:
    main(["run", "sample-counting", "--session", str(file)])
    main(["run", "sample-breaking", "--set", "how=sentence", "--session", str(file)])
    capsys.readouterr()
    assert main(["show", str(file)]) == 0
    out = capsys.readouterr().out
    assert "sample-counting-1: finished" in out
    assert "count 5" in out
    assert "sample-counting-1/line" in out
    assert "sample-breaking-1: failed" in out
    assert "The hook blocks.9 is not in this model" in out


@pytest.mark.usefixtures("samples")
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(file: Path, capsys: Capture) -> None:
    walk = ["run", "sample-walk", "--session", str(file), "--set", "seed=5"]
    assert main(walk) == 0
    assert main([*walk, "--set", "disturb=stop"]) == 0
    with load(file) as session:
        assert session.run("sample-walk-2").state == "stopped"
    capsys.readouterr()
    assert main(["resume", str(file), "sample-walk-2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["id"], found["state"]) == ("sample-walk-2", "finished")
    with load(file) as session:
        assert len(session.runs()) == 2
        for name in ("x", "y"):
            whole, torn = session.metric("sample-walk-1", name), session.metric("sample-walk-2", name)
            assert whole[:, :2].tobytes() == torn[:, :2].tobytes()
        kept = [np.asarray(session.kept(f"sample-walk-{n}", "position")).tobytes() for n in (1, 2)]
        assert kept[0] == kept[1]


@pytest.mark.usefixtures("samples")
def test_only_stopped_and_interrupted_runs_resume(file: Path, capsys: Capture) -> None:
    main(["run", "sample-counting", "--session", str(file)])
    capsys.readouterr()
    assert main(["resume", str(file), "sample-counting-1"]) == 1
    assert "sample-counting-1 in" in (err := capsys.readouterr().err)
    assert "is finished; only stopped and interrupted runs" in err
    assert main(["resume", str(file), "sample-counting-9"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("kind", ["png", "svg", "csv"])
def test_a_figure_is_exported(file: Path, kind: str, capsys: Capture) -> None:
    main(["run", "sample-counting", "--session", str(file)])
    target = file.with_suffix(f".{kind}")
    assert main(["export", str(file), "sample-counting-1/line", str(target)]) == 0
    content = target.read_bytes()
    if kind == "png":
        assert content.startswith(b"\x89PNG")
    elif kind == "svg":
        assert b"<svg" in content
    else:
        rows = list(csv.reader(content.decode().splitlines()))
        assert "Step" in rows[0]
        assert len(rows) == 6


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize(
    ("figure", "words"),
    [("sample-counting-1/lime", "has no figure lime; there is line."), ("sample-counting-7/line", "There is no run")],
)
def test_a_figure_that_is_not_there_is_named_with_what_is(file: Path, figure: str, words: str, capsys: Capture) -> None:
    main(["run", "sample-counting", "--session", str(file)])
    capsys.readouterr()
    assert main(["export", str(file), figure, str(file.with_suffix(".csv"))]) == 1
    assert words in capsys.readouterr().err
    assert not file.with_suffix(".csv").exists()


@pytest.mark.parametrize(
    ("verb", "content"),
    [
        (verb, content)
        for verb in ("show", "resume", "export", "run")
        for content in (None, b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + b"\0" * 40)
        if (verb, content) != ("run", None)  # run makes a missing file
    ],
)
@pytest.mark.usefixtures("samples")
def test_what_is_no_session_is_one_sentence_and_stays_as_it_is(
    file: Path, content: bytes | None, verb: str, capsys: Capture
) -> None:
    if content is not None:
        file.write_bytes(content)
    words = {
        "show": ["show", str(file)],
        "resume": ["resume", str(file), "a-1"],
        "export": ["export", str(file), "a-1/b", str(file.with_suffix(".png"))],
        "run": ["run", "sample-counting", "--session", str(file)],
    }[verb]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert file.name in err
    assert (file.read_bytes() if file.exists() else None) == content


@pytest.mark.usefixtures("samples")
def test_a_locked_session_says_who_holds_it_and_can_still_be_shown(file: Path, capsys: Capture) -> None:
    main(["run", "sample-counting", "--session", str(file)])
    capsys.readouterr()
    with Session.open(file):
        before = file.read_bytes()
        for words in (["run", "sample-counting", "--session", str(file)], ["resume", str(file), "sample-counting-1"]):
            assert main(words) == 1
            err = capsys.readouterr().err
            assert len(err.splitlines()) == 1
            assert str(os.getpid()) in err
        assert main(["show", str(file)]) == 0
        assert "sample-counting-1: finished" in capsys.readouterr().out
        assert file.read_bytes() == before
    work = places.data() / "work"
    assert not list(work.glob("*")) if work.exists() else True


@POSIX
def test_ctrl_c_saves_what_was_done_and_it_can_be_resumed(with_samples: dict[str, str], file: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "run", "sample-walk", "--session", str(file), "--set", "wait=true", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=with_samples, cwd=ROOT,
        start_new_session=True,
    )  # fmt: skip
    rows = file.with_name(file.name + ".work") / "runs" / "sample-walk-1" / "metrics" / "x.f64"
    while not (rows.exists() and rows.stat().st_size >= 25 * 24):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the saving process hears it too
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert json.loads(out)["state"] == "interrupted"
    with load(file) as session:
        assert session.run("sample-walk-1").state == "interrupted"
        assert len(session.metric("sample-walk-1", "x")) == 25
    done = without_qt(with_samples, "resume", str(file), "sample-walk-1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "finished"
    with load(file) as session:
        assert np.array_equal(session.metric("sample-walk-1", "x")[:, 0], np.arange(40))


@POSIX
def test_a_killed_command_loses_nothing_that_was_recorded(with_samples: dict[str, str], file: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "run", "sample-walk", "--session", str(file), "--set", "wait=true"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=with_samples, cwd=ROOT,
    )  # fmt: skip
    rows = file.with_name(file.name + ".work") / "runs" / "sample-walk-1" / "metrics" / "x.f64"
    while not (rows.exists() and rows.stat().st_size >= 25 * 24):
        assert process.poll() is None
    process.kill()
    process.wait()
    done = without_qt(with_samples, "resume", str(file), "sample-walk-1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "finished"


@pytest.mark.parametrize("verb", ["run", "show", "export"])
def test_sessions_work_where_there_is_no_qt(with_samples: dict[str, str], file: Path, verb: str) -> None:
    words = {
        "run": ["run", "sample-counting", "--session", str(file)],
        "show": ["show", str(file), "--json"],
        "export": ["export", str(file), "sample-counting-1/line", str(file.with_suffix(".png"))],
    }
    for one in dict.fromkeys(("run", verb)):
        done = without_qt(with_samples, *words[one])
        assert done.returncode == 0, done.stderr


# ---- Python


@pytest.mark.usefixtures("samples")
def test_python_runs_give_metrics_figures_and_arrays_without_a_session() -> None:
    result = run("sample-counting", steps=3, k=2)
    assert (result.state, result.parameters["k"], result.facts) == ("finished", 2, {"counted": 3})
    assert np.array_equal(result.metrics["count"][:, 1], [1, 2, 3])
    assert result.last("times_k") == 6
    assert result.figures["line"].title == "Counting"
    assert np.array_equal(result.kept["counts"], np.arange(3))


@pytest.mark.usefixtures("samples")
def test_python_runs_are_kept_in_a_session(file: Path) -> None:
    first = run("sample-counting", session=file)
    results = sweep("sample-counting", session=str(file), k=[1, 2])
    assert [first.id, *(one.id for one in results)] == [f"sample-counting-{n}" for n in (1, 2, 3)]
    assert np.array_equal(first.kept["counts"], np.arange(5)), "arrays can be used after the session was closed"
    with load(file) as session:
        assert [record.state for record in session.runs()] == ["finished"] * 3
        inside = run("sample-counting", session=session)
        assert session.run(inside.id).state == "finished"
        assert session.unsaved
        session.save().wait()
    with load(file) as session:
        assert len(session.runs()) == 4


@pytest.mark.usefixtures("samples")
def test_python_errors_are_the_same_sentences(file: Path) -> None:
    with pytest.raises(ParameterError, match="k=0 is not allowed"):
        run("sample-counting", k=0)
    assert not file.exists()
    with pytest.raises(RunFailed, match=r"The hook blocks\.9") as caught:
        run("sample-breaking", session=file, how="sentence")
    assert caught.value.record.state == "failed"
    with load(file) as session:
        assert session.run("sample-breaking-1").state == "failed", "a failed run keeps its record"
    with pytest.raises(SessionError):
        load(file.with_name("other.superscope"))


@pytest.mark.usefixtures("samples")
def test_an_interrupted_script_is_interrupted_with_what_was_done_saved(file: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run("sample-walk", session=file, disturb="kill")
    with load(file) as session:
        assert session.run("sample-walk-1").state == "interrupted"


@pytest.mark.usefixtures("samples")
def test_the_frame_of_a_step_is_exported(file: Path, capsys: Capture) -> None:
    main(["run", "sample-filming", "--session", str(file)])
    target = file.with_suffix(".csv")
    assert main(["export", str(file), "sample-filming-1/often", str(target), "--step", "42"]) == 0
    rows = list(csv.reader(target.read_text().splitlines()))
    assert {float(row[-1]) for row in rows[1:]} == {10.0}
    capsys.readouterr()
    assert main(["export", str(file), "sample-filming-1/still", str(target), "--step", "42"]) == 1
    assert "has no movie, so it cannot be had at a step; there is" in capsys.readouterr().err
