"""The phase diagram: theory against integrals by hand and by sampling, and the trained map against theory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.figures import Heatmap, Images, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.toys.costs import _costs
from engine.toys.superposition_phases import kinds, signed
from engine.toys.tms import theory
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

NAME = "superposition-phases"
SMALL: dict[str, Any] = {"cells": 3, "steps": 40, "batch": 32, "restarts": 2}


@pytest.mark.parametrize("features", [2, 3])
def test_quadrature_gives_the_moments_of_the_features(features: int) -> None:
    density = np.array([1.0, 0.3, 0.01])
    points, weights = theory.quadrature(features, density)
    assert weights.sum(axis=1) == pytest.approx(1)
    for feature in range(features):
        assert weights @ points[feature] == pytest.approx(density / 2)
        assert weights @ points[feature] ** 2 == pytest.approx(density / 3)
    assert weights @ (points[0] * points[1]) == pytest.approx(density**2 / 4)


def test_a_feature_that_is_left_out_costs_its_variance_and_one_alone_nothing() -> None:
    density = np.array([1.0, 0.5, 0.1])
    found, bias = theory.errors(np.array([[1.0, 0.0]]), density)
    assert found[:, 0] == pytest.approx(0, abs=1e-12)
    assert found[:, 1] == pytest.approx(density / 3 - density**2 / 4, abs=1e-4)  # biases lie on a grid
    assert bias[:, 1] == pytest.approx(density / 2, abs=0.013)


def test_an_antipodal_pair_costs_what_sampling_says() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((2, 400_000)) * (rng.random((2, 400_000)) < 0.4)
    found, bias = theory.errors(np.array([[1.0, -1.0]]), np.array([0.4]))
    outputs = np.maximum(np.stack([x[0] - x[1], x[1] - x[0]]) + bias[0][:, None], 0)
    assert found[0] == pytest.approx(((outputs - x) ** 2).mean(axis=1), rel=0.01)
    model = theory.expected_losses(np.array([[[1.0, -1.0]]]), bias, np.array([[1.0, 2.0]]), np.array([0.4]))
    assert model[0] == pytest.approx((found[0] * [1, 2]).sum() / 2)


def test_dense_features_are_never_superposed_and_sparse_equal_ones_always() -> None:
    found = theory.best(2, np.array([1.0, 0.01]), np.array([3.0, 1.0001, 0.9999, 0.3]))
    assert found.kind[:, 0].tolist() == [theory.ALONE, theory.ALONE, theory.ABSENT, theory.ABSENT]
    assert found.kind[:, 1].tolist() == [theory.SUPERPOSED] * 4


def test_the_map_of_two_features_is_symmetric_in_which_of_them_weighs_more() -> None:
    density, importance = np.geomspace(1, 0.01, 9), np.geomspace(10, 0.1, 8)
    kind = theory.best(2, density, importance).kind
    turned = kind[::-1].copy()
    turned[kind[::-1] == theory.ABSENT] = theory.ALONE
    turned[kind[::-1] == theory.ALONE] = theory.ABSENT
    assert np.array_equal(kind, turned)


def test_kinds_are_told_from_weights() -> None:
    weights = np.array([[[1.0, 0.0]], [[0.0, 1.1]], [[1.0, -0.9]], [[1.0, 0.4]]])
    assert kinds(weights).tolist() == [theory.ABSENT, theory.ALONE, theory.SUPERPOSED, theory.ABSENT]
    assert signed(weights)[1:3] == pytest.approx([-1.1, 0.9])


def test_borders_are_the_cells_that_touch_another_kind() -> None:
    kind = np.zeros((5, 5), dtype=int)
    kind[:, 3:] = 1
    assert theory.borders(kind).astype(int).tolist() == [[0, 0, 1, 1, 0]] * 5
    assert not theory.borders(np.zeros((4, 4))).any()


@pytest.mark.parametrize("features", [2, 3])
def test_a_quick_run_shows_trained_cells_beside_theory_and_a_control(tmp_path: Path, features: int) -> None:
    recording = quick(NAME, tmp_path, features=features, steps=300)
    image = recording.figure("map")
    assert isinstance(image, Images)
    assert image.captions == ("trained", "theory", "linear (control)")
    trained, best = recording.kept("trained"), recording.kept("theory")
    assert trained.shape == (6, 6, features - 1, features)
    assert np.allclose(image.pixels[0], signed(trained), atol=1e-5)
    assert np.allclose(image.pixels[1], signed(best), atol=1e-5)
    truth = theory.best(features, recording.kept("density"), recording.kept("importance"))
    away = ~theory.borders(truth.kind)
    agreement = (kinds(trained) == truth.kind)[away].mean()
    assert recording.metric("agreement")[-1, 1] == pytest.approx(agreement)
    assert agreement > recording.metric("linear_agreement")[-1, 1]
    table = recording.figure("regions")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    assert columns["Count"][:3].sum() == 36
    assert columns["Count"][3:].sum() == away.sum()
    cells = recording.figure("cells")
    assert isinstance(cells, Heatmap)
    shown = str(cells.text[2, 4]).split(";")[0].replace("−", "-").replace("(", "").replace(")", "")
    assert [float(word) for word in shown.split()] == pytest.approx(trained[2, 4].T.ravel().tolist(), abs=0.0051)


def test_the_kept_model_opens_and_is_a_trained_cell(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path, **SMALL)
    network = opened(NAME, tmp_path).bridge.network
    assert np.array_equal(network.weights["W"], recording.kept("trained")[1, -1])
    assert (network.inputs > 0).mean() == pytest.approx(0.01, abs=0.005)


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed(NAME, tmp_path, stop=17, metric="agreement", size="quick", **SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("features", [2, 3])
def test_the_demo_agrees_with_theory_away_from_borders(tmp_path: Path, features: int) -> None:
    recording = start(NAME, tmp_path, size="demo", features=features)
    assert recording.metric("agreement")[-1, 1] >= 0.95


def test_the_estimate_says_time_and_memory() -> None:
    found = _costs[NAME](check(find(NAME).parameters, {"size": "quick"}))
    assert found.seconds > 0.05
    assert found.memory > 10**5
