"""Affine probes: planted maps are found, held-out groups do not leak, partial R² counts what is new."""

from __future__ import annotations

import numpy as np
import pytest

from engine.geometry.errors import GeometryError
from engine.geometry.probes import beyond, fit, folds, predict, probe


def test_a_planted_affine_map_is_found_even_where_inputs_repeat_each_other() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 5))
    weight, bias = random.normal(size=(5, 2)), np.array([3.0, -1.0])
    y = x @ weight + bias
    found = fit(x, y)
    assert found.weight == pytest.approx(weight, abs=1e-10)
    assert found.bias == pytest.approx(bias, abs=1e-10)
    doubled = fit(np.concatenate([x, x, np.ones((300, 1))], axis=1).astype(np.float32), y)
    assert doubled(np.concatenate([x, x, np.ones((300, 1))], axis=1)) == pytest.approx(y, abs=1e-5)


def test_rows_of_a_group_share_a_fold_and_folds_are_of_equal_size() -> None:
    groups = np.repeat(np.arange(50), 4)
    fold = folds(groups, 5, np.random.default_rng(1))
    assert (fold.reshape(50, 4) == fold[::4, None]).all()
    assert np.bincount(fold).tolist() == [40] * 5
    assert np.array_equal(fold, folds(groups, 5, np.random.default_rng(1)))
    with pytest.raises(GeometryError, match="folds"):
        folds(np.zeros(9), 2, np.random.default_rng(0))


def test_each_row_is_predicted_by_a_probe_that_has_not_seen_its_group() -> None:
    random = np.random.default_rng(2)
    x, y = random.normal(size=(60, 3)), random.normal(size=(60, 2))
    fold = folds(np.arange(60) // 3, 4, random)
    found = predict(x, y, fold)
    for number in range(4):
        held = fold == number
        design = np.c_[x, np.ones(60)]
        by_hand = design[held] @ np.linalg.lstsq(design[~held], y[~held], rcond=None)[0]
        assert found[held] == pytest.approx(by_hand, abs=1e-10)


def test_noise_that_identifies_groups_scores_only_where_rows_are_split() -> None:
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 5)
    x, y = random.normal(size=(40, 60))[groups], random.normal(size=(40, 1))[groups]
    assert probe(x, y, folds(np.arange(200), 5, random)).r2 > 0.9  # the leak
    assert probe(x, y, folds(groups, 5, random)).r2 < 0.2


def test_r2_is_one_for_a_map_zero_for_noise_and_nan_for_constants() -> None:
    random = np.random.default_rng(4)
    x = random.normal(size=(2000, 4))
    fold = folds(np.arange(2000), 5, random)
    noise = random.normal(size=(2000, 1))
    assert probe(x, x[:, :2], fold).r2 == pytest.approx(1.0)
    assert probe(x, noise, fold).r2 == pytest.approx(0.0, abs=0.02)
    half = probe(x, x[:, :1] + noise, fold)
    assert half.r2 == pytest.approx(1 - noise.var() / (x[:, :1] + noise).var(), abs=0.01)
    assert half.by_fold.mean() == pytest.approx(half.r2, abs=0.03)
    assert np.isnan(probe(x, np.ones((2000, 1)), fold).r2)


def test_partial_r2_counts_only_what_is_not_known_already() -> None:
    random = np.random.default_rng(5)
    known, new = random.normal(size=(2, 2000, 1))
    fold = folds(np.arange(2000), 5, random)
    y = known + new
    assert beyond(known, y, known, fold) == pytest.approx(0.0, abs=1e-6)
    assert beyond(known + new, y, known, fold) == pytest.approx(1.0, abs=1e-6)
    noisy = new + random.normal(size=(2000, 1))
    assert beyond(noisy, y, known, fold) == pytest.approx(0.5, abs=0.05)
    assert np.isnan(beyond(new, 2 * known, known, fold))


def test_parts_that_do_not_match_are_refused() -> None:
    with pytest.raises(GeometryError, match="match"):
        probe(np.ones((4, 1)), np.ones((4, 1)), np.zeros(3))
