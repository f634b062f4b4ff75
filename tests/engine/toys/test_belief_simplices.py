"""Simplices: measures against shapes set by hand, the control's moments, and the experiment on beliefs and on a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Images, Scatter, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text import toys as toy_texts
from engine.toys.belief_simplices import _first_seen
from engine.toys.beliefs import simplices
from engine.toys.small_dictionaries import Job, prepare
from engine.toys.training import generator
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed


def dirichlet(n: int = 2_000, corners: int = 3, d: int = 8, seed: int = 0) -> simplices.Simplex:
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(random.standard_normal((d, d)))[0][:corners]
    weights = [random.dirichlet(np.full(corners, 0.7), n) for _ in range(2)]
    x, held = ((part @ directions + 2).astype(np.float32) for part in weights)
    return simplices.Simplex("test", x, weights[0], held, weights[1], tuple("abcdef"[:corners]))


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(0)
    scores, positive = random.integers(0, 5, (60, 3)).astype(float), random.random(60) < 0.3
    pairs = scores[positive][:, None] - scores[~positive][None]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean(axis=(0, 1))
    assert np.allclose(simplices.auroc(scores, positive), expected)
    assert simplices.auroc(scores, np.ones(60, bool)).tolist() == [0.5] * 3


def test_barycentric_coordinates_are_the_weights_of_the_corners() -> None:
    random = np.random.default_rng(1)
    corners, weights = random.standard_normal((4, 9)), random.dirichlet(np.ones(4), 50)
    assert np.allclose(simplices.barycentric(weights @ corners, corners), weights, atol=1e-9)
    with pytest.raises(simplices.ToyError, match="corners of the simplex lie on each other"):
        simplices.barycentric(weights @ corners, corners[[0, 1, 2, 2]])


@pytest.mark.parametrize("corners", [3, 4, 7])
def test_a_regular_simplex_does_not_deviate_and_a_stretched_one_does(corners: int) -> None:
    regular = np.eye(corners) + 5.0
    assert simplices.regularity(regular) == pytest.approx(0, abs=1e-9)
    assert simplices.regularity(regular * np.linspace(1, 3, corners)) > 0.05
    assert np.isnan(simplices.regularity(regular[:2]))


def test_the_control_has_the_datas_mean_and_covariance_but_no_simplex() -> None:
    data = dirichlet(20_000)
    twin = simplices.gaussian_twin(data, np.random.default_rng(2))
    assert np.allclose(twin.x.mean(axis=0), data.x.mean(axis=0), atol=0.02)
    assert np.allclose(np.cov(twin.x.T), np.cov(data.x.T), atol=0.01)
    assert np.allclose(twin.weights.sum(axis=1), 1, atol=1e-4)
    assert data.weights.min() >= 0 > twin.weights.min()


def test_firing_maps_count_what_fires_in_each_bin() -> None:
    data = dirichlet(4_000)
    left = simplices.plane(data.weights)[:, 0] < 0.5
    maps = simplices.firing_maps(np.stack((left, np.ones_like(left)), axis=1), data.weights, bins=4)
    assert np.nanmax(maps[0][:, 2:]) < 0.1
    assert np.nanmin(maps[0][:, :2]) > 0.9
    assert np.array_equal(maps[1][np.isfinite(maps[1])], np.ones(np.isfinite(maps[1]).sum()))


def test_a_dictionary_without_a_living_latent_has_no_area_and_tells_nothing() -> None:
    data = dirichlet()
    one = prepare(Job("t", torch.from_numpy(data.x), 4, 2, bias=True), generator(0, 1), steps=1, lr=1e-3, batch=64)
    one.weights.b_enc.fill_(-1e6)
    found = simplices.judge(one, data)
    assert found.alive == 0
    assert found.auroc.tolist() == [0.5] * 3
    assert np.isnan(found.area)
    assert np.isnan(found.local)


def test_each_history_is_taken_once_and_each_sample_of_a_network_too() -> None:
    tokens = np.array([[0, 1, 0], [0, 1, 1], [0, 1, 0]])
    assert _first_seen(tokens, alone=False).tolist() == [[True] * 3, [False, False, True], [False] * 3]
    assert _first_seen(tokens, alone=True).tolist() == [[True, True, False], [False] * 3, [False] * 3]


def test_dictionaries_of_a_real_belief_states_run_are_compared_with_their_control(tmp_path: Path) -> None:
    quick("belief-states", tmp_path, steps=8)
    table = quick("belief-simplices", tmp_path, model="toy:belief-states-1", widths=[4], steps=8).figure("dictionaries")
    assert isinstance(table, Table)
    assert set(table.columns[0]) == {"toy:belief-states-1 at blocks.1.hook_resid_post", "control: Gaussian"}


def test_a_learning_rate_that_kills_latents_on_the_way_does_not_end_the_run(tmp_path: Path) -> None:
    table = quick("belief-simplices", tmp_path, lr=10.0).figure("dictionaries")
    assert isinstance(table, Table)


def test_atoms_set_at_the_corners_are_found_to_be_the_corners() -> None:
    data = dirichlet(d=8)
    x = torch.from_numpy(data.x)
    one = prepare(Job("t", x, 3, 3, bias=True), generator(0, 1), steps=1, lr=1e-3, batch=64)
    slope, _ = simplices.affine_map(data.weights[:, :2], data.x)
    del slope
    corners = torch.linalg.lstsq(torch.from_numpy(data.weights).float(), x).solution
    one.weights.b_dec.zero_()
    one.weights.b_dec += 2 * one.scale
    arms = corners - 2
    one.weights.decoder.copy_(torch.nn.functional.normalize(arms, dim=1))
    one.weights.encoder.copy_(one.weights.decoder)
    found = simplices.judge(one, data)
    assert found.fvu < 1e-6
    assert sorted(found.latents.tolist()) == [0, 1, 2]
    assert found.auroc.min() > 0.98
    assert found.r2_means > 0.9
    assert found.p2_means < 0.05
    assert found.area > 0.9  # corners' latents are active all over, unlike tiles


def test_a_quick_run_shows_simplex_and_control_and_leaves_a_toy(tmp_path: Path) -> None:
    recording = quick("belief-simplices", tmp_path)
    table = recording.figure("dictionaries")
    assert isinstance(table, Table)
    assert set(table.columns[0]) == {"beliefs of Mess3", "control: Gaussian"}
    corners = recording.figure("corners")
    assert isinstance(corners, Scatter)
    assert corners.value is not None
    assert set(corners.value.tolist()) == {0, 1, 2, 3}  # 3: the control
    assert isinstance(recording.figure("maps"), Images)
    assert isinstance(recording.movie("strongest").frame(0), Scatter)
    assert recording.metric("auroc")[-1, 1] > recording.metric("auroc_control")[-1, 1]
    model = opened("belief-simplices", tmp_path)
    _, text = toy_texts.find("belief-simplices-1", tmp_path)
    out = model.bridge(torch.tensor(text.tokens.astype(np.int64))).detach().numpy()
    assert text.features is not None
    slope, shift = simplices.affine_map(out.reshape(-1, 64), text.features.reshape(-1, 3).astype(float))
    read = out.reshape(-1, 64) @ slope + shift
    assert simplices.r_squared(text.features.reshape(-1, 3).astype(float), read) > 0.99

    again = quick_of_model(tmp_path)
    named = again.figure("dictionaries")
    assert isinstance(named, Table)
    assert "toy:belief-simplices-1 at blocks.0.hook_x" in set(named.columns[0])


def quick_of_model(work: Path) -> Any:
    """The experiment on the toy that an earlier run has left in ``work``."""
    from engine.runs.control import Control
    from engine.runs.execute import execute
    from engine.runs.recording import Recording

    found = find("belief-simplices")
    values = {"size": "quick", "model": "toy:belief-simplices-1", "hook": "blocks.0.hook_x", "steps": 8}
    folder = work / "runs" / "belief-simplices-2"
    record = execute(found, check(found.parameters, values), folder, [], Control(), work=work)
    assert record.state == "finished", record.error
    return Recording(folder)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    stopped_and_resumed("belief-simplices", tmp_path, stop=5, metric="fvu", size="quick", steps=9, widths=[4])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "demo"}, "model='demo' has no weights of a simplex"),
        ({"hook": "blocks.0.hook_x"}, "text, hook and corners are those of a model"),
    ],
)
def test_wrong_sources_are_refused_in_a_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        check(find("belief-simplices").parameters, values)


def test_a_toy_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no toy model nobody-1"):
        start("belief-simplices", tmp_path, model="toy:nobody-1")


@pytest.mark.slow
def test_the_demo_tells_corners_better_than_the_control(tmp_path: Path) -> None:
    recording = start("belief-simplices", tmp_path)
    assert recording.metric("auroc")[-1, 1] > recording.metric("auroc_control")[-1, 1] + 0.1
