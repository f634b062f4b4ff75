"""`Session`: everything a person works on, in one file and the work folder beside it."""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from engine import files
from engine.errors import SuperscopeError
from engine.runs.recording import ENDED, RunRecord, write_record
from engine.session import layout, probing, work
from engine.session.editing import Editing
from engine.session.errors import SessionError, SessionLocked
from engine.session.locks import Busy, FileLock, lock_path, lock_session
from engine.session.request import RunToSave, SaveRequest, SaveResult
from engine.session.save_job import SaveJob
from engine.session.stored import StoredFile
from engine.session.work import WorkFolder

UNTITLED = "Untitled"


class Session(Editing):
    """A session that is open here, and nowhere else for writing.

    Made by `create`, `open` or `recover`, ended by `close`.

    Attributes:
        path: the file; None before the first save.
        work: the work folder. It can be another after `save` under another name.
        read_only: the file's folder cannot be written to: save under another name.
        saved_at: when the file was last saved, in seconds since 1970; None without a file.
    """

    def __init__(
        self,
        work: WorkFolder,
        *,
        path: Path | None = None,
        stored: StoredFile | None = None,
        lock: FileLock | None = None,
        read_only: bool = False,
        title: str = UNTITLED,
    ) -> None:
        super().__init__(work, stored)
        self.path = path
        self.read_only = read_only
        self._lock = lock
        self._job: SaveJob | None = None
        self._handed_out: set[str] = set()  # runs whose recording the engine writes or is about to
        info, header = work.info(), stored.header if stored else {}
        self._title = str(header.get("title") or info.get("title") or title)
        self._uid = str((header if path else info).get("uid") or uuid.uuid4().hex)
        self._created = float(header.get("created") or info.get("created") or time.time())
        self.saved_at: float | None = float(header.get("saved") or 0.0) or None if path else None
        self._counters = self._count(info.get("counters"), header.get("counters"))
        for line in work.journal():
            self._edits.take(line)
        self._forget_saved()
        self._edits.settle(self._is_in_file)
        self._changes = dict.fromkeys(self._records, 0)  # runs not in the file as they are, and how often they changed
        self._write_info()

    # ---- beginning and end

    @classmethod
    def create(cls, title: str = UNTITLED) -> Session:
        """A new session without a file; what is done in it is in its work folder. Raises `DiskError`."""
        folder = WorkFolder(work.fresh())
        folder.hold()
        return cls(folder, title=title)

    @classmethod
    def open(cls, path: Path | str, *, copy: bool = False) -> Session:
        """Open a session file, or (``copy``) a copy of it that has no file yet.

        Raises:
            SessionError: it is no session, damaged, of a newer version, or breaks a rule; nothing is half-loaded.
            SessionLocked: another window or command has it open; the sentence says which and since when.
        """
        path = Path(path).resolve()
        stored = _opened(path)
        if copy:
            folder = WorkFolder(work.fresh())
            folder.hold()
            return cls(folder, stored=stored)
        return cls._open(path, stored, None)

    @classmethod
    def recover(cls, folder: Path) -> Session:
        """Go on with what a work folder holds: with its file where it has one, else unsaved.

        Raises:
            SessionError: as `open`.
            SessionLocked: a living process owns the folder.
        """
        found = WorkFolder(folder)
        info = found.info()
        path = Path(info["path"]) if info.get("path") else None
        if path is not None and path.exists():
            return cls._open(path, _opened(path), found)
        base = Path(info["base"]) if info.get("base") else None
        found.hold()
        return cls(found, stored=_opened(base) if base is not None and base.exists() else None)

    @classmethod
    def _open(cls, path: Path, stored: StoredFile, folder: WorkFolder | None) -> Session:
        try:
            lock, read_only = lock_session(path)
        except BaseException:
            stored.close()
            raise
        try:
            if stored.is_replaced():  # between our reading and our locking it
                stored.close()
                stored = StoredFile(path)
            folder = folder or work.find(path, str(stored.header.get("uid") or ""), read_only)
            folder.hold()
            files.remove_leftovers(path)
            return cls(folder, path=path, stored=stored, lock=lock, read_only=read_only)
        except BaseException:
            stored.close()
            if folder is not None:
                folder.release()
            if lock is not None:
                lock.release()
            raise

    def close(self, discard: bool = False) -> None:
        """End the session. What is not in the file stays in the work folder, unless ``discard``.

        A save that is under way is waited for.
        """
        if self._job is not None:
            with contextlib.suppress(SessionError):  # told by who polls the job; the work folder keeps everything
                self._job.wait()
        if self._stored is not None:
            self._stored.close()
        if discard or not self.unsaved:
            self._work.remove()
        else:
            self._work.release()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    # ---- what it is

    @property
    def work(self) -> Path:
        return self._work.path

    @property
    def unsaved(self) -> bool:
        """Whether there is something that is not in the file. Layout alone does not count."""
        if any(key[2] != "layout" for key in self._edits.changed()):
            return True
        return any(
            not self._is_deleted("runs", id) and (id in self._changes or record.state == "running")
            for id, record in self._records.items()
        )

    @property
    def saving(self) -> SaveJob | None:
        """The save that is under way."""
        return self._job

    @property
    def file_state(self) -> Literal["none", "unchanged", "changed", "missing"]:
        """How the file on disk compares with what this session has read or written."""
        if self.path is None or self._stored is None:
            return "none"
        if not self.path.exists():
            return "missing"
        return "changed" if self._stored.is_replaced() else "unchanged"

    # ---- runs

    def add_run(
        self, experiment: str, parameters: Mapping[str, Any], *, title: str = "", sweep: str = "", seed: int = 0
    ) -> RunRecord:
        """A new queued run with an id of its own (``<experiment>-<n>``), recorded in the work folder.

        Raises:
            DiskError: the work folder cannot be written to.
        """
        name = layout.slug(experiment)
        number = self._counters.get(name, 0) + 1
        record = RunRecord(
            f"{name}-{number}", experiment, dict(parameters), title=title, sweep=sweep, seed=seed, created=time.time()
        )
        write_record(self._work.run_folder(record.id), record)
        self._counters[name] = number
        self._records[record.id] = record
        self._changes[record.id] = self._changes.get(record.id, 0) + 1
        self._write_info()
        return record

    def run_folder(self, id: str) -> Path:
        """Where the recording of a run lies or will lie; from now on the engine may write there.

        A run that is only in the file gets its recording from `engine.session.restore_recording`,
        which the engine calls before it resumes the run.
        """
        folder = self._work.run_folder(id)
        self._handed_out.add(id)
        return folder

    def update_run(self, record: RunRecord) -> None:
        """Take the engine's word about a run."""
        self._records[record.id] = replace(record)
        self._changes[record.id] = self._changes.get(record.id, 0) + 1
        if record.state in ENDED:
            self._handed_out.discard(record.id)

    def _count(self, *known: object) -> dict[str, int]:
        """The highest number given to a run of each experiment."""
        counters: dict[str, int] = {}
        ids = [*self._records, *(self._stored.names("runs") if self._stored else ())]
        pairs = [(id.rpartition("-")[0], id.rpartition("-")[2]) for id in ids]
        for entry in known:
            pairs += list(entry.items()) if isinstance(entry, dict) else []
        for name, number in pairs:
            if re.fullmatch(r"\d{1,9}", str(number)):
                counters[name] = max(counters.get(name, 0), int(number))
        return counters

    def _forget_saved(self) -> None:
        """Put recordings aside that an earlier process has saved and could not remove any more."""
        for id in list(self._records):
            if self._stored is not None and self._stored.has_recording(id, self._work.digest(id)):
                self._work.discard_run(id)
                del self._records[id]

    # ---- saving

    def save(self, path: Path | str | None = None) -> SaveJob:
        """Begin to save, in a process of its own; poll or wait for the job that is returned.

        Args:
            path: another file than the session's own ("save as"); needed for a session without one.

        Raises:
            SessionError: no name, a read-only place, another program has changed the file, or another save goes on.
            SessionLocked: the file of that name is open elsewhere.
        """
        target = Path(path).resolve() if path is not None else self.path
        if target is None:
            raise SessionError("This session has no file yet; choose a name to save it under.")
        if self._job is not None and self._job.poll() is None:
            if self._job.path == target:
                return self._job
            raise SessionError(f"The session is being saved to {self._job.path.name}; wait until that is done.")
        lock = self._ready(target)
        title = target.stem if self.title == UNTITLED else self.title
        uid = self._uid if target == self.path or self._stored is None else uuid.uuid4().hex
        snapshot = self._edits.snapshot()
        request = self._request(target, {"title": title, "uid": uid})
        changes = dict(self._changes)

        def finished(result: SaveResult) -> SaveResult:
            self._job = None
            if result.ok or _is_in_place(target, request):
                try:
                    return self._saved(result, request, lock, snapshot, changes)
                except SuperscopeError as problem:  # the file is gone again already
                    result = replace(result, error=str(problem))
            if lock is not None:
                lock.release()
            files.remove_leftovers(target)
            return result

        try:
            self._job = SaveJob(request, self._stored.descriptor if self._stored else None, finished)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return self._job

    def _ready(self, target: Path) -> FileLock | None:
        """The lock of another target than the session's own, after asking whether it can be written."""
        if target == self.path:
            if self.read_only:
                raise SessionError(f"{target.parent} cannot be written to; save {target.name} under another name.")
            if self.file_state == "changed":
                raise SessionError(
                    f"{target.name} was changed by another program since it was opened here; "
                    "save under another name to keep both."
                )
            return None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return FileLock(lock_path(target))
        except Busy as busy:
            raise SessionLocked(f"{target.name} is open elsewhere ({busy}); choose another name.") from None
        except OSError as problem:
            raise files.explain(problem, target) from problem

    def _request(self, target: Path, header: dict[str, Any]) -> SaveRequest:
        changed: dict[tuple[str, str], dict[str, Any]] = {}
        deleted = []
        for (section, id, name), value in self._edits.snapshot().items():
            if name == "deleted" and value:
                deleted.append((section, id, float(value)))
            elif section != "session" and name != "deleted":
                changed.setdefault((section, id), {})[name] = value
        for id in self._bare():
            # What the recording would add to the run in the file is what happened since: how it ended.
            record = self._records[id]
            changed.setdefault(("runs", id), {}).update(
                state=record.state, error=record.error, traceback=record.traceback, ended=record.ended
            )
        here = {id: str(self._work.run_folder(id)) for id in self._recorded()}
        gone = {id for section, id, _ in deleted if section == "runs"}
        stored = self._stored
        layout_now = self.layout
        return SaveRequest(
            target=str(target),
            source=str(stored.path) if stored else "",
            handle=f"/dev/fd/{stored.descriptor}" if stored and stored.descriptor is not None else "",
            identity=list(stored.inode) if stored else [],
            header={**header, "created": self._created, "counters": self._counters, "save": uuid.uuid4().hex},
            notes=self.notes,
            layout=json.dumps(layout_now, ensure_ascii=False) if layout_now is not None else "",
            runs=[
                RunToSave(id, folder, self._records[id].state == "interrupted")
                for id, folder in here.items()
                if id not in gone
            ],
            changed=[(*key, values) for key, values in changed.items()],
            deleted=deleted,
            made=[folder for id, folder in here.items() if id in gone],
        )

    def _bare(self) -> list[str]:
        return [id for id in self._records if self._is_bare(id)]

    def _recorded(self) -> list[str]:
        """Runs whose recording is to be gathered."""
        for id, record in self._records.items():
            if not self._is_bare(id) and self._work.digest(id) == "":
                with contextlib.suppress(files.DiskError):  # the record is still here in memory
                    write_record(self._work.run_folder(id), record)
        return [id for id in self._records if not self._is_bare(id) and self._work.digest(id)]

    def _saved(
        self,
        result: SaveResult,
        request: SaveRequest,
        lock: FileLock | None,
        snapshot: dict[tuple[str, str, str], Any],
        changes: dict[str, int],
    ) -> SaveResult:
        """The file is in place: read from it, and drop from the work folder what it holds now."""
        stored = StoredFile(Path(result.path))
        probing.remember(stored.path)
        result = replace(result, error="")  # of a process that was killed when all was done
        if self._stored is not None:
            self._stored.close()
        if lock is not None:
            if self._lock is not None:
                self._lock.release()
            self._lock, self.path, self.read_only = lock, Path(result.path), False
        self._stored, self._stored_records, self._stored_things = stored, {}, {}
        self._title, self._uid = request.header["title"], request.header["uid"]
        self.saved_at = float(stored.header.get("saved") or time.time())
        deleted = {id for section, id, _ in request.deleted if section == "runs"}
        for id in list(self._records):
            self._drop_saved(id, deleted)
        self._changes = {
            id: self._changes.get(id, 0)
            for id, record in self._records.items()
            # An ended run that is still here has ended, or could not be stored whole, since the save began.
            if self._changes.get(id) != changes.get(id) or (record.state in ENDED and id not in self._handed_out)
        }
        self._edits.saved(snapshot, keep={("runs", id) for id in self._records})
        self._move()
        # Where the work folder's disk is full its old journal stays, and is found to be in the file at the next start.
        with contextlib.suppress(files.DiskError):
            self._work.rewrite_journal(self._edits.lines())
            self._write_info()
        self._work.empty_trash()
        return result

    def _drop_saved(self, id: str, deleted: set[str]) -> None:
        """Let go of a recording that the file holds as it is now, and of runs that were deleted."""
        assert self._stored is not None
        if self._records[id].state not in ENDED or id in self._handed_out:
            return
        if id in deleted or self._is_bare(id) or self._stored.has_recording(id, self._work.digest(id)):
            self._work.discard_run(id)
            if not (self._work.run_folder(id) / "record.json").exists():
                del self._records[id]

    def _move(self) -> None:
        """Settle in the work folder that belongs to the file, once nothing is left in the present one."""
        assert self.path is not None
        place = work.beside(self.path)
        if self._records or place == self._work.path:
            return
        wanted = WorkFolder(place)
        work.set_aside(wanted)
        if place.exists():
            return
        with contextlib.suppress(files.DiskError, SessionLocked):  # then it stays where it is
            wanted.hold()
            self._work.remove()
            self._work = wanted

    def _write_info(self) -> None:
        base = self._stored.path if self._stored is not None and self.path is None else None
        self._work.write_info(
            {
                "title": self.title,
                "path": str(self.path) if self.path else None,
                "base": str(base) if base else None,
                "uid": self._uid,
                "created": self._created,
                "counters": self._counters,
                "changed": time.time(),
            }
        )


def _opened(path: Path) -> StoredFile:
    probing.probe(path)
    return StoredFile(path)


def _is_in_place(target: Path, request: SaveRequest) -> bool:
    """Whether a save that was cut off before it could say so had put its file in place."""
    with contextlib.suppress(SessionError), contextlib.closing(StoredFile(target)) as stored:
        return bool(stored.header.get("save") == request.header["save"])
    return False
