"""What a session holds: the file, over it the recordings of the work folder, over both the edits."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from engine.errors import SuperscopeError
from engine.figures.kinds import Figure
from engine.runs.movies import Movie
from engine.runs.recording import ENDED, Recording, RunRecord, in_order
from engine.session import layout
from engine.session.edits import Edits
from engine.session.errors import NotInSession, SessionError
from engine.session.stored import StoredArray, StoredFile
from engine.session.work import WorkFolder

Array: TypeAlias = npt.NDArray[Any]
CUT_OFF = "Superscope ended while this run was {state}; resume it to go on from its last checkpoint."


@dataclass(frozen=True)
class Thing:
    """A model, corpus, activation store or dictionary. ``attributes`` include title, tags, note and run where set."""

    section: str
    id: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A thing in a recording: its folder, the run that made it, and when (seconds since 1970)."""

    folder: Path
    run: str
    made: float


class Contents:
    """Reading a session. A run's recording in the work folder wins over the file."""

    def __init__(self, work: WorkFolder, stored: StoredFile | None) -> None:
        self._work = work
        self._stored = stored
        self._edits = Edits()
        self._records: dict[str, RunRecord] = {}  # of recordings in the work folder
        self._stored_records: dict[str, RunRecord] = {}  # of runs in the file, read when first asked for
        self._stored_things: dict[str, dict[str, Any]] = {}  # likewise, their attributes
        self._attributes: dict[Path, tuple[int, dict[str, Any]]] = {}
        for id in work.run_ids():
            self._records[id] = self._found(id)

    def _found(self, id: str) -> RunRecord:
        """The record of a recording that an earlier process left: nothing of it is alive."""
        try:
            record = Recording(self._work.run_folder(id)).record()
        except (OSError, ValueError, TypeError) as problem:
            return RunRecord(
                id, id.rpartition("-")[0], {}, state="failed", error=f"The record of this run is damaged ({problem})."
            )
        return _cut_off(replace(record, id=id))

    # ---- runs

    def runs(self) -> list[RunRecord]:
        """All runs, oldest first."""
        ids = {*self._records, *(self._stored.names("runs") if self._stored else ())}
        records = [self._edited(self._record(id)) for id in ids if not self._is_deleted("runs", id)]
        return sorted(records, key=lambda record: (record.created, record.id))

    def run(self, id: str) -> RunRecord:
        """One run's record.

        Raises:
            NotInSession: there is none of that id.
        """
        if self._is_deleted("runs", id):
            raise NotInSession(f"The run {id} was deleted from this session; undo brings it back until the next save.")
        return self._edited(self._record(id))

    def _record(self, id: str) -> RunRecord:
        if id in self._records:
            return self._records[id]
        if id not in self._stored_records:
            if self._stored is None:
                raise NotInSession(f"There is no run {id} in this session; it may have been deleted.")
            self._stored_records[id] = _cut_off(self._stored.record(id))
        return self._stored_records[id]

    def _is_in_file(self, key: tuple[str, str, str], value: Any) -> bool:
        """Whether the file has a value that was edited already."""
        section, id, name = key
        stored = self._stored
        if stored is None or id in self._records:
            return False
        if section == "session":
            return bool(value == (stored.text(name) if name == "notes" else stored.header.get(name)))
        with contextlib.suppress(SessionError):
            attributes = stored.attributes(f"{section}/{id}")
            if name == "deleted":
                return bool(value) and attributes is None
            return bool(value) and (attributes or {}).get(name) == value
        return False

    def _edited(self, record: RunRecord) -> RunRecord:
        def get(name: str, default: Any) -> Any:
            return self._edits.get("runs", record.id, name, default)

        return replace(
            record,
            title=get("title", record.title),
            tags=list(get("tags", record.tags)),
            note=get("note", record.note),
        )

    def _is_deleted(self, section: str, id: str) -> bool:
        return bool(self._edits.get(section, id, "deleted", None))

    def _recording(self, id: str) -> Recording | None:
        """The recording of a run; None where its content is in the file."""
        if id not in self._records or self._is_bare(id):
            return None
        return Recording(self._work.run_folder(id))

    def _is_bare(self, id: str) -> bool:
        """Whether the work folder has at most the record of a run whose content is in the file.

        So it is after a saved run was asked to resume and ended before it began.
        """
        return self._stored is not None and self._stored.has_run(id) and Recording(self._work.run_folder(id)).is_bare

    def _file(self, id: str) -> StoredFile:
        self.run(id)
        if self._stored is None:
            raise NotInSession(f"There is no run {id} in this session; it may have been deleted.")
        return self._stored

    def metric_names(self, id: str) -> list[str]:
        recording = self._recording(id)
        return recording.metric_names() if recording else self._file(id).names(f"runs/{id}/metrics")

    def metric(self, id: str, name: str) -> Array:
        """Rows (n, 3) float64: step, value, seconds since the start."""
        recording = self._recording(id)
        if recording is None:
            return self._file(id).metric(id, name)
        with _reading(f"The metric {name} of run {id}"):
            return recording.metric(name)

    def figure_names(self, id: str) -> list[str]:
        """In the order in which the run first showed them."""
        recording = self._recording(id)
        if recording is not None:
            return recording.figure_names()
        return in_order(self._file(id).names(f"runs/{id}/figures"), self._record(id).shown)

    def figure(self, id: str, name: str) -> Figure:
        """A figure as the run last showed it."""
        recording = self._recording(id)
        if recording is None:
            return self._file(id).figure(id, name)
        with _reading(f"The figure {name} of run {id}"):
            return recording.figure(name)

    def movie_names(self, id: str) -> list[str]:
        """Names of the run's figures that have a movie."""
        recording = self._recording(id)
        return recording.movie_names() if recording else self._file(id).names(f"runs/{id}/movies")

    def movie(self, id: str, name: str) -> Movie:
        """The frames of a figure, read when they are asked for."""
        recording = self._recording(id)
        if recording is None:
            return self._file(id).movie(id, name)
        with _reading(f"The movie of {name} of run {id}"):
            return recording.movie(name)

    def kept_names(self, id: str) -> list[str]:
        recording = self._recording(id)
        return recording.kept_names() if recording else self._file(id).names(f"runs/{id}/kept")

    def kept(self, id: str, name: str) -> Array | StoredArray:
        """An array that the run kept: memory-mapped, or read when it is indexed."""
        recording = self._recording(id)
        if recording is None:
            return self._file(id).kept(id, name)
        with _reading(f"The array {name} of run {id}"):
            return recording.kept(name)

    def kept_attributes(self, id: str, name: str) -> dict[str, Any]:
        """What describes a kept array (unit, axes)."""
        recording = self._recording(id)
        if recording is None:
            return self._file(id).kept_attributes(id, name)
        with _reading(f"The array {name} of run {id}"):
            return recording.kept_attributes(name)

    def log(self, id: str) -> list[dict[str, Any]]:
        """The run's log: dictionaries with time (seconds since 1970), level and text."""
        recording = self._recording(id)
        return recording.log() if recording else self._file(id).log(id)

    # ---- things

    def things(self, section: str) -> list[Thing]:
        """Everything in a section: ``models``, ``corpora``, ``activations`` or ``dictionaries``."""
        _check_section(section)
        found: dict[str, dict[str, Any]] = {}
        if self._stored is not None:
            for id in self._stored.names(section):
                if not self._is_deleted(section, id):
                    found[id] = self._stored_attributes(section, id)
        for id, made in self._made(section).items():
            found[id] = self._made_attributes(made)
        return [Thing(section, id, self._with_edits(section, id, found[id])) for id in sorted(found)]

    def thing_array_names(self, section: str, id: str) -> list[str]:
        """Names of a thing's arrays."""
        made = self._thing(section, id)
        if made is not None:
            return Recording(self._work.run_folder(made.run)).thing_array_names(section, id)
        assert self._stored is not None
        return self._stored.thing_array_names(section, id)

    def thing_array(self, section: str, id: str, name: str) -> Array | StoredArray:
        """One array of a thing, lazily as `kept` gives it."""
        made = self._thing(section, id)
        if made is not None:
            with _reading(f"The array {name} of {id}"):
                return Recording(self._work.run_folder(made.run)).thing_array(section, id, name)
        assert self._stored is not None
        return self._stored.thing_array(section, id, name)

    def _thing(self, section: str, id: str) -> Made | None:
        """Where a thing lies: in a recording, or (None) in the file. Raises `SessionError` where it is in neither."""
        _check_section(section)
        made = self._made(section).get(id)
        in_file = self._stored is not None and id in self._stored.names(section) and not self._is_deleted(section, id)
        if made is None and not in_file:
            raise NotInSession(f"There is no {layout.SECTION_NAMES[section]} {id} in this session; it may be deleted.")
        return made

    def _made(self, section: str) -> dict[str, Made]:
        """Things of the recordings by id, the newest of an id, without those deleted since they were made."""
        found: dict[str, Made] = {}
        for id, made in made_things(self._work, section):
            deleted = self._edits.get(section, id, "deleted", None)
            if (id not in found or made.made > found[id].made) and not (deleted and made.made <= deleted):
                found[id] = made
        return found

    def _made_attributes(self, made: Made) -> dict[str, Any]:
        marker = made.folder / "attributes.json"
        with _reading(f"The thing {made.folder.name}"):
            stamp = marker.stat().st_mtime_ns
            if self._attributes.get(marker, (0,))[0] != stamp:
                self._attributes[marker] = stamp, {"run": made.run, **json.loads(marker.read_bytes())}
        return self._attributes[marker][1]

    def _stored_attributes(self, section: str, id: str) -> dict[str, Any]:
        assert self._stored is not None
        where = f"{section}/{id}"
        if where not in self._stored_things:
            try:
                self._stored_things[where] = self._stored.attributes(where) or {}
            except SessionError as problem:
                self._stored_things[where] = {"error": str(problem)}
        return self._stored_things[where]

    def _with_edits(self, section: str, id: str, attributes: dict[str, Any]) -> dict[str, Any]:
        changed = {name: self._edits.get(section, id, name, None) for name in ("title", "tags", "note")}
        return {**attributes, **{name: value for name, value in changed.items() if value is not None}}


