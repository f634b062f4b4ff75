"""The choices of the activation viewer: what is shown, of which stream, which unit, which layer, with or without BOS."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QWidget

from app.panels.inputs import Choice, Number
from app.panels.looking import HookChooser
from app.theme import L, S

QUANTITIES = (("Norm", "norm"), ("One unit", "unit"), ("Logit lens", "logit-lens"))
STREAM = "hook_resid_post"  # the experiment's default, shown until the model has said what it has
TIPS = {
    "norm": "Length of the activation vector at each layer and token",
    "unit": "One number of the activation vector at each layer and token",
    "logit-lens": "The token the model would predict if it stopped there, coloured by its probability",
}


class ActivationControls(QWidget):
    """One row of choices.

    Signals:
        changed: another quantity, stream, unit or BOS: all pictures become others.
        layer_chosen: another layer.
    """

    changed = Signal()
    layer_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.quantity = Choice()
        self.quantity.setAccessibleName("What the map shows")
        for words, value in QUANTITIES:
            self.quantity.addItem(words, value)
            self.quantity.setItemData(self.quantity.count() - 1, TIPS[value], Qt.ItemDataRole.ToolTipRole)
        self.unit = Number("Unit")
        self._unit_words = QLabel("unit")
        self.stream = HookChooser("Stream (hook point of every block)")
        self.stream.set_names([STREAM])
        self.layer = Number("Layer")
        self.bos = QCheckBox("Prepend BOS")
        self.bos.setChecked(True)
        self.bos.setToolTip("Put the beginning-of-sequence token first, as in training, where the model has one")
        self._lay_out()
        self.quantity.currentIndexChanged.connect(lambda _: self._quantity_changed())
        self.unit.valueChanged.connect(lambda _: self.changed.emit())
        self.stream.chosen.connect(lambda _: self.changed.emit())
        self.bos.toggled.connect(lambda _: self.changed.emit())
        self.layer.valueChanged.connect(self.layer_chosen)
        self._show_unit()

    def _lay_out(self) -> None:
        whole = QHBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        for words, control in (("Show", self.quantity), (self._unit_words, self.unit), ("of", self.stream)):
            self._add(whole, words, control)
        whole.addSpacing(L - S)
        self._add(whole, "at layer", self.layer)
        whole.addSpacing(L - S)
        whole.addWidget(self.bos)
        whole.addStretch(1)
        whole.setStretchFactor(self.stream, 3)

    def _add(self, whole: QHBoxLayout, words: str | QLabel, control: QWidget) -> None:
        label = QLabel(words) if isinstance(words, str) else words
        label.setBuddy(control)
        whole.addWidget(label)
        whole.addWidget(control)

    # ---- values

    def parameters(self) -> dict[str, Any]:
        """The experiment's parameters that are chosen here."""
        found: dict[str, Any] = {"quantity": self.quantity.currentData(), "prepend_bos": self.bos.isChecked()}
        if self.stream.current:
            found["stream"] = self.stream.current
        if found["quantity"] == "unit":
            found["unit"] = self.unit.value()
        return found

    def take(self, parameters: dict[str, Any]) -> None:
        """Show these parameters, without a signal. What does not fit is left out."""
        self.blockSignals(True)
        place = self.quantity.findData(parameters.get("quantity"))
        if place >= 0:
            self.quantity.setCurrentIndex(place)
        if isinstance(parameters.get("unit"), int):
            self.unit.setMaximum(max(self.unit.maximum(), parameters["unit"]))
            self.unit.setValue(parameters["unit"])
        if isinstance(parameters.get("stream"), str):
            self.stream.set_names(list(dict.fromkeys([*self.stream.names, parameters["stream"]])))
            self.stream.show_name(parameters["stream"])
        if isinstance(parameters.get("prepend_bos"), bool):
            self.bos.setChecked(parameters["prepend_bos"])
        self.blockSignals(False)
        self._show_unit()

    def bound(self, facts: dict[str, Any]) -> None:
        """Take what the model allows: its streams, units and layers."""
        self.blockSignals(True)
        streams = [str(name) for name in facts.get("streams", [])]
        if streams:
            self.stream.set_names(streams)
        if facts.get("stream") in streams:
            self.stream.show_name(str(facts["stream"]))
        units, layers = int(facts.get("units", 1)), int(facts.get("layers", 1))
        self.unit.setMaximum(max(0, units - 1))
        self.unit.setToolTip(f"0 to {units - 1}")
        self.layer.setMaximum(max(0, layers - 1))
        self.layer.setToolTip(f"0 to {layers - 1}")
        self.blockSignals(False)

    def show_layer(self, layer: int) -> None:
        """Show the locked layer, without a signal."""
        self.blockSignals(True)
        self.layer.setMaximum(max(layer, self.layer.maximum()))
        self.layer.setValue(layer)
        self.blockSignals(False)

    def _quantity_changed(self) -> None:
        self._show_unit()
        self.quantity.setToolTip(TIPS.get(str(self.quantity.currentData()), ""))
        self.changed.emit()

    def _show_unit(self) -> None:
        wanted = self.quantity.currentData() == "unit"
        self.unit.setVisible(wanted)
        self._unit_words.setVisible(wanted)
