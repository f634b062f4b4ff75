"""Capturing ahead: in order, bounded, still while a person pauses, gone when nobody wants it any more."""

from __future__ import annotations

import gc
import itertools
import threading
import time

import pytest
import torch

from engine.dictionaries.ahead import Ahead


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def until(true):
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)


class Reader:
    """Gives ten times the place; notes what was read and by how many threads of torch."""

    def __init__(self, fail_at=None):
        self.read = []
        self.threads = 0
        self.fail_at = fail_at

    def __call__(self, place):
        self.threads = torch.get_num_threads()
        if place == self.fail_at:
            raise ValueError(f"place {place} is broken")
        self.read.append(place)
        return 10 * place


def test_results_come_in_order_and_no_more_than_the_depth_ahead():
    reader = Reader()
    with Ahead(reader, itertools.count(3), depth=2) as ahead:
        until(lambda: len(reader.read) == 2)
        assert [ahead.take() for _ in range(20)] == [10 * place for place in range(3, 23)]
        until(lambda: len(reader.read) == 22)
        time.sleep(0.05)
        assert len(reader.read) == 22


def test_the_thread_ends_with_the_last_place():
    with Ahead(Reader(), range(3), depth=5) as ahead:
        until(lambda: not ahead._thread.is_alive())
        assert [ahead.take() for _ in range(3)] == [0, 10, 20]


def test_an_error_comes_at_its_place_and_ends_the_thread():
    with Ahead(Reader(fail_at=2), itertools.count(), depth=5) as ahead:
        assert [ahead.take(), ahead.take()] == [0, 10]
        with pytest.raises(ValueError, match="place 2 is broken"):
            ahead.take()
        until(lambda: not ahead._thread.is_alive())


def test_an_error_of_the_trainer_ends_the_thread():
    def train():
        with Ahead(Reader(), itertools.count(), depth=2) as ahead:
            raise ZeroDivisionError(ahead.take())

    with pytest.raises(ZeroDivisionError):
        train()


def test_a_pause_stops_it_before_the_next_place_unless_the_trainer_waits():
    paused = threading.Event()
    paused.set()
    reader = Reader()
    with Ahead(reader, itertools.count(), depth=8, hold=paused.is_set) as ahead:
        time.sleep(0.1)
        assert reader.read == []
        assert ahead.take() == 0
        time.sleep(0.1)
        assert reader.read == [0]
        paused.clear()
        until(lambda: len(reader.read) == 9)


def test_closing_while_the_trainer_waits_or_twice_does_no_harm():
    go_on = threading.Event()

    def slow(place):
        go_on.wait(5)
        return place

    ahead = Ahead(slow, itertools.count(), depth=2)
    go_on.set()
    ahead.close()
    ahead.close()
    with pytest.raises(RuntimeError):
        ahead.take()


def test_a_forgotten_one_ends_by_itself():
    ahead = Ahead(Reader(), itertools.count(), depth=2)
    thread = ahead._thread
    del ahead
    gc.collect()
    until(lambda: not thread.is_alive())


def test_it_computes_with_the_callers_threads():
    """A new thread would take the number that any thread of the process has set last."""
    before = torch.get_num_threads()
    reader = Reader()
    try:
        torch.set_num_threads(1)
        other = threading.Thread(target=lambda: (torch.get_num_threads(), torch.set_num_threads(2)))
        other.start()
        other.join()
        assert torch.get_num_threads() == 1
        with Ahead(reader, range(1), depth=1) as ahead:
            ahead.take()
        assert reader.threads == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
