"""Fourier over an index, against planted frequencies and Parseval's identity."""

from __future__ import annotations

import numpy as np
import pytest

from engine.toys import fourier


@pytest.mark.parametrize("n", [53, 70, 7])
def test_power_sums_to_that_of_the_centred_table(n: int) -> None:
    table = np.random.default_rng(0).normal(size=(n, 5)) + 3
    assert fourier.power(table).sum() == pytest.approx(((table - table.mean(0)) ** 2).sum(), rel=1e-12)
    assert len(fourier.power(table)) == len(fourier.frequencies(n)) == n // 2


@pytest.mark.parametrize("n", [53, 70])
def test_a_basis_is_orthonormal_and_has_all_the_power_of_its_frequency(n: int) -> None:
    bases = [fourier.basis(n, int(k)) for k in fourier.frequencies(n)]
    together = np.concatenate([np.full((n, 1), n**-0.5), *bases], axis=1)
    assert together.shape == (n, n)
    assert np.allclose(together.T @ together, np.eye(n), atol=1e-12)
    for k, basis in zip(fourier.frequencies(n), bases, strict=True):
        assert fourier.shares(basis @ np.ones((basis.shape[1], 3)))[k - 1] == pytest.approx(1, abs=1e-12)


def test_planted_frequencies_are_found_and_shuffling_hides_them() -> None:
    rng = np.random.default_rng(1)
    rows = np.concatenate(
        [fourier.basis(53, 3) @ rng.normal(size=(2, 16)), fourier.basis(53, 7) @ rng.normal(size=(2, 16))], 1
    )
    found = fourier.shares(rows + 5.0)
    assert found[[2, 6]].sum() > 0.999
    control = fourier.shuffled_shares(rows, rng, 30)
    assert control.shape == (30, 26)
    assert np.allclose(control.sum(1), 1)
    assert control.mean(0).max() < 0.1
    assert fourier.gini(found) > 0.9 > fourier.gini(control.mean(0)) + 0.6


def test_a_constant_table_has_no_power() -> None:
    assert fourier.shares(np.ones((9, 2))).tolist() == [0, 0, 0, 0]


def test_gini_of_equal_values_and_of_one() -> None:
    assert fourier.gini(np.ones(10)) == pytest.approx(0)
    assert fourier.gini(np.eye(10)[3]) == pytest.approx(0.9)
    assert fourier.gini(np.zeros(4)) == 0


def test_numbers_on_a_circle_have_cosine_and_sine_in_its_plane_and_follow_each_other_on_it() -> None:
    n, k = 11, 4
    directions = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 2)))[0].T
    table = fourier.basis(n, k) @ directions + 2.0
    seen = (table - table.mean(0)) @ fourier.plane(table, k).T
    assert np.allclose(seen, fourier.basis(n, k), atol=1e-12)
    order = fourier.around(n, k)
    assert order[0] == order[-1]
    assert sorted(order[:-1]) == list(range(n))
    assert set(np.diff(k * order % n) % n) == {1}
