"""The real SmolLM2: its known predictions, and everything this room computes against bare transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models.capture import capture
from engine.models.opening import OpenModel
from engine.models.prompt_pass import prompt_pass
from engine.models.references import marker
from engine.models.smollm2 import GGUF_SHA256

pytestmark = pytest.mark.real_model
PROMPT = "The capital of France is"


@pytest.mark.parametrize(("prepend_bos", "probability"), [(True, 0.75), (False, 0.77)])
def test_paris_follows_with_the_known_probability(smollm2: OpenModel, prepend_bos: bool, probability: float) -> None:
    ids = smollm2.encode(PROMPT, prepend_bos=prepend_bos)
    assert (ids[0] == 1) is prepend_bos
    with torch.no_grad():
        last = smollm2.bridge(torch.tensor([ids]))[0, -1].softmax(-1)
    assert smollm2.token_texts([int(last.argmax())]) == [" Paris"]
    assert float(last.max()) == pytest.approx(probability, abs=0.005)


def test_facts_and_source_are_those_of_smollm2(smollm2: OpenModel) -> None:
    facts = smollm2.facts
    assert (facts.parameters, facts.layers, facts.d_model, facts.heads, facts.kv_heads) == (134_515_008, 30, 576, 9, 3)
    assert (facts.vocabulary, facts.context, facts.tied_embeddings) == (49_152, 8_192, True)
    assert facts.source_hash == GGUF_SHA256
    found = marker(Path(facts.source))
    assert found is not None
    assert found["sha256"] == GGUF_SHA256


def test_captured_streams_are_transformers_own_hidden_states(smollm2: OpenModel) -> None:
    from transformers import AutoModelForCausalLM

    bare = AutoModelForCausalLM.from_pretrained(smollm2.facts.source, dtype=torch.float32).eval()
    ids = np.random.default_rng(0).integers(3, 49_152, (3, 24))
    hooks = ["blocks.0.hook_resid_pre", "blocks.7.hook_resid_post", "blocks.14.hook_resid_post"]
    (found,) = [found for _, found in capture(smollm2, ids, hooks)]
    with torch.no_grad():
        states = bare(torch.as_tensor(ids), output_hidden_states=True).hidden_states
    for hook, number in zip(hooks, (0, 8, 15), strict=True):
        assert torch.allclose(found[hook], states[number], rtol=1e-5, atol=1e-3), hook
    assert smollm2.plain is not None
    assert all(smollm2.plain._verified[smollm2.hook_point(hook).canonical] for hook in hooks)


def test_the_first_position_is_an_attention_sink(smollm2: OpenModel) -> None:
    """What the viewer's note says of it is true."""
    seen = prompt_pass(smollm2, "The capital of France is Paris, and the capital of Germany is Berlin.")
    norms = torch.linalg.vector_norm(seen.stream("hook_resid_post"), dim=-1)
    outlier = norms[:, 0] / norms[:, 1:].max(dim=1).values
    assert outlier[15] > 20
    patterns = [seen.pattern(layer) for layer in range(30)]
    rows = np.stack([pattern[:, -1] for pattern in patterns if pattern is not None])
    assert np.allclose(rows.sum(-1), 1.0, atol=1e-5)
    assert rows[..., 0].mean() > 5 / rows.shape[-1]  # even attention would give 1 / positions


def test_the_logit_lens_ends_in_the_models_prediction(smollm2: OpenModel) -> None:
    seen = prompt_pass(smollm2, PROMPT)
    lens = seen.lens("hook_resid_post")
    assert lens.top.shape == (30, len(seen.ids))
    with torch.no_grad():
        probabilities = smollm2.bridge(torch.tensor([seen.ids]))[0].softmax(-1)
    assert lens.top[-1].tolist() == probabilities.argmax(-1).tolist()
    assert np.allclose(lens.probability[-1], probabilities.max(-1).values.numpy(), atol=1e-4)
    assert smollm2.token_texts([int(lens.top[-1, -1])]) == [" Paris"]
