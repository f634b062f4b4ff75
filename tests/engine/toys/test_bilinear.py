"""Bilinear layers: the closed form against the network, known matrices found, controls beside every figure."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Heatmap, Images, Lines, Table
from engine.models.network import load_network
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.toys.quadratic import layer as closed
from engine.toys.quadratic import worlds
from engine.toys.quadratic.training import BilinearTrainer, Plan
from tests.engine.toys.running import quick, stopped_and_resumed

NAME = "bilinear-layers"
PLAN = Plan(embed=0, hidden=12, steps=800, batch=16, lr=1e-2, weight_decay=1e-4, noise=0.0, seed=0)


def random_layer(seed: int, embed: int = 0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    width = embed or 7
    weights = [random.standard_normal(shape) for shape in ((width, 9), (width, 9), (9, 4))]
    return tuple(weights) if not embed else (*weights, random.standard_normal((7, embed)))


@pytest.mark.parametrize("embed", [0, 5])
def test_the_closed_form_is_the_network_for_random_weights(embed: int) -> None:
    left, right, out, *rest = random_layer(1, embed)
    x = np.random.default_rng(2).standard_normal((50, 7))
    read = x @ rest[0] if rest else x
    said = ((read @ left) * (read @ right)) @ out
    matrices = closed.interactions(left, right, out, *rest)
    assert np.allclose(closed.forms(matrices, x), said, atol=1e-5)
    assert np.array_equal(matrices, matrices.transpose(0, 2, 1))
    # All eigenvectors together say the same, and none says nothing.
    kept = closed.spectrum(matrices).kept(x, 7)
    assert np.allclose(kept[-1], said, atol=1e-5)
    assert not kept[0].any()
    values = closed.spectrum(matrices).values
    assert (np.diff(np.abs(values), axis=1) <= 1e-12).all()


def test_a_planted_product_has_the_eigenvalues_of_theory() -> None:
    random = np.random.default_rng(3)
    u, v = random.standard_normal((2, 20))
    values = np.linalg.eigvalsh(worlds.planted_matrix(u, v))
    expected = [
        (u @ v - np.linalg.norm(u) * np.linalg.norm(v)) / 2,
        (u @ v + np.linalg.norm(u) * np.linalg.norm(v)) / 2,
    ]
    assert values[[0, -1]] == pytest.approx(expected, abs=1e-12)
    assert values[1:-1] == pytest.approx(0, abs=1e-12)


def test_the_tensor_s_spectrum_is_that_of_all_entries_laid_out() -> None:
    matrices = closed.interactions(*random_layer(4))
    values, directions = closed.tensor_spectrum(matrices)
    whole = matrices.reshape(len(matrices), -1)
    assert values == pytest.approx(np.linalg.svd(whole, compute_uv=False), abs=1e-9)
    assert np.allclose(directions @ np.diag(values**2) @ directions.T, whole @ whole.T)


def test_the_canonical_matrix_says_the_same_on_bits_whatever_was_traded_off() -> None:
    matrices = closed.interactions(*random_layer(5))[:, :5, :5]
    bits = np.array(list(itertools.product((0.0, 1.0), repeat=4)))
    x = np.concatenate([bits, np.ones((16, 1))], axis=1)
    found = closed.canonical(matrices)
    assert np.allclose(closed.forms(found, x), closed.forms(matrices, x))
    traded = matrices.copy()
    traded[:, 2, 2] += 3.0
    traded[:, 2, 4] -= 1.5
    traded[:, 4, 2] -= 1.5
    assert np.allclose(closed.canonical(traded), found)


def test_gates_have_the_matrices_of_theory() -> None:
    found = worlds.samples("boolean", 16, 0)
    assert found.theory is not None
    assert np.array_equal(closed.forms(found.theory, found.x), found.y)
    # XOR(0,1) is a + b - 2ab, AND(0,1) is ab with eigenvalues ± 1/2.
    exclusive = closed.coefficients(found.theory)[found.outputs.index("XOR(0,1)")]
    assert (exclusive[0, 0], exclusive[1, 1], exclusive[0, 1]) == (1, 1, -2)
    assert np.sort(np.abs(closed.spectrum(found.theory).values[0])) == pytest.approx([0, 0, 0, 0.5, 0.5])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_trained_layer_has_the_cells_of_and_and_xor(seed: int) -> None:
    samples = worlds.samples("boolean", 16, seed)
    trainer = BilinearTrainer(samples, Plan(**{**vars(PLAN), "seed": seed}))
    while trainer.step < PLAN.steps:
        trainer.train_step()
    found = closed.coefficients(closed.canonical(trainer.matrices(0)))
    assert samples.theory is not None
    assert found == pytest.approx(closed.coefficients(samples.theory), abs=0.05)
    values = np.sort(closed.spectrum(closed.canonical(trainer.matrices(0))).values[0])
    assert values == pytest.approx([-0.5, 0, 0, 0, 0.5], abs=0.05)
    assert np.allclose(closed.forms(trainer.matrices(0), samples.x), trainer.said(samples.x)[0], atol=1e-5)


def test_each_of_the_two_layers_trains_as_it_would_alone() -> None:
    samples = worlds.samples("planted", 256, 0)
    plan = Plan(**{**vars(PLAN), "batch": 64, "steps": 50})
    both = BilinearTrainer(samples, plan)
    alone = BilinearTrainer(samples, plan)
    alone._y = torch.stack([alone._y[0], torch.zeros_like(alone._y[0])])  # what the neighbour learns is no matter
    losses = [(both.train_step(), alone.train_step()) for _ in range(50)]
    assert np.allclose(*zip(*losses, strict=True), rtol=1e-4)


def test_pictures_have_four_places_and_balanced_classes() -> None:
    found = worlds.samples("images", 1_024, 0)
    assert sorted(np.bincount(found.y).tolist())[0] > 100
    assert worlds.templates().sum((1, 2)).tolist() == [5, 5, 9, 5, 5, 9]
    assert sorted(found.shuffled.tolist()) == list(range(1_024))


def columns(table: Any) -> dict[str, np.ndarray]:
    assert isinstance(table, Table)
    return dict(zip((axis.label for axis in table.axes), table.columns, strict=True))


def test_a_quick_run_reads_the_gates_from_the_weights(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path)
    assert recording.metric("exactness")[:, 1].max() < 1e-5
    assert recording.metric("error")[-1, 1] < 0.05
    assert recording.metric("score")[-1, 1] > 0.999 > 0.2 > recording.metric("score_shuffled")[-1, 1]
    table = columns(recording.figure("cells"))
    assert (table["Input"][0], table["with input"][0]) == ("bit 0", "bit 1")
    assert table["Trained"][0] == pytest.approx(1, abs=0.05)
    assert {"Theory", "Shuffled targets", "Untrained"} <= table.keys()
    for name in ("spectrum", "truncation", "tensor"):
        lines = recording.figure(name)
        assert isinstance(lines, Lines)
        assert set(lines.series) >= {"trained", "shuffled targets", "untrained"}
    map_ = recording.figure("interactions")
    assert isinstance(map_, Heatmap)
    assert map_.values[0, 1] == pytest.approx(1, abs=0.05)
    movie = recording.movie("interactions")
    assert movie.steps[0] == 0
    assert movie.steps[-1] == 1_000


@pytest.mark.parametrize("task", ["boolean", "planted", "images"])
def test_the_toy_in_the_session_is_the_layer_that_was_measured(tmp_path: Path, task: str) -> None:
    recording = quick(NAME, tmp_path, task=task, steps=30, output=1)
    things = {section: (attributes, arrays) for section, _, attributes, arrays in recording.things()}
    attributes, arrays = things["models"]
    weights = {name: array for name, array in arrays.items() if not name.startswith("planted.")}
    bridge = load_network(attributes, weights)
    tokens = things["corpora"][1]["tokens"]
    with torch.no_grad():
        said = bridge(torch.from_numpy(tokens[:2].astype(np.int64))).numpy()
    x = weights["inputs"][tokens[:2]].astype(np.float64)
    matrices = recording.kept("interactions")
    assert np.allclose(said.reshape(-1, said.shape[-1]), closed.forms(matrices, x.reshape(-1, x.shape[-1])), atol=1e-5)
    features = things["corpora"][1]["features"]
    assert features.shape[:2] == tokens.shape
    # Where directions are planted in the input, they read off the features.
    directions = arrays["planted.embed.hook_out"]
    if task != "images":
        assert np.allclose(x @ directions.T, features[:2, :, : len(directions)], atol=5e-3)
    assert sum(array.nbytes for _, found in things.values() for array in found.values()) < 1_000_000


def test_images_are_named_right_by_few_eigenvectors_and_not_by_the_controls(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path, task="images")
    lines = recording.figure("truncation")
    assert isinstance(lines, Lines)
    trained, shuffled, untrained = lines.y
    assert trained[8] > 0.85 > 0.3 > max(shuffled[8], untrained[8])
    pictures = recording.figure("eigenvectors")
    assert isinstance(pictures, Images)
    assert np.linalg.norm(pictures.pixels.reshape(30, -1), axis=1) == pytest.approx(1, abs=1e-5)


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed(NAME, tmp_path, stop=17, size="quick", task="images", steps=40)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"output": 12}, "output=12"),
        ({"task": "planted", "output": 3}, "output=3 is not there: task planted has outputs 0 to 2"),
        ({"hidden": 0}, "hidden=0"),
        ({"lr": 0}, "lr=0"),
        ({"noise": -1}, "noise=-1"),
    ],
)
def test_parameters_out_of_bounds_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find(NAME).parameters, values)
    assert said in str(problem.value)


def test_the_cost_is_known_before_the_start() -> None:
    from engine.toys.costs import _costs

    found = _costs[NAME](check(find(NAME).parameters, {"size": "paper", "task": "images"}))
    assert found.seconds > 10
    assert found.memory > 100_000_000
