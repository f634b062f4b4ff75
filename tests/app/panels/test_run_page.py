"""The page of a run, live and after reopening, against a real engine process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLineEdit, QPushButton

from app.panels.run_page import RunPage, facts_line
from engine.files import DiskError
from engine.session import Session

from .conftest import Bench


def visible(page: RunPage, name: str) -> QPushButton | None:
    """The visible button with this word."""
    found = [made for made in page.findChildren(QPushButton) if made.text() == name and made.isVisible()]
    return found[0] if found else None


def test_a_page_follows_its_run_from_the_queue_to_the_end(bench: Bench) -> None:
    bench.workbench.pause("none")  # an unknown run disturbs nobody
    first = bench.workbench.start("sample-endless", {"seconds": 0.01})
    run = bench.workbench.start("sample-counting", {"steps": 60, "seconds": 0.01, "k": 7})
    page = bench.open("run", run)
    assert page.title() == "Counting 1"
    assert "waits for those before it" in page.hint.text
    assert visible(page, "Take out of the queue") is not None
    bench.workbench.stop(first)
    bench.wait(lambda: visible(page, "Pause") is not None)
    bench.wait(lambda: page.plots.count == 2)
    assert not page.hint.isVisible()
    bench.wait(lambda: page.header._progress.text().startswith("step ") and "steps/s" in page.header._progress.text())
    bench.wait_until_ended(run)
    bench.wait(lambda: page.figures.count == 1)
    assert page.header._parameters.text() == f"{run} — steps 60 · seconds 0.01 s · k 7 latents"
    assert page.facts.text() == "counted 60"
    assert page.kept.count == 1
    assert visible(page, "Pause") is None
    assert visible(page, "Resume") is None
    bench.painted()
    np.testing.assert_array_equal(page.figures.view("line").figure.y[0], np.arange(60) + 1)


def test_pause_continue_and_stop_act_on_the_run_and_the_page_says_so(bench: Bench) -> None:
    run = bench.workbench.start("sample-endless", {"seconds": 0.01})
    page = bench.open("run", run)
    bench.wait(lambda: visible(page, "Pause") is not None)
    bench.qtbot.mouseClick(visible(page, "Pause"), Qt.MouseButton.LeftButton)
    bench.wait(lambda: visible(page, "Continue") is not None)
    assert bench.workbench.record(run).state == "paused"
    bench.qtbot.mouseClick(visible(page, "Continue"), Qt.MouseButton.LeftButton)
    bench.wait(lambda: visible(page, "Pause") is not None)
    bench.qtbot.mouseClick(visible(page, "Stop and keep"), Qt.MouseButton.LeftButton)
    bench.wait(lambda: bench.workbench.record(run).state == "stopped")
    assert visible(page, "Run again from the start") is not None, "this experiment has no checkpoints"
    assert bench.workbench.metric(run, "count").shape[0] > 0


def test_a_stopped_run_with_a_checkpoint_resumes_as_the_same_run(bench: Bench) -> None:
    run = bench.workbench.start("sample-walk", {"disturb": "stop"})
    page = bench.open("run", run)
    bench.wait_until_ended(run)
    button = visible(page, "Resume")
    assert button is not None
    bench.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    bench.wait(lambda: bench.workbench.record(run).state == "finished")
    assert bench.workbench.metric(run, "x").shape == (40, 3)
    np.testing.assert_array_equal(bench.workbench.metric(run, "x")[:, 0], np.arange(40))


def test_a_failed_run_shows_one_sentence_and_its_traceback_on_demand(bench: Bench) -> None:
    page = bench.open("run", bench.run("sample-breaking", how="value"))
    assert page.problem.isVisible()
    assert "\n" not in page.problem.text
    assert page.problem.text
    details = visible(page, "Details")
    assert details is not None
    assert not page.problem._details.isVisible()
    bench.qtbot.mouseClick(details, Qt.MouseButton.LeftButton)
    assert page.problem._details.isVisible()
    assert "ValueError" in page.problem.details
    known = bench.open("run", bench.run("sample-breaking", how="sentence"))
    assert known.problem.text == "The hook blocks.9 is not in this model; it has 4 layers."


def test_a_run_that_showed_nothing_says_what_to_do(bench: Bench) -> None:
    run = bench.workbench.start("sample-counting", {"steps": 5})
    bench.wait_until_ended(run)
    page = bench.open("run", run)
    assert not page.hint.isVisible()
    waiting = bench.workbench.start("sample-endless", {"seconds": 1})
    queued = bench.workbench.start("sample-counting", {})
    bench.workbench.stop(queued)
    bench.wait_until_ended(queued)
    empty = bench.open("run", queued)
    assert "Duplicate…" in empty.hint.text
    bench.workbench.stop(waiting)
    bench.wait_until_ended(waiting)


def test_renaming_reaches_session_and_tab_and_can_be_undone(bench: Bench) -> None:
    run = bench.run("sample-counting")
    page = bench.open("run", run)
    edit = page.findChild(QLineEdit)
    heard: list[str] = []
    page.title_changed.connect(heard.append)
    edit.selectAll()
    bench.qtbot.keyClicks(edit, "My count")
    bench.qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert bench.workbench.record(run).title == "My count"
    assert heard[-1] == page.title() == "My count"
    bench.workbench.undo()
    assert page.title() == "Counting 1"
    assert edit.text() == "Counting 1"


def test_duplicate_opens_the_form_and_copies_give_the_same_run(bench: Bench) -> None:
    page = bench.open("run", bench.run("sample-counting", steps=8, k=5))
    wanted: list[tuple[str, object]] = []
    bench.workbench.form_wanted.connect(lambda experiment, parameters: wanted.append((experiment, parameters)))
    bench.qtbot.mouseClick(visible(page, "Duplicate…"), Qt.MouseButton.LeftButton)
    assert wanted == [("sample-counting", bench.workbench.record(page.key).parameters)]
    copies = {action.text(): action for action in visible(page, "Copy as…").menu().actions()}
    copies["Copy as command"].trigger()
    assert QGuiApplication.clipboard().text() == "superscope run sample-counting --set steps=8 --set k=5"
    copies["Copy as Python"].trigger()
    assert "run('sample-counting', steps=8, k=5)" in QGuiApplication.clipboard().text()


def test_a_kept_array_is_exported_bit_for_bit(bench: Bench, tmp_path: Path, monkeypatch) -> None:
    page = bench.open("run", bench.run("sample-counting", steps=8))
    path = tmp_path / "counts.npy"
    monkeypatch.setattr("app.panels.run_kept.QFileDialog.getSaveFileName", lambda *given: (str(path)[:-4], ""))
    page.kept.export()
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), np.arange(8))


def test_a_full_disk_while_exporting_is_one_sentence_and_leaves_nothing(bench: Bench, tmp_path: Path, monkeypatch):
    page = bench.open("run", bench.run("sample-counting", steps=8))
    path = tmp_path / "counts.npy"
    monkeypatch.setattr("app.panels.run_kept.QFileDialog.getSaveFileName", lambda *given: (str(path), ""))

    def full(*given: object, **more: object) -> None:
        raise DiskError("The disk that holds this is full.")

    monkeypatch.setattr("engine.files.replacing", full)
    heard: list[tuple[str, str, str]] = []
    bench.workbench.message.connect(lambda *words: heard.append(words))
    page.kept.export()
    assert heard == [("error", "The disk that holds this is full.", "")]
    assert not path.exists()


def test_the_page_of_a_reopened_session_shows_the_same(bench: Bench, tmp_path: Path) -> None:
    run = bench.run("sample-counting", steps=30, k=2)
    page = bench.open("run", run)
    bench.painted()
    before = [page.header._progress.text(), page.facts.text(), page.header._parameters.text(), page.plots.count]
    metrics = {name: bench.workbench.metric(run, name).copy() for name in bench.workbench.metric_names(run)}
    bench.close(page)
    path = tmp_path / "kept.superscope"
    assert bench.workbench.session.save(path).wait().ok
    bench.workbench.session.close()
    bench.workbench.use(Session.open(path))
    again = bench.open("run", run)
    bench.painted()
    assert [
        again.header._progress.text(), again.facts.text(), again.header._parameters.text(), again.plots.count
    ] == before  # fmt: skip
    for name, rows in metrics.items():
        np.testing.assert_array_equal(bench.workbench.metric(run, name), rows)
    np.testing.assert_array_equal(again.figures.view("line").figure.y[0], np.arange(30) + 1)


def test_a_closed_page_no_longer_follows(bench: Bench) -> None:
    run = bench.workbench.start("sample-endless", {"seconds": 0.005})
    page = bench.open("run", run)
    bench.wait(lambda: page.plots.count > 0)
    bench.close(page)
    shown = page.header._progress.text()
    with bench.qtbot.waitSignal(bench.workbench.run_measured):
        pass
    assert not page._rest.isActive()
    assert page.header._progress.text() == shown
    bench.workbench.stop(run)
    bench.wait_until_ended(run)


def test_every_control_of_a_page_has_a_name(bench: Bench) -> None:
    page = bench.open("run", bench.run("sample-counting", steps=8))
    bench.painted()
    for kind in (QPushButton, QLineEdit):
        for control in page.findChildren(kind):
            assert control.accessibleName(), control


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, ""),
        (
            {"layers": 4, "log_direction": "The logarithm is a direction: held-out R² 0.94 for log a, 0.2 more than a"},
            "layers 4\nLog direction: The logarithm is a direction: held-out R² 0.94 for log a, 0.2 more than a",
        ),
        ({"tokens_found": 100_000, "passes": 1.25, "nested": {"a": 1}}, "tokens found 100,000 · passes 1.25"),
    ],
)
def test_the_facts_line_has_the_plain_facts(facts: dict[str, object], line: str) -> None:
    assert facts_line(facts) == line
