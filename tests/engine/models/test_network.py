"""Toy networks: what they compute against plain numpy, their hook points, and what is refused of a stored one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from engine.models.errors import ModelError
from engine.models.hooks import list_hook_points
from engine.models.network import Network, Stage, load_network, save_network

RANDOM = np.random.default_rng(0)
SAMPLES = np.where(RANDOM.random((30, 5)) < 0.4, RANDOM.random((30, 5)), 0).astype(np.float32)
W, V, B = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((5, 3), (3, 7), (7,)))
L, R = RANDOM.normal(size=(2, 5, 4)).astype(np.float32)
NAMES = tuple("abcde")


def loaded(stages: list[Stage], weights: dict[str, Any]) -> Any:
    attributes, arrays = save_network(Network(stages, weights, SAMPLES, NAMES), reference="toy:x-1")
    return load_network(attributes, arrays)


def outputs(bridge: Any) -> Any:
    return bridge(torch.arange(30).reshape(5, 6)).reshape(30, -1).numpy()


def test_tied_weights_biases_and_relu_compute_what_numpy_does() -> None:
    stages = [
        Stage(name="hidden", weight="W"),
        Stage(name="out", weight="W", bias="b", transpose=True, activation="relu"),
    ]
    bias = RANDOM.normal(size=5).astype(np.float32)
    found = outputs(loaded(stages, {"W": W, "b": bias}))
    assert found == pytest.approx(np.maximum(SAMPLES @ W @ W.T + bias, 0), abs=1e-6)


def test_a_bilinear_stage_multiplies_two_projections() -> None:
    found = outputs(loaded([Stage(name="products", weight="L", times="R")], {"L": L, "R": R}))
    assert found == pytest.approx((SAMPLES @ L) * (SAMPLES @ R), abs=1e-6)


def test_later_stages_read_and_add_earlier_values_by_name() -> None:
    stages = [
        Stage(name="first", weight="W", activation="relu"),
        Stage(name="sum", weight="V", bias="b"),
        Stage(name="second", weight="W", of="inputs", activation="relu", layer=1),
        Stage(name="total", weight="V", plus="sum", layer=1),
    ]
    hidden = np.maximum(SAMPLES @ W, 0)
    found = outputs(loaded(stages, {"W": W, "V": V, "b": B}))
    assert found == pytest.approx(2 * hidden @ V + B, abs=1e-5)


def test_hook_points_give_every_value_and_an_edit_reaches_the_output() -> None:
    bridge = loaded(
        [Stage(name="hidden", weight="W", activation="relu"), Stage(name="out", weight="V")], {"W": W, "V": V}
    )
    points = {point.name: point for point in list_hook_points(bridge)}
    assert points["blocks.0.hook_hidden"].width == 3
    assert points["blocks.0.hook_out"].width == 7
    assert points["embed.hook_out"].width == 5
    ids = torch.arange(12).reshape(2, 6)
    _, cache = bridge.run_with_cache(ids, return_cache_object=False)
    before = (SAMPLES[:12] @ W).reshape(2, 6, 3)
    assert cache["blocks.0.hook_hidden_pre"].numpy() == pytest.approx(before, abs=1e-6)
    assert cache["blocks.0.hook_hidden"].numpy() == pytest.approx(np.maximum(before, 0), abs=1e-6)
    edited = bridge.run_with_hooks(ids, fwd_hooks=[("blocks.0.hook_hidden", lambda value, hook: value * 0 + 1)])
    assert edited.numpy() == pytest.approx(np.broadcast_to(V.sum(axis=0), (2, 6, 7)), abs=1e-5)


def test_samples_are_named_by_what_is_in_them_and_read_by_number() -> None:
    bridge = loaded([Stage(name="hidden", weight="W")], {"W": W})
    row = int(np.flatnonzero((SAMPLES != 0).sum(axis=1) == 2)[0])
    largest = [NAMES[part] for part in np.argsort(-SAMPLES[row])[:2]]
    assert bridge.tokenizer.decode([row]) == f" {{{' '.join(largest)}}}"
    assert bridge.tokenizer.encode("#3, 4  29") == [3, 4, 29]
    for wrong in ("30", "anna", "-1", "٣"):
        with pytest.raises(ModelError, match="reads numbers from 0 to 29"):
            bridge.tokenizer.encode(wrong)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a, w: w.pop("W"), "The weight W of this toy network is missing"),
        (lambda a, w: w.update(W=W.T), "which does not take 5 values"),
        (lambda a, w: w.update(W=np.full((5, 3), np.nan)), "no finite numbers"),
        (lambda a, w: w.update(b=B[:2]), "does not have 7 values"),
        (lambda a, w: w.pop("inputs"), "no table of inputs"),
        (lambda a, w: w.update(inputs=SAMPLES[:, :4]), "one name for each part"),
        (lambda a, w: a["stages"][1].update(of="nothing"), "reads a value that is not there"),
        (lambda a, w: a["stages"][1].update(name="hidden"), "reads a value that is not there"),
        (lambda a, w: a["stages"][1].update(plus="hidden"), "adds values of another width"),
        (lambda a, w: a["stages"][1].update(times="W"), "does not take 3 values"),
        (lambda a, w: a["stages"][0].update(activation="exec"), "description is wrong at stages.0.activation"),
        (lambda a, w: a["stages"][0].update(name="__class__"), "description is wrong at stages.0.name"),
        (lambda a, w: a.update(stages=[]), "description is wrong at stages"),
        (lambda a, w: a.pop("input_names"), "description is wrong at input_names"),
    ],
)
def test_a_stored_network_that_does_not_hold_together_is_refused_in_a_sentence(change: Any, sentence: str) -> None:
    stages = [Stage(name="hidden", weight="W"), Stage(name="out", weight="V", bias="b")]
    attributes, arrays = save_network(Network(stages, {"W": W, "V": V, "b": B}, SAMPLES, NAMES))
    arrays = dict(arrays)
    change(attributes, arrays)
    with pytest.raises(ModelError, match=sentence):
        load_network(attributes, arrays)
