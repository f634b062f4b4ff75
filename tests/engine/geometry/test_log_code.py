"""The logarithm in activations: planted as a direction, as an angle, and absent."""

from __future__ import annotations

import numpy as np
import pytest

from engine.geometry import log_code
from engine.geometry.errors import GeometryError
from engine.geometry.helix import Points, pca
from engine.geometry.log_code import angles, correlations, log_direction, ranking
from engine.geometry.number_design import design
from engine.geometry.number_words import angle_sentence, specific
from engine.geometry.synthetic_numbers import planted_helix, planted_log

VALUES = np.arange(1, 301)
U = np.log(VALUES)


def searched(seed, code):
    x = planted_log(VALUES, np.random.default_rng([seed, 1]), code=code)
    return angles(U, pca(x, 16).scores(x), np.random.default_rng([seed, 2]), permutations=39)


def test_a_planted_angle_of_the_logarithm_is_found_and_none_where_there_is_none():
    false = [searched(seed, 0.0) for seed in range(20)]
    true = [searched(seed, 0.7) for seed in range(20)]
    assert sum(found.p <= 0.05 for found in false) <= 3
    hits = [found.found and abs(found.omega[found.strongest] - 6) <= found.omega[0] for found in true]
    assert sum(hits) >= 18


def test_one_threshold_serves_the_whole_grid():
    found = searched(0, 0.0)
    assert len(found.omega) == 80
    np.testing.assert_allclose(found.omega, 2 * np.pi * np.arange(1, 81) / (U[-1] - U[0]) / 4)
    assert (found.gain > found.threshold).any() == (found.p <= 0.05)


def test_gains_are_those_of_plain_least_squares_when_numbers_count_alike():
    x = planted_log(VALUES, np.random.default_rng(4), code=0.3, width=3)
    found = angles(U, x, np.random.default_rng(5), weight=np.ones(300), permutations=19)
    total = np.square(x - x.mean(axis=0)).sum()

    def explained(columns):
        return 1 - np.square(x - columns @ np.linalg.lstsq(columns, x, rcond=None)[0]).sum() / total

    line = np.stack([np.ones(300), U], axis=1)
    for j in (0, 20, 79):
        both = np.column_stack([line, np.cos(found.omega[j] * U), np.sin(found.omega[j] * U)])
        assert found.gain[j] == pytest.approx(explained(both) - explained(line), abs=1e-9)


def test_dense_stretches_do_not_decide_alone():
    weights = log_code.weights(U)
    assert weights.mean() == pytest.approx(1)
    assert weights[0] > 3 * weights[-1]
    last = VALUES > 150
    assert weights[last].sum() / weights.sum() < 0.35 < last.mean()


def test_the_positive_control_finds_the_period_ten_along_the_number_itself():
    values = np.arange(100)
    x = planted_helix(values, np.random.default_rng(1), periods=(10,))
    found = angles(values, pca(x).scores(x), np.random.default_rng(2), frequencies=200)
    assert found.found
    assert 2 * np.pi / found.omega[found.strongest] == pytest.approx(10, rel=0.02)


def test_a_period_along_the_number_is_no_angle_of_its_logarithm_when_it_is_known():
    values = np.arange(10, 100)
    x = planted_helix(values, np.random.default_rng(1), periods=(10,), noise=0.5)
    u, columns = np.log(values), design(values, periods=(10,))(values)
    naive = angles(u, x, np.random.default_rng(2), permutations=99)
    beyond = angles(u, x, np.random.default_rng(2), known=columns, permutations=99)
    assert naive.gain.max() > 2 * beyond.gain.max()
    assert not beyond.found
    turn = np.outer(np.cos(20 * u), np.random.default_rng(3).standard_normal(64))
    both = angles(u, x + 0.5 * turn, np.random.default_rng(2), known=columns, permutations=99)
    assert both.found
    assert both.omega[both.strongest] == pytest.approx(20, abs=both.omega[0])


def test_columns_that_are_known_do_not_make_noise_a_code():
    values = np.arange(10, 100)
    u, known = np.log(values), np.column_stack([design(values, basis)(values) for basis in ("helix", "last digit")])
    found = [
        angles(u, np.random.default_rng(seed).standard_normal((90, 6)), np.random.default_rng([seed, 1]),
               known=known, permutations=39)
        for seed in range(60)
    ]  # fmt: skip
    assert sum(one.p <= 0.05 for one in found) <= 8  # 3 expected


