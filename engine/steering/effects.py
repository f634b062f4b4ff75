"""What an intervention does to a text: where two texts differ, and how far next-token distributions move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models.decoding import Decoder
from engine.steering.generation import Steered, Text, fed

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run
    from engine.text.prompt_sets import PromptRow

Array: TypeAlias = npt.NDArray[Any]
LIKELY = 100  # a change is listed of tokens that are among so many likeliest, before or after


def by_position(clean: Sequence[int] | Sequence[str], steered: Sequence[int] | Sequence[str]) -> list[bool]:
    """For each token of ``steered`` whether the token at its place in ``clean`` is another, or none."""
    return [place >= len(clean) or token != clean[place] for place, token in enumerate(steered)]


def marks(clean: Sequence[int], steered: Sequence[int]) -> tuple[list[bool], list[bool]]:
    """For each token of both texts whether it lies outside their longest common subsequence (Hunt & McIlroy 1976)."""
    a, b = np.asarray(clean, dtype=np.int64), np.asarray(steered, dtype=np.int64)
    left, right = np.ones(len(a), dtype=bool), np.ones(len(b), dtype=bool)
    # lengths[i, j]: of the longest common subsequence of a[i:] and b[j:].
    lengths = np.zeros((len(a) + 1, len(b) + 1), dtype=np.int32)
    for i in range(len(a) - 1, -1, -1):
        row = np.maximum(lengths[i + 1, :-1], lengths[i + 1, 1:] + (a[i] == b))
        lengths[i, :-1] = np.maximum.accumulate(row[::-1])[::-1]
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            left[i] = right[j] = False
            i, j = i + 1, j + 1
        elif lengths[i + 1, j] >= lengths[i, j + 1]:
            i += 1
        else:
            j += 1
    return left.tolist(), right.tolist()


def kl_divergence(clean: Tensor, steered: Tensor) -> Array:
    """KL(clean ‖ steered) in nats, (n,) float64, of log-probabilities (n, vocabulary)."""
    found = []
    for one, other in zip(clean, steered, strict=True):  # one by one: float64 copies of all would take twice as much
        # Normalised again: what float32 leaves over of a sum of 1 would show as a divergence of 1e-6.
        p, q = one.double().log_softmax(-1), other.double().log_softmax(-1)
        found.append(float(torch.where(p > -torch.inf, p.exp() * (p - q), 0.0).sum()))
    return np.array(found)


@dataclass(frozen=True, eq=False)
class Divergence:
    """How far steering moves the next-token distribution, position by position of one text.

    Attributes:
        ids: (n,) the last tokens of the prompt and the first of the clean continuation: what stands at each position.
        kl: (n,) KL(clean ‖ steered) in nats, of the token after each.
        prompt: how many of them are the prompt's.
    """

    ids: Array
    kl: Array
    prompt: int

    @property
    def continuation(self) -> Array:
        """Those of the distributions that the clean continuation was drawn from: after the prompt's last token and on."""
        return self.kl[self.prompt - 1 :]

    @property
    def mean(self) -> float:
        """Mean of `continuation`, in nats."""
        return float(self.continuation.mean())


def divergence(clean: Text, steered: Steered, tokens: int, run: Run | None = None) -> Divergence:
    """KL along the prompt and along the clean continuation: both models read the clean text (teacher-forced).

    Args:
        clean: the text without intervention, generated as far as ``tokens``.
        steered: the intervention.
        tokens: tokens of the continuation at most. What follows the last is not looked at, as the clean text may not
            have been continued from there; of a long text only the last positions of the prompt and the first of the
            continuation are kept.
    """
    if not clean.predictions:
        raise ValueError("The clean text has not been begun.")
    model, seen = clean.model, clean.seen
    behind = clean.tokens[: max(min(tokens - 1, len(clean.predictions) - seen), 0)]
    decoder = Decoder(model, steered.edits_for(clean.prompt, model.bos))
    logits = fed(decoder, clean.prompt, last=seen, start=clean.known_start(steered.hook), run=run)
    if behind:
        logits = torch.cat([logits, fed(decoder, behind, last=len(behind), run=run)])
    expected = torch.stack(clean.predictions[: len(logits)])
    ids = np.array([*clean.prompt[-seen:], *behind])
    return Divergence(ids, kl_divergence(expected, logits.log_softmax(-1)), seen)


def random_direction(width: int, length: float, seed: Sequence[int]) -> Tensor:
    """A vector (width,) float32 of that length, in a direction drawn uniformly from the sphere."""
    found = np.random.default_rng(list(seed)).standard_normal(width)
    return torch.from_numpy((found * (length / np.linalg.norm(found))).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Changes:
    """Tokens whose log-probability as the next token rises and falls most, from most raised to most lowered.

    Attributes:
        ids: (n,) tokens.
        before, after: (n,) their probabilities without and with the intervention.
        change: (n,) log(after / before) in nats.
    """

    ids: Array
    before: Array
    after: Array
    change: Array


def changes(clean: Tensor, steered: Tensor, top: int = 8) -> Changes:
    """Up to ``top`` tokens that rise and as many that fall, by log-probabilities (vocabulary,) before and after.

    Only tokens count that are among the `LIKELY` likeliest before or after: others may rise by far more and still
    never be written.
    """
    count = min(LIKELY, len(clean))
    candidates = torch.unique(torch.cat([clean.topk(count).indices, steered.topk(count).indices]))
    change = torch.nan_to_num((steered - clean)[candidates].double())
    order = torch.argsort(change, descending=True, stable=True)
    up = [place for place in order.tolist() if change[place] > 0][:top]
    down = [place for place in order.tolist() if change[place] < 0][-top:]
    chosen = torch.tensor([*up, *down], dtype=torch.int64)
    ids = candidates[chosen]
    return Changes(
        ids.numpy(), clean[ids].double().exp().numpy(), steered[ids].double().exp().numpy(), change[chosen].numpy()
    )


def first_tokens(model: OpenModel, rows: Sequence[PromptRow]) -> tuple[list[int], list[int]]:
    """Tokens with which the rows' positive and negative completions begin; those that begin both kinds are left out."""
    begins: list[set[int]] = []
    for texts in ({row.positive for row in rows}, {row.negative for row in rows}):
        encoded = [model.encode(text, prepend_bos=False) for text in texts if text]
        begins.append({ids[0] for ids in encoded if ids})
    both = begins[0] & begins[1]
    return sorted(begins[0] - both), sorted(begins[1] - both)


def mass(log_probabilities: Tensor, ids: Sequence[int]) -> float:
    """Probability that the next token is one of ``ids``, from log-probabilities (vocabulary,)."""
    return float(log_probabilities[list(ids)].double().exp().sum())
