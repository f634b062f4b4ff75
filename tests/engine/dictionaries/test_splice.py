"""Splicing against knowable dictionaries: identity, zero, mean; and the hook point that is only an alias."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.dictionaries import splice
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.splice import evaluate, splicing
from engine.models.capture import capture

HOOK = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def ids():
    found = np.random.default_rng(0).integers(3, 290, size=(5, 20))
    found[:, 0] = 0  # BOS
    return found


@pytest.fixture(scope="module")
def counted(ids):
    found = np.ones(ids.shape, dtype=bool)
    found[:, 0] = False
    found[4, 12:] = False
    return found


@pytest.fixture(scope="module")
def x(tiny, ids, counted):
    [(_, found)] = capture(tiny, ids, [HOOK], batch=8)
    return found[HOOK][torch.from_numpy(counted)]


def dictionary(width, k, W_enc, W_dec, b_dec, hook=HOOK):
    d = len(b_dec)
    config = DictionaryConfig("topk", d, d, width, k, False, "topk", hook, hook, "tiny")
    return Dictionary(config, W_enc, W_dec, torch.zeros(width), b_dec)


def identity(d):
    """Positive and negative part of each dimension, all active: rebuilds exactly."""
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    return dictionary(2 * d, 2 * d, both.T.contiguous(), both, torch.zeros(d))


def constant(value):
    d = len(value)
    return dictionary(8, 2, torch.randn(d, 8), torch.zeros(8, d), value)


def test_the_identity_recovers_everything(tiny, ids, counted, x):
    found = evaluate(tiny, HOOK, identity(32), ids, counted, x.mean(dim=0))
    assert found.recovery.ce_recovered == pytest.approx(1, abs=1e-5)
    assert found.recovery.ce_recovered_mean == pytest.approx(1, abs=1e-5)
    assert found.recovery.values()["kl"] == pytest.approx(0, abs=1e-5)
    assert found.fit.fvu < 1e-10
    assert found.fit.variation.count == counted.sum()
    assert found.l0 == pytest.approx(32)


def test_the_zero_dictionary_recovers_nothing(tiny, ids, counted, x):
    found = evaluate(tiny, HOOK, constant(torch.zeros(32)), ids, counted, x.mean(dim=0))
    assert found.recovery.ce_recovered == 0
    np.testing.assert_array_equal(found.recovery.spliced, found.recovery.zero)
    assert not np.allclose(found.recovery.zero, found.recovery.clean)


def test_the_mean_recovers_nothing_of_mean_ablation_and_explains_no_variance(tiny, ids, counted, x):
    mean = x.mean(dim=0)
    found = evaluate(tiny, HOOK, constant(mean), ids, counted, mean)
    assert found.recovery.ce_recovered_mean == pytest.approx(0, abs=1e-6)
    assert found.fit.fvu == pytest.approx(1, abs=1e-6)


def test_clean_cross_entropy_equals_that_of_the_model_itself(tiny, ids, counted, x):
    found = evaluate(tiny, HOOK, identity(32), ids, counted, x.mean(dim=0)).recovery
    with torch.no_grad():
        logits = tiny.bridge(torch.from_numpy(ids), return_type="logits")
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), torch.from_numpy(ids[:, 1:]).flatten(), reduction="none"
    ).view(5, 19)
    predicts = torch.from_numpy(counted[:, :-1] & counted[:, 1:])
    np.testing.assert_allclose(found.clean, (losses * predicts).sum(dim=1).numpy(), rtol=1e-5)
    np.testing.assert_array_equal(found.tokens, predicts.sum(dim=1).numpy())


def test_results_do_not_depend_on_the_batch(tiny, ids, counted, x, monkeypatch):
    rebuilt = dictionary(16, 4, torch.randn(32, 16), torch.randn(16, 32), x.mean(dim=0))
    together = evaluate(tiny, HOOK, rebuilt, ids, counted, x.mean(dim=0))
    monkeypatch.setattr(splice, "LOGITS", 1)
    single = evaluate(tiny, HOOK, rebuilt, ids, counted, x.mean(dim=0))
    for name in ("tokens", "clean", "spliced", "zero", "mean", "kl"):
        np.testing.assert_allclose(getattr(single.recovery, name), getattr(together.recovery, name), rtol=1e-4)
    assert single.fit.fvu == pytest.approx(together.fit.fvu, rel=1e-5)
    np.testing.assert_array_equal(single.active, together.active)


def test_a_context_without_predictions_that_count_is_left_out(tiny, ids, counted, x):
    fewer = counted.copy()
    fewer[2] = False
    found = evaluate(tiny, HOOK, identity(32), ids, fewer, x.mean(dim=0))
    assert len(found.recovery.tokens) == 4
    assert (found.recovery.tokens > 0).all()


def run(model, ids, hooks, read):
    """Activations of hook point ``read`` while ``hooks`` are in place."""
    seen = []
    reading = (read, lambda activations, hook=None: seen.append(activations.clone()))
    with torch.no_grad():
        model.bridge.run_with_hooks(torch.from_numpy(ids), fwd_hooks=[*hooks, reading])
    return seen[-1]


def test_bos_keeps_its_own_activation(tiny, ids, counted):
    counts = torch.from_numpy(counted)
    hooks = splicing(HOOK, lambda x: splice._placed(x, counts, torch.zeros(32)))
    clean, edited = run(tiny, ids, [], "blocks.1.hook_resid_pre"), run(tiny, ids, hooks, "blocks.1.hook_resid_pre")
    assert torch.equal(edited[:, 0], clean[:, 0])
    assert edited[counts].abs().max() == 0
    assert torch.equal(edited[~counts], clean[~counts])


def test_splicing_at_resid_mid_changes_the_residual_stream(tiny, ids):
    # Without norm biases a residual stream of zero stays zero through the MLP branch.
    hooks = splicing("blocks.0.hook_resid_mid", torch.zeros_like)
    assert run(tiny, ids, hooks, "blocks.0.hook_resid_post").abs().max() < 1e-5
    alias = [("blocks.0.hook_resid_mid", lambda x, hook=None: torch.zeros_like(x))]
    assert run(tiny, ids, alias, "blocks.0.hook_resid_post").abs().max() > 0.1


def test_leaving_resid_mid_as_it_is_changes_nothing(tiny, ids):
    hooks = splicing("blocks.1.hook_resid_mid", lambda x: x.clone())
    clean = run(tiny, ids, [], "blocks.1.hook_resid_post")
    torch.testing.assert_close(run(tiny, ids, hooks, "blocks.1.hook_resid_post"), clean)


def test_heads_are_flattened_and_put_back(tiny, ids):
    shapes = []

    def replace(x):
        shapes.append(tuple(x.shape))
        return torch.zeros_like(x)

    assert run(tiny, ids, splicing("blocks.0.attn.hook_z", replace), "blocks.0.hook_attn_out").abs().max() == 0
    assert shapes == [(5, 20, 32)]
