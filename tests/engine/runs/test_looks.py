"""The look lane: looks start at once, replace their panel's earlier one, and make jobs give way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.runs.looks import LookLane
from engine.runs.messages import Answered, Ask, LookProgressed, Measured, Start
from engine.runs.queue import JobLane
from tests.engine.runs.collecting import Collected

pytestmark = pytest.mark.usefixtures("samples")


@pytest.fixture
def sent() -> Collected:
    return Collected()


@pytest.fixture
def lanes(sent: Collected) -> Iterator[tuple[JobLane, LookLane]]:
    jobs = JobLane(sent)
    looks = LookLane(sent, jobs.give_way)
    yield jobs, looks
    assert looks.close(10.0)
    assert jobs.close(10.0)


def ask(look: int, how: str = "answer", panel: str = "p", text: str = "hei") -> Ask:
    return Ask(look, panel, "sample-echo", {"how": how, "text": text})


def test_an_answer_carries_figures_facts_and_arrays(lanes: tuple[JobLane, LookLane], sent: Collected) -> None:
    lanes[1].ask(ask(1, text="grün"))
    answer = sent.answer(1)
    assert (answer.panel, answer.facts, answer.error) == ("p", {"text": "grün"}, "")
    assert answer.figures["line"].title == "grün"
    assert np.array_equal(answer.kept["letters"], [ord(letter) for letter in "grün"])
    assert sent.of(LookProgressed)[0].progress.stage == "Listening"


def test_a_newer_look_replaces_its_panels_older_one_and_no_other(
    lanes: tuple[JobLane, LookLane], sent: Collected
) -> None:
    looks = lanes[1]
    looks.ask(ask(1, "wait", "left"))
    looks.ask(ask(2, "wait", "right"))
    sent.wait(lambda: {message.look for message in sent.of(LookProgressed)} == {1, 2})
    for look in range(3, 13):
        looks.ask(ask(look, "wait", "left"))
    looks.ask(ask(13, "answer", "left", text="newest"))
    assert sent.answer(13).facts == {"text": "newest"}
    with looks._changed:
        assert looks._changed.wait_for(lambda: [one.question.look for one in looks._looks] == [2], 5.0)
    looks.cancel(2)
    assert looks.close(5.0), "replaced and cancelled looks have ended"
    assert [message.look for message in sent.of(Answered)] == [13], "they are not answered"


def test_a_look_preempts_a_running_job_which_then_goes_on(
    lanes: tuple[JobLane, LookLane], sent: Collected, tmp_path: Path
) -> None:
    jobs, looks = lanes
    jobs.start(Start("e", "sample-endless", {}, str(tmp_path / "runs" / "e")))
    sent.wait(lambda: sent.of(Measured))
    looks.ask(ask(1, "wait"))
    sent.wait(lambda: sent.of(LookProgressed))
    control = jobs._current.control  # type: ignore[union-attr]
    assert control.must_wait
    looks.ask(ask(2))
    sent.answer(2)
    assert looks.close(5.0)
    assert not control.must_wait
    rows = len(sent.of(Measured))
    sent.wait(lambda: len(sent.of(Measured)) > rows)


def test_a_job_that_starts_during_a_look_waits_for_it_too(
    lanes: tuple[JobLane, LookLane], sent: Collected, tmp_path: Path
) -> None:
    jobs, looks = lanes
    looks.ask(ask(1, "wait"))
    sent.wait(lambda: sent.of(LookProgressed))
    jobs.start(Start("c", "sample-counting", {}, str(tmp_path / "runs" / "c")))
    sent.wait_for_state("c", "running")
    assert jobs._current is not None
    assert jobs._current.control.must_wait
    assert not sent.of(Measured)
    looks.cancel(1)
    sent.wait_for_state("c", "finished")


def test_errors_are_answered_and_harm_nobody_else(lanes: tuple[JobLane, LookLane], sent: Collected) -> None:
    looks = lanes[1]
    looks.ask(ask(1, "error", "a"))
    looks.ask(ask(2, "memory", "b"))
    looks.ask(Ask(3, "c", "sample-echo", {"how": "shout"}))
    looks.ask(Ask(4, "d", "no-such-look", {}))
    assert sent.answer(1).error == "Nothing was said; say something."
    assert sent.answer(2).error.startswith("Memory ran out in Echo")
    assert "Traceback" in sent.answer(2).traceback
    assert sent.answer(3).error.startswith('how="shout" is not allowed')
    assert "no experiment called no-such-look" in sent.answer(4).error
    looks.ask(ask(5))
    assert sent.answer(5).error == ""
