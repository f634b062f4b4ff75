"""The form's choices: fields shown only when they matter, sections, what a choice stands for, sweeps, the estimate."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QApplication, QToolButton

from app import theme as themes
from app.icons import Dresser
from app.window import estimating
from app.window.fields import ChoiceField
from app.window.form import Form
from app.workbench import Workbench
from engine.figures.kinds import Axis, Table
from engine.runs.declaration import experiments, find
from tests.app.conftest import Shell
from tests.app.panels.fakes import Looks
from tests.engine.conftest import samples

__all__ = ["samples"]


class Filled:
    """A form of ``sample-choosing`` over a workbench without session and engine."""

    def __init__(self, qtbot, form: Form, looks: Looks) -> None:
        self.qtbot, self.form, self.looks = qtbot, form, looks

    def field(self, name: str) -> Any:
        return next(entry for entry in self.form.fields if entry.parameter.name == name)

    def choose(self, name: str, value: str) -> None:
        """Choose an entry of a combo box, as its list does."""
        combo = self.field(name).combo
        combo.setCurrentIndex(combo.findText(value))
        combo.activated.emit(combo.currentIndex())

    def tick(self, name: str, words: str) -> None:
        action: QAction = next(a for a in self.field(name).several.menu().actions() if a.text() == words)
        action.trigger()

    def unfold(self, named: str) -> None:
        (button,) = [b for b in self.form.findChildren(QToolButton) if b.accessibleName() == named]
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def fold_is_offered(self, named: str) -> bool:
        return any(b.isVisible() for b in self.form.findChildren(QToolButton) if b.accessibleName() == named)

    def type_into(self, name: str, text: str) -> None:
        line = self.field(name).line
        line.setFocus()
        line.selectAll()
        self.qtbot.keyClicks(line, text)


@pytest.fixture
def filled(qtbot, qapp: QApplication, samples: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filled]:
    monkeypatch.setattr(estimating, "REST", 1)
    workbench, looks = Workbench(), Looks()
    themes.apply(qapp, workbench.theme)
    workbench.catalogue = {
        name: find(name).describe() for name in ("sample-choosing", "sample-counting", "sample-estimate")
    }
    monkeypatch.setattr(workbench, "ask", looks.ask)
    form = Form(workbench, Dresser(workbench.theme))
    qtbot.addWidget(form)
    form.resize(300, 700)
    form.show()
    form.show_experiment("sample-choosing")
    yield Filled(qtbot, form, looks)
    form.close()
    workbench.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def test_a_field_is_there_only_with_the_choices_it_matters_for(filled: Filled) -> None:
    filled.unfold("Advanced parameters")
    assert filled.field("k").isVisible()
    assert not filled.fold_is_offered("Sparsity parameters"), "nothing in it matters"
    filled.choose("kind", "relu")
    assert not filled.field("k").isVisible()
    filled.unfold("Sparsity parameters")
    assert filled.field("penalty").isVisible()
    filled.choose("kind", "topk")
    assert filled.field("k").isVisible()
    assert not filled.field("penalty").isVisible()


def test_what_is_hidden_counts_as_its_default_and_stops_nothing(filled: Filled) -> None:
    filled.type_into("k", "0")
    assert not filled.form.start.isEnabled()
    filled.choose("kind", "relu")
    assert filled.form.start.isEnabled()
    assert not filled.field("k").problem.isVisible()
    assert filled.form.parameter_sets() == [
        {"kind": "relu", "k": 3, "penalty": "l1", "tied": True, "steps": 5, "seed": 0}
    ]
    filled.choose("kind", "topk")
    assert filled.field("k").problem.isVisible(), "what is wrong is said again where it matters"


def test_sections_fold_under_advanced_and_the_rest_stands_there_as_before(filled: Filled) -> None:
    assert not filled.fold_is_offered("Weights parameters")
    filled.unfold("Advanced parameters")
    assert filled.field("seed").isVisible()
    assert not filled.field("tied").isVisible()
    filled.unfold("Weights parameters")
    assert filled.field("tied").isVisible()


def test_tab_goes_through_the_fields_as_they_stand(filled: Filled) -> None:
    filled.unfold("Advanced parameters")
    filled.choose("kind", "relu")
    filled.unfold("Sparsity parameters")
    reached, widget = [], filled.field("kind").editor
    for _ in range(12):
        widget.setFocus()
        reached.append(widget.accessibleName())
        filled.qtbot.keyClick(widget, Qt.Key.Key_Tab)
        widget = filled.form.window().focusWidget()
    assert reached[:7] == [
        "kind", "Several values of kind", "steps", "Advanced parameters", "Sparsity parameters", "penalty",
        "Several values of penalty",
    ]  # fmt: skip
    assert "Start" in reached


def test_a_choice_says_what_it_stands_for(filled: Filled) -> None:
    kind = filled.field("kind")
    assert kind.words.text() == "The k largest"
    assert kind.combo.itemData(1, Qt.ItemDataRole.ToolTipRole) == "Any size"
    filled.choose("kind", "relu")
    assert kind.words.text() == "Any size"
    assert "Any size" in kind.combo.accessibleDescription()
    filled.choose("kind", "gated")
    assert not kind.words.isVisible(), "nothing is known of it"


def test_ticked_choices_make_a_sweep_and_picking_one_ends_it(filled: Filled) -> None:
    filled.tick("kind", "relu")
    kind, form = filled.field("kind"), filled.form
    assert kind.combo.currentText() == "topk, relu"
    assert form.start.text() == "Start 2 runs"
    assert "Sweep over kind." in form.note.text()
    assert kind.words.text() == "topk: The k largest\nrelu: Any size"
    assert filled.field("k").isVisible(), "it matters for one of them"
    filled.type_into("k", "2, 4")
    assert [(run["kind"], run["k"]) for run in form.parameter_sets()] == [("topk", 2), ("topk", 4), ("relu", 3)]
    assert form.for_copying()["kind"] == ["topk", "relu"]
    filled.choose("kind", "gated")
    assert kind.combo.count() == 3
    assert [run["kind"] for run in form.parameter_sets()] == ["gated"]
    filled.tick("kind", "gated")
    assert kind.values() == ["gated"], "the last one stays"


def test_both_positions_of_a_switch_make_a_sweep(filled: Filled) -> None:
    filled.tick("tied", "both, a run each")
    assert [run["tied"] for run in filled.form.parameter_sets()] == [True, False]
    filled.unfold("Advanced parameters")
    filled.unfold("Weights parameters")
    filled.qtbot.mouseClick(filled.field("tied").switch, Qt.MouseButton.LeftButton)
    assert [run["tied"] for run in filled.form.parameter_sets()] == [True]
    assert filled.field("tied").several.values() == []


def test_a_sweep_that_is_shown_again_stands_in_the_fields(filled: Filled) -> None:
    filled.form.show_experiment("sample-choosing", {"kind": ["relu", "gated"], "penalty": "log", "tied": [True, False]})
    assert len(filled.form.parameter_sets()) == 4
    assert isinstance(filled.field("kind"), ChoiceField)
    assert filled.field("kind").text() == "relu, gated"


def test_the_estimate_is_asked_of_its_look_after_a_rest_and_said_beneath_the_fields(filled: Filled) -> None:
    form, looks = filled.form, filled.looks
    filled.qtbot.waitUntil(lambda: len(looks.asked) == 1)
    assert looks.asked[0] == {"kind": "topk", "steps": 5}, "what the look knows, and nothing else"
    axis = Axis("Need")
    table = Table(title="", note="About 5 s.", axes=(axis,), columns=(np.array(["time"]),))
    looks.answer(1, {"estimate": table})
    assert (form.estimate.text(), form.estimate.property("role")) == ("About 5 s.", "muted")
    filled.type_into("steps", "2000, 3000")
    filled.qtbot.waitUntil(lambda: looks.asked[-1]["steps"] == 2000)
    looks.answer(len(looks.asked), error="2000 steps take too long; choose fewer.")
    assert (form.estimate.text(), form.estimate.property("role")) == (
        "2000 steps take too long; choose fewer.", "warning",
    )  # fmt: skip
    looks.answer(len(looks.asked), {"estimate": table})
    assert form.estimate.text() == "First of 2 runs: About 5 s."
    filled.type_into("steps", "0")
    assert not form.estimate.isVisible()
    form.show_experiment("sample-counting")
    looks.answer(len(looks.asked), {"estimate": table})
    assert not form.estimate.isVisible(), "the answer belongs to another form"


def test_a_sweep_over_choices_is_shown_as_one_family_of_live_curves(shell: Shell) -> None:
    shell.workbench.show_form("sample-choosing", {"kind": ["topk", "relu", "gated"]})
    form = shell.window.form
    shell.wait(lambda: form.estimate.text() == "First of 3 runs: About 5 s.")
    shell.qtbot.mouseClick(form.start, Qt.MouseButton.LeftButton)
    records = shell.workbench.session.runs()
    assert [record.parameters["kind"] for record in records] == ["topk", "relu", "gated"]
    page = shell.window.tabs.current()
    assert page is not None
    assert (page.kind, page.key) == ("compare", ",".join(record.id for record in records))
    assert page.title() == "Sweep over kind"
    shell.wait(lambda: all(shell.state(record.id) == "finished" for record in records))
    shell.wait(lambda: page.plots.count == 2)
    shell.wait(lambda: page.plots.tiles[0].figure.series == ("topk", "relu", "gated"))


@pytest.mark.parametrize("name", sorted(name for name, found in experiments().items() if found.lane == "job"))
def test_a_form_begins_without_a_mistake_but_for_what_only_a_person_can_say(filled: Filled, name: str) -> None:
    filled.form._workbench.catalogue = {name: find(name).describe()}
    filled.form.show_experiment(name)
    wrong = {field.parameter.name for field in filled.form.fields if not field.check()}
    assert wrong <= {field.parameter.name for field in filled.form.fields if field.parameter.required}


def test_an_empty_model_is_none_where_that_is_the_default_and_says_what_is_taken_instead(filled: Filled) -> None:
    filled.form._workbench.catalogue = {"number-helix": find("number-helix").describe()}
    filled.form.show_experiment("number-helix")
    field = filled.field("model")
    assert field.values() == [""]
    assert field.combo.lineEdit().placeholderText() == "points of a known helix"
    field.show_value("no such model")
    assert not field.check()


def test_an_empty_hook_is_the_default_though_the_model_has_said_what_it_has(filled: Filled) -> None:
    filled.form._workbench.catalogue = {"number-helix": find("number-helix").describe()}
    filled.form.show_experiment("number-helix")
    field = filled.field("hook")
    field.offer(["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"])
    assert field.check()
    assert field.values() == [""]
    field.show_value("blocks.9.hook_resid_post")
    assert not field.check()


def test_a_switch_that_may_be_neither_offers_so_and_begins_with_it(filled: Filled) -> None:
    filled.form._workbench.catalogue = {"modular-steering": find("modular-steering").describe()}
    filled.form.show_experiment("modular-steering")
    field = filled.field("hand_built")
    assert field.values() == [None]
    assert [field.combo.itemText(place) for place in range(3)] == ["by size", "yes", "no"]
    filled.choose("hand_built", "yes")
    assert field.values() == [True]


def test_fields_that_may_be_empty_say_what_they_mean_then(filled: Filled) -> None:
    filled.form._workbench.catalogue = {"steering-sweep": find("steering-sweep").describe()}
    filled.form.show_experiment("steering-sweep")
    assert filled.field("target").line.placeholderText() == "the next"
    assert filled.field("learned").line.placeholderText() == "for learned only"
    assert filled.field("dictionary").combo.lineEdit().placeholderText() == "for latents only"
    assert filled.field("methods").line.placeholderText() == "none"
    assert filled.field("prompts").combo.lineEdit().placeholderText() == ""
