"""For the engine process: what a session holds, looked up read-only by its work folder."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine import files
from engine.runs import movies
from engine.runs.recording import Recording, RecordingWriter, write_checkpoint
from engine.session import layout
from engine.session.checking import check_external
from engine.session.contents import Made, made_things
from engine.session.errors import NotInSession, SessionError
from engine.session.stored import StoredFile, data_folder
from engine.session.work import WorkFolder

Array: TypeAlias = npt.NDArray[Any]


def find_thing(work: Path, section: str, id: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Attributes and arrays of a thing: the newest in the work folder's recordings, else the file's.

    Args:
        work: the session's work folder.
        section: ``models``, ``corpora``, ``activations`` or ``dictionaries``.
        id: of the thing, or of the run that made it (``toy:RUN``).

    Raises:
        NotInSession: there is no such thing.
        SessionError: it is damaged.
    """
    folder = WorkFolder(work)
    found: Made | None = None
    for name, made in made_things(folder, section):
        if id in (name, made.run) and (
            found is None or (name == id, made.made) > (found.folder.name == id, found.made)
        ):
            found = made
    if found is not None:
        recording = Recording(folder.run_folder(found.run))
        names = recording.thing_array_names(section, found.folder.name)
        attributes = {"run": found.run, **json.loads((found.folder / "attributes.json").read_bytes())}
        return attributes, {name: recording.thing_array(section, found.folder.name, name) for name in names}
    path = _file_of(folder)
    if path is not None:
        with closing(StoredFile(path)) as stored:
            kept, name = _stored(stored, section, id)
            if kept is not None:
                arrays = stored.thing_array_names(section, name)
                return kept, {part: _whole(stored, section, name, part) for part in arrays}
    raise NotInSession(
        f"There is no {layout.SECTION_NAMES.get(section, section)} {id} in this session; train it first."
    )


def state_of(work: Path, section: str) -> tuple[Any, ...]:
    """What `find_thing` looks at, as a value that is another one once a thing of ``section`` may be another.

    Costs two looks at the folder, where opening and checking a session file takes a good part of a second.
    """
    folder = WorkFolder(work)
    made = tuple(sorted((name, one.run, str(one.made)) for name, one in made_things(folder, section)))
    path = _file_of(folder)
    if path is None:
        return made, None
    status = path.stat()
    return made, (str(path), status.st_mtime_ns, status.st_size, status.st_ino)


def restore_recording(work: Path, id: str) -> Path:
    """The recording folder of a run; filled from the session file where the work folder has none any more.

    The engine calls this before it resumes a run that was saved. The folder appears as a whole.
    Where neither has the run, nothing is made.

    Raises:
        SessionError: what resuming needs is damaged.
        DiskError: the work folder cannot be written to.
    """
    folder = WorkFolder(work).run_folder(id)
    path = _file_of(WorkFolder(work)) if Recording(folder).is_bare else None
    if path is None:
        return folder
    with closing(StoredFile(path)) as stored:
        if stored.has_run(id):
            _restore(stored, id, folder)
    return folder


def external_store(work: Path, path: str, id: str) -> Path:
    """Where the activation store ``id`` lies whose attribute ``path`` is given: in the session's data folder.

    Raises:
        SessionError: the path leads elsewhere, or the session has no file yet.
    """
    file = _file_of(WorkFolder(work))
    if file is None:
        raise SessionError(f"activations/{id} lies beside a session file that is not there; save the session first.")
    return check_external(path, data_folder(file), f"/activations/{id}", file.name)


def _restore(stored: StoredFile, id: str, folder: Path) -> None:
    with files.replacing_folder(folder) as place:
        record = stored.record(id)
        checkpoint = stored.checkpoint(id)
        # The record comes with the checkpoint it names, and both appear with the folder.
        writer = RecordingWriter(place, replace(record, checkpoint="checkpoint-1" if checkpoint else ""))
        for name in stored.names(f"runs/{id}/metrics"):
            files.append(place / "metrics" / f"{name}.f64", stored.metric(id, name).astype("<f8").tobytes())
        for name in stored.names(f"runs/{id}/figures"):
            writer.figure(name, stored.figure(id, name))
        for name in stored.names(f"runs/{id}/movies"):
            movie, frames = stored.movie(id, name), movies.MovieWriter(place / "movies" / name)
            for step, frame in zip(movie.steps, movie.frames(), strict=True):
                frames.append(float(step), frame)
        for name in stored.names(f"runs/{id}/kept"):
            writer.kept(name, np.asarray(stored.kept(id, name)), stored.kept_attributes(id, name))
        for line in stored.log(id):
            files.append(place / "log.jsonl", json.dumps(line).encode() + b"\n")
        if checkpoint is not None:
            write_checkpoint(place / "checkpoint-1", *checkpoint)


def _file_of(folder: WorkFolder) -> Path | None:
    info = folder.info()
    place = info.get("path") or info.get("base")
    return Path(place) if place and Path(place).exists() else None


def _stored(stored: StoredFile, section: str, id: str) -> tuple[dict[str, Any] | None, str]:
    """Attributes and id of a thing in the file, by its id or that of the run that made it."""
    ids = stored.names(section)
    if id in ids:
        return stored.attributes(f"{section}/{id}"), id
    for name in ids:
        attributes = stored.attributes(f"{section}/{name}")
        if attributes is not None and attributes.get("run") == id:
            return attributes, name
    return None, id


def _whole(stored: StoredFile, section: str, id: str, name: str) -> Array:
    # A mapped array outlives the open file; one that is read through it has to be read now.
    array = stored.thing_array(section, id, name)
    return array if isinstance(array, np.ndarray) else np.asarray(array)
