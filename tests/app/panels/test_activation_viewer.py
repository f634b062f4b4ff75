"""The activation viewer with the real engine and the demo model."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit, QPushButton

from app.panels.activation_viewer import EXPERIMENT, ActivationViewer
from app.panels.looking import Cell
from engine.figures.kinds import Figure, pack
from engine.runs.messages import Answered

from .conftest import Bench

PROMPT = "one monday anna went to the park ."


class Asked:
    """What the viewer asks of the workbench, which still answers."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parameters: list[dict[str, object]] = []
        self.answers: list[object] = []
        original = bench.workbench.ask

        def ask(panel, experiment, parameters, on_answer, on_progress=None) -> int:
            self.parameters.append(parameters)
            self.answers.append(on_answer)
            return original(panel, experiment, parameters, on_answer, on_progress)

        monkeypatch.setattr(bench.workbench, "ask", ask)


def settle(bench: Bench, viewer: ActivationViewer) -> None:
    """Wait until the newest answer is shown and painted."""
    bench.wait(lambda: not viewer.asker.is_waiting)
    bench.painted()


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    return shared_bench


@pytest.fixture
def viewer(bench: Bench) -> ActivationViewer:
    made = bench.open("activations", "demo")
    assert isinstance(made, ActivationViewer)
    settle(bench, made)
    made.prompt.setPlainText(PROMPT)
    settle(bench, made)
    return made


def arrays(figure: Figure) -> dict[str, np.ndarray]:
    return pack(figure)[2]


def test_it_opens_with_a_picture_of_the_demo_model(bench: Bench) -> None:
    viewer = bench.open("activations", "")
    settle(bench, viewer)
    assert viewer.title() == "Activations · Demo model"
    assert viewer.prompt.toPlainText().startswith("one monday anna")
    tokens = viewer.pictures.strip.figure.tokens
    assert viewer.pictures.map.figure.values.shape == (2, len(tokens))
    assert viewer.place.cell == Cell(1, len(tokens) - 1), "the last layer and token are locked"
    assert viewer.pictures.attention.figure.pixels.shape == (4, len(tokens), len(tokens))
    assert viewer.facts.whole == f"{len(tokens)} of 128 tokens · 2 layers × 4 heads · d_model 64"
    assert len(viewer.pictures.detail.rows) > 4


def test_typing_asks_once_after_a_pause_and_the_last_token_stays_locked(bench: Bench, viewer, monkeypatch) -> None:
    asked = Asked(bench, monkeypatch)
    viewer.prompt.selectAll()
    bench.qtbot.keyClicks(viewer.prompt, "one monday tom")
    assert asked.parameters == []
    settle(bench, viewer)
    assert [entry["prompt"] for entry in asked.parameters] == ["one monday tom"]
    assert viewer.pictures.strip.figure.tokens.tolist() == ["<start>", "one", "monday", "tom"]
    assert viewer.place.cell.position == 3
    assert viewer.pictures.strip.locked_token == 3


def test_the_old_picture_stays_dimmed_until_the_new_one_is_there(bench: Bench, viewer) -> None:
    shown = viewer.pictures.map.figure
    viewer.prompt.setPlainText("one monday tom went")
    veils = [veil for veil, _ in viewer.pictures._veils]
    assert all(veil.isVisible() for veil in veils)
    assert viewer.pictures.map.figure is shown
    settle(bench, viewer)
    assert not any(veil.isVisible() for veil in veils)
    assert viewer.pictures.map.figure is not shown


def test_an_answer_that_comes_too_late_is_ignored(bench: Bench, viewer, monkeypatch) -> None:
    asked = Asked(bench, monkeypatch)
    viewer.prompt.setPlainText("one monday tom")
    bench.wait(lambda: len(asked.answers) == 1)
    viewer.prompt.setPlainText("one friday")
    bench.wait(lambda: len(asked.answers) == 2)
    settle(bench, viewer)
    shown = viewer.pictures.strip.figure
    asked.answers[0](Answered(1, "x", {"tokens": shown}, {}, error="too late"))
    assert viewer.problem.text == ""
    assert viewer.pictures.strip.figure is shown
    assert shown.tokens.tolist() == ["<start>", "one", "friday"]


