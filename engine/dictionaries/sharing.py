"""One pass over the model for all dictionaries of a sweep: what one run has captured, the next ones find.

Chunks are kept as they were captured, in float32, so a run that finds them computes the same bits as one that
captures them. They lie in memory up to a bound, beyond it in a file without a name, which is gone with the
process. All of it is let go when the sweep has ended, or when another sweep begins.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import threading
from collections.abc import Hashable
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine import files, places
from engine.dictionaries.sources import ModelSource, Pair, Source
from engine.models import memory
from engine.runs import sweeps

Array: TypeAlias = npt.NDArray[Any]
Indices: TypeAlias = npt.NDArray[np.int64]
HELD = 2**30  # bytes kept in memory at most, and an eighth of what is free
DISK_LEFT = 2**31  # bytes of the disk that stay free
BLOCK = 65_536  # contexts hashed at once


def share(source: ModelSource, sweep: str, folder: Path | None = None) -> Source:
    """``source``, or one that finds what an earlier run of the same sweep has captured from an equal one.

    Args:
        source: what the run is to be trained on.
        sweep: the run's; "" shares nothing.
        folder: where to write what memory has no room for; the cache folder by default.
    """
    if not sweep:
        return source
    with _guard:
        if sweep not in _passes:
            for other in list(_passes):
                _let_go(other)
            bound = min(HELD, memory.available() // 8)
            _passes[sweep] = Kept(bound, folder if folder is not None else places.cache())
            sweeps.at_end(sweep, lambda: _end(sweep))
        return _Shared(source, _passes[sweep], fingerprint(source))


def fingerprint(source: ModelSource) -> Hashable:
    """Equal for two sources that give the same bits: model, hook points, tokens, what counts, device, threads."""
    facts = source.model.facts
    digest = hashlib.blake2b(digest_size=16)
    for array in (source.contexts.ids, source.contexts.counted):
        for start in range(0, len(array), BLOCK):
            digest.update(np.ascontiguousarray(array[start : start + BLOCK]).tobytes())
    where = (facts.device, facts.dtype, torch.get_num_threads())
    return facts.source, facts.source_hash, *where, tuple(source.hooks), source.contexts.ids.shape, digest.digest()


class Kept:
    """Chunks by name, in memory up to ``bound`` bytes, then in a nameless file in ``folder``.

    Where neither has room a chunk is not kept, and whoever wants it captures it again.

    Attributes:
        held: bytes in memory.
        written: bytes in the file.
    """

    def __init__(self, bound: int, folder: Path) -> None:
        self.held = self.written = 0
        self._bound = bound
        self._folder = folder
        self._guard = threading.Lock()
        self._inside: dict[Hashable, Pair] = {}
        self._outside: dict[Hashable, tuple[int, list[tuple[int, ...]]]] = {}  # offset, shapes
        self._file: IO[bytes] | None = None
        self._closed = False

    def get(self, name: Hashable) -> Pair | None:
        """The chunk called ``name``; not to be changed."""
        with self._guard:
            if name in self._inside:
                return self._inside[name]
            if name not in self._outside or self._file is None:
                return None
            offset, shapes = self._outside[name]
            self._file.seek(offset)
            x, *targets = (_read(self._file, shape) for shape in shapes)
            return x, targets[0] if targets else None

    def put(self, name: Hashable, found: Pair) -> None:
        """Keep a chunk (float32, on the CPU), where there is room."""
        tensors = [tensor.contiguous() for tensor in found if tensor is not None]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        with self._guard:
            if self._closed or name in self._inside or name in self._outside:
                return
            if self.held + size <= self._bound:
                self._inside[name] = found
                self.held += size
            else:
                self._write(name, tensors, size)

    def _write(self, name: Hashable, tensors: list[Tensor], size: int) -> None:
        try:
            if self._file is None:
                self._file = files.scratch(self._folder)
            if shutil.disk_usage(self._folder).free - size < DISK_LEFT:
                return
            self._file.seek(self.written)
            for tensor in tensors:
                self._file.write(tensor.numpy().tobytes())
            self._file.flush()
        except (OSError, files.DiskError):  # no room after all; the next run captures this chunk itself
            return
        self._outside[name] = self.written, [tuple(tensor.shape) for tensor in tensors]
        self.written += size

    def close(self) -> None:
        """Let go of everything; what is asked for later is not found."""
        with self._guard:
            self._closed = True
            self._inside.clear()
            self._outside.clear()
            self.held = self.written = 0
            if self._file is not None:
                self._file.close()
                self._file = None


class _Shared:
    """Implements `Source` by another one and what is kept."""

    def __init__(self, source: Source, kept: Kept, key: Hashable) -> None:
        self._source = source
        self._kept = kept
        self._key = key
        self.name, self.paired, self.counts = source.name, source.paired, source.counts
        self.d_in, self.d_out = source.d_in, source.d_out

    def harvest(self, which: Indices) -> Pair:
        """See `Source.harvest`."""
        name = self._key, which.tobytes()
        found = self._kept.get(name)
        if found is None:
            found = self._source.harvest(which)
            self._kept.put(name, found)
        return found


_guard = threading.Lock()
_passes: dict[str, Kept] = {}


def _end(sweep: str) -> None:
    with _guard:
        _let_go(sweep)


def _let_go(sweep: str) -> None:
    kept = _passes.pop(sweep, None)
    if kept is not None:
        kept.close()


def _read(file: IO[bytes], shape: tuple[int, ...]) -> Tensor:
    content = file.read(4 * math.prod(shape))
    return torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.float32).reshape(shape))
