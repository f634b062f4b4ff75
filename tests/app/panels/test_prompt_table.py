"""The table of a prompt set: typed in, pasted into, taken back; where it comes from and where it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QCoreApplication, QEvent, QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog

from app.panels import prompt_editing
from app.panels.prompt_cells import from_tsv, to_tsv, typed, untyped
from app.panels.prompt_table import PromptTable
from app.workbench import Workbench
from engine.text.prompts import open_prompts
from tests.app.test_accessibility import clipped, nameless

from .prompt_hand import CTRL, ROWS, Hand, Key, Modifier, named


@pytest.fixture
def at(qtbot, qapp) -> Iterator[Callable[[str], Hand]]:
    """Makes a shown table over a workbench without a session."""
    workbench = Workbench()
    made: list[PromptTable] = []

    def make(reference: str) -> Hand:
        table = PromptTable(workbench, reference)
        qtbot.addWidget(table)
        table.resize(1000, 500)
        table.show()
        made.append(table)
        return Hand(qtbot, table)

    yield make
    for table in made:
        table.closing()
        table.close()
    workbench.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_typed_for_a_text_is_read_as_that_text(text: str) -> None:
    assert untyped(typed(text)) == text
    assert not set(typed(text)) & set("\n\t\r")


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=4), min_size=1))
def test_cells_come_back_from_the_clipboard_as_they_were(rows: list[list[str]]) -> None:
    assert from_tsv(to_tsv(rows)) == rows


def test_a_text_with_a_quotation_mark_of_its_own_is_pasted_as_it_is() -> None:
    assert from_tsv('"so" he said\t"x') == [['"so" he said', '"x']]


def test_a_built_in_set_is_shown_with_its_counts(at) -> None:
    hand = at("sentiment")
    assert hand.table.counts.whole == "84 pairs · 6 templates · 12 subjects · 6 words · 3 orders"
    assert hand.table.reference() == "sentiment"
    assert hand.table.prompts() == open_prompts("sentiment")
    assert not hand.table.problem_button.isVisible()
    assert hand.table.chooser.currentText() == "Sentiment"
    days = at("days")
    assert days.table.counts.whole == "42 pairs · 7 classes in a cycle · 6 templates · 7 days"


def test_in_a_narrow_table_completions_are_seen_beside_their_prompts(at) -> None:
    hand = at("story-sentiment")
    grid = hand.table.editor.grid
    for width, narrow in ((470, True), (1100, False)):
        hand.table.resize(width, 400)
        QCoreApplication.processEvents()
        third = grid.columnViewportPosition(2) + grid.columnWidth(2)
        assert third <= grid.viewport().width()
        assert (grid.columnWidth(0) <= 200) == narrow


def test_a_cell_is_typed_in_and_every_change_can_be_taken_back(at) -> None:
    hand = at("gender")
    hand.write(1, 1, " they")
    assert hand.cells[1][1] == " they"
    assert hand.sets[-1].rows[1].positive == " they"
    edited = hand.table.reference()
    assert open_prompts(edited).rows == hand.sets[-1].rows
    assert hand.sets[-1].reference == edited
    assert hand.table.chooser.currentText() == "Gender (edited)"
    hand.press(Key.Key_Z, CTRL)
    assert hand.table.reference() == "gender"
    assert hand.sets[-1] == open_prompts("gender")
    hand.press(Key.Key_Z, CTRL | Modifier.ShiftModifier)
    assert hand.table.reference() == edited


def test_typing_on_a_cell_replaces_it_and_a_double_click_edits_it(at) -> None:
    hand = at(ROWS)
    hand.go(0, 0)
    hand.press(Key.Key_H)
    line = hand.line()
    hand.finish(line, "ow?")
    assert hand.cells[0][0].lower() == "how?"
    hand.go(2, 0)
    hand.qtbot.mouseDClick(hand.grid.viewport(), Qt.MouseButton.LeftButton, pos=hand.place(2, 0))
    assert hand.line().text() == "It is 2"
    hand.qtbot.keyClick(hand.line(), Key.Key_Escape)
    hand.ended()
    assert hand.cells[2][0] == "It is 2"


def test_white_space_is_shown_and_typed_and_kept_as_it_is(at) -> None:
    hand = at(ROWS)
    index = hand.grid.model().index(0, 1)
    delegate = hand.grid.itemDelegate()
    assert delegate.displayText(index.data(), None) == "␣good"
    hand.write(0, 3, "\\n\\nfrom \\\\n")
    assert hand.cells[0][3] == "\n\nfrom \\n"
    hand.go(0, 3)
    hand.press(Key.Key_Return)
    assert hand.line().text() == "\\n\\nfrom \\\\n"
    assert hand.line().accessibleName() == "Suffix, row 1"
    hand.qtbot.keyClick(hand.line(), Key.Key_Escape)
    hand.ended()


def test_what_is_wrong_is_marked_said_and_found(at) -> None:
    hand = at(ROWS)
    hand.go(3, 1)
    hand.press(Key.Key_Delete)
    assert hand.table.problem == "Row 4: positive is empty; a pair has both completions."
    assert hand.table.problem_button.text() == hand.table.problem
    assert not hand.table._keep.isEnabled()
    index = hand.grid.model().index(3, 1)
    assert index.data(Qt.ItemDataRole.ToolTipRole) == "positive is empty; a pair has both completions."
    assert "positive is empty" in index.data(Qt.ItemDataRole.AccessibleTextRole)
    look = hand.table.workbench.theme
    picture = hand.grid.viewport().grab().toImage()
    corner = hand.grid.visualRect(index).topLeft() + QPoint(1, 6)
    assert picture.pixelColor(corner * picture.devicePixelRatio()) == look.bad
    hand.go(0, 0)
    hand.table.filter.setText("It is 0")
    hand.qtbot.mouseClick(hand.table.problem_button, Qt.MouseButton.LeftButton)
    assert hand.grid.currentIndex() == hand.grid.model().index(3, 1)
    hand.press(Key.Key_Z, CTRL)
    assert hand.table.problem == ""


def test_a_row_is_added_below_and_counts_once_something_stands_in_it(at) -> None:
    hand = at(ROWS)
    hand.go(1, 2)
    hand.press(Key.Key_Insert)
    assert hand.cells[2] == [""] * 6
    assert (hand.grid.currentIndex().row(), hand.grid.currentIndex().column()) == (2, 0)
    assert hand.table.problem == ""
    assert len(hand.sets[-1].rows) == 4
    hand.write(2, 0, "It was")
    assert hand.table.problem == "Row 3: positive is empty; a row has two completions, or a label."
    hand.write(2, 4, "7")
    assert hand.table.problem == ""
    assert hand.table.counts.whole == "5 rows · 4 pairs · 1 class · 3 templates"


def test_rows_are_duplicated_and_deleted_together(at) -> None:
    hand = at(ROWS)
    before = hand.cells
    hand.drag((1, 0), (2, 0))
    hand.press(Key.Key_D, CTRL)
    assert hand.cells == [*before[:3], before[1], before[2], before[3]]
    hand.drag((0, 0), (2, 1))
    hand.press(Key.Key_Delete, CTRL)
    assert hand.cells == [before[1], before[2], before[3]]
    hand.press(Key.Key_Z, CTRL)
    hand.press(Key.Key_Z, CTRL)
    assert hand.cells == before
    hand.grid.selectAll()
    hand.press(Key.Key_Delete, CTRL)
    assert hand.table.problem == "The set has no rows; add one."
    assert hand.sets[-1].rows == ()


def test_a_block_is_copied_and_pasted_with_new_rows_where_it_needs_them(at) -> None:
    hand = at(ROWS)
    hand.write(0, 1, " a\\tb")
    hand.drag((0, 1), (1, 2))
    hand.press(Key.Key_C, CTRL)
    assert from_tsv(QGuiApplication.clipboard().text()) == [[" a\tb", " bad"], [" good", " bad"]]
    hand.go(3, 1)
    hand.press(Key.Key_V, CTRL)
    assert [row[1] for row in hand.cells] == [" a\tb", " good", " good", " a\tb", " good"]
    assert hand.cells[4] == ["", " good", " bad", "", "", ""]
    hand.press(Key.Key_Z, CTRL)
    assert len(hand.cells) == 4


def test_one_text_is_pasted_into_all_that_is_chosen_and_too_wide_a_block_says_what_it_lost(at) -> None:
    hand = at(ROWS)
    QGuiApplication.clipboard().setText("x\n")
    hand.drag((0, 5), (2, 5))
    hand.press(Key.Key_V, CTRL)
    assert [row[5] for row in hand.cells] == ["x", "x", "x", "b"]
    QGuiApplication.clipboard().setText("1\t2\t3")
    hand.go(0, 4)
    hand.press(Key.Key_V, CTRL)
    assert hand.cells[0][4:] == ["1", "2"]
    assert hand.said == ["1 column of what was pasted had no place and were left out; add factors first."]


def test_the_filter_hides_rows_and_what_is_pasted_goes_to_those_that_are_shown(at) -> None:
    hand = at(ROWS)
    hand.qtbot.keyClicks(hand.table.filter, "B")
    # "bad" stands in every row; a value of the factor does not.
    assert hand.table.counts.whole.startswith("4 pairs")
    hand.table.filter.clear()
    hand.qtbot.keyClicks(hand.table.filter, "is 2")
    assert hand.table.counts.whole == "1 of 4 rows shown · 4 pairs · 2 templates"
    hand.write(0, 3, "behind")
    assert [row[3] for row in hand.cells] == ["", "", "behind", ""]
    QGuiApplication.clipboard().setText("p\nq\n")
    hand.go(0, 0)
    hand.press(Key.Key_V, CTRL)
    assert [row[0] for row in hand.cells] == ["It is 0", "It is 1", "p", "It is 3", "q"]
    hand.qtbot.mouseClick(named(hand.table, "Add row"), Qt.MouseButton.LeftButton)
    assert hand.table.filter.text() == ""
    assert hand.grid.model().rowCount() == 6


def test_a_factor_is_added_by_its_name_and_deleted_by_its_column(at) -> None:
    hand = at(ROWS)
    hand.table.name_factor()
    hand.qtbot.keyClicks(hand.table.naming, "Label")
    hand.qtbot.keyClick(hand.table.naming, Key.Key_Return)
    assert hand.said[-1] == "“Label” has a column already; give the factor another name."
    hand.table.naming.clear()
    hand.qtbot.keyClicks(hand.table.naming, "speaker")
    hand.qtbot.keyClick(hand.table.naming, Key.Key_Return)
    assert hand.table.editor.content.factors == ("template", "speaker")
    assert not hand.table.naming.isVisible()
    hand.write(2, 6, "Ann")
    assert hand.sets[-1].rows[2].factors == {"template": "b", "speaker": "Ann"}
    menu = hand.table._rows_button.menu()
    menu.aboutToShow.emit()
    drop = next(action for action in menu.actions() if action.text() == "Delete factor “speaker”")
    drop.trigger()
    assert hand.table.editor.content.factors == ("template",)
    hand.press(Key.Key_Z, CTRL)
    assert hand.sets[-1].rows[2].factors["speaker"] == "Ann"
    hand.table.name_factor()
    hand.qtbot.keyClick(hand.table.naming, Key.Key_Escape)
    assert not hand.table.naming.isVisible()


def test_labels_are_said_to_be_a_cycle_where_they_do_not_say_it_themselves(at) -> None:
    hand = at('{"prompt": "one", "label": 1}\n{"prompt": "two", "label": 2}')
    assert not hand.table.prompts().cyclic
    menu = hand.table._rows_button.menu()
    menu.aboutToShow.emit()
    cycle = next(action for action in menu.actions() if action.text() == "Labels are a cycle")
    cycle.trigger()
    assert hand.sets[-1].cyclic
    assert open_prompts(hand.table.reference()).cyclic
    days = at("days")
    menu = days.table._rows_button.menu()
    menu.aboutToShow.emit()
    cycle = next(action for action in menu.actions() if action.text() == "Labels are a cycle")
    assert cycle.isChecked()
    assert not cycle.isEnabled()


def test_another_set_is_chosen_and_undo_brings_back_what_was_typed(at) -> None:
    hand = at("gender")
    hand.write(0, 0, "She who")
    hand.table.chooser.setFocus()
    place = hand.table.chooser.findData("days")
    hand.table.chooser.setCurrentIndex(place)
    hand.table.chooser.activated.emit(place)
    assert hand.table.reference() == "days"
    assert hand.grid.model().columnCount() == 7
    hand.press(Key.Key_Z, CTRL)
    assert hand.cells[0][0] == "She who"
    assert hand.table.chooser.currentText() == "Gender (edited)"


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_rows_are_saved_and_the_file_is_what_is_shown(
    at, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    hand = at("days")
    hand.write(0, 1, " Freitag")
    path = tmp_path / f"tage{ending}"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    hand.qtbot.mouseClick(hand.table._save, Qt.MouseButton.LeftButton)
    assert hand.said == [f"Saved 42 rows to {path}."]
    assert hand.table.reference() == str(path)
    assert hand.table.chooser.currentText() == "tage"
    found = open_prompts(str(path))
    assert found.rows == hand.table.prompts().rows
    assert found.rows[0].positive == " Freitag"
    hand.press(Key.Key_Z, CTRL)
    assert hand.table.reference() == "days"


def test_a_file_that_cannot_be_written_is_said(at, tmp_path: Path) -> None:
    hand = at("days")
    (tmp_path / "file").write_text("")
    hand.table.save(tmp_path / "file" / "days.csv")
    assert len(hand.said) == 1
    assert hand.table.reference() == "days"


def test_no_more_rows_than_a_set_may_have(at, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_editing, "MOST_ROWS", 5)
    hand = at(ROWS)
    hand.grid.selectAll()
    hand.press(Key.Key_D, CTRL)
    assert len(hand.cells) == 4
    assert hand.said == ["A prompt set has at most 5 rows; delete some first."]
    QGuiApplication.clipboard().setText("a\nb\nc\n")
    hand.go(3, 0)
    hand.press(Key.Key_V, CTRL)
    assert len(hand.cells) == 4


def test_a_reference_that_names_nothing_is_said_and_what_was_shown_stays(at) -> None:
    hand = at("days")
    hand.table.open("nothing")
    assert hand.table.problem_notice.text.startswith("“nothing” is no prompt set")
    assert hand.table.reference() == "days"
    hand.table.open("gender")
    assert hand.table.problem_notice.text == ""


def test_everything_can_be_reached_by_keyboard_and_has_a_name(at) -> None:
    hand = at("days")
    for widget in (hand.grid, hand.table.chooser, hand.table.filter, hand.table._save, hand.table._rows_button):
        assert widget.accessibleName()
        assert widget.focusPolicy() & Qt.FocusPolicy.TabFocus
    assert nameless(hand.table) == []
    for width in (1000, 560):
        hand.table.resize(width, 400)
        QCoreApplication.processEvents()
        assert clipped(hand.table) == []
    hand.grid.setFocus()
    hand.qtbot.waitUntil(hand.grid.hasFocus)
    hand.press(Key.Key_Tab)
    assert not hand.grid.hasFocus()
