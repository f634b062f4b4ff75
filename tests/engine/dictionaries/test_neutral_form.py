"""The neutral form of a dictionary: forward of every activation, round trip, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import ACTIVATIONS, Dictionary, DictionaryConfig, read

HOOK = "blocks.0.hook_out"
D_IN, D_OUT, WIDTH = 6, 5, 40


def some(activation="topk", k=3, centre=True, d_out=D_IN, skip=False, calibrated=True, normalise="none"):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    config = DictionaryConfig("any", D_IN, d_out, WIDTH, k, centre, activation, HOOK, HOOK, "demo", normalise=normalise)
    more = {}
    if activation in ("jumprelu", "batchtopk"):
        more["threshold"] = normal(WIDTH).abs() if calibrated else -torch.ones(WIDTH)
    if activation == "gated":
        more |= {"r_mag": normal(WIDTH) / 3, "b_mag": normal(WIDTH)}
    if skip:
        more["W_skip"] = normal(D_IN, d_out)
    return Dictionary(config, normal(D_IN, WIDTH), normal(WIDTH, d_out), normal(WIDTH), normal(d_out), **more)


def inputs(count=50):
    return torch.randn(count, D_IN, generator=torch.Generator().manual_seed(1)) * 2 + 0.3


def dense_code(one, x):
    """The latents (n, width) by the formulas as they are written down, all dense."""
    config = one.config
    inner = x - one.b_dec if config.centre else x
    product = inner @ one.W_enc
    pre = product + one.b_enc
    if config.activation == "relu":
        return pre.relu()
    if config.activation == "topk":
        top = pre.topk(config.k, dim=1)
        return torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    if config.activation == "gated":
        return (pre > 0) * (product * one.r_mag.exp() + one.b_mag).relu()
    if config.activation == "batchtopk" and not one.calibrated:
        flat = pre.relu().flatten()
        top = flat.topk(config.k * len(x))
        return torch.zeros_like(flat).scatter(0, top.indices, top.values).view_as(pre)
    return pre.relu() * (pre > one.threshold)


CASES = {
    "relu": some("relu", k=None),
    "topk": some("topk"),
    "topk not centred": some("topk", centre=False),
    "batchtopk": some("batchtopk"),
    "batchtopk never estimated": some("batchtopk", calibrated=False),
    "jumprelu": some("jumprelu", k=None, centre=False),
    "jumprelu with thresholds below zero": some("jumprelu", k=None, calibrated=False),
    "gated": some("gated", k=None),
    "transcoder": some("topk", centre=False, d_out=D_OUT),
    "skip transcoder": some("relu", k=None, centre=False, d_out=D_OUT, skip=True),
    "square skip transcoder": some("batchtopk", skip=True),
}


@pytest.mark.parametrize("case", CASES)
def test_forward_is_the_stated_formula(case):
    one, x = CASES[case], inputs()
    code = dense_code(one, x)
    skipped = x @ one.W_skip if one.W_skip is not None else 0
    torch.testing.assert_close(one.encode(x).dense(), code)
    torch.testing.assert_close(one(x), code @ one.W_dec + one.b_dec + skipped)
    assert (one.encode(x).values > 0).all()


def test_layer_norm_is_undone_after_decoding():
    one, x = some("relu", k=None, normalise="layer_norm"), inputs()
    mean = x.mean(dim=1, keepdim=True)
    spread = ((x - mean).square().sum(dim=1, keepdim=True) / (D_IN - 1)).sqrt()
    plain = replace(one, config=replace(one.config, normalise="none"))
    inner = (x - mean) / (spread + 1e-5)
    torch.testing.assert_close(one.encode(x).dense(), dense_code(plain, inner))
    torch.testing.assert_close(one(x), (dense_code(plain, inner) @ one.W_dec + one.b_dec) * spread + mean)


def test_constant_norm_is_undone_after_decoding():
    one, x = some("topk", normalise="constant_norm"), inputs()
    gain = (D_IN / x.square().sum(dim=1, keepdim=True)).sqrt()
    plain = replace(one, config=replace(one.config, normalise="none"))
    torch.testing.assert_close(one(x), (dense_code(plain, x * gain) @ one.W_dec + one.b_dec) / gain)
    assert torch.isfinite(one(torch.zeros(1, D_IN))).all()


def test_exactly_k_latents_are_active_where_enough_are_positive():
    one, x = some(k=5), inputs(200)
    positive = ((x - one.b_dec) @ one.W_enc + one.b_enc > 0).sum(dim=1)
    assert torch.equal(one.encode(x).l0, positive.clamp_max(5))
    assert (one.encode(x).l0 == 5).any()


@pytest.mark.parametrize("case", CASES)
def test_what_is_stored_reads_back_equal(case):
    one, x = CASES[case], inputs()
    again = read(json.loads(json.dumps(one.attributes())), one.arrays())
    assert again.config == one.config
    assert torch.equal(one(x), again(x))
    assert torch.equal(one.to("cpu")(x), one(x))


def test_configs_of_earlier_sessions_still_read():
    one = some()
    config = {name: value for name, value in one.attributes()["config"].items() if name != "normalise"}
    assert read({"config": config}, one.arrays()).config == one.config


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_activation_gives_no_latents(activation):
    one = some(activation)
    assert len(one.encode(torch.empty(0, D_IN))) == 0
    assert one(torch.empty(0, D_IN)).shape == (0, D_IN)


def test_what_needs_its_input_back_says_so():
    one = CASES["skip transcoder"]
    with pytest.raises(DictionaryError, match="only together with the activations"):
        one.decode(one.encode(inputs()))


def test_odd_configs_and_tensors_are_refused_by_name():
    one = some()
    attributes, arrays = one.attributes(), one.arrays()
    with pytest.raises(DictionaryError, match=r"W_dec has shape \(6, 40\), but its config asks for \(40, 6\)"):
        read(attributes, arrays | {"W_dec": arrays["W_dec"].T})
    with pytest.raises(DictionaryError, match="tensor b_enc is missing"):
        read(attributes, {name: array for name, array in arrays.items() if name != "b_enc"})
    with pytest.raises(DictionaryError, match="lacks or does not know hook_in"):
        read({"config": {name: value for name, value in attributes["config"].items() if name != "hook_in"}}, arrays)
    with pytest.raises(DictionaryError, match="lacks or does not know colour"):
        read({"config": attributes["config"] | {"colour": 3}}, arrays)
    broken = arrays["W_enc"].copy()
    broken[2, 3] = float("inf")
    with pytest.raises(DictionaryError, match="W_enc is not finite in 1 of its 240 entries"):
        read(attributes, arrays | {"W_enc": broken})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"activation": "softmax"}, "“softmax”, which this version cannot compute"),
        ({"activation": "jumprelu"}, "tensor threshold is missing, which the activation “jumprelu” needs"),
        ({"activation": "gated"}, "tensor r_mag is missing"),
        ({"k": 41}, "k = 41, but k must lie between 1 and 40"),
        ({"k": None}, "“topk”, but its config has no k"),
        ({"activation": "batchtopk", "k": None}, "“batchtopk”, but its config has no k"),
        ({"normalise": "whitening"}, "“whitening”, which this version cannot compute"),
        ({"k": 2.5}, "k = 2.5, but k must be a whole number"),
        ({"d_in": "6"}, "d_in is 6, but it must be at least 1"),
        ({"activation": ["topk"]}, "which this version cannot compute"),
        ({"width": 0}, "width is 0, but it must be at least 1"),
        ({"d_out": 5}, "it reads 6 numbers and writes 5"),
    ],
)
def test_configs_that_make_no_sense_are_refused(changes, sentence):
    one = some()
    with pytest.raises(DictionaryError, match=sentence):
        Dictionary(replace(one.config, **changes), **one.tensors())


def test_tensors_that_an_activation_does_not_know_are_refused():
    one = some("relu")
    with pytest.raises(DictionaryError, match="has a tensor threshold, which the activation “relu” does not know"):
        Dictionary(one.config, **one.tensors(), threshold=torch.ones(WIDTH))
    normalised = replace(one.config, normalise="layer_norm")
    with pytest.raises(DictionaryError, match="cannot go together"):
        Dictionary(normalised, **one.tensors(), W_skip=torch.ones(D_IN, D_IN))
