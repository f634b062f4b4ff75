"""What a person may do to a running experiment: a button per declared action, and what was done so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from app.panels.parts import button, label
from app.theme import M, S, set_role
from engine.runs.recording import RunRecord

if TYPE_CHECKING:
    from app.workbench import Workbench

LATEST = 3  # of what was done that are written out
NOT_NOW = {
    "queued": "The run waits in the queue; this can be done once it runs.",
    "stopped": "The run has stopped; resume it to do this.",
    "interrupted": "The run was interrupted; resume it to do this.",
}


def done_words(done: Sequence[Mapping[str, Any]], declared: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was done to a run, in words, oldest first: ``step 1,200: learning rate 0.0005``."""
    found = []
    for one in done:
        action = declared.get(str(one["name"]), {})
        value, number = action.get("value"), one.get("values", {}).get("value")
        words = str((value or action).get("label") or one["name"]).rstrip("…")
        words = words[:1].lower() + words[1:]
        unit = f" {value['unit']}" if value and value.get("unit") else ""
        found.append(f"step {one['step']:,.0f}: {words}" + (f" {number:g}{unit}" if number is not None else ""))
    return found


def read_number(text: str, value: Mapping[str, Any]) -> float | str:
    """The number that was typed for an action's ``value``; a sentence where it cannot be taken."""
    name = str(value["label"])
    try:
        number = float(text.strip().replace(",", "."))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return f"{name} needs a number."
    low, high = value.get("minimum"), value.get("maximum")
    if (low is not None and number < low) or (high is not None and number > high):
        bounds = " and ".join([f"at least {low:g}"] * (low is not None) + [f"at most {high:g}"] * (high is not None))
        return f"{name} has to be {bounds}."
    return number


class ValuePopover(QFrame):
    """A field for the number that an action takes. Enter or the button does it, Escape does not."""

    def __init__(
        self, action: Mapping[str, Any], start: str, act: Callable[[float], object], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        name = str(action["label"]).rstrip("…")
        self.setAccessibleName(name)
        set_role(self, "card")
        self._value, self._act = action["value"], act
        self.line = QLineEdit(start)
        self.line.setAccessibleName(str(self._value["label"]))
        self.line.setAccessibleDescription(str(action.get("help", "")))
        self.line.selectAll()
        self.line.returnPressed.connect(self.accept)
        self.line.textEdited.connect(lambda: self.problem.hide())
        self.problem = label(role="bad", is_small=True)
        self.problem.hide()
        self.change = button(name, self.accept, role="primary")
        entry = QHBoxLayout()
        entry.setSpacing(S)
        entry.addWidget(label(str(self._value["label"]), wrap=False))
        entry.addWidget(self.line, 1)
        if self._value.get("unit"):
            entry.addWidget(label(str(self._value["unit"]), role="muted", wrap=False))
        buttons = QHBoxLayout()
        buttons.setSpacing(S)
        buttons.addStretch(1)
        buttons.addWidget(button("Cancel", self.close))
        buttons.addWidget(self.change)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(M, M, M, M)
        whole.setSpacing(S)
        help = label(str(action.get("help", "")), role="muted", is_small=True)
        help.setVisible(bool(help.text()))
        help.setMinimumWidth(260)
        whole.addWidget(help)
        whole.addLayout(entry)
        whole.addWidget(self.problem)
        whole.addLayout(buttons)

    def accept(self) -> None:
        """Do it, or say why not."""
        number = read_number(self.line.text(), self._value)
        if isinstance(number, str):
            self.problem.setText(number)
            self.problem.show()
            self.adjustSize()
            return
        self.close()
        self._act(number)

    def popup(self, under: QWidget) -> None:
        """Show it under a button, right edges aligned, inside the screen."""
        self.adjustSize()
        corner = under.mapToGlobal(QPoint(under.width() - self.width(), under.height()))
        room = under.screen().availableGeometry()
        x = max(room.left(), min(corner.x(), room.right() - self.width()))
        self.move(x, max(room.top(), min(corner.y(), room.bottom() - self.height())))
        self.show()
        self.line.setFocus()


class RunActions(QWidget):
    """The buttons of one run. Without actions, and when the run can never go on again, it is hidden."""

    def __init__(self, run: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.run, self.workbench = run, workbench
        self.buttons: dict[str, QPushButton] = {}
        self._declared: dict[str, dict[str, Any]] = {}
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(S)
        self.popover: ValuePopover | None = None

    def refresh(self, record: RunRecord, declared: dict[str, dict[str, Any]]) -> None:
        """Bring the buttons up to date with the run's state."""
        if declared != self._declared:
            self._make(declared)
        able = record.state in ("running", "paused")
        for name, made in self.buttons.items():
            made.setEnabled(able)
            tip = str(declared[name].get("help", "")) if able else NOT_NOW.get(record.state, "")
            made.setToolTip(tip)
            made.setAccessibleDescription(tip)
        self.setVisible(bool(declared) and (able or record.state in NOT_NOW))

    def _make(self, declared: dict[str, dict[str, Any]]) -> None:
        for made in self.buttons.values():
            self._row.removeWidget(made)
            made.deleteLater()
        self._declared, self.buttons = declared, {}
        for name, action in declared.items():
            made = self.buttons[name] = button(str(action["label"]), partial(self._pressed, name))
            self._row.addWidget(made)

    def _pressed(self, name: str) -> None:
        action = self._declared[name]
        if action.get("value") is None:
            self._act(name, {})
            return
        self.popover = ValuePopover(
            action, self._start(action["value"]), lambda number: self._act(name, {"value": number}), self.window()
        )
        self.popover.popup(self.buttons[name])

    def _start(self, value: Mapping[str, Any]) -> str:
        """What stands in the field at first: the metric's latest value."""
        name = str(value.get("metric", ""))
        if name not in self.workbench.metric_names(self.run):
            return ""
        rows = self.workbench.metric(self.run, name)
        return f"{float(rows[-1, 1]):g}" if len(rows) else ""

    def _act(self, name: str, values: dict[str, Any]) -> None:
        self.workbench.act(self.run, name, values)
        if self.workbench.record(self.run).state == "paused":
            words = str(self._declared[name]["label"]).rstrip("…")
            self.workbench.message.emit("info", f"“{words}” is done when the run goes on.", "")
