"""Reading a session file, lazily: nothing is read before it is asked for."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import SuperscopeError
from engine.figures.kinds import Figure, unpack
from engine.runs.movies import Movie
from engine.runs.recording import ENDED, RunRecord
from engine.runs.run import Checkpoint
from engine.session import checking, encoding, layout, migration
from engine.session.errors import NotInSession, SessionError

Array: TypeAlias = npt.NDArray[Any]
SLOW = 64 * 2**20  # bytes of a file from which freeing it takes a noticeable time
MAPPED = 64 * 1024  # bytes from which a plain dataset is mapped instead of read
STATES = ("queued", "running", "paused", "finished", "stopped", "interrupted", "failed")


class StoredArray:
    """A dataset that is read when it is indexed (``array[10:20]``) or converted (``np.asarray(array)``)."""

    def __init__(self, stored: StoredFile, where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._stored = stored
        self._where = where
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        with self._stored.touching(self._where), self._stored.opened() as file:
            return self._stored.dataset(file, self._where)[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        whole = self._stored.whole(self._where)
        return whole if dtype is None else whole.astype(dtype, copy=False)


class StoredFile:
    """A session file opened read-only.

    On Windows an open file cannot be replaced, so there it is opened for each reading; elsewhere it
    stays open and goes on showing what it held when it was opened.

    Args:
        path: the file.
        source: another name for the same bytes (``/dev/fd/5``).

    Raises:
        SessionError: it is no session, of a newer version, damaged at its start, or breaks a rule.
    """

    def __init__(self, path: Path, *, source: str | None = None) -> None:
        self.path = path
        self.name = path.name
        self._source = source
        self.size = 0
        self._file: Any = checking.open_hdf5(path, source)
        try:
            version = checking.check_head(self._file, self.name)
            if version < layout.VERSION:
                self._file.close()
                self._source = source = str(migration.migrated(path, version))
                self._file = checking.open_hdf5(path, source)
            checking.look_through(self._file, self.name)
            with self.touching("the beginning"):
                self.header = encoding.get(self._file)
            bytes_ = os.stat(source or path)
            self.inode = (bytes_.st_dev, bytes_.st_ino)
            self.size = bytes_.st_size
            self._seen = _state(path)
            self._check_external_stores()
        except BaseException:
            self.close()
            raise
        if sys.platform == "win32":
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is None:
            return
        last = -1
        with contextlib.suppress(*checking.DAMAGE):  # a damaged file may not even close
            if sys.platform != "win32" and self.size > SLOW:
                last = os.dup(int(self._file.id.get_vfd_handle()))
            self._file.close()
        self._file = None
        if last >= 0:
            # Whoever closes a file last that was replaced waits until the system has freed its blocks.
            threading.Thread(target=os.close, args=(last,), name="close old session", daemon=True).start()

    @property
    def descriptor(self) -> int | None:
        """The open file's descriptor, which a child process can inherit; None where it is not kept open."""
        return int(self._file.id.get_vfd_handle()) if self._file is not None else None

    @property
    def bytes_path(self) -> str:
        """A name under which the bytes that are open can be read, whatever became of the file's own."""
        return self._source or str(self.path)

    def is_replaced(self) -> bool:
        """Whether the path names other bytes by now: another program has written the file."""
        return _state(self.path) != self._seen

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """The open h5py file."""
        if self._file is not None:
            yield self._file
        else:
            with checking.open_hdf5(self.path, self._source) as file:
                yield file

    @contextlib.contextmanager
    def touching(self, what: str) -> Iterator[None]:
        """Turn what h5py raises on damaged bytes into the sentence that names ``what``."""
        try:
            yield
        except SuperscopeError:
            raise
        except checking.DAMAGE as problem:
            raise SessionError(
                f"{what} in {self.name} is damaged and cannot be read; the rest of the session can be used."
            ) from problem

    # ---- walking

    def item(self, file: Any, where: str) -> Any:
        """The group or dataset at ``where``, each link on the way checked; None where there is none."""
        import h5py

        group = file
        path = ""
        for part in filter(None, where.split("/")):
            if not isinstance(group, h5py.Group):
                return None
            raw = part.encode()
            if raw not in group.id:
                return None
            path += "/" + part
            checking.check_link(group.id, raw, path, self.name)
            group = group[part]
            if not isinstance(group, h5py.Group):
                checking.check_dataset(group.id, path, self.name)
        return group

    def group(self, file: Any, where: str) -> Any:
        """The group at ``where``; None where there is none."""
        import h5py

        found = self.item(file, where)
        return found if isinstance(found, h5py.Group) else None

    def dataset(self, file: Any, where: str) -> Any:
        """The dataset at ``where`` after the checks.

        Raises:
            SessionError: there is none, or it breaks a rule.
        """
        import h5py

        found = self.item(file, where)
        if not isinstance(found, h5py.Dataset):
            raise NotInSession(f"{where} is not in {self.name}; it may have been deleted.")
        return found

    def whole(self, where: str) -> Array:
        """All of a dataset, in memory; text as ``str``."""
        with self.touching(where), self.opened() as file:
            dataset = self.dataset(file, where)
            checking.check_readable(dataset, where, self.name)
            return encoding.read_array(dataset)

    def lazily(self, where: str) -> Array | StoredArray:
        """A dataset without reading it where that is possible: memory-mapped, else a `StoredArray`."""
        import h5py

        with self.touching(where), self.opened() as file:
            dataset = self.dataset(file, where)
            if h5py.check_string_dtype(dataset.dtype) or dataset.nbytes < MAPPED:
                checking.check_readable(dataset, where, self.name)
                return encoding.read_array(dataset)
            offset = dataset.id.get_offset()
            plan = dataset.id.get_create_plist()
            if self._file is not None and offset is not None and plan.get_nfilters() == 0:
                mapped = self._mapped(dataset.dtype, dataset.shape, offset)
                if mapped is not None:
                    return mapped
            return StoredArray(self, where, dataset.shape, dataset.dtype)

    def _mapped(self, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> Array | None:
        """Map the bytes if the path still names the file that is open."""
        try:
            with open(self.bytes_path, "rb") as bytes_:
                ours, named = os.fstat(self.descriptor or 0), os.fstat(bytes_.fileno())
                if (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino):
                    return None
                return np.memmap(bytes_, dtype=dtype, mode="r", offset=offset, shape=shape)
        except (OSError, ValueError):
            return None

    def names(self, where: str) -> list[str]:
        """Names of what lies in the group at ``where``; none where there is no such group."""
        with self.touching(where), self.opened() as file:
            group = self.group(file, where)
            return sorted(raw.decode("utf-8", "replace") for raw in group.id) if group is not None else []

    def attributes(self, where: str) -> dict[str, Any] | None:
        """Attributes of the group at ``where``; None where there is no such group."""
        with self.touching(where), self.opened() as file:
            group = self.group(file, where)
            return encoding.get(group) if group is not None else None

    def _check_external_stores(self) -> None:
        with self.opened() as file:
            for id in self.names("activations"):
                with contextlib.suppress(*checking.DAMAGE):  # said when that store is touched
                    found = encoding.get_one(self.group(file, f"activations/{id}"), "path")
                    if found is not None:
                        checking.check_external(str(found), self.data_folder, f"/activations/{id}", self.name)

    @property
    def data_folder(self) -> Path:
        """Where external activation stores lie."""
        return data_folder(self.path)

    # ---- the layout

    def text(self, name: str) -> str:
        """A text that lies at the root: ``notes`` or ``layout``; "" where there is none."""
        return str(self.header.get(name, ""))

    def has_run(self, id: str) -> bool:
        """Whether the file holds a run of that id."""
        with self.touching("The list of runs"), self.opened() as file:
            group = self.group(file, "runs")
            return group is not None and id.encode() in group.id

    def record(self, id: str) -> RunRecord:
        """A run's record. A damaged one says so in its ``error`` and has the state failed."""
        try:
            values = self.attributes(f"runs/{id}")
        except SessionError as problem:
            return RunRecord(id, id.rpartition("-")[0], {}, state="failed", error=str(problem))
        if values is None:
            raise NotInSession(f"There is no run {id} in {self.name}; it may have been deleted.")
        return read_record(id, values)

    def has_recording(self, id: str, digest: str) -> bool:
        """Whether the run was stored, as it ended, from the recording whose record has that digest."""
        if not self.has_run(id):
            return False
        with contextlib.suppress(SessionError):  # a damaged run has no recording that could be let go
            values = self.attributes(f"runs/{id}") or {}
            return bool(digest) and values.get("recorded") == digest and values.get("state") in ENDED
        return False

    def metric(self, id: str, name: str) -> Array:
        """Rows (n, 3) float64: step, value, seconds since the start."""
        where = f"runs/{id}/metrics/{name}"
        rows = self.whole(where)
        if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind not in "fiu":
            raise SessionError(
                f"{where} in {self.name} has the shape {rows.shape} and not (n, 3), so it is not a metric; "
                "the rest of the session can be used."
            )
        return np.asarray(rows, dtype=np.float64)

    def figure(self, id: str, name: str) -> Figure:
        """A run's figure."""
        where = f"runs/{id}/figures/{name}"
        with self.touching(where), self.opened() as file:
            group = self.group(file, where)
            if group is None:
                raise NotInSession(f"There is no figure {name} in run {id} of {self.name}; it may have been deleted.")
            values = encoding.get(group)
            spec = values.get("spec")
            arrays = {part: self.whole(f"{where}/{part}") for part in encoding.array_names(group)}
            return unpack(str(values.get("kind")), spec if isinstance(spec, dict) else {}, arrays)

    def movie(self, id: str, name: str) -> Movie:
        """The frames of a run's figure, each read when it is asked for."""
        where = f"runs/{id}/movies/{name}"
        with self.touching(where), self.opened() as file:
            group = self.group(file, where)
            if group is None:
                raise NotInSession(f"The figure {name} of run {id} in {self.name} has no movie.")
            values = encoding.get(group)
        spec, steps = values.get("spec"), self.whole(f"{where}/steps")
        fixed = {part: self.whole(f"{where}/fixed/{part}") for part in self.names(f"{where}/fixed")}
        stacks = {part: self.lazily(f"{where}/stacks/{part}") for part in self.names(f"{where}/stacks")}
        if steps.ndim != 1 or any(stack.ndim < 1 or len(stack) != len(steps) for stack in stacks.values()):
            raise SessionError(f"{where} in {self.name} has frames without steps; the rest of the session can be used.")
        return Movie(str(values.get("kind")), spec if isinstance(spec, dict) else {}, steps, fixed, stacks)

    def kept(self, id: str, name: str) -> Array | StoredArray:
        """A kept array, lazily."""
        return self.lazily(f"runs/{id}/kept/{name}")

    def kept_attributes(self, id: str, name: str) -> dict[str, Any]:
        """What describes a kept array: unit, axes."""
        where = f"runs/{id}/kept/{name}"
        with self.touching(where), self.opened() as file:
            return encoding.get(self.dataset(file, where))

    def log(self, id: str) -> list[dict[str, Any]]:
        """A run's log lines."""
        with self.touching(f"The log of {id}"), self.opened() as file:
            group = self.group(file, f"runs/{id}")
            lines = encoding.get_one(group, "log") if group is not None else None
        return [line for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []

    def checkpoint(self, id: str) -> tuple[Checkpoint, dict[str, int]] | None:
        """What resuming a run needs, and how many rows each metric had then; None where there is none."""
        where = f"runs/{id}/checkpoint"
        values = self.attributes(where)
        if values is None:
            return None
        arrays = {name: np.asarray(self.lazily(f"{where}/arrays/{name}")) for name in self.names(f"{where}/arrays")}
        return Checkpoint(dict(values.get("values") or {}), arrays), dict(values.get("rows") or {})

    def thing_array_names(self, section: str, id: str) -> list[str]:
        """Names of a thing's arrays."""
        where = f"{section}/{id}"
        with self.touching(where), self.opened() as file:
            group = self.group(file, where)
            if group is None:
                return []
            inner = self.group(file, f"{where}/{layout.WEIGHTS}") if section == "models" else group
            return sorted(encoding.array_names(inner)) if inner is not None else []

    def thing_array(self, section: str, id: str, name: str) -> Array | StoredArray:
        """One array of a thing, lazily."""
        inner = f"{layout.WEIGHTS}/" if section == "models" else ""
        return self.lazily(f"{section}/{id}/{inner}{name}")


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def data_folder(path: Path) -> Path:
    """The folder beside a session in which its external activation stores lie."""
    return path.with_name(path.name + ".data")


def read_record(id: str, values: dict[str, Any]) -> RunRecord:
    """A record from stored attributes; values of a wrong type are replaced by the field's default."""
    blank = RunRecord(id, id.rpartition("-")[0], {})
    clean: dict[str, Any] = {}
    for entry in fields(RunRecord):
        value, default = values.get(entry.name), getattr(blank, entry.name)
        if entry.name in ("started", "ended", "elapsed", "created"):
            fits = isinstance(value, int | float) and math.isfinite(value)
        else:
            fits = isinstance(value, type(default)) and (entry.name != "state" or value in STATES)
        clean[entry.name] = value if fits else default
    clean["id"] = id
    return RunRecord(**clean)
