"""Gemma Scope 1 and 2 against a reading of their definition, and each trap."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.formats import open_dictionary
from tests.engine.dictionaries.formats.readings import D, F, draw, inputs, jump, put, same

RESIDUAL = "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"


def weights(d_out=D):
    normal = draw()
    w = {"W_enc": normal(D, F), "W_dec": normal(F, d_out), "b_enc": normal(F), "b_dec": normal(d_out)}
    return w | {"threshold": normal(F).abs()}


def put_npz(folder, w):
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: value.numpy() for name, value in w.items()})
    return folder


def test_first_is_jumprelu_and_not_centred(tmp_path):
    w, x = weights(), inputs()
    (found,) = open_dictionary(put_npz(tmp_path / RESIDUAL, w))
    z = jump(x @ w["W_enc"] + w["b_enc"], w["threshold"])
    same(found, x, z, z @ w["W_dec"] + w["b_dec"])
    assert found.dictionary.config.hook_in == "blocks.20.hook_resid_post"
    assert found.dictionary.config.model == "google/gemma-2-2b"
    assert found.name == "layer_20/width_16k/average_l0_71"


@pytest.mark.parametrize(
    ("place", "hooks"),
    [
        ("gemma-scope-9b-pt-mlp/layer_3/width_16k/average_l0_9", ("blocks.3.hook_mlp_out",) * 2),
        ("gemma-scope-9b-it-att/layer_3/width_16k/average_l0_9", ("blocks.3.attn.hook_z",) * 2),
        (
            "gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_9",
            ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out"),
        ),
        ("somewhere/params", ("", "")),
    ],
)
def test_sites_are_told_by_the_names_of_folders(tmp_path, place, hooks):
    (found,) = open_dictionary(put_npz(tmp_path / place, weights()) / "params.npz")
    assert (found.dictionary.config.hook_in, found.dictionary.config.hook_out) == hooks
    assert found.dictionary.config.architecture == ("transcoder" if "transcoders" in place else "jumprelu")


def test_those_of_embeddings_are_brought_to_the_hook_points_units(tmp_path):
    w, x = weights(), inputs()
    (found,) = open_dictionary(put_npz(tmp_path / "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", w))
    z = jump(x @ (w["W_enc"] / D**0.5) + w["b_enc"], w["threshold"])
    same(found, x, z, z @ (w["W_dec"] * D**0.5) + w["b_dec"])
    assert found.dictionary.config.hook_in == "hook_embed"


def lower(w):
    return {name.replace("W_", "w_"): value for name, value in w.items()}


def test_lower_case_names_are_read_too(tmp_path):
    (found,) = open_dictionary(put_npz(tmp_path / RESIDUAL, lower(weights())))
    assert torch.equal(found.dictionary.W_enc, weights()["W_enc"])


def config(**more):
    values = {"architecture": "jump_relu", "model_name": "gemma-v3-270m", "affine_connection": False}
    return values | {"hf_hook_point_in": "model.layers.5.output"} | more


def put_second(folder, values, w):
    return put(folder, values, w, config_name="config.json", weights_name="params.safetensors")


def test_second_is_jumprelu_and_not_centred(tmp_path):
    w, x = weights(), inputs()
    (found,) = open_dictionary(put_second(tmp_path / "resid_post" / "layer_5_width_16k_l0_small", config(), lower(w)))
    z = jump(x @ w["W_enc"] + w["b_enc"], w["threshold"])
    same(found, x, z, z @ w["W_dec"] + w["b_dec"])
    assert found.format == "gemma-scope-2"
    assert found.dictionary.config.hook_in == "blocks.5.hook_resid_post"
    assert found.dictionary.config.model == "google/gemma-3-270m"


def test_seconds_affine_connection_reads_rows_of_the_input(tmp_path):
    out, x = 4, inputs()
    w, skip = weights(out), draw(1)(D, out)
    values = config(
        affine_connection=True,
        hf_hook_point_in="model.layers.5.pre_feedforward_layernorm.output",
        hf_hook_point_out="model.layers.5.post_feedforward_layernorm.output",
    )
    place = tmp_path / "transcoder" / "layer_5_width_16k_l0_small_affine"
    (found,) = open_dictionary(put_second(place, values, lower(w) | {"affine_skip_connection": skip}))
    z = jump(x @ w["W_enc"] + w["b_enc"], w["threshold"])
    same(found, x, z, z @ w["W_dec"] + w["b_dec"] + x @ skip)
    assert found.dictionary.config.architecture == "skip-transcoder"
    assert found.dictionary.config.hook_out == "blocks.5.hook_mlp_out"
    with pytest.raises(DictionaryError, match="names an affine connection"):
        open_dictionary(put_second(tmp_path / "layer_5_without", values, lower(w)))


def test_layers_of_cross_layer_transcoders_and_other_architectures_are_refused(tmp_path):
    w = lower(weights()) | {"w_dec": torch.zeros(F, 3, D)}
    with pytest.raises(DictionaryError, match="a layer of a cross-layer transcoder"):
        open_dictionary(put_second(tmp_path / "layer_1", config(), w))
    with pytest.raises(DictionaryError, match="architecture “topk”, which Superscope cannot compute"):
        open_dictionary(put_second(tmp_path / "layer_2", config(architecture="topk"), lower(weights())))
