"""The activation viewer: type a prompt, see what a model does inside, layer by layer and token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QTimer
from PySide6.QtGui import QGuiApplication, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QWidget

from app.panels import models
from app.panels.activation_controls import ActivationControls
from app.panels.activation_pictures import ActivationPictures
from app.panels.asking import PAUSE, Asker
from app.panels.inputs import Choice
from app.panels.loading import LoadingBar
from app.panels.looking import Cell, Place, PromptEdit
from app.panels.panel import Page
from app.panels.parts import Notice, button
from app.panels.words import defaults_of
from app.theme import M, S, set_role
from app.views.base import Line
from engine.errors import SuperscopeError
from engine.figures.words import shortened
from engine.runs import snippets

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.runs.messages import Answered
    from engine.runs.run import Progress

EXPERIMENT = "activations"
SOON = 40  # ms after a click or an arrow key; a held key asks once, not at each repeat
LATE = 400  # ms of waiting for the first picture after which progress is shown
FIRST_PROMPT = "one monday anna went to the park . she felt happy . anna saw a dog with a red ball ."
OTHER_PROMPT = "The capital of France is"


class ActivationViewer(Page):
    """Looks at one model. The newest answer is shown; an older picture stays, dimmed, until it is there."""

    kind = "activations"

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self.reference = key or models.usual(workbench)
        self.place = Place(self)
        self._follows_end = True  # the last token stays locked while one types
        self._layer_wanted = -1
        self._was_shown = False
        self._shown: dict[str, Any] = {}  # parameters of the picture that is shown, and its locked cell
        self._cell = Cell(0, 0)
        self.prompt = PromptEdit()
        self.controls = ActivationControls()
        self.pictures = ActivationPictures(workbench, self.place)
        self.problem = Notice("error")
        self.away = Notice()
        self.hint = Notice()
        self.loading = LoadingBar()
        self.models = Choice()
        self.models.setAccessibleName("Model")
        # No wider than it needs to be: the longest name of a session must not push the window's sides away.
        self.models.setSizeAdjustPolicy(Choice.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.models.setMinimumContentsLength(19)
        self.facts = Line("Facts")
        set_role(self.facts, "muted")
        self.asker = Asker(workbench, f"{EXPERIMENT} {key}", EXPERIMENT, self)
        self._late = QTimer(self)
        self._late.setSingleShot(True)
        self._late.setInterval(LATE)
        self._late.timeout.connect(lambda: self.loading.show_progress(None, f"Opening {self.reference}"))
        self._lay_out()
        self.prompt.setPlainText(self._first_prompt())
        self._connect()
        self._list_models()
        self._begin()

    def _lay_out(self) -> None:
        self._keep = button("Keep", self.keep, tip="Record this picture as a run of the session")
        self._keep.setEnabled(False)
        self._card = button("Model card", lambda: self.workbench.open_panel("model", self.reference))
        self._copy = button("Copy as…", lambda: None, tip="The same picture as a command or as Python")
        menu = QMenu(self._copy)
        menu.addAction("Copy as command", lambda: self._copy_as(snippets.as_command))
        menu.addAction("Copy as Python", lambda: self._copy_as(snippets.as_python))
        self._copy.setMenu(menu)
        top = QHBoxLayout()
        top.setSpacing(S)
        words = QLabel("Model")
        words.setBuddy(self.models)
        top.addWidget(words)
        top.addWidget(self.models)
        top.addWidget(self.facts, 1)
        for made in (self._card, self._copy, self._keep):
            top.addWidget(made)
        self._again = button("Try again", self._try_again)
        self.problem.add_action(self._again)
        self.away.add_action(
            button("Open model", lambda: self.workbench.open_panel("open-model", self.reference), role="primary")
        )
        self.column.setSpacing(M)
        self.column.setContentsMargins(M, M, M, M)
        self.column.addLayout(top)
        for widget in (self.prompt, self.controls, self.loading, self.problem, self.away, self.hint):
            self.column.addWidget(widget)
        self.column.addWidget(self.pictures, 1)
        self.setFocusProxy(self.prompt)

    def _connect(self) -> None:
        self.prompt.textChanged.connect(self._typed)
        self.controls.changed.connect(lambda: self._look(pause=SOON))
        self.controls.layer_chosen.connect(lambda layer: self.place.go(layer=layer))
        self.place.moved.connect(self._moved)
        self.asker.answered.connect(self._show)
        self.asker.failed.connect(self._fail)
        self.asker.progressed.connect(self._progress)
        self.loading.cancelled.connect(self._cancel)
        self.models.activated.connect(lambda _: self._choose_model(str(self.models.currentData())))
        self.workbench.things_changed.connect(self._list_models)

    # ---- panel

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._was_shown:
            self._was_shown = True
            self.prompt.setFocus()

    def title(self) -> str:
        return f"Activations · {models.title_of(self.reference, self.workbench)}"

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "reference": self.reference,
            "prompt": self.prompt.toPlainText(),
            "layer": self._layer_wanted,
            "position": -1 if self._follows_end else self.place.cell.position,
            **self.controls.parameters(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        reference, prompt, layer, position = (state.get(name) for name in ("reference", "prompt", "layer", "position"))
        if isinstance(reference, str) and reference and not self.key:
            self.reference = reference
        self.controls.take(state)
        self.place.blockSignals(True)
        self.place.bound(10**6, 10**9)  # the model's own bounds come with the answer
        if isinstance(layer, int):
            self._layer_wanted = layer
            self.place.go(layer=max(layer, 0))
        if isinstance(position, int):
            self._follows_end = position < 0
            self.place.go(position=max(position, 0))
        self.place.blockSignals(False)
        if isinstance(prompt, str):
            self.prompt.setPlainText(prompt)
        self._list_models()
        self._say_title()
        self._begin()

    def closing(self) -> None:
        self._late.stop()
        self.asker.cancel()
        self.workbench.things_changed.disconnect(self._list_models)

    # ---- asking

    def parameters(self) -> dict[str, Any]:
        """The parameters of the picture that is wanted now."""
        return {
            "model": self.reference,
            "prompt": self.prompt.toPlainText(),
            **self.controls.parameters(),
            "layer": self._layer_wanted,
            "position": -1 if self._follows_end else self.place.cell.position,
        }

    def _look(self, *, pause: int, cell_only: bool = False) -> None:
        wanted = self.parameters()
        if wanted == self._shown and not self.asker.is_waiting and not self.problem.text:
            return
        cell_only = cell_only and not self.asker.is_waiting
        self.asker.ask(wanted, pause=pause)
        self.pictures.set_waiting(True, cell_only=cell_only)
        if not self._shown:
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
        if here:
            self._look(pause=0)
        else:
            self.asker.cancel()
            self._rest()
            self.away.say(
                f"{models.title_of(self.reference, self.workbench)} is not on this machine yet and has to be fetched first."
            )

    def _typed(self) -> None:
        if not self.away.text:
            self._look(pause=PAUSE)

    def _moved(self, cell: Cell) -> None:
        """The place was moved by a click, a key or the spin box."""
        self.controls.show_layer(cell.layer)
        self._layer_wanted = cell.layer
        self._follows_end = cell.position == self.place.positions - 1
        self._look(pause=SOON, cell_only=True)

    def _choose_model(self, reference: str) -> None:
        if reference == self.reference:
            return
        was_its_own = self.prompt.toPlainText() == self._first_prompt()
        self.reference = reference
        self._shown = {}
        self._layer_wanted, self._follows_end = -1, True
        if was_its_own or models.example_of(reference, self.workbench):  # words of one toy are none of another
            self.prompt.setPlainText(self._first_prompt())
        self._say_title()
        self._begin()

    def _first_prompt(self) -> str:
        """What the model can read: a toy's own example, the stories' words, or a sentence."""
        example = models.example_of(self.reference, self.workbench)
        return example or (FIRST_PROMPT if self.reference.startswith(("demo", "toy:")) else OTHER_PROMPT)

    def _cancel(self) -> None:
        self.asker.cancel()
        self._rest()
        self._fail(f"{models.title_of(self.reference, self.workbench)} was not opened because you cancelled it.", "")

    # ---- answers

    def _show(self, said: Answered) -> None:
        self._rest()
        self.problem.say("")
        facts = said.facts
        self.controls.bound(facts)
        self.facts.say(models.prompt_line(facts))
        # The engine brings layer and position into range; while the place takes that up, nothing new is asked.
        self.place.blockSignals(True)
        self.place.bound(facts["layers"], len(facts["tokens"]))
        self._shown = self.asker.asked
        self._cell = Cell(facts["layer"], facts["position"])
        if not self.asker.is_waiting:  # else somebody has moved on meanwhile
            self.place.go(self._cell.layer, self._cell.position)
        self.place.blockSignals(False)
        self.controls.show_layer(self.place.cell.layer)
        self.hint.say(models.unknown_line(facts))
        self.pictures.show_answer(said.figures, facts)
        self._keep.setEnabled(True)

    def _fail(self, sentence: str, details: str) -> None:
        self._rest()
        self.pictures.set_outdated()
        self.hint.say("")
        # Another prompt mends most failures by itself; only without a picture, or where the engine says so, is
        # there something to repeat.
        self._again.setVisible(not self._shown or sentence.rstrip(".").endswith("try again"))
        self.problem.say(sentence, details)

    def _try_again(self) -> None:
        self.hint.say("")
        self._begin()

    def _progress(self, progress: Progress) -> None:
        self._late.stop()
        if not self._shown:
            self.loading.show_progress(progress, f"Opening {self.reference}")

    def _rest(self) -> None:
        self._late.stop()
        self.loading.hide()
        if not self.asker.is_waiting:
            self.pictures.set_waiting(False)

    # ---- what one can do with a picture

    def keep(self) -> None:
        """Record the picture that is shown as a run with the same parameters."""
        if not self._shown:
            return
        called = shortened(" ".join(self._shown["prompt"].split()), 40)
        kept = dict(self._shown, layer=self._cell.layer, position=self._cell.position)
        try:
            self.workbench.start(EXPERIMENT, kept, title=f"Activations: {called}")
        except SuperscopeError as problem:
            self.workbench.report(problem)

    def _copy_as(self, write: Any) -> None:
        described = self.workbench.catalogue.get(EXPERIMENT, {})
        QGuiApplication.clipboard().setText(write(EXPERIMENT, self.parameters(), defaults_of(described)))
        self.workbench.message.emit("good", "Copied.", "")

    # ---- models

    def _list_models(self, section: str = "models") -> None:
        if section not in ("", "models"):
            return
        found = models.listed(self.reference, self.workbench)
        self.models.clear()
        for reference in found:
            self.models.addItem(models.title_of(reference, self.workbench), reference)
        self.models.setCurrentIndex(found.index(self.reference))
        self.models.setToolTip(self.reference)
        if self.away.text:
            self._begin()
