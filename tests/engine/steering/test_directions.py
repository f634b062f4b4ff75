"""Directions, maps and planes against algebra, planted truths and scipy."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from engine.steering import directions

Array: TypeAlias = npt.NDArray[Any]
WIDTH = 8


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def classes(random: np.random.Generator, n: int = 60) -> tuple[Array, Array]:
    """Source and target with different means and covariances."""
    mixed = random.normal(size=(WIDTH, WIDTH))
    return random.normal(size=(n, WIDTH)) * np.linspace(0.5, 3, WIDTH) + 4, random.normal(size=(n, WIDTH)) @ mixed - 2


def circle(n: int, frequency: int, axes: Array, radii: tuple[float, float] = (1.0, 1.0)) -> Array:
    """(n, width) points on an ellipse along two orthonormal axes (2, width)."""
    angles = 2 * np.pi * frequency * np.arange(n) / n
    return np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=1) @ axes


def axes(random: np.random.Generator, count: int) -> Array:
    return np.linalg.qr(random.normal(size=(WIDTH, count)))[0].T


def test_a_planted_difference_is_found_whatever_the_pairs_share(random: np.random.Generator) -> None:
    planted, shared = random.normal(size=WIDTH), random.normal(size=(30, WIDTH)) * 100
    np.testing.assert_allclose(directions.difference(shared + planted, shared), planted, atol=1e-10)


def test_the_shuffled_control_is_small_beside_the_difference(random: np.random.Generator) -> None:
    negative = random.normal(size=(400, WIDTH))
    positive = negative + 1
    found = directions.shuffled_difference(positive, negative, random)
    # Each pair counts +1 or -1, so every entry is the same binomial mean with standard deviation 1/20.
    np.testing.assert_allclose(found, found[0])
    assert abs(found[0]) < 0.25


def test_the_random_control_is_as_long_as_asked_and_points_anywhere(random: np.random.Generator) -> None:
    drawn = np.stack([directions.random_vector(WIDTH, 2.5, random) for _ in range(2000)])
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 2.5)
    assert np.abs(drawn.mean(0)).max() < 0.1


def test_mean_matching_moves_the_mean_and_nothing_else(random: np.random.Generator) -> None:
    source, target = classes(random)
    moved = directions.mean_matching(source, target)(source)
    np.testing.assert_allclose(moved.mean(0), target.mean(0))
    np.testing.assert_allclose(np.cov(moved.T), np.cov(source.T))


def test_gaussian_transport_carries_mean_and_covariance_onto_the_targets(random: np.random.Generator) -> None:
    source, target = classes(random)
    found = directions.gaussian_transport(source, target)
    s, t = ledoit_wolf(source)[0], ledoit_wolf(target)[0]
    np.testing.assert_allclose(found(source).mean(0), target.mean(0), atol=1e-9)
    np.testing.assert_allclose(found.weight @ s @ found.weight.T, t, atol=1e-9)
    assert np.linalg.eigvalsh(found.weight)[0] > 0  # the gradient of a convex potential, which makes it optimal


def test_transport_is_the_formula_with_scipys_square_roots(random: np.random.Generator) -> None:
    s, t = (np.cov(part.T) for part in classes(random))
    root = scipy.linalg.sqrtm(s)
    back = np.linalg.inv(root)
    expected = back @ scipy.linalg.sqrtm(root @ t @ root) @ back
    np.testing.assert_allclose(directions.transport(s, t), expected.real, atol=1e-8)


def test_transport_between_diagonal_covariances_scales_each_dimension() -> None:
    s, t = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0])
    np.testing.assert_allclose(directions.transport(np.diag(s), np.diag(t)), np.diag(np.sqrt(t / s)), atol=1e-12)


def test_transport_is_exact_though_variances_differ_a_million_times(random: np.random.Generator) -> None:
    turn = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0]
    s = turn @ np.diag(np.logspace(0, 6, WIDTH)) @ turn.T
    t = np.diag(np.logspace(3, 0, WIDTH))
    found = directions.transport(s, t)
    np.testing.assert_allclose(found @ s @ found, t, atol=1e-6)


def test_more_dimensions_than_rows_leave_the_maps_finite(random: np.random.Generator) -> None:
    source, target = random.normal(size=(5, 40)), random.normal(size=(5, 40)) + 1
    for make in (directions.gaussian_transport, directions.least_squares):
        found = make(source, target)
        assert np.isfinite(found.weight).all()
        np.testing.assert_allclose(found(source).mean(0), target.mean(0), atol=1e-8)


def test_least_squares_finds_a_planted_map(random: np.random.Generator) -> None:
    weight, bias = random.normal(size=(WIDTH, WIDTH)), random.normal(size=WIDTH)
    source = random.normal(size=(60, WIDTH)) + 3
    found = directions.least_squares(source, source @ weight.T + bias)
    fresh = random.normal(size=(20, WIDTH))
    np.testing.assert_allclose(found(fresh), fresh @ weight.T + bias, atol=1e-5)


def test_least_squares_takes_the_penalty_that_leaving_one_out_says(random: np.random.Generator) -> None:
    source = random.normal(size=(25, WIDTH))
    target = source + source @ random.normal(size=(WIDTH, WIDTH)) * 0.3 + random.normal(size=(25, WIDTH))
    found = directions.least_squares(source, target)
    scale = float(np.linalg.svd(source - source.mean(0))[1][0] ** 2)
    errors = []
    for penalty in directions.PENALTIES:
        # Centring within each fold is what scikit-learn does too; its intercept is not penalised.
        guesses = cross_val_predict(Ridge(alpha=penalty * scale), source, target - source, cv=LeaveOneOut())
        errors.append(float(np.square(target - source - guesses).sum()))
    chosen = float(directions.PENALTIES[int(np.argmin(errors))])
    assert found.facts["ridge_penalty"] == pytest.approx(chosen)
    model = Ridge(alpha=chosen * scale).fit(source, target - source)
    np.testing.assert_allclose(found(source), source + model.predict(source), atol=1e-8)


def test_where_pairs_say_nothing_least_squares_leaves_activations_as_they_are(random: np.random.Generator) -> None:
    seen = np.zeros((10, WIDTH))
    seen[:, :2] = random.normal(size=(10, 2))
    found = directions.least_squares(seen, seen * 3)
    np.testing.assert_allclose(found.weight[2:, 2:], np.eye(WIDTH - 2), atol=1e-9)


def test_class_means_are_those_of_their_rows(random: np.random.Generator) -> None:
    labels, x = random.permutation(np.arange(20) % 5), random.normal(size=(20, WIDTH))
    found = directions.class_means(x, labels, 5)
    for number in range(5):
        np.testing.assert_allclose(found[number], x[labels == number].mean(0))


def test_templates_are_taken_out_of_class_means_though_classes_came_in_different_ones(
    random: np.random.Generator,
) -> None:
    truth, styles = random.normal(size=(5, WIDTH)), random.normal(size=(4, WIDTH)) * 50
    labels, templates = np.repeat(np.arange(5), 4), np.tile(np.arange(4), 5)
    seen = np.delete(np.arange(20), [0, 5, 6, 11, 17])  # every class in other templates
    x = (truth[labels] + styles[templates])[seen]
    found = directions.class_means(x, labels[seen], 5, templates[seen] * 3)
    np.testing.assert_allclose(found - found.mean(0), truth - truth.mean(0), atol=1e-9)
    assert directions.explained(x, labels[seen], templates[seen]) == pytest.approx(1)


def test_what_labels_explain_beyond_templates_is_analysis_of_variance(random: np.random.Generator) -> None:
    labels, templates = np.repeat(np.arange(3), 8), np.tile(np.arange(4), 6)  # balanced, so that shares add up
    x = (
        random.normal(size=(24, WIDTH))
        + random.normal(size=(3, WIDTH))[labels]
        + random.normal(size=(4, WIDTH))[templates]
    )

    def between(by: Array) -> float:
        return float(sum(np.square(x[by == k].mean(0) - x.mean(0)).sum() * (by == k).sum() for k in np.unique(by)))

    total = float(np.square(x - x.mean(0)).sum())
    expected = between(labels) / (total - between(templates))
    assert directions.explained(x, labels, templates) == pytest.approx(expected)
    assert np.isnan(directions.explained(np.ones((24, WIDTH)), labels, templates))


@pytest.mark.parametrize("n", [7, 10])
def test_shares_of_frequencies_are_those_planted(random: np.random.Generator, n: int) -> None:
    found = axes(random, 4)
    means = 3 * circle(n, 1, found[:2]) + circle(n, 3, found[2:]) + 5
    shares = directions.class_spectrum(means)
    np.testing.assert_allclose(shares, np.eye(n // 2)[0] * 0.9 + np.eye(n // 2)[2] * 0.1, atol=1e-12)
    power = np.square(means - means.mean(0)).sum()
    np.testing.assert_allclose(shares * power, [9 * n, 0, n, *[0] * (n // 2 - 3)], atol=1e-9)


def test_planes_turn_every_class_mean_into_the_next(random: np.random.Generator) -> None:
    found = axes(random, 4)
    means = 3 * circle(11, 2, found[:2]) + circle(11, 5, found[2:]) + random.normal(size=WIDTH)
    planes = directions.circular_planes(means)
    assert planes.frequencies.tolist() == [2, 5]
    np.testing.assert_allclose(planes.angles, 2 * np.pi * np.array([2, 5]) / 11)
    np.testing.assert_allclose(planes.shares, [0.9, 0.1])
    basis = planes.planes.reshape(4, WIDTH)
    np.testing.assert_allclose(basis @ basis.T, np.eye(4), atol=1e-12)
    coordinates = np.einsum("nd,kcd->nkc", means - planes.centre, planes.planes)
    turned = coordinates[..., 0] + 1j * coordinates[..., 1]
    np.testing.assert_allclose(turned * np.exp(1j * planes.angles), np.roll(turned, -1, axis=0), atol=1e-10)


def test_an_ellipse_keeps_its_sense_of_turning(random: np.random.Generator) -> None:
    axes_ = axes(random, 2)
    planes = directions.circular_planes(circle(9, 1, axes_, (2.0, 1.0)))
    np.testing.assert_allclose(planes.planes[0], axes_, atol=1e-10)


def test_what_cannot_turn_is_left_out(random: np.random.Generator) -> None:
    found = axes(random, 3)
    flat = np.cos(2 * np.pi * 2 * np.arange(8) / 8)[:, None] * found[2]  # a cosine without its sine
    alternating = (-1.0) ** np.arange(8)[:, None] * found[2]  # half of an even number of classes
    planes = directions.circular_planes(circle(8, 1, found[:2]) + 0.5 * flat + 0.5 * alternating)
    assert planes.frequencies.tolist() == [1]
    assert planes.left_out == pytest.approx((0.125 + 0.25) / (1 + 0.125 + 0.25))
    line = np.cos(2 * np.pi * np.arange(8) / 8)[:, None] * found[0]
    assert directions.circular_planes(line).planes.shape == (0, 2, WIDTH)


def test_weak_frequencies_are_no_key_frequencies(random: np.random.Generator) -> None:
    found = axes(random, 4)
    planes = directions.circular_planes(circle(9, 1, found[:2]) + 0.1 * circle(9, 4, found[2:]))
    assert planes.frequencies.tolist() == [1]


def test_auroc_is_scikit_learns_with_ties(random: np.random.Generator) -> None:
    positive, negative = random.integers(0, 6, 30).astype(float) + 1, random.integers(0, 6, 40).astype(float)
    expected = roc_auc_score([1] * 30 + [0] * 40, np.concatenate([positive, negative]))
    assert directions.auroc(positive, negative) == pytest.approx(expected)
    assert np.isnan(directions.auroc(positive, negative[:0]))
