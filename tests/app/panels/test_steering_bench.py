"""The steering bench over scripted answers: what it asks, what it shows, what it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication, QTextCursor
from PySide6.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit, QPushButton, QScrollArea

from app.panels.steering_bench import FIRST_PROMPT, OTHER_PROMPT, SteeringBench
from app.panels.steering_words import prompts_title, usual_choices
from engine.figures.kinds import Axis, Bars, Lines
from engine.runs.run import Progress
from tests.app.conftest import Shell
from tests.app.test_accessibility import clipped, nameless

from .conftest import Bench
from .fakes import Looks

POINTS = [
    {"name": f"blocks.{layer}.{stream}", "shape": "(batch, position, d_model)", "width": 64}
    for layer in range(4)
    for stream in ("hook_resid_pre", "hook_mlp_out", "hook_resid_post")
] + [{"name": "hook_embed", "width": 64}, {"name": "blocks.0.attn.hook_pattern", "width": 0}]
PROMPT = "one monday anna felt"
CLEAN = ["felt", "happy", ".", "anna"]
STEERED = ["felt", "sad", ".", "anna"]
MARKS = [False, True, False, False]


def bars(title: str) -> Bars:
    return Bars(
        title=title, x_axis=Axis("Token"), y_axis=Axis("Logit"), label=np.array(["a", "b"]), value=np.array([1.0, -1.0])
    )


def facts(steered: list[str], **more: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": ["<start>", "tom", "went"],
        "clean": {"tokens": CLEAN},
        "steered": {"tokens": steered},
        "marks": MARKS[: len(steered)],
        "milliseconds_to_first": 183.4,
        "mean_kl": 0.421,
        "slider": [-3.0, 3.0],
        "data_range": [-1.2, 1.4],
        **more,
    }


class Scene:
    """A bench whose engine says what the test says."""

    def __init__(self, bench: Bench, panel: SteeringBench, looks: Looks) -> None:
        self.bench, self.panel, self.looks = bench, panel, looks

    @property
    def steers(self) -> list[dict[str, Any]]:
        """Parameters of every question to the look "steer"."""
        return [asked for asked in self.looks.asked if "strength" in asked]

    @property
    def newest(self) -> int:
        return len(self.looks.asked)

    def open_model(self) -> None:
        """Let the model say what it has."""
        self.looks.answer(self.newest, facts={"here": True, "hook_points": POINTS})

    def partly(self, *tokens: str, look: int = 0) -> None:
        self.looks.answer(look or self.newest, facts=facts(list(tokens)), done=False)

    def answer(self, look: int = 0, **more: Any) -> None:
        figures = {"logits": bars("Logit changes")}
        self.looks.answer(look or self.newest, figures, facts=facts(STEERED, **more))

    def asked(self, count: int) -> None:
        """Wait until so many questions were put."""
        self.bench.wait(lambda: len(self.steers) == count)

    def drag_to(self, strength: float, *, press: bool = False, release: bool = False) -> None:
        slider = self.panel.strength.slider
        place = QPoint(round(slider.place_of(strength)), slider.height() // 2)
        if press:
            here = QPoint(round(slider.place_of(slider.strength)), slider.height() // 2)
            self.bench.qtbot.mousePress(slider, Qt.MouseButton.LeftButton, pos=here)
        self.bench.qtbot.mouseMove(slider, place)
        if release:
            self.bench.qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=place)

    def text(self) -> str:
        return self.panel.texts.steered.text.toPlainText()

    def dim(self) -> tuple[bool, bool]:
        """Whether the clean text and the steered one are dimmed."""
        return self.panel.texts.clean.veil.isVisible(), self.panel.texts.steered.veil.isVisible()


@pytest.fixture
def looks(shared_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Looks:
    made = Looks()
    monkeypatch.setattr(shared_bench.workbench, "ask", made.ask)
    monkeypatch.setattr(shared_bench.workbench, "cancel", made.cancel)
    return made


@pytest.fixture
def closed(shared_bench: Bench, looks: Looks) -> Scene:
    """A bench that has just been opened; the model has not answered yet."""
    panel = shared_bench.open("steering", "demo")
    assert isinstance(panel, SteeringBench)
    panel.prompt.setPlainText(PROMPT)
    return Scene(shared_bench, panel, looks)


@pytest.fixture
def scene(closed: Scene) -> Scene:
    """One that shows its first answer."""
    closed.open_model()
    closed.answer()
    closed.bench.painted()
    return closed


def test_the_first_look_takes_what_fits_the_model(closed: Scene) -> None:
    assert closed.looks.asked == [{"model": "demo"}]
    closed.open_model()
    (asked,) = closed.steers
    assert asked["hook"] == "blocks.1.hook_resid_post", "the residual stream after half of the four blocks"
    assert (asked["model"], asked["prompts"], asked["strength"]) == ("demo", "story-sentiment", 1.0)
    assert asked["prompt"] == PROMPT
    assert (asked["method"], asked["positions"], asked["seed"]) == ("mean-difference", "all", 0)
    assert "dictionary" not in asked


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
    scene.bench.qtbot.mouseClick(controls.rows, Qt.MouseButton.LeftButton)
    assert not table.isVisible()


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


def test_prompt_sets_have_names_for_people() -> None:
    references = ("sentiment", "sums#53", "sums", "prompts:prompt-set-1", "/tmp/pairs.csv", '{"prompt": "a"}')
    assert [prompts_title(reference) for reference in references] == [
        "Sentiment", "Sums modulo 53", "Sums modulo 53", "prompt-set-1", "pairs.csv", "Edited rows",
    ]  # fmt: skip
