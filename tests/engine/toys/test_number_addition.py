"""Addition of numbers: questions, the fast pass, the split and its control, and what a run leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Heatmap, Lines, Scatter, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text.toys import find as find_data
from engine.toys.costs import _costs
from engine.toys.numbers.network import SumShape, answers, final, logits, native, questions
from engine.toys.numbers.training import KINDS, Plan, SumTrainer, guess
from tests.engine.toys.running import opened, quick, stopped_and_resumed

SHAPE = SumShape(numbers=7, layers=2, d_model=12, heads=3, d_mlp=20)


def plan(shape: SumShape = SHAPE, **values: Any) -> Plan:
    settings: dict[str, Any] = {"share": 0.7, "batch": 16, "steps": 9, "lr": 3e-3, "weight_decay": 1.0, "seed": 0}
    return Plan(shape=shape, **settings | values)


def test_questions_say_the_sums_they_are_labelled_with() -> None:
    assert " ".join(SHAPE.words[i] for i in questions(7)[3 * 7 + 5]) == "3 + 5 ="
    assert SHAPE.words[answers(7)[3 * 7 + 5]] == "8"
    assert len(SHAPE.words) == len(set(SHAPE.words)) == 13 + 2 + 3


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_fast_pass_is_the_native_transformer(layers: int) -> None:
    shape = SumShape(7, layers, 12, 3, 20)
    source = torch.Generator().manual_seed(layers)
    w = {
        name: weight + 0.1 * torch.randn(weight.shape, generator=source)
        for name, weight in shape.initial(source).items()
    }
    ids = torch.from_numpy(questions(7))
    with torch.no_grad():
        whole, cache = native(shape, w).run_with_cache(ids)
    assert torch.allclose(logits(shape, w, ids), whole[:, -1, :13], atol=1e-5)
    assert not whole[:, :, 13:].any()
    assert torch.allclose(final(shape, w, ids), cache[f"blocks.{layers - 1}.hook_resid_post"][:, -1], atol=1e-5)


def test_every_pair_is_trained_on_or_held_out_and_the_control_has_the_same_answers_elsewhere() -> None:
    trainer = SumTrainer(plan(), [0])
    train, test = trainer.train_rows.tolist(), trainer.test_rows.tolist()
    assert sorted([*train, *test]) == list(range(49))
    assert len(train) == 34
    right, dealt = (trainer.labels[kind] for kind in KINDS)
    assert right.tolist() == answers(7).tolist()
    assert sorted(right.tolist()) == sorted(dealt.tolist())
    assert (right != dealt).float().mean() > 0.7
    other = SumTrainer(plan(lr=1e-4, steps=90), [0, 90])
    assert other.train_rows.tolist() == train
    assert SumTrainer(plan(seed=1), [0]).train_rows.tolist() != train


def test_the_control_changes_nothing_in_the_network_beside_it() -> None:
    one, other = SumTrainer(plan(), [0]), SumTrainer(plan(), [0])
    other.labels[KINDS[1]] = other.labels[KINDS[0]]
    for _ in range(9):
        assert one.train_step() == other.train_step()
    assert all(torch.equal(w, other.nets[KINDS[0]][name]) for name, w in one.nets[KINDS[0]].items())
    assert not torch.equal(one.nets[KINDS[1]]["embed"], other.nets[KINDS[1]]["embed"])


def test_a_guess_is_the_most_frequent_sum_and_the_entropy_of_sums() -> None:
    # 0 + 0, 0 + 1, 1 + 0, 1 + 1: shares 1/4, 1/2, 1/4.
    best, entropy = guess(2)
    assert best == 0.5
    assert entropy == pytest.approx(1.5 * np.log(2))


def test_a_quick_run_learns_to_add_and_its_control_does_not(tmp_path: Path) -> None:
    recording = quick("number-addition", tmp_path)
    sums, control = (recording.metric(name)[-1, 1] for name in ("test_accuracy", "control_accuracy"))
    best, _ = guess(12)
    assert sums > 5 * best
    assert control < 3 * best
    accuracy = recording.figure("accuracy")
    assert isinstance(accuracy, Lines)
    assert accuracy.series == ("sums, train", "sums, test", "shuffled sums, train", "shuffled sums, test")
    assert accuracy.reference["guess"] == pytest.approx(best)
    assert (accuracy.y[1, -1], accuracy.y[3, -1]) == (sums, control)
    assert set(recording.movie_names()) == {"spectrum", "numbers"}
    line = recording.movie("numbers").frame(2)
    assert isinstance(line, Scatter)
    assert line.points.shape == (12, 3)
    spectrum = recording.movie("spectrum").frame(0)
    assert isinstance(spectrum, Lines)
    assert np.allclose(spectrum.y.sum(1), 1, atol=1e-5)
    table = recording.figure("table")
    assert isinstance(table, Table)
    assert table.columns[0].tolist() == ["sums, untrained", "sums", "shuffled sums, untrained", "shuffled sums"]
    assert table.columns[2][[1, 3]].tolist() == [sums, control]
    train, test = recording.kept("training_pairs"), recording.kept("test_pairs")
    assert sorted([*train, *test]) == list(range(144))
    _the_toy_answers_as_it_was_measured(recording, tmp_path, test, sums)


def _the_toy_answers_as_it_was_measured(recording: Any, work: Path, test: Any, sums: float) -> None:
    toy = opened("number-addition", work)
    written = [f"{a} + {b} =" for a in range(12) for b in range(12)]
    ids = torch.tensor([toy.encode(text) for text in written])
    assert ids.tolist() == questions(12).tolist()
    with torch.no_grad():
        said, cache = toy.bridge.run_with_cache(ids)
    guess = said[:, -1].argmax(-1).numpy()
    assert (guess == answers(12))[test].mean() == pytest.approx(sums)
    pairs = recording.figure("pairs")
    assert isinstance(pairs, Heatmap)
    expected = said[:, -1, :23].double().softmax(-1).gather(1, torch.from_numpy(answers(12))[:, None])
    assert np.allclose(pairs.values.ravel(), expected.numpy().ravel(), atol=1e-5)

    attributes, data = find_data("number-addition-1", work)
    assert attributes["features"][5] == "a + b = 5"
    assert data.features is not None
    assert data.counted is not None
    assert data.features[data.counted].argmax(1).tolist() == (data.tokens[:, 0] + data.tokens[:, 2]).tolist()
    models = {section: (about, arrays) for section, _, about, arrays in recording.things()}["models"]
    assert models[0]["example"] == "2 + 1 ="
    stream = cache["blocks.0.hook_resid_post"][:, -1].double().numpy()
    found = np.stack([stream[answers(12) == c].mean(0) for c in range(23)]) - stream.mean(0)
    assert np.allclose(models[1]["planted.blocks.0.hook_resid_post"], found, atol=1e-5)


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    values: dict[str, Any] = {"size": "quick", "steps": 30, "d_model": 8, "d_mlp": 16, "layers": 2}
    stopped_and_resumed("number-addition", tmp_path, stop=13, **values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train_share": 0.99999}, "leaves one part empty"),
        ({"heads": 5}, "d_model=64 cannot"),
        ({"numbers": 3}, "numbers="),
    ],
)
def test_values_that_make_no_sense_are_refused_in_a_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        check(find("number-addition").parameters, values)


def test_a_billion_steps_or_widths_that_do_not_fit_are_known_before() -> None:
    kind = find("number-addition").parameters
    assert _costs["number-addition"](check(kind, {"size": "quick", "steps": 10**9})).memory < 1e9
    large = {"size": "paper", "d_model": 1024, "d_mlp": 8192, "layers": 16, "batch": 65_536}
    assert _costs["number-addition"](check(kind, large)).memory > 10e9
