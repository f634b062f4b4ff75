"""Scoring against planted features: exact cases, scikit-learn's areas, and a toy with known directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from engine.dictionaries import planted
from engine.models.network import Network, Stage
from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording, RecordingWriter, RunRecord
from engine.runs.run import Run
from engine.text.toys import ToyData
from engine.toys.keeping import keep_toy


def test_permuted_and_scaled_atoms_match_their_directions_exactly() -> None:
    directions = np.random.default_rng(0).normal(size=(6, 9))
    order = np.random.default_rng(1).permutation(6)
    atoms = torch.tensor(directions[order] * np.arange(1, 7)[:, None])
    found = planted.match(atoms, directions, 0)
    assert found.cosine == pytest.approx(np.ones(6))
    assert found.alone == pytest.approx(np.ones(6))
    assert order[found.latent].tolist() == list(range(6))
    assert found.mean == pytest.approx(1)
    assert found.found == 1
    assert found.control.max() < 0.9


def test_a_latent_that_serves_two_features_counts_for_one_of_them_when_assigned() -> None:
    directions = np.array([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0]])
    atoms = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = planted.match(atoms, directions, 0)
    assert found.latent.tolist() == [0, 0]
    assert sorted(found.alone) == pytest.approx([0.0, 1 / np.sqrt(1.01)])


def test_areas_under_the_curve_are_those_of_scikit_learn_with_ties() -> None:
    random = np.random.default_rng(3)
    values = random.integers(0, 4, size=(200, 5)).astype(float)
    active = random.random((200, 3)) < 0.3
    active[:, 2] = False
    found = planted.aurocs(values, active)
    expected = [[roc_auc_score(active[:, f], values[:, latent]) for latent in range(5)] for f in range(2)]
    assert found[:2] == pytest.approx(np.array(expected))
    assert np.isnan(found[2]).all()


def test_the_latent_is_chosen_on_one_half_and_judged_on_the_other() -> None:
    random = np.random.default_rng(4)
    features = (random.random((2_000, 2)) < 0.2).astype(np.uint8)
    noise = random.random((2_000, 50))
    latents = np.concatenate([noise, features[:, [1]] * 2.0, features[:, [0]] * 2.0], axis=1)
    found = planted.detect(latents, features, np.arange(2_000), 0)
    assert found.latent.tolist() == [51, 50]
    assert found.auroc == pytest.approx([1, 1])
    assert np.abs(found.control - 0.5).max() < 0.06
    assert found.active == pytest.approx(features.mean(axis=0))


def test_what_one_half_of_the_sequences_shows_is_not_judged_on_itself() -> None:
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 50)
    # Each sequence has a latent of its own, and the feature is active in half of them: nothing general to find.
    latents = (groups[:, None] == np.arange(40)[None, :]).astype(float)
    features = (groups % 2 == 0)[:, None]
    by_sequence = planted.detect(latents, features, groups, 0)
    by_position = planted.detect(latents, features, random.permutation(2_000), 0)
    assert by_sequence.auroc[0] <= 0.5
    assert by_position.auroc[0] > 0.51


def planted_toy(work: Path, features: int = 12, d: int = 24) -> np.ndarray:
    """A session in ``work`` with the toy ``toy-1``, whose activations are sparse sums of known directions."""
    random = np.random.default_rng(0)
    directions = random.normal(size=(features, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    samples = np.where(random.random((6_000, features)) < 0.1, random.random((6_000, features)) + 0.5, 0)
    network = Network(
        [Stage(name="hidden", weight="W")], {"W": directions}, samples, [f"f{i}" for i in range(features)]
    )
    folder = work / "runs" / "toy-1"
    run = Run("toy-1", RecordingWriter(folder, RunRecord("toy-1", "toy", {})), Control())
    names = tuple(f"f{i}" for i in range(features))
    tokens = np.arange(6_000).reshape(-1, 1)
    data = ToyData(tokens, features=samples[:, None].astype(np.float16), names=names)
    keep_toy(run, network, data, title="Planted", planted={"blocks.0.hook_hidden": (names, directions)})
    return directions


def test_a_dictionary_trained_on_a_toy_is_scored_live_and_at_the_end(tmp_path: Path) -> None:
    planted_toy(tmp_path)
    found = find("train-dictionary")
    values = {
        "model": "toy:toy-1", "text": "toy:toy-1", "hook": "blocks.0.hook_hidden", "tokens": 6_000, "width": 12,
        "k": 2, "batch": 256, "steps": 800, "lr": 3e-3, "threads": 1,
    }  # fmt: skip
    folder = tmp_path / "runs" / "train-dictionary-1"
    record = execute(found, check(found.parameters, values), folder, [], Control(), work=tmp_path)
    assert record.state == "finished", record.error + record.traceback
    recording = Recording(folder)
    curve = recording.metric("planted")
    assert curve[0, 1] < 0.8 < 0.9 < curve[-1, 1]
    assert record.facts["planted_found"] > 0.7
    assert record.facts["planted_control"] < 0.6
    table = recording.figure("planted features")
    assert sorted(table.columns[0].tolist()) == sorted(f"f{i}" for i in range(12))
    assert table.columns[2].mean() == pytest.approx(curve[-1, 1])
    assert "ce_recovered" not in recording.metric_names()


def test_cross_entropy_of_a_toy_without_predictions_is_refused(tmp_path: Path) -> None:
    planted_toy(tmp_path)
    found = find("train-dictionary")
    values = {
        "model": "toy:toy-1", "text": "toy:toy-1", "hook": "blocks.0.hook_hidden", "tokens": 6_000, "width": 12, "k": 2,
        "batch": 64, "steps": 4, "measure_every": 2, "threads": 1,
    }  # fmt: skip
    record = execute(
        found, check(found.parameters, values), tmp_path / "runs" / "train-dictionary-1", [], Control(), work=tmp_path
    )
    assert record.state == "failed"
    assert record.error.endswith("set measure_every to 0.")


def test_a_toys_data_is_read_by_its_own_model_only(tmp_path: Path) -> None:
    planted_toy(tmp_path)
    found = find("pca-spectrum")
    values = {"model": "demo", "text": "toy:toy-1", "tokens": 1_000}
    record = execute(
        found, check(found.parameters, values), tmp_path / "runs" / "pca-spectrum-1", [], Control(), work=tmp_path
    )
    assert record.state == "failed"
    assert "only the model toy:toy-1 reads" in record.error
