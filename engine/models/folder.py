"""A Hugging Face model folder, looked at before anything in it is loaded: is it whole, how large, safe to open."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.models.errors import ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2}
_BYTES |= {"I8": 1, "U8": 1, "BOOL": 1, "U16": 2, "U32": 4, "U64": 8}
_LONGEST_HEADER = 100_000_000  # bytes; safetensors' own bound
_WHOLE = 64_000_000  # bytes up to which a file goes into the fingerprint as a whole
_SAMPLES, _SAMPLE = 64, 4096  # else so many places of so many bytes each


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds. ``parameters`` counts stored weights; ``size`` is their bytes."""

    path: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    parameters: int
    size: int


def inspect(path: Path) -> ModelFolder:
    """Look at the model folder ``path``: its config, and the header and length of each weights file.

    Raises:
        ModelError: it is no model folder, a file is missing, cut short or damaged, or its weights are
            there only as pickle files; the sentence says which.
    """
    if not path.exists():
        raise ModelError(f"There is no folder {path}; check the path or choose the folder again.")
    if not path.is_dir():
        raise ModelError(f"{path} is neither a folder nor a .gguf file; choose a Hugging Face model folder.")
    config = _json(path / "config.json", path)
    weights = _weights(path)
    parameters = size = 0
    for file in weights:
        elements, length = _read_header(file)
        parameters += elements
        size += length
    return ModelFolder(path, config, weights, parameters, size)


def fingerprint(folder: ModelFolder) -> str:
    """SHA-256 over the config, and over each weights file: all of it, of large ones header and samples.

    It is instant for a model of any size, and two checkpoints of one model differ in it.
    """
    digest = hashlib.sha256(json.dumps(folder.config, sort_keys=True).encode())
    for file in folder.weights:
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with open(file, "rb") as content:
            if size <= _WHOLE:
                digest.update(content.read())
                continue
            header = struct.unpack("<Q", content.read(8))[0]
            digest.update(content.read(header))
            room = size - 8 - header - _SAMPLE
            for number in range(_SAMPLES):
                content.seek(8 + header + room * number // (_SAMPLES - 1))
                digest.update(content.read(_SAMPLE))
    return digest.hexdigest()


def stamp(folder: ModelFolder) -> str:
    """Changes whenever one of the folder's weights files or its config is written."""
    files = (folder.path / "config.json", *folder.weights)
    return " ".join(f"{file.stat().st_mtime_ns}:{file.stat().st_size}" for file in files)


def _json(file: Path, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"{folder} is no model folder: it has no {file.name}; choose a folder saved by transformers."
        ) from None
    except (ValueError, OSError) as problem:
        raise ModelError(f"{file} cannot be read ({problem}); get the folder again.") from problem
    if not isinstance(found, dict):
        raise ModelError(f"{file} does not describe a model; get the folder again.")
    return found


def _weights(path: Path) -> tuple[Path, ...]:
    if (path / INDEX).is_file():
        listed = _json(path / INDEX, path).get("weight_map")
        names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
        for name in names:
            if Path(name).name != name:
                raise ModelError(f"{path / INDEX} points outside its folder ({name}), so it is not opened.")
            if not (path / name).is_file():
                raise ModelError(f"{path} is not complete: {name} is missing; get the folder again.")
        if names:
            return tuple(path / name for name in names)
    if (path / WEIGHTS).is_file():
        return (path / WEIGHTS,)
    pickled = sorted(file.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in path.glob(kind))
    if pickled:
        raise ModelError(
            f"{path.name} has its weights only as pickle files ({pickled[0]}), which can run code when they are read; "
            "convert them to safetensors or choose a repository that has them."
        )
    raise ModelError(f"{path} has no {WEIGHTS}; choose a folder that transformers saved with its weights.")


def _read_header(file: Path) -> tuple[int, int]:
    """Number of elements and bytes in a safetensors file."""
    size = file.stat().st_size
    try:
        with open(file, "rb") as content:
            start = content.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if 8 + length > size or length > _LONGEST_HEADER:
                raise ModelError(f"{file} is cut short or no safetensors file; get it again.")
            header = json.loads(content.read(length))
        elements = end = 0
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            first, last = tensor["data_offsets"]
            elements += (last - first) // _BYTES.get(tensor["dtype"], 1)
            end = max(end, last)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ModelError(f"{file} is damaged: its header cannot be read ({problem}); get it again.") from None
    if 8 + length + end > size:
        raise ModelError(
            f"{file} is cut short: it has {size:,} bytes of the {8 + length + end:,} that its header announces; "
            "get it again."
        )
    return elements, end
