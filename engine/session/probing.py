"""A first look at files of unknown origin, in a process that may die of it.

HDF5 is not proof against spoilt bytes: some end the process that reads them, others keep it busy
for ever. So a file that this Superscope has neither written nor looked at before is first read by
a short-lived child; only when that has come through does the window open the file itself.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from engine import files, places
from engine.session import attributes, checking, save_job
from engine.session.errors import SessionError

PATIENCE = 12.0  # seconds after which the child is given up
LOOKING = 4.0  # seconds the child looks; then the rest is taken on trust
SMALL = 256 * 1024  # bytes up to which a dataset is read
REMEMBERED = 500


def probe(path: Path) -> None:
    """Have an unknown file read by a child process.

    Raises:
        SessionError: the child died of it, or did not come to an end.
    """
    known, mark = _read_known(), _mark(path)
    if mark is None or known.get(str(path)) == mark or not _is_hdf5(path):
        return
    try:
        child = subprocess.run(
            save_job.child_command(),
            input=json.dumps({"probe": str(path)}).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            **save_job.child_options(),
        )
        ended = child.returncode in (0, 1)
    except subprocess.TimeoutExpired:
        ended = False
    except OSError:
        return  # no room for another process: then it is opened on trust
    if not ended:
        raise SessionError(
            f"{path.name} is damaged so badly that reading it ends the program, so nothing of it was opened; "
            "take a backup of it."
        )
    remember(path)


def remember(path: Path) -> None:
    """Note that the file as it is now can be read."""
    known, mark = _read_known(), _mark(path)
    if mark is None:
        return
    known.pop(str(path), None)
    kept = dict([*known.items(), (str(path), mark)][-REMEMBERED:])
    with contextlib.suppress(files.DiskError):  # then it is looked at again next time
        files.write_bytes(_memory(), json.dumps(kept).encode(), durable=False)


def read_everything(path: Path) -> None:
    """In the child: read what the window reads of a session, for a while."""
    end = time.monotonic() + LOOKING
    with contextlib.suppress(SessionError), checking.open_hdf5(path) as file:
        _read(file, end, set())


def _read(group: Any, end: float, seen: set[Any]) -> None:
    import h5py

    with contextlib.suppress(*checking.DAMAGE):
        attributes.read_all(group)
    try:
        names = list(group.id)
    except checking.DAMAGE:
        return
    for raw in names:
        if time.monotonic() > end:
            return
        with contextlib.suppress(SessionError, *checking.DAMAGE):
            where = f"{group.name}/{raw.decode()}"
            checking.check_link(group.id, raw, where, "it")
            facts = h5py.h5o.get_info(group.id, raw)
            if (facts.fileno, facts.addr) in seen:
                continue
            seen.add((facts.fileno, facts.addr))
            item = group[raw.decode()]
            if isinstance(item, h5py.Group):
                _read(item, end, seen)
            else:
                checking.check_dataset(item.id, where, "it")
                attributes.read_all(item)
                if item.nbytes <= SMALL:
                    item[()]


def _is_hdf5(path: Path) -> bool:
    try:
        return path.is_file() and checking.is_hdf5(path)
    except OSError:
        return False  # said by who opens it


def _memory() -> Path:
    return places.cache() / "sessions-read.json"


def _read_known() -> dict[str, Any]:
    try:
        known = json.loads(_memory().read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _mark(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
