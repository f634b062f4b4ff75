"""Distances off the manifold against brute force and known geometry."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from engine.steering.errors import SteeringError
from engine.steering.manifold import Manifold, relative_step, to_oracle


@pytest.fixture
def bank():
    random = np.random.default_rng(0)
    return random.normal(size=(200, 8)) * np.linspace(0.2, 3, 8) + 100


def fresh(n: int, seed: int):
    return np.random.default_rng(seed).normal(size=(n, 8)) * np.linspace(0.2, 3, 8) + 100


def test_held_out_real_activations_are_at_one(bank):
    real = fresh(101, 1)
    found = Manifold(bank, real)
    assert found.held_out
    again = found.nearest(real)
    assert np.median(again.plain) == pytest.approx(1)
    assert np.median(again.shrunk) == pytest.approx(1)
    others = found.nearest(fresh(101, 2))
    assert np.median(others.plain) == pytest.approx(1, abs=0.2)
    assert np.median(others.shrunk) == pytest.approx(1, abs=0.2)


def test_without_held_out_ones_each_of_the_bank_is_measured_to_the_rest(bank):
    found = Manifold(bank)
    reference = NearestNeighbors(n_neighbors=2).fit(bank).kneighbors(bank)[0][:, 1]
    assert not found.held_out
    assert found.scale == pytest.approx(np.median(reference))


def test_distances_are_those_of_brute_force(bank, monkeypatch):
    monkeypatch.setattr("engine.steering.manifold.TOGETHER", 450)
    real, x = fresh(20, 3), fresh(5, 4) + 3
    found = Manifold(bank, real)
    estimate = LedoitWolf().fit(bank)
    inverse = np.linalg.inv(estimate.covariance_)

    def nearest(rows):
        return np.array([min(mahalanobis(row, one, inverse) for one in bank) for row in rows])

    assert found.shrinkage == pytest.approx(estimate.shrinkage_)
    plain = np.array([min(np.linalg.norm(row - one) for one in bank) for row in x])
    np.testing.assert_allclose(found.nearest(x).plain * found.scale, plain)
    np.testing.assert_allclose(found.nearest(x).shrunk, nearest(x) / np.median(nearest(real)), rtol=1e-6)


def test_a_step_along_a_thin_direction_is_far_only_where_distances_know_the_covariance(bank):
    found, x = Manifold(bank, fresh(100, 5)), fresh(100, 6)
    thin, thick = np.eye(8)[0] * 3, np.eye(8)[7] * 3
    assert np.median(found.nearest(x + thin).shrunk) > 2 * np.median(found.nearest(x + thick).shrunk)


def test_fewer_activations_than_dimensions_serve():
    random = np.random.default_rng(7)
    found = Manifold(random.normal(size=(10, 50)), random.normal(size=(5, 50)))
    near = found.nearest(random.normal(size=(40, 50)))
    assert np.isfinite(near.shrunk).all()
    assert np.median(near.plain) == pytest.approx(1, abs=0.3)


def test_a_step_is_relative_to_the_activation():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert relative_step(x, x + np.eye(2)[::-1])[0] == pytest.approx(0.2)
    assert np.isnan(relative_step(x, x)[1])


def test_the_oracle_is_at_one_and_the_opposite_step_at_minus_one():
    random = np.random.default_rng(8)
    x, wanted = random.normal(size=(6, 4)) + 10, random.normal(size=(6, 4)) + 10
    np.testing.assert_allclose(to_oracle(x, wanted, wanted).activation, 1)
    np.testing.assert_allclose(to_oracle(x, wanted, wanted).step, 1)
    np.testing.assert_allclose(to_oracle(x, 2 * x - wanted, wanted).step, -1)
    still = to_oracle(x, x, wanted)
    assert np.isnan(still.step).all()
    assert (still.activation > 0.9).all()  # the common mean alone


def test_what_has_no_distance_is_refused(bank):
    with pytest.raises(SteeringError, match="2 real activations are too few"):
        Manifold(bank[:2])
    with pytest.raises(SteeringError, match="copies of others"):
        Manifold(np.repeat(bank[:1], 20, axis=0))
    with pytest.raises(SteeringError, match="do not fit a bank of width 8"):
        Manifold(bank).nearest(np.zeros((3, 7)))
    with pytest.raises(SteeringError, match="not finite"):
        Manifold(bank).nearest(np.full((1, 8), np.inf))
