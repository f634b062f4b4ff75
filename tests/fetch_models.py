"""Fetch and convert the small real model that the tests use, once, into the folder given.

``python -m tests.fetch_models FOLDER`` is part of `make test`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main(folder: Path) -> int:
    """Fill ``folder`` through the program's own fetching code; its exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        cache = Path(home) / "cache"
        cache.mkdir()
        (cache / "models").symlink_to(folder.resolve(), target_is_directory=True)
        environment = dict(os.environ, SUPERSCOPE_HOME=home)
        return subprocess.run([sys.executable, "-m", "engine.models.smollm2"], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
