"""The strength and the two texts of the steering bench: what moving the slider asks and shows."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QTextCursor

from .conftest import Bench
from .steering_scene import Scene


def test_both_texts_are_shown_with_the_differing_token_underlined_and_shaded(scene: Scene) -> None:
    texts = scene.panel.texts
    assert texts.clean.text.toPlainText() == f"{scene.panel.prompt.toPlainText()} felt happy . anna"
    assert scene.text().endswith(" felt sad . anna")
    assert [text for text, kind in texts.steered.text.pieces if kind == "marked"] == ["sad"]
    cursor = texts.steered.text.document().find("sad")
    assert cursor.charFormat().fontUnderline()
    assert cursor.charFormat().background().color() != scene.bench.workbench.theme.canvas
    assert not texts.steered.text.document().find("felt").charFormat().fontUnderline()
    assert texts.steered.head.text() == "Steered, strength +1"
    assert scene.panel.numbers.whole == "KL 0.421 nats per token · first token 183 ms"


def test_answers_that_grow_are_written_at_the_end_and_keep_what_is_selected(scene: Scene) -> None:
    scene.panel.prompt.setPlainText("tom went")
    scene.asked(2)
    scene.partly("felt")
    text = scene.panel.texts.steered.text
    assert scene.text() == "tom went felt"
    cursor = text.textCursor()
    cursor.setPosition(0)
    cursor.movePosition(QTextCursor.MoveOperation.EndOfWord, QTextCursor.MoveMode.KeepAnchor)
    text.setTextCursor(cursor)
    scene.partly("felt", "sad", ".")
    assert scene.text() == "tom went felt sad ."
    text.copy()
    assert QGuiApplication.clipboard().text() == "tom"


def test_the_old_steered_text_stays_dimmed_until_the_first_new_token_and_the_clean_one_undimmed(scene: Scene) -> None:
    assert scene.dim() == (False, False)
    before = scene.text()
    scene.panel.strength.exact.setValue(2.0)
    scene.asked(2)
    assert scene.dim() == (False, True)
    assert scene.text() == before
    scene.partly()
    assert scene.dim() == (False, True)
    assert scene.text() == before
    scene.partly("wept")
    assert scene.dim() == (False, False)
    assert scene.text().endswith("felt wept")
    assert scene.panel.texts.steered.head.text() == "Steered, strength +2"


def test_another_prompt_dims_both_texts(scene: Scene) -> None:
    scene.panel.prompt.setPlainText("tom went")
    assert scene.dim() == (True, True)


def test_while_the_slider_is_dragged_the_next_question_waits_for_a_few_tokens(scene: Scene) -> None:
    scene.drag_to(1.5, press=True)
    assert [asked["strength"] for asked in scene.steers] == [1.0, 1.5], "nothing was out: asked at once"
    scene.drag_to(1.75)
    scene.drag_to(2.0)
    scene.partly("felt")
    assert len(scene.steers) == 2
    scene.partly("felt", "sad", ".")
    assert [asked["strength"] for asked in scene.steers] == [1.0, 1.5, 2.0]


def test_a_slider_at_rest_is_asked_for_though_nothing_has_come_yet(scene: Scene) -> None:
    scene.drag_to(1.5, press=True)
    scene.drag_to(-1.0, release=True)
    scene.asked(3)
    assert scene.steers[-1]["strength"] == -1.0
    scene.answer()
    scene.bench.qtbot.wait(80)  # the rest of the same movement asks nothing again
    assert len(scene.steers) == 3


def test_arrows_go_a_step_pages_ten_and_home_to_zero(scene: Scene) -> None:
    slider = scene.panel.strength.slider
    press = scene.bench.qtbot.keyClick
    seen = []
    for key in (Qt.Key.Key_Right, Qt.Key.Key_PageUp, Qt.Key.Key_Left, Qt.Key.Key_PageDown, Qt.Key.Key_Home):
        press(slider, key)
        seen.append(slider.strength)
        scene.asked(len(seen) + 1)
        scene.answer()
    assert seen == pytest.approx([1.05, 1.55, 1.5, 1.0, 0.0])
    assert [asked["strength"] for asked in scene.steers[1:]] == pytest.approx(seen)
    assert scene.panel.strength.exact.value() == 0.0
    assert scene.panel.texts.steered.head.text() == "Steered, strength 0"


def test_home_goes_to_zero_from_less_than_a_step_away(scene: Scene) -> None:
    scene.panel.strength.show_strength(0.01)
    scene.bench.qtbot.keyClick(scene.panel.strength.slider, Qt.Key.Key_Home)
    assert scene.panel.strength.strength == 0.0


def test_an_exact_strength_may_lie_beyond_the_slider(scene: Scene) -> None:
    scene.panel.strength.exact.setValue(4.37)
    scene.asked(2)
    assert scene.steers[-1]["strength"] == 4.37
    assert scene.panel.strength.slider.range == (-3.0, 4.37)
    assert "+4.37 of -3 to +4.37" in scene.panel.strength.slider.accessibleDescription()


def test_the_slider_takes_its_ends_and_the_datas_own_range_from_the_answer(scene: Scene) -> None:
    slider = scene.panel.strength.slider
    assert (slider.range, slider.band) == ((-3.0, 3.0), (-1.2, 1.4))
    scene.panel.strength.exact.setValue(0.5)
    scene.asked(2)
    scene.answer(slider=[-1.0, 2.0], data_range=None)
    assert (slider.range, slider.band) == ((-1.0, 2.0), None)
    assert slider.strength == 0.5


def test_an_answer_that_comes_too_late_is_ignored(scene: Scene) -> None:
    scene.drag_to(1.5, press=True, release=True)
    scene.asked(2)
    old = scene.newest
    scene.panel.prompt.setPlainText("tom went")
    scene.asked(3)
    scene.partly("felt")
    before = scene.text()
    scene.partly("wept", "wept", look=old)
    scene.looks.answer(old, error="too late")
    assert scene.text() == before
    assert scene.panel.problem.text == ""


def test_a_choice_that_is_taken_back_at_once_is_not_asked_for(scene: Scene) -> None:
    positions = scene.panel.controls.positions
    for place in (2, 0):
        positions.setCurrentIndex(place)
        positions.activated.emit(place)
    scene.bench.wait(lambda: not scene.panel.asker._pause.isActive())
    assert all(asked["positions"] == "all" for asked in scene.steers)


def test_with_the_real_engine_the_slider_changes_the_text(shared_bench: Bench) -> None:
    panel = shared_bench.open("steering", "demo")
    shared_bench.wait(lambda: bool(panel._shown) or bool(panel.problem.text))
    assert panel.problem.text == ""
    clean, steered = panel.texts.clean.text, panel.texts.steered.text
    assert panel.strength.slider.band is not None
    panel.strength.slider.setFocus()
    shared_bench.qtbot.keyClick(panel.strength.slider, Qt.Key.Key_Home)
    shared_bench.wait(lambda: panel._shown.get("strength") == 0.0)
    assert steered.toPlainText() == clean.toPlainText(), "the same seed and no steering"
    panel.strength.exact.setValue(2.0)
    shared_bench.wait(lambda: panel._shown["strength"] == 2.0)
    assert steered.toPlainText() != clean.toPlainText()
    assert any(kind == "marked" for _, kind in steered.pieces)
    assert set(panel.pictures.views) == {"logits", "kl", "projections"}
    assert panel.controls.about.text().startswith("Strength")
    assert "nats per token" in panel.numbers.whole
    shared_bench.painted()
