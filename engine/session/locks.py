"""One writer at a time: an operating-system lock whose file says who holds it.

The lock belongs to the open file, not to its content, so it ends with the process however that
ends, and a file left behind by a crash locks nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.session.errors import SessionLocked

MARK = 1 << 30  # the byte Windows locks: beyond the description, which others must be able to read
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. ``since`` is in seconds since 1970 (UTC)."""

    pid: int
    host: str
    since: float

    def text(self) -> str:
        """Who and since when, in words, in local time."""
        since = time.strftime("%H:%M on %Y-%m-%d", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"


class Busy(Exception):
    """Somebody else holds the lock; ``holder`` is None where the description cannot be read."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(holder.text() if holder else "another process")
        self.holder = holder


class FileLock:
    """An exclusive lock on ``path``, held from construction to `release` or the end of the process.

    Raises:
        Busy: another process (or another session of this one) holds it; its description is not touched.
        OSError: the file cannot be made there (a read-only disk).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1
        while self._handle < 0:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _take(handle)
            except BlockingIOError:
                os.close(handle)
                raise Busy(read_holder(path)) from None
            except BaseException:
                os.close(handle)
                raise
            # The holder before may have removed the file between our opening and our locking it:
            # then what we hold has no name any more, and the next one would lock a fresh file.
            if _still_named(handle, path):
                self._handle = handle
            else:
                os.close(handle)
        described = json.dumps(asdict(Holder(os.getpid(), socket.gethostname(), time.time()))).encode()
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, described)

    def release(self) -> None:
        """Let go and remove the file. Releasing twice does nothing."""
        if self._handle < 0:
            return
        handle, self._handle = self._handle, -1
        if sys.platform == "win32":
            os.close(handle)
            with contextlib.suppress(OSError):  # somebody else may hold it already
                self.path.unlink()
        else:
            with contextlib.suppress(OSError):  # the folder may be gone; the lock ends with the handle
                if _still_named(handle, self.path):
                    self.path.unlink()
            os.close(handle)


def lock_path(path: Path) -> Path:
    """The lock file of the session at ``path``."""
    return path.with_name(path.name + ".lock")


def lock_session(path: Path) -> tuple[FileLock | None, bool]:
    """The lock of a session file and False, or None and True where nothing can be written beside it.

    Raises:
        SessionLocked: it is open elsewhere; the sentence says where and since when.
    """
    try:
        return FileLock(lock_path(path)), False
    except Busy as busy:
        raise SessionLocked(
            f"{path.name} is open in another window or command ({busy}); close it there, or open a copy."
        ) from None
    except OSError:
        return None, True


def read_holder(path: Path) -> Holder | None:
    """Who wrote the lock file at ``path``; None where that cannot be read."""
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock at ``path``. Leaves the file as it is."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _take(handle)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        os.close(handle)


def _still_named(handle: int, path: Path) -> bool:
    if sys.platform == "win32":
        return True
    try:
        ours, named = os.fstat(handle), os.stat(path)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)


if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> None:
        os.lseek(handle, MARK, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as problem:
            raise BlockingIOError(problem.errno, str(problem)) from problem

else:
    import fcntl

    def _take(handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as problem:
            if problem.errno not in NO_LOCKS_HERE:
                raise
            # A file system without locks (some network mounts): the holder's word is all there is.
            _take_by_word(handle)

    def _take_by_word(handle: int) -> None:
        try:
            holder = Holder(**json.loads(os.pread(handle, 4096, 0)))
        except (ValueError, TypeError):
            return
        if holder.host != socket.gethostname():
            raise BlockingIOError(errno.EWOULDBLOCK, "held on another host")
        if holder.pid == os.getpid():
            return
        try:
            os.kill(holder.pid, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            raise BlockingIOError(errno.EWOULDBLOCK, "held by another user") from None
        raise BlockingIOError(errno.EWOULDBLOCK, "held by another process")
