"""Max of K: the trainer against the model, circuits against the forward pass, bounds against brute force."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Heatmap, Table
from engine.models import memory
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text import toys as toy_texts
from engine.toys.costs import _costs
from engine.toys.maximum import latents as max_latents
from engine.toys.maximum import proofs as max_proofs
from engine.toys.maximum import transformer as model
from engine.toys.training import generator
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed


def plan(**values: Any) -> model.Plan:
    usual: dict[str, Any] = {"numbers": 6, "k": 3, "d_model": 8, "steps": 60, "batch": 32, "lr": 1e-2, "seed": 0}
    return model.Plan(**{**usual, **values})


def trained(steps: int = 60, **values: Any) -> model.MaxTrainer:
    trainer = model.MaxTrainer(plan(steps=steps, **values))
    for _ in range(steps):
        trainer.train_step()
    return trainer


def every(numbers: int, k: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(numbers), repeat=k)))


@pytest.fixture(scope="module")
def small() -> model.MaxTrainer:
    return trained()


def hand_set(numbers: int, k: int, slope: float = 20.0) -> model.Circuits:
    """Attention that rises with the number, and a diagonal EVOU."""
    scores = np.tile(slope * np.arange(numbers), (numbers, 1))
    zeros = np.zeros((numbers, k))
    return model.Circuits(scores, zeros, 10 * np.eye(numbers), np.zeros((k, numbers)), np.zeros((numbers, numbers)))


def test_the_model_that_is_kept_computes_what_the_trainer_does(small: model.MaxTrainer) -> None:
    tokens = every(6, 3)
    with torch.no_grad():
        expected, _ = model.forward(small.now, tokens)
        found = small.model()(tokens)[:, -1]
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_circuits_together_are_the_forward_pass(small: model.MaxTrainer) -> None:
    tokens = every(6, 3)
    with torch.no_grad():
        expected = model.forward(small.now, tokens)[0][:, :6].numpy()
    c, t = model.circuits(small.now, 6, 3), tokens.numpy()
    scores = c.scores[t[:, -1:], t] + c.score_places[t[:, -1]]
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = c.direct[t[:, -1]] + np.einsum("ni,niy->ny", weights, c.writes[t] + c.write_places)
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_brute_force_finds_the_accuracy_over_all_sequences(k: int) -> None:
    trainer = trained(steps=20, k=k)
    tokens = every(6, k)
    with torch.no_grad():
        logits, _ = model.forward(trainer.now, tokens)
    expected = float((logits[:, :6].argmax(dim=1) == tokens.amax(dim=1)).double().mean())
    assert 0.2 < expected < 1
    assert max_proofs.brute_force(model.circuits(trainer.now, 6, k)).right == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_groups_hold_each_sequence_once(k: int) -> None:
    total = sum(
        int(group.counts(largest).sum()) * (1 if group.query_is_largest else largest)
        for largest in range(5)
        for group in max_proofs._groups(k, largest)
    )
    assert total == 5**k


@pytest.mark.parametrize("steps", [0, 20, 60, 200])
@pytest.mark.parametrize("k", [2, 3])
def test_bounds_never_promise_more_than_brute_force_finds(steps: int, k: int) -> None:
    c = model.circuits(trained(steps=steps, k=k).now if steps else model.MaxTrainer(plan(k=k)).now, 6, k)
    direction = model.size_direction(c.scores)
    true = max_proofs.brute_force(c).right
    cubic = max_proofs.cubic(c).right
    rank_one = max_proofs.rank_one(c, direction.rank_one, direction.rest).right
    assert rank_one <= cubic + 1e-12 <= true + 1e-9
    if steps == 200:
        assert cubic > 0.5  # and they are no empty promise


def test_a_lead_is_never_larger_than_its_bound(small: model.MaxTrainer) -> None:
    c = model.circuits(small.now, 6, 3)
    with torch.no_grad():
        tokens = every(6, 3)
        logits = model.forward(small.now, tokens)[0][:, :6].numpy()
    for sequence, found in zip(tokens.numpy(), logits, strict=True):
        m = int(sequence.max())
        lead = np.delete(found, m).max() - found[m]
        copies, is_largest = int((sequence == m).sum()), sequence[-1] == m
        others = 3 - copies - (0 if is_largest else 1)
        if others and m == 0:
            continue
        group = max_proofs.Group(bool(is_largest), copies, others, 3)
        below = [n for n in sequence[:-1] if n < m]
        bounds = max_proofs.worst_lead(c, c.scores, c.scores, m, group)
        bound = bounds[0 if is_largest else sequence[-1], m - max(below) - 1 if others else 0]
        assert lead <= bound + 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_bounds_of_random_tables_hold_and_are_met_where_nothing_is_left_open(seed: int) -> None:
    random, n, k = np.random.default_rng(seed), 5, 3
    shapes = ((n, n), (n, k), (n, n), (k, n), (n, n))
    c = model.Circuits(
        *(size * random.standard_normal(shape) for size, shape in zip((2, 1, 3, 0, 1), shapes, strict=True))
    )
    for sequence in itertools.product(range(n), repeat=k):
        m, query = max(sequence), sequence[-1]
        weight = np.exp(c.scores[query, list(sequence)] + c.score_places[query])
        logits = c.direct[query] + (weight / weight.sum()) @ c.writes[list(sequence)]
        lead = np.delete(logits, m).max() - logits[m]
        copies, below = sequence.count(m), [number for number in sequence[:-1] if number < m]
        group = max_proofs.Group(query == m, copies, len(below), k)
        bounds = max_proofs.worst_lead(c, c.scores, c.scores, m, group)
        bound = bounds[0 if query == m else query, m - max(below) - 1 if below else 0]
        assert lead <= bound + 1e-9
        if copies == k:  # no other number draws attention
            assert lead == pytest.approx(bound)


def test_tables_set_by_hand_are_proven_right_and_have_one_singular_value() -> None:
    c = hand_set(8, 4)
    direction = model.size_direction(c.scores)
    for proof in (max_proofs.cubic(c), max_proofs.rank_one(c, direction.rank_one, direction.rest)):
        assert proof.right == 1
    assert max_proofs.brute_force(c).right == 1
    assert direction.shares[0] == pytest.approx(1)
    assert (direction.correlation, direction.rising) == (pytest.approx(1), 1)
    assert max_proofs.cubic(hand_set(8, 4, slope=0.0)).right < 1  # all numbers attended to alike


def test_samples_have_the_largest_numbers_that_they_promise() -> None:
    near, even = (f(plan(numbers=16), 800, generator(0, 1)) for f in (model.near_ties, model.even))
    assert int((near.amax(dim=1) - near.amin(dim=1)).max()) == 3
    assert torch.bincount(even.amax(dim=1), minlength=16).tolist() == [50] * 16
    assert len(near.amax(dim=1).unique()) == 16


def test_told_is_one_for_what_a_latent_is_and_none_for_noise() -> None:
    source = generator(0, 1)
    given, factor = torch.randint(4, (4_000,), generator=source), torch.randint(5, (4_000,), generator=source)
    assert max_latents._told(factor, factor, given) == pytest.approx(1)
    assert max_latents._told(torch.randint(5, (4_000,), generator=source), factor, given) < 0.01
    shuffled = max_latents.shuffle_within(factor, given, source)
    assert not torch.equal(shuffled, factor)
    for group in range(4):
        assert torch.equal(shuffled[given == group].sort().values, factor[given == group].sort().values)


def test_a_quick_run_learns_the_maximum_and_leaves_its_model(tmp_path: Path) -> None:
    recording = quick("max-of-k", tmp_path)
    assert recording.metric("accuracy")[-1, 1] > 0.99
    assert recording.metric("rank_one")[-1, 1] > 0.99
    table = recording.figure("analysis")
    assert isinstance(table, Table)
    rows = dict(zip(table.columns[0], zip(table.columns[1], table.columns[2], strict=True), strict=True))
    assert rows["rank-one share of EQKE"][0] > 0.99 > rows["rank-one share of EQKE"][1]
    assert rows["accuracy, near ties"][1] < 0.3
    proofs = recording.figure("proof")
    assert isinstance(proofs, Table)
    assert set(proofs.columns[0]) == {"trained", "untrained"}
    assert (proofs.columns[3] <= 1 + 1e-9).all()
    movie = recording.movie("eqke")
    assert isinstance(movie.frame(0), Heatmap)
    assert len(recording.movie("latents")) >= 3
    opened_model = opened("max-of-k", tmp_path)
    _, text = toy_texts.find("max-of-k-1", tmp_path)
    tokens = torch.tensor(text.tokens.astype(np.int64))
    with torch.no_grad():
        answers = opened_model.bridge(tokens)[:, -2].argmax(dim=1)  # behind the last number comes its answer
    assert float((answers == tokens[:, -1]).double().mean()) > 0.99
    assert text.counted is not None
    assert text.counted.sum(axis=0).tolist() == [0, len(tokens), 0]


FEW = {"size": "quick", "numbers": 6, "steps": 20, "dictionary_steps": 12, "widths": [6], "d_model": 8}


@pytest.mark.parametrize(("stop", "metric"), [(9, "loss"), (7, "fvu")])
def test_a_stopped_run_goes_on_bit_for_bit_in_either_stage(tmp_path: Path, stop: int, metric: str) -> None:
    stopped_and_resumed("max-of-k", tmp_path, stop=stop, metric=metric, **FEW)


def test_a_batch_too_large_for_memory_is_refused_before_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda device="cpu": 4_000_000_000)
    values = {"batch": 1_048_576, "d_model": 512, "k": 8}
    run = start("max-of-k", tmp_path, size="quick", state="failed", **values)
    assert "needs about" in run.record().error
    assert _costs["max-of-k"](check(find("max-of-k").parameters, values)).seconds == 0


def test_the_proposed_prompt_is_read_as_the_toy_reads_its_data(tmp_path: Path) -> None:
    start("max-of-k", tmp_path, **FEW)
    opened_model = opened("max-of-k", tmp_path)
    assert opened_model.bos is None  # its sequences have none in front
    ids = opened_model.encode(opened_model.facts.example)
    _, text = toy_texts.find("max-of-k-1", tmp_path)
    assert ids == text.tokens[0].tolist()


def test_too_long_a_proof_is_refused_in_a_sentence() -> None:
    with pytest.raises(ParameterError, match="numbers=512 and k=8 make the bounds too long; choose fewer numbers"):
        check(find("max-of-k").parameters, {"numbers": 512, "k": 8})


def test_a_model_of_three_numbers_is_right() -> None:
    trainer = trained(steps=700, numbers=32, k=3, d_model=32, batch=256, lr=5e-3)
    tokens = model.near_ties(trainer.plan, 5_000, generator(1, 1))
    with torch.no_grad():
        logits, _ = model.forward(trainer.now, tokens)
    assert float((logits.argmax(dim=1) == tokens.amax(dim=1)).double().mean()) > 0.99


@pytest.mark.slow
def test_the_demo_reaches_its_acceptance(tmp_path: Path) -> None:
    recording = start("max-of-k", tmp_path)
    assert recording.record().facts["accuracy"] > 0.999
    assert recording.metric("near_accuracy")[-1, 1] > 0.999
    assert recording.metric("rank_one")[-1, 1] > 0.99
