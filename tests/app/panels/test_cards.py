"""Cards of what runs produce, and their pure parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtWidgets import QFileDialog

from app.panels.thing_cards import BINS_A_DECADE, density_figure
from engine.session import Session

from .conftest import Bench


def test_densities_are_counted_by_decade_with_the_dead_at_the_left_end() -> None:
    density = np.array([0.0, 0.0, 0.5, 0.02, 0.021, np.nan])
    figure = density_figure(density)
    counts = figure.counts[0]
    assert counts.sum() == 5, "what is not finite is not counted"
    assert counts[0] == 2, "never fired"
    assert len(counts) == 3 * BINS_A_DECADE
    assert (figure.edges[0], figure.edges[-1]) == (-3, 0)
    assert "2 never fired" in figure.note


def test_a_dictionary_none_of_whose_latents_fired_has_a_histogram_all_the_same() -> None:
    assert density_figure(np.zeros(8)).counts.sum() == 8


@pytest.fixture
def trained(shared_bench: Bench) -> str:
    """A small trained dictionary."""
    known = [thing.id for thing in shared_bench.workbench.session.things("dictionaries")]
    if not known:
        run = shared_bench.run("train-dictionary", steps=5, tokens=2000, width=32, k=4, batch=64)
        assert shared_bench.workbench.record(run).state == "finished", shared_bench.workbench.record(run).error
        known = [thing.id for thing in shared_bench.workbench.session.things("dictionaries")]
    return known[0]


def test_the_card_of_a_dictionary_has_its_configuration_metrics_arrays_and_a_way_to_its_run(
    shared_bench: Bench, trained: str
) -> None:
    card = shared_bench.open("dictionary", trained)
    facts = {name: value for name, value, *_ in card.facts.rows}
    assert (facts["architecture"], facts["d_in"], facts["width"], facts["k"]) == ("topk", "64", "32", "4")
    assert facts["CE recovered"].endswith(" %")
    assert ["W_dec", "32 × 64", "float32", "8.2 kB"] in card._arrays.rows
    assert card._density_view is not None
    wanted: list[tuple[object, ...]] = []
    shared_bench.workbench.panel_wanted.connect(lambda *words: wanted.append(words))
    card._open_run()
    assert [entry[:2] for entry in wanted] == [("run", "train-dictionary-1")]


def test_a_dictionary_is_exported_from_its_card_for_each_program(
    shared_bench: Bench, trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = shared_bench.open("dictionary", trained)
    assert card.export.accessibleName() == "Export"
    assert [action.text() for action in card.export.menu().actions()] == [
        "SAELens…",
        "dictionary_learning…",
        "sparsify…",
    ]
    place = tmp_path / "exported"
    asked: list[str] = []

    def choose(parent: object, title: str, start: str) -> tuple[str, str]:
        asked.append(title)
        return str(place), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    card.export.menu().actions()[0].trigger()
    assert asked == ["Export for SAELens: a new folder"]
    run = shared_bench.workbench.session.runs()[-1].id
    shared_bench.wait_until_ended(run)
    assert shared_bench.workbench.record(run).state == "finished", shared_bench.workbench.record(run).error
    assert sorted(path.name for path in place.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    again = card.export_to(place, "sparsify")
    shared_bench.wait_until_ended(again)
    assert "There is something at" in shared_bench.workbench.record(again).error


def test_a_deleted_dictionary_says_so_and_comes_back_with_undo(shared_bench: Bench, trained: str) -> None:
    card = shared_bench.open("dictionary", trained)
    shared_bench.workbench.delete("dictionaries", [trained])
    assert card.problem.isVisible()
    assert card.facts.rows == []
    shared_bench.workbench.undo()
    assert not card.problem.isVisible()
    assert card.facts.rows


def test_the_card_of_an_opened_dictionary_says_what_its_files_say(own_bench: Bench, monkeypatch) -> None:
    from engine.session.contents import Thing

    facts = {"dict_class": "BatchTopKSAE", "note": "Its threshold was never estimated."}
    attributes = {"config": {"width": 20}, "format": "dictionary_learning", "facts": facts}
    thing = Thing("dictionaries", "opened", attributes)
    monkeypatch.setattr(Session, "things", lambda self, section: [thing] if section == "dictionaries" else [])
    monkeypatch.setattr(Session, "thing_array_names", lambda self, section, id: [])
    card = own_bench.open("dictionary", "opened")
    rows = {name: value for name, value, *_ in card.facts.rows}
    assert rows == {"width": "20", "format": "dictionary_learning", "dict_class": "BatchTopKSAE"}
    assert card.problem.isVisible()
    assert card._density_view is None


def test_the_training_page_shows_curves_and_figures_and_single_values_as_numbers(
    shared_bench: Bench, trained: str
) -> None:
    page = shared_bench.open("run", "train-dictionary-1")
    shared_bench.painted()
    titles = [tile.title() for tile in page.plots.tiles]
    assert not any("recovered" in title.lower() for title in titles)
    assert "CE recovered" in page.header._progress.text()
    assert page.figures.count > 0


def test_a_pca_page_has_its_spectrum_its_scatter_and_its_kept_components(shared_bench: Bench) -> None:
    run = shared_bench.run("pca-spectrum", tokens=3000)
    page = shared_bench.open("run", run)
    shared_bench.painted()
    kinds = {view.figure.kind for view in page.figures._views.values()}
    assert {"lines", "scatter", "table"} <= kinds
    assert page.kept._rows.rows[0][0] == "components"


def test_a_text_card_reads_what_the_session_stores(own_bench: Bench, monkeypatch) -> None:
    from engine.session.contents import Thing

    attributes = {"source": '{"reference": "python-docs", "characters": 465000}', "sha256": "b" * 64, "tokens": 113_000}
    thing = Thing("corpora", "python-docs", attributes)
    monkeypatch.setattr(Session, "things", lambda self, section: [thing] if section == "corpora" else [])
    monkeypatch.setattr(Session, "thing_array_names", lambda self, section, id: [])
    card = own_bench.open("text", "python-docs")
    facts = {name: value for name, value, *_ in card.facts.rows}
    assert facts == {
        "Reference": "python-docs",
        "Characters": "465,000",
        "SHA-256": "b" * 16 + "…",
        "Tokens": "113,000",
    }
