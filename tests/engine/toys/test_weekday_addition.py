"""Weekdays in words: sentences, both networks, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.errors import ParameterError
from engine.figures import Lines, Scatter, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text.toys import find as find_data
from engine.toys.costs import _costs
from engine.toys.weekdays.network import (
    DAYS,
    KINDS,
    TEMPLATES,
    Answerer,
    WeekdayTrainer,
    WordShape,
    answers,
    native,
    padded,
    sentences,
    words,
)
from tests.engine.toys.running import opened, quick, stopped_and_resumed

SIZES = (12, 3, 20)


def test_sentences_say_the_sums_they_are_labelled_with() -> None:
    vocabulary = words(TEMPLATES)
    said = [" ".join(vocabulary[i] for i in found[4 * 70 + 5]) for found in sentences(TEMPLATES)]
    assert said == ["5 days after friday is", "friday plus 5 days is", "if today is friday then in 5 days it is"]
    assert DAYS[answers()[4 * 70 + 5]] == "wednesday"
    assert DAYS[answers()[6 * 70 + 69]] == "saturday"
    assert len(vocabulary) == len(set(vocabulary))


@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_pass_is_the_native_transformer(kind: str) -> None:
    shape = WordShape(KINDS[kind], *SIZES)
    theta = 1.5 * shape.initial(torch.Generator().manual_seed(0))
    tokens, asked = padded(shape)
    with torch.no_grad():
        whole = native(shape, theta)(torch.from_numpy(tokens).long())[torch.from_numpy(asked)]
        fast = Answerer(shape).logits(theta, torch.arange(490))
        some = Answerer(shape).logits(theta, torch.tensor([7, 300]))
    assert torch.allclose(fast.reshape(-1, 7), whole[:, :7], atol=1e-5)
    assert torch.allclose(some, fast[:, [7, 300]], atol=1e-6)
    assert (whole[:, 7:] == -100).all()


def test_the_two_networks_train_on_the_same_pairs_and_apart() -> None:
    trainer = WeekdayTrainer(SIZES, 0.6, 2e-3, 1.0, 0, [0])
    assert sorted([*trainer.train_rows.tolist(), *trainer.test_rows.tolist()]) == list(range(490))
    assert len(trainer.train_rows) == 294
    # The sentences' network alone, with an optimiser of its own.
    theta = trainer.thetas["sentences"].detach().clone().requires_grad_()
    optimiser = torch.optim.AdamW([theta], lr=2e-3, weight_decay=1.0, betas=(0.9, 0.98))
    answerer, labels = Answerer(WordShape(TEMPLATES, *SIZES)), trainer.answers[trainer.train_rows]
    for step in range(1, 13):
        trainer.train_step()
        optimiser.param_groups[0]["lr"] = 2e-3 * min(step / 10, 1)
        logits = answerer.logits(theta, trainer.train_rows)
        optimiser.zero_grad()
        torch.stack([F.cross_entropy(part, labels) for part in logits]).mean().backward()
        optimiser.step()
    assert torch.allclose(trainer.thetas["sentences"], theta, atol=1e-5)


def test_a_quick_run_shows_both_networks_and_controls_in_each_figure(tmp_path: Path) -> None:
    recording = quick("weekday-addition", tmp_path)
    accuracy = recording.figure("accuracy")
    assert isinstance(accuracy, Lines)
    assert accuracy.series == ("sentences, train", "sentences, test", "symbols, train", "symbols, test")
    assert accuracy.reference["chance"] == pytest.approx(1 / 7)
    assert accuracy.y[3, -1] == recording.metric("symbol_accuracy")[-1, 1]
    assert set(recording.movie_names()) == {"numbers", "week"}
    spectrum = recording.movie("numbers").frame(0)
    assert isinstance(spectrum, Lines)
    assert spectrum.series == ("sentences", "symbols", "numbers shuffled")
    assert np.allclose(spectrum.y.sum(1), 1, atol=1e-5)
    week = recording.movie("week").frame(3)
    assert isinstance(week, Scatter)
    assert week.points.shape == (77, 2)
    table = recording.figure("table")
    assert isinstance(table, Table)
    assert table.columns[0].tolist() == ["sentences, untrained", "sentences", "symbols, untrained", "symbols"]
    assert table.columns[2][1] == recording.metric("test_accuracy")[-1, 1]
    days = recording.figure("days")
    assert isinstance(days, Table)
    assert all(column.sum() == pytest.approx(1) for column in days.columns[1:])
    by_sentence = recording.figure("sentences")
    assert isinstance(by_sentence, Lines)
    assert by_sentence.y[:3, -1].mean() == pytest.approx(recording.metric("test_accuracy")[-1, 1])
    assert len(recording.kept("training_pairs")) == 294

    toy = opened("weekday-addition", tmp_path)
    _, data = find_data("weekday-addition-1", tmp_path)
    assert data.counted is not None
    assert data.features is not None
    assert data.counted.sum() == len(data.tokens) == 3 * 490
    with torch.no_grad():
        logits, cache = toy.bridge.run_with_cache(torch.from_numpy(data.tokens.astype(np.int64)))
    asked = torch.tensor(data.counted)
    right = data.features[data.counted].argmax(1)
    assert right.tolist() == answers().tolist() * 3
    held_out = np.tile(~np.isin(np.arange(490), recording.kept("training_pairs")), 3)
    guess = logits[asked].argmax(-1).numpy()
    assert (guess == right)[held_out].mean() == pytest.approx(recording.metric("test_accuracy")[-1, 1])
    residual = cache["blocks.0.hook_resid_post"][asked].numpy()
    models = {section: arrays for section, _, _, arrays in recording.things()}["models"]
    expected = np.stack([residual[right == day].mean(0) for day in range(7)]) - residual.mean(0)
    assert np.allclose(models["planted.blocks.0.hook_resid_post"], expected, atol=1e-5)


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    values: dict[str, Any] = {"size": "quick", "steps": 30, "d_model": 8, "d_mlp": 16}
    stopped_and_resumed("weekday-addition", tmp_path, stop=13, **values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train_share": 0.9999}, "leaves one part empty"),
        ({"heads": 5}, "d_model=64 cannot"),
        ({"train_share": 1}, "train_share="),
    ],
)
def test_values_that_make_no_sense_are_refused_in_a_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        check(find("weekday-addition").parameters, values)


def test_a_billion_steps_or_widths_that_do_not_fit_are_known_before(tmp_path: Path) -> None:
    kind = find("weekday-addition").parameters
    long = _costs["weekday-addition"](check(kind, {"size": "quick", "steps": 10**9}))
    assert long.memory < 1e9
    large = {"size": "paper", "d_model": 1024, "heads": 1, "d_mlp": 8192, "steps": 10**9}
    assert _costs["weekday-addition"](check(kind, large)).memory > 10e9


def test_its_cost_is_told_from_its_own_steps() -> None:
    found = _costs["weekday-addition"](check(find("weekday-addition").parameters, {"size": "quick"}))
    assert found.seconds > 0
    assert found.memory > 1e8
