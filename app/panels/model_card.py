"""The model card: what a model is, the memory it takes, and its hook points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import QWidget

from app.panels import models
from app.panels.asking import Asker
from app.panels.facts import LONG, FactsTable
from app.panels.hook_browser import HookBrowser
from app.panels.hook_points import read
from app.panels.loading import LoadingBar
from app.panels.panel import Page
from app.panels.parts import Notice, Section, button, label, row, title_label
from app.panels.words import large, size
from engine.figures.kinds import Table

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.runs.messages import Answered

EXPERIMENT = "model-card"


class ModelCard(Page):
    """One model. ``key`` is its reference."""

    kind = "model"

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self.head = title_label(self.title())
        self.lead = label(role="muted")
        self.problem = Notice("error")
        self.problem.add_action(button("Try again", self._ask))
        self.away = Notice()
        self.away.add_action(button("Open model", lambda: workbench.open_panel("open-model", key), role="primary"))
        self.loading = LoadingBar()
        self.loading.cancelled.connect(self._cancel)
        self.facts = FactsTable("Facts")
        self.hooks = HookBrowser(key, workbench)
        self._hooks = Section("Hook points", self.hooks)
        self._look = button("Look at activations", lambda: workbench.open_panel("activations", key), role="primary")
        self._steer = button("Steer", lambda: workbench.open_panel("steering", key), tip="Push it along a direction")
        self.column.addWidget(self.head)
        self.column.addWidget(self.lead)
        self.column.addLayout(row(self._look, self._steer))
        for widget in (self.loading, self.problem, self.away, self.facts):
            self.column.addWidget(widget)
        self.column.addWidget(self._hooks, 1000)
        self.column.addStretch(1)  # takes the room where there are no hook points
        self.asker = Asker(workbench, f"{EXPERIMENT} {key}", EXPERIMENT, self)
        self.asker.answered.connect(self._show)
        self.asker.failed.connect(self._fail)
        self.asker.progressed.connect(lambda progress: self.loading.show_progress(progress, f"Opening {key}"))
        workbench.things_changed.connect(self._changed)
        self._ask()

    def title(self) -> str:
        return models.title_of(self.key, self.workbench)

    def state(self) -> dict[str, Any]:
        point = self.hooks.chosen
        return super().state() | {"search": self.hooks.line.text(), "hook": point.name if point else ""}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        if isinstance(state.get("search"), str):
            self.hooks.line.setText(state["search"])
        if isinstance(state.get("hook"), str):
            self._wanted_hook = state["hook"]
            self.hooks.choose(state["hook"])

    _wanted_hook = ""  # to be chosen once the hook points are there

    def closing(self) -> None:
        self.asker.cancel()
        self.workbench.things_changed.disconnect(self._changed)

    def _ask(self) -> None:
        self.problem.say("")
        self._look.setVisible(False)
        self._steer.setVisible(False)
        self._hooks.setVisible(False)
        self.loading.show_progress(None, f"Opening {self.key}")
        self.asker.ask({"model": self.key}, pause=0)

    def _changed(self, section: str) -> None:
        """The model was opened, renamed or replaced by a run."""
        if section in ("", "models"):
            self.head.setText(self.title())
            self._say_title()
            if self.away.isVisible():
                self._ask()

    def _cancel(self) -> None:
        self.asker.cancel()
        self._fail(f"{self.title()} was not opened because you cancelled it.", "")

    def _fail(self, sentence: str, details: str) -> None:
        self.loading.hide()
        self.problem.say(sentence, details)

    def _show(self, said: Answered) -> None:
        facts = said.facts
        self.loading.hide()
        self.head.setText(self.title())
        self.lead.setText(lead_of(facts))
        self.lead.setVisible(bool(self.lead.text()))
        here = bool(facts.get("here"))
        table = said.figures.get("facts")
        if isinstance(table, Table):
            self.facts.set_rows([_row(str(name), str(value)) for name, value in zip(*table.columns, strict=True)])
        note = facts.get("note") or "has to be fetched first"
        self.away.say("" if here else f"{self.title()} is not on this machine yet: it {note}.")
        self._look.setVisible(here)
        self._steer.setVisible(here)
        self._hooks.setVisible(here)
        self.hooks.set_points(read(facts.get("hook_points", [])))
        if self._wanted_hook:
            self.hooks.choose(self._wanted_hook)
        self._say_title()


def _row(name: str, value: str) -> tuple[str, ...]:
    """A row of facts; long checksums are shortened, the whole is the tool tip."""
    is_sum = name.startswith("SHA-256") and len(value) > LONG
    return (name, value[:LONG] + "…", value) if is_sum else (name, value)


def lead_of(facts: dict[str, Any]) -> str:
    """One line that says how large the model is and whether it fits."""
    parts = []
    if facts.get("parameters"):
        parts.append(f"{large(facts['parameters'])} parameters")
    if facts.get("layers"):
        parts.append(f"{facts['layers']} layers")
    if facts.get("d_model"):
        parts.append(f"d_model {facts['d_model']:,}")
    if facts.get("memory"):
        parts.append(f"its weights take {size(facts['memory'])}")
    elif facts.get("memory_needed"):
        parts.append(f"needs {size(facts['memory_needed'])} of memory")
    if facts.get("memory_free"):
        parts.append(f"{size(facts['memory_free'])} are free")
    return " · ".join(parts)
