"""Where Superscope keeps its own files: platformdirs' folders, or under ``SUPERSCOPE_HOME``."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "superscope"


def _place(kind: str, default: str) -> Path:
    home = os.environ.get("SUPERSCOPE_HOME")
    return Path(home) / kind if home else Path(default)


def cache() -> Path:
    """Things that can be made again: converted models, the experiment catalogue."""
    return _place("cache", platformdirs.user_cache_dir(APP, appauthor=False))


def data() -> Path:
    """Things that must not be lost: work folders of unsaved sessions."""
    return _place("data", platformdirs.user_data_dir(APP, appauthor=False))


def settings() -> Path:
    """Preferences and the list of recent sessions."""
    return _place("settings", platformdirs.user_config_dir(APP, appauthor=False))


def logs() -> Path:
    """Log files."""
    return _place("logs", platformdirs.user_log_dir(APP, appauthor=False))


def resources() -> Path:
    """Files that ship with the program: icons, help pages, the demo model and session."""
    return Path(__file__).resolve().parent.parent / "resources"
