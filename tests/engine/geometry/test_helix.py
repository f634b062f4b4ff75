"""Fits of numbers on planted helices, noise, and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from engine.geometry.errors import GeometryError
from engine.geometry.helix import HelixFit, Points, fit, pca, pca_project
from engine.geometry.helix_scores import CrossFit, score
from engine.geometry.number_design import PERIODS, conditioning, design, resolved
from engine.geometry.synthetic_numbers import planted_helix

VALUES = np.arange(300)


def planted(seed=0, noise=0.3, values=VALUES):
    return planted_helix(values, np.random.default_rng([seed, 1]), noise=noise)


@pytest.fixture(scope="module")
def scores():
    return score(Points(VALUES, planted()), np.random.default_rng([0, 2]))


def test_a_planted_helix_is_found_with_and_without_its_numbers(scores):
    assert scores.in_sample["helix"] > 0.95
    assert scores.held["helix"].r2 > 0.94
    assert scores.held["helix"].low <= scores.held["helix"].r2 <= scores.held["helix"].high
    assert scores.in_sample["PCA"] >= scores.in_sample["helix"]  # nothing of as many dimensions explains more
    assert scores.held["PCA"].r2 >= scores.held["helix"].r2
    assert scores.between == 1


def test_other_bases_of_the_same_size_stay_far_below_a_planted_helix(scores):
    assert scores.held["polynomial"].r2 < 0.4
    assert scores.held["random periods"].r2 < 0.4
    assert scores.held["linear"].r2 < 0.2
    assert scores.held["circle"].r2 < scores.held["helix"].r2


def test_shuffled_numbers_give_what_the_formula_for_noise_says(scores):
    assert scores.noise == pytest.approx(8 / 299)
    assert scores.shuffled.mean() == pytest.approx(8 / 299, abs=0.02)
    assert len(scores.shuffled) == 20


def test_noise_is_no_helix_for_held_out_numbers():
    noise = np.random.default_rng(5).standard_normal((300, 64))
    found = score(Points(VALUES, noise), np.random.default_rng(6))
    assert found.in_sample["helix"] == pytest.approx(8 / 299, abs=0.02)
    assert found.held["helix"].r2 < 0
    # a ring that is read by fits which have not seen the numbers is none in noise
    columns = design(VALUES)(VALUES)[:, 1:]
    assert abs(np.corrcoef(found.read[:, 4], columns[:, 4])[0, 1]) < 0.2


def test_reading_a_planted_helix_gives_its_columns_back(scores):
    columns = design(VALUES)(VALUES)[:, 1:]
    for number in range(columns.shape[1]):
        assert np.corrcoef(scores.read[:, number], columns[:, number])[0, 1] > 0.98


def test_the_column_that_vanishes_is_left_out_and_the_condition_stays_small():
    sound, useless = design(VALUES), design(VALUES, keep_vanishing=True)
    assert sound.dropped == ("sin 2",)
    assert sound.columns == 9
    assert conditioning(sound(VALUES)).number < 10
    assert conditioning(sound(VALUES)).rank == 9
    assert conditioning(useless(VALUES)).number > 1e12
    assert conditioning(useless(VALUES)).rank == 9


def test_a_fit_of_exact_data_predicts_numbers_it_has_not_seen_exactly():
    exact = planted(noise=0.0)
    found = fit(VALUES, exact, train=VALUES[::3])
    np.testing.assert_allclose(found.predict(VALUES), exact, atol=1e-9)
    np.testing.assert_array_equal(found.held, np.setdiff1d(VALUES, VALUES[::3]))
    np.testing.assert_allclose(found.read(exact), found.design(VALUES)[:, 1:], atol=1e-9)


def test_a_polynomial_is_fitted_exactly_by_a_polynomial():
    x = VALUES[:, None] / 300.0
    exact = np.concatenate([1 + x - 3 * x**2, x**4], axis=1)
    found = fit(VALUES, exact, basis="polynomial", degree=4, train=VALUES[20:280])
    np.testing.assert_allclose(found.predict(VALUES), exact, atol=1e-9)


def test_fits_agree_with_scikit_learn_when_numbers_have_several_prompts():
    random = np.random.default_rng(3)
    values = random.integers(0, 50, 400)
    x = planted_helix(values, random, width=20) + random.standard_normal((400, 20))
    train = np.unique(values)[:40]
    found = fit(values, x, periods=(2, 5, 10), dims=8, train=train)
    chosen = np.isin(values, train)
    reference = PCA(8, svd_solver="full").fit(x[chosen])
    columns = design(np.unique(values), periods=(2, 5, 10))
    line = LinearRegression(fit_intercept=False).fit(columns(values[chosen]), reference.transform(x[chosen]))
    expected = reference.inverse_transform(line.predict(columns(np.arange(50))))
    np.testing.assert_allclose(found.predict(np.arange(50)), expected, atol=1e-8)


def test_r_squared_counts_every_row_and_the_whole_space():
    random = np.random.default_rng(4)
    values = random.integers(0, 30, 200)
    x = random.standard_normal((200, 7)) + values[:, None] * 0.1
    points = Points(values, x)
    found = fit(values, x, basis="linear", dims=3)
    rows = found.predict(values)
    brute = 1 - np.square(x - rows).sum() / np.square(x - x.mean(axis=0)).sum()
    assert points.r_squared(found.predict(points.distinct)) == pytest.approx(brute, rel=1e-12)
    by_hand = np.stack([x[values == value].mean(axis=0) for value in points.distinct])
    np.testing.assert_allclose(points.means, by_hand)
    assert points.between == pytest.approx(points.r_squared(by_hand), rel=1e-12)


def test_held_out_numbers_are_in_no_part_of_their_fit():
    points = Points(np.repeat(VALUES[:100], 2), planted(values=np.repeat(VALUES[:100], 2)))
    random = np.random.default_rng(8)
    found = score(points, random)
    assert len(found.fit.held) == 20
    np.testing.assert_array_equal(np.sort(np.concatenate([found.fit.train, found.fit.held])), VALUES[:100])
    spoiled = points.x.copy()
    spoiled[np.isin(points.values, found.fit.held)] += 1e3
    again = fit(points.values, spoiled, train=found.fit.train)
    np.testing.assert_allclose(again.predict(VALUES), found.fit.predict(VALUES), atol=1e-8)


def test_cross_fitted_predictions_equal_fits_by_hand():
    values = VALUES[:60]
    x = planted(values=values)
    fold = np.arange(60) % 3
    found = CrossFit(Points(values, x), fold).predicted(design(values, periods=(2, 5)))
    for number in range(3):
        one = fit(values, x, periods=(2, 5), train=values[fold != number])
        np.testing.assert_allclose(found[fold == number], one.predict(values[fold == number]), atol=1e-9)


def test_components_explained_add_up_to_the_whole(scores):
    points = Points(VALUES, planted())
    explained = (scores.by_component * scores.variances).sum() * 299 / points.squares.sum()
    assert explained == pytest.approx(scores.in_sample["helix"], rel=1e-6)
    assert isinstance(scores.fit, HelixFit)
    assert set(scores.fit.arrays) == {"coefficients", "components", "mean", "train", "held"}


def test_projections_agree_with_scikit_learn():
    x = planted(values=VALUES[:40])
    reference = PCA(5, svd_solver="full").fit(x)
    expected = reference.inverse_transform(reference.transform(x))
    np.testing.assert_allclose(pca_project(x, pca(x), 5), expected, atol=1e-9)
    tall = planted(values=np.tile(VALUES, 2))
    reference = PCA(5, svd_solver="full").fit(tall)
    np.testing.assert_allclose(pca(tall, 5).variances, reference.explained_variance_, rtol=1e-9)


def test_periods_that_few_numbers_cannot_tell_are_left_out():
    assert resolved(VALUES, PERIODS) == PERIODS
    assert resolved(np.arange(100), PERIODS) == PERIODS
    assert resolved(np.arange(99), PERIODS) == (2, 5, 10)
    assert resolved(np.arange(10), PERIODS) == (2, 5)
    with pytest.raises(GeometryError, match="5 different numbers are too few"):
        resolved(np.arange(5), PERIODS)


@pytest.mark.parametrize(
    ("values", "x", "match"),
    [
        (np.zeros(9, int), np.ones((9, 3)), "All numbers are equal"),
        (np.arange(9), np.ones((9, 3)), "All activations are equal"),
        (np.arange(9), np.full((9, 3), np.nan), "not finite"),
        (np.arange(9), np.ones((8, 3)), "do not fit"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_a_sentence(values, x, match):
    with pytest.raises(GeometryError, match=match):
        fit(values, x, periods=(2,))
    with pytest.raises(GeometryError, match="None of the numbers"):
        fit(VALUES, planted(), train=np.array([1_000]))


def test_components_are_found_where_lapack_gives_up(monkeypatch):
    random = np.random.default_rng(0)
    x = np.repeat(random.standard_normal((12, 40)) @ np.diag(np.geomspace(1, 30, 40)), 5, axis=0)
    expected = pca(x, 11)

    def fails(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", fails)
    found = pca(x, 100)
    assert len(found.variances) == 11
    np.testing.assert_allclose(found.variances, expected.variances, rtol=1e-8)
    np.testing.assert_allclose(np.abs((found.components * expected.components).sum(axis=1)), 1, atol=1e-8)
