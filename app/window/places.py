"""Fields for what a run reads or writes beside models and texts: activations, dictionaries, new folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFileDialog

from app.window.fields import FILE, FOLDER, ComboField
from app.window.schema import Parameter
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

NEW, NEW_FILE = "Choose a new folder…", "Choose a new file…"


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


class PlaceField(ComboField):
    """A path that can be typed or chosen, or the id of a thing of the session."""

    def __init__(self, parameter: Parameter, workbench: Workbench) -> None:
        self._place = PLACES[parameter.widget]
        super().__init__(parameter, ())
        self._workbench = workbench
        self._kept = ""
        self.combo.activated.connect(self._picked)
        workbench.things_changed.connect(self._things_changed)
        workbench.session_changed.connect(self._fill)
        self._fill()

    def closing(self) -> None:
        self._workbench.things_changed.disconnect(self._things_changed)
        self._workbench.session_changed.disconnect(self._fill)

    def show_value(self, value: object) -> None:
        super().show_value(value)
        self._kept = self.text()

    def _things_changed(self, section: str) -> None:
        if section == self._place.section:
            self._fill()

    def _ids(self) -> list[str]:
        if not self._place.section or not self._workbench.begun:
            return []
        try:
            return [thing.id for thing in self._workbench.session.things(self._place.section)]
        except SuperscopeError:
            return []

    def _fill(self) -> None:
        typed = self.text()
        self.combo.blockSignals(True)
        self.combo.clear()
        self.combo.addItems(self._ids())
        place = self._place
        offers = ((FILE, place.files), (FOLDER, place.folder), (NEW, place.new), (NEW_FILE, place.new_file))
        self.combo.addItems([words for words, offered in offers if offered])
        self.combo.setEditText(typed)
        self.combo.blockSignals(False)

    def _picked(self, number: int) -> None:
        words, start = self.combo.itemText(number), self._workbench.settings.folder
        if words == FILE:
            path, _ = QFileDialog.getOpenFileName(self, "Choose a file", start, self._place.files)
        elif words == FOLDER:
            path = QFileDialog.getExistingDirectory(self, self._place.folder, start)
        elif words == NEW:
            path, _ = QFileDialog.getSaveFileName(self, self._place.new, start)
        elif words == NEW_FILE:
            path, _ = QFileDialog.getSaveFileName(self, "A new file", start, self._place.new_file)
        else:
            path = words
        self.combo.setEditText(path or self._kept)
        self._kept = self.text()
