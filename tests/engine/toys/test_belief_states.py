"""Belief states: the fast network is the native one, probes and controls, the experiment as a person runs it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Images, Lines, Scatter, Table
from engine.models.native import load_native
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.toys.beliefs.figures import corners, plane
from engine.toys.beliefs.hidden_markov import mess3, rrxor
from engine.toys.beliefs.network import BeliefTrainer, Outputs, Plan
from engine.toys.beliefs.survey import Survey
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

PLAN = Plan(
    layers=2, d_model=16, heads=2, d_head=8, d_mlp=24, context=6, batch=16, steps=40, lr=1e-3, held_out=80, seed=3
)  # fmt: skip


def test_the_fast_network_is_the_native_transformer_with_its_weights() -> None:
    trainer = BeliefTrainer(PLAN, mess3(), 1, 1)
    for _ in range(5):
        trainer.train_step()
    bridge = load_native(*trainer.native())
    tokens = trainer.held_out()[:20]
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(torch.from_numpy(tokens))
    found = trainer.outputs(tokens)
    assert found.law == pytest.approx(logits.double().softmax(-1)[..., :3].numpy(), abs=1e-6)
    for block in range(2):
        assert found.streams[block + 1] == pytest.approx(cache[f"blocks.{block}.hook_resid_post"].numpy(), abs=1e-5)
    assert found.streams[0] == pytest.approx(cache["blocks.0.hook_resid_pre"].numpy(), abs=1e-6)


def test_training_goes_down_and_each_step_has_sequences_of_its_own() -> None:
    trainer = BeliefTrainer(PLAN, mess3(), 1, 1)
    losses = [trainer.train_step() for _ in range(40)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2
    again = BeliefTrainer(PLAN, mess3(), 1, 1)
    assert [again.train_step() for _ in range(3)] == losses[:3]
    other = BeliefTrainer(dataclasses.replace(PLAN, seed=4), mess3(), 1, 1)
    assert other.train_step() != losses[0]


def perfect(survey: Survey, law: np.ndarray | None = None) -> Outputs:
    """A network that holds the exact belief, turned, in its only block."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0][: survey.beliefs.shape[-1]]
    streams = np.stack([np.zeros((*survey.tokens.shape, 5)), survey.beliefs @ turn])
    return Outputs(survey.law if law is None else law, streams)


def test_a_network_that_holds_the_belief_is_read_perfectly_and_shuffled_beliefs_not() -> None:
    for process in (mess3(), rrxor()):
        survey = Survey(process, process.sample(600, 8, np.random.default_rng(1))[0], seed=0)
        reading = survey.read(perfect(survey))
        assert reading.unexplained[1:] == pytest.approx([0.0, 0.0], abs=1e-8)
        assert reading.unexplained[0] == pytest.approx(1.0, abs=0.05)
        assert survey.shuffled_scores(perfect(survey))[1].r2 < 0.05
        assert survey.divergence(perfect(survey)) == pytest.approx(0.0, abs=1e-12)
        uniform = perfect(survey, np.full(survey.law.shape, 1 / survey.law.shape[-1]))
        expected = math.log(survey.law.shape[-1]) - survey.entropy
        assert survey.divergence(uniform) == pytest.approx(expected, abs=1e-9)


def test_only_rrxor_has_beliefs_beyond_the_next_token() -> None:
    survey = Survey(mess3(), mess3().sample(400, 6, np.random.default_rng(2))[0], seed=0)
    assert np.isnan(survey.read(perfect(survey)).beyond).all()  # the law is an invertible map of the belief
    survey = Survey(rrxor(), rrxor().sample(800, 10, np.random.default_rng(2))[0], seed=0)
    assert survey.read(perfect(survey)).beyond[1:] == pytest.approx([1.0, 1.0], abs=1e-8)
    only_law = Outputs(survey.law, np.stack([survey.law, survey.law]))
    assert survey.read(only_law).beyond == pytest.approx([0, 0, 0], abs=1e-6)
    assert survey.read(only_law).scores[1].r2 < 0.5


