"""Spectra against scikit-learn, planted covariances, closed forms and brute-force resampling."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from engine.geometry.covariance import Covariance, merged
from engine.geometry.errors import GeometryError
from engine.geometry.spectrum import (
    Spectrum,
    demand_variance,
    marchenko_pastur,
    marchenko_pastur_edge,
    resample,
    spectrum,
    variances,
)


def seen(rows):
    found = Covariance(rows.shape[1])
    found.add(rows)
    return found


def resampled(blocks, seed, resamples=1_000):
    groups = [seen(block) for block in blocks]
    return resample(groups, spectrum(merged(groups)).components, seed, resamples)


def test_components_and_variances_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2_000, 12)) @ rng.normal(size=(12, 12)) + 5
    reference = PCA(svd_solver="full").fit(rows)
    found = spectrum(seen(rows))
    np.testing.assert_allclose(found.variances, reference.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(found.shares, reference.explained_variance_ratio_, rtol=1e-6)
    alignment = np.abs(np.sum(found.components * reference.components_, axis=1))
    np.testing.assert_allclose(alignment, 1, atol=1e-6)
    np.testing.assert_allclose(variances(seen(rows)).variances, found.variances, rtol=1e-10)


def test_a_planted_covariance_is_recovered():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    planted = np.asarray([50.0, 10.0, 5.0, 1.0, 0.5, 0.1])
    rows = rng.normal(size=(200_000, 6)) * np.sqrt(planted) @ basis.T
    found = spectrum(seen(rows))
    np.testing.assert_allclose(found.variances, planted, rtol=0.02)
    np.testing.assert_allclose(np.abs(np.sum(found.components * basis.T, axis=1)), 1, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 1, 1, 1], 4.0), ([3, 0, 0], 1.0), ([2, 1], 9 / 5), ([4, 2, 2], 64 / 24)],
)
def test_participation_ratio_has_its_closed_form(values, expected):
    assert Spectrum(np.asarray(values, dtype=float), np.empty(0)).participation_ratio == pytest.approx(expected)


def test_dimensions_counts_the_fewest_components_that_reach_a_share():
    found = Spectrum(np.asarray([5.0, 3.0, 1.0, 1.0]), np.empty(0))
    assert [found.dimensions(share) for share in (0.5, 0.51, 0.8, 0.9, 1.0)] == [1, 2, 2, 3, 4]
    assert found.explained(2) == pytest.approx(0.8)


def test_constant_and_dependent_dimensions_have_no_variance_of_their_own():
    rng = np.random.default_rng(2)
    free = rng.normal(size=(500, 2))
    rows = np.column_stack([free, free @ [[1.0], [2.0]], np.full(500, 7.0)])
    found = spectrum(seen(rows))
    assert (found.variances >= 0).all()
    assert found.variances[2:] == pytest.approx([0, 0], abs=1e-10)
    assert found.dimensions(1.0) <= 2


def test_fewer_tokens_than_dimensions_give_at_most_one_component_less_than_tokens():
    rows = np.random.default_rng(3).normal(size=(10, 40))
    found = spectrum(seen(rows))
    assert (found.variances[9:] < 1e-10).all()
    assert found.variances[8] > 0.1
    expected = np.square(np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)) / 9
    np.testing.assert_allclose(found.variances[:9], expected[:9], rtol=1e-9)


@pytest.mark.parametrize(("width", "samples"), [(50, 200), (100, 5_000), (80, 41), (60, 61)])
def test_marchenko_pastur_predicts_the_eigenvalues_of_noise(width, samples):
    rng = np.random.default_rng(4)
    found = np.mean([spectrum(seen(rng.normal(size=(samples, width)) * 2)).variances for _ in range(20)], axis=0)
    predicted = marchenko_pastur(width, samples, variance=4.0)
    filled = min(width, samples - 1)
    assert predicted[filled:] == pytest.approx(0)
    np.testing.assert_allclose(predicted[:filled].mean(), found[:filled].mean(), rtol=0.01)
    assert np.abs(predicted - found).max() < 0.05 * found[0]
    assert marchenko_pastur_edge(width, samples, 4.0) == pytest.approx(found[0], rel=0.08)
    assert predicted[0] <= marchenko_pastur_edge(width, samples, 4.0)


def test_resampling_equals_a_brute_force_bootstrap_over_groups():
    rng = np.random.default_rng(5)
    blocks = [rng.normal(size=(rng.integers(20, 60), 12)) * np.arange(1, 13) + rng.normal(size=12) for _ in range(12)]
    found = resampled(blocks, seed=6, resamples=400)
    draws = np.random.default_rng([6, 4]).multinomial(12, np.full(12, 1 / 12), size=400)
    ratios, firsts, tens = [], [], []
    for draw in draws:
        rows = np.concatenate([block for block, times in zip(blocks, draw, strict=True) for _ in range(times)])
        brute = spectrum(seen(rows))
        ratios.append(brute.participation_ratio)
        firsts.append(brute.explained(1))
        tens.append(brute.explained(10))
    assert found.groups == 12
    compared = ((found.participation_ratio, ratios), (found.explained_1, firsts), (found.explained_10, tens))
    for interval, brute in compared:
        np.testing.assert_allclose([interval.low, interval.high], np.percentile(brute, [2.5, 97.5]), rtol=1e-9)
        assert interval.deviation == pytest.approx(np.std(brute, ddof=1))


def test_in_many_dimensions_the_resampled_largest_eigenvalues_stay_close():
    rng = np.random.default_rng(6)
    scales = np.exp(-np.arange(80) / 20)
    blocks = [rng.normal(size=(200, 80)) * scales + 0.3 * rng.normal(size=80) * scales for _ in range(10)]
    found = resampled(blocks, seed=1, resamples=50)
    draws = np.random.default_rng([1, 4]).multinomial(10, np.full(10, 0.1), size=50)
    brute = [
        variances(seen(np.concatenate([np.tile(block, (times, 1)) for block, times in zip(blocks, draw, strict=True)])))
        for draw in draws
    ]
    expected = np.percentile([one.explained(1) for one in brute], [2.5, 97.5])
    np.testing.assert_allclose([found.explained_1.low, found.explained_1.high], expected, rtol=1e-3)
    expected = np.percentile([one.explained(10) for one in brute], [2.5, 97.5])
    np.testing.assert_allclose([found.explained_10.low, found.explained_10.high], expected, rtol=5e-3)


def test_too_few_groups_give_no_interval():
    rng = np.random.default_rng(7)
    assert resampled([rng.normal(size=(30, 3)) for _ in range(7)], seed=0) is None


def test_no_variance_and_too_few_rows_are_refused_with_a_sentence():
    with pytest.raises(GeometryError, match=r"^All 40 activations of some.hook are equal"):
        demand_variance(seen(np.full((40, 3), 2.5)), "some.hook")
    with pytest.raises(GeometryError, match=r"^Only 1 activation of some.hook counts"):
        demand_variance(seen(np.ones((1, 3))), "some.hook")
