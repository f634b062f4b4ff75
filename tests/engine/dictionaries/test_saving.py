"""What training computes on scaled activations is what the saved dictionary computes on raw ones."""

from __future__ import annotations

import pytest
import torch

from engine.dictionaries.form import DictionaryConfig
from engine.dictionaries.trainer import Plan, Trainer
from tests.engine.dictionaries.dense import dense_code, dense_reconstruction
from tests.engine.dictionaries.making import made, some_weights
from tests.engine.dictionaries.test_architectures import CASES, TRANSCODERS, batch, chosen_for


def trained(name):
    """A trainer after five steps, its architecture's choices, and the widths of input and target."""
    chosen = chosen_for(name)
    d_in, d_out = (12, 20) if chosen.transcodes else (16, 16)
    weights = some_weights(chosen, d_in, d_out)
    if weights.threshold is not None:
        weights.threshold.abs_().add_(0.3)
    if weights.r_mag is not None:
        weights.r_mag += 0.5
    architecture = made(chosen, mean=torch.zeros(d_in), mean_out=torch.zeros(d_out))
    trainer = Trainer(weights, architecture, Plan.usual(5, 1e-2, 10**6))
    for step in range(5):
        trainer.step(batch(d_in, seed=step), batch(d_out, seed=step + 50) if chosen.transcodes else None)
    return trainer, chosen, d_in, d_out


def config_of(chosen, d_in, d_out):
    return DictionaryConfig(
        chosen.architecture, d_in, d_out, chosen.width, chosen.k, True, "topk", "in", "out", "demo", scale=0.5
    )


@pytest.mark.parametrize("name", CASES | TRANSCODERS)
def test_a_scaled_and_a_folded_dictionary_give_the_same(name):
    trainer, chosen, d_in, d_out = trained(name)
    scale_in, scale_out = (0.05, 3.0) if chosen.transcodes else (0.05, 0.05)
    saved = trainer.dictionary(config_of(chosen, d_in, d_out), scale_in, scale_out)
    weights = trainer.weights.tensors()
    raw = batch(d_in, seed=9) / scale_in
    threshold = getattr(trainer.architecture, "threshold", None)
    code = dense_code(chosen, weights, raw * scale_in, threshold)
    expected = dense_reconstruction(chosen, weights, raw * scale_in, threshold) / scale_out
    assert 0 < int((code > 0).sum()) < code.numel()
    torch.testing.assert_close(saved(raw), expected, rtol=1e-4, atol=2e-4 * float(expected.abs().max()))
    lengths = weights["decoder"].norm(dim=1)
    weighs = not torch.allclose(saved.W_dec, weights["decoder"])
    torch.testing.assert_close(saved.encode(raw).dense(), code * (lengths if weighs else 1) / scale_out,
                               rtol=1e-4, atol=2e-4 * float(code.max() / scale_out))  # fmt: skip
    selects = chosen.family in ("topk", "batchtopk") and chosen.transcodes
    if not selects:
        torch.testing.assert_close(saved.W_dec.norm(dim=1), torch.ones(chosen.width), rtol=1e-5, atol=1e-5)
    assert saved.config.centre == (not chosen.transcodes)
    assert saved.config.activation == {"matryoshka": "batchtopk"}.get(chosen.family, chosen.family)


@pytest.mark.parametrize("name", CASES | TRANSCODERS)
def test_latents_in_training_equal_the_dense_reading(name):
    trainer, chosen, d_in, _ = trained(name)
    x = batch(d_in, seed=9)
    weights = trainer.weights.tensors()
    found = trainer.architecture.encode(trainer.weights, x)
    torch.testing.assert_close(found.dense(), dense_code(chosen, weights, x), rtol=1e-4, atol=1e-4)
    assert bool((found.values > 0).all())
    rebuilt = trainer.architecture.reconstruct(trainer.weights, x)
    torch.testing.assert_close(rebuilt, dense_reconstruction(chosen, weights, x), rtol=1e-4, atol=1e-3)


def test_an_atom_of_length_zero_is_saved_as_it_is():
    chosen = chosen_for("transcoder-relu")
    architecture = made(chosen, mean=torch.ones(12), mean_out=torch.ones(20))
    weights = architecture.initial(12, 20, torch.Generator().manual_seed(0))
    saved = architecture.dictionary(weights, config_of(chosen, 12, 20), 0.5, 2.0)
    raw = batch(12)
    torch.testing.assert_close(saved(raw), torch.full((len(raw), 20), 0.5))
    # Pre-activations are zero at the mean input.
    assert len(saved.encode(torch.full((1, 12), 2.0) - 1e-6).values) <= chosen.width
    torch.testing.assert_close(
        saved.W_enc.t() @ torch.full((12,), 2.0) + saved.b_enc, torch.zeros(64), atol=1e-5, rtol=0
    )


def test_a_threshold_that_was_never_estimated_is_negative():
    for name in ("batchtopk", "matryoshka"):
        chosen = chosen_for(name)
        saved = made(chosen).dictionary(some_weights(chosen, 16), config_of(chosen, 16, 16), 0.1, 0.1)
        assert saved.threshold is not None
        assert bool((saved.threshold < 0).all())
        assert int(saved.encode(batch(16)).l0.sum()) == chosen.k * 130
