"""The n-gram controls, against their formula written out for one word at a time."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from engine.text import stories
from engine.toys.stories import ngrams

START, WORDS = 0, 6
TEXTS = [[2, 3, 1], [2, 4, 2, 1], [5, 3, 3, 1]]


def probability(word: int, history: tuple[int, ...]) -> float:
    """Witten and Bell's interpolation, by counting."""
    if not history:
        counts = Counter(word for text in TEXTS for word in text)
        return (counts[word] + 1) / (counts.total() + WORDS)
    seen: Counter[int] = Counter()
    for text in TEXTS:
        padded = [START] * len(history) + text
        for place in range(len(history), len(padded)):
            if tuple(padded[place - len(history) : place]) == history:
                seen[padded[place]] += 1
    shorter = probability(word, history[1:])
    return (seen[word] + len(seen) * shorter) / (seen.total() + len(seen)) if seen else shorter


def test_every_table_entry_is_the_formula() -> None:
    tables = ngrams.probabilities(TEXTS, WORDS, START)
    for order, table in enumerate(tables):
        assert np.allclose(table.sum(axis=-1), 1.0)
        for key in itertools.product(range(WORDS), repeat=order + 1):
            assert table[key] == pytest.approx(probability(key[-1], key[:-1]), abs=1e-12)


def test_losses_are_those_of_each_token_after_its_own_story_s_words() -> None:
    tables = ngrams.probabilities(TEXTS, WORDS, START)
    other = [[2, 5, 1], [3, 1]]
    for order, nats in enumerate(ngrams.losses(tables, other, START)):
        expected = []
        for text in other:
            padded = [START] * order + text
            for place in range(order, len(padded)):
                expected.append(-math.log(probability(padded[place], tuple(padded[place - order : place]))))
        assert nats == pytest.approx(expected, abs=1e-12)


def test_the_ladder_on_stories_is_the_published_one() -> None:
    training = [story.ids for story in itertools.islice(stories.generate(1), 8000)]
    held_out = [story.ids for story in itertools.islice(stories.generate(2), 1000)]
    tables = ngrams.probabilities(training, len(stories.VOCABULARY), 0)
    ladder = [float(nats.mean()) for nats in ngrams.losses(tables, held_out, 0)]
    # science: 1-gram 3.69, 2-gram 1.233, 3-gram .805, measured with another smoothing on other words.
    assert ladder == pytest.approx([3.69, 1.233, 0.805], rel=0.015)
