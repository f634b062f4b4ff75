"""Decode token by token, with activations changed on the way: each token costs one position where the model allows it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from engine.models.editing import Edit, edited_logits, is_plain, nudge, plain_logits, probe
from engine.models.errors import ModelError
from engine.models.plain import Lower

if TYPE_CHECKING:
    from engine.models.opening import OpenModel

# Edits of the positions from a first up to but without a last one; ``where`` of each is (1, last - first) or None.
EditsFor: TypeAlias = Callable[[int, int], Sequence[Edit]]


@dataclass(frozen=True, eq=False)
class Start:
    """A prompt that was run without edits, from which other decodings of it begin.

    Attributes:
        ids: the prompt.
        lower: what the blocks gave that no edit at the hook point reaches.
    """

    ids: tuple[int, ...]
    lower: Lower


class Decoder:
    """One context that grows token by token.

    Keys and values of earlier tokens are kept where that gives the model's own logits, which is tried once on a
    probe. Elsewhere (toys built here, edits that only TransformerLens' model can make) the whole context is run again
    for each token.

    Args:
        model: the model.
        edits_for: changes that are in place; the same hook points at every call.
    """

    def __init__(self, model: OpenModel, edits_for: EditsFor | None = None) -> None:
        self.model = model
        self.ids: list[int] = []
        self._edits_for: EditsFor = edits_for or (lambda first, last: ())
        hooks = [edit.hook for edit in self._edits_for(0, 1)]
        self._past: Any = model.plain.cache() if model.plain is not None and keeps(model, hooks) else None

    @property
    def kept(self) -> bool:
        """Whether keys and values are kept, so that a token costs one position."""
        return self._past is not None

    def feed(self, ids: Sequence[int], *, last: int = 1, start: Start | None = None) -> Tensor:
        """Append ``ids``; float32 logits (last, vocabulary) on the CPU of what follows the ``last`` of them (0: all).

        Args:
            ids: at least one token.
            last: at most as many as ``ids``.
            start: of these ids, when they are the first; spares the blocks that no edit reaches.

        Raises:
            ModelError: the context would be longer than the model's.
        """
        first = self._appended(ids)
        last = last or len(ids)
        if self._past is None:
            edits = self._edits_for(0, len(self.ids))
            return edited_logits(self.model, torch.tensor([self.ids]), edits)[0, -last:].cpu()
        edits = self._edits_for(first, len(self.ids))
        lower = start.lower if start is not None and not first and start.ids == tuple(ids) else None
        logits = plain_logits(self.model, self._tensor(ids), edits, past=self._past, last=last, lower=lower)
        assert logits is not None
        return logits[0].float().cpu()

    def begin(self, ids: Sequence[int], hook: str, *, last: int = 1) -> tuple[Tensor, Start | None]:
        """As `feed` of a prompt that is first, without edits; and what other decodings with edits at ``hook`` share.

        None for the latter where nothing can be shared.
        """
        blocks = shared_blocks(self.model, hook) if self._past is not None else 0
        if not blocks:
            return self.feed(ids, last=last), None
        self._appended(ids)
        assert self.model.plain is not None
        with self.model.lock:
            logits, lower = self.model.plain.lower(self._tensor(ids), blocks, past=self._past, last=last or len(ids))
        return logits[0].float().cpu(), Start(tuple(ids), lower) if lower is not None else None

    def _appended(self, ids: Sequence[int]) -> int:
        first = len(self.ids)
        context = self.model.facts.context
        if first + len(ids) > context:
            raise ModelError(
                f"The text has {first + len(ids):,} tokens, but {self.model.facts.title} reads at most {context:,}; "
                "shorten it."
            )
        self.ids += ids
        return first

    def _tensor(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor([list(ids)], device=self.model.device)


def keeps(model: OpenModel, hooks: Sequence[str]) -> bool:
    """Whether decoding with kept keys and values gives the logits of whole passes, with edits at ``hooks``."""
    plain = model.plain
    if plain is None or plain.cache() is None or not is_plain(model, hooks):
        return False
    tokens = probe(model)

    def in_parts() -> Tensor | None:
        past = plain.cache()
        cuts = sorted({0, tokens.shape[1] // 2, tokens.shape[1] - 1, tokens.shape[1]})
        parts = [plain_logits(model, tokens[:, first:last], [], past=past) for first, last in itertools.pairwise(cuts)]
        return torch.cat([part for part in parts if part is not None], 1)

    with model.lock:
        return plain.agrees("kept keys and values", in_parts, lambda: edited_logits(model, tokens, []))


def shared_blocks(model: OpenModel, hook: str) -> int:
    """How many of the lowest blocks an edit at ``hook`` does not reach, and need not be run again; 0 for none."""
    point = model.hook_point(hook)
    if point.layer is None or model.plain is None or not keeps(model, [hook]):
        return 0
    plain, tokens = model.plain, probe(model)
    blocks = point.layer + (point.canonical == f"blocks.{point.layer}.hook_out")
    if not blocks:
        return 0
    edits = [Edit(hook, nudge)]

    def upper() -> Tensor | None:
        _, lower = plain.lower(tokens, blocks, past=plain.cache())
        return plain_logits(model, tokens, edits, past=plain.cache(), lower=lower) if lower is not None else None

    with model.lock:
        agreed = plain.agrees(f"from block {blocks} at {hook}", upper, lambda: edited_logits(model, tokens, edits))
    return blocks if agreed else 0


def end_tokens(model: OpenModel) -> frozenset[int]:
    """Ids after which a text is over: the tokenizer's, and those that the model itself names."""
    named = getattr(getattr(model.bridge.original_model, "generation_config", None), "eos_token_id", None)
    several = named if isinstance(named, (list, tuple)) else [named]
    return frozenset(int(token) for token in (model.tokenizer.eos_token_id, *several) if token is not None)


class Sampler:
    """Chooses tokens, with the same random numbers at each step for the same seed.

    Each token has its own Gumbel noise at each step (Gumbel 1954; Maddison et al. 2014), so that two texts whose
    next-token distributions are alike get the same token: where they differ, the distributions do.

    Args:
        temperature: divides the logits; 0 takes the most likely token.
        top_p: only the most likely tokens are drawn whose probability first adds up to this (Holtzman et al. 2020).
        seed: of the noise.
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0) -> None:
        self._temperature, self._top_p = temperature, top_p
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, log_probabilities: Tensor) -> int:
        """The token to take; ``log_probabilities`` (vocabulary,) float32 on the CPU."""
        if not self._temperature:
            return int(log_probabilities.argmax())
        noise = torch.empty(len(log_probabilities), dtype=torch.float64).exponential_(generator=self._generator)
        scores = (log_probabilities.double() / self._temperature).log_softmax(-1)
        if self._top_p < 1:
            order = scores.argsort(descending=True, stable=True)
            before = scores[order].exp().cumsum(0) - scores[order].exp()
            scores[order[before >= self._top_p]] = -torch.inf
        return int((scores - noise.clamp_min(1e-300).log()).argmax())
