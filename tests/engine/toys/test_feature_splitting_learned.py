"""Learned families: the ensemble against native models and brute force, its measures, and the experiment as it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Heatmap, Lines, Table
from engine.models import memory
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text import toys as toy_texts
from engine.toys.small_dictionaries import Job, Small, prepare
from engine.toys.splitting import learned as splitting_learned
from engine.toys.splitting import network
from engine.toys.splitting.network import families
from engine.toys.training import generator
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed


def trainer(steps: int = 40) -> network.FamilyTrainer:
    return network.make(
        5, 3, 6, (0.0, 0.5), 0.5, outputs=7, beta=2, d_model=8, d_mlp=12, steps=steps, lr=1e-2, seed=0
    )  # fmt: skip


def words(contexts: int, tokens: int) -> torch.Tensor:
    c, t = torch.meshgrid(torch.arange(contexts), torch.arange(tokens), indexing="ij")
    return torch.stack((c.flatten(), contexts + t.flatten()), dim=1)


@pytest.mark.parametrize(("ensemble", "instance"), [(0, 0), (0, 1), (0, 2), (1, 0)])
def test_each_transformer_is_the_native_model(ensemble: int, instance: int) -> None:
    ours = trainer()
    for _ in range(5):
        ours.train_step()
    one = ours.ensembles[ensemble]
    with torch.no_grad():
        expected = one.residual()[instance].flatten(0, 1) @ one.weights["unembed.weight"][instance].T
        logits = one.model(instance)(words(one.contexts, one.tokens))[:, -1]
        assert torch.allclose(logits, expected, atol=1e-5)
        start_, law = one.contexts + one.tokens, one.laws[instance]
        loss = -(law * logits.log_softmax(dim=1)[:, start_ : start_ + one.outputs]).sum(dim=1).mean()
        assert one.losses()[instance] == pytest.approx(float(loss), abs=1e-5)


def test_laws_are_those_of_the_families_and_the_floor_is_their_entropy() -> None:
    same, apart, control = network.families(4, 3, 6, 2.0, (0.0, 0.7), generator(0, 1))
    assert torch.allclose(same.laws, same.laws[:1].expand(3, -1, -1))
    assert not torch.allclose(apart.laws[0], apart.laws[1])
    for world in (same, apart, control):
        entropy = torch.distributions.Categorical(world.laws).entropy().mean()
        assert world.floor == pytest.approx(float(entropy), abs=1e-6)
        assert torch.allclose(world.laws.sum(dim=2), torch.ones(3, 4))


def test_training_comes_near_the_floor_and_never_below() -> None:
    ours = trainer(steps=400)
    before = ours.excesses()
    for _ in range(400):
        ours.train_step()
    after = ours.excesses()
    assert min(after) > -1e-6
    assert max(after) < 0.05 < 0.5 < min(before)


def test_an_instance_in_an_ensemble_learns_as_it_does_alone() -> None:
    worlds = network.families(5, 3, 7, 2.0, (0.0, 0.5), generator(0, 1))
    both = network.Ensemble(worlds, 8, 12, generator(0, 0))
    alone = network.Ensemble(worlds[1:2], 8, 12, generator(0, 0))
    alone.weights = {name: tensor[1:2].clone() for name, tensor in both.weights.items()}
    trainers = [network.FamilyTrainer([one], 50, 1e-2) for one in (both, alone)]
    for _ in range(50):
        for one in trainers:
            one.train_step()
    for name, tensor in alone.weights.items():
        assert torch.allclose(both.weights[name][1:2], tensor, rtol=1e-4, atol=1e-5), name


def by_hand(tokens: int, contexts: int, groups: list[list[int]]) -> tuple[Small, splitting_learned.Learned]:
    """One-hot cells, and a latent for each group of contexts of each token."""
    eye = torch.eye(tokens * contexts)
    world = network.World("t", 0.5, torch.ones(contexts, tokens, 2) / 2, torch.zeros(contexts, tokens, 2))
    found = splitting_learned.learned(world, eye, torch.eye(tokens * contexts))
    cells = found.planted.cells.reshape(tokens, contexts, -1)
    atoms = torch.cat([cells[:, group].mean(dim=1) for group in groups])
    one = prepare(Job("t", found.planted.cells, len(atoms), 1), generator(0, 0), steps=1, lr=1e-3, batch=64)
    one.weights.decoder.copy_(torch.nn.functional.normalize(atoms, dim=1))
    one.weights.encoder.copy_(one.weights.decoder)
    return one, found


@pytest.mark.parametrize(
    ("groups", "stretches"),
    [
        ([[0, 1, 2], [3, 4, 5]], 1.0),
        ([[0, 2, 4], [1, 3, 5]], 3.0),
        ([[5, 0], [1, 2, 3, 4]], 1.0),
        ([list(range(6))], 1.0),
    ],
)
def test_stretches_are_counted_round_the_circle(groups: list[list[int]], stretches: float) -> None:
    one, found = by_hand(4, 6, groups)
    assert splitting_learned.runs(one, found.planted) == stretches


def test_orthogonal_contexts_give_their_own_rho() -> None:
    tokens, contexts, rho = 12, 4, 0.5
    directions = torch.eye(tokens * (contexts + 1))
    cells = directions[:tokens, None] + rho * directions[tokens:].reshape(tokens, contexts, -1)
    world = network.World("t", 0.5, torch.ones(contexts, tokens, 2) / 2, torch.zeros(contexts, tokens, 2))
    found = splitting_learned.learned(world, cells.flatten(0, 1), torch.eye(60))
    # Their mean is taken away, which hides a part 1/T of what tokens are.
    between = (1 + rho**2 / contexts) * (1 - 1 / tokens)
    inside = rho**2 * (1 - 1 / contexts)
    assert found.within == pytest.approx(inside / (inside + between), abs=1e-6)
    assert found.planted.squares == pytest.approx(float(found.planted.cells.square().sum(dim=1).mean()), abs=1e-4)


def test_a_quick_run_shows_families_and_controls(tmp_path: Path) -> None:
    recording = quick("feature-splitting-learned", tmp_path)
    loss = recording.metric("loss")
    assert loss[-1, 1] < loss[0, 1] / 2
    assert recording.metric("living_control")[-1, 1] == 6 < recording.metric("living")[-1, 1]
    lines = recording.figure("fvu")
    assert isinstance(lines, Lines)
    assert {"ε = 0, k = 1", "control: independent cells, k = 1", "circle of contexts, k = 1"} <= set(lines.series)
    assert isinstance(recording.movie("firing").frame(0), Heatmap)
    models = recording.figure("models")
    assert isinstance(models, Table)
    assert (models.columns[3] < models.columns[4]).all()
    model = opened("feature-splitting-learned", tmp_path)
    attributes, text = toy_texts.find("feature-splitting-learned-1", tmp_path)
    assert attributes["features"][0] == "t0"
    assert text.counted is not None
    assert text.counted.sum(axis=0).tolist() == [0, len(text.tokens), 0]
    with torch.no_grad():
        logits = model.bridge(torch.tensor(text.tokens.astype(np.int64)))[:, 1]
    found = -logits.log_softmax(dim=1)[torch.arange(len(logits)), torch.tensor(text.tokens[:, 2].astype(np.int64))]
    row = list(models.columns[0]).index("ε = 0.5")
    assert float(found.mean()) == pytest.approx(models.columns[2][row], abs=0.15)  # 1,024 draws of the next token


FEW = {
    "size": "quick", "tokens": 3, "contexts": 2, "angles": 4, "steps": 12, "dictionary_steps": 8, "widths": [4],
}  # fmt: skip


@pytest.mark.parametrize(("stop", "metric"), [(7, "loss"), (5, "fvu")])
def test_a_stopped_run_goes_on_bit_for_bit_in_either_stage(tmp_path: Path, stop: int, metric: str) -> None:
    stopped_and_resumed("feature-splitting-learned", tmp_path, stop=stop, metric=metric, **FEW)


def test_a_world_without_contexts_has_to_be_among_them() -> None:
    with pytest.raises(ParameterError, match="needs 0, the control without contexts"):
        check(find("feature-splitting-learned").parameters, {"epsilons": [0.5, 1]})


@pytest.mark.slow
def test_the_demo_splits_families_and_not_the_control(tmp_path: Path) -> None:
    recording = start("feature-splitting-learned", tmp_path)
    assert recording.metric("loss")[-1, 1] < 0.02
    assert recording.metric("living_control")[-1, 1] == 16
    assert recording.metric("living")[-1, 1] == 128


def test_contexts_next_to_nothing_are_refused() -> None:
    with pytest.raises(ParameterError, match="epsilons has 1e-300"):
        check(find("feature-splitting-learned").parameters, {"epsilons": [0, 1e-300]})


def test_a_law_so_peaked_that_outputs_never_come_has_a_floor() -> None:
    worlds = families(3, 2, 40, 20.0, [0.0, 4.0], generator(0, 1))
    assert all(0 <= world.floor < 1 for world in worlds)
    assert any((world.laws == 0).any() for world in worlds)


def test_dictionaries_that_do_not_fit_are_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        **FEW,
        "widths": [16_384 - n for n in range(8)],
        "tokens": 256,
        "contexts": 64,
        "epsilons": [0, 1, 2, 3, 4],
    }
    monkeypatch.setattr(memory, "available", lambda device="cpu": 500_000_000)
    run = start("feature-splitting-learned", tmp_path, state="failed", **values)
    assert "Training on so many cells needs about" in run.record().error
    assert not run.metric_names()
