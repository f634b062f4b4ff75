"""``superscope run`` without a session: what is printed where, exit statuses, sweeps, Ctrl+C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from engine import places
from engine.cli import main
from engine.runs.run import Progress
from tests.engine.conftest import ROOT

Capture = pytest.CaptureFixture[str]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def superscope(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine", *words], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60
    )


@pytest.mark.usefixtures("samples")
def test_metrics_go_to_stdout_and_everything_else_to_stderr(capsys: Capture) -> None:
    assert main(["run", "sample-counting", "--set", "steps=7"]) == 0
    out, err = capsys.readouterr()
    assert out == "count    7 steps\ntimes_k  21\n"
    assert "100% (7 of 7 steps)" in err
    assert "sample-counting-1 finished after" in err


@pytest.mark.usefixtures("samples")
def test_json_is_one_object_with_the_last_metrics(capsys: Capture) -> None:
    assert main(["run", "sample-counting", "--set", "k=4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["id"] == "sample-counting-1"
    assert (found["experiment"], found["state"], found["error"]) == ("sample-counting", "finished", "")
    assert found["parameters"] == {"steps": 5, "seconds": 0.0, "k": 4}
    assert found["metrics"] == {"count": 5.0, "times_k": 20.0}
    assert found["figures"] == ["line"]


@pytest.mark.usefixtures("samples")
def test_a_sweep_runs_each_value_under_one_label(capsys: Capture) -> None:
    assert main(["run", "sample-counting", "--set", "k=[2,3]", "--set", "steps=[1,2]", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["parameters"]["k"], one["parameters"]["steps"]) for one in found] == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert [one["id"] for one in found] == [f"sample-counting-{n}" for n in (1, 2, 3, 4)]
    assert len({one["sweep"] for one in found}) == 1
    assert found[0]["sweep"].startswith("k, steps ")
    assert main(["run", "sample-counting", "--set", "k=[2]"]) == 0
    assert capsys.readouterr().out.startswith("sample-counting-1 (k=2)\ncount")


@pytest.mark.usefixtures("samples")
def test_params_come_from_a_file_and_set_goes_before_them(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "params.json"
    path.write_text('{"k": 9, "steps": 3}')
    assert main(["run", "sample-counting", "--params", str(path), "--set", "k=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == {"steps": 3, "seconds": 0.0, "k": 2}


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["run", "sample-counting", "--set", "k=0"], "k=0 is not allowed: input should be greater than or equal to 1."),
        (["run", "sample-counting", "--set", "k=[1,0]"], "k=0 is not allowed"),
        (["run", "sample-counting", "--set", "z=1"], "z is not a parameter of this experiment; it has: k, seconds, steps."),
        (["run", "sample-counting", "--set", "k"], "“k” is not a setting; write name=value."),
        (["run", "sample-cuonting"], "did you mean sample-counting"),
        (["run", "sample-counting", "--params", "no/such.json"], "no/such.json cannot be read"),
        (["run", "sample-counting", "--sets", "k=1"], "unrecognized arguments: --sets"),
        (["run", "sample-counting", "--set"], "--set: expected one argument"),
        (["run"], "EXPERIMENT"),
        (["rnu"], "rnu is not a verb; did you mean run?"),
        (["--frobnicate"], "--frobnicate"),
        (["show"], "SESSION"),
        (["export", "a", "b", "c.pdf"], "FILE=c.pdf cannot be written: its name has to end in .png, .svg or .csv."),
        (["export", "a", "b", "c.png"], "RUN/FIGURE=b names no figure"),
        (["models", "--remove"], "--remove: expected one argument"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_and_status_2(words: list[str], part: str, capsys: Capture) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert part in err


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("content", ["{", "[1]", "3"])
def test_a_params_file_that_holds_no_object_is_wrong_use(tmp_path: Path, content: str, capsys: Capture) -> None:
    (tmp_path / "p.json").write_text(content)
    assert main(["run", "sample-counting", "--params", str(tmp_path / "p.json")]) == 2
    assert "p.json" in capsys.readouterr().err


@pytest.mark.usefixtures("samples")
def test_a_failed_run_is_a_sentence_and_status_1(capsys: Capture) -> None:
    assert main(["run", "sample-breaking", "--set", "how=sentence", "--json"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["state"], found["metrics"]) == ("failed", {"before": 1.0})
    assert found["error"] == "The hook blocks.9 is not in this model; it has 4 layers."
    assert found["error"] in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("samples")
def test_the_traceback_of_a_defect_is_in_a_file_that_is_named(capsys: Capture) -> None:
    assert main(["run", "sample-breaking"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    (log,) = places.logs().glob("*.txt")
    assert str(log) in err
    assert "Traceback" in log.read_text()
    assert "shapes (3,4)" in log.read_text()


@pytest.mark.usefixtures("samples")
def test_a_sweep_goes_on_after_a_failure_and_still_fails(capsys: Capture) -> None:
    assert main(["run", "sample-breaking", "--set", 'how=["sentence", "memory"]', "--json"]) == 1
    assert [one["state"] for one in json.loads(capsys.readouterr().out)] == ["failed", "failed"]


@pytest.mark.usefixtures("samples")
def test_nothing_is_left_behind_without_a_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    assert main(["run", "sample-counting"]) == 0
    assert list(scratch.iterdir()) == []
    assert not places.data().exists()


def test_numbers_that_are_not_finite_are_printed_as_valid_json(capsys: Capture) -> None:
    from engine.cli.printing import print_json

    print_json({"a": float("nan"), "b": [float("inf"), -float("inf")], "c": 1.5})
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == {"a": "NaN", "b": ["Infinity", "-Infinity"], "c": 1.5}


@POSIX
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_at_the_next_batch_and_ends_with_130(with_samples: dict[str, str], kind: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "run", "sample-endless", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=with_samples, cwd=ROOT,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "sample-endless: In the first batch.\n"
    process.send_signal(kind)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    found = json.loads(out)
    assert found["state"] == "interrupted"
    assert found["metrics"]["count"] >= 0
    assert "Stopping at the next batch" in err
    assert "Traceback" not in err


@POSIX
def test_a_second_ctrl_c_leaves_at_once_even_from_a_batch_that_does_not_end(
    with_samples: dict[str, str], tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "run", "sample-endless", "--set", "seconds=60"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=with_samples | {"TMPDIR": str(scratch)}, cwd=ROOT,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "sample-endless: In the first batch.\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "\n"
    assert "Stopping" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    process.communicate()
    assert list(scratch.iterdir()) == []


@POSIX
def test_a_terminal_gets_a_bar(with_samples: dict[str, str]) -> None:
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "run", "sample-counting", "--set", "steps=30", "--set", "seconds=0.02"],
        stdout=subprocess.PIPE, stderr=follower, env=with_samples, cwd=ROOT,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # raised when the terminal's other end is closed
        while part := os.read(leader, 4096):
            shown += part
    os.close(leader)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out.decode().startswith("count    30 steps")
    text = shown.decode()
    assert "30/30" in text
    assert "steps/s" in text
    assert "count" in text


def test_progress_lines_are_few_and_say_rate_and_time_left(capsys: Capture) -> None:
    from engine.cli.progress import ProgressSink

    sink = ProgressSink("train")
    sink.metrics({"loss": (0.0, 0.25, 0.0)})
    for done in range(1000):
        sink.progress(Progress(done, 4000, "steps", 10.0, 400.0 - done / 10, "Training"))
    sink.progress(Progress(4000, 4000, "steps", 10.0, 0.0, "Training"))
    sink.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "train: Training, 0% (0 of 4,000 steps), 10 steps/s, 6 min 40 s left, loss 0.25",
        "train: Training, 100% (4,000 of 4,000 steps), 10 steps/s, loss 0.25",
    ]
