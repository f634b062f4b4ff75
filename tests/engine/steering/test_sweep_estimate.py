"""The estimate of a sweep: what it counts, and what it says of a model that is not open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.models.opening import close_models
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import RunRecord

LOOK = find("sweep-estimate")


def start(folder: Path, values: dict[str, Any]) -> RunRecord:
    return execute(LOOK, check(LOOK.parameters, {"device": "cpu", "threads": 1} | values), folder)


def test_the_sweep_names_the_look_that_takes_its_parameters():
    sweep = find("steering-sweep")
    assert sweep.estimate == LOOK.name
    assert sweep.parameters is LOOK.parameters
    assert LOOK.lane == "look"


def test_tokens_are_those_of_all_passes(tmp_path):
    small = start(tmp_path / "a", {})
    assert small.state == "finished", small.traceback
    more = start(tmp_path / "b", {"methods": ["affine-mean", "mean-difference"], "strengths": 13})
    rows = (small.facts["tokens"] - 6 * 3 * 1_000) / (6 * 3 + 2)
    assert more.facts["tokens"] == pytest.approx(12 * 4 * (rows + 1_000) + 2 * rows)
    assert small.facts["fits"] is True
    assert small.facts["seconds"] > 0
    assert small.facts["sentence"].startswith("About ")
    assert "3 methods and controls at 7 strengths" in small.facts["sentence"]


def test_a_large_model_that_is_not_open_stays_closed(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.steering.sweep_estimate.SMALL_MODEL", 1)
    close_models()
    found = start(tmp_path / "a", {})
    assert found.facts["seconds"] is None
    assert "known once the model is open" in found.facts["sentence"]
