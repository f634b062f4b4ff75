"""Passes that share what edits do not reach: the same logits as whole passes, with fewer of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.geometry import number_passes
from engine.geometry.number_passes import passes
from engine.geometry.number_reading import Prefixes, read_prefixes
from engine.models.capture import capture
from engine.models.editing import Edit, edited_logits
from engine.models.errors import ModelError
from engine.models.opening import open_model

ENDS = np.array([8, 6, 7, 8, 6])
POSITIONS = np.array([5, 4, 6, 5, 4])


@pytest.fixture(scope="module")
def model(tiny_hf):
    return open_model(str(tiny_hf), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def ids(model):
    found = np.random.default_rng(0).integers(3, model.facts.vocabulary, (5, 9))
    found[:, :3] = found[0, :3]
    return found


def doubled(rows):
    size = torch.from_numpy(1.0 + rows)[:, None].float()
    return lambda x: x * size


def moved(rows):
    return lambda x: x + 1


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"])
@pytest.mark.parametrize("batch", [2, 32])
def test_logits_are_those_of_whole_passes(model, ids, hook, batch, monkeypatch):
    monkeypatch.setattr(number_passes, "BATCH", batch)
    found = np.zeros((3, 5, model.facts.vocabulary), np.float32)
    for rows, number, logits in passes(model, ids, ENDS, hook=hook, positions=POSITIONS, changes=[doubled, moved]):
        found[number, rows] = logits.numpy()
    where = torch.from_numpy(np.arange(9) == POSITIONS[:, None])
    every = np.arange(5)
    edits = [[], [Edit(hook, doubled(every), where)], [Edit(hook, moved(every), where)]]
    expected = [
        edited_logits(model, torch.from_numpy(ids), one)[torch.arange(5), torch.from_numpy(ENDS)] for one in edits
    ]
    np.testing.assert_allclose(found, torch.stack(expected).numpy(), atol=2e-4)


def test_what_prompts_share_runs_once(model, ids, monkeypatch):
    widths = []
    plain = model.plain
    list(passes(model, ids, ENDS, hook="blocks.0.hook_resid_post", positions=POSITIONS, changes=[moved]))  # probed
    inner = plain._logits
    monkeypatch.setattr(plain, "_logits", lambda tokens, *how: widths.append(tokens.shape) or inner(tokens, *how))
    list(passes(model, ids, ENDS, hook="blocks.0.hook_resid_post", positions=POSITIONS, changes=[moved, doubled]))
    assert widths == [(1, 3), *[(5, 6)] * 3]


def test_prompts_longer_than_the_context_are_refused(model):
    long = np.full((1, model.facts.context + 1), 5)
    with pytest.raises(ModelError, match="reads at most"):
        list(passes(model, long, np.array([model.facts.context])))


def test_prompts_that_begin_alike_are_read_once(model, ids):
    twice = np.concatenate([ids, ids])
    twice[5:, 7:] = 4  # behind all positions that are read
    found = Prefixes.of(twice, np.tile(POSITIONS, 2))
    assert len(found.ids) == 5
    assert found.first.tolist() == list(range(5))
    assert found.index.tolist() == [*range(5), *range(5)]
    hooks = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    whole = {hook: [] for hook in hooks}
    for rows, activations in capture(model, twice, hooks):
        for hook in hooks:
            places = np.tile(POSITIONS, 2)[rows]
            whole[hook].append(activations[hook][np.arange(len(places)), places].numpy())
    for hook, x in read_prefixes(model, found, hooks):
        np.testing.assert_allclose(x[found.index], np.concatenate(whole[hook]), atol=1e-5)
