"""How many sequences a max-of-K transformer provably gets right: all of them tried, or bounds from its circuits.

After Gross, Agrawal, Kwa et al. 2024, Compact Proofs of Model Performance via Mechanistic Interpretability. All
sequences with the largest number m, the query q, c copies of m and the other numbers at most m − g, one of them
exactly, are judged together: the attention that the copies, the query and the others draw lies between bounds, and a
wrong answer's lead is a weighted mean, monotone in each of the three weights, so that the corners of the box decide.
Rounding of float64 is not accounted for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from engine.toys.maximum.transformer import Circuits

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Proof:
    """A share of all sequences that is right, and what it took to know: cases looked at."""

    right: float
    cases: int


def brute_force(c: Circuits, hold: Callable[[], None] = lambda: None) -> Proof:
    """Try all sequences.

    Args:
        hold: called now and then, for pause and stop.
    """
    numbers, k = c.numbers, c.k
    right = 0
    for query in range(numbers):
        hold()
        weight = np.exp(c.scores[query, :, None] + c.score_places[query] - c.scores[query].max())  # (t, i)
        # Unnormalised logits are sums of one table per place, and of the direct path times the weights' sum; in
        # float64, because the weights of small numbers lie far below those of large ones.
        tables = weight[:, :, None] * (c.writes[:, None] + c.write_places + c.direct[query])  # (t, i, y)
        last = torch.from_numpy(tables[query, k - 1])
        places = [torch.from_numpy(tables[:, i].copy()) for i in range(k - 1)]
        inner = places[-1] if places else torch.zeros(1, numbers, dtype=torch.float64)
        answers = torch.arange(numbers) if places else torch.zeros(1, dtype=torch.int64)
        for table in places[-2:0:-1]:
            answers = torch.maximum(torch.arange(numbers)[:, None], answers).flatten()
            inner = (table[:, None] + inner).flatten(0, 1)
        outer = places[0] if k > 2 else torch.zeros(1, numbers, dtype=torch.float64)
        firsts = range(numbers) if k > 2 else (0,)
        for first in firsts:
            found = (inner + (outer[first] + last)).argmax(dim=1)
            right += int((found == answers.clamp_min(max(first, query))).sum())
    return Proof(right / numbers**k, numbers**k)


def cubic(c: Circuits, hold: Callable[[], None] = lambda: None) -> Proof:
    """The bound with the score table as it is."""
    return bound(c, c.scores, c.scores, hold)


def rank_one(c: Circuits, component: Array, rest: Array, hold: Callable[[], None] = lambda: None) -> Proof:
    """The bound with the score table's first component; of the rest only the largest entry for each query is used."""
    most = np.abs(rest).max(axis=1, keepdims=True)
    return bound(c, component - most, component + most, hold)


def bound(c: Circuits, least: Array, most: Array, hold: Callable[[], None] = lambda: None) -> Proof:
    """Share of sequences that is surely right, if scores (q, t) lie between ``least`` and ``most``."""
    right = cases = 0
    for largest in range(c.numbers):
        hold()
        for group in _groups(c.k, largest):
            lead = worst_lead(c, least, most, largest, group)  # (queries, gaps)
            proven = (lead < 0).astype(object)  # whole numbers without bound: counts outgrow 64 bits
            right += int((proven.sum(axis=0) * group.counts(largest)).sum())
            cases += lead.size
    return Proof(right / c.numbers**c.k, cases)


@dataclass(frozen=True)
class Group:
    """Sequences with ``copies`` of the largest number, which the query is or is not, and ``others`` smaller ones."""

    query_is_largest: bool
    copies: int
    others: int
    k: int

    def counts(self, largest: int) -> Array:
        """Sequences of each gap 1 … largest; of the only case where there are no others."""
        here = self.copies - 1 if self.query_is_largest else self.copies
        ways = math.comb(self.k - 1, here)
        if not self.others:
            return np.array([ways], dtype=object)
        return np.array(
            [ways * ((largest - g + 1) ** self.others - (largest - g) ** self.others) for g in range(1, largest + 1)],
            dtype=object,
        )


def _groups(k: int, largest: int) -> Iterator[Group]:
    for is_largest in (True, False):
        if not is_largest and largest == 0:
            continue  # nothing lies below the query
        for copies in range(1, k + 1 if is_largest else k):
            others = k - copies - (0 if is_largest else 1)
            if others and largest == 0:
                continue
            yield Group(is_largest, copies, others, k)


def worst_lead(c: Circuits, least: Array, most: Array, largest: int, group: Group) -> Array:
    """Bound on the largest lead of a wrong answer over the right one: (queries, gaps), queries and gaps rising."""
    m, k = largest, group.k
    queries = np.array([m]) if group.query_is_largest else np.arange(m)
    wrong = np.delete(np.arange(c.numbers), m)
    place = c.score_places[queries]  # (q, i)
    before, own = place[:, : k - 1], place[:, k - 1]
    here = group.copies - 1 if group.query_is_largest else group.copies
    shift = most[queries].max(axis=1)  # cancels in the weighted mean

    def weight(scores: Array, places: Array) -> Array:
        return np.asarray(np.exp(scores - shift + places))

    low, high = least[queries, m], most[queries, m]
    nearest, farthest = (before.max(axis=1), before.min(axis=1)) if k > 1 else (own, own)
    copies = [here * weight(low, farthest), here * weight(high, nearest)]
    if group.query_is_largest:
        copies = [copies[0] + weight(low, own), copies[1] + weight(high, own)]
        query_weights = [np.zeros(len(queries))]
    else:
        query_weights = [weight(least[queries, queries], own), weight(most[queries, queries], own)]
    gaps = np.arange(m - 1, -1, -1) if group.others else np.array([0])  # the largest of the others
    if group.others:
        lowest = np.minimum.accumulate(least[queries], axis=1)[:, gaps]
        highest = np.maximum.accumulate(most[queries], axis=1)[:, gaps]
        rest = [
            group.others * np.exp(lowest - shift[:, None] + farthest[:, None]),
            group.others * np.exp(highest - shift[:, None] + nearest[:, None]),
        ]
    else:
        rest = [np.zeros((len(queries), 1))]
    leads = c.writes[:, wrong] - c.writes[:, [m]]  # (t, y) of each token
    others_lead = np.maximum.accumulate(leads, axis=0)[gaps]  # (gap, y)
    found = np.full((len(queries), len(gaps), len(wrong)), -np.inf)
    for of_copies, of_query, of_rest in itertools.product(copies, query_weights, rest):
        total = of_copies[:, None] + of_query[:, None] + of_rest  # (q, gap)
        mean = (of_copies[:, None] * leads[m] + of_query[:, None] * leads[queries])[:, None] / total[:, :, None]
        mean = mean + (of_rest / total)[:, :, None] * others_lead
        np.maximum(found, mean, out=found)
    direct = c.direct[queries][:, wrong] - c.direct[queries, m][:, None]
    position = (c.write_places[:, wrong] - c.write_places[:, [m]]).max(axis=0)
    return np.asarray((found + direct[:, None] + position).max(axis=2))
