"""circuit-tracer's transcoders of single layers against a reading of their definition, and each trap."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.formats import open_dictionary
from tests.engine.dictionaries.formats.readings import D, F, draw, inputs, jump, same, top

CONFIG = """
model_name: google/gemma-3-1b-pt
model_kind: transcoder_set
feature_input_hook: mlp.hook_in
feature_output_hook: hook_mlp_out
scan: gemma-3-1b
"""
THRESHOLD = "activation_function.threshold"


def weights():
    normal = draw()
    return {"W_enc": normal(F, D), "W_dec": normal(F, D), "b_enc": normal(F), "b_dec": normal(D)}


def put(folder, layers, config=CONFIG):
    folder.mkdir(parents=True)
    if config:
        (folder / "config.yaml").write_text(config)
    for number, w in layers.items():
        save_file({name: value.contiguous() for name, value in w.items()}, folder / f"layer_{number}.safetensors")
    return folder


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu", "one threshold"])
def test_transcoder(tmp_path, activation, skips):
    w, x = weights(), inputs()
    pre = x @ w["W_enc"].T + w["b_enc"]
    more = {"W_skip": draw(1)(D, D)} if skips else {}
    if activation == "relu":
        z = pre.relu()
    elif activation == "topk":
        more["k"] = torch.tensor(4)
        z = top(pre, 4)
    else:
        more[THRESHOLD] = draw(2)(F).abs() if activation == "jumprelu" else torch.tensor(0.6)
        z = jump(pre, more[THRESHOLD])
    (found,) = open_dictionary(put(tmp_path / "set", {7: w | more}))
    same(found, x, z, z @ w["W_dec"] + w["b_dec"] + (x @ more["W_skip"].T if skips else 0))
    neutral = found.dictionary.config
    assert (neutral.hook_in, neutral.hook_out) == ("blocks.7.mlp.hook_in", "blocks.7.hook_mlp_out")
    assert neutral.model == "google/gemma-3-1b-pt"


def test_decoders_of_the_first_releases_are_turned(tmp_path):
    w, x = weights(), inputs()
    turned = w | {"W_dec": w["W_dec"].T}
    (found,) = open_dictionary(put(tmp_path / "set", {0: turned}, config="") / "layer_0.safetensors")
    z = (x @ w["W_enc"].T + w["b_enc"]).relu()
    same(found, x, z, z @ w["W_dec"] + w["b_dec"])


def test_layers_come_in_their_order(tmp_path):
    found = open_dictionary(put(tmp_path / "set", dict.fromkeys((10, 2, 0), weights())))
    assert [one.name for one in found] == ["layer 0", "layer 2", "layer 10"]


def test_what_cannot_be_computed_is_refused(tmp_path):
    crossing = CONFIG.replace("transcoder_set", "cross_layer_transcoder")
    with pytest.raises(DictionaryError, match="model_kind “cross_layer_transcoder”"):
        open_dictionary(put(tmp_path / "kind", {0: weights()}, crossing))
    place = put(tmp_path / "clt", {}, crossing)
    save_file({"W_enc_0": torch.zeros(F, D)}, place / "W_enc_0.safetensors")
    with pytest.raises(DictionaryError, match="holds a cross-layer transcoder"):
        open_dictionary(place)
    with pytest.raises(DictionaryError, match="thresholds below zero"):
        open_dictionary(put(tmp_path / "below", {0: weights() | {THRESHOLD: -torch.ones(F)}}))
    with pytest.raises(DictionaryError, match=r"config\.yaml is cut short or damaged"):
        open_dictionary(put(tmp_path / "code", {0: weights()}, "!!python/object/apply:os.system ['true']"))
