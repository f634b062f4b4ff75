"""Live metric buffers: nothing lost, nothing twice, views that stay valid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.live import FIRST, Growing, LiveRun


def rows(*steps: float) -> np.ndarray:
    return np.array([[step, step**2, step / 10] for step in steps]).reshape(-1, 3)


@given(st.lists(st.integers(0, 700), max_size=12))
def test_rows_are_those_that_were_appended_whatever_the_pieces(sizes: list[int]):
    buffer, expected = Growing(), np.empty((0, 3))
    for number, size in enumerate(sizes):
        piece = np.random.default_rng(number).normal(size=(size, 3))
        buffer.append(piece)
        expected = np.concatenate([expected, piece])
    assert np.array_equal(buffer.rows, expected)
    assert len(buffer) == len(expected)


def test_rows_that_were_given_out_do_not_change_when_the_buffer_grows():
    buffer = Growing(rows(*range(FIRST)))
    seen = buffer.rows
    buffer.append(rows(*range(FIRST, FIRST + 10)))
    assert np.array_equal(seen, rows(*range(FIRST)))
    with pytest.raises(ValueError, match="read-only"):
        seen[0, 0] = 1


def test_a_resumed_run_replaces_what_it_said_after_its_checkpoint():
    run = LiveRun()
    run.measure("loss", rows(0, 1, 2, 3, 4), None)
    run.measure("fvu", rows(0, 2, 4), None)
    run.resume()
    run.measure("loss", rows(3, 4, 5), None)
    run.measure("loss", rows(6), None)
    run.measure("fvu", rows(4, 6), None)
    assert np.array_equal(run.metrics["loss"].rows, rows(0, 1, 2, 3, 4, 5, 6))
    assert np.array_equal(run.metrics["fvu"].rows, rows(0, 2, 4, 6))


def test_a_run_resumed_in_another_window_begins_with_what_is_recorded():
    run = LiveRun()
    run.resume()
    # The recording may hold the new rows already, or not yet.
    run.measure("loss", rows(3, 4), rows(0, 1, 2, 3))
    assert np.array_equal(run.metrics["loss"].rows, rows(0, 1, 2, 3, 4))
