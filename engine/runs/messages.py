"""What window and engine process say to each other, and how it travels through a pipe.

Each message is a dataclass. On the wire it is 12 bytes of lengths (of the JSON header, uint32, and
of the array bytes, uint64, little-endian), a JSON header with the message's type and plain fields,
and the raw bytes of its arrays. No pickle, no socket.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, fields
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Figure, pack, unpack
from engine.runs.run import Progress

Array: TypeAlias = npt.NDArray[Any]
PREFIX = struct.Struct("<IQ")


# ---- window → engine


@dataclass(frozen=True)
class Start:
    """Queue a run. ``folder`` is where its recording goes (``WORK/runs/<run>``)."""

    run: str
    experiment: str
    parameters: dict[str, Any]
    folder: str
    title: str = ""
    sweep: str = ""
    resume: bool = False


@dataclass(frozen=True)
class Pause:
    run: str


@dataclass(frozen=True)
class Continue:
    run: str


@dataclass(frozen=True)
class Stop:
    """Stop a running, paused or queued run; what it has kept stays."""

    run: str


@dataclass(frozen=True)
class Act:
    """Do ``action``, as the run's experiment declares it, between two batches of a running or paused run."""

    run: str
    action: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Move:
    """Put a queued run at ``place`` (0 is next)."""

    run: str
    place: int


@dataclass(frozen=True)
class Ask:
    """A look: run ``experiment`` at once for panel ``panel``, replacing that panel's earlier look."""

    look: int
    panel: str
    experiment: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Cancel:
    """Forget a look."""

    look: int


@dataclass(frozen=True)
class UseSession:
    """The session's work folder changed; looks find ``toy:RUN`` models there."""

    work: str


@dataclass(frozen=True)
class Shutdown:
    """End: stop what runs (checkpointing where the experiment can), then leave."""


# ---- engine → window


@dataclass(frozen=True)
class Hello:
    """First message: the engine's process id and versions."""

    pid: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Catalogue:
    """`Experiment.describe` of every experiment."""

    experiments: list[dict[str, Any]]


@dataclass(frozen=True)
class StateChanged:
    """A run's record (`RunRecord.to_json`) after its state or facts changed."""

    run: str
    record: dict[str, Any]


@dataclass(frozen=True)
class Progressed:
    run: str
    progress: Progress


@dataclass(frozen=True)
class Measured:
    """New metric rows (n, 3) float64 by metric name."""

    run: str
    rows: dict[str, Array]


@dataclass(frozen=True)
class Shown:
    """A figure of a run; the latest of a name wins. ``step`` where it is a frame of its movie, in the recording."""

    run: str
    name: str
    figure: Figure
    step: float | None = None


@dataclass(frozen=True)
class Kept:
    """An array was kept; it is in the recording."""

    run: str
    name: str
    shape: list[int]
    dtype: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Produced:
    """A thing was produced; its arrays are in the recording."""

    run: str
    section: str
    id: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Logged:
    """A line for the log; ``run`` is "" where it belongs to none."""

    run: str
    level: str
    text: str


@dataclass(frozen=True)
class Answered:
    """A look's result: its figures by name and its facts, or ``error`` (one sentence)."""

    look: int
    panel: str
    figures: dict[str, Figure]
    facts: dict[str, Any]
    kept: dict[str, Array] = field(default_factory=dict)
    error: str = ""
    traceback: str = ""
    done: bool = True


@dataclass(frozen=True)
class LookProgressed:
    """How far a look is (opening a model takes a while the first time)."""

    look: int
    panel: str
    progress: Progress


Message: TypeAlias = (
    Start | Pause | Continue | Stop | Act | Move | Ask | Cancel | UseSession | Shutdown | Hello | Catalogue
    | StateChanged | Progressed | Measured | Shown | Kept | Produced | Logged | Answered | LookProgressed
)  # fmt: skip
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Start, Pause, Continue, Stop, Act, Move, Ask, Cancel, UseSession, Shutdown, Hello, Catalogue, StateChanged,
        Progressed, Measured, Shown, Kept, Produced, Logged, Answered, LookProgressed,
    )
}  # fmt: skip


def encode(message: Message) -> bytes:
    """One frame: prefix, JSON header, array bytes.

    Raises:
        TypeError: an array holds Python objects, which cannot travel.
    """
    arrays: list[Array] = []
    values = {entry.name: _lower(getattr(message, entry.name), arrays) for entry in fields(message)}
    described = [[array.dtype.str, list(array.shape)] for array in arrays]
    text = json.dumps([type(message).__name__, values, described], ensure_ascii=False, default=_plain)
    # surrogatepass: file names that are no UTF-8 reach Python as lone surrogates
    header = text.encode("utf-8", "surrogatepass")
    parts = [array.tobytes() for array in arrays]
    return b"".join([PREFIX.pack(len(header), sum(map(len, parts))), header, *parts])


def read(stream: BinaryIO) -> Message | None:
    """The next message of ``stream``; None at its end, or where it breaks off."""
    prefix = _exactly(stream, PREFIX.size)
    if prefix is None:
        return None
    header_size, body_size = PREFIX.unpack(prefix)
    header, body = _exactly(stream, header_size), _exactly(stream, body_size)
    if header is None or body is None:
        return None
    name, values, described = json.loads(header)
    arrays, offset = [], 0
    for dtype, shape in described:
        kind, count = np.dtype(dtype), int(np.prod(shape, dtype=np.int64))
        flat = (
            np.frombuffer(body, dtype=kind, count=count, offset=offset) if count * kind.itemsize else np.empty(0, kind)
        )
        arrays.append(flat.reshape(shape))
        offset += count * kind.itemsize
    message: Message = _TYPES[name](**{key: _raise(value, arrays) for key, value in values.items()})
    return message


def _exactly(stream: BinaryIO, size: int) -> bytes | None:
    chunks: list[bytes] = []
    while size > 0:
        chunk = stream.read(size)
        if not chunk:
            return None
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _lower(value: Any, arrays: list[Array]) -> Any:
    if isinstance(value, Figure):
        kind, spec, parts = pack(value)
        return {"$figure": [kind, spec, {name: _lower(part, arrays) for name, part in parts.items()}]}
    if isinstance(value, Progress):
        return {"$progress": [getattr(value, entry.name) for entry in fields(value)]}
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(f"an array of Python objects, shape {value.shape}, cannot be sent")
        arrays.append(np.asarray(value, order="C"))  # not ascontiguousarray: it turns () into (1,)
        return {"$array": len(arrays) - 1}
    if isinstance(value, dict):
        return {str(key): _lower(item, arrays) for key, item in value.items()}
    return value


def _raise(value: Any, arrays: list[Array]) -> Any:
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        return arrays[value["$array"]]
    if "$progress" in value:
        return Progress(*value["$progress"])
    if "$figure" in value:
        kind, spec, parts = value["$figure"]
        return unpack(kind, spec, {name: _raise(part, arrays) for name, part in parts.items()})
    return {key: _raise(item, arrays) for key, item in value.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)
