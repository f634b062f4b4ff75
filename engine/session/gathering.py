"""Putting recordings into the new session file. Runs in the saving process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import SuperscopeError
from engine.figures.kinds import pack
from engine.runs.movies import Movie
from engine.runs.recording import Recording, RunRecord
from engine.session import bulk, encoding, layout
from engine.session.errors import SessionError
from engine.session.request import RunToSave

ALWAYS = ("title", "error")  # attributes that scripts may rely on, though they are empty
ATTEMPTS = 5  # a running engine may replace its checkpoint while it is read


class Gathering:
    """Writes recordings into the open h5py ``file``; large arrays are left to ``copies``.

    ``report`` gets the bytes that were written at once. ``lost`` names what is damaged in the
    recordings themselves and was left out.
    """

    def __init__(self, file: Any, report: Callable[[int], None]) -> None:
        self.file = file
        self.copies = bulk.Copies()
        self.report = report
        self.lost: list[str] = []

    def run(self, run: RunToSave, changed: Mapping[str, Any]) -> None:
        """Store one recording as ``/runs/<id>``.

        Raises:
            SessionError: its files vanish while they are read, again and again.
        """
        recording = Recording(Path(run.folder))
        for _ in range(ATTEMPTS):
            copies, lost = len(self.copies.waiting), len(self.lost)
            try:
                self._run(run, recording, changed)
                if len(self.lost) > lost and f"runs/{run.id}" in self.file:
                    # Only what is stored whole says from which recording: that one can be let go.
                    encoding.put(self.file[f"runs/{run.id}"], {"recorded": None})
                return
            except FileNotFoundError:
                self.copies.forget(copies)
                del self.lost[lost:]
                if f"runs/{run.id}" in self.file:
                    del self.file[f"runs/{run.id}"]
        raise SessionError(f"The recording of run {run.id} changes while it is read; stop the run and save again.")

    @contextlib.contextmanager
    def _leaving_out(self, group: Any, name: str) -> Iterator[None]:
        """Go on without a part of a recording that is damaged: it is named, and the recording stays where it is."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, SuperscopeError) as problem:
            if name in group:
                del group[name]
            self.lost.append(f"{group.name}/{name} ({problem})")

    def _run(self, run: RunToSave, recording: Recording, changed: Mapping[str, Any]) -> None:
        content = (recording.folder / "record.json").read_bytes()
        try:
            record = RunRecord.from_json(json.loads(content))
        except (ValueError, TypeError) as problem:
            self.lost.append(f"/runs/{run.id} ({problem})")
            return
        values = {**record.to_json(), **changed}
        del values["id"]
        if run.dead:
            values["state"] = "interrupted"
        values["recorded"] = hashlib.sha256(content).hexdigest()
        values["log"] = recording.log() or None
        group = self.file.create_group(f"runs/{run.id}")
        for name in ("started", "ended"):
            values[name] = float("nan") if values[name] is None else values[name]
        encoding.put(group, {name: value for name, value in values.items() if value != "" or name in ALWAYS})
        metrics = group.create_group("metrics")
        for name in recording.metric_names():
            encoding.put_array(metrics, name, recording.metric(name))
        figures = group.create_group("figures")
        for name in recording.figure_names():
            with self._leaving_out(figures, name):
                self._figure(figures.create_group(name), recording, name)
        names = recording.movie_names()
        if names:
            parent = group.create_group("movies")
            for name in names:
                with self._leaving_out(parent, name):
                    self._movie(parent.create_group(name), recording.movie(name))
        kept = group.create_group("kept")
        for name in recording.kept_names():
            with self._leaving_out(kept, name):
                dataset = self._npy(kept, name, recording.kept_path(name))
                encoding.put(dataset, recording.kept_attributes(name))
        with self._leaving_out(group, "checkpoint"):
            self._checkpoint(group, recording, record.checkpoint)

    def _figure(self, group: Any, recording: Recording, name: str) -> None:
        kind, spec, arrays = pack(recording.figure(name))
        encoding.put(group, {"kind": kind, "spec": spec})
        for part, array in arrays.items():
            encoding.put_array(group, part, array)

    def _movie(self, group: Any, movie: Movie) -> None:
        encoding.put(group, {"kind": movie.kind, "spec": movie.spec})
        encoding.put_array(group, "steps", movie.steps)
        for part, arrays in (("fixed", movie.fixed), ("stacks", movie.stacks)):
            inner = group.create_group(part)
            for name, array in arrays.items():
                encoding.put_array(inner, name, np.asarray(array))

    def _checkpoint(self, group: Any, recording: Recording, name: str) -> None:
        if not name:
            return
        folder = recording.checkpoint_folder(name)
        stored = json.loads((folder / "values.json").read_bytes())
        target = group.create_group("checkpoint")
        encoding.put(target, {"values": stored["values"], "rows": stored["rows"]})
        arrays = target.create_group("arrays")
        for path in sorted(folder.glob("*.npy")):
            self._npy(arrays, recording.name_of(path), path)

    def thing(self, section: str, id: str, folder: Path, run: str, changed: Mapping[str, Any]) -> None:
        """Store a thing of a recording as ``/<section>/<id>``, replacing an older one."""
        parent = self.file.require_group(section)
        with self._leaving_out(parent, id):
            self._thing(parent, section, id, folder, run, changed)

    def _thing(self, parent: Any, section: str, id: str, folder: Path, run: str, changed: Mapping[str, Any]) -> None:
        if id in parent:
            del parent[id]
        group = parent.create_group(id)
        attributes = json.loads((folder / "attributes.json").read_bytes())
        encoding.put(group, {"run": run, **attributes, **changed})
        inner = group.require_group(layout.WEIGHTS) if section == "models" else group
        for path in sorted(folder.glob("*.npy")):
            self._npy(inner, Recording.name_of(path), path)

    def _npy(self, group: Any, name: str, path: Path) -> Any:
        import h5py

        source = open(path, "rb")  # noqa: SIM115  kept open until its bytes are copied
        try:
            shape, fortran, dtype, begin = bulk.npy_header(source)
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            if size >= bulk.BULK and not fortran and dtype.kind in "biufc" and self.copies.has_room:
                place = bulk.reserve(group, name, shape, h5py.h5t.py_create(dtype, logical=True))
                self.copies.add(bulk.Copy(source, begin, place, size))
                return group[name]
        except BaseException:
            source.close()
            raise
        source.close()
        array = np.load(path, mmap_mode="r" if size >= bulk.BULK else None, allow_pickle=False)
        dataset = encoding.put_array(group, name, array)
        self.report(size)
        return dataset
