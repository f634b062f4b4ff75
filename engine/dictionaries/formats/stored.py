"""Tensors and configs of files that other people made: looked at before they are loaded, never executed.

safetensors and npz are plain data. A ``.pt`` is a pickle, of which only what PyTorch's restricted reader
takes is read: tensors and plain containers.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.dictionaries.errors import DictionaryError
from engine.models import memory


class StoredTensors:
    """The tensors in one file, each of which is checked against the shape it must have before it is loaded.

    Attributes:
        file: where they are.
        shapes: shape by name.
    """

    def __init__(
        self,
        file: Path,
        shapes: Mapping[str, tuple[int, ...]],
        load: Callable[[str], Tensor],
        dtypes: Mapping[str, str],
    ) -> None:
        self.file = file
        self.shapes = dict(shapes)
        self._load = load
        self._dtypes = dtypes

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def matrix(self, name: str) -> tuple[int, int]:
        """Rows and columns of a tensor. Raises `DictionaryError`: it is missing, or no matrix."""
        shape = self._shape(name)
        if len(shape) != 2 or 0 in shape:
            raise DictionaryError(f"The tensor {name} in {self.file} has shape {shape}, but it must be a matrix.")
        return shape[0], shape[1]

    def vector(self, name: str) -> int:
        """Length of a tensor. Raises `DictionaryError`: it is missing, or no vector."""
        shape = self._shape(name)
        if len(shape) != 1 or 0 in shape:
            raise DictionaryError(f"The tensor {name} in {self.file} has shape {shape}, but it must be a vector.")
        return shape[0]

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor in float32.

        Raises:
            DictionaryError: it is missing, of another shape, not of numbers, not finite or cannot be read.
        """
        if self._shape(name) != shape:
            raise DictionaryError(
                f"The tensor {name} in {self.file} has shape {self._shape(name)}, but the rest asks for {shape}."
            )
        try:
            # A copy: the file may be mapped, and must not be held or written to by what is done with the tensor.
            tensor = self._load(name).to(torch.float32, copy=True).contiguous()
        except DictionaryError:
            raise
        except Exception as problem:  # each reader has errors of its own for a damaged file
            raise damaged(self.file, problem) from problem
        if not bool(torch.isfinite(tensor.sum())) and (odd := int((~torch.isfinite(tensor)).sum())):
            raise DictionaryError(
                f"The tensor {name} in {self.file} is not finite in {odd:,} of its {tensor.numel():,} entries; "
                "get the file again."
            )
        return tensor

    def number(self, name: str) -> float:
        """The only entry of a tensor. Raises `DictionaryError` as `take` does."""
        shape = self._shape(name)
        if shape not in ((), (1,)):
            raise DictionaryError(f"The tensor {name} in {self.file} has shape {shape}, but it must be one number.")
        return float(self.take(name, *shape))

    def dtype(self, name: str) -> str:
        """Number format of a tensor as it is stored (``float32``)."""
        return self._dtypes.get(name, "float32")

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self.shapes:
            raise DictionaryError(f"The tensor {name} is missing in {self.file}; it has {_list(self.shapes)}.")
        return self.shapes[name]


def damaged(file: Path, problem: BaseException | str) -> DictionaryError:
    """The error for a file that cannot be read."""
    words = str(problem).strip().splitlines()[0][:200] if str(problem).strip() else type(problem).__name__
    return DictionaryError(f"{file} is cut short or damaged ({words.rstrip('.')}); get it again.")


def require_memory(tensors: StoredTensors) -> None:
    """Refuse what does not fit: the tensors in float32, and as much again while they are turned round.

    Raises:
        ModelError: both numbers.
    """
    entries = sum(int(np.prod(shape, dtype=object)) for shape in tensors.shapes.values())
    memory.require(2 * 4 * entries, "cpu", what=f"Opening {tensors.file}")


