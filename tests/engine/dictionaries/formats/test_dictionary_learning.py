"""dictionary_learning: every class against a reading of its definition, and each trap."""

from __future__ import annotations

import json

import pytest
import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.formats import open_dictionary
from tests.engine.dictionaries.formats.readings import D, F, draw, inputs, jump, same, top


def linear(kind=None, unit=True):
    """Weights as its linear layers hold them; ``kind`` names the biases."""
    normal = draw()
    w = {"encoder.weight": normal(F, D), "decoder.weight": normal(D, F)}
    if unit:
        w["decoder.weight"] = w["decoder.weight"] / w["decoder.weight"].norm(dim=0)
    return w | {"encoder.bias": normal(F), kind or "b_dec": normal(D)}


def topk_family(k=4, threshold=-1.0):
    return linear() | {"k": torch.tensor(k, dtype=torch.int32), "threshold": torch.tensor(threshold)}


def put(folder, kind, state, **trainer):
    folder.mkdir(parents=True)
    values = {
        "dict_class": kind,
        "layer": 3,
        "lm_name": "EleutherAI/pythia-70m",
        "submodule_name": "resid_post_layer_3",
    }
    (folder / "config.json").write_text(json.dumps({"trainer": values | trainer, "buffer": {}}))
    torch.save(state, folder / "ae.pt")
    return folder


def opened(tmp_path, kind, state, **trainer):
    (found,) = open_dictionary(put(tmp_path / "trainer_0", kind, state, **trainer))
    assert found.format == "dictionary_learning"
    return found


def test_autoencoder_with_atoms_of_length_one(tmp_path):
    w, x = linear("bias"), inputs()
    z = ((x - w["bias"]) @ w["encoder.weight"].T + w["encoder.bias"]).relu()
    found = opened(tmp_path, "AutoEncoder", w)
    same(found, x, z, z @ w["decoder.weight"].T + w["bias"])
    assert "renormalised" not in found.facts
    assert found.dictionary.config.model == "EleutherAI/pythia-70m"


def test_autoencoder_is_renormalised_as_its_own_reader_does(tmp_path):
    w, x = linear("bias", unit=False), inputs()
    lengths = w["decoder.weight"].norm(dim=0)
    z = ((x - w["bias"]) @ (w["encoder.weight"] * lengths[:, None]).T + w["encoder.bias"] * lengths).relu()
    found = opened(tmp_path, "AutoEncoder", w)
    same(found, x, z, z @ (w["decoder.weight"] / lengths).T + w["bias"])
    torch.testing.assert_close(found.dictionary.W_dec.norm(dim=1), torch.ones(F))


def test_autoencoder_new_neither_centres_nor_renormalises(tmp_path):
    w, x = linear("decoder.bias", unit=False), inputs()
    z = (x @ w["encoder.weight"].T + w["encoder.bias"]).relu()
    same(opened(tmp_path, "AutoEncoderNew", w), x, z, z @ w["decoder.weight"].T + w["decoder.bias"])


def test_gated(tmp_path):
    normal, x = draw(1), inputs()
    w = linear("decoder_bias")
    del w["encoder.bias"]
    w |= {"r_mag": normal(F) / 2, "gate_bias": normal(F), "mag_bias": normal(F)}
    product = (x - w["decoder_bias"]) @ w["encoder.weight"].T
    z = (product + w["gate_bias"] > 0) * (w["r_mag"].exp() * product + w["mag_bias"]).relu()
    same(opened(tmp_path, "GatedAutoEncoder", w), x, z, z @ w["decoder.weight"].T + w["decoder_bias"])


def test_jumprelu_does_not_centre(tmp_path):
    normal, x = draw(2), inputs()
    w = {"W_enc": normal(D, F), "b_enc": normal(F), "W_dec": normal(F, D), "b_dec": normal(D)}
    w["threshold"] = normal(F).abs()
    z = jump(x @ w["W_enc"] + w["b_enc"], w["threshold"])
    same(opened(tmp_path, "JumpReluAutoEncoder", w), x, z, z @ w["W_dec"] + w["b_dec"])


@pytest.mark.parametrize("threshold", [-1.0, 0.8])
def test_topk_encodes_each_activation_whatever_threshold_it_stores(tmp_path, threshold):
    w, x = topk_family(threshold=threshold), inputs()
    z = top((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"], 4)
    same(opened(tmp_path, "AutoEncoderTopK", w, k=4), x, z, z @ w["decoder.weight"].T + w["b_dec"])


def matryoshka(w):
    names = {"encoder.weight": "W_enc", "decoder.weight": "W_dec", "encoder.bias": "b_enc"}
    turned = {names.get(name, name): value.T.contiguous() if value.ndim == 2 else value for name, value in w.items()}
    return turned | {"group_sizes": torch.tensor([4, 6, 10])}


@pytest.mark.parametrize("kind", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_batchtopk_with_its_threshold(tmp_path, kind):
    w, x = topk_family(threshold=0.8), inputs()
    z = jump((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"], 0.8)
    state = matryoshka(w) if kind.startswith("M") else w
    found = opened(tmp_path, kind, state, k=4)
    same(found, x, z, z @ w["decoder.weight"].T + w["b_dec"])
    assert found.facts.get("group_sizes") == ([4, 6, 10] if kind.startswith("M") else None)


def test_batchtopk_whose_threshold_was_never_estimated_takes_the_largest_of_the_batch(tmp_path):
    w, x = topk_family(threshold=-1.0), inputs()
    pre = ((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]).relu()
    kept = pre.flatten().topk(4 * len(x))
    z = torch.zeros(pre.numel()).scatter(0, kept.indices, kept.values).view_as(pre)
    found = opened(tmp_path, "BatchTopKSAE", w, k=4)
    same(found, x, z, z @ w["decoder.weight"].T + w["b_dec"])
    assert "never estimated" in found.facts["note"]


def test_a_run_folder_gives_its_trainers_and_a_checkpoint_opens_by_itself(tmp_path):
    first = put(tmp_path / "run" / "trainer_0", "AutoEncoderTopK", topk_family(4), k=4)
    put(tmp_path / "run" / "trainer_1", "AutoEncoderTopK", topk_family(7), k=7)
    (first / "checkpoints").mkdir()
    torch.save(topk_family(2), first / "checkpoints" / "ae_100.pt")
    found = open_dictionary(tmp_path / "run")
    assert [(one.name, one.dictionary.config.k) for one in found] == [("trainer_0", 4), ("trainer_1", 7)]
    (early,) = open_dictionary(first / "checkpoints" / "ae_100.pt")
    assert early.dictionary.config.k == 2


def test_a_backup_of_unfinished_training_is_refused(tmp_path):
    backup = {"step": 100, "ae": linear(), "optimizer": {"state": {}}, "config": {}, "norm_factor": 2.0}
    with pytest.raises(DictionaryError, match="backup of unfinished training"):
        opened(tmp_path, "AutoEncoderTopK", backup, k=4)


@pytest.mark.parametrize(
    ("kind", "state", "sentence"),
    [
        ("CrossCoder", linear(), "dict_class “CrossCoder”, which Superscope cannot compute; it knows AutoEncoder, "),
        ("AutoEncoder", linear("b_dec"), "The tensor bias is missing in .*; it has b_dec, decoder.weight, encoder"),
        ("BatchTopKSAE", linear(), "The tensor threshold is missing"),
        ("AutoEncoderTopK", linear(), "k = null"),
        ("AutoEncoder", {"weights": [1, 2]}, "does not hold tensors by name"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, kind, state, sentence):
    with pytest.raises(DictionaryError, match=sentence):
        opened(tmp_path, kind, state)
