"""Grokfast and wrong labels: networks side by side, compared with their own control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Lines, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text.toys import find as find_data
from engine.toys.costs import _costs
from engine.toys.modular.network import Shape
from engine.toys.modular.sweep import Sweep, numbers
from engine.toys.modular.training import ModularTrainer, Plan, Setting
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

TINY: dict[str, Any] = {"size": "quick", "p": 11, "d_model": 8, "heads": 2, "d_mlp": 16, "steps": 50}


def test_values_to_compare_are_read_from_text_with_the_control_first() -> None:
    assert numbers("2, .5;1,", "strengths", 0, 5) == (0, 0.5, 1, 2)


@pytest.mark.parametrize(
    ("text", "said"), [("2, x", "“x” in s is no number"), ("7", "7 in s is not between 0 and 5"), ("0", "one to nine")]
)
def test_values_that_cannot_be_compared_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        numbers(text, "s", 0, 5)


def test_a_sweep_sorts_its_networks_by_value_and_seed() -> None:
    plan = Plan(Shape(7, 4, 1, 8), 0.5, 1e-3, 1.0, check=5)

    def make(settings: list[Setting]) -> ModularTrainer:
        return ModularTrainer(plan, settings, [0, 5, 10, 15])

    sweep = Sweep(make, lambda seed, value: Setting(seed, noise=value), (0, 0.2), (4, 5, 6))
    assert [(s.seed, s.noise) for s in sweep.trainer.settings] == [(4, 0), (5, 0), (6, 0), (4, 0.2), (5, 0.2), (6, 0.2)]
    sweep.trainer.curves[:, :, 1] = torch.tensor([0, 0.5, 1, 1])[:, None] * torch.tensor([1, 1, 0, 0, 0.9, 1])
    assert np.array_equal(sweep.passed("test_accuracy"), [[10, 10, np.nan], [np.nan, np.nan, 10]], equal_nan=True)
    figure = sweep.figure(("none", "some"), "Title")
    assert figure.low is not None
    assert figure.series == ("test, none", "test, some", "train, none")
    assert figure.y[0].tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert figure.low[0].tolist() == [0, 0, 0]


def test_grokfast_is_compared_with_the_same_seed_without_it(tmp_path: Path) -> None:
    recording = start("grokfast-comparison", tmp_path, **TINY, strengths="3", seeds=2)
    lines, table = recording.figure("accuracy"), recording.figure("comparison")
    assert isinstance(lines, Lines)
    assert isinstance(table, Table)
    assert lines.series == ("test, λ = 0", "test, λ = 3", "train, λ = 0")
    assert lines.reference["chance"] == pytest.approx(1 / 11)
    assert table.columns[0].tolist() == [0, 0, 0, 3, 3, 3]
    assert table.columns[1].tolist() == ["0", "1", "mean, n = 0"] * 2
    assert {"training_pairs seed 0", "training_pairs seed 1"} <= set(recording.kept_names())
    assert np.array_equal(lines.y[0, -1:], recording.metric("control_accuracy")[-1:, 1])
    alone = start("modular-addition", tmp_path, **TINY, seed=1, grokfast=3.0)
    assert table.columns[4][4] == pytest.approx(alone.metric("test_accuracy")[-1, 1], abs=0.02)


def test_wrong_labels_are_counted_apart(tmp_path: Path) -> None:
    recording = quick("label-noise", tmp_path, noise="5, 20")
    lines, table = recording.figure("by part"), recording.figure("table")
    assert isinstance(lines, Lines)
    assert isinstance(table, Table)
    assert lines.x[0].tolist() == [0, 5, 20]
    pairs = recording.kept("training_pairs seed 0")
    assert table.columns[1].tolist() == [0, round(0.05 * len(pairs)), round(0.2 * len(pairs))]
    assert recording.kept("wrong seed 0").sum() == round(0.2 * len(pairs))
    by_name = dict(zip(lines.series, lines.y, strict=True))
    assert np.isnan(by_name["train, wrong labels: true sum"][0])
    assert (by_name["train, wrong labels: as labelled"][1:] > 0.9).all()  # learned by heart
    assert by_name["test"][0] > by_name["test"][2]
    # The network that is kept is the noisiest one.
    toy = opened("label-noise", tmp_path)
    _, data = find_data("label-noise-1", tmp_path)
    with torch.no_grad():
        guess = toy.bridge(torch.from_numpy(data.tokens.astype(np.int64)))[:, -1].argmax(-1).numpy()
    right = (data.tokens[:, 0] + data.tokens[:, 1]) % 23
    test = np.setdiff1d(np.arange(23 * 23), pairs)
    assert (guess == right)[test].mean() == pytest.approx(by_name["test"][2])


@pytest.mark.parametrize("name", ["grokfast-comparison", "label-noise"])
def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path, name: str) -> None:
    stopped_and_resumed(name, tmp_path, stop=31, **TINY)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("grokfast-comparison", {"strengths": "fast"}, "is no number"),
        ("label-noise", {"noise": "0"}, "besides 0"),
        ("label-noise", {"noise": "101"}, "not between 0 and 100"),
        (
            "label-noise",
            {"size": "quick", "noise": "0.0001"},
            "0.0001 % in noise makes none of 370 training labels wrong",
        ),
        ("label-noise", {"train_share": 1.0}, "leaves none to test on"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_a_sentence(name: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        check(find(name).parameters, values)


@pytest.mark.parametrize("name", ["grokfast-comparison", "label-noise"])
def test_its_cost_is_told_from_its_own_steps(name: str) -> None:
    found = _costs[name](check(find(name).parameters, TINY))
    assert found.seconds > 0
    assert found.memory > 1e8
