"""Rows of tokens: prompts with their completions, the positions that steering changes, and activations read there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.steering.choices import Placement, ReadAt
from engine.steering.errors import SteeringError

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

PADDING = 0  # any id serves: no position sees a later one
TOGETHER = 2048  # tokens in a forward pass that reads activations
SHOWN = 60  # characters of a text in a sentence


@dataclass(frozen=True, eq=False)
class Rows:
    """Prompts with their completions as tokens, padded on the right.

    Attributes:
        ids: (n, longest) int64.
        lengths: (n,) int64 tokens of each row, BOS included.
        starts: (n,) int64 index of the first token of the completion: the length of the prompt with its BOS.
    """

    ids: Tensor
    lengths: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def real(self) -> Tensor:
        """(n, longest) bool: where a token stands and no padding."""
        return self._at() < self.lengths[:, None]

    def completed(self) -> Tensor:
        """(n, longest) bool: where a token of the completion stands."""
        return (self._at() >= self.starts[:, None]) & self.real()

    def where(self, placement: Placement, *, bos: int | None) -> Tensor:
        """(n, longest) bool: the positions that steering changes.

        ``all``: every token but a BOS in front; ``last``: the prompt's last token; ``answer``: that token and the
        completion's. Of an empty prompt the last token is its BOS, because the completion is predicted from there.

        Args:
            bos: id of the model's BOS token (`OpenModel.bos`).
        """
        at, first = self._at(), self.starts[:, None] - 1
        if placement == "last":
            return at == first
        if placement == "answer":
            return (at >= first) & self.real()
        changed = self.real()
        if bos is not None:
            changed[:, 0] &= self.ids[:, 0] != bos
        return changed

    def _at(self) -> Tensor:
        return torch.arange(self.ids.shape[1], device=self.ids.device)[None]


def encode_rows(model: OpenModel, prompts: Sequence[str], completions: Sequence[str], *, prepend_bos: bool) -> Rows:
    """Tokens of each prompt followed by its completion; the two are tokenised apart, so a prompt's never change.

    Raises:
        SteeringError: there are no rows, a completion has no token, nothing stands before a completion from which it
            could be predicted, a row is longer than the model reads, or a toy does not know a word.
    """
    before = [model.encode(text, prepend_bos=prepend_bos) for text in prompts]
    behind = [model.encode(text, prepend_bos=False) for text in completions]
    for prompt, completion, head, tail in zip(prompts, completions, before, behind, strict=True):
        if not tail:
            raise SteeringError(f"The completion of {shown(prompt)} is empty; give it at least one word.")
        if not head:
            raise SteeringError(
                f"Nothing stands before {shown(completion)}, so it cannot be predicted; give it a prompt, or put BOS first."
            )
    _check(model, prompts, completions, before, behind)
    return _rows(before, behind)


def read(
    model: OpenModel,
    prompts: Sequence[str],
    completions: Sequence[str],
    suffixes: Sequence[str],
    *,
    hook: str,
    read_at: ReadAt,
    prepend_bos: bool,
    run: Run | None = None,
) -> Tensor:
    """Activations at ``hook``, one of each row, (n, width) float32 on the CPU.

    Args:
        prompts, completions, suffixes: texts of each row, tokenised apart from each other.
        read_at: ``end``: the last token of all three; ``answer``: mean over the completion's tokens; ``prompt``: the
            prompt's last token, for which completions and suffixes do not matter.
        run: hears of the rows done, and can be paused and stopped between batches.

    Raises:
        SteeringError: a row has no token to read, is longer than the model reads, or a toy does not know a word.
        ModelError: there is no such hook point, or it has no vector per token.
    """
    from engine.models.capture import capture

    model.check_hook(hook)
    rows = _to_read(model, prompts, completions, suffixes, read_at, prepend_bos)
    chosen = rows.completed() if read_at == "answer" else rows._at() == rows.lengths[:, None] - 1
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    done, began = 0, run.seconds if run is not None else 0.0
    for part in _batches(rows.lengths):
        if run is not None:
            run.point()
        longest = int(rows.lengths[part].max())
        ids, at = rows.ids[part, :longest], chosen[part, :longest]
        [(_, values)] = capture(model, ids.numpy(), [hook], batch=len(part))
        weights = at.to(values[hook].device, torch.float32)
        # Positions left out may hold anything finite; a mean in float64 keeps the digits of large activations.
        sums = torch.einsum("np,npd->nd", weights.double().cpu(), values[hook].double().cpu())
        means = (sums / at.sum(1, keepdim=True)).float()
        for row, mean in zip(part.tolist(), means, strict=True):
            found[row] = mean
        done += len(part)
        if run is not None:
            run.progress(done, len(rows), "rows", since=(0, began))
    return torch.stack(found)


def shown(text: str) -> str:
    """``text`` in quotation marks, its end only where it is long."""
    flat = " ".join(text.split())
    return f"“{flat if len(flat) <= SHOWN else '…' + flat[-SHOWN:]}”"


def _to_read(
    model: OpenModel,
    prompts: Sequence[str],
    completions: Sequence[str],
    suffixes: Sequence[str],
    read_at: ReadAt,
    prepend_bos: bool,
) -> Rows:
    """Tokens up to the last that is read."""
    before = [model.encode(text, prepend_bos=prepend_bos) for text in prompts]
    plain = [len(model.encode(text, prepend_bos=False)) for text in prompts]
    if read_at == "prompt":
        for number, length in enumerate(plain):
            if not length:
                raise SteeringError(
                    f"Row {number + 1} has no prompt whose last token could be read; give it one, or read at the end."
                )
        none: list[list[int]] = [[] for _ in before]
        _check(model, prompts, [""] * len(before), before, none)
        return _rows(before, none)
    behind = [model.encode(text, prepend_bos=False) for text in completions]
    if read_at == "answer":
        for prompt, tail in zip(prompts, behind, strict=True):
            if not tail:
                raise SteeringError(f"{shown(prompt)} has no completion to read; read at its end, or at the prompt.")
    else:
        last = [model.encode(text, prepend_bos=False) for text in suffixes]
        behind = [tail + more for tail, more in zip(behind, last, strict=True)]
        completions = [text + more for text, more in zip(completions, suffixes, strict=True)]
        for number, (length, tail) in enumerate(zip(plain, behind, strict=True)):
            if not length and not tail:
                raise SteeringError(f"Row {number + 1} has no text to read activations from; give it a prompt.")
    _check(model, prompts, completions, before, behind)
    return _rows(before, behind)


def _rows(before: Sequence[list[int]], behind: Sequence[list[int]]) -> Rows:
    lengths = torch.tensor([len(head) + len(tail) for head, tail in zip(before, behind, strict=True)])
    ids = torch.full((len(lengths), int(lengths.max())), PADDING, dtype=torch.int64)
    for row, head, tail in zip(ids, before, behind, strict=True):
        row[: len(head) + len(tail)] = torch.tensor(head + tail)
    return Rows(ids, lengths, torch.tensor([len(head) for head in before]))


def _check(
    model: OpenModel,
    prompts: Sequence[str],
    completions: Sequence[str],
    before: Sequence[list[int]],
    behind: Sequence[list[int]],
) -> None:
    if not before:
        raise SteeringError("There are no rows to run; give the prompt set at least one.")
    context, unknown = model.facts.context, _unknown(model)
    for prompt, completion, head, tail in zip(prompts, completions, before, behind, strict=True):
        text = prompt + completion
        if len(head) + len(tail) > context:
            raise SteeringError(
                f"{shown(text)} has {len(head) + len(tail):,} tokens, but {model.facts.title} reads at most {context:,}; "
                "shorten it."
            )
        if unknown is not None and unknown in (*head, *tail):
            word = _word(model, unknown, prompt) or _word(model, unknown, completion)
            raise SteeringError(
                f"{model.facts.title} does not know the word “{word}” in {shown(text)}; use words of its vocabulary."
            )


def _unknown(model: OpenModel) -> int | None:
    """The id that stands for words which a toy's vocabulary lacks; None where any text can be written in tokens."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None or type(backend.model).__name__ != "WordLevel" or model.tokenizer.unk_token_id is None:
        return None
    return int(model.tokenizer.unk_token_id)


def _word(model: OpenModel, unknown: int, text: str) -> str:
    """The first word of ``text`` that is ``unknown``, "" where there is none."""
    found = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    for token, (begin, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
        if token == unknown:
            return text[begin:end]
    return ""


def _batches(lengths: Tensor) -> list[Tensor]:
    """Rows of like length together, at most `TOGETHER` tokens of them: (rows,) int64 each."""
    order = torch.argsort(lengths, stable=True)
    parts: list[list[int]] = [[]]
    for row in order.tolist():
        if parts[-1] and (len(parts[-1]) + 1) * int(lengths[row]) > TOGETHER:
            parts.append([])
        parts[-1].append(row)
    return [torch.tensor(part) for part in parts]
