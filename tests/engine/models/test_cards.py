"""The model card and the job that opens a model say what the model is and put it into the session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.models import facts, opening
from engine.models.opening import OpenModel
from engine.models.references import slug
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording
from engine.runs.run import Run
from engine.runs.sinks import MemorySink


def card(model: str) -> MemorySink:
    sink = MemorySink()
    experiment = find("model-card")
    experiment.function(check(experiment.parameters, {"model": model, "device": "cpu"}), Run("look-1", sink))
    return sink


def test_the_card_lists_facts_and_every_hook_point(tiny_hf: Path, tiny: OpenModel) -> None:
    found = card(str(tiny_hf))
    table = found.figures["hook-points"]
    assert [axis.label for axis in table.axes] == ["Hook point", "Shape", "Layer", "Part", "Note"]
    assert list(table.columns[0]) == [point.name for point in tiny.hook_points()]
    assert found.facts["hook_points"][0]["name"] == tiny.hook_points()[0].name
    rows = dict(zip(*(column.tolist() for column in found.figures["facts"].columns), strict=True))
    assert rows["Layers"] == "2"
    assert rows["Parameters"] == f"{tiny.facts.parameters:,}"
    assert rows["Tied embeddings"] == "no"
    json.dumps(found.facts)


def test_a_model_that_is_not_here_is_described_but_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSCOPE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(opening, "smollm2", lambda run=None: pytest.fail("it was fetched"))
    found = card("smollm2")
    assert not found.facts["here"]
    assert found.facts["hook_points"] == []
    assert found.facts["parameters"] == 134_515_008
    assert "fetched first" in found.figures["facts"].note
    assert not (tmp_path / "own" / "cache").exists()


def test_opening_as_a_job_records_facts_and_lists_the_model(tiny_hf: Path, tmp_path: Path) -> None:
    experiment = find("open-model")
    parameters = check(experiment.parameters, {"model": str(tiny_hf), "device": "cpu"})
    record = execute(experiment, parameters, tmp_path / "open-model-1")
    assert (record.state, record.error) == ("finished", "")
    recording = Recording(tmp_path / "open-model-1")
    ((section, id, attributes, arrays),) = list(recording.things())
    assert (section, id) == ("models", slug(str(tiny_hf)))
    assert attributes["reference"] == str(tiny_hf)
    assert attributes["facts"]["layers"] == 2
    assert not arrays
    assert record.facts["d_model"] == 32


def test_a_model_that_cannot_be_opened_fails_the_run_with_its_sentence(tmp_path: Path) -> None:
    experiment = find("open-model")
    parameters = check(experiment.parameters, {"model": str(tmp_path / "nothing"), "device": "cpu"})
    record = execute(experiment, parameters, tmp_path / "open-model-1")
    assert record.state == "failed"
    assert record.error.startswith("There is no folder")
    assert record.traceback == ""


def test_gguf_facts_come_from_the_header(tmp_path: Path, tiny_hf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.engine.models.tiny_gguf import write_gguf

    monkeypatch.setenv("SUPERSCOPE_HOME", str(tmp_path / "own"))
    write_gguf(tiny_hf, tmp_path / "tiny.gguf")
    before = facts.facts_before(str(tmp_path / "tiny.gguf"))
    assert (before.values["layers"], before.values["d_model"], before.values["kv_heads"]) == (2, 32, 2)
    assert not before.here
    assert "converted first" in before.note
