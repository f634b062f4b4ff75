"""Preferences and recent sessions: one small JSON file, replaced atomically."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from engine import files, places
from engine.errors import SuperscopeError

VERSION = 1
RECENT = 12  # sessions remembered


@dataclass
class Recent:
    """A session that was open: where, its title, when it was last saved (seconds since 1970).

    ``layout`` is how its window looked at ``arranged``: closing a saved session keeps it here, so
    that looking at a session does not rewrite a large file.
    """

    path: str
    title: str = ""
    saved: float = 0.0
    layout: dict[str, Any] = field(default_factory=dict)
    arranged: float = 0.0


@dataclass
class Settings:
    """What a person chose.

    Attributes:
        theme: ``system``, ``light`` or ``dark``.
        recent: sessions, newest first.
        folder: where the last file was chosen.
        geometry: the window's place and size (base 64 of Qt's own form).
        layout: docks of a session that has no layout of its own yet.
        answers: questions that need not be asked again.
    """

    theme: str = "system"
    recent: list[Recent] = field(default_factory=list)
    folder: str = ""
    geometry: str = ""
    layout: str = ""
    answers: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def load(cls) -> Settings:
        """The stored settings; defaults for what is missing, unknown or broken."""
        stored: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            read = json.loads(_place().read_bytes())
            if isinstance(read, dict) and read.get("version") == VERSION:
                stored = read
        found = cls()
        for entry in fields(cls):
            value = stored.get(entry.name)
            if entry.name == "recent" and isinstance(value, list):
                known = {part.name for part in fields(Recent)}
                found.recent = [
                    Recent(**{name: part[name] for name in part if name in known})
                    for part in value
                    if isinstance(part, dict) and isinstance(part.get("path"), str)
                ][:RECENT]
            elif entry.name != "recent" and isinstance(value, type(getattr(found, entry.name))):
                setattr(found, entry.name, value)
        if found.theme not in ("system", "light", "dark"):
            found.theme = "system"
        return found

    def save(self) -> None:
        """Store the settings. A disk that cannot be written loses preferences, never work: it stays silent."""
        content = json.dumps({"version": VERSION, **asdict(self)}, ensure_ascii=False, indent=1).encode()
        with contextlib.suppress(SuperscopeError):
            files.write_bytes(_place(), content, durable=False)

    def remember(self, path: Path, title: str, saved: float | None = None) -> None:
        """Put a session at the head of the recent ones."""
        place = str(path.resolve())
        entry = self.of(path) or Recent(place)
        entry.title = title
        entry.saved = saved if saved is not None else entry.saved or time.time()
        self.recent = [entry, *(other for other in self.recent if other.path != place)][:RECENT]
        self.save()

    def of(self, path: Path) -> Recent | None:
        """What is remembered of a session."""
        place = str(path.resolve())
        return next((entry for entry in self.recent if entry.path == place), None)

    def arrange(self, path: Path, layout: dict[str, Any]) -> None:
        """Remember how the window of a session looks."""
        entry = self.of(path)
        if entry is not None and entry.layout != layout:
            entry.layout, entry.arranged = layout, time.time()
            self.save()

    def forget(self, path: str) -> None:
        """Take a session off the recent ones (its file is gone)."""
        self.recent = [entry for entry in self.recent if entry.path != path]
        self.save()


def _place() -> Path:
    return places.settings() / "preferences.json"
