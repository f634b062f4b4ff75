"""The movie of a figure: its frames at log-spaced steps of a run, in a form that only grows.

Layout of ``movies/<name>/`` in a recording::

    movie.json        {"kind", "spec", "stacks": {array: [dtype, shape of one frame]}}
    fixed.npz         arrays of text, which all frames share
    <array>.raw       one frame after another as float32 (uint8 and bool as they are), only appended
    steps.f64         little-endian float64, appended last: a frame without its step is not there
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine import files
from engine.errors import SuperscopeError
from engine.figures.kinds import Figure, pack, unpack

Array: TypeAlias = npt.NDArray[Any]
STEP = 8  # bytes of a step


class MovieError(SuperscopeError):
    """A frame does not fit the frames before it."""


@dataclass(frozen=True)
class Movie:
    """The frames of one figure.

    Attributes:
        kind, spec: of every frame, as `engine.figures.kinds.pack` gives them.
        steps: (frames,) float64, rising.
        fixed: arrays that all frames share;  stacks: arrays by name with the frames on the first axis, read
            when they are indexed.
    """

    kind: str
    spec: dict[str, Any]
    steps: Array
    fixed: Mapping[str, Array] = field(default_factory=dict)
    stacks: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.steps)

    def at(self, step: float) -> int:
        """Number of the last frame at or before ``step``; the first where all are later."""
        return max(int(np.searchsorted(self.steps, step, side="right")) - 1, 0)

    def frame(self, number: int) -> Figure:
        """One frame. Raises `FigureError` where its parts do not fit each other."""
        arrays = {name: np.array(stack[number]) for name, stack in self.stacks.items()}
        return unpack(self.kind, self.spec, {**self.fixed, **arrays})

    def frames(self) -> Iterator[Figure]:
        """All frames in order."""
        return (self.frame(number) for number in range(len(self)))


class MovieWriter:
    """Appends frames to the movie in ``folder``; one that was recorded before goes on.

    A frame at or before the last one's step takes the place of all from there on: a resumed run shows them again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._form: tuple[str, dict[str, Any], dict[str, Any]] | None = None
        self._fixed: dict[str, Array] = {}
        self._steps: list[float] = []
        if (folder / "movie.json").exists():
            stored = read(folder)
            form = json.loads((folder / "movie.json").read_bytes())
            self._form = (stored.kind, stored.spec, form["stacks"])
            self._fixed, self._steps = dict(stored.fixed), stored.steps.tolist()

    def append(self, step: float, figure: Figure) -> None:
        """Add ``figure`` as the frame of ``step``.

        Raises:
            MovieError: its kind, its texts or the shape of an array differ from those of the frames before.
            DiskError: it cannot be written.
        """
        kind, spec, arrays = pack(figure)
        spec = json.loads(json.dumps(spec))  # as it is read again
        fixed = {name: array for name, array in arrays.items() if array.dtype.kind in "US"}
        moving = {name: _compact(array) for name, array in arrays.items() if name not in fixed}
        form = (kind, spec, {name: [array.dtype.str, list(array.shape)] for name, array in moving.items()})
        if self._form is None:
            self._begin(form, fixed)
        self._check(figure.title, form, fixed)
        keep = int(np.searchsorted(self._steps, step))
        if keep < len(self._steps):
            self._cut(keep, moving)
        for name, array in moving.items():
            files.append(self._folder / f"{name}.raw", array.tobytes())
        files.append(self._folder / "steps.f64", np.array([step], "<f8").tobytes())
        self._steps.append(float(step))

    def _begin(self, form: tuple[str, dict[str, Any], dict[str, Any]], fixed: dict[str, Array]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **fixed)  # type: ignore[arg-type]
        files.write_bytes(self._folder / "fixed.npz", buffer.getvalue(), durable=False)
        header = dict(zip(("kind", "spec", "stacks"), form, strict=True))
        files.write_bytes(self._folder / "movie.json", json.dumps(header, ensure_ascii=False).encode(), durable=False)
        self._form, self._fixed = form, fixed

    def _check(self, title: str, form: tuple[str, Any, Any], fixed: dict[str, Array]) -> None:
        assert self._form is not None
        same = fixed.keys() == self._fixed.keys() and all(np.array_equal(fixed[n], self._fixed[n]) for n in fixed)
        if json.dumps(form, sort_keys=True) != json.dumps(self._form, sort_keys=True) or not same:  # NaN equals itself
            raise MovieError(
                f"The frames of “{title}” differ in more than their numbers, so they make no movie: "
                "title, axes, texts and shapes have to stay the same."
            )

    def _cut(self, keep: int, moving: dict[str, Array]) -> None:
        """Drop the frames from number ``keep`` on, their steps first."""
        sizes = {"steps.f64": STEP, **{f"{name}.raw": array.nbytes for name, array in moving.items()}}
        for name, size in sizes.items():
            try:
                with open(self._folder / name, "r+b") as out:
                    out.truncate(keep * size)
            except OSError as problem:
                raise files.explain(problem, self._folder / name) from problem
        del self._steps[keep:]


def _compact(array: Array) -> Array:
    """Numbers as float32, which a picture does not tell from float64; bytes and truths as they are."""
    keep = array.dtype == np.uint8 or array.dtype.kind == "b"
    return np.array(array, dtype=array.dtype if keep else np.float32, order="C")


def mend(folder: Path) -> None:
    """Cut off what a kill has left of an unfinished frame in the movie in ``folder``."""
    try:
        form = json.loads((folder / "movie.json").read_bytes())
        steps = (folder / "steps.f64").stat().st_size // STEP
    except FileNotFoundError:
        return
    sizes = {"steps": STEP, **{name: _bytes(*entry) for name, entry in form["stacks"].items()}}
    for name, size in sizes.items():
        path = folder / ("steps.f64" if name == "steps" else f"{name}.raw")
        if path.exists() and path.stat().st_size > steps * size:
            with open(path, "r+b") as out:
                out.truncate(steps * size)


def _bytes(dtype: str, shape: list[int]) -> int:
    return int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))


def read(folder: Path) -> Movie:
    """The movie in ``folder``, while it grows or after a kill; frames are memory-mapped.

    Raises:
        FileNotFoundError: there is none.
    """
    form = json.loads((folder / "movie.json").read_bytes())
    steps: Array = np.empty(0)
    if (folder / "steps.f64").exists():
        content = (folder / "steps.f64").read_bytes()
        steps = np.frombuffer(content[: len(content) // STEP * STEP], dtype="<f8")
    with np.load(folder / "fixed.npz", allow_pickle=False) as stored:
        fixed = {name: stored[name] for name in stored.files}
    stacks: dict[str, Any] = {}
    for name, (dtype, shape) in form["stacks"].items():
        whole = (len(steps), *shape)
        if len(steps) and all(shape):
            stacks[name] = np.memmap(folder / f"{name}.raw", dtype=dtype, mode="r", shape=whole)
        else:
            stacks[name] = np.empty(whole, dtype=dtype)
    return Movie(form["kind"], form["spec"], steps, fixed, stacks)
