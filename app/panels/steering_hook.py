"""Where a model is steered: a stream, found by typing words of it, and the layer."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget

from app.panels.hook_points import HookPoint
from app.panels.inputs import Number
from app.panels.looking import HookChooser
from app.panels.steering_words import hook_name, split_hook
from app.theme import S

FIRST = ("hook_resid_post", "hook_resid_mid", "hook_resid_pre", "hook_mlp_out", "hook_attn_out")


class HookPicker(QWidget):
    """A hook point as stream and layer.

    Signals:
        changed: a person has chosen another one.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: dict[str, list[int]] = {FIRST[0]: [0]}  # of each stream of the blocks
        self._known = False
        self.stream = HookChooser("Hook point, without its layer")
        self.stream.setMinimumContentsLength(8)
        self.stream.set_names([FIRST[0]])
        self.layer = Number("Layer")
        self.layer.setMinimumWidth(56)
        self._words = QLabel("layer")
        self._words.setBuddy(self.layer)
        whole = QHBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        whole.addWidget(self.stream, 1)
        whole.addWidget(self._words)
        whole.addWidget(self.layer)
        self.stream.chosen.connect(lambda _: self._stream_chosen())
        self.layer.valueChanged.connect(lambda _: self.changed.emit())

    @property
    def is_known(self) -> bool:
        """Whether the model has said what it has."""
        return self._known

    @property
    def name(self) -> str:
        """The hook point's full name."""
        return hook_name(self.stream.current, self.layer.value(), list(self._layers))

    def set_points(self, points: Sequence[HookPoint]) -> None:
        """Offer the hook points that have a vector per token; one that the model lacks gives way to the usual one."""
        was = self.name if self._known else self._wanted
        layers: dict[str, list[int]] = {}
        outside: list[str] = []
        for point in points:
            layer, stream = split_hook(point.name)
            if not point.width:
                continue
            if layer is None:
                outside.append(stream)
            else:
                layers.setdefault(stream, []).append(layer)
        if not layers and not outside:
            return
        self._layers, self._known = layers, True
        first = [stream for stream in FIRST if stream in layers]
        self.stream.set_names(list(dict.fromkeys([*first, *layers, *outside])))
        names = {point.name for point in points if point.width}
        self.show_name(was if was in names else self.usual)

    _wanted = ""  # what was asked for before the model had said what it has

    @property
    def usual(self) -> str:
        """The residual stream after about half of the blocks."""
        stream = next((stream for stream in FIRST if stream in self._layers), self.stream.names[0])
        layers = self._layers.get(stream, [0])
        return hook_name(stream, layers[(len(layers) - 1) // 2], list(self._layers))

    def show_name(self, name: str) -> None:
        """Take a hook point, without a signal."""
        self._wanted = name
        layer, stream = split_hook(name)
        self.blockSignals(True)
        if not self._known:
            self.stream.set_names(list(dict.fromkeys([stream, *self.stream.names])))
            if layer is not None:
                self._layers.setdefault(stream, []).append(layer)
        self.stream.show_name(stream)
        self._bound()
        if layer is not None:
            self.layer.setValue(layer)
        self.blockSignals(False)

    def forget(self) -> None:
        """Another model is coming; what is chosen is kept until it has said what it has."""
        if self._known:
            self._wanted, self._known = "", False

    def _stream_chosen(self) -> None:
        self.blockSignals(True)
        self._bound()
        self.blockSignals(False)
        self.changed.emit()

    def _bound(self) -> None:
        layers = self._layers.get(self.stream.current, [])
        for widget in (self.layer, self._words):
            widget.setEnabled(bool(layers))
        if layers:
            self.layer.setRange(min(layers), max(layers))
            self.layer.setToolTip(f"{min(layers)} to {max(layers)}")
