"""The recording of a run: a folder that a kill at any moment leaves readable.

Layout of ``runs/<id>/`` inside a session's work folder::

    record.json               RunRecord, replaced atomically
    metrics/<name>.f64        little-endian float64 rows (step, value, seconds), only appended
    figures/<name>.npz        dataset arrays, plus "__figure__": JSON of {"kind", "spec"}; replaced
    movies/<name>/            frames of a figure (`engine.runs.movies`), only appended
    kept/<name>.npy           an array;  kept/<name>.json  its attributes
    things/<section>/<id>/    attributes.json and <name>.npy per array
    checkpoint-<n>/           values.json and <name>.npy; record.json names the valid one
    log.jsonl                 {"time", "level", "text"} a line, only appended

A torn row at the end of an appended file is ignored by the reader. In file names the characters
that some file systems refuse are written as ``%2F``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine import files
from engine.errors import SuperscopeError
from engine.figures.kinds import Figure, pack, unpack
from engine.runs import movies
from engine.runs.run import Checkpoint, Progress, Section

Array: TypeAlias = npt.NDArray[Any]
State: TypeAlias = Literal["queued", "running", "paused", "finished", "stopped", "interrupted", "failed"]
ENDED: tuple[State, ...] = ("finished", "stopped", "interrupted", "failed")
ROW = 24  # bytes of one (step, value, seconds)
FLUSH_EVERY = 0.25  # seconds between writes of buffered metric rows
REFUSED = re.compile(r'[\x00-\x1f/\\:*?"<>|%\x7f]|^\.|[. ]$')  # by one file system or another
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,119}")  # of runs and things


class RecordingError(SuperscopeError):
    """An experiment gave a name or an array that cannot be recorded."""


@dataclass
class RunRecord:
    """What is known about a run besides its arrays. Times are seconds since 1970 (UTC).

    ``shown`` names its figures in the order in which they were first shown.
    """

    id: str
    experiment: str
    parameters: dict[str, Any]
    title: str = ""
    state: State = "queued"
    seed: int = 0
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    elapsed: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    sweep: str = ""
    error: str = ""
    traceback: str = ""
    checkpoint: str = ""
    shown: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    note: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunRecord:
        """Read a record; names that this version does not know are left out."""
        known = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _dump(values: Any) -> bytes:
    # surrogatepass: file names that are no UTF-8 reach Python as lone surrogates
    return json.dumps(values, ensure_ascii=False, default=_plain).encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def _file_name(name: str, what: str) -> str:
    """``name`` as a file name, reversibly (`_name`).

    Raises:
        RecordingError: it is empty, too long, or cannot be the name of a dataset.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= 200 or "\0" in name or set(name) == {"."}:
        raise RecordingError(f"{name[:40]!r} cannot be the name of {what}; use 1 to 200 letters.")
    return REFUSED.sub(lambda found: f"%{ord(found[0]):02X}", name)


def _flat_name(name: str, what: str) -> str:
    if "/" in name:
        raise RecordingError(f"“{name}” cannot be the name of {what}; leave out the slash.")
    return _file_name(name, what)


def _name(path: Path) -> str:
    """The name that `_file_name` made the file name of ``path`` from."""
    return _unescaped(path.name[: -len(path.suffix)])


def _unescaped(name: str) -> str:
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), name)


def _named(folder: Path, suffix: str) -> list[str]:
    return sorted(_name(path) for path in folder.glob(f"*{suffix}"))


def _save_npy(path: Path, values: Any, *, durable: bool = False) -> None:
    array: Array = np.asanyarray(values, order="C")
    if array.dtype.kind not in "biufcUS":
        raise RecordingError(
            f"The array {_name(path)} has the type {array.dtype}, which cannot be recorded; "
            "keep numbers, booleans or text."
        )
    with files.replacing(path, durable=durable) as temporary, open(temporary, "wb") as out:
        np.lib.format.write_array(out, array, allow_pickle=False)


def write_record(folder: Path, record: RunRecord, *, durable: bool = False) -> None:
    """Store ``record`` in a recording's folder. Raises `DiskError`."""
    files.write_bytes(folder / "record.json", _dump(record.to_json()), durable=durable)


def _cut(path: Path, rows: int) -> None:
    """Shorten a file of metric rows. Raises `DiskError`."""
    try:
        with open(path, "r+b") as out:
            out.truncate(rows * ROW)
    except OSError as problem:
        raise files.explain(problem, path) from problem


def write_checkpoint(folder: Path, checkpoint: Checkpoint, rows: Mapping[str, int]) -> None:
    """Store a checkpoint and how many rows each metric had then. Raises `DiskError`."""
    for name, array in checkpoint.arrays.items():
        _save_npy(folder / f"{_file_name(name, 'an array')}.npy", array, durable=True)
    files.write_bytes(folder / "values.json", _dump({"values": checkpoint.values, "rows": dict(rows)}))


