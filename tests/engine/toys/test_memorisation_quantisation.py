"""Rounding weights: the codes against brute force, training through them, and the experiment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.figures import Lines, Table
from engine.toys.facts.ensemble import Table as Facts
from engine.toys.facts.ensemble import gradients, initial
from engine.toys.facts.quantiser import QuantisingTrainer, best_clip, mixed, quantise, rounded
from engine.toys.training import generator
from tests.engine.toys.running import quick, stopped_and_resumed

VALUES = torch.randn(3, 200, generator=generator(0, 0))


def error(values: torch.Tensor, other: torch.Tensor) -> float:
    return float((values - other).square().sum())


def test_one_bit_is_the_sign_times_the_scale_with_the_least_error() -> None:
    found = quantise(VALUES, 1)
    for values, row in zip(VALUES, found, strict=True):
        assert len(row.unique()) == 2
        scales = torch.linspace(0, 3, 3001)
        best = min(error(values, torch.sign(values) * scale) for scale in scales)
        assert error(values, row) == pytest.approx(best, abs=1e-3)


def test_ternary_has_three_values_and_the_least_squares_scale() -> None:
    found = quantise(VALUES, 1.58)
    for values, row in zip(VALUES, found, strict=True):
        assert len(row.unique()) == 3
        assert ((row == 0) == (values.abs() <= 0.7 * values.abs().mean())).all()
        signs = torch.sign(row)
        assert float(row.max()) == pytest.approx(float((values * signs).sum() / signs.abs().sum()), rel=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_more_bits_are_equal_steps_about_zero_to_the_nearest_level(bits: int) -> None:
    found = quantise(VALUES, bits)
    for values, row in zip(VALUES, found, strict=True):
        levels = row.unique()
        assert len(levels) <= 2**bits
        assert 0 not in levels
        step = float(levels.diff().min())
        every = (torch.arange(2**bits) - 2 ** (bits - 1) + 0.5) * step
        nearest = every[(values[:, None] - every).abs().argmin(dim=1)]
        assert torch.allclose(row, nearest, atol=1e-5)


def test_the_range_is_the_one_with_the_least_error_and_each_bit_helps() -> None:
    clip = best_clip(VALUES, 3)
    for other in (0.8, 0.9, 1.1, 1.2):
        assert error(VALUES, quantise(VALUES, 3)) <= error(VALUES, quantise(VALUES, 3, clip * other)) + 1e-3
    errors = [error(VALUES, quantise(VALUES, bits)) for bits in (1, 1.58, 2, 3, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)
    # Each bit halves the step: far from the ends the error falls by four.
    assert errors[-1] / errors[-2] == pytest.approx(1 / 16, rel=0.4)


def test_models_are_rounded_one_by_one() -> None:
    models = initial(3, 5, 4, generator(0, 0))
    together = rounded(models, 3.0)
    for number in range(3):
        alone = rounded(models[[number]], 3.0)
        assert torch.equal(alone.a[0], together.a[number])
    assert torch.equal(together.bias, models.bias)
    other = mixed(together, generator(0, 1))
    assert not torch.equal(other.a, together.a)
    assert torch.equal(other.a.flatten(1).sort(dim=1).values, together.a.flatten(1).sort(dim=1).values)


def trainer(steps: int = 60) -> QuantisingTrainer:
    table = Facts.draw(10, 0)
    return QuantisingTrainer(table, [4], bits=(1.0, 2.0, 4.0), restarts=2, steps=steps, lr=2e-2, fine_lr=1e-2, seed=0)


def test_the_second_stage_takes_the_gradient_at_rounded_weights_and_moves_the_others() -> None:
    found = trainer()
    for _ in range(60):
        found.train_step()
    floats = found.models[0].detached()
    found.train_step()
    assert torch.equal(found.models[0].a, floats.a)  # the first stage's models stay
    start = floats.a.repeat(3, 1, 1)
    moved = found.fine[0].a.detach() - start
    copies = type(floats)(*(getattr(floats, n).repeat(3, *[1] * (getattr(floats, n).dim() - 1)) for n in
                            ("a", "b", "bias", "out", "offset")))  # fmt: skip
    parts = [rounded(copies[[2 * place, 2 * place + 1]], bits) for place, bits in enumerate((1.0, 2.0, 4.0))]
    at = type(floats)(*(torch.cat([getattr(part, n) for part in parts]) for n in ("a", "b", "bias", "out", "offset")))
    _, expected = gradients(at, found.table.answers, found.weight[0][:1].expand(6, -1, -1))
    large = expected.a.abs() > 1e-6
    # Adam's first step goes against the gradient's sign, as far as the learning rate.
    assert torch.allclose(moved[large], -0.01 * torch.sign(expected.a)[large], rtol=0.02)


def test_training_in_few_bits_beats_rounding_after_training() -> None:
    from engine.toys.facts.ensemble import entropies

    found = trainer(200)
    for _ in range(400):
        found.train_step()
    tuned = found.accuracies(0)
    after = entropies(rounded(found.models[0].detached(), 1.0), found.table.answers, found.chosen[0])[1]
    assert float(tuned[0].mean()) > float(after.mean())
    assert tuned[0].mean() < tuned[2].mean()


def test_a_quick_run_shows_both_ways_and_controls(tmp_path: Path) -> None:
    run = quick("memorisation-quantisation", tmp_path)
    after, during = run.figure("after-training"), run.figure("while-training")
    assert isinstance(after, Lines)
    assert isinstance(during, Lines)
    for figure in (after, during):
        assert figure.series[-1] == "bits stored per parameter"
        assert "always the commoner answer" in figure.reference
    table = run.figure("all")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    kinds = list(columns["Rounded"])
    right = columns["Facts right"]
    slack = columns["Neurons h"] == 12
    floats = right[slack & (columns["Rounded"] == "float")].item()
    eight = right[slack & (columns["Rounded"] == "after training") & (columns["Bits per weight"] == 8)].item()
    mixed_up = right[slack & (columns["Rounded"] == "8 bits, in another order")].item()
    assert floats > 0.95
    assert eight == pytest.approx(floats, abs=0.02)
    assert abs(mixed_up - 0.5) < 0.12
    assert kinds.count("always the commoner answer") == 2
    assert np.isfinite(run.metric("accuracy_qat")[:, 1]).all()


@pytest.mark.parametrize("stop", [13, 30, 44])
def test_a_run_is_resumed_bit_for_bit_in_either_stage(tmp_path: Path, stop: int) -> None:
    stopped_and_resumed("memorisation-quantisation", tmp_path, stop=stop, size="quick", items=8, hidden=[3], steps=30)
