"""The job lane: order, pause, stop, moving, and what does not start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.runs import sweeps
from engine.runs.messages import Logged, Measured, Progressed, Start, StateChanged
from engine.runs.queue import JobLane
from engine.runs.recording import Recording, RecordingWriter, RunRecord
from tests.engine.runs.collecting import Collected

pytestmark = pytest.mark.usefixtures("samples")


@pytest.fixture
def sent() -> Collected:
    return Collected()


@pytest.fixture
def lane(sent: Collected) -> Iterator[JobLane]:
    lane = JobLane(sent)
    yield lane
    assert lane.close(10.0), "the lane's thread ends"


def order(tmp_path: Path, run: str, experiment: str = "sample-counting", resume: bool = False, **values: Any) -> Start:
    return Start(run, experiment, values, str(tmp_path / "work" / "runs" / run), resume=resume)


def test_jobs_run_one_at_a_time_in_the_order_they_came(lane: JobLane, sent: Collected, tmp_path: Path) -> None:
    for run in ("a", "b", "c"):
        lane.start(order(tmp_path, run, steps=20))
    sent.wait_for_state("c", "finished")
    changes = [(message.run, message.record["state"]) for message in sent.of(StateChanged)]
    once = list(dict.fromkeys(changes))  # facts repeat a state
    assert once == [(run, state) for run in ("a", "b", "c") for state in ("running", "finished")]


@pytest.mark.parametrize("last", ["finished", "stopped"])
def test_what_a_sweep_shares_is_let_go_with_its_last_run_and_not_before(
    lane: JobLane, sent: Collected, tmp_path: Path, last: str
) -> None:
    ends: list[list[str]] = []
    sweeps.at_end("k", lambda: ends.append(sent.states("c")))
    lane.start(order(tmp_path, "blocker", "sample-endless"))
    for run, sweep in (("a", "k"), ("b", ""), ("c", "k")):
        lane.start(replace(order(tmp_path, run, steps=5), sweep=sweep))
    lane.start(order(tmp_path, "d", "sample-endless"))
    sent.wait_for_state("blocker", "running")
    if last == "stopped":
        lane.move("c", 99)
    lane.stop("blocker")
    if last == "stopped":
        sent.wait_for_state("d", "running")
        assert ends == []
        lane.stop("c")
    else:
        sent.wait_for_state("d", "running")
        assert sent.states("a")[-1] == sent.states("c")[-1] == "finished"
    assert len(ends) == 1
    lane.stop("d")


def test_a_queued_job_can_be_moved_or_stopped_and_is_recorded_as_stopped(
    lane: JobLane, sent: Collected, tmp_path: Path
) -> None:
    lane.start(order(tmp_path, "first", "sample-endless"))
    sent.wait_for_state("first", "running")
    for run in ("a", "b", "c"):
        RecordingWriter(tmp_path / "work" / "runs" / run, RunRecord(run, "sample-counting", {}, title=f"Run {run}"))
        lane.start(order(tmp_path, run))
    assert lane.order() == ["a", "b", "c"]
    lane.move("c", 0)
    assert lane.order() == ["c", "a", "b"]
    lane.move("c", 99)
    assert lane.order() == ["a", "b", "c"]
    lane.move("c", 0)
    lane.stop("a")
    assert sent.states("a") == ["stopped"]
    record = Recording(tmp_path / "work" / "runs" / "a").record()
    assert (record.state, record.title) == ("stopped", "Run a")
    lane.stop("first")
    sent.wait_for_state("b", "finished")
    begun = [message.run for message in sent.of(StateChanged) if message.record["state"] == "running"]
    assert list(dict.fromkeys(begun)) == ["first", "c", "b"]


def test_pause_continue_and_stop_are_answered_within_a_second(lane: JobLane, sent: Collected, tmp_path: Path) -> None:
    lane.start(order(tmp_path, "e", "sample-endless"))
    sent.wait(lambda: sent.of(Measured))
    lane.pause("e")
    sent.wait_for_state("e", "paused", 1.0)
    recording = Recording(tmp_path / "work" / "runs" / "e")
    rows = len(recording.metric("count"))
    assert rows == sum(len(message.rows["count"]) for message in sent.of(Measured)), "a paused run is recorded whole"
    lane.go_on("e")
    sent.wait_for_state("e", "running", 1.0)
    sent.wait(lambda: sum(len(message.rows["count"]) for message in sent.of(Measured)) > rows)
    lane.pause("e")
    sent.wait_for_state("e", "paused", 1.0)
    lane.stop("e")
    sent.wait_for_state("e", "stopped", 1.0)
    assert recording.record().state == "stopped"


def test_a_stopped_run_can_be_resumed_the_moment_its_end_is_known(sent: Collected, tmp_path: Path) -> None:
    resumed: list[bool] = []

    def send(message: Any) -> None:
        if isinstance(message, StateChanged) and message.record["state"] == "stopped" and not resumed:
            resumed.append(True)
            lane.start(order(tmp_path, "w", "sample-walk", resume=True, disturb="stop"))
        sent(message)

    lane = JobLane(send)
    lane.start(order(tmp_path, "w", "sample-walk", disturb="stop"))
    sent.wait_for_state("w", "finished")
    assert lane.close(10.0)
    assert not [message for message in sent.of(Logged) if "already" in message.text]


def test_wrong_parameters_and_unknown_experiments_fail_with_a_sentence(
    lane: JobLane, sent: Collected, tmp_path: Path
) -> None:
    lane.start(order(tmp_path, "p", k=0))
    lane.start(order(tmp_path, "q", "sample-countin"))
    sent.wait_for_state("q", "failed")
    records = {message.run: message.record for message in sent.of(StateChanged)}
    assert records["p"]["error"] == "k=0 is not allowed: input should be greater than or equal to 1."
    assert records["q"]["error"].startswith(
        "There is no experiment called sample-countin; did you mean sample-counting"
    )
    assert Recording(tmp_path / "work" / "runs" / "p").record().state == "failed"


def test_the_lane_goes_on_after_a_job_that_ran_out_of_memory(lane: JobLane, sent: Collected, tmp_path: Path) -> None:
    lane.start(order(tmp_path, "m", "sample-breaking", how="memory"))
    lane.start(order(tmp_path, "n"))
    sent.wait_for_state("n", "finished")
    assert sent.states("m") == ["running", "failed"]


def test_a_damaged_record_fails_its_job_and_the_lane_goes_on(lane: JobLane, sent: Collected, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "runs" / "d"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{")
    lane.start(order(tmp_path, "d"))
    lane.start(order(tmp_path, "n"))
    sent.wait_for_state("n", "finished")
    assert sent.states("d")[-1] == "failed"


def test_the_same_run_is_not_queued_twice(lane: JobLane, sent: Collected, tmp_path: Path) -> None:
    lane.start(order(tmp_path, "e", "sample-endless"))
    sent.wait_for_state("e", "running")
    lane.start(order(tmp_path, "e", "sample-endless"))
    assert [message.text for message in sent.of(Logged) if message.level == "warning"] == [
        "e is queued or running already."
    ]
    assert lane.order() == []


def test_closing_interrupts_what_runs_and_what_waits(sent: Collected, tmp_path: Path) -> None:
    lane = JobLane(sent)
    lane.start(order(tmp_path, "e", "sample-endless"))
    sent.wait_for_state("e", "running")
    lane.start(order(tmp_path, "w"))
    assert lane.close(5.0)
    assert sent.states("e")[-1] == "interrupted"
    assert sent.states("w") == ["interrupted"]
    for run in ("e", "w"):
        assert Recording(tmp_path / "work" / "runs" / run).record().state == "interrupted"


def test_what_the_window_hears_of_is_recorded_already(sent: Collected, tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []
    folder = tmp_path / "work" / "runs" / "c"

    def send(message: Any) -> None:
        recording = Recording(folder)
        if type(message).__name__ == "Shown":
            seen.append(("figure", message.name in recording.figure_names()))
        elif type(message).__name__ == "Kept":
            seen.append(("kept", message.name in recording.kept_names()))
        elif isinstance(message, StateChanged):
            record = recording.record().to_json()
            seen.append(("state", record["state"] == message.record["state"]))
            seen.append(("facts", record["facts"] == message.record["facts"]))
        sent(message)

    lane = JobLane(send)
    lane.start(order(tmp_path, "c"))
    sent.wait_for_state("c", "finished")
    assert lane.close(5.0)
    assert {kind for kind, _ in seen} == {"figure", "kept", "state", "facts"}
    assert all(there for _, there in seen)
    assert sent.of(Progressed)[-1].progress.done == 5


def test_a_run_that_cannot_be_resumed_stays_on_disk_as_it_was(lane: JobLane, sent: Collected, tmp_path: Path) -> None:
    lane.start(order(tmp_path, "w", "sample-walk", disturb="stop"))
    sent.wait_for_state("w", "stopped")
    before = (tmp_path / "work" / "runs" / "w" / "record.json").read_bytes()
    lane.start(order(tmp_path, "w", "sample-walk", resume=True, steps=0))
    told = sent.wait(lambda: [message for message in sent.of(Logged) if message.level == "error"])
    assert told[0].text.startswith("steps=0 is not allowed")
    assert (tmp_path / "work" / "runs" / "w" / "record.json").read_bytes() == before
    sent.wait(lambda: sent.of(StateChanged)[-1].record["error"].startswith("steps=0"))
    assert sent.states("w")[-1] == "stopped"


def test_rows_are_written_soon_even_when_nothing_follows_them(lane: JobLane, sent: Collected, tmp_path: Path) -> None:
    lane.start(order(tmp_path, "w", "sample-walk", wait=True))
    sent.wait(lambda: sum(len(message.rows["x"]) for message in sent.of(Measured)) == 25)
    recording = Recording(tmp_path / "work" / "runs" / "w")
    until = time.monotonic() + 10
    while not (recording.metric_names() == ["x", "y"] and len(recording.metric("y")) == 25):
        assert time.monotonic() < until
    lane.stop("w")
