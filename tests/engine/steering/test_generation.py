"""Steered texts are those of whole passes through TransformerLens; equal seeds, clean texts that are kept, stopping."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.models import decoding
from engine.models.network import Network, NetworkBridge, Stage
from engine.models.opening import OpenModel, open_model
from engine.runs.control import RunStopped
from engine.runs.run import Run
from engine.runs.sinks import MemorySink
from engine.steering import generation
from engine.steering.choices import Placement
from engine.steering.errors import SteeringError
from engine.steering.generation import Sampling, Steered, Text, clean_text, generate
from engine.steering.interventions import AddVector

HOOK = "blocks.0.hook_resid_post"
PROMPT = "The quick brown fox"
DRAWN = Sampling(temperature=1.0, seed=4)


@pytest.fixture(scope="module")
def demo() -> OpenModel:
    """The native model that ships."""
    return open_model("demo", device="cpu")


@pytest.fixture(autouse=True)
def forgotten(tiny: OpenModel) -> None:
    """No text is kept from another test."""
    tiny.texts.clear()


def pushed(model: OpenModel, placement: Placement = "all", strength: float = 1.0, hook: str = HOOK) -> Steered:
    """Adds a fixed direction."""
    vector = 3 * torch.randn(model.check_hook(hook), generator=torch.Generator().manual_seed(0))
    return Steered(AddVector(vector), hook, placement, strength)


def by_whole_passes(model: OpenModel, prompt: list[int], steered: Steered, tokens: int) -> list[tuple[int, float]]:
    """Greedy tokens with their log-probabilities, each from a pass through TransformerLens with its own hooks."""
    ids, found = list(prompt), []
    for _ in range(tokens):
        end = len(ids)
        places = {
            "all": range(1, end),
            "last": [len(prompt) - 1],
            "answer": range(len(prompt) - 1, end),
        }[steered.placement]

        def hook(x: torch.Tensor, hook: object = None, places=places) -> torch.Tensor:
            x = x.clone()
            for place in places:
                x[0, place] = steered.intervention(x[0, place][None], steered.strength)[0]
            return x

        with torch.no_grad():
            logits = model.bridge.run_with_hooks(torch.tensor([ids]), fwd_hooks=[(steered.hook, hook)])
        log_probabilities = logits[0, -1].float().log_softmax(-1)
        ids.append(int(log_probabilities.argmax()))
        found.append((ids[-1], float(log_probabilities.max())))
    return found


@pytest.mark.parametrize("placement", ["all", "last", "answer"])
@pytest.mark.parametrize("which", ["tiny", "demo"])
def test_a_steered_text_is_that_of_whole_passes(
    which: str, placement: Placement, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(which)
    prompt = [0, 9, 4, 7]
    steered = pushed(model, placement)
    found = list(generate(model, prompt, steered, tokens=10))
    expected = by_whole_passes(model, prompt, steered, len(found))
    assert [step.token for step in found] == [token for token, _ in expected]
    assert [step.log_probability for step in found] == pytest.approx([value for _, value in expected], abs=1e-4)
    assert [step.number for step in found] == list(range(len(found)))
    assert [step.token for step in found] != [step.token for step in generate(model, prompt, tokens=10)]


def test_a_text_of_smollm2_is_steered_in_its_middle(smollm2: OpenModel) -> None:
    hook = "blocks.15.hook_resid_post"
    prompt = smollm2.encode("Anna went to the park and")
    steered = pushed(smollm2, "answer", 4.0, hook)
    clean = Text(smollm2, prompt, Sampling())
    text = Text(smollm2, prompt, Sampling(), steered)
    start = clean.start(hook)
    assert start is not None
    expected = by_whole_passes(smollm2, prompt, steered, 4)
    assert [text.advance(start=start).token for _ in range(4)] == [token for token, _ in expected]  # type: ignore[union-attr]


def test_without_steering_greedy_texts_are_those_of_transformers(tiny: OpenModel, tiny_hf: Path) -> None:
    from transformers import AutoModelForCausalLM

    ids = tiny.encode(PROMPT)
    theirs = AutoModelForCausalLM.from_pretrained(tiny_hf).eval()
    expected = theirs.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=20, do_sample=False
    )
    assert [step.token for step in generate(tiny, ids, tokens=20)] == expected[0, len(ids) :].tolist()


@pytest.mark.parametrize("hook", [HOOK, "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"])
@pytest.mark.parametrize("sampling", [DRAWN, Sampling(1.3, 0.8, 2), Sampling()])
def test_at_strength_zero_both_texts_are_the_same(tiny: OpenModel, hook: str, sampling: Sampling) -> None:
    prompt = tiny.encode(PROMPT)
    clean = clean_text(tiny, prompt, sampling)
    start = clean.start(hook)
    assert start is not None
    text = Text(tiny, prompt, sampling, pushed(tiny, "all", 0.0, hook))
    text.advance(start=start)
    for _ in range(20):
        text.advance()
        clean.advance()
    clean.advance()
    assert text.steps == clean.steps
    assert len(text.steps) == 21 or text.over


def test_a_seed_fixes_the_text_and_another_seed_changes_it(demo: OpenModel) -> None:
    prompt = demo.encode("one monday anna")
    one, again, other = (
        [step.token for step in generate(demo, prompt, pushed(demo), sampling=Sampling(1.5, 1.0, seed))]
        for seed in (1, 1, 2)
    )
    assert one == again != other


def test_a_text_ends_with_its_end_token(tiny: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = tiny.encode(PROMPT)
    tokens = [step.token for step in generate(tiny, prompt, tokens=6)]
    last = next(number for number, token in enumerate(tokens) if number > 1 and token not in tokens[:number])
    monkeypatch.setattr(generation, "end_tokens", lambda model: frozenset([tokens[last]]))
    found = list(generate(tiny, prompt, tokens=6))
    assert [step.token for step in found] == tokens[: last + 1]
    assert [step.end for step in found] == [False] * last + [True]


@pytest.mark.parametrize("which", ["tiny", "demo"])
def test_a_text_ends_where_the_context_is_full(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue(which)
    monkeypatch.setattr(generation, "end_tokens", lambda model: frozenset())
    prompt = [5] * (model.facts.context - 3)
    found = list(generate(model, prompt, pushed(model), tokens=50))
    assert [step.end for step in found] == [False, False, False, True]


def test_stopping_is_answered_before_the_next_token(tiny: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("look-1", MemorySink())
    steps = generate(tiny, tiny.encode(PROMPT), pushed(tiny), tokens=100, run=run)
    for _ in range(3):
        next(steps)
    run.control.stop()
    passes = []
    own = decoding.Decoder.feed
    monkeypatch.setattr(decoding.Decoder, "feed", lambda *a, **k: passes.append(1) or own(*a, **k))
    with pytest.raises(RunStopped):
        next(steps)
    assert not passes


@pytest.mark.parametrize("steered", [False, True])
def test_a_long_prompt_is_run_in_chunks_that_give_the_same_text(
    tiny: OpenModel, monkeypatch: pytest.MonkeyPatch, steered: bool
) -> None:
    prompt = tiny.encode(PROMPT)
    how = pushed(tiny) if steered else None
    whole = Text(tiny, prompt, DRAWN, how, kept=1000)
    monkeypatch.setattr(generation, "CHUNK", 3)
    cut = Text(tiny, prompt, DRAWN, how, kept=1000)
    for _ in range(5):
        assert whole.advance().token == cut.advance().token  # type: ignore[union-attr]
    assert len(whole.predictions) == len(cut.predictions) == len(prompt) + 4
    assert torch.allclose(torch.stack(whole.predictions), torch.stack(cut.predictions), atol=1e-3)


def test_a_text_stopped_within_its_prompt_can_be_begun_again(tiny: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = tiny.encode(PROMPT)
    expected = [step.token for step in generate(tiny, prompt, sampling=DRAWN, tokens=5)]
    monkeypatch.setattr(generation, "CHUNK", 3)
    text = clean_text(tiny, prompt, DRAWN)
    run, calls = Run("look-1", MemorySink()), []

    def point() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise RunStopped

    monkeypatch.setattr(run, "point", point)
    with pytest.raises(RunStopped):
        text.advance(run)
    assert text.steps == []
    assert [text.advance().token for _ in range(5)] == expected  # type: ignore[union-attr]


def test_the_clean_text_is_written_once(tiny: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = tiny.encode(PROMPT)
    text = clean_text(tiny, prompt, DRAWN)
    for _ in range(5):
        text.advance()
    again = clean_text(tiny, list(prompt), Sampling(1.0, 1.0, 4))
    assert again is text
    assert clean_text(tiny, prompt, Sampling(1.0, 1.0, 5)) is not text
    fed = []
    own = decoding.Decoder.feed
    monkeypatch.setattr(decoding.Decoder, "feed", lambda *a, **k: fed.append(1) or own(*a, **k))
    again.advance()
    assert len(fed) == 1  # only what is new
    for seed in range(generation.KEPT_TEXTS):
        clean_text(tiny, prompt, Sampling(1.0, 1.0, 10 + seed))
    assert len(tiny.texts) == generation.KEPT_TEXTS
    assert clean_text(tiny, prompt, DRAWN) is not text


def test_kept_predictions_are_those_of_the_prompts_end_and_of_the_text(tiny: OpenModel) -> None:
    prompt = tiny.encode(PROMPT)
    text = Text(tiny, prompt, DRAWN, kept=8)
    assert text.seen == 4
    for _ in range(10):
        text.advance()
    whole = torch.tensor([[*prompt, *text.tokens]])
    with torch.no_grad():
        expected = tiny.bridge(whole)[0].log_softmax(-1)[len(prompt) - 4 :][:8]
    assert len(text.predictions) == 8
    assert torch.allclose(torch.stack(text.predictions), expected, atol=1e-3)
    assert text.first is not None
    assert torch.allclose(text.first, expected[3], atol=1e-3)


def test_nothing_is_written_from_nothing(tiny: OpenModel) -> None:
    with pytest.raises(SteeringError, match="prompt is empty"):
        next(generate(tiny, []))


def test_a_network_without_tokens_writes_no_text(tiny: OpenModel) -> None:
    import dataclasses

    import numpy as np

    network = Network([Stage(name="out", weight="W")], {"W": np.eye(2)}, np.eye(2), ["a", "b"])
    model = dataclasses.replace(tiny, bridge=NetworkBridge(network))
    with pytest.raises(SteeringError, match="predicts no tokens"):
        next(generate(model, [0]))
