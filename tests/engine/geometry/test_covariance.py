"""Streaming covariance against numpy, and the control that keeps variances and drops correlations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.geometry.covariance import Covariance, Decorrelated, groups_of, merged


def filled(rows, cuts=()):
    found = Covariance(rows.shape[1])
    for part in np.split(rows, cuts):
        found.add(part)
    return found


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 7), st.lists(st.integers(0, 60), max_size=5))
def test_covariance_equals_numpy_however_the_rows_are_cut(seed, count, width, cuts):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, width)) * 10 ** rng.uniform(-2, 2, size=width) + 1e3
    found = filled(rows, sorted(min(cut, count) for cut in cuts))
    expected = np.atleast_2d(np.cov(rows, rowvar=False))
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.matrix(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_a_large_offset_costs_no_digits():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5_000, 3))
    found = filled(rows + 1e8, [1_000, 1_001, 4_000])
    np.testing.assert_allclose(found.matrix(), np.cov(rows + 1e8, rowvar=False), rtol=1e-6, atol=1e-7)


def test_merging_groups_equals_seeing_all_rows():
    rows = np.random.default_rng(1).normal(size=(300, 4)) + np.arange(300)[:, None]
    group = groups_of(300, 7, seed=3)
    parts = [filled(rows[group == index]) for index in range(7)]
    np.testing.assert_allclose(merged(parts).matrix(), np.cov(rows, rowvar=False), rtol=1e-10)


def test_groups_have_equal_sizes_up_to_one():
    sizes = np.bincount(groups_of(103, 10, seed=0))
    assert len(sizes) == 10
    assert set(sizes) <= {10, 11}


@pytest.mark.parametrize("room", [64, 1_000, 5_000])
def test_decorrelated_keeps_every_variance_and_loses_the_correlations(room):
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(4_000, 1))
    rows = (shared + 0.1 * rng.normal(size=(4_000, 5))).astype(np.float32) * np.arange(1, 6) + 3
    control = Decorrelated(5, room, seed=9)
    for part in np.array_split(rows.astype(np.float32), 13):
        control.add(part)
    found = control.so_far()
    exact = np.cov(rows.astype(np.float32).astype(np.float64), rowvar=False)
    assert found.count == 4_000
    np.testing.assert_allclose(np.diag(found.matrix()), np.diag(exact), rtol=1e-9)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    off = (found.matrix() / scale)[~np.eye(5, dtype=bool)]
    assert np.abs(off).max() < 5 / np.sqrt(4_000)


def test_decorrelated_does_not_depend_on_the_batches():
    rows = np.random.default_rng(3).normal(size=(1_000, 3)).astype(np.float32)
    results = []
    for size in (1, 7, 1_000):
        control = Decorrelated(3, 128, seed=5)
        for start in range(0, 1_000, size):
            control.add(rows[start : start + size])
        results.append(control.so_far().matrix())
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_looking_at_the_control_midway_does_not_change_it():
    rows = np.random.default_rng(4).normal(size=(500, 3)).astype(np.float32)
    watched, unwatched = Decorrelated(3, 64, seed=1), Decorrelated(3, 64, seed=1)
    for part in np.array_split(rows, 10):
        watched.add(part)
        watched.so_far()
        unwatched.add(part)
    np.testing.assert_array_equal(watched.so_far().matrix(), unwatched.so_far().matrix())
