"""Patching numbers: on a model whose answers follow from what is patched in by one formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.figures.kinds import Histogram, Lines, Table
from engine.geometry import number_causal_figures
from engine.geometry.errors import GeometryError
from engine.geometry.helix import Points, fit
from engine.geometry.number_patching import (
    FULL,
    MEAN,
    Pairs,
    PatchResults,
    draw_pairs,
    interval,
    patching,
    replacements,
    split,
)
from engine.geometry.number_sums import Sums, ask, operation
from engine.models.opening import OpenModel
from tests.engine.geometry.adding_model import NUMBERS, TEMPLATE, adding_model, log_probability

HOOKS = {"blocks.0.hook_resid_pre": 0, "blocks.0.hook_resid_post": 1}


@pytest.fixture(scope="module")
def model() -> OpenModel:
    return adding_model()


@pytest.fixture(scope="module")
def found(model: OpenModel) -> PatchResults:
    return patching(model, TEMPLATE, np.arange(NUMBERS), HOOKS, np.random.default_rng(0), pairs=150, periods=(2, 5, 10))


def test_sums_are_asked_with_the_same_second_numbers_and_their_answers_found(model: OpenModel) -> None:
    sums = ask(model, TEMPLATE, np.arange(NUMBERS), np.random.default_rng(1), others=4)
    assert (len(sums.a), sums.asked, sums.operation) == (120, 120, "a + b")
    assert all(len(np.unique(sums.b[sums.a == a])) == 4 for a in range(NUMBERS))
    assert len(np.unique(sums.b)) == 4
    assert sums.token.tolist() == (sums.a + sums.b).tolist()
    assert sums.right.all()
    s = (sums.a + sums.b).astype(float)
    assert np.allclose(sums.logit, s**2, atol=1e-3)
    assert np.allclose(sums.log_probability, log_probability(s, s), atol=1e-5)
    assert not sums.position.any()
    assert (sums.end == 3).all()


def test_a_template_with_a_sign_of_multiplication_asks_for_products(model: OpenModel) -> None:
    assert operation("{a}*{b}=")[1](np.array(3), np.array(4)) == 12
    assert operation("{a} + {b} =")[1](np.array(3), np.array(4)) == 7
    # This model adds, so it is right where a · b = a + b only; larger products are no token of it.
    sums = ask(model, "{a} * {b} =", np.arange(NUMBERS), np.random.default_rng(0), others=NUMBERS)
    assert (sums.answer == sums.a * sums.b).all()
    assert sums.answer.max() <= 58
    assert sums.asked == 900
    assert sorted(zip(sums.a[sums.right].tolist(), sums.b[sums.right].tolist(), strict=True)) == [(0, 0), (2, 2)]


@pytest.mark.parametrize(
    ("template", "said"), [("{a} =", "asks for no sum"), ("{a} + {b} = <end>", "is one token")], ids=["one", "none"]
)
def test_templates_that_ask_nothing_are_refused(model: OpenModel, template: str, said: str) -> None:
    values = np.arange(NUMBERS) if "end" not in template else np.arange(30, 59)
    with pytest.raises(GeometryError, match=said):
        ask(model, template, values, np.random.default_rng(0))


def test_pairs_have_the_same_b_other_answers_and_every_second_other_number_was_held_out(found: PatchResults) -> None:
    sums, pairs = found.sums, found.pairs
    assert len(pairs.clean) == 150
    assert (sums.b[pairs.clean] == sums.b[pairs.other]).all()
    assert (sums.answer[pairs.clean] != sums.answer[pairs.other]).all()
    assert len({(one, other) for one, other in zip(pairs.clean.tolist(), pairs.other.tolist(), strict=True)}) == 150
    assert (pairs.held == np.isin(sums.a[pairs.other], found.held)).all()
    assert pairs.held.sum() == 75
    assert sorted([*found.train, *found.held]) == list(range(NUMBERS))
    assert len(found.held) == 6


def test_the_answer_follows_what_is_patched_in_by_the_formula(found: PatchResults) -> None:
    sums, pairs = found.sums, found.pairs
    a, other, answer = sums.a[pairs.clean], sums.a[pairs.other], sums.answer[pairs.other]
    effects = dict(zip(found.methods, found.effects[0], strict=True))
    # The number stands in its own dimension, linearly, so a helix and a polynomial have it too, held out or not.
    for method in (FULL, "helix", "polynomial", "PCA-27"):
        assert np.allclose(effects[method], 2 * answer * (other - a), rtol=1e-3, atol=0.3), method
    assert np.allclose(effects[MEAN], 2 * answer * (found.train.mean() - a), rtol=1e-3, atol=0.3)
    right = dict(zip(found.methods, found.right[0], strict=True))
    assert right[FULL].all()
    assert right["helix"].all()
    assert right["circle"].mean() < 0.3
    assert right["helix, shuffled"].mean() < 0.3
    assert right[MEAN].mean() < 0.2


def test_where_nothing_reads_the_number_any_more_patching_does_nothing(found: PatchResults) -> None:
    assert np.allclose(found.effects[1], 0, atol=1e-3)
    assert not found.right[1].any()
    assert found.clearest == 0


def test_fits_know_nothing_of_numbers_that_are_held_out() -> None:
    random = np.random.default_rng(0)
    values = np.arange(40)
    x = random.standard_normal((40, 12)) + np.outer(values, np.ones(12))
    train, held = split(values, np.random.default_rng(1))
    changed = x.copy()
    changed[held] = 1e3 * random.standard_normal((len(held), 12))
    one, other = (
        replacements(Points(values, part), held, train, np.random.default_rng(2), periods=(2, 5, 10))
        for part in (x, changed)
    )
    for method in ("helix", "circle", "polynomial", "helix, shuffled", MEAN):
        assert np.array_equal(one[method][1], other[method][1]), method
    assert np.array_equal(other[FULL][1], changed[held])
    assert one["helix"][0] == one["polynomial"][0] == 7 == one["circle"][0] + 1
    expected = fit(values, x, periods=(2, 5, 10), train=train).predict(held)
    assert np.allclose(one["helix"][1], expected)
    assert np.allclose(one["PCA-27"][1], x[held], atol=1e-8)
    assert np.linalg.matrix_rank(one["PCA-6"][1] - one[MEAN][1], tol=1e-8) == 6


def test_a_shuffled_helix_is_fitted_to_the_same_numbers_dealt_out_anew() -> None:
    values = np.arange(400)
    x = np.outer(np.cos(2 * np.pi * values / 10), np.ones(3))
    given = replacements(Points(values, x), values, values, np.random.default_rng(0), periods=(10,))
    assert np.allclose(given["helix"][1], x, atol=1e-8)
    assert np.square(given["helix, shuffled"][1]).mean() < 0.05 * np.square(x).mean()


def test_a_model_that_answers_nothing_rightly_is_told_so(found: PatchResults) -> None:
    wrong: Sums = replace(found.sums, right=np.zeros(len(found.sums.a), bool))
    with pytest.raises(GeometryError, match="make no pairs to patch"):
        draw_pairs(wrong, found.held, 10, np.random.default_rng(0))


def test_fewer_pairs_than_asked_for_are_all_used(found: PatchResults) -> None:
    few = np.zeros(len(found.sums.a), bool)
    few[np.flatnonzero(found.sums.b == found.sums.b[0])[:4]] = True
    pairs: Pairs = draw_pairs(replace(found.sums, right=few), found.held, 100, np.random.default_rng(0))
    assert len(pairs.clean) == 4 * 3


def test_the_bootstrap_of_a_mean_is_as_wide_as_its_standard_error() -> None:
    samples = np.random.default_rng(0).standard_normal((3, 400)) * 2
    low, high = interval(samples, np.random.default_rng(1))
    assert np.allclose(high - low, 2 * 1.96 * 2 / 20, rtol=0.15)
    assert np.isnan(interval(samples[:, :1], np.random.default_rng(1))[0]).all()


def test_figures_show_ceiling_fits_control_and_floor_with_n(found: PatchResults) -> None:
    drawn = number_causal_figures.figures(found, np.random.default_rng(0))
    lines, violins, table = drawn["patching"], drawn["patched-pairs"], drawn["patching-table"]
    assert isinstance(lines, Lines)
    assert lines.series == found.methods
    assert np.allclose(lines.y, found.effects.mean(2).T)
    assert lines.low is not None
    assert (lines.low <= lines.y + 1e-9).all()
    assert isinstance(violins, Histogram)
    assert violins.violins
    assert violins.samples is not None
    assert np.array_equal(violins.samples, found.effects[0])
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    assert len(columns["Mean"]) == 2 * len(found.methods)
    assert columns["Mean"][0] == pytest.approx(found.effects[0, 0].mean())
    assert columns["Mean, held-out numbers"][1] == pytest.approx(found.effects[0, 1, found.pairs.held].mean())
    assert all("n = 150 pairs" in figure.note for figure in drawn.values())
