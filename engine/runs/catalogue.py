"""The catalogue of experiments between starts, so that forms and palette are there before the engine is.

Torch-free and pydantic-free to read: the window does so before its first paint.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import engine
from engine import files, places
from engine.files import DiskError


def path() -> Path:
    """The file that holds it."""
    return places.cache() / "catalogue.json"


def key() -> str:
    """Changes with the version of Superscope or Python and with any file of the engine (date or size)."""
    found = hashlib.sha256(f"{engine.__version__} {sys.version}".encode())
    for folder, _, names in sorted(os.walk(Path(engine.__file__).parent)):
        for name in sorted(names):
            if name.endswith(".py"):
                facts = os.stat(os.path.join(folder, name))
                found.update(f"{folder}/{name} {facts.st_mtime_ns} {facts.st_size}\n".encode())
    if getattr(sys, "frozen", False):
        found.update(str(os.stat(sys.executable).st_mtime_ns).encode())
    return found.hexdigest()


def read() -> list[dict[str, Any]] | None:
    """`Experiment.describe` of every experiment as the last engine had them; None where that is unknown or outdated."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(path().read_bytes())
        if stored["key"] == key():
            return list(stored["experiments"])
    return None


def write(experiments: list[dict[str, Any]]) -> None:
    """Keep the catalogue. Without it the next window waits for its engine, no more, so a full disk is passed over."""
    with contextlib.suppress(DiskError, OSError):
        content = {"version": engine.__version__, "key": key(), "experiments": experiments}
        files.write_bytes(path(), json.dumps(content, ensure_ascii=False).encode(), durable=False)


def by_name(experiments: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Described experiments by name, in the order of area and title."""
    ordered = sorted(experiments, key=lambda entry: (entry["area"], entry["title"]))
    return {entry["name"]: entry for entry in ordered}
