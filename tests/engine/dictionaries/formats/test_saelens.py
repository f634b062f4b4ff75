"""SAELens: every architecture against a reading of its definition, both layouts, and each trap."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.formats import open_dictionary
from tests.engine.dictionaries.formats.readings import D, F, draw, inputs, jump, put, same, top

WEIGHTS = "sae_weights.safetensors"


def config(architecture, **more):
    metadata = {"sae_lens_version": "6.54.12", "model_name": "gpt2", "hook_name": "blocks.3.hook_resid_pre"}
    values = {"architecture": architecture, "d_in": D, "d_sae": F, "dtype": "torch.float32", "device": "cuda"}
    values |= {"apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none"}
    return values | {"metadata": metadata | more.pop("metadata", {})} | more


def weights(d_out=D):
    normal = draw()
    return {"W_enc": normal(D, F), "b_enc": normal(F), "W_dec": normal(F, d_out), "b_dec": normal(d_out)}


def opened(tmp_path, values, tensors):
    (found,) = open_dictionary(put(tmp_path / "sae", values, tensors, weights_name=WEIGHTS))
    assert found.format == "saelens"
    return found


def pre_of(w, x, centre=True):
    return (x - w["b_dec"] if centre else x) @ w["W_enc"] + w["b_enc"]


@pytest.mark.parametrize("centre", [True, False])
def test_standard(tmp_path, centre):
    w, x = weights(), inputs()
    found = opened(tmp_path, config("standard", apply_b_dec_to_input=centre), w)
    z = pre_of(w, x, centre).relu()
    same(found, x, z, z @ w["W_dec"] + w["b_dec"])
    neutral = found.dictionary.config
    assert (neutral.architecture, neutral.model, neutral.dtype) == ("relu", "gpt2", "float32")
    assert neutral.hook_in == neutral.hook_out == "blocks.3.hook_resid_pre"


def test_topk(tmp_path):
    w, x = weights(), inputs()
    z = top(pre_of(w, x), 4)
    same(opened(tmp_path, config("topk", k=4), w), x, z, z @ w["W_dec"] + w["b_dec"])


def test_topk_whose_choice_counts_the_atoms_lengths(tmp_path):
    w, x = weights(), inputs()
    lengths = w["W_dec"].norm(dim=1)
    z = top(pre_of(w, x) * lengths, 4)
    found = opened(tmp_path, config("topk", k=4, rescale_acts_by_decoder_norm=True), w)
    same(found, x, z, (z / lengths) @ w["W_dec"] + w["b_dec"])


def test_jumprelu_also_under_its_old_logarithm(tmp_path):
    w, x = weights(), inputs()
    threshold = draw(1)(F).abs()
    z = jump(pre_of(w, x), threshold)
    out = z @ w["W_dec"] + w["b_dec"]
    same(opened(tmp_path / "now", config("jumprelu"), w | {"threshold": threshold}), x, z, out)
    same(opened(tmp_path / "old", config("jumprelu"), w | {"log_threshold": threshold.log()}), x, z, out)


def test_batchtopk_that_was_saved_as_jumprelu_keeps_its_name(tmp_path):
    values = config("jumprelu", metadata={"training_architecture": "batchtopk"})
    found = opened(tmp_path, values, weights() | {"threshold": torch.full((F,), 0.7)})
    assert found.dictionary.config.architecture == "batchtopk"
    assert found.dictionary.config.activation == "jumprelu"


@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("scale", [None, 2.5])
def test_checkpoint_of_batchtopk(tmp_path, rescaled, scale):
    """A scale s reads x as s·x; the threshold counts after the atoms' lengths where those are counted."""
    w, x = weights(), inputs()
    kind = "expected_average_only_in" if scale else "none"
    values = config("matryoshka_batchtopk", k=4.0, rescale_acts_by_decoder_norm=rescaled, normalize_activations=kind)
    stored = w | {"topk_threshold": torch.tensor(0.9, dtype=torch.float64)}
    folder = put(tmp_path / "sae", values, stored, weights_name=WEIGHTS)
    if scale:
        (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scale, "has_whitening": False}))
    (found,) = open_dictionary(folder)
    lengths = w["W_dec"].norm(dim=1) if rescaled else torch.ones(F)
    scaled = jump(pre_of(w, x * (scale or 1)) * lengths, 0.9)
    output = ((scaled / lengths) @ w["W_dec"] + w["b_dec"]) / (scale or 1)
    # With atoms of length one, latents are in units of raw activations; else they stay in the scaled units.
    same(found, x, scaled / ((scale or 1) if rescaled else 1), output)
    assert found.dictionary.config.architecture == "matryoshka"
    assert found.dictionary.config.k == 4


