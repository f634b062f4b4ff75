"""The engine process, driven through its pipes as the window drives it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import places
from engine.runs import catalogue, messages
from engine.runs.messages import Ask, Message, Start
from engine.runs.recording import Recording, RunRecord
from engine.session import Session
from tests.engine.conftest import ROOT, environment_with
from tests.engine.runs.collecting import Collected


class Engine:
    """A running engine process; ``sent`` collects what it says."""

    def __init__(self, environment: dict[str, str], command: list[str] | None = None) -> None:
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "engine", "--engine-process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
        )
        self.sent = Collected()
        self.errors = b""
        self._threads = [threading.Thread(target=work) for work in (self._read, self._collect)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        while (message := messages.read(self.process.stdout)) is not None:  # type: ignore[arg-type]
            self.sent(message)

    def _collect(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def say(self, *what: Message) -> None:
        assert self.process.stdin is not None
        for message in what:
            self.process.stdin.write(messages.encode(message))
        self.process.stdin.flush()

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]

    def wait(self, timeout: float = 20.0) -> int:
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(10)
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()  # type: ignore[union-attr]
        self.hang_up()
        return code


@pytest.fixture
def start_engine() -> Iterator[Callable[..., Engine]]:
    """Starts engine processes; none outlives its test, whatever happens."""
    started: list[Engine] = []

    def begin(environment: dict[str, str], command: list[str] | None = None) -> Engine:
        started.append(Engine(environment, command))
        return started[-1]

    yield begin
    for engine in started:
        if engine.process.poll() is None:
            engine.hang_up()
            try:
                engine.wait()
            except subprocess.TimeoutExpired:
                engine.process.kill()
                engine.wait()
                raise


@pytest.fixture
def engine(start_engine: Callable[..., Engine], with_samples: dict[str, str]) -> Engine:
    return start_engine(with_samples)


def start(tmp_path: Path, run: str, experiment: str, **values: Any) -> Start:
    return Start(run, experiment, values, str(tmp_path / "work" / "runs" / run))


def recording(tmp_path: Path, run: str) -> Recording:
    return Recording(tmp_path / "work" / "runs" / run)


def test_it_greets_first_then_tells_what_it_can_do_and_keeps_that_for_the_next_start(engine: Engine) -> None:
    engine.sent.wait(lambda: engine.sent.of(messages.Catalogue))
    hello, listing = engine.sent.all[:2]
    assert isinstance(hello, messages.Hello)
    assert isinstance(listing, messages.Catalogue)
    assert hello.pid == engine.process.pid
    assert hello.versions["torch"]
    assert hello.versions["superscope"]
    names = [entry["name"] for entry in listing.experiments]
    assert "sample-counting" in names
    engine.say(messages.Shutdown())
    assert engine.wait() == 0
    assert catalogue.read() == listing.experiments
    assert json.loads((places.cache() / "catalogue.json").read_bytes())["version"]


def test_a_run_is_carried_out_and_told_and_recorded(engine: Engine, tmp_path: Path) -> None:
    engine.say(start(tmp_path, "sample-counting-1", "sample-counting", steps=300))
    engine.sent.wait_for_state("sample-counting-1", "finished")
    rows = np.concatenate([message.rows["count"] for message in engine.sent.of(messages.Measured)])
    assert np.array_equal(rows, recording(tmp_path, "sample-counting-1").metric("count"))
    assert len(rows) == 300
    assert engine.sent.of(messages.Shown)[-1].name == "line"
    assert engine.sent.of(messages.Kept)[-1].shape == [300]


def test_a_run_that_was_saved_is_resumed_from_the_session_file(engine: Engine, tmp_path: Path) -> None:
    with Session.create() as session:
        values = {"seed": 4, "disturb": "stop"}
        id = session.add_run("sample-walk", values).id
        begin = Start(id, "sample-walk", values, str(session.run_folder(id)))
        engine.say(begin)
        engine.sent.wait_for_state(id, "stopped")
        session.update_run(RunRecord.from_json(engine.sent.of(messages.StateChanged)[-1].record))
        session.save(tmp_path / "a.superscope").wait()
        again = session.run_folder(id)
        assert not again.exists(), "the file alone has the run now"
        engine.say(
            Start(id, "sample-walk", values, str(again), resume=True), start(tmp_path, "whole", "sample-walk", seed=4)
        )
        engine.sent.wait_for_state(id, "finished")
        engine.sent.wait_for_state("whole", "finished")
        whole = recording(tmp_path, "whole").metric("x")
        assert Recording(again).metric("x")[:, :2].tobytes() == whole[:, :2].tobytes()


def test_torch_is_not_imported_before_an_experiment_needs_it(
    start_engine: Callable[..., Engine], with_samples: dict[str, str], tmp_path: Path
) -> None:
    code = (
        "import sys, threading, os\n"
        "from engine.runs import process\n"
        "status = process.main(lambda work, run: None)\n"
        "print(sorted({'torch', 'PySide6', 'transformer_lens'} & set(sys.modules)), file=sys.stderr, flush=True)\n"
        "os._exit(status)\n"
    )
    engine = start_engine(with_samples, [sys.executable, "-c", code])
    engine.say(start(tmp_path, "c", "sample-counting"), Ask(1, "p", "sample-echo", {"text": "x"}))
    engine.sent.wait_for_state("c", "finished")
    engine.sent.answer(1)
    engine.say(messages.Shutdown())
    assert engine.wait() == 0
    assert engine.errors.strip().endswith(b"[]")


def test_killed_at_any_moment_it_leaves_a_recording_with_every_row_that_was_told(
    engine: Engine, tmp_path: Path
) -> None:
    engine.say(start(tmp_path, "e", "sample-endless"))
    engine.sent.wait(lambda: engine.sent.of(messages.Kept) and len(recording(tmp_path, "e").metric_names()) > 0)
    flushed = len(recording(tmp_path, "e").metric("count"))
    engine.sent.wait(lambda: sum(len(m.rows["count"]) for m in engine.sent.of(messages.Measured)) > flushed + 100)
    engine.process.kill()
    assert engine.wait() == -signal.SIGKILL
    left = recording(tmp_path, "e")
    record = left.record()
    assert (record.state, record.experiment) == ("running", "sample-endless")
    rows = left.metric("count")
    assert len(rows) >= flushed
    assert np.array_equal(rows[:, 0], np.arange(len(rows)))
    assert np.array_equal(rows[:, 1], np.arange(len(rows)))
    assert np.array_equal(left.kept("ten"), np.arange(10))
    told = sum(len(message.rows["count"]) for message in engine.sent.of(messages.Measured))
    # rows are written four times a second, of steps of two milliseconds each
    assert len(rows) >= told - 0.25 / 0.002 * 2


def test_it_outlives_memory_errors_in_runs_and_looks(engine: Engine, tmp_path: Path) -> None:
    engine.say(
        start(tmp_path, "m", "sample-breaking", how="memory"),
        start(tmp_path, "n", "sample-breaking", how="numpy-memory"),
        Ask(1, "p", "sample-echo", {"how": "memory"}),
        start(tmp_path, "c", "sample-counting"),
    )
    engine.sent.wait_for_state("c", "finished")
    assert engine.sent.states("m")[-1] == engine.sent.states("n")[-1] == "failed"
    assert engine.sent.answer(1).error.startswith("Memory ran out")
    assert engine.process.poll() is None


def test_a_look_is_answered_while_a_job_runs(engine: Engine, tmp_path: Path) -> None:
    engine.say(start(tmp_path, "e", "sample-endless"))
    engine.sent.wait(lambda: engine.sent.of(messages.Measured))
    engine.say(Ask(1, "p", "sample-echo", {"how": "wait"}), Ask(2, "p", "sample-echo", {"text": "µ"}))
    assert engine.sent.answer(2).facts == {"text": "µ"}
    engine.say(messages.Stop("e"))
    engine.sent.wait_for_state("e", "stopped")
    assert [message.look for message in engine.sent.of(messages.Answered)] == [2]


@pytest.mark.parametrize("how", ["shutdown", "hang up", "terminate"])
def test_it_ends_with_its_window_and_interrupts_what_runs(engine: Engine, tmp_path: Path, how: str) -> None:
    engine.say(start(tmp_path, "e", "sample-endless"), start(tmp_path, "q", "sample-counting"))
    engine.sent.wait(lambda: engine.sent.of(messages.Measured))
    if how == "shutdown":
        engine.say(messages.Shutdown())
    elif how == "hang up":
        engine.hang_up()
    else:
        engine.process.terminate()
    assert engine.wait() == 0
    assert recording(tmp_path, "e").record().state == "interrupted"
    assert recording(tmp_path, "q").record().state == "interrupted"
    if how != "hang up":
        assert engine.sent.states("e")[-1] == "interrupted", "its last words are delivered"


def test_prints_of_libraries_and_children_do_not_spoil_the_stream(
    start_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    environment = environment_with(site, {"noisy": "noisy_experiment"})
    (site / "noisy_experiment.py").write_text(
        "import os, subprocess, sys\n"
        "from engine.runs import Parameters, Run, experiment\n"
        "class Nothing(Parameters):\n    pass\n"
        "@experiment('noisy', title='Noisy', area='Samples')\n"
        "def noisy(p: Nothing, run: Run) -> None:\n"
        "    print('from print')\n"
        "    os.write(1, b'from the descriptor\\n')\n"
        "    subprocess.run([sys.executable, '-c', 'import sys; print(len(sys.stdin.read()))'], check=True)\n"
        "    run.fact('done', True)\n"
    )
    engine = start_engine(environment)
    engine.say(start(tmp_path, "noisy-1", "noisy"))
    engine.sent.wait_for_state("noisy-1", "finished")
    engine.say(messages.Shutdown())
    assert engine.wait() == 0
    assert b"from print" in engine.errors
    assert b"from the descriptor" in engine.errors
    assert b"\n0\n" in engine.errors, "the child's stdin is empty, not the window's pipe"


def test_a_package_with_broken_experiments_is_named_and_harms_nobody_else(
    start_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    environment = environment_with(site, {"broken": "broken_experiment", "sample": "tests.engine.runs.sample"})
    (site / "broken_experiment.py").write_text("import no_such_module\n")
    engine = start_engine(environment)
    engine.sent.wait(lambda: engine.sent.of(messages.Logged))
    assert "sample-experiments" in engine.sent.of(messages.Logged)[0].text
    names = [entry["name"] for entry in engine.sent.of(messages.Catalogue)[0].experiments]
    assert "sample-counting" in names
    engine.hang_up()
    assert engine.wait() == 0


def test_nonsense_on_the_pipe_ends_it_with_a_word(engine: Engine) -> None:
    engine.sent.wait(lambda: engine.sent.of(messages.Catalogue))
    engine.process.stdin.write(messages.PREFIX.pack(4, 0) + b"what")  # type: ignore[union-attr]
    engine.process.stdin.flush()  # type: ignore[union-attr]
    assert engine.wait() == 0
    assert engine.sent.of(messages.Logged)[-1].level == "error"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_runs_at_the_lowest_priority_and_is_the_first_to_go_when_memory_runs_out(engine: Engine) -> None:
    engine.sent.wait(lambda: engine.sent.of(messages.Catalogue))
    pid = engine.process.pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "800"
    for thread in os.listdir(f"/proc/{pid}/task"):
        assert os.getpriority(os.PRIO_PROCESS, int(thread)) == 19


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_in_the_windows_terminal_does_not_end_it(engine: Engine, tmp_path: Path) -> None:
    engine.sent.wait(lambda: engine.sent.of(messages.Catalogue))
    engine.process.send_signal(signal.SIGINT)
    engine.say(start(tmp_path, "c", "sample-counting"))
    engine.sent.wait_for_state("c", "finished")
