"""Carrying the unchanged parts of the old session file into the new one. Runs in the saving process."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import files
from engine.session import attributes, bulk, checking, encoding, layout
from engine.session.request import SaveRequest
from engine.session.stored import StoredFile, data_folder

REPLACED = ("notes", "layout")
LARGE = ("kept", "checkpoint")  # parts of a run in which large arrays lie


class OldFile:
    """Copies from ``old`` into the open h5py ``file``; large arrays are left to ``copies``.

    ``report`` is called with the file after each run and thing. What is too damaged to be copied is
    left out and named in ``lost``.
    """

    def __init__(self, old: StoredFile, file: Any, copies: bulk.Copies, report: Callable[[Any], None]) -> None:
        self.old = old
        self.file = file
        self.copies = copies
        self.report = report
        self.lost: list[str] = []
        self.raw = copies.hold(Path(old.bytes_path))

    def copy(self, left_out: set[tuple[str, str]]) -> list[str]:
        """Copy everything but ``left_out`` (section, id); what was lost."""
        with self.old.opened() as source:
            _copy_attributes(source, self.file)
            for name in self.old.names(""):
                if name in ("runs", *layout.SECTIONS):
                    self._section(source, name, left_out)
                elif name not in REPLACED:  # something that another program has added
                    self._whole(source, name, self.file)
        return self.lost

    def _section(self, source: Any, name: str, left_out: set[tuple[str, str]]) -> None:
        section = self.file.create_group(name)
        for id in self.old.names(name):
            if (name, id) in left_out:
                continue
            if name != "runs":
                self._by_parts(source[name], id, section)
            elif self._is_large(source, id):
                self._run(source["runs"], id, section)
            else:
                self._whole(source["runs"], id, section)
            self.report(self.file)

    def _is_large(self, source: Any, id: str) -> bool:
        with contextlib.suppress(*checking.DAMAGE):
            run = source[f"runs/{id}"]
            return any(part in run and len(run[part]) for part in LARGE)
        return False

    def _run(self, runs: Any, id: str, target: Any) -> None:
        try:
            run = runs[id]
            group = target.create_group(id)
            names = [raw.decode() for raw in run.id]
        except checking.DAMAGE:
            self.lost.append(f"/runs/{id}")
            return
        _copy_attributes(run, group)
        for name in names:
            copy = self._by_parts if name in LARGE else self._whole
            copy(run, name, group)

    def _by_parts(self, source: Any, name: str, target: Any) -> None:
        """Copy ``source[name]``, group by group, its large plain datasets by the kernel."""
        import h5py

        try:
            checking.check_link(source.id, name.encode(), f"{source.name}/{name}", self.old.name)
            item = source[name]
            inner = [raw.decode() for raw in item.id] if isinstance(item, h5py.Group) else None
            place = item.id.get_offset() if inner is None else None
        except checking.DAMAGE:
            self._whole(source, name, target)  # names what is lost
            return
        if inner is not None:
            group = target.create_group(name)
            _copy_attributes(item, group)
            for part in inner:
                self._by_parts(item, part, group)
        elif place is not None and self._in_reach(item, place):
            begin = bulk.reserve(target, name, item.shape, item.id.get_type())
            self.copies.add(bulk.Copy(self.raw, place, begin, item.nbytes))
            _copy_attributes(item, target[name])
        else:
            self._whole(source, name, target)

    def _in_reach(self, dataset: Any, place: int) -> bool:
        size = dataset.nbytes
        return bool(size >= bulk.BULK and dataset.id.get_storage_size() == size and place + size <= self.old.size)

    def _whole(self, source: Any, name: str, target: Any) -> None:
        """Copy ``source[name]`` in one go; where that fails, what can be copied of it."""
        import h5py

        try:
            checking.check_link(source.id, name.encode(), f"{source.name}/{name}", self.old.name)
            h5py.h5o.copy(source.id, name.encode(), target.id, name.encode())
            return
        except checking.DAMAGE as problem:
            if error_number(problem) is not None:
                raise
        if name in target:
            del target[name]
        try:
            item = source[name]
            inner = [raw.decode() for raw in item.id] if isinstance(item, h5py.Group) else None
        except checking.DAMAGE:
            inner = None
        if inner is None:
            self.lost.append(f"{source.name.rstrip('/')}/{name}")
            return
        group = target.create_group(name)
        _copy_attributes(item, group)
        for part in inner:
            self._whole(item, part, group)


def _copy_attributes(source: Any, target: Any) -> None:
    """Copy the attributes that can be read."""
    with contextlib.suppress(*checking.DAMAGE):
        for name in list(source.attrs):
            with contextlib.suppress(*checking.DAMAGE):
                target.attrs[name] = attributes.read_one(source, name)


def keep_damaged(request: SaveRequest, lost: list[str]) -> str:
    """Keep the old file beside the new one where some of it could not be copied; the sentence about that."""
    if not lost:
        return ""
    target, source = Path(request.target), Path(request.source)
    if target != source:
        return f"{some(lost)} in {source.name} is damaged and is not in {target.name}; {source.name} is as it was."
    kept = source.with_name(f"{source.stem} damaged {time.strftime('%Y%m%d-%H%M%S')}{source.suffix}")
    try:
        os.link(source, kept)
    except OSError:  # a file system without hard links
        with files.replacing(kept) as temporary:
            shutil.copyfile(source, temporary)
    return f"{some(lost)} was damaged and could not be carried over; the file as it was is kept as {kept.name}."


def some(names: list[str]) -> str:
    """The first few of ``names``, in words."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def copy_stores(old: StoredFile, temporary: Path, target: Path) -> None:
    """Bring external activation stores along when a session is saved under another name."""
    import h5py

    before, now = data_folder(old.path), data_folder(target)
    if before == now:
        return
    with h5py.File(temporary, "r", locking=False) as file:
        for id in file["activations"]:
            path = encoding.get_one(file[f"activations/{id}"], "path")
            if path is None:
                continue
            source = checking.check_external(str(path), before, f"/activations/{id}", old.name)
            place = checking.check_external(str(path), now, f"/activations/{id}", target.name)
            if source.is_file() and not place.exists():
                with files.replacing(place) as half:
                    shutil.copyfile(source, half)


def error_number(problem: BaseException) -> int | None:
    """The error number of a write that failed in HDF5 or outside; None where something else failed."""
    found = re.search(r"errno = (\d+)", str(problem))
    if found and int(found[1]) and "write" in str(problem):
        return int(found[1])
    number = getattr(problem, "errno", None)
    return number if isinstance(number, int) and number != errno.ENOENT else None
