"""Ablation of directions at a number: exact on a model that adds, and random directions of exactly equal variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.figures.kinds import Histogram, Table
from engine.geometry import number_causal_figures
from engine.geometry.errors import GeometryError
from engine.geometry.helix import Points
from engine.geometry.number_ablation import (
    AblationResults,
    ablation,
    matched_directions,
    mean_ablation,
    removed,
    value_directions,
)
from engine.geometry.number_sums import Sums, ask
from engine.models.opening import OpenModel
from tests.engine.geometry.adding_model import NUMBERS, TEMPLATE, WIDTH, adding_model, log_probability

HOOK = "blocks.0.hook_resid_pre"


@pytest.fixture(scope="module")
def model() -> OpenModel:
    return adding_model()


@pytest.fixture(scope="module")
def sums(model: OpenModel) -> Sums:
    return ask(model, TEMPLATE, np.arange(NUMBERS), np.random.default_rng(1), others=5)


@pytest.fixture(scope="module")
def found(model: OpenModel, sums: Sums) -> AblationResults:
    unit = np.eye(WIDTH)
    return ablation(
        model,
        sums,
        HOOK,
        np.random.default_rng(0),
        directions={"number": unit[0], "unread": unit[4]},
        prompts=70,
        draws=6,
    )


def spread_out(n: int = 300, width: int = 20) -> np.ndarray:
    random = np.random.default_rng(3)
    turned, _ = np.linalg.qr(random.standard_normal((width, width)))
    return np.asarray(random.standard_normal((n, width)) * np.geomspace(10, 0.01, width) @ turned + 5)


@pytest.mark.parametrize("share", [0.9, 0.2, 1e-3, 2e-6])
def test_random_directions_remove_exactly_as_much_variance(share: float) -> None:
    x = spread_out()
    wanted = share * np.linalg.eigvalsh(np.cov(x.T, ddof=0))[-1]
    made = matched_directions(x, wanted, np.random.default_rng(0), draws=12)
    assert np.allclose(np.linalg.norm(made, axis=1), 1)
    assert np.allclose([removed(one, x) / wanted for one in made], 1, rtol=1e-6)
    mean = x.mean(axis=0)
    for one in made:
        change = mean_ablation(one, mean)(torch.from_numpy(x.astype(np.float32))).double().numpy()
        assert x.var(axis=0).sum() - change.var(axis=0).sum() == pytest.approx(wanted, rel=1e-2, abs=1e-4)
    assert len(np.unique(np.round(made, 6), axis=0)) == 12


def test_random_directions_lie_among_the_first_components() -> None:
    x = spread_out()
    values, vectors = np.linalg.eigh(np.cov(x.T, ddof=0))
    made = matched_directions(x, 0.3 * values[-1], np.random.default_rng(0), draws=5, components=6)
    assert np.allclose(made @ vectors[:, :-6], 0, atol=1e-8)


def test_more_variance_than_there_is_cannot_be_matched() -> None:
    with pytest.raises(GeometryError, match="No direction of these activations has a variance of"):
        matched_directions(spread_out(), 1e6, np.random.default_rng(0))


def test_mean_ablation_sets_one_component_to_its_mean_and_leaves_the_rest() -> None:
    x = spread_out().astype(np.float32)
    u = np.random.default_rng(0).standard_normal(20)
    u /= np.linalg.norm(u)
    after = mean_ablation(u, x.mean(axis=0))(torch.from_numpy(x)).numpy()
    assert np.allclose(after @ u, x.mean(axis=0) @ u, atol=1e-4)
    rest = np.eye(20) - np.outer(u, u)
    assert np.allclose(after @ rest, x @ rest, atol=1e-4)


def test_directions_of_a_and_log_a_are_found_where_they_were_planted() -> None:
    values = np.arange(60)
    random = np.random.default_rng(0)
    unit, _ = np.linalg.qr(random.standard_normal((9, 9)))
    planted = np.outer(values, unit[0]) * 0.3 + np.outer(np.log(np.maximum(values, 1)), unit[1]) * 4
    x = planted + 3 * random.standard_normal((60, 7)) @ unit[2:]
    made = value_directions(Points(values, x), components=9)
    assert abs(made["a"] @ unit[0]) > 0.999
    assert abs(made["log a"] @ unit[1]) > 0.999


def test_without_its_direction_a_number_counts_as_the_mean(found: AblationResults, sums: Sums) -> None:
    assert found.clean_right.all()
    rows = np.sort(np.random.default_rng(0).permutation(len(sums.a))[:70])
    s = (sums.a + sums.b)[rows].astype(float)
    expected = log_probability(s, sums.a.mean() + sums.b[rows]) - log_probability(s, s)
    assert np.allclose(found.changes[0], expected, rtol=1e-3, atol=1e-3)
    assert found.right[0].mean() < 0.2
    # What no head reads makes no difference.
    assert np.allclose(found.changes[1], 0, atol=1e-3)
    assert found.right[1].all()


def test_controls_are_recorded_per_prompt_with_their_likeness(found: AblationResults) -> None:
    assert found.random_changes.shape == found.random_right.shape == (2, 6, 70)
    assert found.cosines.shape == (2, 6)
    assert (found.cosines[0] < 0.999).all()
    assert (found.share > 0).all()
    assert found.share.sum() < 1


def test_figures_show_each_direction_beside_its_controls(found: AblationResults) -> None:
    drawn = number_causal_figures.ablation_figures(found, np.random.default_rng(0))
    violins, table = drawn["ablation"], drawn["ablation-table"]
    assert isinstance(violins, Histogram)
    assert violins.groups == ("number", "random, as number", "unread", "random, as unread")
    assert violins.samples is not None
    assert np.nanmean(violins.samples[0]) == pytest.approx(found.changes[0].mean())
    assert np.isfinite(violins.samples[1]).sum() == 6 * 70
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    assert columns["Accuracy after"][1] == 1
    assert columns["Accuracy before"].tolist() == [1, 1]
    assert columns["p"][0] <= columns["p"][1]
    assert all("n = 70 prompts" in figure.note for figure in drawn.values())


def test_too_few_numbers_have_no_logarithm_to_take_out(model: OpenModel) -> None:
    few = ask(model, TEMPLATE, np.arange(5), np.random.default_rng(0))
    with pytest.raises(GeometryError, match="have a logarithm"):
        ablation(model, few, HOOK, np.random.default_rng(0))
