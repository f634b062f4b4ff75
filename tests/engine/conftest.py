"""Sample experiments, in this process and, as another package's entry point, in child processes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from engine.runs import declaration
from tests.engine.small_models import smollm2, tiny, tiny_gpt2, tiny_hf

# Fixtures, so that a test of any room asks for them by name.
__all__ = ["samples", "smollm2", "tiny", "tiny_gpt2", "tiny_hf", "with_samples"]

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = "tests.engine.runs.sample"


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of sample experiments, which are registered during the test only."""
    monkeypatch.setattr(declaration, "_registered", dict(declaration._registered))
    declaration.experiments.cache_clear()
    known = sys.modules.get(SAMPLE)
    module = importlib.reload(known) if known else importlib.import_module(SAMPLE)
    declaration.experiments()
    yield module
    monkeypatch.undo()
    declaration.experiments.cache_clear()


@pytest.fixture
def with_samples(tmp_path: Path) -> dict[str, str]:
    """An environment in which the sample experiments are installed as those of another package."""
    return environment_with(tmp_path / "site", {"sample": SAMPLE})


def environment_with(site: Path, entry_points: dict[str, str]) -> dict[str, str]:
    """Environment variables under which ``entry_points`` (name, module) provide experiments."""
    info = site / "sample_experiments-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sample-experiments\nVersion: 1.0\n")
    lines = "".join(f"{name} = {module}\n" for name, module in entry_points.items())
    (info / "entry_points.txt").write_text(f"[{declaration.ENTRY_POINTS}]\n{lines}")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
