"""Steerability against a planted bed whose shares are derived, against scipy and against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from engine.steering.errors import SteeringError
from engine.steering.steerability import (
    agreement,
    eta_squared,
    explained,
    holm,
    interval,
    slopes,
    strengths,
    summary,
    two_way,
)

AT = strengths()


def planted(n: int, seed: int, s0: float = 0.5, s1: float = 1.0, sigma: float = 0.5):
    """m_i(λ) = (s0 + s1 z_i + noise) λ with a spurious factor z = ±1, half of the samples each."""
    random = np.random.default_rng(seed)
    z = np.where(np.arange(n) % 2, 1, -1)
    slope = s0 + s1 * z + sigma * random.standard_normal(n)
    return slope[:, None] * AT, slope, ["plus" if one > 0 else "minus" for one in z]


def test_the_planted_bed_has_its_derived_shares():
    m, slope, z = planted(2_000, 0)
    found = slopes(m, AT)
    np.testing.assert_allclose(found.slope, slope, rtol=1e-12)
    np.testing.assert_allclose(found.residual, 0, atol=1e-12)
    random = np.random.default_rng(1)
    said = summary(found.slope, random)
    derived = (stats.norm.cdf(-3) + stats.norm.cdf(1)) / 2
    assert derived == pytest.approx(0.421, abs=5e-4)
    assert said.mean == pytest.approx(0.5, abs=0.05)
    assert said.anti == pytest.approx(derived, abs=0.02)
    assert said.anti_interval[0] < derived < said.anti_interval[1]
    assert said.sd == pytest.approx(np.sqrt(1.25), abs=0.05)
    assert said.normalised == pytest.approx(0.5 / np.sqrt(1.25), abs=0.05)
    nothing = ["first" if one // 2 % 2 else "second" for one in range(2_000)]
    spurious, chance = explained(found.slope, {"z": z, "nothing": nothing}, random, permutations=999)
    assert spurious.eta2 == pytest.approx(0.80, abs=0.02)
    assert spurious.p == pytest.approx(1 / 1000)
    assert spurious.adjusted == pytest.approx(2 / 1000)
    assert chance.eta2 < 0.005
    assert chance.p > 0.05


def test_slopes_residuals_and_ranks_are_those_of_scipy_row_by_row():
    random = np.random.default_rng(3)
    at = strengths(11, -1.0, 2.0)
    m = random.normal(size=(20, 11)) + np.outer(random.normal(size=20), at)
    found = slopes(m, at)
    for row, values in enumerate(m):
        line = stats.linregress(at, values)
        assert found.slope[row] == pytest.approx(line.slope)
        assert found.intercept[row] == pytest.approx(line.intercept)
        left = values - line.intercept - line.slope * at
        assert found.residual[row] == pytest.approx(np.sqrt(np.mean(left**2)))
        assert found.relative[row] == pytest.approx(np.sqrt(1 - line.rvalue**2))
        assert found.spearman[row] == pytest.approx(stats.spearmanr(at, values).statistic)


def test_curves_that_flatten_or_turn_are_flagged_and_lines_are_not():
    curves = np.stack([2 * AT + 1, -AT, np.tanh(4 * AT), -np.tanh(4 * AT), np.minimum(AT, 0), AT**2, np.sinh(AT)])
    assert slopes(curves, AT).saturated.tolist() == [False, False, True, True, True, True, False]


def test_a_sample_that_does_not_move_has_no_rank_and_no_residual():
    found = slopes(np.full((1, 7), 0.1) + np.linspace(0, 1e-17, 7), AT)
    assert (found.slope[0], found.relative[0]) == (pytest.approx(0, abs=1e-15), 0)
    assert np.isnan(found.spearman[0])
    assert not found.saturated[0]


def test_eta_squared_belongs_to_the_f_of_a_one_way_analysis_of_variance():
    random = np.random.default_rng(4)
    groups = random.integers(0, 4, 60)
    s = random.normal(size=60) + 0.5 * groups
    found = eta_squared(s, groups, 4)
    parts = [s[groups == one] for one in range(4)]
    between = sum(len(part) * (part.mean() - s.mean()) ** 2 for part in parts)
    assert found == pytest.approx(between / np.sum((s - s.mean()) ** 2))
    f = stats.f_oneway(*parts).statistic
    assert f == pytest.approx(found / 3 / ((1 - found) / 56))


def test_the_permutation_p_is_that_of_all_permutations():
    s, values = np.array([0.1, 0.4, -0.3, 1.2, 0.9, 1.5]), ["a", "a", "a", "b", "b", "b"]
    groups = np.array([0, 0, 0, 1, 1, 1])
    own = eta_squared(s, groups, 2)
    every = [eta_squared(s[list(order)], groups, 2) for order in itertools.permutations(range(6))]
    exact = np.mean(np.array(every) >= own - 1e-12)
    (found,) = explained(s, {"f": values}, np.random.default_rng(0), permutations=20_000)
    assert found.p == pytest.approx(exact, abs=0.01)
    assert found.chance == pytest.approx(1 / 5)


def test_the_permutation_p_is_uniform_where_the_factor_explains_nothing():
    random = np.random.default_rng(5)
    values = ["a", "b", "c"] * 10
    p = [explained(random.normal(size=30), {"f": values}, random, permutations=99)[0].p for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_factor_with_one_value_has_no_share_but_counts_among_those_declared():
    random = np.random.default_rng(6)
    s = np.r_[random.normal(size=10), random.normal(size=10) + 5]
    factors = {"same": ["x"] * 20, "half": ["a"] * 10 + ["b"] * 10}
    same, half = explained(s, factors, random, permutations=199)
    assert np.isnan(same.eta2)
    assert np.isnan(same.p)
    assert same.levels == 1
    assert half.adjusted == pytest.approx(2 * half.p)


def test_holm_is_its_definition():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    found = holm([float("nan"), 0.02])
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(0.04)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(7)
    truth = stats.norm.cdf(-0.5)
    mean = anti = 0
    for _ in range(200):
        found = summary(random.normal(0.5, 1.0, size=80), random, resamples=300)
        mean += found.mean_interval[0] <= 0.5 <= found.mean_interval[1]
        anti += found.anti_interval[0] <= truth <= found.anti_interval[1]
    assert 0.89 <= mean / 200 <= 0.99
    assert 0.88 <= anti / 200 <= 0.99


def test_quantiles_and_the_smallest_samples():
    found = summary(np.arange(11.0) - 2, np.random.default_rng(0), resamples=50)
    assert (found.low, found.median, found.high, found.anti) == (-1, 3, 7, pytest.approx(2 / 11))
    one = summary(np.array([2.0]), np.random.default_rng(0))
    assert (one.n, one.mean, one.anti) == (1, 2.0, 0.0)
    assert np.isnan([one.sd, one.normalised, *one.mean_interval]).all()
    equal = summary(np.array([2.0, 2.0]), np.random.default_rng(0))
    assert np.isnan(equal.normalised)
    assert equal.mean_interval == (2.0, 2.0)
    assert np.isnan(interval(np.array([np.nan]))).all()


@pytest.mark.parametrize(("count", "n"), [(0, 42), (3, 40), (40, 40), (1, 1)])
def test_the_interval_of_a_share_is_wilsons_and_has_a_width_at_its_ends(count, n):
    found = summary(np.where(np.arange(n) < count, -1.0, 1.0), np.random.default_rng(0), resamples=10)
    expected = stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
    assert found.anti_interval == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert found.anti_interval[1] > found.anti_interval[0]


def test_two_clusters_that_a_mean_hides_stand_in_the_two_way_table():
    slope = np.array([1.0, 1.2, -1.0, -1.2, 3.0])
    found = two_way(slope, ["A", "A", "B", "B", "A"], ["x", "x", "x", "x", "y"])
    assert (found.rows, found.columns) == (("A", "B"), ("x", "y"))
    np.testing.assert_allclose(found.mean, [[1.1, 3.0], [-1.1, np.nan]])
    assert found.n.tolist() == [[2, 1], [2, 0]]
    assert found.sd[0, 0] == pytest.approx(np.std([1.0, 1.2], ddof=1))


def test_agreement_is_scipys_line_and_correlations():
    random = np.random.default_rng(8)
    a = random.normal(size=200)
    b = 0.5 * a + 1 + 0.2 * random.normal(size=200)
    found, line = agreement(a, b, random), stats.linregress(a, b)
    assert (found.slope, found.intercept, found.r) == pytest.approx((line.slope, line.intercept, line.rvalue))
    assert found.rank == pytest.approx(stats.spearmanr(a, b).statistic)
    assert found.interval[0] < found.r < found.interval[1]
    assert np.isnan(agreement(a, np.zeros(200), random).r)


def test_strengths_hold_zero_and_refuse_what_gives_no_slope():
    np.testing.assert_allclose(strengths(), np.linspace(-1.5, 1.5, 7))
    assert 0.0 in strengths(8)
    assert 0.0 in strengths(9, -0.1, 3.0)
    with pytest.raises(SteeringError, match="6 strengths are too few"):
        strengths(6)
    with pytest.raises(SteeringError, match="leave out 0"):
        strengths(7, 0.5, 1.5)


def test_what_does_not_fit_is_refused_in_a_sentence():
    with pytest.raises(SteeringError, match="one column per strength"):
        slopes(np.zeros((3, 6)), AT)
    broken = np.zeros((3, 7))
    broken[1, 6] = np.inf
    with pytest.raises(SteeringError, match=r"sample 1 is inf at strength 1\.5"):
        slopes(broken, AT)
    with pytest.raises(SteeringError, match="2 values for 3 samples"):
        explained(np.zeros(3), {"f": ["a", "b"]}, np.random.default_rng(0))
    with pytest.raises(SteeringError, match="no samples"):
        summary(np.empty(0), np.random.default_rng(0))
    with pytest.raises(SteeringError, match="one of each per sample"):
        agreement(np.zeros(3), np.zeros(2), np.random.default_rng(0))
