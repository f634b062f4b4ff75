"""The pieces of the activation viewer that know nothing of models."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt

from app.panels.looking import Cell, HookChooser, Place, PromptEdit

NAMES = [f"blocks.{layer}.{part}" for layer in range(12) for part in ("hook_resid_post", "attn.hook_z")]


@pytest.fixture
def chooser(qtbot) -> HookChooser:
    made = HookChooser("Hook point")
    qtbot.addWidget(made)
    made.set_names(NAMES)
    made.show()
    return made


def test_a_place_is_told_once_per_change_and_stays_inside_its_bounds(qtbot) -> None:
    place = Place()
    heard: list[Cell] = []
    place.moved.connect(heard.append)
    place.bound(4, 6)
    place.go(layer=2, position=3)
    place.go(layer=2, position=3)
    place.step(0, 100)
    place.step(-100, 0)
    assert heard == [Cell(2, 3), Cell(2, 5), Cell(0, 5)]
    place.bound(4, 2)
    assert place.cell == Cell(0, 1)


def test_words_typed_in_any_order_find_a_hook_point(qtbot, chooser: HookChooser) -> None:
    heard: list[str] = []
    chooser.chosen.connect(heard.append)
    edit = chooser.lineEdit()
    edit.selectAll()
    qtbot.keyClicks(edit, "post 11")
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert heard == ["blocks.11.hook_resid_post"]
    assert chooser.current == edit.text() == "blocks.11.hook_resid_post"


def test_what_is_no_hook_point_falls_back_to_the_one_chosen_before(qtbot, chooser: HookChooser) -> None:
    chooser.choose("blocks.3.attn.hook_z")
    heard: list[str] = []
    chooser.chosen.connect(heard.append)
    edit = chooser.lineEdit()
    edit.selectAll()
    qtbot.keyClicks(edit, "nonsense")
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert heard == []
    assert edit.text() == chooser.current == "blocks.3.attn.hook_z"


def test_the_chosen_hook_point_stays_when_the_list_changes_and_has_it(chooser: HookChooser) -> None:
    chooser.choose("blocks.3.attn.hook_z")
    chooser.set_names(NAMES[:10])
    assert chooser.current == "blocks.3.attn.hook_z"
    chooser.set_names(NAMES[:4])
    assert chooser.current == NAMES[0]


def test_the_prompt_grows_with_its_lines_up_to_its_bound_and_tab_leaves_it(qtbot) -> None:
    prompt = PromptEdit(most=4)
    qtbot.addWidget(prompt)
    prompt.show()
    low = prompt.height()
    prompt.setPlainText("a\nb\nc")
    middle = prompt.height()
    prompt.setPlainText("\n".join("abcdefgh"))
    assert low < middle < prompt.height()
    assert prompt.height() - middle == prompt.fontMetrics().lineSpacing()
    assert prompt.tabChangesFocus()