def in_order(names: Iterable[str], shown: Sequence[str]) -> list[str]:
    """``names`` in the order of ``shown``, then those that are not in it."""
    place = {name: number for number, name in enumerate(shown) if isinstance(name, str)}
    return sorted(names, key=lambda name: (place.get(name, len(place)), name))


class RecordingWriter:
    """Writes one run's recording. Implements `engine.runs.run.Sink`.

    The run's thread calls it; `flush` may be called from another thread besides.

    Raises:
        DiskError: from any method, when the disk is full, read-only or gone.
    """

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.folder = folder
        self.record = record
        self._rows: dict[str, list[tuple[float, float, float]]] = {}
        self._flushed = time.monotonic()
        self._lock = threading.RLock()
        self._movies: dict[str, movies.MovieWriter] = {}
        self._mend()
        self.write_record()

    def _mend(self) -> None:
        """Take away what a kill has torn at the ends of appended files, so that what follows is read right."""
        files.mend_lines(self.folder / "log.jsonl")
        for path in (self.folder / "metrics").glob("*.f64"):
            _cut(path, path.stat().st_size // ROW)
        for path in (self.folder / "movies").glob("*"):
            movies.mend(path)

    def write_record(self) -> None:
        """Store the record as it is now."""
        write_record(self.folder, self.record, durable=True)

    def progress(self, progress: Progress) -> None:
        """Progress is not recorded."""

    def metrics(self, rows: Mapping[str, tuple[float, float, float]]) -> None:
        with self._lock:
            for name, row in rows.items():
                _flat_name(name, "a metric")  # here, where the experiment hears of it
                self._rows.setdefault(name, []).append(row)
            if time.monotonic() - self._flushed >= FLUSH_EVERY:
                self.flush()

    def flush(self) -> None:
        """Write buffered metric rows."""
        with self._lock:
            for name in list(self._rows):  # one at a time: what was written before a full disk is not written twice
                path = self.folder / "metrics" / f"{_flat_name(name, 'a metric')}.f64"
                files.append(path, np.asarray(self._rows[name], "<f8").tobytes())
                del self._rows[name]
            self._flushed = time.monotonic()

    def figure(self, name: str, figure: Figure, step: float | None = None) -> None:
        if step is not None:
            folder = self.folder / "movies" / _flat_name(name, "a figure")
            if name not in self._movies:
                self._movies[name] = movies.MovieWriter(folder)
            self._movies[name].append(step, figure)
        kind, spec, arrays = pack(figure)
        buffer = io.BytesIO()
        header = np.frombuffer(_dump({"kind": kind, "spec": spec}), dtype=np.uint8)
        np.savez(buffer, __figure__=header, **arrays)  # type: ignore[arg-type]
        path = self.folder / "figures" / f"{_flat_name(name, 'a figure')}.npz"
        files.write_bytes(path, buffer.getvalue(), durable=False)
        if name not in self.record.shown:
            self.record.shown.append(name)
            self.write_record()

    def kept(self, name: str, array: Array, attributes: Mapping[str, Any]) -> None:
        path = self.folder / "kept" / f"{_flat_name(name, 'an array')}.npy"
        _save_npy(path, array)
        files.write_bytes(path.with_suffix(".json"), _dump(dict(attributes)), durable=False)

    def produced(self, section: Section, id: str, attributes: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        if not ID.fullmatch(id):
            raise RecordingError(f"“{id}” cannot be the id of a thing; use a–z, 0–9 and hyphens.")
        folder = self.folder / "things" / section / id
        for name, array in arrays.items():
            _save_npy(folder / f"{_file_name(name, 'an array')}.npy", array)
        files.write_bytes(folder / "attributes.json", _dump(dict(attributes)))  # last: marks it whole

    def fact(self, name: str, value: Any) -> None:
        self.record.facts[name] = value
        self.write_record()

    def log(self, level: str, text: str) -> None:
        line = {"time": time.time(), "level": level, "text": text}
        files.append(self.folder / "log.jsonl", _dump(line) + b"\n")

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._lock:
            self.flush()
            rows = {_name(path): path.stat().st_size // ROW for path in (self.folder / "metrics").glob("*.f64")}
            previous = self.record.checkpoint
            number = int(previous.rpartition("-")[2] or 0) + 1 if previous else 1
            folder = self.folder / f"checkpoint-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            write_checkpoint(folder, checkpoint, rows)
            self.record.checkpoint = folder.name
            self.write_record()
            if previous:
                shutil.rmtree(self.folder / previous, ignore_errors=True)

    def drop_checkpoint(self) -> None:
        """Delete the checkpoint of a run that has nothing left to resume: it may be thrice the size of its results."""
        with self._lock:
            previous, self.record.checkpoint = self.record.checkpoint, ""
            if previous:
                self.write_record()
                shutil.rmtree(self.folder / previous, ignore_errors=True)

    def rewind(self) -> None:
        """Drop metric rows written after the valid checkpoint, so a resumed run continues its curves exactly."""
        rows: dict[str, int] = {}
        if self.record.checkpoint:
            rows = json.loads((self.folder / self.record.checkpoint / "values.json").read_bytes())["rows"]
        for path in (self.folder / "metrics").glob("*.f64"):
            _cut(path, rows.get(_name(path), 0))


class Recording:
    """Reads a run's recording, while it is being written or after a crash. Arrays are memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def is_bare(self) -> bool:
        """Whether there is nothing but a record, or not even that."""
        try:
            return all(name == "record.json" or name.startswith(".") for name in os.listdir(self.folder))
        except FileNotFoundError:
            return True

    def record(self) -> RunRecord:
        return RunRecord.from_json(json.loads((self.folder / "record.json").read_bytes()))

    def metric_names(self) -> list[str]:
        return _named(self.folder / "metrics", ".f64")

    def metric(self, name: str) -> Array:
        """Rows (n, 3) float64: step, value, seconds since the start."""
        content = (self.folder / "metrics" / f"{_flat_name(name, 'a metric')}.f64").read_bytes()
        return np.frombuffer(content[: len(content) // ROW * ROW], dtype="<f8").reshape(-1, 3)

    def figure_names(self) -> list[str]:
        """In the order in which they were first shown."""
        names = _named(self.folder / "figures", ".npz")
        return in_order(names, self.record().shown) if names else []

    def figure(self, name: str) -> Figure:
        path = self.folder / "figures" / f"{_flat_name(name, 'a figure')}.npz"
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(stored["__figure__"].tobytes())
            arrays = {key: stored[key] for key in stored.files if key != "__figure__"}
        return unpack(header["kind"], header["spec"], arrays)

    def movie_names(self) -> list[str]:
        found = (path.parent.name for path in (self.folder / "movies").glob("*/movie.json"))
        return sorted(_unescaped(name) for name in found)

    def movie(self, name: str) -> movies.Movie:
        """The frames of the figure ``name``."""
        return movies.read(self.folder / "movies" / _flat_name(name, "a figure"))

    def kept_names(self) -> list[str]:
        return _named(self.folder / "kept", ".npy")

    def kept(self, name: str) -> Array:
        return _map(self.kept_path(name))

    def kept_path(self, name: str) -> Path:
        """The ``.npy`` file of a kept array."""
        return self.folder / "kept" / f"{_flat_name(name, 'an array')}.npy"

    @staticmethod
    def name_of(path: Path) -> str:
        """The name under which the array in file ``path`` was recorded."""
        return _name(path)

    def kept_attributes(self, name: str) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            return dict(json.loads(self.kept_path(name).with_suffix(".json").read_bytes()))
        return {}

    def things(self) -> Iterator[tuple[Section, str, dict[str, Any], dict[str, Array]]]:
        """Section, id, attributes and arrays of each thing the run has produced as a whole."""
        for marker in sorted((self.folder / "things").glob("*/*/attributes.json")):
            arrays = {_name(path): _map(path) for path in sorted(marker.parent.glob("*.npy"))}
            section: Any = marker.parent.parent.name
            yield section, marker.parent.name, json.loads(marker.read_bytes()), arrays

    def thing_array_names(self, section: str, id: str) -> list[str]:
        return _named(self.folder / "things" / section / id, ".npy")

    def thing_array(self, section: str, id: str, name: str) -> Array:
        return _map(self.folder / "things" / section / id / f"{_file_name(name, 'an array')}.npy")

    def checkpoint(self) -> Checkpoint | None:
        name = self.record().checkpoint
        if not name:
            return None
        folder = self.checkpoint_folder(name)
        values = json.loads((folder / "values.json").read_bytes())["values"]
        return Checkpoint(values, {_name(path): _map(path) for path in folder.glob("*.npy")})

    def checkpoint_folder(self, name: str) -> Path:
        """The folder of checkpoint ``name``, which a record from elsewhere may not lead outside the recording."""
        if not re.fullmatch(r"checkpoint-\d+", name):
            raise ValueError(f"{name!r} is not the name of a checkpoint")
        return self.folder / name

    def log(self) -> list[dict[str, Any]]:
        lines = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / "log.jsonl").read_bytes().split(b"\n"):
                with contextlib.suppress(ValueError):
                    if line:
                        lines.append(json.loads(line))
        return lines


def _map(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
