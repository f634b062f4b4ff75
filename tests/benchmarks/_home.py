"""A home for benchmarks: their own folder, with the cache of real models that ``make test`` fills."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests.conftest import MODEL_HOME


def use_test_models() -> Path:
    """Point ``SUPERSCOPE_HOME`` at a temporary folder whose models are those of the tests; the folder."""
    home = Path(tempfile.mkdtemp(prefix="superscope-bench-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / "cache").mkdir()
    MODEL_HOME.mkdir(parents=True, exist_ok=True)
    (home / "cache" / "models").symlink_to(MODEL_HOME.resolve(), target_is_directory=True)
    os.environ["SUPERSCOPE_HOME"] = str(home)
    return home