def test_a_click_on_a_token_moves_the_lock_in_map_attention_and_detail(bench: Bench, viewer) -> None:
    before = viewer.pictures.detail.rows
    flow = viewer.pictures.strip.flow
    place = flow.rectangle(2).center().toPoint()
    bench.qtbot.mouseClick(flow.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(place))
    assert viewer.place.cell == Cell(1, 2)
    assert viewer.pictures.map.locked_cell == (1, 2)
    assert viewer.pictures.attention.tiles.row == 2
    settle(bench, viewer)
    assert viewer.pictures.detail.rows != before
    assert viewer.pictures.detail.table.toolTip().endswith("at layer 1, position 2")
    norm = viewer.pictures.map.figure.values[1, 2]
    assert viewer.pictures.detail.rows[0] == ["Norm (L2)", f"{norm:.4g}"]


def test_arrow_keys_move_the_token_and_a_held_key_asks_once(bench: Bench, viewer, monkeypatch) -> None:
    asked = Asked(bench, monkeypatch)
    last = viewer.place.cell.position
    for _ in range(3):
        bench.qtbot.keyClick(viewer.pictures.strip.flow, Qt.Key.Key_Left)
    assert viewer.place.cell.position == last - 3
    settle(bench, viewer)
    assert [entry["position"] for entry in asked.parameters] == [last - 3]


def test_a_click_on_the_map_locks_layer_and_token_everywhere(bench: Bench, viewer) -> None:
    viewer.pictures.map.cell_clicked.emit(0, 3)
    assert viewer.place.cell == Cell(0, 3)
    assert viewer.pictures.strip.locked_token == 3
    assert viewer.controls.layer.value() == 0
    settle(bench, viewer)
    assert viewer.pictures.attention.figure.title == "Attention patterns of layer 0"
    np.testing.assert_array_equal(viewer.pictures.strip.figure.value, viewer.pictures.map.figure.values[0])


def test_the_layer_box_moves_the_lock(bench: Bench, viewer) -> None:
    viewer.controls.layer.setValue(0)
    assert viewer.pictures.map.locked_cell == (0, viewer.place.cell.position)
    settle(bench, viewer)
    assert viewer.pictures.attention.figure.title == "Attention patterns of layer 0"


def test_a_token_that_was_locked_by_hand_stays_while_one_goes_on_typing(bench: Bench, viewer) -> None:
    viewer.place.go(position=2)
    settle(bench, viewer)
    viewer.prompt.setPlainText(PROMPT + " she felt happy .")
    settle(bench, viewer)
    assert viewer.place.cell.position == 2
    viewer.prompt.setPlainText("one")
    settle(bench, viewer)
    assert viewer.place.cell.position == 1, "a shorter prompt brings it inside"


@pytest.mark.parametrize(
    ("quantity", "title", "worded"),
    [(0, "Norm of mlp.hook_post", False), (1, "Unit 5 of mlp.hook_post", False)],
)
def test_quantity_and_stream_are_switched_while_looking(bench: Bench, viewer, quantity, title, worded) -> None:
    viewer.controls.stream.choose("mlp.hook_post")
    viewer.controls.quantity.setCurrentIndex(quantity)
    viewer.controls.unit.setValue(5)
    settle(bench, viewer)
    assert viewer.pictures.map.figure.title == title
    assert viewer.controls.unit.isVisible() is (quantity == 1)
    assert viewer.controls.unit.maximum() == 255
    assert viewer.pictures.detail._no_lens.isVisible(), "256 units are no residual stream"
    viewer.controls.stream.choose("hook_resid_post")
    settle(bench, viewer)
    assert not viewer.pictures.detail._no_lens.isVisible()
    assert viewer.pictures.detail.bars.isVisible()


def test_the_logit_lens_writes_its_top_token_into_each_cell(bench: Bench, viewer) -> None:
    viewer.controls.quantity.setCurrentIndex(2)
    settle(bench, viewer)
    figure = viewer.pictures.map.figure
    assert figure.text.shape == figure.values.shape
    assert figure.text[-1, 0] == "one", "after the start of a story the model expects its first word"
    assert figure.values.max() <= 1


def test_switching_bos_off_removes_the_first_token(bench: Bench, viewer) -> None:
    count = len(viewer.pictures.strip.figure.tokens)
    viewer.controls.bos.setChecked(False)
    settle(bench, viewer)
    assert len(viewer.pictures.strip.figure.tokens) == count - 1
    assert viewer.pictures.strip.figure.tokens[0] == "one"