def read_safetensors(file: Path) -> StoredTensors:
    """What a safetensors file holds. Raises `DictionaryError`: it is cut short or none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  it is no mapping
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            dtypes = {name: _SAFETENSORS_DTYPES.get(part.get_dtype(), "") for name, part in parts.items()}
    except (SafetensorError, OSError) as problem:
        raise damaged(file, problem) from problem

    def load(name: str) -> Tensor:
        try:
            with safe_open(str(file), framework="pt") as opened:
                found: Tensor = opened.get_tensor(name)
                return found
        except SafetensorError as problem:
            raise damaged(file, problem) from problem

    return StoredTensors(file, shapes, load, dtypes)


def read_npz(file: Path) -> StoredTensors:
    """What an npz file holds. Raises `DictionaryError`: it is cut short, none, or has pickled arrays."""
    shapes, dtypes = {}, {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                with archive.open(member) as content:
                    version = np.lib.format.read_magic(content)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else _read_header_2
                    shape, _, dtype = read(content)
                if dtype.hasobject:
                    raise DictionaryError(f"{file} holds pickled objects, which can run code, so it is not opened.")
                name = member.removesuffix(".npy")
                shapes[name], dtypes[name] = tuple(shape), str(dtype)
    except DictionaryError:
        raise
    except Exception as problem:  # what a damaged archive raises is anything that zlib, zipfile and numpy raise
        raise damaged(file, problem) from problem

    def load(name: str) -> Tensor:
        with np.load(file, allow_pickle=False) as archive:
            return torch.from_numpy(archive[name])

    return StoredTensors(file, shapes, load, dtypes)


def read_pt(file: Path) -> StoredTensors:
    """What a ``.pt`` file of tensors by name holds.

    Raises:
        DictionaryError: it needs code to be read, is cut short, or holds something else than tensors by name.
    """
    hostile = DictionaryError(
        f"{file} would run code when it is read, so it is not opened; save its state dict alone, "
        "or convert it to safetensors."
    )
    try:
        archived = zipfile.is_zipfile(file)
        with open(file, "rb") as start:
            pickled = start.read(1) == b"\x80"
    except (OSError, zipfile.BadZipFile) as problem:
        raise damaged(file, problem) from problem
    if not archived:  # what torch.save writes since 2020 is an archive; other pickles could do anything
        raise hostile if pickled else damaged(file, "it is no PyTorch archive")
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise hostile from None
    except Exception as problem:  # a damaged pickle raises whatever its instructions come to
        raise damaged(file, problem) from problem
    if isinstance(content, dict) and isinstance(content.get("ae"), dict) and "step" in content:
        raise DictionaryError(
            f"{file} is a backup of unfinished training and not a dictionary: it was written before the activations' "
            "scale was put back; finish the training, or open one of its checkpoints."
        )
    if not isinstance(content, dict) or not all(_is_plain(value) for value in content.values()):
        raise DictionaryError(f"{file} does not hold tensors by name; save the dictionary's state dict.")
    tensors: dict[str, Tensor] = {str(name): value for name, value in content.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    return StoredTensors(file, shapes, tensors.__getitem__, dtypes)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `DictionaryError`: there is none."""
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise DictionaryError(f"{file.parent} has no {file.name}, without which its weights cannot be read.") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise damaged(file, problem) from problem
    if not isinstance(found, dict):
        raise DictionaryError(f"{file} does not describe a dictionary; get it again.")
    return found


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file of plain data. Raises `DictionaryError`: there is none."""
    import yaml

    try:
        found = yaml.safe_load(file.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as problem:
        raise damaged(file, problem) from problem
    if not isinstance(found, dict):
        raise DictionaryError(f"{file} does not describe a dictionary; get it again.")
    return found


def whole(values: Mapping[str, Any], key: str, file: Path, *, least: int = 1) -> int:
    """A whole number of a config. Raises `DictionaryError`: it is missing, no whole number or below ``least``."""
    value = values.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise DictionaryError(f"{file} has {key} = {json.dumps(value)}, but it must be a whole number from {least} up.")
    return value


def words(values: Mapping[str, Any], key: str) -> str:
    """A text of a config; empty where it has none."""
    value = values.get(key)
    return value if isinstance(value, str) else ""


def unknown(
    what: str, value: object, known: Mapping[str, Any] | list[str] | tuple[str, ...], file: Path
) -> DictionaryError:
    """The error for an architecture, activation or class that is not known here."""
    return DictionaryError(
        f"{file} has the {what} “{value}”, which Superscope cannot compute; it knows {', '.join(known)}."
    )


def _is_plain(value: object) -> bool:
    """A dense tensor of real numbers."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_quantized
        and not value.is_complex()
        and not value.is_meta
    )


def _read_header_2(content: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    shape, order, dtype = np.lib.format.read_array_header_2_0(content)
    return shape, order, dtype


def _list(names: Mapping[str, Any]) -> str:
    some = sorted(names)[:8]
    return (", ".join(some) + (", …" if len(names) > len(some) else "")) or "none at all"


_SAFETENSORS_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
