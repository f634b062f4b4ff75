"""The activation viewer's numbers are the model's, the sink spoils no colours, and bad prompts get one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.figures.kinds import Bars, Heatmap, Images, Table, TokenStrip, pack, unpack
from engine.models import activation_figures, memory, prompt_pass
from engine.models.activation_figures import token_label
from engine.models.errors import ModelError
from engine.models.opening import OpenModel
from engine.models.prompt_pass import PromptPass, streams
from engine.runs.control import RunStopped
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.runs.run import Run
from engine.runs.sinks import MemorySink

PROMPT = "The quick brown fox jumps over the lazy dog. A man"


def look(model: str | Path, prompt: str = PROMPT, **values: Any) -> MemorySink:
    """Ask the experiment as a panel does."""
    experiment, sink = find("activations"), MemorySink()
    parameters = check(experiment.parameters, {"model": str(model), "prompt": prompt, "device": "cpu"} | values)
    experiment.function(parameters, Run("look-1", sink))
    return sink


@pytest.fixture
def cache(tiny: OpenModel) -> tuple[torch.Tensor, Any]:
    """Logits and TransformerLens' own cache of the prompt."""
    with torch.no_grad():
        logits, cached = tiny.bridge.run_with_cache(torch.tensor([tiny.encode(PROMPT)]))
    return logits[0], cached


@pytest.fixture
def forgotten(tiny: OpenModel) -> None:
    """No pass over a prompt is kept from another test."""
    tiny.passes.clear()


def test_norms_are_those_of_the_residual_stream(tiny_hf: Path, cache: tuple) -> None:
    shown = look(tiny_hf).figures["map"]
    assert isinstance(shown, Heatmap)
    expected = np.stack([cache[1][f"blocks.{layer}.hook_resid_post"][0].norm(dim=-1).numpy() for layer in range(2)])
    assert np.allclose(shown.values, expected, atol=1e-4)
    assert shown.origin == "lower"
    assert list(shown.y) == [0, 1]


def test_a_unit_is_shown_with_its_sign_on_symmetric_levels(tiny_hf: Path, cache: tuple) -> None:
    shown = look(tiny_hf, quantity="unit", unit=7, stream="mlp.hook_post").figures["map"]
    expected = np.stack([cache[1][f"blocks.{layer}.mlp.hook_post"][0, :, 7].numpy() for layer in range(2)])
    assert np.allclose(shown.values, expected, atol=1e-5)
    assert shown.diverging
    assert shown.levels is not None
    assert shown.levels[0] == -shown.levels[1]
    assert shown.levels[1] == pytest.approx(np.abs(expected[:, 1:]).max(), abs=1e-5)


def test_the_logit_lens_of_the_last_layer_is_the_models_own_prediction(
    tiny_hf: Path, tiny: OpenModel, cache: tuple
) -> None:
    found = look(tiny_hf, quantity="logit-lens", layer=-1, position=4)
    probabilities = cache[0].softmax(-1)
    shown = found.figures["map"]
    assert np.allclose(shown.values[-1], probabilities.max(-1).values.numpy(), atol=1e-5)
    tops = [token_label(text) for text in tiny.token_texts(probabilities.argmax(-1).tolist())]
    assert shown.text is not None
    assert list(shown.text[-1]) == tops
    bars = found.figures["logits"]
    assert isinstance(bars, Bars)
    expected = probabilities[4].topk(10)
    assert np.allclose(bars.value, expected.values.numpy(), atol=1e-5)
    assert found.facts["top_ids"] == expected.indices.tolist()
    entropy = -(probabilities[4] * probabilities[4].log()).sum().item()
    assert found.facts["entropy"] == pytest.approx(entropy, abs=1e-4)


def test_the_lens_of_an_early_layer_is_norm_and_unembedding_of_its_stream(
    tiny_hf: Path, tiny: OpenModel, cache
) -> None:
    from transformers import AutoModelForCausalLM

    bare = AutoModelForCausalLM.from_pretrained(tiny_hf).eval()
    with torch.no_grad():
        logits = bare.lm_head(bare.model.norm(cache[1]["blocks.0.hook_resid_post"][0]))
    shown = look(tiny_hf, quantity="logit-lens").figures["map"]
    assert np.allclose(shown.values[0], logits.softmax(-1).max(-1).values.numpy(), atol=1e-5)


def test_attention_rows_sum_to_one_and_look_back_only(tiny_hf: Path, cache: tuple) -> None:
    shown = look(tiny_hf, layer=1).figures["attention"]
    assert isinstance(shown, Images)
    assert np.allclose(shown.pixels.sum(-1), 1.0, atol=1e-5)
    assert not np.triu(shown.pixels, 1).any()
    assert np.allclose(shown.pixels, cache[1]["blocks.1.attn.hook_pattern"][0].numpy(), atol=1e-5)
    assert shown.captions == ("Head 0", "Head 1", "Head 2", "Head 3")
    assert shown.x is not None
    assert shown.x[0] == "<s>"


