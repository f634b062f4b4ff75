"""The choices at the left of the steering bench: prompts, place, method, and how text is generated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFileDialog, QGridLayout, QLabel, QVBoxLayout, QWidget

from app.panels.inputs import Choice, Exact, Number
from app.panels.parts import button, label
from app.panels.steering_hook import HookPicker
from app.panels.steering_words import METHODS, POSITIONS, READ_AT, matters, prompts_title
from app.theme import XS, S, small
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

FILE = "Choose a file…"
SEEDS = 10_000  # seeds that "New seed" draws from: short enough to be told to somebody
TOKENS = (1, 512)


class SteeringControls(QWidget):
    """A column of choices.

    Signals:
        changed: another choice; `parameters` gives them all.
        rows_wanted: whether the rows of the prompt set are to be shown.
        training_wanted: a network for the method "learned" is to be trained.
    """

    changed = Signal()
    rows_wanted = Signal(bool)
    training_wanted = Signal()

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self._prompts = "sentiment"
        self._rows = ""  # rows edited here and kept nowhere else: another set must not be the end of them
        self.prompts = _choice("Prompt set", ())
        self.rows = button("Rows", lambda: self.rows_wanted.emit(self.rows.isChecked()), tip="Show and edit the rows")
        self.rows.setCheckable(True)
        self.hook = HookPicker()
        self.method = _choice("Method", METHODS)
        self.dictionary = _choice("Dictionary", ())
        self.latent = Number("Latent")
        self.latent.setMaximum(10**7)
        self.learned = _choice("Run of learned-steering", ())
        self.train = button("Train…", self.training_wanted.emit, tip="Fill the form that trains a network")
        self.target = Choice()
        self.target.setAccessibleName("Target label")
        self.read_at = _choice("Activations are read at", READ_AT)
        self.positions = _choice("Activations change at", POSITIONS)
        self.temperature = Exact("Temperature")
        self.temperature.setRange(0.0, 5.0)
        self.temperature.setSingleStep(0.1)
        self.temperature.setValue(0.7)
        self.temperature.setToolTip("0 takes the most likely token each time; both texts draw from the same seed")
        self.tokens = Number("New tokens")
        self.tokens.setRange(*TOKENS)
        self.tokens.setValue(24)
        self.seed = Number("Seed")
        self.seed.setMaximum(2**31 - 1)
        self.again = button("New seed", self._draw_seed, tip="Draw both texts with another seed")
        self._blocks: dict[str, list[QWidget]] = {}
        self._lay_out()
        self._connect()
        self._relate()
        self.list_things()

    def _lay_out(self) -> None:
        self._whole = QVBoxLayout(self)
        self._whole.setContentsMargins(0, 0, 0, 0)
        self._whole.setSpacing(S)
        self._add([("Prompts", self.prompts, 1), ("", self.rows, 0)])
        self._add([("Hook point", self.hook, 1)])
        self._add([("Method", self.method, 1)])
        self._add([("Dictionary", self.dictionary, 1), ("Latent", self.latent, 0)], ("dictionary",))
        self._add([("Run of learned-steering", self.learned, 1), ("", self.train, 0)], ("learned",))
        self._add([("Target label", self.target, 1)], ("target",))
        self._add([("Change", self.positions, 1), ("Read at", self.read_at, 1)])
        self._add([("Temperature", self.temperature, 1), ("New tokens", self.tokens, 1)])
        self._add([("Seed", self.seed, 1), ("", self.again, 0)])
        self.about = label(role="muted", is_small=True)
        self._whole.addWidget(self.about)
        self._whole.addStretch(1)

    def _add(self, cells: Sequence[tuple[str, QWidget, int]], parameters: Sequence[str] = ()) -> None:
        """One row: small words above each editor. ``parameters`` are those for which the whole row is there."""
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(S)
        grid.setVerticalSpacing(XS // 2)
        for column, (words, editor, stretch) in enumerate(cells):
            above = QLabel(words)
            above.setFont(small())
            above.setBuddy(editor)
            grid.addWidget(above, 0, column)
            grid.addWidget(editor, 1, column)
            grid.setColumnStretch(column, stretch)
            if editor is self.read_at:
                self._blocks["read_at"] = [above, editor]
        for name in parameters:
            self._blocks[name] = [holder]
        self._whole.addWidget(holder)

    def _connect(self) -> None:
        for combo in (self.learned, self.target, self.read_at, self.positions):
            combo.activated.connect(lambda _: self.changed.emit())
        for number in (self.latent, self.temperature, self.tokens, self.seed):
            number.valueChanged.connect(lambda _: self.changed.emit())
        self.dictionary.activated.connect(lambda _: self._method_chosen())
        self.method.activated.connect(lambda _: self._method_chosen())
        self.hook.changed.connect(self.changed)
        self.prompts.activated.connect(self._prompts_chosen)

    # ---- values

    @property
    def reference(self) -> str:
        """The prompt set."""
        return self._prompts

    def parameters(self) -> dict[str, Any]:
        """The choices that matter for the method, by the names of the experiment's parameters."""
        method = str(self.method.currentData())
        found = {
            "prompts": self._prompts,
            "hook": self.hook.name,
            "method": method,
            "read_at": self.read_at.currentData(),
            "positions": self.positions.currentData(),
            "dictionary": self.dictionary.currentData() or "",
            "latent": self.latent.value(),
            "learned": self.learned.currentData() or "",
            "target": self.target.currentData() or "",
            "temperature": round(self.temperature.value(), 4),
            "new_tokens": self.tokens.value(),
            "seed": self.seed.value(),
        }
        return {name: value for name, value in found.items() if matters(name, method)}

    def state(self) -> dict[str, Any]:
        """All choices, those of other methods as well."""
        return self.parameters() | {
            "read_at": self.read_at.currentData(),
            "dictionary": self.dictionary.currentData() or "",
            "latent": self.latent.value(),
            "learned": self.learned.currentData() or "",
            "target": self.target.currentData() or "",
            "edited_rows": self._rows,
        }

    def take(self, values: dict[str, Any]) -> None:
        """Show these choices, without a signal. What does not fit is left out."""
        self.blockSignals(True)
        if isinstance(values.get("edited_rows"), str):
            self._rows = values["edited_rows"]
        if isinstance(values.get("prompts"), str) and values["prompts"]:
            self.show_prompts(values["prompts"])
        if isinstance(values.get("hook"), str) and values["hook"]:
            self.hook.show_name(values["hook"])
        for name in ("method", "read_at", "positions", "dictionary", "learned", "target"):
            if isinstance(values.get(name), str):
                self._pick(name, values[name])
        for name, editor in (("latent", self.latent), ("seed", self.seed), ("new_tokens", self.tokens)):
            if type(values.get(name)) is int:
                _silently(editor, values[name])
        if isinstance(values.get("temperature"), int | float):
            _silently(self.temperature, float(values["temperature"]))
        self._relate()
        self.blockSignals(False)

    def _pick(self, name: str, value: str) -> None:
        combo: Choice = getattr(self, name)
        place = combo.findData(value)
        if place < 0 and name in ("dictionary", "learned", "target") and value:
            combo.addItem(value, value)  # of a session that has lost it: the look says so
            place = combo.count() - 1
        if place >= 0:
            combo.setCurrentIndex(place)

    def show_prompts(self, reference: str) -> None:
        """Take another prompt set, without a signal."""
        self._prompts = reference
        self.list_things()
        self._relate()

    def rows_edited(self, reference: str) -> None:
        """Take what the table of rows holds now, without a signal: edited rows, or the set that they became."""
        from engine.text.prompts import is_rows

        self._rows = reference if is_rows(reference) else ""
        self.show_prompts(reference)

    def explain(self, sentences: str) -> None:
        """Say what the intervention does and what its strengths mean."""
        self.about.setText(sentences)

    def explain_method(self) -> None:
        """Say what the method does, as long as no answer says more."""
        tip = self.method.toolTip()
        self.explain(f"{tip}." if tip else "")

    # ---- what can be chosen

    def list_things(self, section: str = "") -> None:
        """Offer the session's prompt sets, dictionaries and runs of learned-steering."""
        if section in ("", "corpora"):
            self._list_prompts()
        if section in ("", "dictionaries"):
            things = self.workbench.session.things("dictionaries")
            found = [(str(thing.attributes.get("title") or thing.id), thing.id) for thing in things]
            _fill(self.dictionary, [*found, ("Demo dictionary", "demo")])
        if section in ("", "runs"):
            runs = [run for run in self.workbench.session.runs() if run.experiment == "learned-steering"]
            ended = [(run.title or run.id, run.id) for run in runs if run.state in ("finished", "stopped")]
            _fill(self.learned, ended or [("No run yet", "")])

    def _list_prompts(self) -> None:
        from engine.text.prompts import BUILT_IN

        kept = [
            (str(thing.attributes.get("title") or thing.id), f"prompts:{thing.id}")
            for thing in self.workbench.session.things("corpora")
            if thing.attributes.get("kind") == "prompts"
        ]
        found = [(words, reference) for reference, words in BUILT_IN.items()] + kept
        for unlisted in (self._rows, self._prompts):
            if unlisted and unlisted not in [reference for _, reference in found]:
                found.append((prompts_title(unlisted), unlisted))
        self.prompts.clear()
        for words, reference in [*found, (FILE, FILE)]:
            self.prompts.addItem(words, reference)
        self.prompts.setCurrentIndex(self.prompts.findData(self._prompts))
        self.prompts.setToolTip(self.prompts.currentText())

    def _list_labels(self) -> None:
        """Offer the labels of the prompt set as targets."""
        from engine.text.prompts import open_prompts

        try:
            classes = open_prompts(self._prompts, work=self.workbench.session.work).classes
        except SuperscopeError:  # the look says what is wrong with it
            classes = ()
        _fill(self.target, [("The next label", ""), *((label, label) for label in classes)])

    # ---- what a choice brings with it

    def _method_chosen(self) -> None:
        self._relate()
        if matters("dictionary", str(self.method.currentData())):
            self._follow_dictionary()
        self.changed.emit()

    def _relate(self) -> None:
        """Show what matters for the method, and say what it does."""
        method = str(self.method.currentData())
        for name, widgets in self._blocks.items():
            for widget in widgets:
                widget.setVisible(matters(name, method))
        if matters("target", method):
            self._list_labels()
        for combo in (self.method, self.read_at, self.positions):
            tip = str(combo.itemData(combo.currentIndex(), Qt.ItemDataRole.ToolTipRole) or "")
            combo.setToolTip(tip)
            combo.setAccessibleDescription(tip)

    def _follow_dictionary(self) -> None:
        """A latent is added where its dictionary writes."""
        for thing in self.workbench.session.things("dictionaries"):
            config = thing.attributes.get("config")
            if thing.id == self.dictionary.currentData() and isinstance(config, dict) and config.get("hook_out"):
                self.hook.show_name(str(config["hook_out"]))

    def _prompts_chosen(self, place: int) -> None:
        reference = str(self.prompts.itemData(place))
        if reference == FILE:
            reference = self._ask_for_file() or self._prompts
        changed = reference != self._prompts
        self.show_prompts(reference)
        if changed:
            self.changed.emit()

    def _ask_for_file(self) -> str:
        from engine.text.prompts import FILE_PATTERNS

        kinds = f"Prompt sets ({' '.join(FILE_PATTERNS)});;All files (*)"
        path, _ = QFileDialog.getOpenFileName(self, "Choose a prompt set", self.workbench.settings.folder, kinds)
        if path:
            self.workbench.settings.folder = str(Path(path).parent)
        return path

    def _draw_seed(self) -> None:
        drawn = random.randrange(SEEDS - 1)
        self.seed.setValue(drawn + (drawn >= self.seed.value()))


def _choice(name: str, options: Sequence[tuple[str, str, str]]) -> Choice:
    """A combo box of words with values and tool tips, as narrow as its column."""
    made = Choice()
    made.setAccessibleName(name)
    made.setSizeAdjustPolicy(Choice.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setMinimumContentsLength(4)
    for place, (words, value, tip) in enumerate(options):
        made.addItem(words, value)
        made.setItemData(place, tip, Qt.ItemDataRole.ToolTipRole)
    return made


def _fill(combo: Choice, entries: Sequence[tuple[str, str]]) -> None:
    """Offer other entries; what is chosen stays where it is among them."""
    chosen = combo.currentData()
    combo.clear()
    for words, value in entries:
        combo.addItem(words, value)
    combo.setCurrentIndex(max(combo.findData(chosen), 0))


def _silently(editor: Any, value: Any) -> None:
    editor.blockSignals(True)
    editor.setValue(value)
    editor.blockSignals(False)
