"""What the next start offers after a crash: work folders that nobody owns and that hold something."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.session import work
from engine.session.work import WorkFolder


@dataclass(frozen=True)
class Recovery:
    """A work folder that can be recovered. ``path`` is its session file, None for an unsaved session.

    ``when`` it was last written to is in seconds since 1970; ``runs`` are the ids of its recordings.
    """

    work: Path
    title: str
    path: Path | None
    when: float
    runs: tuple[str, ...]


def recoverable(recent: Iterable[Path] = ()) -> list[Recovery]:
    """Work folders that hold something which may not be in a file, newest first. Reads no session file.

    Args:
        recent: session files whose own work folders are looked at besides those of unsaved sessions.
    """
    places = [*work.elsewhere().glob("[!.]*"), *(work.beside(Path(path)) for path in recent)]
    found = [recovery for place in dict.fromkeys(places) if (recovery := _look_at(WorkFolder(place))) is not None]
    return sorted(found, key=lambda recovery: recovery.when, reverse=True)


def _look_at(folder: WorkFolder) -> Recovery | None:
    if not folder.path.is_dir() or folder.is_owned or not folder.holds_something():
        return None
    info = folder.info()
    path = Path(info["path"]) if info.get("path") else None
    runs = tuple(folder.run_ids())
    when = 0.0
    for name in ("journal.jsonl", "session.json", *(f"runs/{id}/record.json" for id in runs)):
        with contextlib.suppress(OSError):
            when = max(when, (folder.path / name).stat().st_mtime)
    return Recovery(folder.path, str(info.get("title") or "Untitled"), path, when, runs)
