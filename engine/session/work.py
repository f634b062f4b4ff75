"""The work folder of a session: recordings, journal of edits, and who owns it. It is the autosave.

Layout::

    session.json       which file it belongs to, title, counters of ids; replaced atomically
    journal.jsonl      one edit a line (`engine.session.edits`), only appended
    runs/<id>/         recordings (`engine.runs.recording`)
    trash/             recordings that are in the file by now; emptied in the background
    owner.lock         held while a session has the folder open
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine import files, places
from engine.session import layout
from engine.session.errors import SessionLocked
from engine.session.locks import Busy, FileLock, is_held

AT_ONCE = 32 * 2**20  # bytes of a folder that are deleted without a thread
WINDOWS = sys.platform == "win32"


def beside(path: Path) -> Path:
    """The work folder of the session file ``path``."""
    return path.with_name(path.name + ".work")


def elsewhere() -> Path:
    """Where the work folders of unsaved and read-only sessions lie."""
    return places.data() / "work"


def fresh() -> Path:
    """A new work folder's path for a session without a file."""
    return elsewhere() / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"


def for_read_only(path: Path) -> Path:
    """The work folder's path for a session file beside which nothing can be written."""
    return elsewhere() / f"read-only-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"


def find(path: Path, uid: str, read_only: bool) -> WorkFolder:
    """The work folder that goes with the session file ``path`` whose attribute ``uid`` is given.

    It is the one beside the file, unless that belongs to another session (the file was replaced by
    a copy, or a session saved under another name still records there) or is in use.
    """
    usual = WorkFolder(for_read_only(path) if read_only else beside(path))
    left = [
        folder
        for place in elsewhere().glob("[!.]*")
        if (folder := WorkFolder(place)).belongs_to(path, uid)
        and folder.info().get("path") == str(path)
        and folder.holds_something()
        and not folder.is_owned
    ]
    if usual.path.exists() and usual.belongs_to(path, uid) and not usual.is_owned:
        return usual if usual.holds_something() or not left else left[0]
    if left:
        return left[0]
    return WorkFolder(fresh()) if usual.path.exists() else usual


def set_aside(folder: WorkFolder) -> None:
    """Free the place of a work folder whose session file was just overwritten; what it holds can be recovered."""
    if not folder.path.exists() or folder.is_owned:
        return
    if not folder.holds_something():
        folder.remove()
        return
    folder.write_info({**folder.info(), "path": None, "base": None})
    with contextlib.suppress(OSError):  # another disk: then it stays, and the session records elsewhere
        elsewhere().mkdir(parents=True, exist_ok=True)
        folder.path.rename(fresh())


class WorkFolder:
    """One work folder. Nothing is made before `hold`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None

    def hold(self) -> None:
        """Make the folder and own it.

        Raises:
            SessionLocked: a living process owns it.
            DiskError: it cannot be made there.
        """
        try:
            (self.path / "runs").mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / "owner.lock")
        except Busy as busy:
            raise SessionLocked(
                f"The work folder {self.path.name} is used by {busy}; close that session first."
            ) from None
        except OSError as problem:
            raise files.explain(problem, self.path) from problem
        files.mend_lines(self.path / "journal.jsonl")
        self.empty_trash()

    def release(self) -> None:
        """No longer own it; what is in it stays."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def is_owned(self) -> bool:
        """Whether a living process (this one included) owns it."""
        return is_held(self.path / "owner.lock")

    def remove(self) -> None:
        """Delete the folder and everything in it, and no longer own it. A large one is deleted in the background."""
        # Renamed first, so that a kill in between leaves no half of it that would be recovered.
        doomed = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}.trash")
        if WINDOWS:
            self.release()  # a folder with an open file in it cannot be renamed there
        with contextlib.suppress(OSError):
            self.path.rename(doomed)
            self.path = doomed
        self.release()
        _delete(self.path)

    # ---- what it knows of itself

    def holds_something(self) -> bool:
        """Whether there are recordings or edits (layout alone is not worth asking about)."""
        return bool(self.run_ids()) or any(line.get("name") != "layout" for line in self.journal())

    def belongs_to(self, path: Path, uid: str) -> bool:
        """Whether it goes with the session file ``path`` of that ``uid``; an empty folder goes with any."""
        info = self.info()
        if uid and info.get("uid"):
            return bool(info["uid"] == uid)
        return not info or info.get("path") == str(path)

    def info(self) -> dict[str, Any]:
        """The content of ``session.json``; empty where there is none."""
        try:
            found = json.loads((self.path / "session.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_info(self, values: dict[str, Any]) -> None:
        """Replace ``session.json``. Raises `DiskError`."""
        files.write_bytes(
            self.path / "session.json", json.dumps(values, ensure_ascii=True, indent=1).encode(), durable=False
        )

    # ---- journal

    def journal(self) -> list[dict[str, Any]]:
        """All whole lines of the journal."""
        lines = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.path / "journal.jsonl").read_bytes().split(b"\n"):
                with contextlib.suppress(ValueError):  # the last line of a process that was killed
                    found = json.loads(line) if line else None
                    if isinstance(found, dict):
                        lines.append(found)
        return lines

    def append_journal(self, line: dict[str, Any]) -> None:
        """Add a line to the journal. Raises `DiskError`."""
        files.append(self.path / "journal.jsonl", _line(line))

    def rewrite_journal(self, lines: Iterable[dict[str, Any]]) -> None:
        """Replace the journal. Raises `DiskError`."""
        files.write_bytes(self.path / "journal.jsonl", b"".join(map(_line, lines)), durable=False)

    @property
    def journal_size(self) -> int:
        """Bytes of the journal."""
        try:
            return (self.path / "journal.jsonl").stat().st_size
        except OSError:
            return 0

    # ---- recordings

    def run_folder(self, id: str) -> Path:
        """Where the recording of run ``id`` lies or will lie."""
        return self.path / "runs" / layout.check_id(id)

    def run_ids(self) -> list[str]:
        """Ids of the runs that have a recording here."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for folder in (self.path / "runs").iterdir():
                if layout.ID.fullmatch(folder.name) and (folder / "record.json").is_file():
                    found.append(folder.name)
        return sorted(found)

    def digest(self, id: str) -> str:
        """The SHA-256 of a recording's record as it is now; "" where there is none."""
        try:
            return hashlib.sha256((self.run_folder(id) / "record.json").read_bytes()).hexdigest()
        except OSError:
            return ""

    def discard_run(self, id: str) -> None:
        """Move a recording out of the way at once and whole; `empty_trash` deletes it."""
        trash = self.path / "trash"
        with contextlib.suppress(OSError):  # where it is in use (Windows) it stays, whole, until the next save
            trash.mkdir(exist_ok=True)
            self.run_folder(id).rename(trash / f"{id}-{uuid.uuid4().hex[:8]}")

    def empty_trash(self) -> None:
        """Delete what `discard_run` put aside."""
        if (self.path / "trash").is_dir():
            _delete(self.path / "trash")


def _delete(folder: Path) -> None:
    """Delete a folder: at once, or in a thread where it is large. The end of the process waits for that thread."""
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
        if size > AT_ONCE:
            thread = threading.Thread(target=shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True})
            thread.name = "delete recordings"
            thread.start()
            return
    shutil.rmtree(folder, ignore_errors=True)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=True).encode() + b"\n"