def made_things(work: WorkFolder, section: str) -> Iterator[tuple[str, Made]]:
    """Id and place of every whole thing of a section in the recordings of a work folder."""
    for marker in (work.path / "runs").glob(f"*/things/{section}/*/attributes.json"):
        if layout.ID.fullmatch(marker.parent.name):
            try:
                made = marker.stat().st_mtime
            except OSError:
                continue  # moved to the trash meanwhile: the file has it
            yield marker.parent.name, Made(marker.parent, marker.parents[3].name, made)


def _cut_off(record: RunRecord) -> RunRecord:
    if record.state in ENDED:
        return record
    error = record.error or CUT_OFF.format(state={"queued": "waiting"}.get(record.state, record.state))
    return replace(record, state="interrupted", error=error)


def _check_section(section: str) -> None:
    if section not in layout.SECTIONS:
        raise SessionError(f"A session has no section {section}; it has {', '.join(layout.SECTIONS)}.")


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn a failed read of a recording into the sentence that names ``what``."""
    try:
        yield
    except SuperscopeError:
        raise
    except FileNotFoundError as problem:
        raise NotInSession(f"{what} is not in this session; it may have been deleted.") from problem
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as problem:
        raise SessionError(
            f"{what} is damaged and cannot be read ({problem}); the rest of the session can be used."
        ) from problem
