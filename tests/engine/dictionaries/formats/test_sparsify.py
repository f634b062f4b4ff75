"""sparsify: coders and transcoders against a reading of their definition, and each trap."""

from __future__ import annotations

import json

import pytest
import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.formats import open_dictionary
from tests.engine.dictionaries.formats.readings import D, F, draw, inputs, put, same, top

WEIGHTS = "sae.safetensors"


def config(**more):
    values = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": F, "k": 4}
    return values | {"multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D} | more


def weights(width=F):
    normal = draw()
    return {
        "encoder.weight": normal(width, D),
        "encoder.bias": normal(width),
        "W_dec": normal(width, D),
        "b_dec": normal(D),
    }


def reading(w, x, k, *, transcode):
    inner = x if transcode else x - w["b_dec"]
    z = top(inner @ w["encoder.weight"].T + w["encoder.bias"], k)
    skip = x @ w["W_skip"].T if "W_skip" in w else 0
    return z, z @ w["W_dec"] + w["b_dec"] + skip


@pytest.mark.parametrize("normalize_decoder", [True, False])
def test_coder_subtracts_its_bias_whatever_normalize_decoder_says(tmp_path, normalize_decoder):
    w, x = weights(), inputs()
    folder = put(tmp_path / "layers.3", config(normalize_decoder=normalize_decoder), w, weights_name=WEIGHTS)
    (found,) = open_dictionary(folder)
    same(found, x, *reading(w, x, 4, transcode=False))
    assert found.dictionary.config.hook_in == "blocks.3.hook_resid_post"


@pytest.mark.parametrize("skips", [True, False])
def test_transcoder_does_not_subtract_and_its_skip_is_transposed(tmp_path, skips):
    w, x = weights(), inputs()
    if skips:
        w["W_skip"] = draw(1)(D, D)
    values = config(transcode=True, skip_connection=skips)
    (found,) = open_dictionary(put(tmp_path / "h.3.mlp", values, w, weights_name=WEIGHTS))
    same(found, x, *reading(w, x, 4, transcode=True))
    neutral = found.dictionary.config
    assert neutral.architecture == ("skip-transcoder" if skips else "transcoder")
    assert (neutral.hook_in, neutral.hook_out) == ("blocks.3.mlp.hook_in", "blocks.3.hook_mlp_out")


def test_zero_latents_means_the_expansion_factor(tmp_path):
    w, x = weights(3 * D), inputs()
    values = config(num_latents=0, expansion_factor=3)
    (found,) = open_dictionary(put(tmp_path / "layers.3", values, w, weights_name=WEIGHTS))
    same(found, x, *reading(w, x, 4, transcode=False))
    del values["num_latents"]
    (found,) = open_dictionary(put(tmp_path / "layers.4", values, w, weights_name=WEIGHTS))
    assert found.dictionary.config.width == 3 * D


def test_a_run_folder_gives_its_hook_points_and_seeds(tmp_path):
    run = tmp_path / "run"
    put(run / "layers.10", config(k=2), weights(), weights_name=WEIGHTS)
    put(run / "layers.2" / "seed1", config(k=3), weights(), weights_name=WEIGHTS)
    (run / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-160m", "sae": {}}))
    torch.save({"anything": 1}, run / "state.pt")
    found = {one.name: one.dictionary.config for one in open_dictionary(run)}
    assert {name: (one.k, one.model) for name, one in found.items()} == {
        "layers.10": (2, "EleutherAI/pythia-160m"),
        "layers.2 seed1": (3, "EleutherAI/pythia-160m"),
    }
    assert found["layers.2 seed1"].hook_in == "blocks.2.hook_resid_post"


@pytest.mark.parametrize(
    ("values", "dropped", "sentence"),
    [
        (config(activation="groupmax"), "", "activation “groupmax”, which Superscope cannot compute; it knows topk"),
        (config(signed=True), "", "activation “signed topk”"),
        (config(), "W_dec", "The tensor W_dec is missing"),
        (config(skip_connection=True), "", "The tensor W_skip is missing"),
        (config(num_latents=F + 1), "", r"encoder.weight in .* has shape \(20, 6\), but the rest asks for \(21, 6\)"),
        (config(k=F + 1), "", "k = 21, but k must lie between 1 and 20"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, values, dropped, sentence):
    w = {name: value for name, value in weights().items() if name != dropped}
    with pytest.raises(DictionaryError, match=sentence):
        open_dictionary(put(tmp_path / "layers.3", values, w, weights_name=WEIGHTS))
