"""Decoding with kept keys and values gives what whole passes give, with edits in place and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models import decoding, editing
from engine.models.decoding import Decoder, EditsFor, Sampler, end_tokens, keeps, shared_blocks
from engine.models.editing import Edit, edited_logits
from engine.models.errors import ModelError
from engine.models.opening import OpenModel, open_model

MIDDLE = "blocks.1.hook_resid_mid"
PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def demo() -> OpenModel:
    """The native model that ships."""
    return open_model("demo", device="cpu")


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2: Path) -> OpenModel:
    """LayerNorm, learned positions, another class of blocks."""
    return open_model(str(tiny_gpt2), device="cpu")


def direction(model: OpenModel, hook: str) -> torch.Tensor:
    """A fixed direction at ``hook``."""
    return 2 * torch.randn(model.check_hook(hook), generator=torch.Generator().manual_seed(3))


def adding(model: OpenModel, hook: str, first: int, last: int | None) -> EditsFor:
    """Adds a direction at the positions from ``first`` up to but without ``last``."""
    vector = direction(model, hook)

    def edits(begin: int, end: int) -> list[Edit]:
        at = torch.arange(begin, end)
        return [Edit(hook, lambda x: x + vector, ((at >= first) & ((last is None) | (at < (last or 0))))[None])]

    return edits


@pytest.mark.parametrize("places", [(1, None), (3, 4), (3, None)], ids=["all", "last", "answer"])
@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_post", MIDDLE, "blocks.1.hook_attn_out"])
@pytest.mark.parametrize("which", ["tiny", "gpt2", "demo"])
def test_token_by_token_equals_whole_passes(
    which: str, hook: str, places: tuple[int, int | None], request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(which)
    edits = adding(model, hook, *places)
    decoder = Decoder(model, edits)
    assert decoder.kept == (which != "demo")
    ids = [3, 9, 4, 7]
    logits = decoder.feed(ids)
    for _ in range(6):
        whole = edited_logits(model, torch.tensor([ids]), edits(0, len(ids)))
        assert torch.allclose(logits, whole[0, -1:], atol=1e-3)
        assert decoder.ids == ids
        ids = [*ids, int(logits[-1].argmax())]
        assert logits[-1].argmax() == whole[0, -1].argmax()
        logits = decoder.feed(ids[-1:])


def test_without_edits_greedy_decoding_is_that_of_transformers(tiny: OpenModel, tiny_hf: Path) -> None:
    from transformers import AutoModelForCausalLM

    ids = tiny.encode(PROMPT)
    theirs = AutoModelForCausalLM.from_pretrained(tiny_hf).eval()
    expected = theirs.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=20, do_sample=False, eos_token_id=-1
    )
    decoder, new = Decoder(tiny), list(ids)
    for _ in range(20):
        new.append(int(decoder.feed(new[len(decoder.ids) :])[-1].argmax()))
    assert new == expected[0].tolist()


@pytest.mark.parametrize(
    ("hook", "blocks"),
    [("blocks.1.hook_resid_pre", 1), (MIDDLE, 1), ("blocks.0.hook_resid_post", 1), ("blocks.1.hook_resid_post", 2)],
)
@pytest.mark.parametrize("which", ["tiny", "gpt2"])
def test_blocks_below_the_edit_are_not_run_again(
    which: str, hook: str, blocks: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue(which)
    assert shared_blocks(model, hook) == blocks
    ids, edits = [3, 9, 4, 7, 11], adding(model, hook, 1, None)
    clean, start = Decoder(model).begin(ids, hook)
    assert start is not None
    assert torch.allclose(clean, edited_logits(model, torch.tensor([ids]), [])[0, -1:], atol=1e-3)
    ran = []
    handles = [
        part.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, part in model.plain._parts.items()
        if name.endswith(".attn")
    ]
    spared, whole = Decoder(model, edits), Decoder(model, edits)
    try:
        for _ in range(2):  # what is shared is as it was after it was used
            spared = Decoder(model, edits)
            ran.clear()
            logits = spared.feed(ids, start=start)
            assert len(ran) == 2 - blocks
    finally:
        for handle in handles:
            handle.remove()
    expected = whole.feed(ids)
    for _ in range(4):
        assert torch.allclose(logits, expected, atol=1e-3)
        token = [int(expected[-1].argmax())]
        logits, expected = spared.feed(token), whole.feed(token)


def test_what_is_shared_serves_only_the_same_prompt(tiny: OpenModel) -> None:
    _, start = Decoder(tiny).begin([3, 9, 4, 7], MIDDLE)
    other = Decoder(tiny).feed([3, 9, 4, 8], start=start)
    assert torch.allclose(other, edited_logits(tiny, torch.tensor([[3, 9, 4, 8]]), [])[0, -1:], atol=1e-3)


def test_nothing_is_shared_below_the_first_block_nor_by_toys(tiny: OpenModel, demo: OpenModel) -> None:
    assert shared_blocks(tiny, "blocks.0.hook_resid_pre") == 0
    assert shared_blocks(tiny, "hook_embed") == 0
    assert shared_blocks(demo, "blocks.1.hook_resid_pre") == 0
    logits, start = Decoder(demo).begin([0, 5, 6], "blocks.1.hook_resid_pre")
    assert start is None
    assert torch.allclose(logits, edited_logits(demo, torch.tensor([[0, 5, 6]]), [])[0, -1:], atol=1e-4)


def test_an_edit_that_only_transformer_lens_can_make_is_decoded_by_whole_passes(tiny: OpenModel) -> None:
    hook = "blocks.1.ln1.hook_normalized"
    edits = adding(tiny, hook, 2, None)
    decoder = Decoder(tiny, edits)
    assert not decoder.kept
    decoder.feed([3, 9, 4])
    whole = editing._bridge_logits(tiny, torch.tensor([[3, 9, 4, 7]]), edits(0, 4))
    assert torch.allclose(decoder.feed([7]), whole[0, -1:], atol=1e-4)


def test_a_model_whose_kept_keys_give_other_logits_is_decoded_by_whole_passes(
    tiny: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tiny.plain is not None
    monkeypatch.setattr(tiny.plain, "_verified", {})
    own = decoding.plain_logits

    def forgetful(model, ids, edits, *, past=None, **how):
        return own(model, ids, edits, past=None, **how)

    monkeypatch.setattr(decoding, "plain_logits", forgetful)
    assert not keeps(tiny, [])
    assert not Decoder(tiny).kept


def test_logits_of_all_positions_can_be_had(tiny: OpenModel) -> None:
    whole = edited_logits(tiny, torch.tensor([[3, 9, 4, 7]]), [])[0]
    assert torch.allclose(Decoder(tiny).feed([3, 9, 4, 7], last=0), whole, atol=1e-4)
    assert torch.allclose(Decoder(tiny).begin([3, 9, 4, 7], MIDDLE, last=3)[0], whole[-3:], atol=1e-4)


def test_a_text_longer_than_the_context_is_refused(tiny: OpenModel) -> None:
    decoder = Decoder(tiny)
    decoder.feed([3] * 64)
    with pytest.raises(ModelError, match=r"65 tokens.*at most 64"):
        decoder.feed([3])
    assert len(decoder.ids) == 64


def test_the_end_token_is_known(tiny: OpenModel, demo: OpenModel) -> None:
    assert end_tokens(tiny) == {1}
    assert end_tokens(demo) == {1}


def test_sampling_follows_the_distribution() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0]).log_softmax(-1)
    draw, n = Sampler(0.7, seed=5), 20_000
    found = np.bincount([draw(logits) for _ in range(n)], minlength=4) / n
    expected = (logits / 0.7).softmax(-1).numpy()
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / n)


def test_top_p_draws_from_the_fewest_tokens_that_reach_it() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.3, 0.1])
    draw = Sampler(1.0, 0.75, seed=1)
    found = np.bincount([draw(probabilities.log()) for _ in range(4000)], minlength=4) / 4000
    assert found[0] == found[3] == 0
    assert abs(found[1] - 0.5 / 0.8) < 0.03
    assert {Sampler(1.0, 0.01, seed=seed)(probabilities.log()) for seed in range(20)} == {1}


def test_equal_seeds_draw_alike_and_zero_temperature_takes_the_most_likely() -> None:
    steps = torch.randn(30, 50, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    one, two, three = (Sampler(1.0, seed=seed) for seed in (1, 1, 2))
    first, again, other = ([draw(step) for step in steps] for draw in (one, two, three))
    assert first == again != other
    assert [Sampler()(step) for step in steps] == steps.argmax(-1).tolist()


def test_like_distributions_draw_the_same_tokens() -> None:
    # Gumbel noise: two distributions differ in their token with probability at most 2 TV / (1 + TV).
    logits = torch.randn(200, generator=torch.Generator().manual_seed(0))
    moved = logits + 0.1 * torch.randn(200, generator=torch.Generator().manual_seed(1))
    a, b = logits.log_softmax(-1), moved.log_softmax(-1)
    distance = float((a.exp() - b.exp()).abs().sum()) / 2
    one, two = Sampler(1.0, seed=3), Sampler(1.0, seed=3)
    different = np.mean([one(a) != two(b) for _ in range(2000)])
    assert 0 < different <= 2 * distance / (1 + distance) + 0.02


def test_sampling_leaves_torchs_own_random_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    Sampler(1.0, seed=1)(torch.zeros(5).log_softmax(-1))
    assert torch.equal(torch.random.get_rng_state(), before)
