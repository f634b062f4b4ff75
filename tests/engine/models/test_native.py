"""Native toy models: what is stored comes back exactly, and what does not fit is refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models.errors import ModelError
from engine.models.native import (
    SPECIAL,
    build_native,
    load_native,
    read_native,
    save_native,
    weight_shapes,
    weights,
    word_tokenizer,
    write_native,
)

WORDS = [*SPECIAL, "a", "the", "bear", "sang", "."]
CONFIG = {
    "d_model": 8,
    "n_layers": 2,
    "n_heads": 2,
    "d_head": 4,
    "d_mlp": 16,
    "n_ctx": 12,
    "d_vocab": len(WORDS),
    "seed": 5,
}
TOKENS = torch.tensor([[0, 3, 5, 6, 7, 1], [0, 4, 5, 6, 7, 1]])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"attn_only": True},
        {"normalization_type": "RMS", "act_fn": "relu"},
        {"normalization_type": None},
        {"positional_embedding_type": "rotary"},
    ],
)
def test_a_stored_model_gives_identical_logits(tmp_path: Path, change: dict) -> None:
    bridge = build_native(CONFIG | change, WORDS)
    with torch.no_grad():
        # Away from the initial weights, which building the model anew would give again.
        for weight in bridge.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        before = bridge(TOKENS)
    write_native(tmp_path, *save_native(bridge, reference="toy:tiny-language-model-1"))
    attributes, arrays = read_native(tmp_path)
    again = load_native(attributes, arrays)
    with torch.no_grad():
        after = again(TOKENS)
    assert torch.equal(before, after)
    assert attributes["reference"] == "toy:tiny-language-model-1"
    assert not again.training


def test_stored_names_are_those_of_transformer_lens() -> None:
    bridge = build_native(CONFIG, WORDS)
    known = bridge.state_dict()
    stored = weights(bridge)
    # The unembedding of a native model has no bias of its own: TransformerLens adds a constant zero.
    assert set(known) - set(stored) == {"unembed.bias"}
    assert not known["unembed.bias"].any()
    for name, array in stored.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, known[name].numpy()), name
    assert {name: array.shape for name, array in stored.items()} == weight_shapes(CONFIG)


def test_stored_weights_do_not_change_with_the_model() -> None:
    bridge = build_native(CONFIG, WORDS)
    stored = weights(bridge)
    kept = stored["embed.weight"].copy()
    with torch.no_grad():
        next(bridge.parameters()).add_(1.0)
    assert np.array_equal(stored["embed.weight"], kept)


def test_building_and_loading_leave_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    bridge = build_native(CONFIG, WORDS)
    load_native(*save_native(bridge))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_seed_alone_decides_the_initial_weights() -> None:
    first, same = weights(build_native(CONFIG, WORDS)), weights(build_native(CONFIG, WORDS))
    other = weights(build_native(CONFIG | {"seed": 6}, WORDS))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not np.array_equal(first["embed.weight"], other["embed.weight"])


@given(st.lists(st.sampled_from(WORDS[3:]), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_words_become_tokens_and_back(words: list[str]) -> None:
    tokenizer = word_tokenizer(WORDS)
    ids = tokenizer.encode(" ".join(words))
    assert ids == [0, *(WORDS.index(word) for word in words)]
    assert tokenizer.decode(ids, skip_special_tokens=True) == " ".join(words)


def test_typed_text_is_read_as_a_person_means_it() -> None:
    tokenizer = word_tokenizer(WORDS)
    ids = tokenizer.encode("The bear  sang. The robot sang.", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == ["the", "bear", "sang", ".", "the", "<unk>", "sang", "."]


def test_the_bridge_puts_the_start_token_in_front() -> None:
    bridge = build_native(CONFIG, WORDS)
    assert bridge.to_tokens("the bear").tolist() == [[0, 4, 5]]
    assert bridge.to_tokens("the bear", prepend_bos=False).tolist() == [[4, 5]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*SPECIAL, "a", "a"], "“a” is twice"),
        (["<start>", "<end>", "a"], "needs the token <unk>"),
        ([*SPECIAL, "well-known"], "“well-known” cannot be one token"),
    ],
)
def test_a_vocabulary_that_cannot_work_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        word_tokenizer(words)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_layers": 0}, "n_layers"),
        ({"d_model": 10**9}, "d_model"),
        ({"d_vocab": 9}, "8 words .* d_vocab=9"),
        ({"act_fn": "__import__"}, "act_fn"),
        ({"architecture": "Other"}, "architecture"),
        ({"positional_embedding_type": "rotary", "d_head": 3}, "even d_head"),
    ],
)
def test_a_config_that_does_not_hold_together_is_refused(change: dict, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build_native(CONFIG | change, WORDS)


def test_wrong_weights_are_refused_by_name() -> None:
    attributes, arrays = save_native(build_native(CONFIG, WORDS))
    name = "blocks.1.mlp.in.weight"
    with pytest.raises(ModelError, match=r"blocks\.1\.mlp\.in\.weight .* is missing"):
        load_native(attributes, {key: value for key, value in arrays.items() if key != name})
    with pytest.raises(ModelError, match=r"shape \(8, 16\) instead of \(16, 8\)"):
        load_native(attributes, arrays | {name: arrays[name].T})
    with pytest.raises(ModelError, match="no finite numbers"):
        load_native(attributes, arrays | {name: np.full_like(arrays[name], np.nan)})
    with pytest.raises(ModelError, match="weight extra"):
        load_native(attributes, arrays | {"extra": arrays[name]})
    with pytest.raises(ModelError, match="not the attributes of a toy model"):
        load_native(attributes | {"kind": "pickle"}, arrays)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no file model\.json"):
        read_native(tmp_path)
    write_native(tmp_path, *save_native(build_native(CONFIG, WORDS)))
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="damaged"):
        read_native(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(whole)
    (tmp_path / "model.json").write_text(json.dumps([1]))
    with pytest.raises(ModelError, match="does not describe a model"):
        read_native(tmp_path)
