"""The same contexts run again and again, with one edit after another at one hook point.

Blocks below the hook point give the same each time, so they run once; and logits are computed of those positions only
that are asked for. Both are done only where they give on a probe what whole passes give.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.models.editing import Edit, edited_logits, is_plain, nudge, plain_logits, probe
from engine.models.plain import Lower

if TYPE_CHECKING:
    from engine.models.opening import OpenModel


class Repeated:
    """Contexts (batch, position) of which logits are asked for again and again.

    Args:
        model: the model.
        ids: token ids (batch, position).
        hook: where all edits will be.
        at: positions (n,) whose logits are wanted, ascending; None for all.
        keep: whether what the lower blocks gave may be held on to, which takes as many bytes as activations at one hook
            point.

    Raises:
        ModelError: there is no such hook point, or it has no vector per token.
    """

    def __init__(
        self, model: OpenModel, ids: Tensor, hook: str, *, at: Tensor | None = None, keep: bool = True
    ) -> None:
        model.check_hook(hook)
        self._model, self._ids, self._at = model, ids, at
        self._short = picks(model, hook)
        self._blocks = spared_blocks(model, hook) if keep and self._short else 0
        self._lower: Lower | None = None

    def logits(self, edits: Sequence[Edit] = ()) -> Tensor:
        """Logits (batch, n, vocabulary), float32, with ``edits`` in place, all of them at the hook point.

        What later calls are spared is kept from the first one without edits.
        """
        if not self._short or self._ids.shape[1] > self._model.facts.context:  # the latter is said by the long way
            found = edited_logits(self._model, self._ids, edits)
            return found if self._at is None else found[:, self._at.to(found.device)]
        ids, last = self._ids.to(self._model.device), 0 if self._at is None else self._at.to(self._model.device)
        plain = self._model.plain
        assert plain is not None
        if not edits and self._blocks and self._lower is None:
            with self._model.lock:
                logits, self._lower = plain.lower(ids, self._blocks, past=None, last=last)
            return logits.float()
        short = plain_logits(self._model, ids, edits, last=last, lower=self._lower)
        assert short is not None
        return short.float()


def picks(model: OpenModel, hook: str) -> bool:
    """Whether the model runs without wrappers with edits at ``hook``, and gives logits of single positions."""
    plain = model.plain
    if plain is None or not is_plain(model, [hook]):
        return False
    tokens = _rows(model)
    at = _some(tokens)
    with model.lock:
        return plain.agrees(
            "logits of some positions",
            lambda: plain_logits(model, tokens, [], last=at),
            lambda: edited_logits(model, tokens, [])[:, at],
        )


def spared_blocks(model: OpenModel, hook: str) -> int:
    """How many of the lowest blocks need not run again with another edit at ``hook``; 0 for none."""
    point, plain = model.hook_point(hook), model.plain
    if point.layer is None or plain is None or not is_plain(model, [hook]):
        return 0
    blocks = point.layer + (point.canonical == f"blocks.{point.layer}.hook_out")
    if not blocks:
        return 0
    tokens, edits = _rows(model), [Edit(hook, nudge)]
    at = _some(tokens)

    def upper() -> Tensor | None:
        _, lower = plain.lower(tokens, blocks, past=None)
        return plain_logits(model, tokens, edits, last=at, lower=lower) if lower is not None else None

    with model.lock:
        agreed = plain.agrees(
            f"{blocks} blocks once at {hook}", upper, lambda: edited_logits(model, tokens, edits)[:, at]
        )
    return blocks if agreed else 0


def _rows(model: OpenModel) -> Tensor:
    """Two rows of different tokens."""
    tokens = probe(model)
    return torch.cat([tokens, tokens.flip(1)])


def _some(tokens: Tensor) -> Tensor:
    """Positions that are neither all of ``tokens`` nor its last ones."""
    length = tokens.shape[1]
    return torch.arange(0, max(length - 1, 1), 2, device=tokens.device)
