"""What the buffer delivers: everything once a pass, mixed or in order, the same however it is interrupted."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import torch

from engine.dictionaries import buffer as module
from engine.dictionaries.buffer import Buffer
from engine.dictionaries.errors import DictionaryError
from tests.engine.dictionaries.numbered import COUNTS, TOTAL, Numbered


@pytest.fixture(autouse=True)
def _begins_early(monkeypatch):
    """Training begins with two batches or an eighth, so that these small texts grow while they are drawn from."""
    monkeypatch.setattr(module, "FIRST_BATCHES", 2)
    monkeypatch.setattr(module, "FIRST_LEAST", 0)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def numbered(capacity, *, batch=8, seed=0, **options):
    return Buffer(Numbered(), capacity, batch=batch, seed=seed, **options)


def draw(one, batches, size=8):
    found = []
    for _ in range(batches):
        while one.hungry:
            one.feed()
        found.append(one.draw(size)[0][:, 0].int().tolist())
    return found


def together(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("capacity", [TOTAL, 10 * TOTAL])
def test_a_text_that_fits_is_captured_once_and_passed_over_in_new_permutations(capacity):
    one = numbered(capacity)
    numbers = together(draw(one, 3 * TOTAL // 8 + 1))
    passes = [numbers[start : start + TOTAL] for start in (0, TOTAL, 2 * TOTAL)]
    assert [sorted(single) for single in passes] == [list(range(TOTAL))] * 3
    assert len({tuple(single) for single in passes}) == 3
    assert sorted(one._source.captured) == np.flatnonzero(COUNTS).tolist()
    assert one.resident
    assert one.capacity == TOTAL
    assert one.passes == pytest.approx(len(numbers) / TOTAL)


def test_a_longer_text_is_delivered_whole_and_evenly_through_a_small_buffer():
    one = numbered(40)
    assert not one.resident
    numbers = np.asarray(together(draw(one, 20 * TOTAL // 8)))
    counts = np.bincount(numbers, minlength=TOTAL)
    captured = np.bincount(one._source.captured, minlength=len(COUNTS))
    assert captured[1] == 0
    assert np.ptp(captured[COUNTS > 0]) <= 1
    waiting = np.bincount(one.draw(len(one))[0][:, 0].int().numpy(), minlength=TOTAL)
    assert (counts + waiting).tolist() == np.repeat(captured, COUNTS).tolist()


def test_a_draw_is_a_uniform_sample_of_what_waits():
    """The mean place of each activation over many seeds is the middle, within what chance allows."""
    ranks = np.zeros(TOTAL)
    for seed in range(200):
        one = Buffer(Numbered(), TOTAL, batch=TOTAL, seed=seed)
        [numbers] = draw(one, 1, size=TOTAL)
        ranks[numbers] += np.arange(TOTAL)
    mean, error = (TOTAL - 1) / 2, np.sqrt((TOTAL**2 - 1) / 12 / 200)
    assert np.abs(ranks / 200 - mean).max() < 4.5 * error


def test_neighbours_in_the_text_are_pulled_apart():
    numbers = np.asarray(together(draw(numbered(TOTAL), TOTAL // 8)))
    assert np.mean(np.abs(np.diff(numbers)) == 1) < 0.1


@pytest.mark.parametrize("capacity", [20, 40, TOTAL, 10 * TOTAL])
@pytest.mark.parametrize("overlap", [False, True])
def test_without_shuffling_activations_go_out_in_the_order_of_the_text(capacity, overlap):
    with numbered(capacity, shuffle=False, overlap=overlap) as one:
        numbers = together(draw(one, 3 * TOTAL // 8))
    assert numbers == [number % TOTAL for number in range(len(numbers))]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("capacity", [40, TOTAL])
def test_every_activation_keeps_its_target(capacity, shuffle):
    one = Buffer(Numbered(paired=True), capacity, batch=8, seed=0, shuffle=shuffle)
    for _ in range(60):
        while one.hungry:
            one.feed()
        x, y = one.draw(8)
        assert torch.equal(x[:, 0], -x[:, 1])
        assert torch.equal(y, x[:, :1] * torch.tensor([0.5, 1.0, 2.0]))


@pytest.mark.parametrize("capacity", [40, TOTAL])
def test_the_order_depends_on_the_seed_alone(capacity):
    assert draw(numbered(capacity, seed=3), 50) == draw(numbered(capacity, seed=3), 50)
    assert draw(numbered(capacity, seed=3), 5) != draw(numbered(capacity, seed=4), 5)


@pytest.mark.parametrize("capacity", [40, 90, TOTAL])
def test_capturing_ahead_changes_nothing_but_the_thread_that_captures(capacity):
    inline, ahead = numbered(capacity), numbered(capacity, overlap=True)
    with ahead:
        assert draw(ahead, 60) == draw(inline, 60)
    assert inline._source.threads == {"MainThread"}
    assert ahead._source.threads == {"capture ahead"}
    captured = inline._source.calls
    assert ahead._source.calls[: len(captured)] == captured


def test_chunks_are_the_same_contexts_in_every_pass_and_for_every_run():
    small, again = numbered(100, batch=4), numbered(100, batch=16)
    for one in (small, again):
        draw(one, 120, size=4)
    every = {tuple(chunk) for chunk in small._source.calls}
    assert len(every) == len(small._chunks) < len(small._source.calls)
    assert {tuple(chunk) for chunk in again._source.calls} == every


def test_chunks_come_in_another_order_in_each_pass():
    one = numbered(40)
    draw(one, 70)
    number = len(one._chunks)
    passes = [one._source.calls[start : start + number] for start in (0, number, 2 * number)]
    assert [sorted(single) for single in passes] == [sorted(passes[0])] * 3
    assert passes[0] != passes[1] != passes[2]


def test_training_begins_with_a_part_and_the_rest_comes_in_two_for_one():
    one = numbered(TOTAL)
    assert one.first == TOTAL // 8 > 16
    while one.hungry:
        one.feed()
    assert one.first <= len(one) <= one.first + one._chunks.size(0) < TOTAL
    for step in range(1, 8):
        draw(one, 1)
        assert one.hungry == (len(one) < one.first + 2 * 8 * step)
    draw(one, 3)
    assert len(one) == TOTAL


def test_the_first_part_is_large_enough_to_measure_the_variance(monkeypatch):
    monkeypatch.undo()
    counts = np.full(500, 128)
    sizes = [Buffer(Numbered(counts), held, batch=batch, seed=0).first for held, batch in ((10**6, 64), (10**6, 1024))]
    assert sizes == [8_192, 16_384]
    assert Buffer(Numbered(np.full(5_000, 128)), 400_000, batch=64, seed=0).first == 50_000
    assert Buffer(Numbered(), 10**6, batch=64, seed=0).first == TOTAL


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("capacity", [40, 90, TOTAL, 1_000])
@pytest.mark.parametrize("stop", [0, 1, 2, 7, 8, 21, 30, 41, 60])
def test_a_restored_buffer_goes_on_exactly_wherever_it_was_stopped(capacity, stop, shuffle, overlap):
    def moves(one, count, found):
        for _ in range(count):
            if one.hungry:
                one.feed()
            else:
                found.append([rows.tolist() for rows in one.draw(8)])

    def made():
        return Buffer(Numbered(paired=True), capacity, batch=8, seed=0, shuffle=shuffle, overlap=overlap)

    expected, before, after = [], [], []
    with made() as whole, made() as first, made() as second:
        moves(whole, 100, expected)
        moves(first, stop, before)
        values, arrays = first.state()
        moves(second, 5, [])
        second.restore(json.loads(json.dumps(values)), {name: array.copy() for name, array in arrays.items()})
        assert (second.drawn, len(second)) == (first.drawn, len(first))
        moves(second, 100 - stop, after)
    assert before + after == expected


def test_a_batch_may_exceed_the_text():
    [numbers] = draw(numbered(10 * TOTAL, batch=TOTAL), 1, size=2 * TOTAL + 5)
    assert np.bincount(numbers).min() == 2


def test_each_pass_is_a_permutation_of_its_own():
    passes = draw(numbered(10 * TOTAL, batch=TOTAL), 4, size=TOTAL)
    assert [sorted(single) for single in passes] == [list(range(TOTAL))] * 4
    assert len({tuple(single) for single in passes}) == 4


def test_contexts_that_are_held_out_are_never_captured():
    one = numbered(10 * TOTAL, without=[0, 4, 23])
    draw(one, 60)
    assert one.total == TOTAL - 7 - 7 - 4
    assert not {0, 4, 23} & set(one._source.captured)


@pytest.mark.parametrize("overlap", [False, True])
def test_an_error_of_the_capture_reaches_whoever_feeds_at_its_own_place(overlap):
    source = Numbered(fail_at=2)
    with Buffer(source, TOTAL, batch=64, seed=0, overlap=overlap) as one:
        one.feed()
        one.feed()
        with pytest.raises(ValueError, match="token “x” is NaN"):
            one.feed()


def test_bad_sizes_are_said_with_the_number_that_works():
    with pytest.raises(DictionaryError, match=r"buffer of 10 activations is too small.*buffer=16"):
        numbered(10)
    with pytest.raises(DictionaryError, match=r"^No token of the text counts"):
        Buffer(Numbered(np.zeros(4, dtype=int)), 100, batch=4, seed=0)


def test_drawing_before_feeding_is_refused():
    with pytest.raises(ValueError, match="feed the buffer"):
        numbered(TOTAL).draw(8)


def test_a_checkpoint_of_another_text_or_width_is_refused():
    one = numbered(40)
    draw(one, 2)
    values, arrays = one.state()
    other = Buffer(Numbered(COUNTS[:-3]), 40, batch=8, seed=0)
    with pytest.raises(DictionaryError, match=rf"text of {TOTAL:,} activations, but this text has"):
        other.restore(values, arrays)
    paired = Buffer(Numbered(paired=True), 40, batch=8, seed=0)
    with pytest.raises(DictionaryError, match="start the run anew"):
        paired.restore(values, arrays)


def test_memory_counts_inputs_and_targets():
    assert numbered(40).bytes == 40 * 2 * 4
    assert Buffer(Numbered(paired=True), 40, batch=8, seed=0).bytes == 40 * 5 * 4
