"""Superposition: polytopes by algebra, training against what is known, and the experiment as a person runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Heatmap, Lines, Scatter, Table
from engine.figures.export import write_figure
from engine.models import memory
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text.corpora import open_corpus
from engine.text.toys import find as find_data
from engine.toys.costs import _costs
from engine.toys.ensembles import Ensemble, EnsembleTrainer, Streams, xavier
from engine.toys.tms.data import Features
from engine.toys.tms.measures import described, gaps, measure, shapes
from engine.toys.training import generator
from tests.engine.toys.running import opened, quick, stopped_and_resumed

NAME = "superposition"
SMALL: dict[str, Any] = {"steps": 60, "batch": 32, "densities": 2, "restarts": 2}


def polygon(sides: int) -> np.ndarray:
    """W (2, sides) of a regular polygon of unit vectors."""
    angles = 2 * np.pi * np.arange(sides) / sides
    return np.stack([np.cos(angles), np.sin(angles)])


@pytest.mark.parametrize("sides", [3, 4, 5, 6, 9])
def test_a_regular_polygon_shares_two_dimensions_out_equally(sides: int) -> None:
    found = measure(polygon(sides))
    assert found.dimensionality == pytest.approx(2 / sides, abs=1e-6)
    assert found.superposition == pytest.approx(sides / 2 - 1, abs=1e-6)
    assert found.dimensions == pytest.approx(2 / sides, abs=1e-6)
    assert gaps(polygon(sides)) == pytest.approx(360 / sides, abs=1e-6)


def test_measures_do_not_change_when_the_space_is_turned_and_scale_as_they_should() -> None:
    weights = np.random.default_rng(0).standard_normal((3, 5))
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    one, other = measure(weights), measure(2 * turn @ weights)
    assert other.norms == pytest.approx(2 * one.norms)
    assert other.dimensionality == pytest.approx(one.dimensionality, abs=1e-6)
    assert other.superposition == pytest.approx(4 * one.superposition, abs=1e-6)


def test_dimensionalities_sum_to_the_dimensions_that_are_used_where_features_fill_them_evenly() -> None:
    weights = np.zeros((6, 9))
    weights[:2, :5], weights[2:4, 5:8] = polygon(5), polygon(3)
    weights[4, 8] = 1
    found = measure(weights)
    assert found.dimensionality.sum() == pytest.approx(5, abs=1e-6)
    assert [(name, len(members)) for name, members in shapes(weights)] == [
        ("pentagon", 5), ("triangle", 3), ("alone", 1)
    ]  # fmt: skip


def antiprism() -> np.ndarray:
    """W (3, 8) of a square antiprism that fills all directions evenly."""
    turned = np.array([[1, -1], [1, 1]]) / np.sqrt(2) @ polygon(4)
    height = np.full(4, np.sqrt(0.5))
    corners = np.concatenate([np.vstack([polygon(4), height]), np.vstack([turned, -height])], axis=1)
    return corners / np.linalg.norm(corners, axis=0)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (np.eye(3)[:, :2], "2 × alone"),
        (np.array([[1.0, -1, 0, 0], [0, 0, 1, -1.0]]), "2 × antipodal pair"),
        (np.array([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / np.sqrt(3), "tetrahedron"),
        (np.array([[1.0, 0.8], [0, 0.6]]), "pair"),
        (polygon(5) * 0.4, "none stored"),
        (antiprism(), "square antiprism"),
    ],
)
def test_shapes_are_named(weights: np.ndarray, expected: str) -> None:
    assert described(weights) == expected


def test_measures_are_those_of_the_definition() -> None:
    weights = np.random.default_rng(3).standard_normal((2, 3, 7))
    found = measure(weights)
    for w, norms, share, shared in zip(weights, found.norms, found.dimensionality, found.superposition, strict=True):
        for i in range(7):
            overlaps = [(w[:, i] / np.linalg.norm(w[:, i]) @ w[:, j]) ** 2 for j in range(7)]
            assert share[i] == pytest.approx(norms[i] ** 2 / sum(overlaps), rel=1e-6)
            assert shared[i] == pytest.approx(sum(overlaps) - overlaps[i], rel=1e-6)


def test_many_features_are_measured_without_a_table_of_all_their_overlaps() -> None:
    weights = np.zeros((2, 1, 100_000))
    weights[:, 0, :2] = 1, -1
    assert measure(weights).dimensionality[0, :2] == pytest.approx([0.5, 0.5])


def test_a_feature_without_a_direction_has_no_dimension() -> None:
    found = measure(np.array([[1.0, 0, 0], [0, 1, 0]]))
    assert found.dimensionality.tolist() == pytest.approx([1, 1, 0], abs=1e-6)
    assert np.isfinite(found.superposition).all()


def train(instances: int, steps: int, *, linear: int) -> Ensemble:
    torch.set_num_threads(1)
    ensemble = Ensemble(xavier(instances, 2, 5, generator(1, 0)), torch.ones(instances, 5), linear=linear)
    source = Features(torch.full((instances,), 0.05), 5, 512, Streams(1, 1, instances, 5 * 512))
    trainer = EnsembleTrainer(ensemble, source, lr=2e-2, steps=steps)
    for _ in range(steps):
        trainer.train_step()
    return ensemble


def test_sparse_equal_features_become_pentagons_and_without_a_relu_a_plane() -> None:
    ensemble = train(5, 1_500, linear=1)
    weights = ensemble.weights.numpy()
    pentagons = 0
    for one in weights[:4]:
        angles = gaps(one)
        even = len(angles) == 5 and np.abs(angles - 72).max() < 6
        pentagons += bool(even and np.abs(measure(one).dimensionality - 0.4).max() < 0.03)
    assert pentagons >= 3
    # Without a ReLU: a projection onto two dimensions, and no bias that cuts off.
    values = np.linalg.svd(weights[4].T @ weights[4], compute_uv=False)
    assert values[:2] == pytest.approx(1, abs=0.05)
    assert values[2:].max() < 1e-3


def test_a_quick_run_shows_models_beside_their_linear_controls(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path)
    directions, spread = recording.figure("directions"), recording.figure("dimensionality")
    assert isinstance(directions, Lines)
    assert directions.series == ("feature 0", "feature 1", "feature 2", "feature 3", "feature 4", "norm 1")
    assert isinstance(spread, Lines)
    assert spread.series == ("ReLU: features", "linear: features", "ReLU: D*", "linear: D*")
    assert spread.reference["pentagon"] == 0.4
    table = recording.figure("models")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    linear = columns["Model"] == "linear (control)"
    assert (len(linear), linear.sum()) == (9, 3)
    weights = recording.kept("weights")
    found = measure(weights)
    assert columns["Features stored"].tolist() == (np.linalg.norm(weights, axis=1) > 0.5).sum(axis=1).tolist()
    assert found.represented[-1].sum() <= 2  # the linear control of the sparsest density
    assert columns["Features stored"][4:6].max() >= 4  # its ReLU models
    # The best restart of each density is the one that is shown.
    best = columns["Test loss"][:6].reshape(3, 2).argmin(axis=1) + np.array([0, 2, 4])
    assert np.flatnonzero(columns["Shown"][:6] == "yes").tolist() == best.tolist()
    assert recording.metric("relu_loss")[-1, 1] == pytest.approx(columns["Test loss"][best].mean())
    # The last arrow of feature 0 ends where its column of W does.
    tips = directions.x[0][:18].reshape(3, 6)[:, 1] - 3 * np.arange(3), directions.y[0][:18].reshape(3, 6)[:, 1]
    assert np.allclose(np.stack(tips, axis=1), weights[best][:, :, 0], atol=1e-5)
    overlap = recording.figure("overlaps")
    assert isinstance(overlap, Heatmap)
    kept = weights[best[-1]]
    assert np.allclose(overlap.values[:, :5], kept.T @ kept, atol=1e-5)
    assert recording.movie_names() == ["dimensionality", "directions", "norms", "overlaps", "superposition"]
    assert recording.movie("directions").steps[[0, -1]].tolist() == [0, 500]


def test_with_one_density_the_metrics_are_those_of_its_best_restart(tmp_path: Path) -> None:
    run = quick("superposition", tmp_path, densities=1, restarts=4, steps=20)
    table = run.figure("models")
    assert isinstance(table, Table)
    losses, stored = (np.asarray(table.columns[number])[:4] for number in (5, 6))
    assert run.metric("relu_loss")[-1, 1] == pytest.approx(losses.min(), rel=1e-6)
    assert run.metric("stored")[-1, 1] == stored[losses.argmin()]


def test_arrows_leave_nothing_out_in_the_exported_picture(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path, **SMALL)
    write_figure(recording.figure("directions"), tmp_path / "arrows.svg")
    assert "left out" not in (tmp_path / "arrows.svg").read_text()


def test_the_kept_model_gives_what_the_trained_one_gives_on_its_data(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path, **SMALL)
    model = opened(NAME, tmp_path)
    _, data = find_data("superposition-1", tmp_path)
    table = recording.figure("models")
    assert isinstance(table, Table)
    number = int(np.flatnonzero(np.asarray(table.columns[1])[:4] == "yes")[-1])
    weights, bias = recording.kept("weights")[number], recording.kept("biases")[number]
    x = model.bridge.network.inputs
    with torch.no_grad():
        found = model.bridge(torch.from_numpy(data.tokens[:8].astype(np.int64))).numpy()
    expected = np.maximum(x[:512] @ weights.T @ weights + bias, 0).reshape(8, 64, 5)
    assert np.allclose(found, expected, atol=1e-5)
    assert np.allclose(data.features.reshape(-1, 5), x, atol=1e-3)
    assert (x > 0).mean() == pytest.approx(0.05, abs=0.01)
    assert open_corpus("toy:superposition-1", work=tmp_path) is not None
    ((_, _, stored, arrays),) = [thing for thing in recording.things() if thing[0] == "models"]
    names = stored["planted"]["blocks.0.hook_hidden"]
    directions = arrays["planted.blocks.0.hook_hidden"]
    assert directions.shape == (len(names), 2)
    assert np.allclose(directions, weights.T[[int(name[1:]) for name in names]])


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed(NAME, tmp_path, stop=23, metric="relu_loss", size="quick", **SMALL)


def test_three_hidden_units_are_shown_in_space_and_pairs_are_trained(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path, **SMALL, features=6, hidden=3, data="anticorrelated")
    assert isinstance(recording.figure("directions"), Scatter)
    table = recording.figure("models")
    assert isinstance(table, Table)
    assert np.asarray(table.columns[2]).max() == 0.5


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"features": 4, "hidden": 4}, "hidden=4 holds all features=4 without superposition"),
        ({"density_low": 0.5, "density_high": 0.1}, "density_low=0.5 is above density_high=0.1"),
        ({"data": "anticorrelated", "density_high": 0.8}, "density_high=0.8 leaves no room"),
        ({"hidden": 0}, "hidden=0"),
        ({"density_low": 0.0}, "density_low=0"),
        ({"size": "huge"}, "size="),
    ],
)
def test_parameters_that_make_no_sense_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find(NAME).parameters, values)
    assert said in str(problem.value)


def test_the_estimate_says_time_and_memory_and_no_more_than_memory_where_it_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parameters = check(find(NAME).parameters, {"size": "quick"})
    found = _costs[NAME](parameters)
    assert 0.05 < found.seconds < 60
    assert 0 < found.memory < 10**8
    monkeypatch.setattr(memory, "available", lambda device="cpu": 10**6)
    assert _costs[NAME](check(find(NAME).parameters, {"size": "paper"})).memory > 10**8
