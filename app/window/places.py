"""Fields that name a model, a text, a prompt set, activations, dictionaries or a place to write to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import QFileDialog

from app.window.fields import ComboField
from app.window.schema import Parameter, Refused
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

FILE, FOLDER = "Choose a file…", "Choose a folder…"
NEW, NEW_FILE = "Choose a new folder…", "Choose a new file…"


class ThingField(ComboField):
    """A text that names a thing of the session, a file or a folder; the last entries open a dialog.

    Args:
        section: things of the session that are offered, "" for none.
    """

    def __init__(self, parameter: Parameter, workbench: Workbench, section: str) -> None:
        super().__init__(parameter, ())
        self._workbench = workbench
        self._section = section
        self._kept = ""
        self.combo.activated.connect(self._picked)
        workbench.things_changed.connect(self._things_changed)
        workbench.session_changed.connect(self._fill)
        self._fill()

    def closing(self) -> None:
        self._workbench.things_changed.disconnect(self._things_changed)
        self._workbench.session_changed.disconnect(self._fill)

    def show_value(self, value: Any) -> None:
        super().show_value(value)
        self._kept = self.text()

    def known(self) -> list[str]:
        """What can be named at once."""
        raise NotImplementedError

    def dialogs(self) -> dict[str, Callable[[str], str]]:
        """Entries that open a dialog, by their words: given the folder to begin in, the path chosen or ""."""
        raise NotImplementedError

    def _things_changed(self, section: str) -> None:
        if section == self._section:
            self._fill()

    def _fill(self) -> None:
        typed = self.text()
        self.combo.blockSignals(True)
        self.combo.clear()
        self.combo.addItems([*self.known(), *self.dialogs()])
        self.combo.setEditText(typed)
        self.combo.blockSignals(False)

    def _picked(self, place: int) -> None:
        words = self.combo.itemText(place)
        dialog = self.dialogs().get(words)
        path = words if dialog is None else dialog(self._workbench.settings.folder)
        self.combo.setEditText(path or self._kept)
        self._kept = self.text()


class ReferenceField(ThingField):
    """A model, a text or a prompt set: the built-in references, those of the session, or a file or folder."""

    def __init__(self, parameter: Parameter, workbench: Workbench) -> None:
        from app.window.references import SECTION

        super().__init__(parameter, workbench, SECTION[parameter.widget])

    def values(self) -> list[Any]:
        from app.window.references import check

        value = self.parameter.read(self.text())
        if isinstance(value, str) and (value or self.parameter.default != ""):  # "" may stand for none at all
            try:
                check(self.parameter.widget, value)
            except SuperscopeError as problem:
                raise Refused(f": {problem}") from problem
        return [value]

    def known(self) -> list[str]:
        from app.window.references import known

        return known(self._workbench, self.parameter.widget)

    def dialogs(self) -> dict[str, Callable[[str], str]]:
        from app.window.references import FILTERS

        def file(start: str) -> str:
            return QFileDialog.getOpenFileName(self, "Choose a file", start, FILTERS[self.parameter.widget])[0]

        def folder(start: str) -> str:
            return QFileDialog.getExistingDirectory(self, "Choose a Hugging Face model folder", start)

        return {FILE: file, FOLDER: folder} if self.parameter.widget == "model" else {FILE: file}


class PromptsField(ReferenceField):
    """A prompt set. Rows that were edited elsewhere are one value, shown as how many they are: no line holds them."""

    def __init__(self, parameter: Parameter, workbench: Workbench) -> None:
        self._rows, self._words = "", ""
        super().__init__(parameter, workbench)

    def show_value(self, value: Any) -> None:
        from engine.text.prompts import is_rows

        if isinstance(value, str) and is_rows(value):
            count = sum(1 for line in value.split("\n") if line.strip())
            self._rows, self._words = value, f"{count:,} edited {'row' if count == 1 else 'rows'}"
            value = self._words
        super().show_value(value)

    def values(self) -> list[Any]:
        if self._words and self.text() == self._words:
            return [self._rows]
        return super().values()


@dataclass(frozen=True)
class Place:
    """What a field offers.

    Attributes:
        section: things of the session that can be named by id, "" for none.
        files: filter of the dialog for a file, "" for none.
        folder: title of the dialog for a folder, "" for none.
        new: title of the dialog for a folder to be made, "" for none.
        new_file: filter of the dialog for a file to be written, "" for none.
    """

    section: str = ""
    files: str = ""
    folder: str = ""
    new: str = ""
    new_file: str = ""


PLACES = {
    "activations": Place("activations", "Activations (*.npy *.safetensors *.h5 *.hdf5);;All files (*)"),
    "dictionary": Place(
        files="Dictionaries (*.safetensors *.pt *.npz *.json *.yaml);;All files (*)",
        folder="Choose a folder of dictionaries",
    ),
    "session-dictionary": Place("dictionaries"),
    "new-folder": Place(new="A new folder"),
    "new-store": Place(new_file="Activations (*.h5 *.hdf5)"),
}


class PlaceField(ThingField):
    """A path that can be typed or chosen, or the id of a thing of the session."""

    def __init__(self, parameter: Parameter, workbench: Workbench) -> None:
        self._place = PLACES[parameter.widget]
        super().__init__(parameter, workbench, self._place.section)

    def known(self) -> list[str]:
        if not self._section or not self._workbench.begun:
            return []
        try:
            return [thing.id for thing in self._workbench.session.things(self._section)]
        except SuperscopeError:
            return []

    def dialogs(self) -> dict[str, Callable[[str], str]]:
        place = self._place
        found: dict[str, Callable[[str], str]] = {}
        if place.files:
            found[FILE] = lambda start: QFileDialog.getOpenFileName(self, "Choose a file", start, place.files)[0]
        if place.folder:
            found[FOLDER] = lambda start: QFileDialog.getExistingDirectory(self, place.folder, start)
        if place.new:
            found[NEW] = lambda start: QFileDialog.getSaveFileName(self, place.new, start)[0]
        if place.new_file:
            found[NEW_FILE] = lambda start: QFileDialog.getSaveFileName(self, "A new file", start, place.new_file)[0]
        return found
