"""Training in a run: log-spaced steps, divergence that names its step, and a record that stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.runs.control import Control
from engine.runs.declaration import Experiment
from engine.runs.execute import execute
from engine.runs.parameters import Parameters
from engine.runs.recording import Recording
from engine.runs.run import Run
from engine.toys.training import Trainer, cosine, generator, log_steps, train


class Steep(Trainer):
    """Gradient descent on x⁴, which diverges from 2 with a learning rate of 1."""

    def __init__(self, lr: float) -> None:
        self.x = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
        super().__init__({"x": self.x}, torch.optim.SGD([self.x], lr=lr))

    def train_step(self) -> float:
        assert self.optimiser is not None
        loss = self.x.pow(4).sum()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())


def run_it(folder: Path, lr: float) -> Recording:
    def descend(p: Parameters, run: Run) -> None:
        train(run, Steep(lr), 30, measure=lambda step: run.log(step, seen=float(step)), at=log_steps(30, 8), lr=lr)

    execute(Experiment("descend", "Descend", "Samples", Parameters, descend), Parameters(), folder, [], Control())
    return Recording(folder)


def test_a_diverging_run_stops_names_its_step_and_keeps_its_record(tmp_path: Path) -> None:
    recording = run_it(tmp_path, 1.0)
    record = recording.record()
    assert record.state == "failed"
    step = len(recording.metric("loss")) + 1
    assert record.error == (
        f"The loss is no finite number any more at step {step}: training diverged; choose a learning rate below 1."
    )
    x, expected = 2.0, []
    for _ in range(step - 1):
        expected.append(x**4)
        x -= 4 * x**3
    assert recording.metric("loss")[:, 1] == pytest.approx(expected)
    assert len(recording.metric("seen")) >= 2


def test_a_run_that_does_not_diverge_measures_at_the_log_spaced_steps(tmp_path: Path) -> None:
    recording = run_it(tmp_path, 0.01)
    assert recording.record().state == "finished"
    assert recording.metric("seen")[:, 0].tolist() == log_steps(30, 8)
    assert "cpu_seconds" in recording.record().facts


@pytest.mark.parametrize(("steps", "count"), [(1, 2), (30, 8), (5_000, 60), (10**6, 120)])
def test_log_spaced_steps_begin_untrained_end_trained_and_rise(steps: int, count: int) -> None:
    found = log_steps(steps, count)
    assert found[0] == 0
    assert found[-1] == steps
    assert (np.diff(found) > 0).all()
    assert len(found) <= count + 1


def test_streams_of_one_seed_are_independent_and_repeatable() -> None:
    draws = [torch.rand(4, generator=generator(3, stream)) for stream in (0, 1, 0)]
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])


def test_a_cosine_falls_from_the_learning_rate_to_nothing() -> None:
    assert cosine(2.0, 0, 10) == 2.0
    assert cosine(2.0, 5, 10) == pytest.approx(1.0)
    assert cosine(2.0, 10, 10) == pytest.approx(0, abs=1e-12)
