"""The table of a prompt set with the engine behind it: files read, sets kept, forms that offer them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog

from app.panels.prompt_table import PromptTable
from engine.text.prompts import open_prompts

from .conftest import Bench
from .prompt_hand import ROWS, Hand, named


@pytest.fixture
def table(qtbot, shared_bench: Bench) -> Iterator[Hand]:
    made = PromptTable(shared_bench.workbench, "days")
    qtbot.addWidget(made)
    made.resize(1000, 500)
    made.show()
    yield Hand(qtbot, made)
    made.closing()
    made.close()


def test_a_file_is_read_by_the_engine_and_its_mistakes_are_said(
    shared_bench: Bench, table: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hours.csv"
    path.write_text("prompt,positive,negative,cyclic label,who\nIt is, one, two,1,Ann\n")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    table.qtbot.mouseClick(named(table.table, "Open file"), Qt.MouseButton.LeftButton)
    shared_bench.wait(lambda: table.table.reference() == str(path))
    assert table.sets[-1] == open_prompts(str(path))
    assert table.sets[-1].cyclic
    path.write_text("prompt,positive\nIt is, one\n")
    table.table.choose_file()
    shared_bench.wait(lambda: bool(table.table.problem_notice.text))
    assert table.table.problem_notice.text.startswith("hours.csv, line 1, has no column “negative”")
    assert table.sets[-1].rows[0].positive == " one"


def test_a_set_is_kept_in_the_session_and_shown_by_its_card(shared_bench: Bench, table: Hand) -> None:
    table.write(0, 1, " Friday or so")
    rows = table.table.prompts().rows
    table.qtbot.mouseClick(table.table._keep, Qt.MouseButton.LeftButton)
    shared_bench.wait(lambda: table.table.reference().startswith("prompts:"))
    id = table.table.reference().removeprefix("prompts:")
    assert table.table.chooser.currentText() == "Days of the week (edited)"
    workbench = shared_bench.workbench
    assert open_prompts(f"prompts:{id}", work=workbench.session.work).rows == rows
    other = PromptTable(workbench, f"prompts:{id}")
    table.qtbot.addWidget(other)
    shared_bench.wait(lambda: other.prompts().rows == rows)
    other.closing()

    card = shared_bench.open("text", id)
    facts: dict[str, Any] = {name: value for name, value, *_ in card.facts.rows}
    assert (facts["Kind"], facts["Rows"], facts["Classes"]) == ("prompt set", "42", "7, in a cycle")
    assert card._prompts.rows[0][1] == "␣Friday or so"
    assert not card._arrays_section.isVisible()
    wanted: list[tuple[object, ...]] = []
    workbench.panel_wanted.connect(lambda *words: wanted.append(words))
    table.qtbot.mouseClick(card.to_bench, Qt.MouseButton.LeftButton)
    assert wanted == [("steering", "", {"prompts": f"prompts:{id}"})]


def test_forms_offer_kept_sets_as_prompts_and_never_as_texts(shared_bench: Bench) -> None:
    from app.window.fields import make_field
    from app.window.references import known
    from app.window.schema import Refused, parameters

    workbench = shared_bench.workbench
    shared_bench.run("prompt-set", prompts="days")
    kept = [thing.id for thing in workbench.session.things("corpora") if thing.attributes.get("kind") == "prompts"]
    assert kept
    assert [name for name in known(workbench, "prompts") if name.startswith("prompts:")] == [
        f"prompts:{id}" for id in kept
    ]
    assert not [name for name in known(workbench, "text") if "prompt" in name]
    parameter = next(
        entry for entry in parameters(workbench.catalogue["prompt-set"]["parameters"]) if entry.name == "prompts"
    )
    field = make_field(parameter, workbench)
    shared_bench.qtbot.addWidget(field)
    field.show_value("days")
    assert field.values() == ["days"]
    field.show_value(ROWS)
    assert field.text() == "4 edited rows"
    assert field.values() == [ROWS]
    assert field.check()
    field.show_value("nothing")
    with pytest.raises(Refused, match="is no prompt set"):
        field.values()
    field.closing()