def test_the_detail_is_of_the_locked_cell(tiny_hf: Path, cache: tuple) -> None:
    shown = look(tiny_hf, layer=0, position=5).figures["detail"]
    assert isinstance(shown, Table)
    vector = cache[1]["blocks.0.hook_resid_post"][0, 5]
    values = dict(zip(shown.columns[0].tolist(), shown.columns[1].tolist(), strict=True))
    assert values["Norm (L2)"] == pytest.approx(vector.norm().item(), abs=1e-4)
    assert values["Mean over units"] == pytest.approx(vector.mean().item(), abs=1e-5)
    largest = int(vector.abs().argmax())
    assert values[f"Unit {largest}"] == pytest.approx(vector[largest].item(), abs=1e-5)
    assert sum(name.startswith("Unit ") for name in values) == 10


def test_an_outlier_at_the_first_position_spoils_no_colours(
    tiny_hf: Path, tiny: OpenModel, forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = look(tiny_hf, layer=0)
    real = PromptPass.stream

    def with_sink(self: PromptPass, name: str, run: Run | None = None) -> torch.Tensor:
        stream = real(self, name, run).clone()
        stream[:, 0] *= 1e4
        return stream

    monkeypatch.setattr(PromptPass, "stream", with_sink)
    sunk = look(tiny_hf, layer=0)
    for name in ("map", "tokens"):
        before, after = plain.figures[name], sunk.figures[name]
        assert isinstance(after, (Heatmap, TokenStrip))
        assert after.levels == before.levels  # type: ignore[union-attr]
        assert "positions after the first" in after.note
    assert sunk.figures["map"].values[0, 0] > 100 * sunk.figures["map"].levels[1]  # type: ignore[union-attr]


def test_the_strip_shades_tokens_by_the_locked_layer(tiny_hf: Path) -> None:
    found = look(tiny_hf, layer=1)
    strip, shown = found.figures["tokens"], found.figures["map"]
    assert np.array_equal(strip.value, shown.values[1])  # type: ignore[union-attr]
    assert "".join(strip.tokens[1:]) == PROMPT  # type: ignore[union-attr]
    assert found.facts["tokens"] == list(strip.tokens)  # type: ignore[union-attr]


def test_switching_layer_or_quantity_runs_the_model_no_second_time(
    tiny_hf: Path, tiny: OpenModel, forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    real = PromptPass._run
    monkeypatch.setattr(PromptPass, "_run", lambda self, *a: (runs.append(a[:2]), real(self, *a))[1])
    look(tiny_hf)
    for values in ({"layer": 0}, {"quantity": "unit"}, {"quantity": "logit-lens"}, {"stream": "hook_mlp_out"}):
        look(tiny_hf, **values)
    assert len(runs) == 1
    look(tiny_hf, stream="attn.hook_z")  # not among the usual ones
    look(tiny_hf, prompt="Another")
    assert len(runs) == 3
    look(tiny_hf)
    assert len(runs) == 3
    for number in range(4):
        look(tiny_hf, prompt=f"Other {number}")
    assert len(tiny.passes) == prompt_pass.KEPT_PASSES
    monkeypatch.setattr(prompt_pass, "KEPT_BYTES", 100)
    look(tiny_hf)
    assert len(tiny.passes) == 1


def test_long_prompts_compute_patterns_one_layer_at_a_time(
    tiny_hf: Path, tiny: OpenModel, forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = look(tiny_hf, layer=0).figures["attention"]
    tiny.passes.clear()
    monkeypatch.setattr(prompt_pass, "PATTERNS_KEPT", 100)
    found = look(tiny_hf, layer=0).figures["attention"]
    assert np.allclose(found.pixels, whole.pixels)  # type: ignore[union-attr]
    (seen,) = tiny.passes.values()
    assert list(seen._patterns) == [0]


def test_attention_of_a_long_prompt_is_cut_to_what_can_be_seen(
    tiny_hf: Path, forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation_figures, "MOST_ATTENTION", 6)
    early, late = look(tiny_hf, position=2).figures["attention"], look(tiny_hf, position=9).figures["attention"]
    assert isinstance(early, Images)
    assert isinstance(late, Images)
    assert early.pixels.shape[1:] == late.pixels.shape[1:] == (6, 6)
    assert late.note.startswith("Positions 4 to 9 of ")


def test_a_prompt_whose_attention_would_not_fit_is_refused(
    tiny_hf: Path, forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda device="cpu": 100)
    with pytest.raises(ModelError, match=r"Attention over \d+ tokens needs about .* use a shorter prompt"):
        look(tiny_hf)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": ""}, "The prompt is empty; type some text"),
        ({"prompt": "fox " * 64}, r"The prompt has \d+ tokens, but tiny-llama reads at most 64; shorten it by \d+\."),
        ({"quantity": "unit", "unit": 32}, "unit=32 is not in hook_resid_post: it has 32 units, numbered 0 to 31"),
        ({"stream": "hook_resid_pst"}, "did you mean blocks.0.hook_resid_p"),
        ({"stream": "attn.hook_pattern"}, "not a vector per token"),
        ({"stream": "mlp.hook_post", "quantity": "logit-lens"}, "choose hook_resid_post"),
    ],
)
def test_what_cannot_be_shown_gets_one_sentence(tiny_hf: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        look(tiny_hf, **values)


def test_a_prompt_of_exactly_the_context_is_shown(tiny_hf: Path, tiny: OpenModel) -> None:
    prompt = "fox" * 200
    while len(tiny.encode(prompt)) > tiny.facts.context:
        prompt = prompt[:-1]
    found = look(tiny_hf, prompt)
    assert len(found.facts["ids"]) == tiny.facts.context


def test_a_stream_that_is_not_as_wide_as_the_residual_has_no_lens_but_all_the_rest(tiny_hf: Path) -> None:
    assert set(look(tiny_hf, stream="mlp.hook_post").figures) == {"map", "tokens", "detail", "attention"}


def test_the_locked_cell_follows_a_shrinking_prompt(tiny_hf: Path) -> None:
    found = look(tiny_hf, prompt="The", layer=99, position=99)
    assert (found.facts["layer"], found.facts["position"]) == (1, len(found.facts["ids"]) - 1)


def test_bos_is_left_out_where_it_is_not_wanted(tiny_hf: Path) -> None:
    with_bos, without = look(tiny_hf), look(tiny_hf, prepend_bos=False)
    assert with_bos.facts["ids"] == [0, *without.facts["ids"]]
    assert (with_bos.facts["bos"], without.facts["bos"]) == (True, False)


def test_streams_are_those_that_every_block_has(tiny: OpenModel) -> None:
    found = streams(tiny)
    assert {"hook_resid_pre", "hook_resid_mid", "hook_resid_post", "attn.hook_z", "mlp.hook_post"} <= set(found)
    assert "attn.hook_pattern" not in found
    assert not any(name.startswith("blocks") for name in found)


def test_a_look_that_is_replaced_stops_inside_the_forward_pass(tiny_hf: Path, tiny: OpenModel, forgotten: None) -> None:
    run = Run("look-1", MemorySink())
    experiment = find("activations")
    parameters = check(experiment.parameters, {"model": str(tiny_hf), "prompt": PROMPT, "device": "cpu"})
    ran: list[int] = []
    handles = [
        tiny.bridge.blocks[0].register_forward_hook(lambda *a: run.control.stop()),
        tiny.bridge.blocks[1].mlp.register_forward_hook(lambda *a: ran.append(1)),
    ]
    try:
        with pytest.raises(RunStopped):
            experiment.function(parameters, run)
    finally:
        for handle in handles:
            handle.remove()
    assert not ran
    assert look(tiny_hf).figures  # nothing half-made was kept


def test_all_figures_survive_the_way_to_the_window(tiny_hf: Path) -> None:
    for quantity in ("norm", "unit", "logit-lens"):
        for figure in look(tiny_hf, quantity=quantity).figures.values():
            again = unpack(*pack(figure))
            assert again.title == figure.title
            assert getattr(again, "levels", None) == getattr(figure, "levels", None)


@pytest.mark.parametrize(
    ("token", "label"),
    [(" the", "·the"), ("the", "the"), ("\n", "↵"), ("  ", "··"), ("", "∅"), ("a\tb ", "a⇥b·"), (" \n", "·↵")],
)
def test_spaces_and_breaks_in_tokens_can_be_seen(token: str, label: str) -> None:
    assert token_label(token) == label


def test_gpt2_and_native_models_are_shown_too(tiny_gpt2: Path) -> None:
    found = look(tiny_gpt2, quantity="logit-lens")
    assert {"map", "tokens", "logits", "detail", "attention"} == set(found.figures)
    found = MemorySink()
    find("activations").function(find("activations").parameters(), Run("look-2", found))
    assert {"map", "tokens", "logits", "detail", "attention"} == set(found.figures)
    assert found.facts["unknown"] == 0  # the default prompt is in the demo model's vocabulary
