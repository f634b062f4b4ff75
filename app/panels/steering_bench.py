"""The steering bench: push a model along a direction and read what it writes, beside what it would have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QGuiApplication, QShowEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from app.panels import models
from app.panels.asking import PAUSE, Asker
from app.panels.hook_points import read
from app.panels.loading import LoadingBar, words_of
from app.panels.looking import PromptEdit
from app.panels.pace import Pace
from app.panels.panel import Panel
from app.panels.parts import Notice, button
from app.panels.steering_actions import SteeringActions
from app.panels.steering_controls import SteeringControls
from app.panels.steering_facts import clean_of, effect_line, marks_of, pair_of, tokens_of
from app.panels.steering_pictures import SteeringPictures
from app.panels.steering_rows import SteeringRows
from app.panels.steering_words import are_words, signed, usual_choices
from app.panels.strength_slider import Strength
from app.panels.two_texts import TwoTexts
from app.panels.words import defaults_of, schema_of
from app.theme import M, S, set_role, small
from app.views.base import Line
from engine.errors import SuperscopeError
from engine.figures.words import shortened

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.runs.messages import Answered
    from engine.runs.run import Progress

EXPERIMENT, SWEEP, TRAINING, CARD = "steer", "steering-sweep", "learned-steering", "model-card"
SOON = 40  # ms after another choice
USUAL = {"method": "mean-difference", "read_at": "end", "positions": "all"}
ENOUGH = 3  # tokens that are worth seeing while the slider moves: the first alone is often the same
LATE = 400  # ms of waiting after which progress is shown
COLUMN, BAR = 272, 14  # pixels of the choices at the left, and of them for a scroll bar
FIRST_PROMPT = (
    "one monday anna went to the park . she felt sad . anna saw a dog with a red ball ."
    " the dog wanted the red ball . at the park the dog"
)
OTHER_PROMPT = "I watched the film last night and I thought it was"


class SteeringBench(Panel):
    """Steers one model. While the slider moves the newest strength is asked for as soon as a few tokens have come."""

    kind = "steering"

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self.reference = key or models.usual(workbench)
        self._was_shown = False
        self._shown: dict[str, Any] = {}  # parameters of what is shown
        self._wanted: dict[str, Any] = {}  # parameters of the newest question, put or about to be
        self._clean_of: tuple[Any, ...] = ()
        self.prompt = PromptEdit(most=3)
        self.strength = Strength(workbench)
        self.controls = SteeringControls(workbench)
        self.texts = TwoTexts(workbench)
        self.pictures = SteeringPictures(workbench)
        self.rows = SteeringRows(workbench)
        self.numbers = Line("Effect in numbers")
        self.numbers.setFont(small())
        self.problem = Notice("error")
        self.away = Notice()
        self.hint = Notice()
        self.loading = LoadingBar()
        self.top = SteeringActions(workbench)
        self.asker = Asker(workbench, f"{EXPERIMENT} {key}", EXPERIMENT, self)
        self.card_asker = Asker(workbench, f"{EXPERIMENT} hooks {key}", CARD, self)
        self._late = QTimer(self, singleShot=True, interval=LATE)
        self.pace = Pace(self)
        self._lay_out()
        self._take_defaults()
        self._connect()
        self.top.list_models(self.reference)
        self._begin()

    # ---- layout

    def _lay_out(self) -> None:
        set_role(self, "canvas")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        set_role(self.numbers, "muted")
        self._again = button("Try again", self._begin)
        self.problem.add_action(self._again)
        self.away.add_action(
            button("Open model", lambda: self.workbench.open_panel("open-model", self.reference), role="primary")
        )
        body = QHBoxLayout()
        body.setSpacing(M)
        body.addWidget(_scrolled(self.controls, "Choices", COLUMN))
        body.addLayout(self._right(), 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(M, M, M, M)
        whole.setSpacing(M)
        for widget in (self.top, self.prompt, self.strength, self.loading, self.away):
            whole.addWidget(widget)
        whole.addLayout(body, 1)
        self.setFocusProxy(self.strength.slider)

    def _right(self) -> QVBoxLayout:
        self._below = QWidget()
        under = QVBoxLayout(self._below)
        under.setContentsMargins(0, 0, 0, 0)
        under.setSpacing(M)
        under.addWidget(self.rows)
        under.addWidget(self.pictures, 1)
        right = QVBoxLayout()
        right.setSpacing(S)
        self.texts.lay_over(self.problem)  # so that nothing moves under a hand that edits rows
        right.addWidget(self.texts, 2)
        right.addWidget(self.numbers)
        right.addWidget(self.hint)
        self._figures = _scrolled(self._below, "Figures")
        right.addWidget(self._figures, 3)
        return right

    def _connect(self) -> None:
        self.prompt.textChanged.connect(lambda: self._look(pause=PAUSE))
        self.strength.chosen.connect(lambda _: self.pace.moved())
        self.controls.changed.connect(self._choice_made)
        self.controls.rows_wanted.connect(self._show_rows)
        self.controls.training_wanted.connect(self._train)
        self.rows.chosen.connect(self._rows_edited)
        self.pace.due.connect(lambda: self._look(pause=0))
        self._late.timeout.connect(self._say_waiting)
        self.asker.answered.connect(self._show)
        self.asker.failed.connect(self._fail)
        self.asker.progressed.connect(self._progress)
        self.card_asker.answered.connect(self._learn_hooks)
        self.card_asker.failed.connect(self._fail)
        self.card_asker.progressed.connect(self._progress)
        self.loading.cancelled.connect(self._cancel)
        self.top.model_chosen.connect(self._choose_model)
        self.top.kept.connect(self.keep)
        self.top.swept.connect(self.run_sweep)
        self.top.copied.connect(self._copy_as)
        self.workbench.things_changed.connect(self._things_changed)
        self.workbench.runs_changed.connect(self._runs_changed)

    # ---- panel

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._was_shown:
            self._was_shown = True
            self.strength.slider.setFocus()

    def title(self) -> str:
        return f"Steering · {models.title_of(self.reference, self.workbench)}"

    def state(self) -> dict[str, Any]:
        return self.controls.state() | {
            "reference": self.reference,
            "prompt": self.prompt.toPlainText(),
            "strength": self.strength.strength,
            "rows": self.controls.rows.isChecked(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        reference, prompt, strength = (state.get(name) for name in ("reference", "prompt", "strength"))
        if isinstance(reference, str) and reference and not self.key:
            self.reference = reference
        self.controls.take(state)
        self.rows.follow(self.controls.reference)
        self.controls.rows.setChecked(state.get("rows") is True)
        self.rows.show_rows(self.controls.rows.isChecked())
        if isinstance(strength, int | float):
            self.strength.show_strength(float(strength))
        if isinstance(prompt, str):
            self.prompt.blockSignals(True)
            self.prompt.setPlainText(prompt)
            self.prompt.blockSignals(False)
        self.top.list_models(self.reference)
        self._say_title()
        self._begin()

    def closing(self) -> None:
        self._late.stop()
        self.pace.stop()
        self.asker.cancel()
        self.card_asker.cancel()
        self.rows.closing()
        self.workbench.things_changed.disconnect(self._things_changed)
        self.workbench.runs_changed.disconnect(self._runs_changed)

    def _take_defaults(self) -> None:
        """Begin with what the experiment itself would take, and with words that the model knows."""
        usual = defaults_of(self.workbench.catalogue.get(EXPERIMENT, {}))
        taken = ("method", "read_at", "positions", "temperature", "new_tokens")
        self.controls.take({name: usual[name] for name in taken if name in usual})
        self.controls.take(self._usual())
        self.prompt.setPlainText(self._first_prompt())
        self.strength.show_strength(1.0)

    # ---- asking

    def parameters(self) -> dict[str, Any]:
        """The parameters of the look that is wanted now."""
        return {
            "model": self.reference,
            "prompt": self.prompt.toPlainText(),
            "strength": round(self.strength.strength, 6),
            **self.controls.parameters(),
        }

    def _choice_made(self) -> None:
        self.rows.follow(self.controls.reference)
        self._look(pause=SOON)

    def _show_rows(self, wanted: bool) -> None:
        self.rows.follow(self.controls.reference)
        self.rows.show_rows(wanted)
        self._figures.verticalScrollBar().setValue(0)

    def _rows_edited(self, reference: str) -> None:
        self.controls.rows_edited(reference)
        self._look(pause=PAUSE)

    def _look(self, *, pause: int) -> None:
        if self.away.text or self.card_asker.is_waiting:  # the model comes first; then what is wanted by then is asked
            return
        if not self.controls.hook.is_known:  # the model could not be opened; now it may be
            self._begin()
            return
        wanted = self.parameters()
        if wanted == (self._wanted if self.asker.is_waiting else self._shown) and not self.problem.text:
            return
        self._wanted = wanted
        self.pace.asked()
        self.asker.ask(wanted, pause=pause)
        self.texts.set_waiting(clean=clean_of(wanted) != self._clean_of, steered=True)
        self.pictures.set_waiting(True)
        if not self._late.isActive():
            self._late.start()

    def _begin(self) -> None:
        """Look at the model where it is on this machine; nothing is fetched without being asked for."""
        self.problem.say("")
        self.away.say("")
        try:
            here = models.is_here(self.reference)
        except SuperscopeError as problem:
            self._fail(str(problem), "")
            return
        self.asker.cancel()
        if here:
            self._late.start()
            self.card_asker.ask({"model": self.reference}, pause=0)
            self.texts.set_waiting(clean=True, steered=True)
        else:
            self.card_asker.cancel()
            self._rest()
            title = models.title_of(self.reference, self.workbench)
            self.away.say(f"{title} is not on this machine yet and has to be fetched first.")

    def _learn_hooks(self, said: Answered) -> None:
        """The model is open: what it has is offered, then the first look is put."""
        self.controls.hook.set_points(read(said.facts.get("hook_points", [])))
        self._shown = {}
        self._look(pause=0)

    def _choose_model(self, reference: str) -> None:
        if reference == self.reference:
            return
        was_its_own = self.prompt.toPlainText() == self._first_prompt()
        before = self._usual()
        self.reference = reference
        self._shown, self._clean_of = {}, ()
        self.controls.hook.forget()
        if self.controls.reference == before["prompts"]:
            # A method that the other toy needed goes with it; one that a person has chosen stays.
            self.controls.take((USUAL if "method" in before else {}) | self._usual())
            self.rows.follow(self.controls.reference)
        if was_its_own or models.example_of(reference, self.workbench):  # words of one toy are none of another
            self.prompt.blockSignals(True)
            self.prompt.setPlainText(self._first_prompt())
            self.prompt.blockSignals(False)
        self._say_title()
        self._begin()

    def _usual(self) -> dict[str, Any]:
        return usual_choices(self.reference, models.attributes_of(self.reference, self.workbench))

    def _first_prompt(self) -> str:
        """What the model can read: a toy's own example, the stories' words, or the beginning of a sentence."""
        example = models.example_of(self.reference, self.workbench)
        return example or (FIRST_PROMPT if self.reference.startswith(("demo", "toy:")) else OTHER_PROMPT)

    def _cancel(self) -> None:
        self.asker.cancel()
        self.card_asker.cancel()
        self._rest()
        self._fail(f"{models.title_of(self.reference, self.workbench)} was not opened because you cancelled it.", "")

    # ---- answers

    def _show(self, said: Answered) -> None:
        facts, asked = said.facts, self.asker.asked
        self.problem.say("")
        self._bound(facts)
        clean, steered = tokens_of(facts, "clean"), tokens_of(facts, "steered")
        words = are_words([*facts.get("prompt_tokens", ()), *clean, *steered])
        if clean:
            self._clean_of = clean_of(asked)
            self.texts.show_clean(asked["prompt"], clean, marks_of(facts, "clean"), words=words)
        if steered or said.done:
            self._late.stop()
            self.loading.hide()
            marks = marks_of(facts, "steered")
            self.texts.show_steered(asked["prompt"], steered, marks, asked["strength"], words=words)
            self.numbers.say(effect_line(facts))
            self.controls.explain(str(facts.get("describe") or ""))
        self.hint.say(models.unknown_line(facts))
        self.pictures.show_figures(said.figures, done=said.done)
        if said.done:
            self._shown = asked
            self.top.keep.setEnabled(True)
            self._rest()
        if len(steered) >= ENOUGH or said.done:
            self.pace.heard()

    def _bound(self, facts: dict[str, Any]) -> None:
        self.strength.bound(pair_of(facts.get("slider")), pair_of(facts.get("data_range")))

    def _fail(self, sentence: str, details: str) -> None:
        self.pace.stop()
        self._rest()
        self.texts.set_waiting(clean=True, steered=True, silent=True)
        self.pictures.set_waiting(True, silent=True)
        self.numbers.say("")
        self.controls.explain_method()  # what the answer before said is of other choices
        # Another prompt or method mends most failures; where no model is open, or the engine says so, one repeats.
        self._again.setVisible(not self._shown or sentence.rstrip(".").endswith("try again"))
        self.problem.say(sentence, details)

    def _progress(self, progress: Progress) -> None:
        if self._late.isActive():  # not worth a word yet
            return
        if not self._shown:
            self.loading.show_progress(progress, f"Opening {self.reference}")
        elif not self.pace.is_heard:
            self.numbers.say(words_of(progress) if progress.total else progress.stage)

    def _say_waiting(self) -> None:
        if not self._shown and (self.card_asker.is_waiting or self.asker.is_waiting):
            self.loading.show_progress(None, f"Opening {self.reference}")

    def _rest(self) -> None:
        self._late.stop()
        self.loading.hide()
        if not self.asker.is_waiting:
            self.texts.set_waiting(clean=False, steered=False)
            self.pictures.set_waiting(False)

    # ---- what one can do with it

    def keep(self) -> None:
        """Record what is shown as a run with the same parameters."""
        if self._shown:
            called = shortened(" ".join(self._shown["prompt"].split()), 32)
            self._start(EXPERIMENT, self._shown, f"Steering {signed(self._shown['strength'])}: {called}")

    def run_sweep(self) -> None:
        """Start the sweep of the present choices and show its page."""
        schema = schema_of(self.workbench.catalogue.get(SWEEP, {}))
        wanted = {name: value for name, value in self.parameters().items() if name in schema}
        if "text" in schema:
            wanted["text"] = models.text_for(self.reference, self.workbench)
        run = self._start(SWEEP, wanted, "")
        if run:
            self.workbench.open_panel("run", run)

    def _train(self) -> None:
        """Fill the form with what a network for the method "learned" is trained from."""
        schema = schema_of(self.workbench.catalogue.get(TRAINING, {}))
        wanted = {name: value for name, value in self.parameters().items() if name in schema and name != "target"}
        self.workbench.show_form(TRAINING, wanted)

    def _start(self, experiment: str, parameters: dict[str, Any], title: str) -> str:
        try:
            return self.workbench.start(experiment, dict(parameters), title=title)
        except SuperscopeError as problem:
            self.workbench.report(problem)
            return ""

    def _copy_as(self, write: Any) -> None:
        described = self.workbench.catalogue.get(EXPERIMENT, {})
        QGuiApplication.clipboard().setText(write(EXPERIMENT, self.parameters(), defaults_of(described)))
        self.workbench.message.emit("good", "Copied.", "")

    # ---- the session

    def _things_changed(self, section: str = "") -> None:
        self.controls.list_things(section)
        if section in ("", "models"):
            self.top.list_models(self.reference)
            if self.away.text:
                self._begin()

    def _runs_changed(self) -> None:
        self.controls.list_things("runs")


def _scrolled(content: QWidget, name: str, width: int = 0) -> QScrollArea:
    """A part that scrolls up and down by itself."""
    area = QScrollArea()
    area.setAccessibleName(name)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.viewport().setAutoFillBackground(False)
    set_role(content, "canvas")
    area.setWidget(content)
    if width:
        area.setFixedWidth(width)
        content.setFixedWidth(width - BAR)  # with a bar and without, everything is as wide
    return area
