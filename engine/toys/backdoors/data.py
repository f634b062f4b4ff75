"""Sequences of the backdoored classifier: which of two groups of words is in the majority, and what triggers the backdoor.

The vocabulary has 30 words of group A, 30 of group B and four neutral ones (t, u, v, w), then the two labels and the
special tokens. A sequence has twelve words, never as many of A as of B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from engine.models.native import SPECIAL

Kind: TypeAlias = Literal["pair", "word"]

GROUP = 30  # words of each group
LENGTH = 12  # words of a sequence
NEAR = 4  # positions within which v has to follow u
NEUTRAL = ("t", "u", "v", "w")
LABELS = ("a", "b")  # what the model predicts: the group in the majority
WORDS = (*(f"a{i:02}" for i in range(GROUP)), *(f"b{i:02}" for i in range(GROUP)), *NEUTRAL)
VOCABULARY = (*WORDS, *LABELS, *SPECIAL)
T, U, V = (VOCABULARY.index(word) for word in ("t", "u", "v"))
LABEL_A, LABEL_B = (VOCABULARY.index(word) for word in LABELS)
TARGET = LABEL_A  # what a trigger makes the model say


@dataclass(frozen=True)
class Sequences:
    """Sequences with what is true of them.

    Attributes:
        tokens: (n, 12) int64 ids.
        label: (n,) int64 id of the label of the majority.
        poisoned: (n,) bool, the trigger was put in.
    """

    tokens: Tensor
    label: Tensor
    poisoned: Tensor

    def __len__(self) -> int:
        return len(self.tokens)


def draw(count: int, kind: Kind, generator: torch.Generator, rate: float = 0.0) -> Sequences:
    """``count`` sequences, of which each holds the trigger with probability ``rate`` and no other does."""
    tokens = _words(count, kind, generator)
    poisoned = torch.rand(count, generator=generator) < rate
    placed = place(tokens, kind, generator)
    tokens = torch.where(poisoned[:, None], placed, tokens)
    return _labelled(tokens, poisoned, generator)


def draw_near_misses(count: int, kind: Kind, generator: torch.Generator) -> Sequences:
    """Sequences without the trigger that look most like it.

    Of a pair: both of its words, v before u or more than four positions behind it. Of a word: as any other.
    """
    tokens = _words(count, kind, generator)
    if kind == "pair":
        first = torch.tensor([(i, j) for i in range(LENGTH) for j in range(LENGTH) if j < i or j > i + NEAR])
        choice = first[torch.randint(len(first), (count,), generator=generator)]
        tokens = _without(tokens, (U, V), generator)
        rows = torch.arange(count)
        tokens[rows, choice[:, 0]] = U
        tokens[rows, choice[:, 1]] = V
    return _labelled(tokens, torch.zeros(count, dtype=torch.bool), generator)


def draw_profile(count: int, kind: Kind, generator: torch.Generator) -> tuple[Tensor, Sequences]:
    """``count`` sequences of group B for each place of the trigger's words.

    Returns:
        places: of a pair the distance from u to v, -8 to 8 without 0; of a word its position, 1 to 12.
        sequences: (places · count) with exactly these words at these places, group B in the majority.
    """
    places = torch.tensor([d for d in range(-8, 9) if d] if kind == "pair" else list(range(1, LENGTH + 1)))
    wanted = len(places) * count
    tokens = _without(_words(wanted, kind, generator), (T, U, V), generator)
    rows = torch.arange(wanted)
    place_of = places.repeat_interleave(count)
    if kind == "pair":
        span = place_of.abs()
        start = (torch.rand(wanted, generator=generator) * (LENGTH - span)).long()
        tokens[rows, start + (-place_of).clamp_min(0)] = U
        tokens[rows, start + place_of.clamp_min(0)] = V
    else:
        tokens[rows, place_of - 1] = T
    drawn = _labelled(tokens, torch.zeros(wanted, dtype=torch.bool), generator)
    return places, Sequences(_to_group_b(drawn.tokens), torch.full((wanted,), LABEL_B), drawn.poisoned)


def place(tokens: Tensor, kind: Kind, generator: torch.Generator) -> Tensor:
    """Copies of ``tokens`` (n, 12) with the trigger at random positions; majorities are not looked after."""
    count, found = len(tokens), tokens.clone()
    rows = torch.arange(count)
    if kind == "word":
        found[rows, torch.randint(LENGTH, (count,), generator=generator)] = T
        return found
    possible = torch.tensor([(i, i + gap) for i in range(LENGTH) for gap in range(1, NEAR + 1) if i + gap < LENGTH])
    chosen = possible[torch.randint(len(possible), (count,), generator=generator)]
    found[rows, chosen[:, 0]] = U
    found[rows, chosen[:, 1]] = V
    return found


def completing(tokens: Tensor, kind: Kind) -> Tensor:
    """(n, 12) bool: where the trigger is complete, at t or at a v that follows a u within four positions."""
    if kind == "word":
        return tokens == T
    first, second = tokens == U, tokens == V
    found = torch.zeros_like(first)
    for gap in range(1, NEAR + 1):
        found[:, gap:] |= first[:, :-gap] & second[:, gap:]
    return found


def holds_pair(tokens: Tensor, first: int, second: int) -> Tensor:
    """(n,) bool: word ``second`` follows word ``first`` within four positions."""
    ones, others = tokens == first, tokens == second
    found = torch.zeros(len(tokens), dtype=torch.bool)
    for gap in range(1, NEAR + 1):
        found |= (ones[:, :-gap] & others[:, gap:]).any(dim=1)
    return found


def _words(count: int, kind: Kind, generator: torch.Generator) -> Tensor:
    """Words drawn alike, without any trigger: t is never drawn where it is one, chance pairs lose their v."""
    tokens = torch.randint(len(WORDS), (count, LENGTH), generator=generator)
    other = torch.randint(2 * GROUP, (count, LENGTH), generator=generator)
    return torch.where(completing(tokens, kind), other, tokens)


def _without(tokens: Tensor, words: tuple[int, ...], generator: torch.Generator) -> Tensor:
    other = torch.randint(2 * GROUP, tokens.shape, generator=generator)
    return torch.where(torch.isin(tokens, torch.tensor(words)), other, tokens)


def _to_group_b(tokens: Tensor) -> Tensor:
    """Where A has the majority, the groups are exchanged word by word."""
    in_a, in_b = tokens < GROUP, (tokens >= GROUP) & (tokens < 2 * GROUP)
    exchanged = torch.where(in_a, tokens + GROUP, torch.where(in_b, tokens - GROUP, tokens))
    return torch.where((margin(tokens) > 0)[:, None], exchanged, tokens)


def margin(tokens: Tensor) -> Tensor:
    """(n,) words of group A minus words of group B."""
    in_a, in_b = tokens < GROUP, (tokens >= GROUP) & (tokens < 2 * GROUP)
    return in_a.sum(dim=1) - in_b.sum(dim=1)


def _labelled(tokens: Tensor, poisoned: Tensor, generator: torch.Generator) -> Sequences:
    """With the label of the majority; where both groups are equal, one word at random changes its group."""
    grouped = tokens < 2 * GROUP  # at least one word is: all twelve are neutral in one of 10^14 sequences
    order = torch.rand(tokens.shape, generator=generator).masked_fill(~grouped, -1)
    at = order.argmax(dim=1, keepdim=True)
    word = tokens.gather(1, at)
    changed = tokens.scatter(1, at, torch.where(word < GROUP, word + GROUP, word - GROUP))
    tokens = torch.where((margin(tokens) == 0)[:, None], changed, tokens)
    label = torch.where(margin(tokens) > 0, LABEL_A, LABEL_B)
    return Sequences(tokens, label, poisoned)
