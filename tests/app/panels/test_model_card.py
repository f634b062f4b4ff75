"""The model card and its hook points, with the real engine and the demo model."""

from __future__ import annotations

import os

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLineEdit, QMenu, QPushButton

from app.panels.facts import FactsTable, rows_of
from app.panels.hook_points import NAME
from app.panels.model_card import ModelCard

from .conftest import Bench


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    return shared_bench


@pytest.fixture
def card(bench: Bench) -> ModelCard:
    made = bench.open("model", "demo")
    assert isinstance(made, ModelCard)
    bench.wait(lambda: not made.asker.is_waiting)
    return made


def action(card: ModelCard, name: str) -> QPushButton:
    return card.hooks._actions[name]


def test_it_says_what_the_model_is_and_lists_its_hook_points(card: ModelCard) -> None:
    assert card.title() == "Demo model"
    facts = {name: value for name, value, *_ in card.facts.rows}
    assert (facts["Layers"], facts["d_model"], facts["Context (tokens)"]) == ("2", "64", "128")
    assert card.lead.text().startswith("117 k parameters · 2 layers · d_model 64 · its weights take 468 kB")
    assert card.hooks.count.text() == "64 hook points"
    assert not card.away.isVisible()


def test_searching_shows_what_fits_and_chooses_the_only_one(bench: Bench, card: ModelCard) -> None:
    bench.qtbot.keyClicks(card.hooks.line, "post 1 resid")
    assert card.hooks.count.text() == "1 of 64"
    assert card.hooks.chosen.name == "blocks.1.hook_resid_post"
    assert "64 values per token" in card.hooks.note.text()


def test_copy_and_look_act_on_the_chosen_hook_point(bench: Bench, card: ModelCard) -> None:
    wanted: list[tuple[object, ...]] = []
    bench.workbench.panel_wanted.connect(lambda *words: wanted.append(words))
    card.hooks.choose("blocks.1.mlp.hook_post")
    bench.qtbot.keyClick(card.hooks.tree, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "blocks.1.mlp.hook_post"
    bench.qtbot.keyClick(card.hooks.tree, Qt.Key.Key_Return)
    bench.qtbot.mouseClick(action(card, "Look at activations"), Qt.MouseButton.LeftButton)
    assert wanted == [("activations", "demo", {"stream": "mlp.hook_post", "layer": 1})] * 2


@pytest.mark.parametrize(("name", "experiment"), [("PCA…", "pca-spectrum"), ("Train dictionary…", "train-dictionary")])
def test_forms_open_with_model_and_hook_filled_in(bench: Bench, card: ModelCard, name: str, experiment: str) -> None:
    wanted: list[tuple[object, ...]] = []
    bench.workbench.form_wanted.connect(lambda *words: wanted.append(words))
    card.hooks.choose("blocks.0.hook_resid_pre")
    bench.qtbot.mouseClick(action(card, name), Qt.MouseButton.LeftButton)
    assert wanted == [(experiment, {"model": "demo", "hook": "blocks.0.hook_resid_pre"})]
    properties = bench.workbench.catalogue[experiment]["parameters"]["properties"]
    assert {"model", "hook"} <= properties.keys()


def test_what_makes_no_sense_at_a_hook_point_is_not_offered(card: ModelCard) -> None:
    card.hooks.choose("blocks.0.attn.hook_pattern")
    assert action(card, "Copy name").isEnabled()
    assert not any(action(card, name).isEnabled() for name in ("Look at activations", "PCA…", "Train dictionary…"))
    assert "no vector per token" in card.hooks.note.text()


def test_a_hook_point_opens_the_viewer_on_its_stream_and_layer(bench: Bench) -> None:
    viewer = bench.open("activations", "demo")
    viewer.restore({"stream": "mlp.hook_post", "layer": 0})
    bench.wait(lambda: not viewer.asker.is_waiting)
    assert viewer.pictures.map.figure.title == "Norm of mlp.hook_post"
    assert viewer.place.cell.layer == 0
    assert viewer.place.cell.position == viewer.place.positions - 1, "the token stays the last one"


def test_the_context_menu_offers_the_same(bench: Bench, card: ModelCard) -> None:
    card.hooks.choose("blocks.0.hook_resid_post")
    card.hooks._menu(QPoint(5, 5))
    menu = card.hooks.findChild(QMenu)
    assert [entry.text() for entry in menu.actions()] == [
        "Copy name",
        "Look at activations here",
        "PCA here…",
        "Train dictionary here…",
    ]
    menu.close()


def test_a_model_that_is_not_here_shows_what_is_known_and_how_to_open_it(bench: Bench, monkeypatch) -> None:
    card = bench.open("model", "some-org/some-model")
    bench.wait(lambda: not card.asker.is_waiting)
    assert card.problem.isVisible() or card.away.isVisible()
    assert "\n" not in card.problem.text
    assert not card.hooks.isVisible()


def test_a_folder_that_is_no_model_is_one_sentence(bench: Bench, tmp_path) -> None:
    (tmp_path / "config.json").write_text("{}")
    card = bench.open("model", str(tmp_path))
    bench.wait(lambda: not card.asker.is_waiting)
    assert card.problem.text
    assert os.path.basename(str(tmp_path)) in card.problem.text


def test_search_and_choice_come_back_with_the_layout(bench: Bench, card: ModelCard) -> None:
    card.hooks.choose("blocks.1.hook_resid_post")
    state = card.state()
    again = bench.open("model", "demo")
    again.restore(state)
    bench.wait(lambda: not again.asker.is_waiting)
    assert again.hooks.chosen.name == "blocks.1.hook_resid_post"


def test_every_control_of_the_card_has_a_name(card: ModelCard) -> None:
    for kind in (QPushButton, QLineEdit):
        for control in card.findChildren(kind):
            assert control.accessibleName(), control
    assert card.hooks.tree.accessibleName()
    names = {card.hooks._found.index(0, 0).data(NAME)}
    assert names == {""}, "headings are no hook points"


def test_facts_are_rows_with_whole_checksums_as_tips() -> None:
    rows = rows_of({"sha256": "a" * 64, "characters": 465_000, "nested": {"unknown_share": 0.01}, "none": None})
    assert rows == [
        ("SHA-256", "a" * 16 + "…", "a" * 64),
        ("Characters", "465,000"),
        ("Nested: unknown share", "0.01"),
    ]


def test_copied_facts_have_the_whole_checksum(qtbot) -> None:
    table = FactsTable("Facts")
    qtbot.addWidget(table)
    table.set_rows([("SHA-256", "aaaa…", "a" * 64), ("Layers", "2")])
    table.copy()
    assert QGuiApplication.clipboard().text() == f"SHA-256\t{'a' * 64}\nLayers\t2"


def test_many_facts_stand_in_two_blocks_where_there_is_room(qtbot) -> None:
    table = FactsTable("Facts")
    qtbot.addWidget(table)
    table.set_rows([(f"Fact {n}", str(n)) for n in range(12)])
    table.resize(800, 400)
    table.show()
    left = {pair[0].x() for pair in table._labels}
    assert len(left) == 2
    table.resize(400, 400)
    qtbot.waitUntil(lambda: len({pair[0].x() for pair in table._labels}) == 1)
