"""Modular addition as a person runs it: the network, its training, what is shown and what is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.errors import ParameterError
from engine.figures import Heatmap, Images, Lines, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text.toys import find as find_data
from engine.toys import fourier
from engine.toys.costs import _costs
from engine.toys.modular.figures import circles
from engine.toys.modular.network import Shape, contexts, initial, native, over_embeddings, over_pairs, sums, unpack
from engine.toys.modular.training import ModularTrainer, Plan, Setting, schedule, split
from engine.toys.modular_addition import check_every
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

SMALL = Shape(11, 12, 3, 20)
TINY: dict[str, Any] = {"size": "quick", "p": 11, "d_model": 8, "heads": 2, "d_mlp": 16, "steps": 60}
PLAN = Plan(SMALL, 0.5, 3e-3, 1.0)


@pytest.mark.parametrize("uniform", [0.0, 0.3, 1.0])
def test_the_fast_pass_is_the_native_transformer_and_takes_embeddings_alike(uniform: float) -> None:
    shape = Shape(11, 12, 3, 20, uniform)
    theta = 1.5 * initial(shape, 1)
    tokens = torch.from_numpy(contexts(11)).long()
    with torch.no_grad():
        passed = over_pairs(shape, theta[None])
        whole = native(shape, theta)(tokens)[:, -1]
        embed = unpack(shape, theta[None])["embed"][0]
        moved = over_embeddings(shape, theta[None], embed[tokens[:, :2]])
        chosen = over_pairs(shape, theta[None], torch.tensor([5, 100])).logits
    assert torch.allclose(passed.logits[0], whole[:, :11], atol=1e-5)
    assert torch.allclose(passed.logits[0], moved, atol=1e-5)
    assert torch.allclose(passed.logits[:, [5, 100]], chosen, atol=1e-6)
    assert (whole[:, 11:] == -100).all()


def test_partly_uniform_attention_is_the_blend_and_uniform_heads_never_look_at_equals() -> None:
    shape = Shape(11, 12, 3, 20, 0.25)
    theta = 1.5 * initial(shape, 1)
    bridge = native(shape, theta)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.from_numpy(contexts(11)).long())
    pattern = cache["blocks.0.attn.hook_pattern"][:, :, -1]
    assert pattern.shape == (121, 6, 3)
    assert torch.equal(pattern[:, 3:], torch.tensor([0.5, 0.5, 0.0]).expand(121, 3, 3))
    assert pattern[:, :3, 2].min() > 0


def test_a_split_is_a_partition_and_wrong_labels_are_exactly_as_many_and_wrong() -> None:
    plain, noisy = split(53, 0.45, Setting(3)), split(53, 0.45, Setting(3, noise=0.1))
    assert sorted([*plain.train.tolist(), *plain.test.tolist()]) == list(range(53 * 53))
    assert len(plain.train) == round(0.45 * 53 * 53)
    assert torch.equal(plain.train, noisy.train)
    assert torch.equal(plain.labels, sums(53)[plain.train])
    assert int(noisy.wrong.sum()) == round(0.1 * len(plain.train))
    assert torch.equal(noisy.labels != plain.labels, noisy.wrong)
    assert not torch.equal(plain.train, split(53, 0.45, Setting(4)).train)


def test_each_instance_of_an_ensemble_trains_as_it_would_alone() -> None:
    settings = [Setting(0), Setting(1, noise=0.2), Setting(0, grokfast=2.0)]
    together = ModularTrainer(PLAN, settings, [0])
    alone = [ModularTrainer(PLAN, [setting], [0]) for setting in settings]
    for _ in range(50):
        together.train_step()
        for one in alone:
            one.train_step()
    for number, one in enumerate(alone):
        assert torch.allclose(together.theta[number], one.theta[0], rtol=1e-4, atol=1e-5)


def test_one_step_is_adamw_on_the_mean_loss_with_the_slow_part_of_the_gradient_added() -> None:
    plan = Plan(SMALL, 0.5, 1e-3, 0.5, alpha=0.9)
    trainer = ModularTrainer(plan, [Setting(0, grokfast=3.0)], [0])
    part = trainer.splits[0]
    theta = initial(SMALL, 0)[None].requires_grad_()
    slow, first, second = None, torch.zeros_like(theta), torch.zeros_like(theta)
    for step in range(1, 4):
        trainer.train_step()
        logits = over_pairs(SMALL, theta).logits[0, part.train]
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, part.labels), theta)
        slow = gradient if slow is None else 0.9 * slow + 0.1 * gradient
        gradient = gradient + 3.0 * slow
        first = 0.9 * first + 0.1 * gradient
        second = 0.98 * second + 0.02 * gradient**2
        lr = 1e-3 * step / 10
        update = (first / (1 - 0.9**step)) / ((second / (1 - 0.98**step)).sqrt() + 1e-8)
        theta = (theta.detach() * (1 - lr * 0.5) - lr * update).requires_grad_()
    assert torch.allclose(trainer.theta, theta, atol=2e-6)


def test_what_is_measured_is_counted_by_hand() -> None:
    trainer = ModularTrainer(PLAN, [Setting(0, noise=0.3)], schedule(10, 5, [0]), [0])
    found = trainer.measure(0)
    part = trainer.splits[0]
    logits = over_pairs(SMALL, trainer.theta.detach()).logits[0].double().numpy()
    guess, right = logits.argmax(1), sums(11).numpy()
    train, test, wrong = part.train.numpy(), part.test.numpy(), part.wrong.numpy()
    assert found["test_accuracy"][0] == pytest.approx((guess[test] == right[test]).mean())
    assert found["train_accuracy"][0] == pytest.approx((guess[train] == part.labels.numpy()).mean())
    assert found["clean_accuracy"][0] == pytest.approx((guess[train[~wrong]] == right[train[~wrong]]).mean())
    assert found["corrupted_accuracy"][0] == pytest.approx((guess[train[wrong]] == right[train[wrong]]).mean())
    odds = np.exp(logits[test]) / np.exp(logits[test]).sum(1, keepdims=True)
    assert found["test_loss"][0] == pytest.approx(-np.log(odds[np.arange(len(test)), right[test]]).mean(), rel=1e-6)
    assert found["weight_norm"][0] == pytest.approx(float((trainer.snapshots[0].double() ** 2).sum()))


def test_grokking_takes_two_checks_in_a_row() -> None:
    trainer = ModularTrainer(PLAN, [Setting(0), Setting(0), Setting(0)], schedule(150, 25, [0, 3, 30]))
    accuracy = trainer.curves[:, :, 1]
    at = [0, 3, 25, 30, 50, 75, 100, 125, 150]
    assert trainer.at == at
    accuracy[:] = torch.tensor([0, 1, 0, 1, 1, 0, 1, 1, 1.0])[:, None]  # steps off the checks do not count
    accuracy[:, 1] = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0, 1.0])
    accuracy[at.index(75) :, 2] = torch.nan
    assert trainer.passed("test_accuracy") == [100, None, None]


def test_a_quick_run_shows_its_movies_tables_and_controls(tmp_path: Path) -> None:
    recording = quick("modular-addition", tmp_path)
    facts = recording.record().facts
    pairs = recording.kept("training_pairs")
    assert facts["training_pairs"] == len(pairs) == len(set(pairs.tolist())) == round(0.7 * 23 * 23)
    assert facts["memorised_at"] is not None
    keys = facts["key_frequencies"]
    assert recording.kept("key_frequencies").tolist() == keys

    names = {"spectrum", "circles", "sum and difference", "neurons"}
    assert set(recording.movie_names()) == names
    movies = {name: recording.movie(name) for name in names}
    steps = movies["circles"].steps
    assert steps[0] == 0
    assert steps[-1] == 200
    assert all(np.array_equal(movie.steps, steps) for movie in movies.values())

    spectrum = movies["spectrum"].frame(len(steps) - 1)
    assert isinstance(spectrum, Lines)
    assert spectrum.series[-1] == "numbers shuffled"
    assert np.allclose(spectrum.y.sum(1), 1, atol=1e-5)
    over_steps = recording.figure("spectrum over steps")
    assert isinstance(over_steps, Heatmap)
    assert np.allclose(over_steps.values[:, -1], spectrum.y[0], atol=1e-5)
    circles = movies["circles"].frame(0)
    assert isinstance(circles, Lines)
    assert circles.series == tuple(f"k = {k}" for k in keys[:4])
    assert np.array_equal(circles.x[:, 0], circles.x[:, -1])
    pictures = movies["neurons"].frame(len(steps) - 1)
    assert isinstance(pictures, Images)
    assert pictures.pixels.shape == (3, 23, 23)
    assert pictures.pixels.max() == 100

    accuracy = recording.figure("accuracy")
    assert isinstance(accuracy, Lines)
    assert accuracy.reference["chance"] == pytest.approx(1 / 23)
    assert accuracy.y[1, -1] == recording.metric("test_accuracy")[-1, 1]
    measures = recording.figure("progress measures")
    assert isinstance(measures, Lines)
    assert measures.reference["log p"] == pytest.approx(math.log(23))
    assert measures.y[1, -1] == pytest.approx(recording.metric("test_loss")[-1, 1], rel=1e-9)

    table = recording.figure("algorithm")
    assert isinstance(table, Table)
    labels = [axis.label for axis in table.axes]
    assert labels[1] == "untrained (step 0)"
    assert labels[3] == "last (step 200)"
    frequencies = recording.figure("frequencies")
    assert isinstance(frequencies, Table)
    assert len(frequencies.columns[0]) == 11
    for shares in frequencies.columns[5:8]:
        assert shares.sum() == pytest.approx(1)
    margins = recording.figure("margins")
    assert isinstance(margins, Table)
    assert margins.columns[0].tolist()[:2] == ["untrained, train", "untrained, test"]
    assert isinstance(recording.figure("robustness"), Lines)
    parts = recording.figure("parts")
    assert isinstance(parts, Table)
    assert parts.columns[0].tolist()[:4] == ["head 0", "head 1", "head 2", "head 3"]
    assert parts.columns[0][-1] == "random neurons (control)"
    phases = recording.figure("phases")
    assert isinstance(phases, Table)
    assert phases.columns[0][0] == "memorise"


def test_the_toy_in_the_session_answers_as_it_was_measured(tmp_path: Path) -> None:
    recording = start("modular-addition", tmp_path, **TINY, uniform_attention=0.5, label_noise=0.1)
    toy = opened("modular-addition", tmp_path)
    _, data = find_data("modular-addition-1", tmp_path)
    assert data.counted is not None
    assert data.features is not None
    assert data.counted.sum() == 121
    with torch.no_grad():
        logits, cache = toy.bridge.run_with_cache(torch.from_numpy(data.tokens.astype(np.int64)))
    logits = logits[:, -1].numpy()
    right = (data.tokens[:, 0] + data.tokens[:, 1]) % 11
    assert data.features[np.arange(121), 2, right].all()
    assert data.features.sum() == 121
    test = np.setdiff1d(np.arange(121), recording.kept("training_pairs"))
    logits = logits.astype(np.float64)
    odds = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert -odds[test, right[test]].mean() == pytest.approx(recording.metric("test_loss")[-1, 1], abs=1e-5)
    assert (logits.argmax(1) == right)[test].mean() == recording.metric("test_accuracy")[-1, 1]
    models = {section: arrays for section, _, _, arrays in recording.things()}["models"]
    residual = cache["blocks.0.hook_resid_post"][:, -1].numpy()
    expected = np.stack([residual[right == c].mean(0) for c in range(11)]) - residual.mean(0)
    assert np.allclose(models["planted.blocks.0.hook_resid_post"], expected, atol=1e-5)


# 25 is a step at which it is measured; 33 lies between two.
@pytest.mark.parametrize("stop", [25, 33])
def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    stopped_and_resumed("modular-addition", tmp_path, stop=stop, **TINY, grokfast=1.0, label_noise=0.1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train_share": 1.0}, "leaves none to test on"),
        ({"train_share": 1e-9}, "leaves none to train on"),
        ({"heads": 5}, "d_model=48 cannot be shared out among heads=5"),
        ({"p": 4}, "p=4"),
        ({"uniform_attention": 1.1}, "uniform_attention="),
        ({"lr": 0}, "lr=0"),
        (
            {"size": "quick", "label_noise": 1e-6},
            "of 370 training labels makes none wrong; choose 0 or at least 0.0027",
        ),
    ],
)
def test_values_that_make_no_sense_are_refused_in_a_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        check(find("modular-addition").parameters, values)


def test_a_learning_rate_that_diverges_ends_in_a_sentence(tmp_path: Path) -> None:
    recording = start(
        "modular-addition", tmp_path, **{**TINY, "steps": 400}, lr=10.0, weight_decay=90.0, state="failed"
    )
    assert "choose a learning rate below 10" in recording.record().error


def test_half_of_an_even_modulus_is_a_circle_without_a_sine() -> None:
    embedding = np.random.default_rng(0).standard_normal((6, 4))
    found = circles(embedding, [(k, fourier.plane(embedding, k)) for k in (1, 3)])
    assert found.series == ("k = 1", "k = 3")
    assert found.x.any(axis=1).all()
    assert found.y.any(axis=1).tolist() == [True, False]


def test_checks_of_a_long_training_are_no_more_than_of_a_shorter_one() -> None:
    assert check_every(200) == check_every(100_000) == 25
    assert 10**9 / check_every(10**9) <= 4_000


def test_its_cost_is_told_from_its_own_steps() -> None:
    found = _costs["modular-addition"](check(find("modular-addition").parameters, {"size": "quick"}))
    assert found.seconds > 0
    assert found.memory > 1e8


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_it_groks_within_1200_steps_on_six_tenths_of_the_pairs(seed: int) -> None:
    plan = Plan(Shape(53, 48, 4, 192), 0.6, 3e-3, 1.0)
    trainer = ModularTrainer(plan, [Setting(seed)], schedule(1_200, 25, [0]))
    while trainer.step < 1_200 and trainer.passed("test_accuracy") == [None]:
        trainer.train_step()
        if trainer.step in trainer.at:
            trainer.measure(trainer.step)
    (memorised,), (grokked,) = trainer.passed("train_accuracy"), trainer.passed("test_accuracy")
    assert memorised is not None
    assert grokked is not None
    assert memorised <= 200 < grokked
