"""Files we write: read back equal, by the layouts that others read, whole or not at all, or refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.formats import FORMATS, open_dictionary, write
from engine.files import DiskError
from tests.engine.dictionaries.formats.readings import D, F, draw, inputs, top

HOOK = "blocks.3.hook_resid_post"


def make(activation, *, centre=True, d_out=D, skip=False, threshold=None, hook_out=HOOK, architecture="", **more):
    normal = draw()
    tensors = {"W_enc": normal(D, F), "W_dec": normal(F, d_out), "b_enc": normal(F), "b_dec": normal(d_out)}
    if threshold is None and activation == "jumprelu":
        threshold = normal(F).abs()
    if threshold is not None:
        tensors["threshold"] = threshold
    if activation == "gated":
        tensors |= {"r_mag": normal(F) / 2, "b_mag": normal(F)}
    if skip:
        tensors["W_skip"] = normal(D, d_out)
    k = 4 if "topk" in activation else None
    name = architecture or activation
    config = DictionaryConfig(name, D, d_out, F, k, centre, activation, HOOK, hook_out, "gpt2", **more)
    return Dictionary(config, **tensors)


def unit(one):
    """The same with atoms of length one."""
    lengths = one.W_dec.norm(dim=1, keepdim=True)
    return replace(one, W_dec=one.W_dec / lengths)


CONSTANT = torch.full((F,), 0.7)
CODERS = {
    "relu": make("relu"),
    "relu not centred": make("relu", centre=False),
    "relu with unit atoms": unit(make("relu")),
    "topk": make("topk"),
    "topk not centred": make("topk", centre=False),
    "batchtopk": make("batchtopk", threshold=CONSTANT),
    "batchtopk with thresholds of its own": make("batchtopk", threshold=draw(1)(F).abs()),
    "batchtopk not estimated": make("batchtopk", threshold=-torch.ones(F)),
    "jumprelu": make("jumprelu"),
    "jumprelu not centred": make("jumprelu", centre=False),
    "gated": make("gated"),
    "gated not centred": make("gated", centre=False),
    "layer norm": make("relu", normalise="layer_norm"),
    "constant norm": make("topk", normalise="constant_norm"),
}
OUT = "blocks.3.hook_mlp_out"
TRANSCODERS = {
    "relu transcoder": make("relu", centre=False, d_out=4, hook_out=OUT, architecture="transcoder"),
    "jumprelu transcoder": make("jumprelu", centre=False, hook_out=OUT, architecture="transcoder"),
    "batchtopk transcoder": make("batchtopk", centre=False, threshold=CONSTANT, hook_out=OUT),
    "topk transcoder": make("topk", centre=False, hook_out=OUT, architecture="transcoder"),
    "skip transcoder": make("relu", centre=False, d_out=4, hook_out=OUT, skip=True),
    "jumprelu skip transcoder": make("jumprelu", centre=False, hook_out=OUT, skip=True),
    "topk skip transcoder": make("topk", centre=False, hook_out=OUT, skip=True, architecture="skip-transcoder"),
    "wide topk transcoder": make("topk", centre=False, d_out=4, hook_out=OUT),
    "gated transcoder": make("gated", centre=False, hook_out=OUT),
}
EVERYTHING = CODERS | TRANSCODERS
# What each format has no way to say, and a part of the sentence for it.
REFUSED = {
    ("saelens", "batchtopk not estimated"): "has no threshold yet",
    ("saelens", "topk transcoder"): "no transcoder with the activation topk; it has relu and jumprelu. Write it as",
    ("saelens", "topk skip transcoder"): "no transcoder with the activation topk",
    ("saelens", "wide topk transcoder"): "no transcoder with the activation topk",
    ("saelens", "gated transcoder"): "no transcoder with the activation gated",
    **{("dictionary_learning", name): "has no transcoders" for name in TRANSCODERS},
    ("dictionary_learning", "layer norm"): r"cannot normalise each activation \(layer_norm\)",
    ("dictionary_learning", "constant norm"): "cannot normalise",
    **{("sparsify", name): "sparsify has only topk" for name in EVERYTHING if "topk" not in name},
    **{("sparsify", name): "only topk, and this dictionary is batchtopk" for name in EVERYTHING if "batch" in name},
    ("sparsify", "constant norm"): "cannot normalise",
    ("sparsify", "wide topk transcoder"): "reads 6 and writes 4",
}


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("format", FORMATS)
def test_written_and_read_back_it_computes_the_same_or_is_refused(tmp_path, format, name):
    one, x, place = EVERYTHING[name], inputs(), tmp_path / "place"
    folder = place / "layers.3"
    if (format, name) in REFUSED:
        with pytest.raises(DictionaryError, match=REFUSED[format, name]):
            write(one, folder, format)
        assert not place.exists()
        return
    write(one, folder, format)
    (found,) = open_dictionary(folder)
    assert found.format == format
    torch.testing.assert_close(found.dictionary.encode(x).dense(), one.encode(x).dense(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.dictionary(x), one(x), rtol=1e-5, atol=1e-5)
    assert [path.name for path in place.iterdir()] == ["layers.3"]


def test_saelens_reads_the_layout_of_version_6(tmp_path):
    one = TRANSCODERS["skip transcoder"]
    write(one, tmp_path / "sae", "saelens")
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert config["architecture"] == "skip_transcoder"
    assert (config["d_in"], config["d_out"], config["d_sae"]) == (D, 4, F)
    assert config["apply_b_dec_to_input"] is False
    assert config["metadata"]["sae_lens_version"] == "6.0.0"
    assert (config["metadata"]["hook_name"], config["metadata"]["hook_name_out"]) == (HOOK, OUT)
    tensors = load_file(tmp_path / "sae" / "sae_weights.safetensors")
    assert torch.equal(tensors["W_skip"], one.W_skip.T)
    write(CODERS["gated"], tmp_path / "gated", "saelens")
    assert set(load_file(tmp_path / "gated" / "sae_weights.safetensors")) == {
        "W_enc",
        "W_dec",
        "b_dec",
        "b_gate",
        "b_mag",
        "r_mag",
    }
    write(CODERS["batchtopk"], tmp_path / "batch", "saelens")
    assert json.loads((tmp_path / "batch" / "cfg.json").read_text())["architecture"] == "jumprelu"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("relu", "AutoEncoderNew"),  # an AutoEncoder's reader would make its atoms as long as one
        ("relu with unit atoms", "AutoEncoder"),
        ("batchtopk", "BatchTopKSAE"),
        ("batchtopk with thresholds of its own", "JumpReluAutoEncoder"),
    ],
)
def test_dictionary_learning_gets_the_class_that_computes_the_same(tmp_path, name, kind):
    write(CODERS[name], tmp_path / "one", "dictionary_learning")
    assert json.loads((tmp_path / "one" / "config.json").read_text())["trainer"]["dict_class"] == kind


def test_sparsify_is_written_as_its_own_reader_wants_it(tmp_path):
    one, x = TRANSCODERS["topk skip transcoder"], inputs()
    write(one, tmp_path / "h.3.mlp", "sparsify")
    config = json.loads((tmp_path / "h.3.mlp" / "cfg.json").read_text())
    assert config["transcode"] is config["skip_connection"] is True
    w = load_file(tmp_path / "h.3.mlp" / "sae.safetensors")
    z = top(x @ w["encoder.weight"].T + w["encoder.bias"], config["k"])
    torch.testing.assert_close(one(x), z @ w["W_dec"] + w["b_dec"] + x @ w["W_skip"].T, rtol=1e-5, atol=1e-5)


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    write(CODERS["topk"], place, "saelens")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(DictionaryError, match="There is something at"):
        write(CODERS["relu"], place, "saelens")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_an_unknown_format_and_a_disk_that_refuses_are_said(tmp_path, monkeypatch):
    with pytest.raises(DictionaryError, match="“onnx” is no format that can be written; choose saelens, "):
        write(CODERS["topk"], tmp_path / "one", "onnx")

    def full(path, content, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.files.write_bytes", full)
    with pytest.raises(DiskError, match="is full"):
        write(CODERS["topk"], tmp_path / "full" / "one", "saelens")
    assert list((tmp_path / "full").iterdir()) == []
