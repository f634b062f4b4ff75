"""A toy that does not fit into memory is not begun for its estimate."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine.models import memory
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.toys.costs import _costs


@pytest.mark.parametrize(
    "name",
    ["modular-addition", "grokfast-comparison", "label-noise", "weekday-addition", "belief-states", "belief-simplices",
     "out-of-context", "backdoor", "backdoor-detection", "tiny-language-model"],
)  # fmt: skip
def test_what_does_not_fit_is_told_without_timing_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {"size": "paper"}
    parameters = check(find(name).parameters, values)
    monkeypatch.setattr(memory, "available", lambda: 1_000)
    began = time.process_time()
    found = _costs[name](parameters)
    assert found.seconds == 0
    assert found.memory > 1_000
    assert time.process_time() - began < 3
