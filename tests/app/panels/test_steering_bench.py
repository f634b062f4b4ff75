"""The steering bench over scripted answers: what it asks, what it shows, what it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit, QPushButton, QScrollArea

from app.panels.steering_bench import FIRST_PROMPT, OTHER_PROMPT, SteeringBench
from app.panels.steering_words import prompts_title, usual_choices
from engine.figures.kinds import Axis, Lines
from engine.runs.run import Progress
from tests.app.conftest import Shell
from tests.app.test_accessibility import clipped, nameless

from .conftest import Bench
from .fakes import Looks
from .steering_scene import PROMPT, STEERED, Scene, bars, facts


def test_the_first_look_takes_what_fits_the_model(closed: Scene) -> None:
    assert closed.looks.asked == [{"model": "demo"}]
    closed.open_model()
    (asked,) = closed.steers
    assert asked["hook"] == "blocks.1.hook_resid_post", "the residual stream after half of the four blocks"
    assert (asked["model"], asked["prompts"], asked["strength"]) == ("demo", "story-sentiment", 1.0)
    assert asked["prompt"] == PROMPT
    assert (asked["method"], asked["positions"], asked["seed"]) == ("mean-difference", "all", 0)
    assert "dictionary" not in asked


@pytest.mark.parametrize(
    ("model", "attributes", "prompts", "method"),
    [
        ("demo", {}, "story-sentiment", None),
        ("smollm2", {}, "sentiment", None),
        ("toy:modular-addition-1", {"p": 53}, "sums#53", "circular"),
    ],
)
def test_what_a_bench_begins_with_fits_the_model(
    model: str, attributes: dict, prompts: str, method: str | None
) -> None:
    usual = usual_choices(model, attributes)
    assert usual["prompts"] == prompts
    assert usual.get("method") == method


@pytest.mark.parametrize(
    ("method", "shown", "hidden"),
    [
        ("mean-difference", ["read_at"], ["dictionary", "latent", "learned", "target"]),
        ("circular", ["read_at", "target"], ["dictionary", "latent", "learned"]),
        ("learned", ["learned", "target"], ["dictionary", "latent", "read_at"]),
        ("feature-clamp", ["dictionary", "latent"], ["read_at", "learned", "target"]),
    ],
)
def test_only_what_matters_for_the_method_is_shown_and_asked(
    scene: Scene, method: str, shown: list[str], hidden: list[str]
) -> None:
    controls = scene.panel.controls
    place = controls.method.findData(method)
    controls.method.setCurrentIndex(place)
    controls.method.activated.emit(place)
    for name in shown:
        assert getattr(controls, name).isVisible(), name
        assert name in scene.panel.parameters()
    for name in hidden:
        assert not getattr(controls, name).isVisible(), name
        assert name not in scene.panel.parameters()
    if method != "mean-difference":
        scene.asked(2)
        assert scene.steers[-1]["method"] == method


def test_the_hook_point_is_a_stream_and_a_layer(scene: Scene) -> None:
    hook = scene.panel.controls.hook
    assert hook.stream.names[0] == "hook_resid_post"
    assert "attn.hook_pattern" not in hook.stream.names, "there is no vector per token"
    hook.stream.choose("hook_mlp_out")
    hook.layer.setValue(3)
    scene.asked(2)
    assert scene.steers[-1]["hook"] == "blocks.3.hook_mlp_out"
    hook.stream.choose("hook_embed")
    assert scene.panel.parameters()["hook"] == "hook_embed"
    assert not hook.layer.isEnabled()


def test_no_view_is_made_twice_and_a_figure_that_is_gone_is_hidden(scene: Scene) -> None:
    view = scene.panel.pictures.views["logits"]
    scene.panel.strength.exact.setValue(2.0)
    scene.asked(2)
    kl = Lines(title="KL", x_axis=Axis("Token"), y_axis=Axis("KL"), series=("KL",), x=np.arange(3.0), y=np.ones((1, 3)))
    scene.looks.answer(scene.newest, {"logits": bars("Other changes"), "kl": kl}, facts=facts(STEERED))
    assert scene.panel.pictures.views["logits"] is view
    assert view.figure.title == "Other changes"
    assert scene.panel.pictures.views["kl"].isVisible()
    scene.panel.strength.exact.setValue(0.0)
    scene.asked(3)
    scene.answer()
    assert scene.panel.pictures.views["logits"] is view
    assert not scene.panel.pictures.views["kl"].isVisible()


def test_state_brings_every_choice_back(scene: Scene) -> None:
    controls = scene.panel.controls
    place = controls.method.findData("feature-add")
    controls.method.setCurrentIndex(place)
    controls.method.activated.emit(place)
    controls.latent.setValue(17)
    controls.hook.layer.setValue(2)
    controls.temperature.setValue(0.7)
    controls.tokens.setValue(9)
    controls.seed.setValue(5)
    controls.show_prompts("story-gender")
    scene.panel.prompt.setPlainText("tom went")
    scene.panel.strength.exact.setValue(-0.65)
    state, wanted = scene.panel.state(), scene.panel.parameters()
    scene.bench.close(scene.panel)
    again = scene.bench.open("steering", "demo")
    again.restore(state)
    scene.open_model()
    assert again.parameters() == wanted
    assert scene.steers[-1] == wanted
    assert wanted["hook"] == "blocks.2.hook_resid_post"
    assert wanted["temperature"] == 0.7
    assert again.state() == state


def test_run_sweep_starts_it_with_the_same_choices_and_shows_its_page(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    workbench = scene.bench.workbench
    started: list[tuple[str, dict[str, Any]]] = []
    opened: list[tuple[str, str]] = []
    properties = {name: {} for name in (*scene.panel.parameters(), "more") if name not in ("prompt", "new_tokens")}
    catalogue = workbench.catalogue | {"steering-sweep": {"parameters": {"properties": properties}}}
    monkeypatch.setattr(workbench, "catalogue", catalogue)
    monkeypatch.setattr(
        workbench, "start", lambda experiment, values, title="": started.append((experiment, values)) or "run-1"
    )
    workbench.panel_wanted.connect(lambda kind, key, state: opened.append((kind, key)))
    scene.bench.qtbot.mouseClick(scene.panel.top.sweep, Qt.MouseButton.LeftButton)
    ((experiment, values),) = started
    assert experiment == "steering-sweep"
    assert set(values) == set(properties) - {"more"}
    assert values["hook"] == "blocks.1.hook_resid_post"
    assert opened == [("run", "run-1")]


def test_keep_records_what_is_shown_though_somebody_has_moved_on(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[str, dict[str, Any], str]] = []
    monkeypatch.setattr(
        scene.bench.workbench, "start", lambda experiment, values, title="": kept.append((experiment, values, title))
    )
    scene.panel.prompt.setPlainText("tom went")
    scene.bench.qtbot.mouseClick(scene.panel.top.keep, Qt.MouseButton.LeftButton)
    ((experiment, values, title),) = kept
    assert (experiment, values) == ("steer", scene.steers[0])
    assert title.startswith("Steering +1: one monday")


def test_it_can_be_copied_as_command_and_python(scene: Scene) -> None:
    scene.panel.strength.exact.setValue(-1.7)
    for action in scene.panel.top.copy.menu().actions():
        action.trigger()
        text = QGuiApplication.clipboard().text()
        assert "steer" in text
        assert "strength=-1.7" in text
        assert "blocks.1.hook_resid_post" in text


def test_an_error_is_one_sentence_and_the_old_texts_stay_dimmed(scene: Scene) -> None:
    scene.panel.prompt.setPlainText("")
    scene.asked(2)
    scene.looks.answer(scene.newest, error="The prompt is empty; type some text.", traceback="why")
    assert scene.panel.problem.text == "The prompt is empty; type some text."
    assert scene.panel.problem.details == "why"
    assert scene.dim() == (True, True)
    assert not scene.panel._again.isVisible(), "another prompt mends it"
    scene.panel.prompt.setPlainText(scene.steers[0]["prompt"])
    scene.asked(3)
    scene.answer()
    assert scene.panel.problem.text == ""
    assert scene.dim() == (False, False)


def test_a_model_that_fails_to_open_can_be_tried_again(closed: Scene) -> None:
    closed.looks.answer(closed.newest, error="The engine ended while it was looking; try again.")
    assert closed.panel._again.isVisible()
    closed.bench.qtbot.mouseClick(closed.panel._again, Qt.MouseButton.LeftButton)
    assert closed.looks.asked[-1] == {"model": "demo"}
    closed.open_model()
    assert len(closed.steers) == 1


def test_opening_a_large_model_shows_how_far_it_is_and_can_be_cancelled(closed: Scene) -> None:
    closed.bench.wait(lambda: not closed.panel._late.isActive())
    closed.looks.progress(closed.newest, Progress(34.0, 93.0, "files", 0.0, None, "Reading weights"))
    assert closed.panel.loading.isVisible()
    assert closed.panel.loading.text.startswith("Reading weights · 34 of 93 files")
    closed.panel.loading.cancelled.emit()
    assert not closed.panel.loading.isVisible()
    assert closed.panel.problem.text == "Demo model was not opened because you cancelled it."


def test_a_model_that_is_not_here_is_not_fetched(shared_bench: Bench, looks: Looks, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    panel = shared_bench.open("steering", "some-org/some-model")
    assert panel.away.text == "some-org/some-model is not on this machine yet and has to be fetched first."
    panel.prompt.setPlainText("Hello")
    panel.strength.exact.setValue(2.0)
    assert looks.asked == []
    assert panel.controls.parameters()["prompts"] == "sentiment"


def test_every_control_has_a_name_and_the_keyboard_reaches_it(scene: Scene) -> None:
    place = scene.panel.controls.method.findData("feature-add")
    scene.panel.controls.method.setCurrentIndex(place)
    scene.panel.controls.method.activated.emit(place)
    for kind in (QPushButton, QLineEdit, QComboBox, QAbstractSpinBox, QPlainTextEdit, QScrollArea):
        for control in scene.panel.findChildren(kind):
            if control.isVisible() and not isinstance(control.parent(), QComboBox | QAbstractSpinBox):
                assert control.accessibleName(), control
                assert control.focusPolicy() != Qt.FocusPolicy.NoFocus, control
    slider = scene.panel.strength.slider
    assert slider.accessibleName() == "Strength"
    assert slider.accessibleDescription() == "+1 of -3 to +3; the data's own range is -1.2 to +1.4"
    assert slider.focusPolicy() == Qt.FocusPolicy.StrongFocus


def test_another_model_brings_its_own_prompts_and_hook_points(scene: Scene) -> None:
    scene.panel.prompt.setPlainText(FIRST_PROMPT)
    scene.panel.top.model_chosen.emit("smollm2")
    if scene.panel.away.text:
        pytest.skip("SmolLM2 is not on this machine")
    assert scene.looks.asked[-1] == {"model": "smollm2"}
    points = [{"name": f"blocks.{layer}.hook_resid_post", "width": 576} for layer in range(30)]
    scene.looks.answer(scene.newest, facts={"here": True, "hook_points": points})
    asked = scene.steers[-1]
    assert (asked["model"], asked["prompts"]) == ("smollm2", "sentiment")
    assert asked["hook"] == "blocks.14.hook_resid_post"
    assert asked["prompt"] == OTHER_PROMPT
    assert scene.dim() == (True, True)


def test_a_closed_bench_hears_no_answer(scene: Scene) -> None:
    scene.panel.prompt.setPlainText("tom went")
    scene.bench.close(scene.panel)
    assert not scene.panel.asker.is_waiting
    assert not scene.panel.asker._pause.isActive()


def test_rows_edited_in_the_table_are_asked_for_and_another_set_fills_the_table(scene: Scene) -> None:
    controls = scene.panel.controls
    scene.bench.qtbot.mouseClick(controls.rows, Qt.MouseButton.LeftButton)
    table = scene.panel.rows.table
    assert table.isVisible()
    assert table.reference() == "story-sentiment"
    assert len(scene.steers) == 1, "nothing has changed"
    table.editor.model.setData(table.editor.model.index(0, 0), "one friday tom felt")
    scene.asked(2)
    assert scene.steers[-1]["prompts"].startswith('{"prompt": "one friday tom felt"')
    assert controls.prompts.currentText() == "Edited rows"
    place = controls.prompts.findData("story-gender")
    controls.prompts.setCurrentIndex(place)
    controls.prompts.activated.emit(place)
    scene.asked(3)
    assert (scene.steers[-1]["prompts"], table.reference()) == ("story-gender", "story-gender")
    place = controls.prompts.findText("Edited rows")
    assert place >= 0, "what was edited and not kept can be found again"
    controls.prompts.setCurrentIndex(place)
    controls.prompts.activated.emit(place)
    scene.asked(4)
    assert scene.steers[-1]["prompts"].startswith('{"prompt": "one friday tom felt"')
    assert scene.panel.state()["edited_rows"] == table.reference()
    scene.bench.qtbot.mouseClick(controls.rows, Qt.MouseButton.LeftButton)
    assert not table.isVisible()


def test_edited_rows_come_back_with_the_session_though_another_set_was_chosen(scene: Scene) -> None:
    rows = '{"prompt": "one friday tom felt", "positive": " happy", "negative": " sad"}'
    scene.panel.restore({"prompts": "story-gender", "edited_rows": rows})
    assert scene.panel.controls.reference == "story-gender"
    assert scene.panel.controls.prompts.findData(rows) >= 0


def test_what_went_wrong_moves_nothing_and_the_words_of_the_answer_before_go(scene: Scene) -> None:
    scene.panel.resize(760, 600)
    scene.panel.controls.explain("Strength 1 adds the difference of means.")
    scene.bench.painted()
    places = [widget.geometry() for widget in (scene.panel.texts, scene.panel.controls, scene.panel._figures)]
    scene.panel._fail("The prompt set has no row with a label; choose another method.", "")
    scene.bench.painted()
    assert scene.panel.problem.isVisible()
    assert [w.geometry() for w in (scene.panel.texts, scene.panel.controls, scene.panel._figures)] == places
    assert scene.panel.controls.about.text() == "Add the mean of the positive rows less that of the negative ones."


def test_a_network_for_the_method_learned_is_trained_from_the_form(scene: Scene) -> None:
    forms: list[tuple[str, dict[str, Any]]] = []
    scene.bench.workbench.form_wanted.connect(lambda experiment, values: forms.append((experiment, values)))
    scene.panel.controls.training_wanted.emit()
    assert [experiment for experiment, _ in forms] == ["learned-steering"]


def test_the_command_and_the_model_card_open_it(shell: Shell) -> None:
    shell.workbench.commands.run("view.steering")
    panel = shell.window.tabs.current()
    assert isinstance(panel, SteeringBench)
    assert panel.title() == "Steering · Demo model"
    shell.window.tabs.close()


@pytest.mark.parametrize("width", [620, 760, 1400])
def test_no_words_are_cut_off_and_what_one_needs_is_in_sight(scene: Scene, width: int) -> None:
    panel = scene.panel
    panel.resize(width, 600)
    scene.bench.painted()
    assert clipped(panel) == []
    assert nameless(panel) == []
    sides = panel.texts.clean, panel.texts.steered
    assert abs(sides[0].width() - sides[1].width()) <= 1
    needed = (panel.top.models, panel.top.sweep, panel.prompt, panel.strength.slider, panel.controls.method, *sides)
    for widget in needed:
        assert widget.visibleRegion().boundingRect() == widget.rect(), widget


def test_prompt_sets_have_names_for_people() -> None:
    references = ("sentiment", "sums#53", "sums", "prompts:prompt-set-1", "/tmp/pairs.csv", '{"prompt": "a"}')
    assert [prompts_title(reference) for reference in references] == [
        "Sentiment", "Sums modulo 53", "Sums modulo 53", "prompt-set-1", "pairs.csv", "Edited rows",
    ]  # fmt: skip
