"""Activation stores: matrices (N, D) on disk, our own or a person's, read in blocks and written in bounded memory.

Our own are HDF5 files with one dataset ``data``, chunked by rows, plain (activations hardly compress),
as float32, float16, or bfloat16 in uint16 (attribute ``dtype``). A person's matrix may be a ``.npy``,
``.safetensors`` or ``.h5`` file.
"""

from __future__ import annotations

import errno
import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine import files
from engine.models.errors import ModelError

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float32]
StoreDtype: TypeAlias = Literal["float32", "float16", "bfloat16"]
CHUNK_ROWS = 2048  # rows per HDF5 chunk: whole chunks are read for shuffling
BLOCK_ROWS = 8192
FLOAT16_MOST = 65_504.0
_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_SUFFIXES = (".npy", ".safetensors", ".h5", ".hdf5")


@dataclass(frozen=True, eq=False)
class ActivationStore:
    """A matrix of activations on disk. Made by `open`; closed by `close` or as a context manager.

    Attributes:
        path: the file.
        shape: (N, D): activations, width.
        dtype: as what the numbers are stored; `rows` always gives float32.
        attributes: what the file says of itself (model, hook, corpus); empty for a person's matrix.
    """

    path: Path
    shape: tuple[int, int]
    dtype: str
    attributes: dict[str, Any] = field(default_factory=dict)
    _data: Any = field(default=None, repr=False)
    _file: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def width(self) -> int:
        """D, values per activation."""
        return self.shape[1]

    @classmethod
    def open(cls, path: Path | str) -> ActivationStore:
        """Open a ``.npy``, ``.safetensors`` or ``.h5`` file that holds one matrix (N, D) of floats. Nothing is loaded.

        Raises:
            ModelError: it is missing, damaged, of another kind, or holds no such matrix.
        """
        place = Path(path)
        if not place.is_file():
            raise ModelError(f"There is no file {place}; choose a {_kinds()} file with a matrix of activations.")
        suffix = place.suffix.lower()
        if suffix not in _SUFFIXES:
            raise ModelError(f"{place.name} is no activation store; choose a {_kinds()} file.")
        try:
            if suffix == ".npy":
                return _open_npy(place)
            if suffix == ".safetensors":
                return _open_safetensors(place)
            return _open_hdf5(place)
        except (ValueError, KeyError, TypeError, struct.error, OSError, RuntimeError) as problem:
            raise ModelError(
                f"{place.name} cannot be read as a matrix of activations ({problem}); choose another file."
            ) from problem

    def rows(self, wanted: slice) -> Floats:
        """The activations ``wanted`` (a slice with step 1) as a new float32 array (n, D).

        Raises:
            ModelError: a value is not finite; the sentence says in which row.
        """
        start, stop, step = wanted.indices(len(self))
        if step != 1:
            raise ValueError("rows takes a slice with step 1")
        found = _as_float32(np.asarray(self._data[start:stop]), self.dtype)
        bad = ~np.isfinite(found).all(axis=1)
        if bad.any():
            row = start + int(np.argmax(bad))
            raise ModelError(
                f"{self.path.name} has a value in row {row} that is no finite number; remove that row or capture again."
            )
        return found

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[tuple[slice, Floats]]:
        """All activations in order, block after block. Raises `ModelError` as `rows` does."""
        for start in range(0, len(self), rows):
            part = slice(start, min(start + rows, len(self)))
            yield part, self.rows(part)

    def close(self) -> None:
        """Close the file; `rows` cannot be used any more."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> ActivationStore:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def write_store(
    path: Path,
    batches: Iterable[Any],
    *,
    width: int,
    dtype: StoreDtype = "float16",
    attributes: Mapping[str, Any] | None = None,
) -> int:
    """Write activations as an HDF5 store, one batch in memory at a time; the file appears when it is complete.

    Args:
        path: the file to write or replace.
        batches: arrays or tensors (n, D) of floats.
        width: D.
        dtype: as what to store the numbers.
        attributes: plain values about them (model, hook, corpus).

    Returns:
        The number of activations written.

    Raises:
        ModelError: a batch has another width, a value is not finite, or is too large for float16.
        DiskError: the disk is full or read-only; what was at ``path`` before is untouched.
    """
    import h5py

    if dtype not in ("float32", "float16", "bfloat16"):
        raise ModelError(f"{dtype} is no number format of a store; use float32, float16 or bfloat16.")
    stored = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}[dtype]
    written = 0
    with files.replacing(path) as temporary:
        try:
            with h5py.File(temporary, "w") as out:
                data = out.create_dataset(
                    "data", (0, width), stored, maxshape=(None, width), chunks=(CHUNK_ROWS, width)
                )
                data.attrs["dtype"] = dtype
                for name, value in (attributes or {}).items():
                    text = isinstance(value, (str, bool, int, float))
                    out.attrs[name] = value if text else json.dumps(value, ensure_ascii=False)
                for batch in batches:
                    block = to_store(batch, width, dtype, written)
                    data.resize(written + len(block), axis=0)
                    data[written:] = block
                    written += len(block)
        except (OSError, RuntimeError) as problem:
            raise _with_errno(problem) from problem
    return written


def _open_npy(path: Path) -> ActivationStore:
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    return ActivationStore(path, _matrix(path, data.shape), _float(path, data.dtype), {}, data)


def _open_safetensors(path: Path) -> ActivationStore:
    with open(path, "rb") as content:
        length = struct.unpack("<Q", content.read(8))[0]
        if length > path.stat().st_size:
            raise ValueError("its header is cut short")
        header = json.loads(content.read(length))
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    matrices = [name for name, entry in tensors.items() if len(entry["shape"]) == 2]
    name = _the_one(path, matrices, "tensor")
    entry = tensors[name]
    if entry["dtype"] not in _SAFETENSORS:
        raise ModelError(f"{path.name} holds {entry['dtype']} numbers; a matrix of activations has floats.")
    first, last = entry["data_offsets"]
    shape = _matrix(path, tuple(entry["shape"]))
    kind = np.dtype(_SAFETENSORS[entry["dtype"]])
    if last - first != shape[0] * shape[1] * kind.itemsize or 8 + length + last > path.stat().st_size:
        raise ValueError("it is cut short")
    data = np.memmap(path, kind, "r", 8 + length + first, shape)
    dtype = "bfloat16" if entry["dtype"] == "BF16" else kind.newbyteorder("=").name
    return ActivationStore(path, shape, dtype, dict(header.get("__metadata__") or {}), data)


def _open_hdf5(path: Path) -> ActivationStore:
    import h5py

    file = h5py.File(path, "r", locking=False)
    try:
        names = [
            name
            for name in file
            if isinstance(file.get(name, getlink=True), h5py.HardLink)
            and isinstance(file[name], h5py.Dataset)
            and file[name].ndim == 2
        ]
        data = file["data"] if "data" in names else file[_the_one(path, names, "dataset")]
        if data.is_virtual or data.external:
            raise ModelError(f"{path.name} keeps its numbers in other files, which is not followed; copy them into it.")
        said = data.attrs.get("dtype", "")
        said = said.decode() if isinstance(said, bytes) else str(said)
        packed = said == "bfloat16" and data.dtype == np.uint16
        dtype = "bfloat16" if packed else _float(path, data.dtype)
        attributes = {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}
        return ActivationStore(path, _matrix(path, data.shape), dtype, attributes, data, file)
    except BaseException:
        file.close()
        raise


def _the_one(path: Path, names: list[str], what: str) -> str:
    for usual in ("data", "activations"):
        if usual in names:
            return usual
    if len(names) != 1:
        found = f"{len(names)} of them ({', '.join(names[:4])})" if names else "none"
        raise ModelError(f"{path.name} has to hold one two-dimensional {what} (N, D), and holds {found}; name it data.")
    return names[0]


def _matrix(path: Path, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ModelError(f"{path.name} has shape {shape}; a matrix of activations has two dimensions (N, D).")
    if 0 in shape:
        raise ModelError(f"{path.name} is empty: its matrix has shape {shape}.")
    return int(shape[0]), int(shape[1])


def _float(path: Path, dtype: np.dtype[Any]) -> str:
    if dtype.kind != "f":
        raise ModelError(f"{path.name} holds {dtype} numbers; a matrix of activations has floats.")
    return dtype.newbyteorder("=").name


def _as_float32(block: Array, dtype: str) -> Floats:
    if dtype == "bfloat16":
        return (block.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 beyond float32's range becomes infinite, which is then said
        return block.astype(np.float32)


def to_store(batch: Any, width: int, dtype: StoreDtype, row: int) -> Array:
    """A batch (n, width) of floats in the stored number format; bfloat16 as its bits in uint16.

    Args:
        row: number of its first activation, for the sentence.

    Raises:
        ModelError: another width, a value that is not finite, or one too large for float16.
    """
    block = batch.detach().float().cpu().numpy() if hasattr(batch, "detach") else np.asarray(batch, dtype=np.float32)
    if block.ndim != 2 or block.shape[1] != width:
        raise ModelError(f"A batch of activations has shape {block.shape} instead of (n, {width}).")
    bad = ~np.isfinite(block).all(axis=1)
    if bad.any():
        raise ModelError(
            f"Activation {row + int(np.argmax(bad))} has a value that is no finite number; use dtype float32 for the "
            "model or leave that text out."
        )
    if dtype == "float16":
        most = float(np.abs(block).max(initial=0.0))
        if most > FLOAT16_MOST:
            raise ModelError(f"An activation of {most:,.0f} is too large for float16; store as bfloat16 or float32.")
        return block.astype(np.float16)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(block).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # rounds to the nearest, ties to even
    return block


def _kinds() -> str:
    return ".npy, .safetensors or .h5"


def _with_errno(problem: BaseException) -> OSError:
    """h5py keeps the system's error number in its text only."""
    if isinstance(problem, OSError) and problem.errno:
        return problem
    found = re.search(r"errno = (\d+)", str(problem))
    return OSError(int(found.group(1)) if found else errno.EIO, str(problem))
