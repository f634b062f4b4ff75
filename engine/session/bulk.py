"""Moving large arrays into a file at the speed of the disk.

HDF5 only lays the array out; once its file is closed the bytes are copied by the kernel, straight
from the ``.npy`` file to their place. Meanwhile a second thread flushes what is written already:
waiting with all of it for the last moment leaves the disk idle during the copy and the processor
idle during the flush.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

BULK = 4 * 2**20  # bytes from which an array is copied this way
MOST = 100  # copies that wait at once: each holds a file open
STEP = 16 * 2**20
FLUSHED = 64 * 2**20  # bytes after which the flushing thread is woken
NOT_HERE = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EBADF, errno.ETXTBSY)


@dataclass
class Copy:
    """``size`` bytes of ``source`` from ``begin`` on belong at ``place`` of the new file."""

    source: BinaryIO
    begin: int
    place: int
    size: int


class Copies:
    """Copies that wait until HDF5 has closed the new file, and the files they come from."""

    def __init__(self) -> None:
        self.waiting: list[Copy] = []
        self._held: list[BinaryIO] = []

    @property
    def has_room(self) -> bool:
        """Whether another file may be kept open."""
        return len({id(copy.source) for copy in self.waiting}) < MOST

    def hold(self, path: Path) -> BinaryIO:
        """Open a file from which several copies will come; `forget` closes it."""
        self._held.append(open(path, "rb"))  # noqa: SIM115
        return self._held[-1]

    def add(self, copy: Copy) -> None:
        """Keep a copy, and its source open, for `carry_out`."""
        self.waiting.append(copy)

    def forget(self, first: int = 0) -> None:
        """Close the sources of the copies from the ``first`` on and forget them."""
        for copy in self.waiting[first:]:
            if copy.source not in self._held:
                copy.source.close()
        del self.waiting[first:]
        if not self.waiting:
            for file in self._held:
                file.close()


def npy_header(source: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype and the place of the first byte of data of an open ``.npy`` file."""
    version = np.lib.format.read_magic(source)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(source)
    return shape, fortran, dtype, source.tell()


def reserve(group: Any, name: str, shape: tuple[int, ...], kind: Any) -> int:
    """Make a contiguous dataset of an HDF5 type without writing it; where its bytes begin in the file."""
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dataset = h5py.h5d.create(group.id, None, kind, h5py.h5s.create_simple(shape), dcpl=plan)
    group[name] = h5py.Dataset(dataset)
    return int(dataset.get_offset())


def carry_out(path: Path, copies: list[Copy], report: Callable[[int], None]) -> None:
    """Make the copies into the file at ``path``; ``report`` gets the bytes of each step.

    Raises:
        OSError: the disk is full or gone, also where only the flushing noticed it.
    """
    if not copies:
        return
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    flusher = _Flusher(handle)
    try:
        for copy in copies:
            _carry_out_one(handle, copy, report, flusher)
    finally:
        flusher.end()
        os.close(handle)
    if flusher.problem is not None:
        raise flusher.problem


def _carry_out_one(handle: int, copy: Copy, report: Callable[[int], None], flusher: _Flusher) -> None:
    done = 0
    in_kernel = hasattr(os, "copy_file_range")
    while done < copy.size and flusher.problem is None:
        size = min(STEP, copy.size - done)
        try:
            if in_kernel:
                moved = os.copy_file_range(copy.source.fileno(), handle, size, copy.begin + done, copy.place + done)
            else:
                moved = _copy_by_hand(handle, copy, done, size)
        except OSError as problem:
            if not in_kernel or problem.errno not in NOT_HERE:
                raise
            in_kernel = False  # some pairs of file systems cannot
            continue
        if moved == 0:
            raise OSError(errno.EIO, f"{copy.source.name} became shorter while it was read")
        done += moved
        report(moved)
        flusher.wrote(moved)


def _copy_by_hand(handle: int, copy: Copy, done: int, size: int) -> int:
    copy.source.seek(copy.begin + done)
    part = memoryview(copy.source.read(size))
    moved = len(part)
    os.lseek(handle, copy.place + done, os.SEEK_SET)
    while part:
        part = part[os.write(handle, part) :]
    return moved


class _Flusher:
    """A thread that flushes ``handle`` to the disk after every `FLUSHED` bytes."""

    def __init__(self, handle: int) -> None:
        self.problem: OSError | None = None
        self._handle = handle
        self._waiting = 0
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="flush session", daemon=True)
        self._thread.start()

    def wrote(self, size: int) -> None:
        with self._changed:
            self._waiting += size
            if self._waiting >= FLUSHED:
                self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        flush = getattr(os, "fdatasync", os.fsync)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._waiting >= FLUSHED)
                if self._ended:
                    return
                self._waiting = 0
            try:
                flush(self._handle)
            except OSError as problem:  # the system tells a failed write only once: it must not get lost here
                self.problem = problem
                return
