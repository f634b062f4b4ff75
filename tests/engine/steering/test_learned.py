"""Learned steering on problems whose optimum is known, its held-out pairs, its exact resumption, and how it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.runs.control import Control
from engine.runs.recording import RecordingWriter, RunRecord
from engine.runs.run import Run
from engine.runs.sinks import MemorySink
from engine.steering.errors import SteeringError
from engine.steering.interventions import Intervention
from engine.steering.learned import (
    LearnedShift,
    Readout,
    ShiftNetwork,
    ShiftPlan,
    ShiftTrainer,
    held_out_pairs,
    keep_learned,
    load_learned,
    steered,
    train_shift,
)

CLASSES, WIDTH, ITEMS = 4, 6, 200


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted() -> tuple[Tensor, Tensor]:
    """Activations with the label one-hot in the first dimensions, and noise in the others."""
    y = torch.arange(ITEMS) % CLASSES
    x = 0.5 * torch.randn(ITEMS, WIDTH, generator=source())
    x[:, :CLASSES] = torch.nn.functional.one_hot(y, CLASSES).float()
    return x, y


def rest(moved: Tensor, items: Tensor) -> Tensor:
    return moved[:, :CLASSES] * 8


def trainer(plan: ShiftPlan, held: Tensor | None = None, seed: int = 0) -> ShiftTrainer:
    x, y = planted()
    network = ShiftNetwork.of(x, CLASSES, hidden=plan.hidden, source=source(seed))
    held = torch.zeros(CLASSES, CLASSES, dtype=torch.bool) if held is None else held
    return ShiftTrainer(network, x, y, torch.arange(ITEMS // 2), held, rest, plan, source(seed + 1))


def trained(plan: ShiftPlan, held: Tensor | None = None) -> ShiftTrainer:
    one = trainer(plan, held)
    train_shift(Run("r", MemorySink(), Control()), one)
    return one


def test_it_reaches_every_target_on_rows_that_it_has_not_seen() -> None:
    one = trained(ShiftPlan(steps=300, batch=64, hidden=32))
    x, y = planted()
    rows = torch.arange(ITEMS // 2, ITEMS)
    for shift in (1, 2, 3):
        target = (y[rows] + shift) % CLASSES
        with torch.no_grad():
            moved = one.network(x[rows], y[rows], target)
        assert steered(moved, x[rows], rows, target, rest, batch=32).success.all()
    assert one.history[-20:, 1].mean() > 0.99
    assert torch.isfinite(one.history).all()


def test_with_a_price_it_finds_the_shift_that_balances_loss_and_length() -> None:
    # One activation, two labels, logits ±8 along one dimension: the optimum of the loss is a root of its derivative.
    x, y = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([0])
    network = ShiftNetwork(3, 2, hidden=16, source=source())
    beta = 0.5

    def two(moved: Tensor, items: Tensor) -> Tensor:
        return 4 * torch.stack([moved[:, 0], -moved[:, 0]], dim=1)

    held = torch.zeros(2, 2, dtype=torch.bool)
    one = ShiftTrainer(network, x, y, torch.tensor([0]), held, two, ShiftPlan(400, 4, 1e-2, 16, beta), source())
    train_shift(Run("r", MemorySink(), Control()), one)
    grid = np.linspace(-3, 1, 400_001)
    best = 1 + grid[np.argmin(np.logaddexp(0, 8 * (1 + grid)) + beta * grid**2 / 5)]
    with torch.no_grad():
        moved = network(x, y, torch.tensor([1]))[0]
    assert float(moved[0]) == pytest.approx(best, abs=0.02)
    assert moved[1:].tolist() == pytest.approx([0, 2], abs=0.02)


def test_a_larger_price_means_a_shorter_step() -> None:
    steps = [float(trained(ShiftPlan(200, 64, hidden=32, beta=beta)).history[-20:, 2].mean()) for beta in (0, 0.1, 10)]
    assert steps[0] > steps[1] > steps[2]


def test_pairs_that_are_held_out_are_never_drawn() -> None:
    held = held_out_pairs(CLASSES, 0.3, source())
    x, y = planted()
    seen = set()

    class Watching(ShiftNetwork):
        def forward(self, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
            seen.update(zip(y.tolist(), target.tolist(), strict=True))
            return super().forward(x, y, target)

    network = Watching.of(x, CLASSES, hidden=4, source=source())
    one = ShiftTrainer(network, x, y, torch.arange(ITEMS), held, rest, ShiftPlan(10, 256, hidden=4), source())
    train_shift(Run("r", MemorySink(), Control()), one)
    assert seen == {(a, b) for a in range(CLASSES) for b in range(CLASSES) if a != b and not held[a, b]}


@pytest.mark.parametrize("classes", [2, 3, 7, 40])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_every_label_keeps_a_pair_to_train_on(classes: int, share: float) -> None:
    held = held_out_pairs(classes, share, source())
    off = ~torch.eye(classes, dtype=torch.bool)
    assert not (held & ~off).any()
    left = off & ~held
    assert (left.sum(0) > 0).all()
    assert (left.sum(1) > 0).all()
    if classes > 3:
        assert held.sum() == (round(share * classes * (classes - 1)))
    assert torch.equal(held, held_out_pairs(classes, share, source()))


def test_a_trainer_that_is_restored_goes_on_bit_for_bit() -> None:
    plan = ShiftPlan(40, 32, hidden=16, beta=0.1)
    through = trained(plan)
    first = trainer(plan)
    for _ in range(17):
        first.train_step()
    second = trainer(plan, seed=5)
    second.restore(first.checkpoint())
    train_shift(Run("r", MemorySink(), Control()), second)
    for name, array in through.network.arrays().items():
        assert np.array_equal(array, second.network.arrays()[name]), name
    assert torch.equal(through.history, second.history)


def test_training_leaves_the_models_gradients_alone() -> None:
    weight = torch.nn.Parameter(torch.eye(WIDTH)[:, :CLASSES] * 8)
    one = trainer(ShiftPlan(2, 8, hidden=4))
    one.rest = lambda moved, items: moved @ weight
    one.train_step()
    assert weight.grad is None


def test_a_loss_that_is_no_number_ends_in_a_sentence() -> None:
    one = trainer(ShiftPlan(5, 8, hidden=4))
    one.rest = lambda moved, items: moved[:, :CLASSES] * torch.nan
    with pytest.raises(SteeringError, match=r"diverged; choose a learning rate below 0\.003"):
        one.train_step()


def test_a_readout_reads_planted_labels_and_ignores_a_constant() -> None:
    x, y = planted()
    x = torch.cat([x, torch.ones(ITEMS, 1)], dim=1)
    assert torch.equal(Readout.fit(x[:100], y[:100], CLASSES)(x[100:]), y[100:])


def test_a_wider_network_does_the_same_and_leaves_the_new_dimension() -> None:
    x, y = planted()
    network = trainer(ShiftPlan(hidden=8)).network
    wide = torch.cat([x, torch.full((ITEMS, 1), 3.0)], dim=1)
    target = (y + 1) % CLASSES
    with torch.no_grad():
        expected, found = network(x, y, target), network.widened(3.0)(wide, y, target)
    assert torch.allclose(found[:, :WIDTH], expected, atol=1e-6)
    assert (found[:, WIDTH] == 3).all()


def learned() -> LearnedShift:
    x, y = planted()
    one = trained(ShiftPlan(200, 64, hidden=32))
    return LearnedShift(
        one.network, Readout.fit(x, y, CLASSES), ("n", "e", "s", "w"), "blocks.0.hook_resid_post", "demo"
    )


def test_as_an_intervention_its_strength_scales_the_shift() -> None:
    found: Intervention = learned().towards("s")
    x, _ = planted()
    assert torch.equal(found(x, 0.0), x)
    assert torch.allclose(found(x, 0.5) - x, (found(x, 1.0) - x) / 2, atol=1e-6)
    assert (rest(found(x, 1.0), x).argmax(1) == 2).double().mean() > 0.99


def test_without_a_target_it_moves_to_the_next_label() -> None:
    x, y = planted()
    assert torch.equal(rest(learned()(x, 1.0), x).argmax(1), (y + 1) % CLASSES)
    with pytest.raises(SteeringError, match="none of the labels n, e, s, w"):
        learned().towards("up")


def test_what_a_run_has_kept_is_loaded_again(tmp_path: Path) -> None:
    found = learned()
    record = RunRecord(id="learned-steering-1", experiment="learned-steering", parameters={}, created=0.0)
    writer = RecordingWriter(tmp_path / "runs" / record.id, record)
    keep_learned(Run(record.id, writer, Control()), found)
    loaded = load_learned(tmp_path, record.id, "w")
    x, _ = planted()
    assert torch.equal(loaded(x, 1.0), found.towards("w")(x, 1.0))
    assert (loaded.hook, loaded.model, loaded.classes) == (found.hook, "demo", found.classes)
    for wrong in ("learned-steering-2", "../x"):
        with pytest.raises(SteeringError, match="run learned-steering first"):
            load_learned(tmp_path, wrong)
    with pytest.raises(SteeringError, match="no session is open"):
        load_learned(None, record.id)
    with pytest.raises(SteeringError, match="name a run"):
        load_learned(tmp_path, "")
