"""One thread for all tests of this room: small products are slower on two where others compute too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.dictionaries.training_runs import HOOK, write_words


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def values(tiny_hf: Path, tmp_path: Path) -> dict[str, Any]:
    """Parameters of a small run on the tiny model and a text of its own."""
    text = write_words(tmp_path / "words.txt")
    return {
        "model": str(tiny_hf), "text": str(text), "hook": HOOK, "tokens": 3_000, "context": 32, "width": 96, "k": 6,
        "batch": 64, "steps": 90, "held_out": 6, "dead_after": 1_000, "device": "cpu", "threads": 1, "seed": 5,
    }  # fmt: skip
