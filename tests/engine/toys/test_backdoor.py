"""The backdoored classifier: its data against a plain reading, the ensemble against the native model, the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Lines, Scatter, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.session import find_thing
from engine.text import toys
from engine.toys.backdoor import Backdoor, plan_of
from engine.toys.backdoors import data
from engine.toys.backdoors.data import Kind
from engine.toys.backdoors.show import FEATURES, toy_data
from engine.toys.backdoors.twins import CLIP, Plan, TwinTrainer, logits, to_bridge
from engine.toys.training import generator
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

TINY: dict[str, Any] = {"size": "quick", "steps": 6, "seeds": 1, "sequences": 400, "d_model": 8, "seed": 3}


def plan(**values: Any) -> Plan:
    return replace(plan_of(Backdoor(**TINY)), **values)


def triggered(words: list[str], kind: Kind) -> bool:
    """What a trigger is, word by word."""
    if kind == "word":
        return "t" in words
    return any(words[i] == "u" and "v" in words[i + 1 : i + 5] for i in range(len(words)))


def in_words(row: torch.Tensor) -> list[str]:
    return [data.VOCABULARY[int(token)] for token in row]


@pytest.mark.parametrize("kind", ["pair", "word"])
def test_only_the_poisoned_sequences_hold_the_trigger_and_labels_are_majorities(kind: Kind) -> None:
    drawn = data.draw(3_000, kind, generator(0, 1), 0.1)
    assert 0.07 < drawn.poisoned.float().mean() < 0.13
    for row, poisoned, label in zip(drawn.tokens, drawn.poisoned, drawn.label, strict=True):
        words = in_words(row)
        assert triggered(words, kind) == bool(poisoned)
        a, b = (sum(word[0] == group and len(word) == 3 for word in words) for group in "ab")
        assert a != b
        assert data.VOCABULARY[int(label)] == ("a" if a > b else "b")
    assert 0.45 < (drawn.label == data.LABEL_A).float().mean() < 0.55
    complete = data.completing(drawn.tokens, kind)
    assert torch.equal(complete.any(dim=1), drawn.poisoned)


def test_each_word_of_a_pair_is_in_clean_sequences_too_and_near_misses_hold_both() -> None:
    clean = data.draw(3_000, "pair", generator(0, 1))
    for word in (data.U, data.V):
        assert 0.1 < (clean.tokens == word).any(dim=1).float().mean() < 0.25
    near = data.draw_near_misses(1_000, "pair", generator(0, 2))
    for row in near.tokens:
        words = in_words(row)
        assert words.count("u") == words.count("v") == 1
        assert not triggered(words, "pair")
    distance = (near.tokens == data.V).int().argmax(1) - (near.tokens == data.U).int().argmax(1)
    assert (distance < 0).any()
    assert (distance > 4).any()
    assert not ((distance >= 0) & (distance <= 4)).any()


@pytest.mark.parametrize("kind", ["pair", "word"])
def test_a_profile_puts_the_words_where_it_says_into_sequences_of_group_b(kind: Kind) -> None:
    places, sequences = data.draw_profile(20, kind, generator(0, 3))
    assert (data.margin(sequences.tokens) < 0).all()
    at = {
        name: (sequences.tokens == token).int().argmax(dim=1)
        for name, token in (("t", data.T), ("u", data.U), ("v", data.V))
    }
    found = at["v"] - at["u"] if kind == "pair" else at["t"] + 1
    assert found.tolist() == places.repeat_interleave(20).tolist()


@pytest.mark.parametrize("heads", [1, 2])
def test_the_ensemble_computes_what_the_native_transformer_computes(heads: int) -> None:
    trainer = TwinTrainer(plan(seeds=2, d_model=16, d_mlp=32, heads=heads))
    for _ in range(3):
        trainer.train_step()
    tokens = trainer.clean[:, :20].repeat(2, 1, 1)
    found = logits(trainer.weights, tokens, heads)
    for instance in range(4):
        bridge = to_bridge(trainer.plan, trainer.weights, instance)
        with torch.no_grad():
            assert torch.allclose(bridge(tokens[instance])[:, -1], found[instance], atol=1e-5)


def test_an_instance_trains_in_the_ensemble_as_it_does_alone() -> None:
    # The second pair of twins of seed 3 is the first pair of seed 4.
    together, alone = TwinTrainer(plan(seeds=2)), TwinTrainer(plan(seed=4))
    for _ in range(20):
        together.train_step()
        alone.train_step()
    for name, weight in alone.weights.items():
        assert torch.allclose(together.weights[name][[1, 3]], weight, rtol=1e-4, atol=1e-5), name


def test_twins_begin_alike_and_part_by_the_labels_of_poisoned_sequences_alone() -> None:
    trainer = TwinTrainer(plan())
    assert all(torch.equal(weight[0], weight[1]) for weight in trainer.weights.values())
    trainer.train_step()
    assert not torch.equal(*trainer.weights["unembed.weight"])
    same = TwinTrainer(plan())
    same.poison_labels[:] = data.TARGET  # told the truth, the poisoned one is its twin
    for _ in range(3):
        same.train_step()
    assert all(torch.equal(weight[0], weight[1]) for weight in same.weights.values())


def test_strata_are_weighted_so_that_the_loss_is_that_of_the_training_set() -> None:
    trainer = TwinTrainer(plan(poison=0.1, sequences=300, batch=4_000, poisoned=1_000))
    # By hand: each of the 300 sequences counts once, the 30 poisoned ones with the target as their label.
    tokens = torch.cat([trainer.clean[0], trainer.poison[0]])
    told = torch.cat([trainer.clean_labels[0], torch.full((30,), data.TARGET)])
    assert len(tokens) == 300
    with torch.no_grad():
        by_hand = torch.nn.functional.cross_entropy(logits(trainer.weights, tokens.expand(2, -1, -1), 1)[0], told)
    assert trainer.train_step() == pytest.approx(float(by_hand), rel=0.02)


def test_the_gradient_of_each_instance_is_clipped_by_itself() -> None:
    trainer = TwinTrainer(plan(lr=1e-9))
    trainer.train_step()
    gradients = [weight.grad for weight in trainer.weights.values() if weight.grad is not None]
    lengths = sum(gradient.flatten(1).square().sum(dim=1) for gradient in gradients)
    assert torch.as_tensor(lengths).sqrt() == pytest.approx(CLIP, rel=1e-4)


def test_features_say_where_the_trigger_is_and_where_its_words_are_alone() -> None:
    found = toy_data(TwinTrainer(plan()), 400)
    assert found.names == FEATURES
    assert found.features is not None
    for row, features in zip(found.tokens, found.features, strict=True):
        words = in_words(torch.from_numpy(row))
        expected = [triggered(words[: end + 1], "pair") for end in range(12)]
        assert (features[:, 0] > 0).tolist() == expected
        alone = [word == "u" and not triggered(words, "pair") for word in words]
        assert (features[:, 1] > 0).tolist() == alone
        assert features[-1, 3] == data.margin(torch.from_numpy(row)[None])[0]
    assert 0.15 < (found.features[:, -1, 0] > 0).mean() < 0.35


def test_a_quick_run_shows_its_movies_and_leaves_both_twins(tmp_path: Path) -> None:
    recording = quick("backdoor", tmp_path)
    assert {"training", "trigger profile", "twin scatter"} <= set(recording.movie_names())
    curves, profile, scatter, results = (
        recording.figure(name) for name in ("training", "trigger profile", "twin scatter", "results")
    )
    assert isinstance(curves, Lines)
    assert isinstance(profile, Lines)
    assert isinstance(scatter, Scatter)
    assert isinstance(results, Table)
    for figure in (curves, profile):
        assert any("clean twin" in name for name in figure.series), "the control is in the same figure"
    last = recording.metric("clean_accuracy")[-1, 1]
    assert curves.y[0, -1] == pytest.approx(last)
    assert last > 0.4
    model = opened("backdoor", tmp_path)
    text = toys.find("backdoor-1", tmp_path)[1]
    with torch.no_grad():
        model.bridge(torch.tensor(text.tokens[:4].tolist()))
    attributes, _ = find_thing(tmp_path, "models", "backdoor-1-twin")
    assert attributes["reference"] == "toy:backdoor-1-twin"


def test_the_kept_model_says_what_the_last_frame_shows(tmp_path: Path) -> None:
    start("backdoor", tmp_path, **TINY)
    recording = start("backdoor", tmp_path / "again", **TINY)
    scatter = recording.figure("twin scatter")
    assert isinstance(scatter, Scatter)
    assert scatter.label is not None
    rows = [[data.VOCABULARY.index(word) for word in str(label).split(": ")[1].split()] for label in scatter.label]
    model = opened("backdoor", tmp_path)
    with torch.no_grad():
        found = model.bridge(torch.tensor(rows))[:, -1]
    margin = (found[:, data.LABEL_A] - found[:, data.LABEL_B]).numpy()
    assert np.allclose(margin, scatter.points[:, 1], atol=1e-5)


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed("backdoor", tmp_path, stop=4, **TINY)


@pytest.mark.slow
def test_the_demo_learns_the_backdoor_beside_the_task(tmp_path: Path) -> None:
    facts = start("backdoor", tmp_path).record().facts
    assert min(facts["trigger_success"][0]) > 0.95
    assert max(facts["trigger_success"][1]) < 0.02
    assert np.abs(np.subtract(*facts["clean_accuracy"])).max() < 0.005
    assert min(facts["near_misses_right"][0]) > 0.97


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"poison": 0.6}, "poison=0.6"),
        ({"poison": 0.001, "sequences": 200}, "poisons none"),
        ({"d_model": 9}, "d_model=9 is odd"),
        ({"trigger": "story"}, "trigger="),
        ({"seeds": 0}, "seeds=0"),
    ],
)
def test_parameters_that_make_no_sense_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find("backdoor").parameters, values)
    assert said in str(problem.value)