def test_keep_records_a_run_whose_figures_equal_the_look_bit_for_bit(bench: Bench, viewer) -> None:
    viewer.controls.quantity.setCurrentIndex(2)
    viewer.place.go(0, 3)
    settle(bench, viewer)
    shown = {
        "map": viewer.pictures.map.figure,
        "tokens": viewer.pictures.strip.figure,
        "logits": viewer.pictures.detail.bars.figure,
        "attention": viewer.pictures.attention.figure,
    }
    button = next(made for made in viewer.findChildren(QPushButton) if made.text() == "Keep")
    bench.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    run = bench.workbench.session.runs()[-1].id
    bench.wait_until_ended(run)
    record = bench.workbench.record(run)
    assert (record.state, record.experiment, record.title) == ("finished", EXPERIMENT, f"Activations: {PROMPT}")
    for name, figure in shown.items():
        kept = bench.workbench.session.figure(run, name)
        assert (kept.title, kept.note) == (figure.title, figure.note)
        assert arrays(kept).keys() == arrays(figure).keys()
        for part, values in arrays(figure).items():
            np.testing.assert_array_equal(arrays(kept)[part], values)
    page = bench.open("run", run)
    bench.painted()
    assert page.figures.count == 5


def test_keep_records_what_is_shown_though_somebody_has_moved_on(bench: Bench, viewer) -> None:
    viewer.place.go(0, 3)
    settle(bench, viewer)
    viewer.place.go(1, 1)
    viewer.prompt.setPlainText("one friday")
    viewer.keep()
    parameters = bench.workbench.session.runs()[-1].parameters
    assert (parameters["prompt"], parameters["layer"], parameters["position"]) == (PROMPT, 0, 3)
    bench.wait_until_ended(bench.workbench.session.runs()[-1].id)
    settle(bench, viewer)


def test_an_empty_prompt_is_one_sentence_and_the_old_picture_stays_dimmed(bench: Bench, viewer) -> None:
    viewer.prompt.setPlainText("")
    bench.wait(lambda: bool(viewer.problem.text))
    assert viewer.problem.text == "The prompt is empty; type some text to see what the model does with it."
    assert all(veil.isVisible() for veil, _ in viewer.pictures._veils)
    viewer.prompt.setPlainText("one")
    settle(bench, viewer)
    assert viewer.problem.text == ""
    assert not any(veil.isVisible() for veil, _ in viewer.pictures._veils)


def test_going_back_to_what_is_shown_after_an_error_lifts_the_error(bench: Bench, viewer) -> None:
    viewer.prompt.setPlainText("")
    bench.wait(lambda: bool(viewer.problem.text))
    viewer.prompt.setPlainText(PROMPT)
    settle(bench, viewer)
    assert viewer.problem.text == ""
    assert not any(veil.isVisible() for veil, _ in viewer.pictures._veils)


def test_a_prompt_longer_than_the_context_says_by_how_much(bench: Bench, viewer) -> None:
    viewer.prompt.setPlainText("one " * 200)
    bench.wait(lambda: bool(viewer.problem.text))
    assert viewer.problem.text == ("The prompt has 201 tokens, but Demo model reads at most 128; shorten it by 73.")


def test_words_the_model_does_not_know_are_counted(bench: Bench, viewer) -> None:
    viewer.prompt.setPlainText("one xylophone went")
    settle(bench, viewer)
    assert viewer.hint.text.startswith("1 token is unknown to this model")


def test_when_the_engine_dies_while_looking_one_can_try_again(own_bench: Bench, monkeypatch) -> None:
    bench = own_bench
    viewer = bench.open("activations", "demo")
    settle(bench, viewer)
    asked = Asked(bench, monkeypatch)
    os.kill(bench.workbench.engine.pid, signal.SIGSTOP)
    viewer.prompt.setPlainText("one friday")
    bench.wait(lambda: len(asked.parameters) == 1)
    os.kill(bench.workbench.engine.pid, signal.SIGKILL)
    bench.wait(lambda: bool(viewer.problem.text))
    assert viewer.problem.text.endswith("try again.")
    assert viewer._again.isVisible()
    bench.qtbot.mouseClick(viewer._again, Qt.MouseButton.LeftButton)
    settle(bench, viewer)
    assert viewer.problem.text == ""
    assert viewer.pictures.strip.figure.tokens.tolist() == ["<start>", "one", "friday"]


