"""What a person does to a running run from its page."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel

from app.panels.run_actions import RunActions, ValuePopover, done_words, read_number
from engine.runs.recording import RunRecord

from .conftest import Bench

PUSH: dict[str, Any] = {
    "label": "Push…", "help": "Moves the walker", "value": {
        "label": "Push", "unit": "m", "minimum": 0.5, "maximum": 10, "metric": "x",
    },
}  # fmt: skip
DECLARED: dict[str, dict[str, Any]] = {"push": PUSH, "turn": {"label": "Turn round", "help": "", "value": None}}


class Told:
    """Stands in for a workbench: takes what is asked of it."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str, dict[str, Any]]] = []
        self.act = lambda *given: self.acts.append(given)
        self.metric_names = lambda run: []
        self.record = lambda run: RunRecord(run, "sample-walk", {}, state="running")


def test_what_was_done_is_said_with_its_step_and_value() -> None:
    done = [
        {"step": 1200, "name": "push", "values": {"value": 0.0005}},
        {"step": 1300.0, "name": "turn", "values": {}},
        {"step": 7, "name": "of another version", "values": {}},
    ]
    assert done_words(done, DECLARED) == [
        "step 1,200: push 0.0005 m",
        "step 1,300: turn round",
        "step 7: of another version",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2", 2.0),
        (" 1e0 ", 1.0),
        ("2,5", 2.5),
        ("", "Push needs a number."),
        ("inf", "Push needs a number."),
        ("0.4", "Push has to be at least 0.5 and at most 10."),
        ("11", "Push has to be at least 0.5 and at most 10."),
    ],
)
def test_a_value_is_read_or_refused_in_words(text: str, found: float | str) -> None:
    assert read_number(text, PUSH["value"]) == found


def test_the_buttons_are_there_while_the_run_goes_on_and_say_why_they_cannot_be_pressed(qtbot) -> None:
    made = RunActions("r", Told())  # type: ignore[arg-type]
    qtbot.addWidget(made)
    seen = {}
    for state in ("queued", "running", "paused", "stopped", "interrupted", "finished", "failed"):
        made.refresh(RunRecord("r", "sample-walk", {}, state=state), DECLARED)  # type: ignore[arg-type]
        push = made.buttons["push"]
        seen[state] = (not made.isHidden(), push.isEnabled(), push.toolTip())
    assert seen["running"] == seen["paused"] == (True, True, "Moves the walker")
    assert seen["queued"] == (True, False, "The run waits in the queue; this can be done once it runs.")
    assert seen["stopped"] == (True, False, "The run has stopped; resume it to do this.")
    assert not seen["finished"][0]
    assert not seen["failed"][0]
    assert [button.accessibleName() for button in made.buttons.values()] == ["Push", "Turn round"]
    made.refresh(RunRecord("r", "sample-counting", {}, state="running"), {})
    assert made.isHidden()


def test_a_wrong_value_stays_in_its_field_and_is_said_and_a_right_one_is_sent(qtbot) -> None:
    told = Told()
    made = RunActions("r", told)  # type: ignore[arg-type]
    qtbot.addWidget(made)
    made.refresh(RunRecord("r", "sample-walk", {}, state="running"), DECLARED)
    made.show()
    qtbot.mouseClick(made.buttons["push"], Qt.MouseButton.LeftButton)
    popover = made.popover
    assert isinstance(popover, ValuePopover)
    assert popover.line.accessibleName() == "Push"
    assert popover.line.accessibleDescription() == "Moves the walker"
    qtbot.keyClicks(popover.line, "99")
    qtbot.keyClick(popover.line, Qt.Key.Key_Return)
    assert popover.problem.isVisible()
    assert told.acts == []
    popover.line.selectAll()
    qtbot.keyClicks(popover.line, "2.5")
    assert not popover.problem.isVisible()
    qtbot.keyClick(popover.line, Qt.Key.Key_Return)
    qtbot.mouseClick(made.buttons["turn"], Qt.MouseButton.LeftButton)
    assert told.acts == [("r", "push", {"value": 2.5}), ("r", "turn", {})]


def test_escape_leaves_the_run_as_it_is(qtbot) -> None:
    told = Told()
    made = RunActions("r", told)  # type: ignore[arg-type]
    qtbot.addWidget(made)
    made.refresh(RunRecord("r", "sample-walk", {}, state="running"), DECLARED)
    made.show()
    made.buttons["push"].click()
    assert made.popover is not None
    qtbot.keyClicks(made.popover.line, "3")
    qtbot.keyClick(made.popover, Qt.Key.Key_Escape)
    assert told.acts == []


def test_a_running_run_does_what_its_page_is_told_and_the_page_says_so(bench: Bench) -> None:
    run = bench.workbench.start("sample-strolling", {})
    page = bench.open("run", run)
    bench.wait(lambda: len(bench.workbench.metric(run, "x")) > 2 if "x" in bench.workbench.metric_names(run) else False)
    page.header.actions.buttons["push"].click()
    popover = page.header.actions.popover
    assert 0.0 <= float(popover.line.text()) < 1.0, "it starts from where the walker is"
    popover.line.setText("7")
    popover.accept()
    bench.wait(lambda: "push 7 m" in page.header.done.text())
    bench.wait(lambda: bench.workbench.metric(run, "x")[-1, 1] > 6)
    assert page.header.done.text().startswith("step ")
    assert isinstance(page.header.done, QLabel)
    bench.workbench.pause(run)
    bench.wait(lambda: bench.workbench.record(run).state == "paused")
    heard: list[str] = []
    bench.workbench.message.connect(lambda level, text, details: heard.append(text))
    page.header.actions.buttons["turn"].click()
    assert heard == ["“Turn round” is done when the run goes on."]
    bench.workbench.go_on(run)
    bench.wait(lambda: "turn round" in page.header.done.text())
    bench.workbench.stop(run)
    bench.wait_until_ended(run)
    done = bench.workbench.record(run).facts["actions"]
    assert [(one["name"], one["values"]) for one in done] == [("push", {"value": 7.0}), ("turn", {})]
    assert not page.header.actions.buttons["turn"].isEnabled()
