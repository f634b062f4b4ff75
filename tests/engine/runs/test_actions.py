"""What a person does to a running job: asked for, done between two batches, recorded, done again on resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ParameterError
from engine.runs.control import Asked, Control
from engine.runs.declaration import Action, ActionValue, find
from engine.runs.execute import execute
from engine.runs.messages import Logged, Start
from engine.runs.queue import JobLane
from engine.runs.recording import Recording, RunRecord
from engine.runs.run import Run
from engine.runs.sinks import MemorySink, NullSink
from tests.engine.runs.collecting import Collected

pytestmark = pytest.mark.usefixtures("samples")
RATE = Action("Change rate…", value=ActionValue("Rate", minimum=1e-9, maximum=10, metric="lr"))


class _AtRow(NullSink):
    """Calls ``act`` when a step is logged."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.act = act

    def metrics(self, rows: Any) -> None:
        self.act(int(rows["x"][0]))


def walk(
    folder: Path, plan: dict[int, tuple[str, dict[str, float]]], *, stop: int = -1, resume: bool = False
) -> RunRecord:
    """Walk with the actions of ``plan``, each asked for after the step that is its key; stop after step ``stop``."""
    control, experiment = Control(), find("sample-walk")

    def act(step: int) -> None:
        if step in plan:
            control.ask(*plan[step])
        if step == stop:
            control.stop()

    parameters = experiment.parameters(steps=40, every=10, seed=5)  # type: ignore[call-arg]
    return execute(experiment, parameters, folder, [_AtRow(act)], control, resume)


PLAN: dict[int, tuple[str, dict[str, float]]] = {
    4: ("push", {"value": 2.0}),
    21: ("turn", {}),
    23: ("push", {"value": 0.7}),
}


def test_an_action_is_done_at_the_next_step_and_recorded_with_it(tmp_path: Path) -> None:
    plain, acted = tmp_path / "a", tmp_path / "b"
    walk(plain, {})
    record = walk(acted, {4: ("push", {"value": 2.0})})
    moved = Recording(acted).metric("x")[:, 1] - Recording(plain).metric("x")[:, 1]
    assert np.allclose(moved[:5], 0)
    assert np.allclose(moved[5:], 2.0)
    assert record.facts["actions"] == [{"step": 5, "name": "push", "values": {"value": 2.0}}]
    assert Recording(acted).record().facts == record.facts


def test_a_resumed_run_does_again_what_was_done_after_its_checkpoint_and_not_what_came_before(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    walk(whole, PLAN)
    assert walk(parts, PLAN, stop=27).state == "stopped"  # its checkpoint is of step 20
    record = walk(parts, {}, resume=True)
    assert record.state == "finished"
    assert np.array_equal(Recording(parts).metric("x")[:, :2], Recording(whole).metric("x")[:, :2])
    assert [action["step"] for action in record.facts["actions"]] == [5, 22, 24], "none is recorded twice"


def test_actions_of_every_stretch_of_a_run_are_kept(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    walk(whole, PLAN | {26: ("turn", {})})
    walk(parts, PLAN, stop=24)
    walk(parts, {26: ("turn", {})}, stop=28, resume=True)
    record = walk(parts, {}, resume=True)
    assert np.array_equal(Recording(parts).metric("y")[:, :2], Recording(whole).metric("y")[:, :2])
    assert [action["step"] for action in record.facts["actions"]] == [5, 22, 24, 27]


def test_a_run_begun_anew_does_nothing_again(tmp_path: Path) -> None:
    walk(tmp_path / "a", PLAN)
    assert "actions" not in walk(tmp_path / "a", {}).facts


def test_replay_says_what_is_still_to_be_done_again() -> None:
    acted = [{"step": 30, "name": "b", "values": {}}, {"step": 10, "name": "a", "values": {"value": 1.0}}]
    run = Run("r", MemorySink(), acted=acted)
    assert run.replay == [(10.0, "a", {"value": 1.0}), (30.0, "b", {})]
    assert run.actions(20) == []
    assert run.replay == [(30.0, "b", {})]
    assert run.actions(30) == [Asked("b", {})]
    assert run.actions(30) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "needs a number, not None"),
        ({"value": "fast"}, "needs a number, not 'fast'"),
        ({"value": float("nan")}, "needs a number, not nan"),
        ({"value": True}, "needs a number, not True"),
        ({"value": 11}, "cannot take 11: rate has to be at least 1e-09 and at most 10"),
        ({"value": 0}, "cannot take 0"),
    ],
)
def test_a_value_that_an_action_cannot_take_is_refused_in_words(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        RATE.check(values)


def test_values_are_numbers_and_an_action_without_one_takes_none() -> None:
    assert RATE.check({"value": 10}) == {"value": 10.0}
    assert Action("Resample").check({"value": 3}) == {}


def test_actions_are_part_of_the_catalogue() -> None:
    described = find("sample-walk").describe()["actions"]
    assert list(described) == ["push", "turn"]
    assert described["push"]["value"] == {"label": "Push", "unit": "m", "minimum": 0.5, "maximum": 10, "metric": "x"}
    assert described["turn"]["value"] is None


def test_the_lane_hands_actions_to_the_running_job_alone_and_says_what_it_refuses(tmp_path: Path) -> None:
    sent = Collected()
    lane = JobLane(sent)
    try:
        lane.act("gone", "push", {"value": 1.0})
        folder = tmp_path / "work" / "runs" / "w"
        lane.start(Start("w", "sample-walk", {"steps": 30, "wait": True, "at": 3}, str(folder)))
        sent.wait_for_state("w", "running")
        lane.act("w", "push", {"value": 99})
        lane.act("w", "fly", {})
        lane.stop("w")
        sent.wait_for_state("w", "stopped")
        lane.act("w", "turn", {})
    finally:
        assert lane.close(10.0)
    warnings = [message.text for message in sent.of(Logged) if message.level == "warning"]
    assert warnings == [
        "gone is not running any more, so nothing was changed in it.",
        "“Push” cannot take 99: push has to be at least 0.5 and at most 10; nothing was changed.",
        "sample-walk has no action fly; it has: push, turn.",
        "w is not running any more, so nothing was changed in it.",
    ]
