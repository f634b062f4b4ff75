"""The header of a GGUF file: what the model is, and whether the file is whole, in milliseconds.

The `gguf` package reads every token of the vocabulary into an array of its own, which takes
seconds; here only the facts are read, and each length is checked against the file's before it is used.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.models.errors import ModelError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32
_MOST = 10_000_000  # tensors or entries; a count beyond it is damage, not a model


@dataclass(frozen=True)
class Tensor:
    """One stored tensor: ``shape`` in GGUF's order (fastest first), ``kind`` as in ggml ("Q4_1"), size in bytes."""

    name: str
    shape: tuple[int, ...]
    kind: str
    size: int

    @property
    def elements(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself. An array's value in ``values`` is its length."""

    version: int
    values: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(tensor.elements for tensor in self.tensors)

    def of_model(self, name: str, otherwise: Any = None) -> Any:
        """The value ``<architecture>.<name>`` (``block_count``, ``embedding_length``)."""
        return self.values.get(f"{self.architecture}.{name}", otherwise)


class _Short(Exception):
    """The file ends before what it announces."""


class _Damaged(Exception):
    """Something in the header cannot be."""


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Raises:
        ModelError: the file is missing, is no GGUF file, is cut short or is damaged; the sentence says which.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            if len(start) >= 4 and start[:4] != b"GGUF":
                raise ModelError(f"{path} is no GGUF file (it does not begin with “GGUF”); choose another file.")
            if len(start) < 8:
                raise ModelError(f"{path} is cut short: it has only {len(start)} bytes; download it again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(content).read()
    except FileNotFoundError:
        raise ModelError(f"There is no file {path}; check the path or choose the file again.") from None
    except IsADirectoryError:
        raise ModelError(f"{path} is a folder, not a GGUF file; choose a file.") from None
    except _Short as problem:
        raise ModelError(f"{path.name} is cut short: {problem}; download it again.") from None
    except (_Damaged, UnicodeDecodeError) as problem:
        raise ModelError(f"{path.name} is damaged ({problem}); download it again.") from None
    except OSError as problem:
        raise ModelError(f"{path} cannot be read ({problem.strerror or problem}); choose another file.") from problem


class _Reader:
    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.at = 4

    def read(self) -> GgufHeader:
        version = self._number("I")
        if version not in (2, 3):
            if version in (0x02000000, 0x03000000):
                raise _Damaged("it is written for a big-endian machine, which is not supported")
            raise _Damaged(f"it has version {version}, and only 2 and 3 are known")
        tensors, entries = self._number("Q"), self._number("Q")
        if tensors > _MOST or entries > _MOST:
            raise _Damaged(f"it announces {tensors} tensors and {entries} entries")
        values: dict[str, Any] = {}
        for _ in range(entries):
            key = self._string()
            values[key] = self._value(self._number("I"))
        infos = [self._info() for _ in range(tensors)]
        self._check_length(infos, values)
        return GgufHeader(version, values, tuple(tensor for tensor, _ in infos))

    def _take(self, length: int) -> int:
        at = self.at
        if length > len(self.content) - at:
            raise _Short(f"its header goes on after its end at {len(self.content)} bytes")
        self.at = at + length
        return at

    def _number(self, code: str) -> Any:
        return struct.unpack_from("<" + code, self.content, self._take(struct.calcsize("<" + code)))[0]

    def _string(self) -> str:
        length = self._number("Q")
        at = self._take(length)
        return self.content[at : at + length].decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise _Damaged(f"an entry is of the unknown type {kind}")
        inner, length = self._number("I"), self._number("Q")
        if inner in _SCALARS:
            self._take(length * struct.calcsize("<" + _SCALARS[inner]))
        elif inner == _STRING:
            for _ in range(length):
                self._take(self._number("Q"))
        else:
            raise _Damaged(f"a list is of the unknown type {inner}")
        return length

    def _info(self) -> tuple[Tensor, int]:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name, dimensions = self._string(), self._number("I")
        if dimensions > 8:
            raise _Damaged(f"the tensor {name} has {dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        number = self._number("I")
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise _Damaged(f"the tensor {name} has the unknown type {number}") from None
        block, stored = GGML_QUANT_SIZES[kind]
        tensor = Tensor(name, shape, kind.name, 0)
        size = tensor.elements // block * stored
        return Tensor(name, shape, kind.name, size), self._number("Q")

    def _check_length(self, infos: list[tuple[Tensor, int]], values: dict[str, Any]) -> None:
        alignment = values.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise _Damaged(f"its alignment is {alignment}")
        start = -(-self.at // alignment) * alignment
        needed = max((start + offset + tensor.size for tensor, offset in infos), default=self.at)
        if needed > len(self.content):
            raise _Short(f"it has {len(self.content):,} bytes of the {needed:,} that its header announces")
