"""Comparison, help, notes and cards, with a real workbench and engine."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import Qt, QUrl
from PySide6.QtWidgets import QPushButton

from engine.session import Session

from .conftest import Bench


def test_the_comparison_overlays_runs_and_tables_what_differs_and_how_they_ended(bench: Bench) -> None:
    runs = [bench.run("sample-counting", steps=10, k=k) for k in (2, 5)]
    page = bench.open("compare", ",".join(runs))
    bench.painted()
    assert page.title() == "Compare 2 runs"
    assert page.plots.count == 2
    assert page.differences.view.figure.columns[0].tolist() == ["k"]
    finals = page.finals.view.figure
    assert finals.columns[0].tolist() == ["k 2", "k 5"]
    labels = [axis.label for axis in finals.axes]
    np.testing.assert_array_equal(finals.columns[labels.index("times_k")], [20, 50])


def test_a_deleted_run_leaves_the_comparison_and_undo_brings_it_back(bench: Bench) -> None:
    runs = [bench.run("sample-counting", steps=10, k=k) for k in (2, 5, 6)]
    page = bench.open("compare", ",".join(runs))
    bench.workbench.delete("runs", [runs[1]])
    assert page.title() == "Compare 2 runs"
    bench.workbench.undo()
    assert page.title() == "Compare 3 runs"


def test_the_comparison_follows_runs_that_go_on(bench: Bench) -> None:
    done = bench.run("sample-counting", steps=10)
    page = bench.open("compare", done)
    assert "Select several runs" in page.hint.text
    both = bench.open("compare", f"{done},{bench.workbench.start('sample-endless', {'seconds': 0.005})}")
    going = both.key.split(",")[1]
    bench.wait(lambda: both.finals.view is not None and len(both.finals.view.figure.columns[0]) == 2)
    bench.wait(lambda: both.finals.view.figure.columns[2][1] > 20)
    bench.workbench.stop(going)
    bench.wait_until_ended(going)
    bench.wait(lambda: both.finals.view.figure.columns[1].tolist() == ["Finished", "Stopped"])


def test_help_of_an_experiment_is_its_own_text_with_parameters_and_metrics(bench: Bench) -> None:
    page = bench.open("help", "sample-counting")
    text = page.browser.toPlainText()
    assert page.title() == "Help: Counting"
    for words in ("Counts to", "Active latents per activation", "Steps done so far", "superscope run sample-counting"):
        assert words in text


def test_links_lead_to_other_pages_and_back_and_never_outside(bench: Bench) -> None:
    page = bench.open("help", "")
    assert "Counting" in page.browser.toPlainText()
    said: list[str] = []
    bench.workbench.message.connect(lambda level, text, details: said.append(text))
    page.browser.anchorClicked.emit(QUrl("sample-walk"))
    assert page.title() == "Help: Random walk"
    page.browser.anchorClicked.emit(QUrl("https://example.org/x"))
    assert page.title() == "Help: Random walk"
    assert said == ["This link leads outside Superscope: https://example.org/x"]
    back = next(made for made in page.findChildren(QPushButton) if made.text() == "Back")
    bench.qtbot.mouseClick(back, Qt.MouseButton.LeftButton)
    assert page.page == "index"
    assert not back.isEnabled()


def test_a_page_that_is_not_there_says_so_and_lists_those_that_are(bench: Bench) -> None:
    page = bench.open("help", "no-such-page")
    text = page.browser.toPlainText()
    assert "There is no help page called “no-such-page”" in text
    assert "Random walk" in text


def test_notes_reach_the_session_after_a_pause_and_are_there_after_reopening(bench: Bench, tmp_path) -> None:
    page = bench.open("notes", "")
    bench.qtbot.keyClicks(page.editor, "Layer 3 is odd")
    assert bench.workbench.session.notes == ""
    bench.wait(lambda: bench.workbench.session.notes == "Layer 3 is odd")
    path = tmp_path / "kept.superscope"
    assert bench.workbench.session.save(path).wait().ok
    bench.workbench.session.close()
    bench.workbench.use(Session.open(path))
    assert page.editor.toPlainText() == "Layer 3 is odd"


def test_closing_the_notes_keeps_what_was_typed_last(bench: Bench) -> None:
    page = bench.open("notes", "")
    bench.qtbot.keyClicks(page.editor, "Keep me")
    bench.close(page)
    assert bench.workbench.session.notes == "Keep me"


def test_undoing_an_edit_of_the_notes_shows_the_text_before(bench: Bench, monkeypatch) -> None:
    monkeypatch.setattr("engine.session.edits.TOGETHER", -1.0)  # else quick typing is one step
    page = bench.open("notes", "")
    for text in ("First. ", "Second."):
        bench.qtbot.keyClicks(page.editor, text)
        page.keep()
    bench.workbench.undo()
    assert page.editor.toPlainText() == "First. "


def test_notes_are_read_as_they_will_look(bench: Bench) -> None:
    page = bench.open("notes", "")
    page.editor.setPlainText("# Findings\n\nThe **norm** grows.")
    read = next(made for made in page.findChildren(QPushButton) if made.text() == "Read")
    bench.qtbot.mouseClick(read, Qt.MouseButton.LeftButton)
    assert page.reader.isVisible()
    assert page.reader.toPlainText() == "Findings\nThe norm grows."
    assert bench.workbench.session.notes.startswith("# Findings")
