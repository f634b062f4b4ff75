"""The form made from a schema: fields, bounds said per field, sweeps, what Start starts, copies."""

from __future__ import annotations

import subprocess

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QToolButton

from app.window.fields import ChoiceField, ComboField, HookField, LineField, SwitchField, TextField
from app.window.form import MOST
from app.window.places import ReferenceField
from tests.app.conftest import Shell


def field(shell: Shell, name: str):
    return next(entry for entry in shell.window.form.fields if entry.parameter.name == name)


def type_into(shell: Shell, name: str, text: str) -> None:
    line = field(shell, name).editor
    line.setFocus()
    line.selectAll()
    shell.qtbot.keyClicks(line, text)


def test_each_parameter_gets_the_editor_that_fits_it(shell: Shell):
    shell.workbench.show_form("train-dictionary")
    kinds = {entry.parameter.name: type(entry) for entry in shell.window.form.fields}
    assert kinds["model"] is ReferenceField
    assert kinds["text"] is ReferenceField
    assert kinds["hook"] is HookField
    assert kinds["k"] is LineField
    assert kinds["device"] is ComboField
    assert kinds["dtype"] is ChoiceField
    assert kinds["prepend_bos"] is SwitchField
    assert field(shell, "model").text() == "demo"


def test_advanced_parameters_are_folded_and_can_be_unfolded(shell: Shell):
    shell.workbench.show_form("train-dictionary")
    seed = field(shell, "seed")
    assert not seed.isVisible()
    fold = next(
        button
        for button in shell.window.form.findChildren(QToolButton)
        if button.accessibleName() == "Advanced parameters"
    )
    shell.qtbot.mouseClick(fold, Qt.MouseButton.LeftButton)
    assert seed.isVisible()


def test_what_is_out_of_bounds_is_said_beneath_its_field_and_cannot_be_started(shell: Shell):
    shell.workbench.show_form("sample-counting")
    form = shell.window.form
    type_into(shell, "k", "0")
    assert field(shell, "k").problem.isVisible()
    assert field(shell, "k").problem.text() == "k has to be 1 to 65,536."
    assert not field(shell, "steps").problem.isVisible()
    assert not form.start.isEnabled()
    shell.workbench.commands.run("run.start")
    assert shell.workbench.session.runs() == []
    type_into(shell, "k", "4")
    assert not field(shell, "k").problem.isVisible()
    assert form.start.isEnabled()


def test_start_queues_the_run_shows_it_and_selects_it(shell: Shell):
    shell.workbench.show_form("sample-counting")
    type_into(shell, "steps", "7")
    shell.qtbot.mouseClick(shell.window.form.start, Qt.MouseButton.LeftButton)
    (record,) = shell.workbench.session.runs()
    assert record.parameters == {"steps": 7, "seconds": 0.0, "k": 3}
    panel = shell.window.tabs.current()
    assert panel is not None
    assert (panel.kind, panel.key) == ("run", record.id)
    assert shell.window.tree.selected() == [("runs", record.id)]
    shell.wait(lambda: shell.state(record.id) == "finished")
    assert shell.workbench.metric(record.id, "count")[-1, 1] == 7


def test_several_values_start_a_sweep_of_one_run_for_each(shell: Shell):
    shell.workbench.show_form("sample-counting")
    type_into(shell, "k", "2, 3, 5")
    form = shell.window.form
    assert form.start.text() == "Start 3 runs"
    assert "Sweep over k" in form.note.text()
    form.begin()
    records = shell.workbench.session.runs()
    assert [record.parameters["k"] for record in records] == [2, 3, 5]
    assert len({record.sweep for record in records}) == 1
    assert records[0].sweep
    shell.wait(lambda: all(shell.state(record.id) == "finished" for record in records))


def test_a_second_sweep_is_told_from_the_first(shell: Shell):
    shell.workbench.show_form("sample-counting")
    type_into(shell, "k", "2, 3")
    shell.window.form.begin()
    shell.window.form.begin()
    assert len({record.sweep for record in shell.workbench.session.runs()}) == 2


def test_a_sweep_of_too_many_runs_is_refused_with_both_numbers(shell: Shell):
    shell.workbench.show_form("sample-counting")
    type_into(shell, "k", ", ".join(str(number) for number in range(1, MOST + 2)))
    shell.window.form.begin()
    assert shell.workbench.session.runs() == []
    assert str(MOST + 1) in shell.notices()[-1]


def test_an_optional_parameter_left_empty_is_not_set(shell: Shell):
    shell.workbench.show_form("tiny-language-model")
    steps = field(shell, "steps")
    assert steps.text() == ""
    assert steps.values() == [None]


def test_a_model_or_text_that_cannot_be_is_said_at_once(shell: Shell):
    shell.workbench.show_form("train-dictionary")
    field(shell, "model").combo.setEditText("no model")
    assert "is no model reference" in field(shell, "model").problem.text()
    field(shell, "text").combo.setEditText("stories#x")
    assert "is no seed of the stories" in field(shell, "text").problem.text()
    assert not shell.window.form.start.isEnabled()


