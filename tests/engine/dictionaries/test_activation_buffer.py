"""What the shuffle buffer delivers: everything once a pass, mixed, in an order that survives interruption."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from engine.dictionaries.buffer import ActivationBuffer
from engine.dictionaries.errors import DictionaryError

COUNTS = np.asarray([7, 0, 5, 7, 7, 3, 7, 7, 6, 7, 7, 7, 7, 7, 7, 7, 1, 7, 7, 7, 7, 7, 7, 4])
FIRST = np.concatenate([[0], np.cumsum(COUNTS)[:-1]])
TOTAL = int(COUNTS.sum())


class Text:
    """Activations that are their own number, and a note of which contexts were captured."""

    def __init__(self):
        self.captured = []

    def __call__(self, contexts):
        self.captured += contexts.tolist()
        numbers = np.concatenate([FIRST[one] + np.arange(COUNTS[one]) for one in contexts])
        return torch.from_numpy(np.stack([numbers, -numbers], axis=1).astype(np.float32))


def buffer(capacity, seed=0, batch=8):
    text = Text()
    return ActivationBuffer(COUNTS, text, 2, capacity, batch=batch, seed=seed), text


def draw(one, batches, size=8):
    found = []
    for _ in range(batches):
        while one.hungry:
            one.feed()
        found.append(one.draw(size)[:, 0].int().tolist())
    return found


def together(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("capacity", [TOTAL, 10 * TOTAL])
def test_a_text_that_fits_is_captured_once_and_passed_over_in_new_permutations(capacity):
    one, text = buffer(capacity)
    numbers = together(draw(one, 3 * TOTAL // 8 + 1))
    passes = [numbers[start : start + TOTAL] for start in (0, TOTAL, 2 * TOTAL)]
    assert [sorted(single) for single in passes] == [list(range(TOTAL))] * 3
    assert passes[0] != passes[1]
    assert sorted(text.captured) == np.flatnonzero(COUNTS).tolist()
    assert one.resident
    assert one.capacity == TOTAL
    assert one.passes == pytest.approx(len(numbers) / TOTAL)


def test_a_longer_text_is_delivered_whole_and_evenly_through_a_small_buffer():
    one, text = buffer(40)
    assert not one.resident
    numbers = np.asarray(together(draw(one, 20 * TOTAL // 8)))
    counts = np.bincount(numbers, minlength=TOTAL)
    assert counts.min() >= 18
    assert counts.max() <= 22
    captured = np.bincount(text.captured, minlength=len(COUNTS))
    assert captured[1] == 0
    assert np.ptp(captured[COUNTS > 0]) <= 1


def test_neighbours_in_the_text_are_pulled_apart():
    one, _ = buffer(TOTAL)
    numbers = np.asarray(together(draw(one, TOTAL // 8)))
    assert np.mean(np.abs(np.diff(numbers)) == 1) < 0.1


def test_every_row_is_whole():
    one, _ = buffer(40)
    while one.hungry:
        one.feed()
    rows = one.draw(8)
    assert torch.equal(rows[:, 0], -rows[:, 1])


@pytest.mark.parametrize("capacity", [40, TOTAL])
def test_the_order_depends_on_the_seed_alone(capacity):
    assert draw(buffer(capacity, seed=3)[0], 50) == draw(buffer(capacity, seed=3)[0], 50)
    assert draw(buffer(capacity, seed=3)[0], 5) != draw(buffer(capacity, seed=4)[0], 5)


@pytest.mark.parametrize("capacity", [40, 90, TOTAL, 1_000])
@pytest.mark.parametrize("stop", [0, 1, 2, 7, 8, 30, 41, 60])
def test_a_restored_buffer_goes_on_exactly_wherever_it_was_stopped(capacity, stop):
    def moves(one, count, found):
        for _ in range(count):
            if one.hungry:
                one.feed()
            else:
                found.append(one.draw(8)[:, 0].int().tolist())

    expected, before, after = [], [], []
    whole, _ = buffer(capacity)
    moves(whole, 100, expected)
    first, _ = buffer(capacity)
    moves(first, stop, before)
    values, arrays = first.state()
    second, _ = buffer(capacity)
    second.restore(json.loads(json.dumps(values)), {name: array.copy() for name, array in arrays.items()})
    assert second.drawn == first.drawn
    moves(second, 100 - stop, after)
    assert before + after == expected


def test_a_batch_may_exceed_the_text():
    one, _ = buffer(10 * TOTAL)
    [numbers] = draw(one, 1, size=2 * TOTAL + 5)
    assert np.bincount(numbers).min() == 2


def test_bad_sizes_are_said_with_the_number_that_works():
    with pytest.raises(DictionaryError, match=r"buffer of 10 activations is too small.*buffer=16"):
        buffer(10)
    with pytest.raises(DictionaryError, match=r"^No token of the text counts"):
        ActivationBuffer(np.zeros(4, dtype=int), Text(), 2, 100, batch=4, seed=0)


def test_a_checkpoint_of_another_text_is_refused():
    one, _ = buffer(40)
    draw(one, 2)
    values, arrays = one.state()
    other = ActivationBuffer(COUNTS[:-3], Text(), 2, 40, batch=8, seed=0)
    with pytest.raises(DictionaryError, match=rf"text of {TOTAL:,} activations, but this text has"):
        other.restore(values, arrays)
