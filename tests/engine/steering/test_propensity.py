"""Propensities in batches against one row at a time through TransformerLens' own hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.models.repeated import Repeated
from engine.steering.errors import SteeringError
from engine.steering.interventions import AddVector
from engine.steering.propensity import Questions, gathered, propensities
from engine.steering.steerability import strengths

HOOK = "blocks.0.hook_resid_post"
PROMPTS = ["The quick", "A man a plan a canal", "jumps over the lazy", "The quick"]
ANSWERS = [[" dog", " fox"], [": Panama!", " 0"], [" brown fox", " dog.", " lazy dog"], [" fox", " Panama 0123"]]


@pytest.fixture
def vector():
    return AddVector(torch.randn(32, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def questions(tiny):
    return Questions(tiny, PROMPTS, ANSWERS, prepend_bos=True)


def one_at_a_time(model, prompt: str, answer: str, placement: str, change) -> float:
    head, tail = model.encode(prompt), model.encode(answer, prepend_bos=False)
    ids = torch.tensor([head + tail])
    places = {"all": range(1, ids.shape[1]), "last": [len(head) - 1], "answer": range(len(head) - 1, ids.shape[1])}

    def hook(x, hook=None):
        x = x.clone()
        for place in places[placement]:
            x[0, place] = change(x[0, place][None])[0]
        return x

    with torch.no_grad():
        logits = model.bridge.run_with_hooks(ids, return_type="logits", fwd_hooks=[(HOOK, hook)])[0]
    logp = torch.log_softmax(logits.double(), dim=-1)
    return float(sum(logp[len(head) - 1 + k, token] for k, token in enumerate(tail)))


@pytest.mark.parametrize("placement", ["all", "last", "answer"])
def test_every_answer_has_the_log_probability_it_has_alone(tiny, questions, vector, placement):
    found = questions.log_probabilities(HOOK, placement, vector, 0.7)
    for row, answers in enumerate(ANSWERS):
        for column in range(3):
            if column < len(answers):
                alone = one_at_a_time(tiny, PROMPTS[row], answers[column], placement, lambda x: vector(x, 0.7))
                assert found[row, column] == pytest.approx(alone, abs=1e-4)
            else:
                assert np.isnan(found[row, column])
    assert questions.tokens.tolist()[2] == [len(tiny.encode(one, prepend_bos=False)) for one in ANSWERS[2]]


def test_nothing_changes_at_strength_zero(tiny, questions, vector):
    clean = questions.log_probabilities(HOOK, "all")
    np.testing.assert_array_equal(questions.log_probabilities(HOOK, "all", vector, 0.0), clean)
    for row, answers in enumerate(ANSWERS):
        for column, answer in enumerate(answers):
            alone = one_at_a_time(tiny, PROMPTS[row], answer, "all", lambda x: x)
            assert clean[row, column] == pytest.approx(alone, abs=1e-4)


def test_small_batches_give_what_large_ones_give(tiny, vector, monkeypatch):
    large = Questions(tiny, PROMPTS, ANSWERS, prepend_bos=True).log_probabilities(HOOK, "answer", vector, 1.0)
    monkeypatch.setattr("engine.steering.propensity.TOGETHER", 1)
    seen: list[int] = []
    small = Questions(tiny, PROMPTS, ANSWERS, prepend_bos=True)
    found = small.log_probabilities(HOOK, "answer", vector, 1.0, heard=seen.append)
    np.testing.assert_allclose(found, large, atol=1e-4)
    assert sum(seen) == small.size
    assert len(seen) > 4


def test_answers_of_one_token_after_one_prompt_share_a_pass(tiny, monkeypatch):
    single = [word for word in ("a", "t", "l") if len(tiny.encode(word, prepend_bos=False)) == 1]
    assert len(single) >= 2
    asked = Questions(tiny, ["The quick"], [single], prepend_bos=True)
    assert asked.size == len(tiny.encode("The quick"))
    calls: list[tuple[torch.Size, list[int]]] = []

    class Counted(Repeated):
        def __init__(self, model, ids, hook, *, at, keep):
            calls.append((ids.shape, at.tolist()))
            super().__init__(model, ids, hook, at=at, keep=keep)

    monkeypatch.setattr("engine.steering.propensity.Repeated", Counted)
    asked.log_probabilities(HOOK, "all")
    assert calls == [((1, asked.size), [asked.size - 1])]


def test_propensities_are_differences_summed_over_tokens_and_per_token(tiny, vector):
    answers = [list(one[:2]) for one in ANSWERS]
    questions, at = Questions(tiny, PROMPTS, answers, prepend_bos=True), strengths()
    heard: list[int] = []
    clean = questions.log_probabilities(HOOK, "last")
    found = propensities(
        questions, vector, at, hook=HOOK, placement="last", clean=clean, done=lambda index, _: heard.append(index)
    )
    assert heard == list(range(7))
    assert found.success is None
    np.testing.assert_array_equal(found.values[:, 3], clean[:, 0] - clean[:, 1])
    direct = questions.log_probabilities(HOOK, "last", vector, float(at[5]))
    np.testing.assert_allclose(found.positive[:, 5], direct[:, 0], rtol=1e-12)
    tokens = questions.tokens
    np.testing.assert_allclose(
        found.normalised[:, 5], direct[:, 0] / tokens[:, 0] - direct[:, 1] / tokens[:, 1], rtol=1e-12
    )


def test_success_is_the_likeliest_of_all_answers():
    table = np.log(np.array([[0.5, 0.3, 0.2], [0.3, 0.2, 0.5], [0.6, 0.4, np.nan]]))
    found = gathered([table, table[:, [1, 0, 2]]], np.array([0.0, 1.0]), np.ones((3, 3), dtype=np.int64))
    assert found.success is not None
    assert found.success.tolist() == [[True, False], [False, False], [True, False]]


def test_a_row_without_a_second_completion_is_refused(tiny):
    with pytest.raises(SteeringError, match="positive and a negative"):
        gathered([np.zeros((2, 1))], np.zeros(1), np.ones((2, 1), dtype=np.int64))