def test_known_hook_points_are_offered_and_others_refused(shell: Shell):
    shell.workbench.show_form("train-dictionary")
    hook = field(shell, "hook")
    assert hook.check()
    hook.offer(["blocks.0.hook_resid_post", "blocks.1.hook_mlp_out"])
    assert hook.check()
    type_into(shell, "hook", "blocks.7.hook_mlp_out")
    assert "is not a hook point of this model" in hook.problem.text()
    completer = hook.line.completer()
    completer.setCompletionPrefix("mlp")
    assert [completer.currentCompletion()] == ["blocks.1.hook_mlp_out"]


def test_going_to_the_hook_field_learns_the_hook_points_of_the_chosen_model(shell: Shell):
    shell.workbench.show_form("train-dictionary")
    hook = field(shell, "hook")
    hook.line.setFocus()
    shell.wait(lambda: "blocks.1.hook_resid_post" in hook._names.stringList())
    assert hook.check()
    type_into(shell, "hook", "blocks.9.hook_resid_post")
    assert "is not a hook point of this model" in hook.problem.text()
    # Another model may have it: what was learned is forgotten until its hook points are known.
    field(shell, "model").combo.setEditText("org/other")
    assert hook.check()


def test_a_prompt_keeps_the_white_space_that_was_typed(shell: Shell):
    from app.window.fields import make_field
    from app.window.schema import parameters
    from tests.engine.runs.sample import Echo

    prompt = make_field(parameters(Echo.model_json_schema())[0], shell.workbench)
    shell.qtbot.addWidget(prompt)
    assert isinstance(prompt, TextField)
    prompt.show_value(" two  words\n")
    assert prompt.values() == [" two  words\n"]


def test_a_selected_runs_parameters_are_shown_unless_the_form_was_edited(shell: Shell):
    run = shell.run("sample-counting", steps=9, seconds=0.0, k=8)
    shell.window.tree.select("runs", run)
    assert shell.window.form.experiment == "sample-counting"
    assert field(shell, "k").text() == "8"
    type_into(shell, "k", "12")
    other = shell.run("sample-walk")
    shell.window.tree.select("runs", other)
    assert field(shell, "k").text() == "12"


def test_what_is_copied_makes_the_same_run_on_the_command_line(shell: Shell):
    shell.workbench.show_form("sample-counting")
    type_into(shell, "k", "2, 4")
    shell.workbench.commands.run("run.command")
    command = QGuiApplication.clipboard().text()
    assert command == "superscope run sample-counting --set 'k=[2, 4]'"
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert words.stdout.splitlines()[-1] == "k=[2, 4]"
    shell.workbench.commands.run("run.python")
    assert "sample-counting" in QGuiApplication.clipboard().text()


def test_the_form_of_an_experiment_that_is_gone_is_a_sentence(shell: Shell):
    shell.workbench.show_form("from-another-version")
    assert "There is no experiment called from-another-version" in shell.notices()[-1]


def test_the_list_of_experiments_is_grouped_and_searched_by_what_they_do(shell: Shell):
    chooser = shell.window.form_side.chooser
    shell.workbench.commands.run("run.choose")
    assert chooser.search.hasFocus() or chooser.search.window().focusWidget() is chooser.search
    shell.qtbot.keyClicks(chooser.search, "walk")
    shell.qtbot.keyClick(chooser.search, Qt.Key.Key_Return)
    assert shell.window.form_side.shows_form
    assert shell.window.form.experiment == "sample-walk"
    shell.qtbot.mouseClick(shell.window.form.back, Qt.MouseButton.LeftButton)
    assert not shell.window.form_side.shows_form


@pytest.mark.parametrize("name", ["train-dictionary", "tiny-language-model"])
def test_the_defaults_in_the_form_are_those_of_the_experiment(shell: Shell, name: str):
    shell.workbench.show_form(name)
    properties = shell.workbench.catalogue[name]["parameters"]["properties"]
    shown = shell.window.form.parameter_sets()
    assert len(shown) == 1
    assert shown[0] == {entry: properties[entry].get("default") for entry in properties}


def test_stored_things_are_offered_and_files_chosen_in_a_dialog(shell: Shell, monkeypatch: pytest.MonkeyPatch):
    from app.window import places
    from app.window.schema import Parameter

    chosen = ["/data/mine.npy", ""]
    monkeypatch.setattr(places.QFileDialog, "getOpenFileName", lambda *_: (chosen.pop(0), ""))
    field = places.PlaceField(
        Parameter("activations", "string", False, {"type": "string", "widget": "activations"}), shell.workbench
    )
    shell.qtbot.addWidget(field)
    offered = [field.combo.itemText(place) for place in range(field.combo.count())]
    assert offered == ["Choose a file…"]
    field.combo.activated.emit(0)
    assert field.values() == ["/data/mine.npy"]
    field.combo.activated.emit(0)  # the dialog is left: what was there stays
    assert field.values() == ["/data/mine.npy"]
    field.closing()
