"""The one place that writes files: atomic replacement, appending, and what a full disk says.

Everything Superscope stores passes through `replacing` or `append`, so that a kill at any moment
leaves the old or the new file and never half of one, and so that a full or read-only disk gives
one sentence.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from engine.errors import SuperscopeError

ABANDONED = 3600.0  # seconds without a change after which a half-made folder counts as left behind


class DiskError(SuperscopeError):
    """A file could not be written; what was there before is untouched."""


def explain(problem: OSError, path: Path) -> DiskError:
    """The sentence for a failed write to ``path``."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        text = (
            f"The disk that holds {path.parent} is full, so {path.name} was not written; free some space and try again."
        )
    elif problem.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        text = f"{path.parent} cannot be written to, so {path.name} was not saved there; choose another folder."
    elif problem.errno == errno.ENOENT:
        text = (
            f"The folder {path.parent} does not exist any more, so {path.name} was not written; choose another folder."
        )
    else:
        text = (
            f"{path.name} could not be written to {path.parent} ({problem.strerror or problem}); choose another folder."
        )
    return DiskError(text)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success flush it to disk and rename it over ``path``.

    Args:
        path: the file to write or replace.
        durable: also flush file and folder to the disk itself (fsync) before and after the rename.

    Raises:
        DiskError: the disk is full, read-only or gone; ``path`` is as it was and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            _flush(temporary)
        os.replace(temporary, path)
        if durable and os.name == "posix":
            _flush(path.parent)
    except OSError as problem:
        raise explain(problem, path) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a new empty folder beside ``path``; on success rename it to ``path``, on failure remove it.

    A folder that is at ``path`` already is replaced. Whoever finds ``path`` finds all of it.

    Raises:
        DiskError: the disk is full, read-only or gone; nothing is left beside ``path``.
    """
    mark = uuid.uuid4().hex[:8]
    temporary, old = path.with_name(f".{path.name}.{mark}.tmp"), path.with_name(f".{path.name}.{mark}.old")
    try:
        temporary.mkdir(parents=True)
        _clear_abandoned(path)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    except OSError as problem:
        raise explain(problem, path) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def mend_lines(path: Path) -> None:
    """End the last line of a file of lines, which a kill may have torn, so that the next one begins anew.

    Raises:
        DiskError: the disk is full, read-only or gone.
    """
    try:
        with open(path, "rb") as lines:
            size = lines.seek(0, os.SEEK_END)
            lines.seek(max(size - 1, 0))
            torn = lines.read(1) not in (b"", b"\n")
    except FileNotFoundError:
        return
    except OSError as problem:
        raise explain(problem, path) from problem
    if torn:
        append(path, b"\n")


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of unfinished writes of ``path``. Only for who alone may write it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if re.fullmatch(r"[0-9a-f]{8}", left.name.removeprefix(f".{path.name}.").removesuffix(".tmp")):
            with contextlib.suppress(OSError):
                left.unlink()


def _clear_abandoned(path: Path) -> None:
    """Remove what a killed process left while it made ``path``; another that works on it now touches its folder."""
    for left in path.parent.glob(f".{path.name}.????????.*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace ``path`` by ``content`` atomically. Raises `DiskError` as `replacing` does."""
    with replacing(path, durable=durable) as temporary, open(temporary, "wb") as out:
        out.write(content)


def append(path: Path, content: bytes) -> None:
    """Append ``content``; a kill leaves a prefix of it at the end of the file at worst.

    Raises:
        DiskError: the disk is full, read-only or gone; nothing was appended.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as out:
            before = out.seek(0, os.SEEK_END)
            left = memoryview(content)
            try:
                while left:  # a disk that fills up takes a part first and raises at the next write
                    left = left[out.write(left) :]
            except OSError:
                # Whoever appends again writes all of it, and must not find half of it there.
                with contextlib.suppress(OSError):
                    out.truncate(before)
                raise
    except OSError as problem:
        raise explain(problem, path) from problem


def scratch(folder: Path) -> IO[bytes]:
    """A file in ``folder`` to write and read, without a name: gone once closed, and when the process ends or is killed.

    Raises:
        DiskError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    except OSError as problem:
        raise explain(problem, folder / "scratch") from problem


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
