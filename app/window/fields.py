"""One editor per kind of parameter. Each knows its parameter, its values and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QStringListModel, Qt, Signal
from PySide6.QtGui import QFocusEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QCompleter,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from app.theme import XS, mono, set_role, small
from app.window.schema import Parameter, Refused, label_of
from app.window.several import SeveralButton

if TYPE_CHECKING:
    from app.workbench import Workbench

DEVICES = ("auto", "cpu", "cuda", "mps")
BOTH = "both, a run each"


class Field(QWidget):
    """An editor. ``problem`` is the line that says what is wrong; the form puts it beneath.

    Signals:
        changed: a person changed the value.
    """

    changed = Signal()

    def __init__(self, parameter: Parameter, editor: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.parameter = parameter
        self.editor = editor
        words = label_of(parameter.name)
        editor.setAccessibleName(words)
        bounds = parameter.bounds()
        help = parameter.description + (f" ({bounds})" if bounds else "")
        if parameter.sweeps:
            help += ". Several values, separated by commas, make a sweep"
        editor.setAccessibleDescription(help)
        editor.setToolTip(help)
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.setFont(small())
        set_role(self.problem, "bad")
        self.problem.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.problem.hide()
        self._line = QHBoxLayout()
        self._line.setSpacing(XS)
        self._line.addWidget(editor, 1)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(XS)
        self._column.addLayout(self._line)

    def text(self) -> str:
        """What stands in the editor, as it would be typed."""
        raise NotImplementedError

    def show_value(self, value: Any) -> None:
        """Put a value into the editor."""
        raise NotImplementedError

    def values(self) -> list[Any]:
        """The values: one, or those of a sweep. Raises `Refused`."""
        return self.parameter.read_all(self.text())

    def check(self) -> bool:
        """Say beneath the editor what is wrong, if anything is. True when nothing is."""
        try:
            self.values()
        except Refused as problem:
            words = str(problem)
            # A whole sentence stands for itself; the rest begins with the parameter's name.
            name = label_of(self.parameter.name)
            self.problem.setText(words[2:] if words.startswith(": ") else f"{name} {words}.")
            self.problem.show()
            return False
        self.problem.hide()
        return True

    def stops(self) -> list[QWidget]:
        """What Tab stops at, in order."""
        return [self.editor]

    def closing(self) -> None:
        """The form is about to show another experiment."""

    def _edited(self) -> None:
        self.check()
        self.changed.emit()


class LineField(Field):
    """Numbers (and sweeps of them), plain texts, lists."""

    def __init__(self, parameter: Parameter) -> None:
        self.line = QLineEdit()
        super().__init__(parameter, self.line)
        if parameter.may_be_empty:
            self.line.setPlaceholderText(parameter.nothing)
        self.line.textEdited.connect(self._edited)

    def text(self) -> str:
        return self.line.text()

    def show_value(self, value: Any) -> None:
        self.line.setText(self.parameter.write(value))
        self.line.setCursorPosition(0)
        self.check()


class TextField(Field):
    """A prompt: several lines, in the monospace of tokens."""

    def __init__(self, parameter: Parameter) -> None:
        self.area = QPlainTextEdit()
        self.area.setFont(mono())
        self.area.setTabChangesFocus(True)
        self.area.setFixedHeight(4 * self.area.fontMetrics().lineSpacing())
        super().__init__(parameter, self.area)
        self.area.textChanged.connect(self._edited)

    def text(self) -> str:
        return self.area.toPlainText()

    def values(self) -> list[Any]:
        return [self.text()]  # white space at either end is part of a prompt

    def show_value(self, value: Any) -> None:
        self.area.setPlainText(str(value or ""))


class SwitchField(Field):
    """Yes or no, or a sweep over both."""

    def __init__(self, parameter: Parameter) -> None:
        self.switch = QCheckBox()
        super().__init__(parameter, self.switch)
        self.several = SeveralButton(label_of(parameter.name), ((BOTH, True),))
        self._line.addWidget(self.several)
        self.switch.clicked.connect(lambda on: self._take(bool(on)))
        self.several.chosen.connect(lambda chosen: self._take([True, False] if chosen else self.switch.isChecked()))

    def text(self) -> str:
        return BOTH if self.several.values() else "true" if self.switch.isChecked() else "false"

    def values(self) -> list[Any]:
        return [True, False] if self.several.values() else [self.switch.isChecked()]

    def show_value(self, value: Any) -> None:
        both = isinstance(value, list) and len(set(value)) > 1
        self.several.set_values([True] if both else [])
        self.switch.setChecked(not both and bool(value[0] if isinstance(value, list) else value))
        self.switch.setText(BOTH if both else "")

    def stops(self) -> list[QWidget]:
        return [self.editor, self.several]

    def _take(self, value: Any) -> None:
        self.show_value(value)
        self._edited()


class QuietCombo(QComboBox):
    """A combo box that a turn of the wheel, meant for the form around it, does not change."""

    def wheelEvent(self, event: Any) -> None:
        event.ignore()


class ChoiceField(Field):
    """One of a few values, with what it stands for beneath; or a sweep over several of them."""

    def __init__(self, parameter: Parameter) -> None:
        self.combo = QuietCombo()
        options = (None, *parameter.choices) if parameter.optional else parameter.choices
        for choice in options:
            self.combo.addItem(_words_of(choice, parameter), choice)
            self.combo.setItemData(
                self.combo.count() - 1, parameter.choices_help.get(str(choice)), Qt.ItemDataRole.ToolTipRole
            )
        # As wide as the form lets it be: a sweep is written out in it.
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(6)
        super().__init__(parameter, self.combo)
        self._help = self.editor.accessibleDescription()
        offered = tuple((self.combo.itemText(place), choice) for place, choice in enumerate(options))
        self.several = SeveralButton(label_of(parameter.name), offered)
        self.several.setVisible(len(offered) > 1)
        self._line.addWidget(self.several)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setFont(small())
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        set_role(self.words, "muted")
        self.words.setVisible(bool(parameter.choices_help))
        self._column.addWidget(self.words)
        self.combo.activated.connect(self._picked)
        # The last tick stays: a parameter has a value.
        self.several.chosen.connect(lambda chosen: self._take(chosen or [self.combo.currentData()]))

    def text(self) -> str:
        return self.combo.currentText()

    def values(self) -> list[Any]:
        return self.several.values()

    def show_value(self, value: Any) -> None:
        """Show one value, or a list of them as a sweep."""
        offered = self.several.offered
        wanted = value if isinstance(value, list) else [value]
        chosen = [entry for entry in offered.values() if entry in wanted] or [self.combo.itemData(0)]
        self.combo.removeItem(len(offered))
        self.several.set_values(chosen)
        if len(chosen) > 1:
            self.combo.addItem(", ".join(words for words, entry in offered.items() if entry in chosen))
            self.combo.setCurrentIndex(len(offered))
        else:
            self.combo.setCurrentIndex(list(offered.values()).index(chosen[0]))
        self._explain()

    def stops(self) -> list[QWidget]:
        return [self.editor, self.several]

    def _explain(self) -> None:
        help = self.parameter.choices_help
        several = len(self.values()) > 1
        told = [
            f"{value}: {help[str(value)]}" if several else help[str(value)]
            for value in self.values()
            if str(value) in help
        ]
        self.words.setText("\n".join(told))
        self.words.setVisible(bool(told))
        self.editor.setAccessibleDescription(". ".join([self._help, *told]))

    def _picked(self, place: int) -> None:
        if place < len(self.several.offered):
            self._take([self.combo.itemData(place)])

    def _take(self, chosen: list[Any]) -> None:
        self.show_value(chosen)
        self._edited()


class ComboField(Field):
    """A text with suggestions: devices."""

    def __init__(self, parameter: Parameter, suggestions: tuple[str, ...] = DEVICES) -> None:
        self.combo = QuietCombo()
        self.combo.setEditable(True)
        self.combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(8)
        self.combo.addItems(list(suggestions))
        super().__init__(parameter, self.combo)
        line = self.combo.lineEdit()
        assert line is not None
        line.setAccessibleName(label_of(parameter.name))
        if parameter.may_be_empty:
            line.setPlaceholderText(parameter.nothing)
        self.combo.editTextChanged.connect(self._edited)

    def text(self) -> str:
        return self.combo.currentText()

    def show_value(self, value: Any) -> None:
        self.combo.blockSignals(True)
        self.combo.setEditText(str(value if value is not None else ""))
        self.combo.blockSignals(False)
        self.check()


class HookLine(QLineEdit):
    """A line that says when somebody is about to type in it."""

    entered = Signal()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.entered.emit()


class HookField(Field):
    """A hook point, completed with the names that the chosen model has; any part of a name finds it."""

    wanted = Signal()

    def __init__(self, parameter: Parameter) -> None:
        self.line = HookLine()
        font = mono()
        font.setPointSizeF(small().pointSizeF())
        self.line.setFont(font)
        super().__init__(parameter, self.line)
        if parameter.may_be_empty:
            self.line.setPlaceholderText(parameter.nothing)
        self._names = QStringListModel(self)
        completer = QCompleter(self._names, self)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        completer.setMaxVisibleItems(12)
        suggestions = completer.popup()
        if suggestions is not None:
            suggestions.setAccessibleName("Hook points of the model")
        self.line.setCompleter(completer)
        self.line.textEdited.connect(self._edited)
        completer.activated.connect(lambda _: self._edited())
        self.line.entered.connect(self.wanted)

    def text(self) -> str:
        return self.line.text()

    def show_value(self, value: Any) -> None:
        self.line.setText(self.parameter.write(value))
        self.line.setCursorPosition(0)
        self.check()

    def offer(self, names: list[str]) -> None:
        """The hook points to complete with; a name that is not among them is said to be unknown."""
        self._names.setStringList(names)
        self.check()

    def values(self) -> list[Any]:
        values = self.parameter.read_all(self.text())
        names, empty = self._names.stringList(), [""] if self.parameter.default == "" else []
        for value in values:
            if names and value is not None and value not in [*names, *empty]:
                raise Refused(f": “{value}” is not a hook point of this model; type a part of a name to find one.")
        return values


def _words_of(choice: Any, parameter: Parameter) -> str:
    if choice is None:
        return parameter.nothing
    return {True: "yes", False: "no"}[choice] if isinstance(choice, bool) else str(choice)


def make_field(parameter: Parameter, workbench: Workbench) -> Field:
    """The editor that fits ``parameter``."""
    if parameter.kind == "boolean" and parameter.optional:  # a tick can say yes and no, but not neither
        return ChoiceField(replace(parameter, choices=(True, False)))
    if parameter.kind == "boolean":
        return SwitchField(parameter)
    if parameter.kind == "choice":
        return ChoiceField(parameter)
    from app.window.places import PLACES, PlaceField, PromptsField, ReferenceField

    if parameter.widget in ("model", "text"):
        return ReferenceField(parameter, workbench)
    if parameter.widget == "prompts":
        return PromptsField(parameter, workbench)
    if parameter.widget in PLACES:
        return PlaceField(parameter, workbench)
    if parameter.widget == "hook" and parameter.kind == "string":
        return HookField(parameter)
    if parameter.widget == "prompt" and parameter.kind == "string":
        return TextField(parameter)
    if parameter.widget == "device":
        return ComboField(parameter)
    return LineField(parameter)
