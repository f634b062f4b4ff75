"""Carry out ``store-activations``: capture in the text's order, into a file or into the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from engine.dictionaries.chunks import TOGETHER
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.sources import ModelSource
from engine.models import memory
from engine.models.opening import open_model
from engine.models.store import StoreDtype, to_store, write_store
from engine.runs.run import Run
from engine.text.corpora import open_corpus
from engine.text.tokens import contexts

if TYPE_CHECKING:
    from engine.dictionaries.store_activations import StoreActivations

Array: TypeAlias = npt.NDArray[Any]
ENDINGS = (".h5", ".hdf5")


def store(p: StoreActivations, run: Run) -> None:
    """Carry out the experiment ``store-activations``.

    Raises:
        DictionaryError: the file has another ending, or is there already.
        SuperscopeError: a model, text or hook point that cannot be read, a full disk, too little memory.
    """
    places = _places(p)
    run.stage(f"Opening {p.model}")
    model = open_model(p.model, device=p.device, dtype=p.dtype, run=run, work=run.work)
    text = contexts(
        open_corpus(p.text, work=run.work), model, tokens=p.tokens, context=p.context, prepend_bos=p.prepend_bos,
        include_special=p.include_special, run=run,
    )  # fmt: skip
    source = ModelSource(model, text, p.hook, p.hook_out)
    hooks = [p.hook, p.hook_out] if source.paired else [p.hook]
    attributes = {"model": p.model, "corpus": p.text, "dtype": p.stored}
    run.fact("text", text.facts)
    run.stage("Capturing activations")
    total = int(source.counts.sum())
    if places:
        passes = zip(hooks, places, (source.d_in, source.d_out), strict=False)
        for number, (hook, place, width) in enumerate(passes):
            rows = (pair[number] for pair in _captured(source, run, total))
            write_store(place, rows, width=width, dtype=p.stored, attributes=attributes | {"hook": hook})
        run.fact("files", [str(place) for place in places])
        run.say(f"{total:,} activations were written to {' and '.join(place.name for place in places)}.")
        return
    size = total * sum((source.d_in, source.d_out)[: len(hooks)]) * (4 if p.stored == "float32" else 2)
    memory.require(
        3 * size,
        "cpu",
        what=f"Keeping {total:,} activations in the session",
        way_out="name a file, or take fewer tokens",
    )
    kept = _gathered(source, run, total, len(hooks), p.stored)
    for number, (hook, array) in enumerate(zip(hooks, kept, strict=True)):
        id = run.id if number == 0 else f"{run.id}-out"
        run.produce("activations", id, attributes | {"hook": hook, "run": run.id}, {"data": array})
    run.fact("activations", total)


def _places(p: StoreActivations) -> list[Path]:
    """The files to write; none where activations are kept in the session."""
    if not p.file:
        return []
    path = Path(p.file).expanduser().absolute()
    if path.suffix.lower() not in ENDINGS:
        raise DictionaryError(
            f"Activations are written as {' or '.join(ENDINGS)}, not as {path.name}; change the name."
        )
    found = [path, path.with_stem(f"{path.stem}-out")] if p.hook_out and p.hook_out != p.hook else [path]
    for place in found:
        if place.exists():
            raise DictionaryError(f"There is something at {place} already; choose a new name.")
    return found


def _captured(source: ModelSource, run: Run, total: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Activations and targets in the text's order, a few contexts at a time; a place to pause."""
    used = np.flatnonzero(source.counts)
    began, done = run.seconds, 0
    for start in range(0, len(used), TOGETHER):
        run.point()
        x, y = source.harvest(used[start : start + TOGETHER])
        yield x, y
        done += len(x)
        run.progress(done, total, "activations", since=(0, began))


def _gathered(source: ModelSource, run: Run, total: int, sides: int, dtype: StoreDtype) -> list[Array]:
    """The sets as arrays (total, D) in the stored format, captured in one pass."""
    kept: list[Array] = [np.empty((0, 0))] * sides
    at = 0
    for pair in _captured(source, run, total):
        blocks = [to_store(some, some.shape[1], dtype, at) for some in pair if some is not None]
        if at == 0:
            kept = [np.empty((total, block.shape[1]), block.dtype) for block in blocks]
        for array, block in zip(kept, blocks, strict=True):
            array[at : at + len(block)] = block
        at += len(blocks[0])
    return kept
