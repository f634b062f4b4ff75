"""One run from its first record to its last: states, sentences, exact resumption, full disks."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import files
from engine.runs import environment
from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.recording import Recording, RecordingWriter, RunRecord
from engine.runs.sinks import MemorySink

pytestmark = pytest.mark.usefixtures("samples")


def carry_out(
    name: str, folder: Path, resume: bool = False, control: Control | None = None, **values: Any
) -> RunRecord:
    experiment = find(name)
    return execute(experiment, experiment.parameters(**values), folder, control=control, resume=resume)


def test_a_finished_run_is_recorded_whole(tmp_path: Path) -> None:
    states = []
    memory = MemorySink()
    experiment = find("sample-counting")
    record = execute(
        experiment,
        experiment.parameters(steps=4),
        tmp_path / "sample-counting-1",
        [memory],
        announce=lambda record: states.append(record.state),
    )
    recording = Recording(tmp_path / "sample-counting-1")
    assert states == ["running", "finished"]
    assert recording.record() == record
    assert (record.id, record.state, record.error, record.facts) == (
        "sample-counting-1",
        "finished",
        "",
        {"counted": 4},
    )
    assert record.parameters == {"steps": 4, "seconds": 0.0, "k": 3}
    assert record.started is not None
    assert record.ended is not None
    assert record.started <= record.ended
    assert np.array_equal(recording.metric("count")[:, :2], [[0, 1], [1, 2], [2, 3], [3, 4]])
    assert np.array_equal(recording.figure("line").y, [[1, 2, 3, 4]])  # type: ignore[attr-defined]
    assert np.array_equal(recording.kept("counts"), np.arange(4))
    assert memory.facts == {"counted": 4}
    assert [row[1] for row in memory.rows["count"]] == [1, 2, 3, 4]


def test_the_environment_names_what_the_run_was_computed_with(tmp_path: Path) -> None:
    found = carry_out("sample-counting", tmp_path / "a").environment
    assert found["python"].startswith("3.")
    assert found["numpy"] == np.__version__
    assert found["processor"]
    assert found["cores"] >= found["threads"] >= 1


def test_a_record_made_before_keeps_its_id_title_and_sweep(tmp_path: Path) -> None:
    queued = RunRecord("named-7", "sample-counting", {}, title="Mine", created=5.0, sweep="k")
    RecordingWriter(tmp_path / "x", queued)
    record = carry_out("sample-counting", tmp_path / "x")
    assert (record.id, record.title, record.created, record.sweep) == ("named-7", "Mine", 5.0, "k")


@pytest.mark.parametrize(
    ("how", "words", "has_traceback"),
    [
        ("sentence", "The hook blocks.9 is not in this model; it has 4 layers.", False),
        ("value", "ValueError: shapes (3,4) and (5,) not aligned", True),
        ("memory", "Memory ran out in Breaking; reduce tokens (1000) and start it again.", True),
        ("numpy-memory", "Memory ran out in Breaking; reduce tokens (1000)", True),
        ("torch-memory", "Memory ran out in Breaking; reduce tokens (1000)", True),
        ("exit", "SystemExit: 3", True),
    ],
)
def test_a_failure_is_one_sentence_and_keeps_what_was_logged(
    tmp_path: Path, how: str, words: str, has_traceback: bool
) -> None:
    record = carry_out("sample-breaking", tmp_path / "b", how=how)
    assert record.state == "failed"
    assert words in record.error
    assert "\n" not in record.error
    assert ("Traceback" in record.traceback) is has_traceback
    recording = Recording(tmp_path / "b")
    assert recording.record() == record
    assert recording.metric("before")[0, 1] == 1.0


def test_an_out_of_memory_error_lets_go_of_what_filled_the_memory(tmp_path: Path) -> None:
    import gc
    import weakref

    from engine.runs.explain import explain

    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    def fill() -> None:
        big = Big()
        alive.append(weakref.ref(big))
        raise MemoryError

    with pytest.raises(MemoryError) as caught:
        fill()
    assert alive[0]() is not None  # the frame still holds it
    explain(caught.value, find("sample-breaking"), find("sample-breaking").parameters())
    gc.collect()
    assert alive[0]() is None


def test_stop_ends_as_stopped_and_interrupt_as_interrupted(tmp_path: Path) -> None:
    for end, state in (("stop", "stopped"), ("interrupt", "interrupted")):
        control = Control()
        getattr(control, end)()
        assert carry_out("sample-counting", tmp_path / end, control=control).state == state
    assert carry_out("sample-walk", tmp_path / "c", disturb="kill").state == "interrupted"


def test_a_pause_is_recorded_with_all_rows_and_takes_no_working_time(tmp_path: Path) -> None:
    control, reached, done = Control(), threading.Event(), threading.Event()
    states: list[str] = []

    def announce(record: RunRecord) -> None:
        states.append(record.state)
        if record.state == "paused":
            reached.set()

    experiment = find("sample-endless")
    records: list[RunRecord] = []

    def work() -> None:
        records.append(execute(experiment, experiment.parameters(), tmp_path / "p", control=control, announce=announce))
        done.set()

    threading.Thread(target=work).start()
    control.pause()
    assert reached.wait(1.0), "pause is answered within a second"
    recording = Recording(tmp_path / "p")
    assert recording.record().state == "paused"
    control.resume()
    control.stop()
    assert done.wait(1.0), "stop is answered within a second"
    assert states[:2] == ["running", "paused"]
    assert records[0].state == "stopped"


@pytest.mark.parametrize("disturb", ["stop", "error", "kill"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path, disturb: str) -> None:
    carry_out("sample-walk", tmp_path / "whole", seed=3)
    first = carry_out("sample-walk", tmp_path / "torn", seed=3, disturb=disturb)
    assert first.state == {"stop": "stopped", "error": "failed", "kill": "interrupted"}[disturb]
    assert len(Recording(tmp_path / "torn").metric("x")) in (25, 26)
    second = carry_out("sample-walk", tmp_path / "torn", resume=True, seed=3, disturb=disturb)
    assert (second.state, second.error, second.id) == ("finished", "", "torn")
    assert second.started == first.started
    assert second.elapsed >= first.elapsed
    whole, torn = Recording(tmp_path / "whole"), Recording(tmp_path / "torn")
    for name in ("x", "y"):
        assert whole.metric(name)[:, :2].tobytes() == torn.metric(name)[:, :2].tobytes()
        seconds = torn.metric(name)[:, 2]
        assert np.all(np.diff(seconds) >= 0)
    assert whole.kept("position").tobytes() == torn.kept("position").tobytes()


def test_only_a_run_that_can_be_resumed_keeps_its_checkpoint(tmp_path: Path) -> None:
    stopped = carry_out("sample-walk", tmp_path / "w", disturb="stop")
    assert Recording(tmp_path / "w").checkpoint() is not None
    assert (tmp_path / "w" / stopped.checkpoint).is_dir()
    finished = carry_out("sample-walk", tmp_path / "w", resume=True)
    assert (finished.state, finished.checkpoint) == ("finished", "")
    assert Recording(tmp_path / "w").checkpoint() is None
    assert not list((tmp_path / "w").glob("checkpoint-*"))


def test_resuming_without_a_checkpoint_starts_again_and_says_so(tmp_path: Path) -> None:
    carry_out("sample-walk", tmp_path / "w", every=1000, disturb="stop")
    record = carry_out("sample-walk", tmp_path / "w", every=1000, resume=True)
    assert record.state == "finished"
    assert record.facts == {}, "what the first attempt found does not count"
    recording = Recording(tmp_path / "w")
    assert len(recording.metric("x")) == 40
    assert any("starts again" in line["text"] for line in recording.log())


def test_a_different_environment_is_said_when_a_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out("sample-walk", tmp_path / "w", disturb="stop")
    carry_out("sample-walk", tmp_path / "w", resume=True, disturb="stop")
    lines = Recording(tmp_path / "w").log()
    assert [line["level"] for line in lines] == ["info"], "the same machine is not remarked on"
    record = carry_out("sample-walk", tmp_path / "other", disturb="stop")
    monkeypatch.setattr(environment, "processor", lambda: "Babbage 1")
    carry_out("sample-walk", tmp_path / "other", resume=True)
    warned = [line["text"] for line in Recording(tmp_path / "other").log() if line["level"] == "warning"]
    assert len(warned) == 1
    assert f"processor {record.environment['processor']}, now Babbage 1" in warned[0]


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_a_full_disk_fails_the_run_with_its_sentence_even_when_the_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    writes = 0
    write, append = files.write_bytes, files.append

    def spend() -> None:
        nonlocal writes
        writes += 1
        if writes > after:
            raise files.explain(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "d" / "record.json")

    monkeypatch.setattr(files, "write_bytes", lambda *a, **k: (spend(), write(*a, **k)))
    monkeypatch.setattr(files, "append", lambda *a, **k: (spend(), append(*a, **k)))
    told: list[RunRecord] = []
    experiment = find("sample-counting")
    record = execute(experiment, experiment.parameters(), tmp_path / "d", announce=told.append)
    assert record.state == "failed"
    assert "is full" in record.error
    assert record.traceback == ""
    assert told[-1].state == "failed"


def test_threads_hold_during_the_run_and_not_after_it(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    wanted = 1 if before > 1 else 2
    record = carry_out("sample-threads", tmp_path / "t", threads=wanted)
    assert record.facts == {"threads": wanted}
    assert record.environment["threads"] == wanted
    assert record.environment["torch"] == torch.__version__
    assert torch.get_num_threads() == before
    assert carry_out("sample-threads", tmp_path / "u").facts == {"threads": before}