def test_a_model_that_is_not_here_is_not_fetched_by_looking(bench: Bench, monkeypatch) -> None:
    asked = Asked(bench, monkeypatch)
    monkeypatch.setenv("HF_HUB_CACHE", os.environ["SUPERSCOPE_HOME"])
    viewer = bench.open("activations", "some-org/some-model")
    wanted: list[tuple[str, str]] = []
    bench.workbench.panel_wanted.connect(lambda kind, key, state: wanted.append((kind, key)))
    assert viewer.away.text == "some-org/some-model is not on this machine yet and has to be fetched first."
    viewer.prompt.setPlainText("Hello")
    assert not viewer.asker.is_waiting
    assert asked.parameters == []
    button = next(made for made in viewer.away.findChildren(QPushButton) if made.text() == "Open model")
    bench.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert wanted == [("open-model", "some-org/some-model")]


def test_what_is_no_reference_is_one_sentence(bench: Bench) -> None:
    viewer = bench.open("activations", "what is this")
    assert "no model reference" in viewer.problem.text


def test_state_brings_everything_back(bench: Bench, viewer) -> None:
    viewer.controls.quantity.setCurrentIndex(1)
    viewer.controls.unit.setValue(7)
    viewer.controls.stream.choose("hook_resid_pre")
    viewer.place.go(0, 2)
    settle(bench, viewer)
    state, shown = viewer.state(), arrays(viewer.pictures.map.figure)
    bench.close(viewer)
    again = bench.open("activations", "demo")
    again.restore(state)
    settle(bench, again)
    assert again.place.cell == Cell(0, 2)
    assert again.pictures.map.figure.title == "Unit 7 of hook_resid_pre"
    assert again.pictures.map.locked_cell == (0, 2)
    np.testing.assert_array_equal(arrays(again.pictures.map.figure)["values"], shown["values"])


def test_it_can_be_copied_as_command_and_python(bench: Bench, viewer) -> None:
    viewer.place.go(0, 2)
    settle(bench, viewer)
    for action in viewer._copy.menu().actions():
        action.trigger()
        text = QGuiApplication.clipboard().text()
        assert EXPERIMENT in text
        assert PROMPT in text
        assert "layer=0" in text
        assert "position=2" in text


def test_a_closed_viewer_hears_no_answer(bench: Bench, viewer) -> None:
    viewer.prompt.setPlainText("one friday")
    bench.close(viewer)
    assert not viewer.asker.is_waiting
    assert not viewer.asker._pause.isActive()


def test_every_control_has_a_name_and_the_keyboard_reaches_it(bench: Bench, viewer) -> None:
    kinds = (QPushButton, QLineEdit, QComboBox, QAbstractSpinBox, QPlainTextEdit)
    for kind in kinds:
        for control in viewer.findChildren(kind):
            if control.isVisible() and not isinstance(control.parent(), QComboBox | QAbstractSpinBox):
                assert control.accessibleName(), control
                assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, control
    viewer.prompt.setFocus()
    seen, widget = [], viewer.prompt.nextInFocusChain()
    while widget is not viewer.prompt:
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisibleTo(viewer):
            seen.append(widget)
        widget = widget.nextInFocusChain()
    for wanted in (viewer.controls.quantity, viewer.controls.layer, viewer.pictures.strip.flow, viewer.models):
        assert wanted in seen


@pytest.mark.real_model
def test_smollm2_expects_paris_after_the_capital_of_france(bench: Bench) -> None:
    viewer = bench.open("activations", "smollm2")
    assert viewer.prompt.toPlainText() == "The capital of France is"
    settle(bench, viewer)
    bars = viewer.pictures.detail.bars.figure
    assert bars.label[0] == "·Paris"
    assert bars.value[0] == pytest.approx(0.75, abs=0.01)
    viewer.controls.quantity.setCurrentIndex(2)
    settle(bench, viewer)
    assert viewer.pictures.map.figure.text[-1, -1] == "·Paris"
    assert viewer.pictures.map.figure.values.shape == (30, 6)


def test_the_longest_name_of_a_model_does_not_widen_the_viewer(shared_bench: Bench) -> None:
    viewer = shared_bench.open("activations", "demo")
    before = viewer.models.minimumSizeHint().width()
    viewer.models.addItem("A very long name of a model that somebody has trained for a very long time", "x")
    assert viewer.models.minimumSizeHint().width() == before
    assert viewer.models.sizeHint().width() == before