@pytest.mark.parametrize(("of_logarithm", "expected"), [(True, True), (False, False)])
def test_what_repeats_along_the_number_itself_is_no_code_of_its_logarithm(of_logarithm, expected):
    values = np.arange(10, 100)
    u, random = np.log(values), np.random.default_rng(4)
    wave = np.cos(2 * np.pi * (2.5 * (u - u[0]) / (u[-1] - u[0]) if of_logarithm else values / 20))
    x = np.outer(u, random.standard_normal(8)) + np.outer(wave, random.standard_normal(8))
    x = x + 0.3 * random.standard_normal(x.shape)
    lines = np.column_stack([values / 99, np.sqrt(values), u])
    found = angles(u, x, np.random.default_rng(5), known=lines, permutations=99)
    others = log_code.rivals(values, x, np.random.default_rng(6), known=lines)
    assert found.gain.max() > found.threshold  # shuffled residuals alone would call either a code
    assert specific(found, others) is expected
    sentence = angle_sentence(found, others, found, 0.1)
    assert sentence.startswith(
        "An angular code of log a" if expected else "No angular code of log a was found: activations"
    )


def test_a_bend_of_the_line_is_told_from_a_code():
    x = (U[:, None] - 3) ** 2 + 0.1 * np.random.default_rng(0).standard_normal((300, 4))
    found = angles(U, x, np.random.default_rng(1))
    assert found.bends
    assert found.turns[found.best] < 2
    assert not specific(found, log_code.rivals(VALUES, x, np.random.default_rng(2)))


def test_a_direction_of_the_logarithm_explains_what_the_number_leaves_and_not_the_other_way_round():
    random = np.random.default_rng(0)
    line = random.standard_normal(16)
    x = np.outer(U, line) + 0.3 * random.standard_normal((300, 16))
    found = log_direction(Points(VALUES, x), np.random.default_rng(1))
    assert found.targets["log a"].held > 0.95
    assert found.targets["log a"].held > found.targets["√a"].held > found.targets["a"].held
    assert found.targets["log a"].beyond["a"] > 0.7
    assert found.targets["a"].beyond["log a"] < 0.1
    assert found.targets["log a"].shuffled.max() < 0.2
    assert abs(found.vector @ line) / np.linalg.norm(line) > 0.95
    straight = np.outer(VALUES / 50, line) + 0.3 * random.standard_normal((300, 16))
    other = log_direction(Points(VALUES, straight), np.random.default_rng(1))
    assert other.targets["a"].beyond["log a"] > 0.7
    assert other.targets["log a"].beyond["a"] < 0.1


def test_numbers_below_one_have_no_logarithm_and_are_left_out():
    x = planted_log(VALUES, np.random.default_rng(0))
    with_zero = Points(np.arange(301), np.concatenate([np.full((1, 16), 99.0), x]))
    a, b = (log_direction(points, np.random.default_rng(3)) for points in (with_zero, Points(VALUES, x)))
    assert a.targets["log a"].held == b.targets["log a"].held
    with pytest.raises(GeometryError, match="5 numbers have a logarithm"):
        log_direction(Points(np.arange(6), np.ones((6, 2))), np.random.default_rng(0))


def test_the_component_that_holds_the_logarithm_leads_the_ranking():
    x = planted_log(VALUES, np.random.default_rng(2))
    found = ranking(Points(VALUES, x), np.random.default_rng(3), components=8)
    assert found.correlations.argmax() == 0
    assert found.correlations[0] > found.family > found.band.mean()
    assert (found.correlations[1:] < found.family).all()
    assert found.shares.sum() <= 1 + 1e-9


def test_the_logarithm_is_much_like_the_root_and_the_number():
    found = correlations(np.arange(1, 361))
    assert found["a"] == pytest.approx(0.880, abs=5e-4)
    assert found["√a"] == pytest.approx(0.953, abs=5e-4)


def test_too_few_or_equal_numbers_are_refused():
    with pytest.raises(GeometryError, match="too few to look for an angle"):
        angles(np.zeros(9), np.ones((9, 2)), np.random.default_rng(0))
