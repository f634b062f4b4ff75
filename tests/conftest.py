"""Fixtures for every test: a home of its own, the shared cache of real models, no hub."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODEL_HOME = Path(os.environ.get("SUPERSCOPE_TEST_MODELS", ROOT / "build" / "test-models"))

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh ``SUPERSCOPE_HOME`` whose cache of models is the one `make test` filled."""
    place = tmp_path / "home"
    (place / "cache").mkdir(parents=True)
    MODEL_HOME.mkdir(parents=True, exist_ok=True)
    (place / "cache" / "models").symlink_to(MODEL_HOME, target_is_directory=True)
    monkeypatch.setenv("SUPERSCOPE_HOME", str(place))
    return place