def test_histories_are_counted_once_and_more_recent_tokens_explain_more() -> None:
    survey = Survey(mess3(), mess3().sample(500, 6, np.random.default_rng(3))[0], seed=0)
    rows = survey.tokens.reshape(-1, 6)
    known = {tuple(row[: t + 1]) for row in rows for t in range(6)}
    assert len(survey.belief) == len(known)
    scores = [score.r2 for score in survey.recent()]
    assert 0.5 < scores[0] < scores[1] < scores[2] < 1


def test_the_plane_has_the_corners_of_an_equilateral_triangle() -> None:
    at = plane(np.eye(3))
    assert [math.dist(at[i], at[j]) for i, j in ((0, 1), (1, 2), (0, 2))] == pytest.approx([1.0] * 3)
    assert plane(np.full((1, 3), 1 / 3)) == pytest.approx(np.zeros((1, 2)), abs=1e-12)
    assert corners(5).shape == (5, 2)


@pytest.mark.parametrize("process", ["mess3", "rrxor"])
def test_a_quick_run_shows_controls_and_keeps_its_toy(tmp_path: Path, process: str) -> None:
    recording = quick("belief-states", tmp_path, process=process, steps=60)
    kl = recording.metric("kl")[:, 1]
    assert 0 < kl[-1] < kl[0] / 3
    assert recording.metric("test_loss")[-1, 1] == pytest.approx(recording.metric("optimum")[-1, 1] + kl[-1])
    layers = recording.figure("by layer")
    assert isinstance(layers, Lines)
    assert layers.series == ("trained", "untrained", "last 1 token", "last 2 tokens", "last 3 tokens", "shuffled")
    first = recording.movie("by layer").frame(0)
    assert isinstance(first, Lines)
    assert first.y[0] == pytest.approx(layers.y[1], rel=1e-6)  # step 0 is the untrained network
    table = recording.figure("probes")
    assert isinstance(table, Table)
    names = table.columns[0].tolist()
    assert {"block 1, trained", "block 1, untrained", "block 1, shuffled beliefs", "last 3 tokens"} <= set(names)
    assert table.columns[3][names.index("block 1, trained")] == recording.metric("unexplained")[-1, 1]
    assert ("beyond" in recording.movie_names()) == (process == "rrxor")
    assert isinstance(recording.figure("geometry"), Scatter)
    assert isinstance(recording.figure("pictures"), Images)
    assert len(recording.movie("geometry").steps) == len(recording.metric("kl"))

    model = opened("belief-states", tmp_path).bridge
    things = {section: (attributes, arrays) for section, _, attributes, arrays in recording.things()}
    attributes, arrays = things["corpora"]
    tokens = np.array(arrays["tokens"])
    source = mess3() if process == "mess3" else rrxor()
    assert attributes["features"] == [f"belief {name}" for name in source.states]
    beliefs = source.beliefs(tokens)
    assert np.asarray(arrays["features"]) == pytest.approx(beliefs, abs=1e-3)
    with torch.no_grad():
        law = model(torch.from_numpy(tokens).long()).double().softmax(-1)[..., : len(source.tokens)].numpy()
    exact = source.next_law(beliefs)
    ratio = np.log(np.where(exact > 0, exact, 1) / law)
    assert (exact * ratio).sum(-1).mean() == pytest.approx(kl[-1], rel=0.25)


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed("belief-states", tmp_path, stop=9, size="quick", steps=20, held_out=60, context=4)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"alpha": 1 / 3}, "alpha=1/3"), ({"x": 1 / 3}, "x=1/3"), ({"x": 0.6}, "x=0.6"), ({"context": 13}, "context=13")],
)
def test_processes_without_beliefs_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find("belief-states").parameters, values)
    assert said in str(problem.value)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_reaches_the_optimum_and_holds_the_belief(tmp_path: Path) -> None:
    recording = start("belief-states", tmp_path, size="demo")
    assert recording.metric("kl")[-1, 1] < 0.005
    assert recording.record().facts["times_less_than_untrained"] > 5


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_rrxor_holds_more_than_the_next_token(tmp_path: Path) -> None:
    recording = start("belief-states", tmp_path, size="demo", process="rrxor")
    table = recording.figure("probes")
    assert isinstance(table, Table)
    more = dict(zip(table.columns[0].tolist(), table.columns[5].tolist(), strict=True))
    assert more["all blocks, trained"] > 0.2
    assert more["all blocks, trained"] > more["all blocks, untrained"] + 0.1
