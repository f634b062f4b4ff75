"""The neutral form of a dictionary: forward, round trip, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig, read


def some(k=3, centre=True):
    generator = torch.Generator().manual_seed(0)
    config = DictionaryConfig("topk", 6, 6, 40, k, centre, "topk", "blocks.0.hook_out", "blocks.0.hook_out", "demo")
    shapes = [(6, 40), (40, 6), (40,), (6,)]
    return Dictionary(config, *(torch.randn(shape, generator=generator) for shape in shapes))


@pytest.mark.parametrize("centre", [True, False])
def test_forward_is_the_stated_formula(centre):
    one = some(centre=centre)
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    pre = (x - one.b_dec if centre else x) @ one.W_enc + one.b_enc
    top = pre.topk(3, dim=1)
    code = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    torch.testing.assert_close(one.encode(x).dense(), code)
    torch.testing.assert_close(one(x), code @ one.W_dec + one.b_dec)


def test_exactly_k_latents_are_active_where_enough_are_positive():
    one = some(k=5)
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(2)) * 3
    positive = ((x - one.b_dec) @ one.W_enc + one.b_enc > 0).sum(dim=1)
    assert torch.equal(one.encode(x).l0, positive.clamp_max(5))
    assert (one.encode(x).l0 == 5).any()


def test_what_is_stored_reads_back_equal():
    one = some()
    again = read(json.loads(json.dumps(one.attributes())), one.arrays())
    assert again.config == one.config
    x = torch.randn(10, 6)
    assert torch.equal(one(x), again(x))
    assert torch.equal(one.to("cpu")(x), one(x))


def test_no_activation_gives_no_latents():
    one = some()
    assert len(one.encode(torch.empty(0, 6))) == 0
    assert one(torch.empty(0, 6)).shape == (0, 6)


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
    with pytest.raises(DictionaryError, match="“relu”"):
        read({"config": attributes["config"] | {"activation": "relu"}}, arrays)
    with pytest.raises(DictionaryError, match="k = 41, but k must lie between 1 and 40"):
        read({"config": attributes["config"] | {"k": 41}}, arrays)