def gated_reading(w, x, centre=True):
    inner = x - w["b_dec"] if centre else x
    gate = inner @ w["W_enc"] + w["b_gate"] > 0
    return gate * (inner @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"]).relu()


def gated_weights():
    w, normal = weights(), draw(2)
    del w["b_enc"]
    return w | {"b_gate": normal(F), "b_mag": normal(F), "r_mag": normal(F) / 2}


def test_gated(tmp_path):
    w, x = gated_weights(), inputs()
    z = gated_reading(w, x)
    same(opened(tmp_path, config("gated"), w), x, z, z @ w["W_dec"] + w["b_dec"])


@pytest.mark.parametrize("jumping", [True, False])
@pytest.mark.parametrize("skips", [True, False])
def test_transcoders(tmp_path, jumping, skips):
    out, x = 4, inputs()
    w = weights(out)
    kind = ("jumprelu_" if jumping else "") + ("skip_" if skips else "") + "transcoder"
    more = {"threshold": draw(1)(F).abs()} if jumping else {}
    more |= {"W_skip": draw(3)(out, D)} if skips else {}
    values = config(kind, d_out=out, apply_b_dec_to_input=False, metadata={"hook_name_out": "blocks.3.hook_mlp_out"})
    found = opened(tmp_path, values, w | more)
    pre = pre_of(w, x, centre=False)
    z = jump(pre, more["threshold"]) if jumping else pre.relu()
    same(found, x, z, z @ w["W_dec"] + w["b_dec"] + (x @ more["W_skip"].T if skips else 0))
    neutral = found.dictionary.config
    assert neutral.architecture == ("skip-transcoder" if skips else "transcoder")
    assert (neutral.hook_in, neutral.hook_out) == ("blocks.3.hook_resid_pre", "blocks.3.hook_mlp_out")


def test_layer_norm_and_constant_norm(tmp_path):
    w, x = weights(), inputs()
    mean = x.mean(dim=1, keepdim=True)
    spread = (x - mean).std(dim=1, keepdim=True)
    z = pre_of(w, (x - mean) / (spread + 1e-5)).relu()
    values = config("standard", normalize_activations="layer_norm")
    same(opened(tmp_path / "ln", values, w), x, z, (z @ w["W_dec"] + w["b_dec"]) * spread + mean)
    gain = D**0.5 / x.norm(dim=1, keepdim=True)
    z = pre_of(w, x * gain).relu()
    values = config("standard", normalize_activations="constant_norm_rescale")
    same(opened(tmp_path / "cn", values, w), x, z, (z @ w["W_dec"] + w["b_dec"]) / gain)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("kind", ["standard", "gated"])
def test_checkpoint_on_whitened_activations(tmp_path, kind, centre):
    x, normal = inputs(), draw(4)
    w = gated_weights() if kind == "gated" else weights()
    mean, matrix = normal(D), torch.linalg.qr(normal(D, D)).Q * 1.7
    values = config(kind, normalize_activations="covariance_whitening", apply_b_dec_to_input=centre)
    folder = put(tmp_path / "sae", values, w, weights_name=WEIGHTS)
    with pytest.raises(DictionaryError, match=r"activation_whitening\.safetensors is not there"):
        open_dictionary(folder)
    inverse = torch.linalg.inv(matrix)
    save_file(
        {"mean": mean, "matrix": matrix.contiguous(), "inverse_matrix": inverse.contiguous()},
        folder / "activation_whitening.safetensors",
    )
    white = (x - mean) @ matrix
    z = gated_reading(w, white, centre) if kind == "gated" else pre_of(w, white, centre).relu()
    (found,) = open_dictionary(folder)
    same(found, x, z, (z @ w["W_dec"] + w["b_dec"]) @ inverse + mean)


def test_a_scale_that_is_not_stored_is_said(tmp_path):
    w, x = weights(), inputs()
    found = opened(tmp_path, config("standard", normalize_activations="expected_average_only_in"), w)
    z = pre_of(w, x).relu()
    same(found, x, z, z @ w["W_dec"] + w["b_dec"])
    assert "the scale is not stored" in found.facts["note"]


def flat(**more):
    values = {"d_in": D, "d_sae": F, "dtype": "float32", "hook_point": "blocks.2.attn.hook_z", "model_name": "gpt2"}
    return values | {"hook_point_head_index": None, "sae_lens_version": "5.11.0"} | more


def test_flat_layout_before_version_6(tmp_path):
    w, x = weights(), inputs()
    z = pre_of(w, x).relu()
    found = opened(tmp_path / "plain", flat(normalize_activations=False), w)
    same(found, x, z, z @ w["W_dec"] + w["b_dec"])
    assert found.dictionary.config.hook_in == "blocks.2.attn.hook_z"
    assert found.facts["reshape_activations"] == "hook_z"
    without = flat(apply_b_dec_to_input=False)
    del without["sae_lens_version"]
    z = pre_of(w, x, centre=False).relu()
    same(opened(tmp_path / "older", without, w), x, z, z @ w["W_dec"] + w["b_dec"])


def test_flat_layout_hides_topk_in_its_activation(tmp_path):
    w, x = weights(), inputs()
    values = flat(architecture="standard", activation_fn_str="topk", activation_fn_kwargs={"k": 3})
    z = top(pre_of(w, x), 3)
    same(opened(tmp_path, values, w), x, z, z @ w["W_dec"] + w["b_dec"])


def test_flat_layout_with_finetuned_factors(tmp_path):
    w, x, factor = weights(), inputs(), draw(5)(F).abs()
    z = pre_of(w, x).relu()
    found = opened(tmp_path / "a", flat(finetuning_scaling_factor=True), w | {"scaling_factor": factor})
    same(found, x, z, (z * factor) @ w["W_dec"] + w["b_dec"])
    found = opened(tmp_path / "b", flat(finetuning_scaling_factor=False), w | {"scaling_factor": torch.ones(F)})
    same(found, x, z, z @ w["W_dec"] + w["b_dec"])
    with pytest.raises(DictionaryError, match="set finetuning_scaling_factor there"):
        opened(tmp_path / "c", flat(finetuning_scaling_factor=False), w | {"scaling_factor": factor})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (config("abstopk", k=3), "architecture “abstopk”, which Superscope cannot compute; it knows standard, topk"),
        (config("temporal"), "“temporal”"),
        (config("standard", normalize_activations="batch_norm"), "normalize_activations “batch_norm”"),
        (config("topk"), "k = null, but it must be a whole number from 1 up"),
        (config("transcoder", d_out=D), "makes no sense for a transcoder"),
        (
            config("transcoder", d_out=D, apply_b_dec_to_input=False, normalize_activations="layer_norm"),
            "normalises what a transcoder reads",
        ),
        (flat(activation_fn_str="tanh-relu"), "activation_fn_str “tanh-relu”"),
        ({"d_in": D}, "d_sae = null"),
    ],
)
def test_what_cannot_be_computed_is_refused(tmp_path, values, sentence):
    with pytest.raises(DictionaryError, match=sentence):
        opened(tmp_path, values, weights())
