"""Splicing against knowable dictionaries: identity, zero, mean; and the hook point that is only an alias."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.dictionaries import splice
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.splice import Probe, evaluate
from engine.models.capture import capture
from engine.models.editing import splicing

HOOK = "blocks.0.hook_resid_post"
MLP = ("blocks.0.ln2.hook_out", "blocks.0.hook_mlp_out")


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
    found = evaluate(tiny, identity(32), ids, counted, x.mean(dim=0))
    assert found.recovery.ce_recovered == pytest.approx(1, abs=1e-5)
    assert found.recovery.ce_recovered_mean == pytest.approx(1, abs=1e-5)
    assert found.recovery.values()["kl"] == pytest.approx(0, abs=1e-5)
    assert found.fit.fvu < 1e-10
    assert found.fit.variation.count == counted.sum()
    assert found.l0 == pytest.approx(32)


def test_the_zero_dictionary_recovers_nothing(tiny, ids, counted, x):
    found = evaluate(tiny, constant(torch.zeros(32)), ids, counted, x.mean(dim=0))
    assert found.recovery.ce_recovered == 0
    np.testing.assert_array_equal(found.recovery.spliced, found.recovery.zero)
    assert not np.allclose(found.recovery.zero, found.recovery.clean)


def test_the_mean_recovers_nothing_of_mean_ablation_and_explains_no_variance(tiny, ids, counted, x):
    mean = x.mean(dim=0)
    found = evaluate(tiny, constant(mean), ids, counted, mean)
    assert found.recovery.ce_recovered_mean == pytest.approx(0, abs=1e-6)
    assert found.fit.fvu == pytest.approx(1, abs=1e-6)


def test_clean_cross_entropy_equals_that_of_the_model_itself(tiny, ids, counted, x):
    found = evaluate(tiny, identity(32), ids, counted, x.mean(dim=0)).recovery
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
    together = evaluate(tiny, rebuilt, ids, counted, x.mean(dim=0))
    monkeypatch.setattr(splice, "LOGITS", 1)
    single = evaluate(tiny, rebuilt, ids, counted, x.mean(dim=0))
    for name in ("tokens", "clean", "spliced", "zero", "mean", "kl"):
        np.testing.assert_allclose(getattr(single.recovery, name), getattr(together.recovery, name), rtol=1e-4)
    assert single.fit.fvu == pytest.approx(together.fit.fvu, rel=1e-5)
    np.testing.assert_array_equal(single.active, together.active)


def test_a_context_without_predictions_that_count_is_left_out(tiny, ids, counted, x):
    fewer = counted.copy()
    fewer[2] = False
    found = evaluate(tiny, identity(32), ids, fewer, x.mean(dim=0))
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


def transcoder(d, *, hooks=MLP, W_dec=None, b_dec=None, W_skip=None):
    """Reads and writes the hook points ``hooks``; positive and negative parts of its input are its latents."""
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    zeros = torch.zeros(2 * d, d)
    config = DictionaryConfig("transcoder", d, d, 2 * d, None, False, "relu", *hooks, "tiny")
    biases = torch.zeros(2 * d), torch.zeros(d) if b_dec is None else b_dec
    return Dictionary(config, both.T.contiguous(), zeros if W_dec is None else W_dec, *biases, W_skip=W_skip)


@pytest.fixture(scope="module")
def mlp(tiny, ids, counted):
    """Activations of the counted positions before and behind the first block's MLP."""
    [(_, found)] = capture(tiny, ids, MLP, batch=8)
    return [found[hook][torch.from_numpy(counted)] for hook in MLP]


def test_a_transcoder_is_measured_against_the_true_output(tiny, ids, counted, mlp):
    true_in, true_out = (part.double().numpy() for part in mlp)
    line, *_ = np.linalg.lstsq(true_in, true_out, rcond=None)
    matrix = torch.from_numpy(line).float()
    latents = evaluate(tiny, transcoder(32, W_dec=torch.cat([matrix, -matrix])), ids, counted, mlp[1].mean(dim=0))
    skip = evaluate(tiny, transcoder(32, W_skip=matrix), ids, counted, mlp[1].mean(dim=0))
    error = np.sum((true_out - true_in @ line) ** 2)
    expected = error / np.sum((true_out - true_out.mean(axis=0)) ** 2)
    for found in (latents, skip):
        values = found.quality.values()
        assert values["fvu"] == pytest.approx(expected, rel=1e-4)
        assert values["mse"] == pytest.approx(error / counted.sum(), rel=1e-4)
        assert values["l0"] == found.l0 == pytest.approx(32)
    np.testing.assert_allclose(skip.recovery.spliced, latents.recovery.spliced, rtol=1e-4)
    assert skip.recovery.values()["kl"] > 0


