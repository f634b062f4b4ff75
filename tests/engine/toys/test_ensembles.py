"""Ensembles: every instance is trained as if it were alone, on data that depend on nothing but seed, instance and step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.models import memory
from engine.models.errors import ModelError
from engine.runs.run import Checkpoint
from engine.toys.ensembles import Ensemble, EnsembleTrainer, Streams, require_ensemble, xavier
from engine.toys.tms.data import Features
from engine.toys.training import generator

MODELS, M, F, B = 6, 3, 7, 64


def loss_of(weights: Tensor, bias: Tensor, importance: Tensor, x_FB: Tensor, relu: bool) -> Tensor:
    """The loss as it is written in the paper, for autograd."""
    before = (x_FB.T @ weights.T) @ weights + bias
    return (importance * (x_FB.T - (torch.relu(before) if relu else before)) ** 2).mean()


def made(linear: int = 0) -> Ensemble:
    source = generator(3, 0)
    importance = torch.rand(MODELS, F, generator=source) + 0.1
    return Ensemble(xavier(MODELS, M, F, source), importance, linear=linear)


def source_of(batch: int = B, seed: int = 1) -> Features:
    return Features(torch.linspace(1, 0.1, MODELS), F, batch, Streams(seed, 1, MODELS, F * batch))


def test_the_gradient_is_that_of_autograd_with_and_without_a_relu() -> None:
    ensemble = made(linear=2)
    ensemble.parameters[:, -1] = torch.randn(MODELS, F, generator=generator(0, 9)) * 0.1
    x = source_of().draw()
    gradient, losses = ensemble.gradient(x)
    for number in range(MODELS):
        weights, bias = ensemble.weights[number].clone(), ensemble.bias[number].clone()
        weights.requires_grad_()
        bias.requires_grad_()
        loss = loss_of(weights, bias, ensemble.importance[number, 0], x[number], number < MODELS - 2)
        loss.backward()
        assert losses[number].item() == pytest.approx(loss.item(), rel=1e-5)
        assert torch.allclose(gradient[number, :-1], weights.grad, atol=1e-7)
        assert torch.allclose(gradient[number, -1], bias.grad, atol=1e-7)
    assert torch.allclose(ensemble.losses(x), losses)


def test_an_instance_is_trained_as_if_it_were_alone() -> None:
    ensemble, source = made(linear=1), source_of()
    alone = [(ensemble.weights[i].clone().requires_grad_(), torch.zeros(F, requires_grad=True)) for i in range(MODELS)]
    optimisers = [torch.optim.Adam(pair, lr=1e-2) for pair in alone]
    for _ in range(50):
        x = source.draw()
        found = ensemble.step(x, 1e-2)
        for number, ((weights, bias), adam) in enumerate(zip(alone, optimisers, strict=True)):
            loss = loss_of(weights, bias, ensemble.importance[number, 0], x[number], number < MODELS - 1)
            adam.zero_grad()
            loss.backward()
            adam.step()
            assert found[number].item() == pytest.approx(loss.item(), rel=1e-4)
    for number, (weights, bias) in enumerate(alone):
        scale = float(weights.detach().abs().max())
        assert torch.allclose(ensemble.weights[number], weights.detach(), rtol=1e-4, atol=1e-4 * scale)
        assert torch.allclose(ensemble.bias[number], bias.detach(), rtol=1e-4, atol=1e-4 * scale)


def test_a_hidden_unit_of_zeros_stays_so_and_changes_nothing() -> None:
    narrow, source = made(), source_of()
    wide = Ensemble(torch.cat((narrow.weights, torch.zeros(MODELS, 2, F)), dim=1), narrow.importance[:, 0])
    for _ in range(20):
        x = source.draw()
        narrow.step(x, 1e-2)
        wide.step(x, 1e-2)
    assert torch.equal(wide.weights[:, M:], torch.zeros(MODELS, 2, F))
    assert torch.allclose(wide.weights[:, :M], narrow.weights, atol=1e-5)


@pytest.mark.parametrize("numbers", [10, 9_001])  # many steps to a draw, and one
def test_a_stream_depends_on_seed_instance_and_step_alone(numbers: int) -> None:
    streams = Streams(5, 1, 4, numbers)
    drawn = [streams.uniform().clone() for _ in range(7)]
    assert all(step.shape == (4, numbers) for step in drawn)
    for step in (0, 3, 6):
        streams.seek(step)
        assert torch.equal(streams.uniform(), drawn[step])
    one = Streams(5, 1, 1, numbers, first=2)
    one.seek(4)
    assert torch.equal(one.uniform()[0], drawn[4][2])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert not torch.equal(Streams(6, 1, 4, numbers).uniform(), drawn[0])


def test_streams_are_uniform() -> None:
    found = torch.sort(Streams(0, 1, 2, 100_000).uniform()).values
    even = torch.arange(100_000) / 100_000
    assert found.min() >= 0
    assert found.max() < 1
    assert (found - even).abs().max() < 1.95 / np.sqrt(100_000)  # Kolmogorov–Smirnov at 0.1 %


def test_features_fire_with_their_density_and_are_uniform_then() -> None:
    density = torch.tensor([1.0, 0.3, 0.02])
    x = Features(density, 4, 50_000, Streams(0, 1, 3, 200_000)).draw()
    share = (x > 0).float().mean(dim=(1, 2))
    assert torch.allclose(share, density, atol=0.005)
    for number in range(3):
        on = x[number][x[number] > 0]
        assert on.mean().item() == pytest.approx(0.5, abs=0.02)
        assert on.var().item() == pytest.approx(1 / 12, abs=0.01)
        assert on.max() <= 1.0001
    both = ((x[1, 0] > 0) & (x[1, 1] > 0)).float().mean().item()
    assert both == pytest.approx(0.09, abs=0.01)


@pytest.mark.parametrize(("variant", "both"), [("correlated", 0.2), ("anticorrelated", 0.0)])
def test_pairs_of_features_fire_together_or_never(variant: Any, both: float) -> None:
    x = Features(torch.tensor([0.2]), 5, 50_000, Streams(0, 1, 1, 250_000), variant).draw()[0]
    fires = x > 0
    assert fires.float().mean(dim=1).tolist() == pytest.approx([0.2] * 5, abs=0.01)
    for pair in ((0, 1), (2, 3)):
        assert (fires[pair[0]] & fires[pair[1]]).float().mean().item() == pytest.approx(both, abs=0.01)
    assert (fires[0] & fires[2]).float().mean().item() == pytest.approx(0.04, abs=0.01)
    assert (fires[3] & fires[4]).float().mean().item() == pytest.approx(0.04, abs=0.01)
    together = x[:2, fires[0] & fires[1]] if both else x[:1, fires[0]]
    assert together.mean().item() == pytest.approx(0.5, abs=0.02)
    if both:
        assert abs(float(torch.corrcoef(together)[0, 1])) < 0.03


@pytest.mark.parametrize("stop", [0, 1, 13])
def test_a_restored_trainer_goes_on_bit_for_bit(stop: int) -> None:
    def trainer() -> EnsembleTrainer:
        return EnsembleTrainer(made(), source_of(batch=20), lr=1e-2, steps=30)

    through, first, second = trainer(), trainer(), trainer()
    losses = [through.train_step() for _ in range(30)]
    for _ in range(stop):
        first.train_step()
    second.restore(Checkpoint(*first.checkpoint()))
    assert [second.train_step() for _ in range(30 - stop)] == losses[stop:]
    assert torch.equal(through.ensemble.parameters, second.ensemble.parameters)


def test_an_ensemble_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device="cpu": 10**9)
    require_ensemble(64, 5, 20, 256)
    with pytest.raises(ModelError, match=r"5,000 toys with 400 features.*1\.0 GB are free; choose fewer instances"):
        require_ensemble(5_000, 30, 400, 1024)
