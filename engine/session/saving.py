"""The process that saves: ``python -m engine.session.saving REQUEST`` (``-``: the request comes on stdin).

The request ``{"probe": PATH}`` saves nothing and looks at a file instead (`engine.session.probing`).

It gathers the old file and the recordings into a new file beside the target, flushes it and
renames it. It knows no torch, needs no engine, and can be killed at any moment. To stdout it
writes JSON lines: ``{"done", "total"}`` in bytes, and last ``{"result"}``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine import __version__, files
from engine.errors import SuperscopeError
from engine.session import bulk, checking, encoding, layout, probing
from engine.session.carrying import OldFile, copy_stores, error_number, keep_damaged, some
from engine.session.gathering import Gathering
from engine.session.request import SaveRequest, SaveResult
from engine.session.stored import StoredFile

REPORT_EVERY = 0.1


def main(arguments: list[str]) -> int:
    """Carry out the request named on the command line."""
    content = sys.stdin.buffer.read() if arguments[:1] == ["-"] else Path(arguments[0]).read_bytes()
    asked = json.loads(content)
    if "probe" in asked:
        probing.read_everything(Path(asked["probe"]))
        return 0
    request = SaveRequest.from_json(asked)
    began = time.monotonic()
    try:
        result = save(request, _say_progress())
    except SuperscopeError as problem:
        result = SaveResult(request.target, error=str(problem))
    except Exception as problem:
        result = SaveResult(
            request.target,
            error=f"{Path(request.target).name} was not saved because of a defect in Superscope ({problem}); "
            "what was there is untouched and nothing is lost.",
            details=traceback.format_exc(),
        )
    _say({"result": {**asdict(result), "seconds": time.monotonic() - began}})
    return 0 if result.ok else 1


def save(request: SaveRequest, report: Callable[[int, int], None] = lambda done, total: None) -> SaveResult:
    """Write ``request.target``; ``report`` gets bytes done and in all.

    Raises:
        DiskError: the disk is full, read-only or gone; nothing has changed.
        SessionError: the old file breaks a rule; nothing has changed.
    """
    target = Path(request.target)
    old = _open_source(request)
    try:
        meter = _Meter(report, _expected(request, old))
        with files.replacing(target) as temporary:
            if not request.deleted:  # else the new file may be a good deal smaller than what it is made of
                _check_space(temporary.parent, meter.total)
            built = _build(temporary, request, old, meter)
            size = temporary.stat().st_size
            if old is not None:
                copy_stores(old, temporary, target)
            with contextlib.suppress(OSError):  # there is no old file
                shutil.copymode(target, temporary)
            warning = keep_damaged(request, built.lost) or _left_out(built.left)
    finally:
        if old is not None:
            old.close()
    return SaveResult(request.target, bytes=size, warning=warning)


@dataclass
class _Built:
    """What was ``lost`` of the old file because it is damaged, and what was ``left`` of recordings."""

    lost: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def _open_source(request: SaveRequest) -> StoredFile | None:
    if not request.source:
        return None
    path = Path(request.source)
    with contextlib.suppress(OSError):
        status = path.stat()
        if [status.st_dev, status.st_ino] == request.identity or not request.handle:
            return StoredFile(path)
    return StoredFile(path, source=request.handle)


def _build(temporary: Path, request: SaveRequest, old: StoredFile | None, meter: _Meter) -> _Built:
    """Write the whole new file."""
    import h5py

    changed = {(section, id): values for section, id, values in request.changed}
    deleted = {(section, id): when for section, id, when in request.deleted}
    replaced = {("runs", run.id) for run in request.runs} | set(deleted)
    built = _Built()
    with _disk_problems(temporary.parent):
        file = h5py.File(temporary, "w", locking=False)
        gathering = Gathering(file, meter.add)
        try:
            if old is not None:
                built.lost = OldFile(old, file, gathering.copies, meter.wrote_to).copy(replaced)
            for run in request.runs:
                gathering.run(run, changed.get(("runs", run.id), {}))
            _things(gathering, request, changed, deleted)
            _edit(file, changed)
            _head(file, request)
        except BaseException:
            gathering.copies.forget()
            with contextlib.suppress(*checking.DAMAGE):  # closing fails as well on a full disk
                file.close()
            raise
        file.close()
    try:
        bulk.carry_out(temporary, gathering.copies.waiting, meter.add)
    finally:
        gathering.copies.forget()
    meter.finish()
    built.left = gathering.lost
    return built


def _head(file: Any, request: SaveRequest) -> None:
    for name in ("runs", *layout.SECTIONS):
        file.require_group(name)
    head = {"format": layout.FORMAT, "version": layout.VERSION, "app_version": __version__, "saved": time.time()}
    encoding.put(file, {**head, **request.header})
    for name, text in (("notes", request.notes), ("layout", request.layout)):
        encoding.put_text(file, name, text)


def _edit(file: Any, changed: dict[tuple[str, str], dict[str, Any]]) -> None:
    for (section, id), values in changed.items():
        where = f"{section}/{id}"
        if where in file:  # absent where a run was edited and its recording is stored with the edits already
            encoding.put(file[where], values)


def _things(
    gathering: Gathering,
    request: SaveRequest,
    changed: dict[tuple[str, str], dict[str, Any]],
    deleted: dict[tuple[str, str], float],
) -> None:
    """Store things of recordings, the newest of an id last."""
    found = []
    for folder in [*(run.folder for run in request.runs), *request.made]:
        for marker in Path(folder).glob("things/*/*/attributes.json"):
            section, id = marker.parent.parent.name, marker.parent.name
            made = marker.stat().st_mtime
            if section in layout.SECTIONS and layout.ID.fullmatch(id) and made > deleted.get((section, id), 0):
                found.append((made, section, id, marker.parent, Path(folder).name))
    for _, section, id, place, run in sorted(found, key=lambda thing: thing[0]):
        gathering.thing(section, id, place, run, changed.get((section, id), {}))


def _left_out(left: list[str]) -> str:
    return f"{some(left)} is damaged and was not saved; its recording stays in the work folder." if left else ""


# ---- disks


def _expected(request: SaveRequest, old: StoredFile | None) -> int:
    folders = [*(run.folder for run in request.runs), *request.made]
    recorded = sum(path.stat().st_size for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    return recorded + (old.size if old is not None else 0)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed} bytes needed, {free} free")


@contextlib.contextmanager
def _disk_problems(folder: Path) -> Iterator[None]:
    """Give what HDF5 says about a full or broken disk the error number that it has."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as problem:
        number = error_number(problem)
        if number is None and isinstance(problem, RuntimeError) and shutil.disk_usage(folder).free < 2**20:
            number = errno.ENOSPC
        if number is None:
            raise
        raise OSError(number, os.strerror(number)) from problem


# ---- progress


class _Meter:
    """Bytes written, against those expected."""

    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self.total = total
        self.done = 0
        self._report = report

    def add(self, size: int) -> None:
        self.done += size
        self._report(min(self.done, self.total), self.total)

    def wrote_to(self, file: Any) -> None:
        self.done = max(self.done, file.id.get_filesize())
        self.add(0)

    def finish(self) -> None:
        self.done = self.total
        self.add(0)


def _say_progress() -> Callable[[int, int], None]:
    last = [0.0]

    def report(done: int, total: int) -> None:
        now = time.monotonic()
        if now - last[0] >= REPORT_EVERY:
            last[0] = now
            _say({"done": done, "total": total})

    return report


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Ctrl+C in the terminal goes to child processes too; who started the save decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = main(sys.argv[1:])
    # HDF5 writes again at exit what a full disk refused, and would end in an abort.
    os._exit(status)
