"""Logits at the end of prompts, with one edit after another at one hook point: what all passes share is run once.

Prompts of numbers begin alike, often with examples, and every method of a causal test is tried on the same prompts. Tokens
before the first edited one, and blocks below the hook point, give the same each time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models.decoding import keeps
from engine.models.editing import Change, Edit, edited_logits, nudge, plain_logits, probe
from engine.models.errors import ModelError

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
ChangeOf: TypeAlias = Callable[[Array], Change]
BATCH = 32  # prompts in one forward pass, between which a run can be stopped


def passes(
    model: OpenModel,
    ids: Array,
    ends: Array,
    *,
    hook: str = "",
    positions: Array | None = None,
    changes: Sequence[ChangeOf] = (),
    run: Run | None = None,
) -> Iterator[tuple[Array, int, Tensor]]:
    """Batch by batch the logits at ``ends`` without an edit, then with each of ``changes`` at ``hook``.

    Args:
        ids: (rows, length) tokens, padded on the right.
        ends: (rows,) position whose logits are wanted.
        positions: (rows,) position that is edited.
        changes: each gives for the rows of a batch what is done to their activations (rows, width) at ``positions``.

    Yields:
        Rows of ``ids``; 0 without an edit, else 1 + the number of the change; logits (rows, vocabulary) float32 on the CPU.

    Raises:
        ModelError: there is no such hook point, it has no vector per token, or the prompts are too long.
    """
    if hook:
        model.check_hook(hook)
    longest = int(ends.max()) + 1
    if longest > model.facts.context:
        raise ModelError(
            f"A prompt has {longest:,} tokens, but {model.facts.title} reads at most {model.facts.context:,}; shorten it."
        )
    edited = ends if positions is None else positions
    shared = _alike(ids, min(int(edited.min()), int(ends.min())))
    blocks = _blocks(model, hook, shared)
    front = None if blocks is None or not shared else _front(model, torch.from_numpy(ids[:1, :shared]))
    for first in range(0, len(ids), BATCH):
        rows = np.arange(first, min(first + BATCH, len(ids)))
        last = int(ends[rows].max()) + 1  # what follows is padding
        where = torch.from_numpy(np.arange(last) == edited[rows, None]).to(model.device)
        tokens = torch.from_numpy(ids[rows, :last]).to(model.device)
        wanted = torch.from_numpy(ends[rows])
        whole: Callable[[Sequence[Edit]], Tensor]
        if blocks is None:
            whole, begin = _long(model, tokens), 0
        else:
            begin = min(int(ends[rows].min()), last - 1)
            whole = _short(model, tokens[:, shared:], front, blocks, last - begin)
        for number, change in enumerate((None, *changes)):
            if run is not None:
                run.point()
            cut = 0 if blocks is None else shared
            edits = [] if change is None else [Edit(hook, change(rows), where[:, cut:])]
            logits = whole(edits)
            yield rows, number, logits[torch.arange(len(rows)), (wanted - begin).to(logits.device)].float().cpu()


def _alike(ids: Array, most: int) -> int:
    """How many tokens all rows begin with, at most ``most``."""
    differ = np.flatnonzero((ids[:, :most] != ids[:1, :most]).any(axis=0))
    return int(differ[0]) if len(differ) else most


def _long(model: OpenModel, tokens: Tensor) -> Callable[[Sequence[Edit]], Tensor]:
    return lambda edits: edited_logits(model, tokens, edits)


def _short(model: OpenModel, tokens: Tensor, front: Any, blocks: int, last: int) -> Callable[[Sequence[Edit]], Tensor]:
    """Passes over ``tokens`` after the keys and values ``front``; the first one is to be without edits."""
    plain = model.plain
    assert plain is not None
    lower: list[Any] = []

    def run(edits: Sequence[Edit]) -> Tensor:
        past = _behind(model, front, len(tokens))
        if not lower and not edits and blocks:
            with model.lock:
                logits, found = plain.lower(tokens, blocks, past=past, last=last)
            lower.append(found)
            return logits
        made = plain_logits(model, tokens, edits, past=past, last=last, lower=lower[0] if lower else None)
        assert made is not None
        return made

    return run


def _front(model: OpenModel, ids: Tensor) -> Any:
    """Keys and values of ``ids`` (1, position)."""
    plain = model.plain
    assert plain is not None
    past = plain.cache()
    plain_logits(model, ids.to(model.device), [], past=past, last=1)
    return past


def _behind(model: OpenModel, front: Any, rows: int) -> Any:
    """An own store for ``rows`` prompts that begin with ``front``; None for an empty one."""
    assert model.plain is not None
    past = model.plain.cache()
    if front is not None:
        past.layers = [_repeated(layer, rows) for layer in front.layers]
    return past


def _repeated(layer: Any, rows: int) -> Any:
    found = copy.copy(layer)
    found.keys, found.values = (part.expand(rows, -1, -1, -1) for part in (layer.keys, layer.values))
    return found


def _blocks(model: OpenModel, hook: str, shared: int) -> int | None:
    """How many of the lowest blocks run once for all edits at ``hook``; None where whole passes have to be made.

    Never assumed: on a probe both ways have to give the same.
    """
    if not keeps(model, [hook] if hook else []):
        return None
    plain, point = model.plain, model.hook_point(hook) if hook else None
    assert plain is not None
    blocks = 0
    if point is not None and point.layer is not None:
        blocks = point.layer + (point.canonical == f"blocks.{point.layer}.hook_out")
    tokens = probe(model)
    tokens = torch.cat([tokens, tokens])
    length = tokens.shape[1]
    cut = min(shared, length // 2)
    tokens[1, cut:] = tokens[1, cut:].flip(0)
    edits = [Edit(hook, nudge, torch.arange(length, device=tokens.device).expand(2, -1) == cut)] if hook else []
    last = (length - cut + 1) // 2

    def short() -> Tensor | None:
        front = _front(model, tokens[:1, :cut]) if cut else None
        again = _short(model, tokens[:, cut:], front, blocks, last)
        again([])
        return again(
            [Edit(edit.hook, edit.change, None if edit.where is None else edit.where[:, cut:]) for edit in edits]
        )

    with model.lock:
        agreed = plain.agrees(
            f"{cut} tokens and {blocks} blocks once at {hook or 'no hook point'}",
            short,
            lambda: edited_logits(model, tokens, edits)[:, -last:],
        )
    return blocks if agreed else None