def test_a_transcoder_that_equals_its_part_of_the_model_recovers_everything(tiny, ids, counted):
    # Behind the norm's output comes nothing but the hook point that the MLP reads.
    same = transcoder(32, hooks=("blocks.0.ln2.hook_out", "blocks.0.mlp.hook_in"), W_skip=torch.eye(32))
    found = evaluate(tiny, same, ids, counted, torch.zeros(32))
    assert found.recovery.ce_recovered == pytest.approx(1, abs=1e-5)
    assert found.recovery.values()["kl"] == pytest.approx(0, abs=1e-6)
    assert found.fit.fvu < 1e-10


def test_ablations_of_a_transcoder_happen_where_it_writes(tiny, ids, counted, mlp):
    mean = mlp[1].mean(dim=0)
    zero = evaluate(tiny, transcoder(32), ids, counted, mean).recovery
    assert zero.ce_recovered == pytest.approx(0, abs=1e-6)
    constant_mean = evaluate(tiny, transcoder(32, b_dec=mean), ids, counted, mean)
    assert constant_mean.recovery.ce_recovered_mean == pytest.approx(0, abs=1e-6)
    assert constant_mean.fit.fvu == pytest.approx(1, abs=1e-6)
    without = run(tiny, ids, [(MLP[1], _nothing(torch.from_numpy(counted)))], "unembed.hook_out").log_softmax(dim=-1)
    losses = -without[:, :-1].gather(2, torch.from_numpy(ids)[:, 1:, None]).squeeze(2)
    predicts = torch.from_numpy(counted[:, :-1] & counted[:, 1:])
    np.testing.assert_allclose(zero.zero, (losses * predicts).sum(dim=1).numpy(), rtol=1e-5)


def _nothing(counts):
    return lambda activations, hook=None: torch.where(counts[:, :, None], 0.0, activations)


def test_a_dictionary_that_reads_behind_where_it_writes_is_refused(tiny, ids, counted):
    with pytest.raises(DictionaryError, match="comes after"):
        evaluate(tiny, transcoder(32, hooks=MLP[::-1]), ids, counted, torch.zeros(32))


@pytest.mark.parametrize(
    ("hooks", "does"), [(("blocks.0.mlp.hook_post", MLP[1]), "reads"), ((MLP[0], "blocks.0.mlp.hook_post"), "writes")]
)
def test_a_dictionary_of_another_width_is_refused(tiny, ids, counted, hooks, does):
    with pytest.raises(DictionaryError, match=f"{does} 32 dimensions, but blocks.0.mlp.hook_post .* has 48"):
        evaluate(tiny, transcoder(32, hooks=hooks), ids, counted, torch.zeros(32))


@pytest.mark.parametrize("kept", [1 << 28, 0])
def test_a_probe_finds_what_the_whole_evaluation_finds_in_one_pass_a_call(
    tiny, ids, counted, x, mlp, monkeypatch, kept
):
    monkeypatch.setattr(splice, "KEPT", kept)
    monkeypatch.setattr(splice, "LOGITS", 2 * 20 * 300)
    passes = []
    inner = splice._log_probabilities
    monkeypatch.setattr(splice, "_log_probabilities", lambda *given: passes.append(1) or inner(*given))
    skip = transcoder(32, W_skip=torch.eye(32))
    for rebuilt, mean in ((identity(32), x.mean(dim=0)), (skip, mlp[1].mean(dim=0))):
        probe = Probe(tiny, rebuilt.config.hook_in, rebuilt.config.hook_out, ids, counted, mean)
        passes.clear()
        found = probe(rebuilt)
        assert len(passes) == 3 * (1 if kept else 2)
        whole = evaluate(tiny, rebuilt, ids, counted, mean).recovery
        for name in ("tokens", "clean", "spliced", "zero", "mean", "kl"):
            np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-6, atol=1e-6, err_msg=name)
        assert probe(rebuilt).values() == found.values()


def test_a_probe_without_predictions_is_refused(tiny, ids, counted):
    with pytest.raises(DictionaryError, match="No prediction of the held-out contexts counts"):
        Probe(tiny, HOOK, HOOK, ids, np.zeros_like(counted), torch.zeros(32))
