"""Loss, gradients and training of the sparse path against a dense autograd loop."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from engine.dictionaries.architectures import make
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import DictionaryConfig
from engine.dictionaries.trainer import Plan, Trainer
from engine.dictionaries.weights import Weights
from tests.engine.dictionaries.dense import DenseTrainer, dense_loss
from tests.engine.dictionaries.making import choices, leaves, made, moments, relative, some_weights


@pytest.mark.parametrize(("width", "k"), [(64, 4), (768, 8), (40, 40)])
@pytest.mark.parametrize("dead", [None, torch.tensor([3]), torch.arange(5, 30)])
def test_loss_and_gradients_equal_dense_autograd(width, k, dead):
    chosen = choices(width=width, k=k)
    weights = some_weights(chosen, 16)
    x = torch.randn(130, 16, generator=torch.Generator().manual_seed(1)) * 2 + 1
    found = made(chosen).step(weights, x, None, dead, 1.0)
    reference = leaves(weights)
    loss = dense_loss(chosen, reference, x, 37.0, dead=dead)
    loss.backward()
    assert float(found.loss) == pytest.approx(loss.item(), rel=1e-5)
    for name, gradient in found.gradients.tensors().items():
        assert relative(gradient, reference[name].grad) < 1e-5, name


def test_pre_activations_below_zero_carry_no_gradient():
    chosen = choices(width=20, k=3)
    weights = some_weights(chosen, 8)
    weights.b_enc -= 100.0  # every pre-activation is negative, so nothing is active though k are chosen
    found = made(chosen, 1.0).step(weights, torch.randn(50, 8), None, None, 1.0)
    assert found.fired.sum() == 0
    assert found.gradients.encoder.abs().max() == 0
    assert found.gradients.decoder.abs().max() == 0
    assert found.gradients.b_dec.abs().max() > 0


def test_counts_of_active_latents_equal_the_dense_code():
    chosen = choices(k=6)
    weights = some_weights(chosen, 16)
    x = torch.randn(200, 16, generator=torch.Generator().manual_seed(4)) * 3
    found = made(chosen, 1.0).step(weights, x, None, None, 1.0)
    pre = (x - weights.b_dec) @ weights.encoder.T + weights.b_enc
    top = pre.topk(6, dim=1)
    expected = torch.bincount(top.indices[top.values > 0], minlength=64)
    assert torch.equal(found.fired, expected)


@pytest.mark.parametrize("name", ["topk", "batchtopk", "matryoshka", "relu", "gated"])
def test_training_follows_the_dense_loop(name):
    generator = torch.Generator().manual_seed(5)
    batches = [torch.randn(256, 24, generator=generator).relu() * 2 + 0.5 for _ in range(60)]
    plan = Plan.usual(60, 3e-3, dead_after=10**9)
    chosen, unit = choices(name, width=192, k=6), moments(batches[0])
    architecture = make(chosen, unit)
    weights = architecture.initial(24, 24, generator)
    reference = DenseTrainer(leaves(weights), chosen, unit.variance, plan)
    expected = [reference.step(batch) for batch in batches]
    trainer = Trainer(weights, architecture, plan)
    found = [trainer.step(batch).loss for batch in batches]
    assert found == pytest.approx(expected, rel=1e-3)
    assert found[:10] == pytest.approx(expected[:10], rel=1e-5)
    if name not in ("relu", "gated"):  # whose penalty rises meanwhile
        assert found[-1] < 0.8 * found[0]


def test_atoms_keep_unit_norm():
    chosen = choices(width=32)
    weights = some_weights(chosen, 8)
    trainer = Trainer(weights, made(chosen), Plan.usual(20, 1e-2, 10**9))
    for _ in range(5):
        trainer.step(torch.randn(64, 8))
    torch.testing.assert_close(weights.decoder.norm(dim=1), torch.ones(32))


def test_schedule_rises_and_falls():
    plan = Plan(steps=100, lr=1.0, warm_up=10, decay=20, dead_after=1)
    rates = [plan.lr_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == [1.0] * 71
    assert rates[-1] == pytest.approx(1 / 21)
    assert all(later <= earlier for earlier, later in pairwise(rates[80:]))
    assert min(Plan.usual(1, 1.0, 1).lr_at(0), Plan.usual(3, 1.0, 1).lr_at(2)) > 0


def test_a_latent_is_dead_after_the_stated_number_of_silent_activations():
    chosen = choices(width=16, k=16)
    weights = some_weights(chosen, 4)
    weights.b_enc[[2, 9]] = -1e6  # can never be among the active ones
    trainer = Trainer(weights, made(chosen, 1.0), Plan(50, 1e-9, 0, 0, dead_after=300))
    for step in range(1, 7):
        trainer.step(torch.randn(100, 4, generator=torch.Generator().manual_seed(step)) * 3)
        assert trainer.dead.tolist() == ([2, 9] if step >= 3 else [])
        assert trainer.dead_share == pytest.approx(2 / 16 if step >= 3 else 0)
    density = trainer.density()
    assert density[[2, 9]].tolist() == [0, 0]
    assert (density > 0).sum() == 14
    assert trainer.counted == 0


def test_the_auxiliary_loss_revives_dead_latents():
    atoms = torch.nn.functional.normalize(torch.randn(64, 32, generator=torch.Generator().manual_seed(6)), dim=1)

    def dead_in_the_end(aux):
        generator = torch.Generator().manual_seed(7)
        architecture = made(choices(aux=aux), 4.0, d=32)
        weights = architecture.initial(32, 32, generator)
        weights.b_enc[32:] = -1.0  # half the latents start where they rarely win
        trainer = Trainer(weights, architecture, Plan.usual(500, 1e-2, dead_after=1_024))
        for _ in range(500):
            active = torch.rand(256, 64, generator=generator) < 0.06
            trainer.step((active * (torch.rand(256, 64, generator=generator) + 0.5)) @ atoms)
        return trainer.dead_share

    assert dead_in_the_end(1 / 32) < 0.15
    assert dead_in_the_end(0.0) > 0.3


def test_a_loss_that_explodes_is_said_and_leaves_the_weights():
    chosen = choices(width=16, k=2)
    weights = some_weights(chosen, 4)
    before = weights.encoder.clone()
    trainer = Trainer(weights, made(chosen, 1.0), Plan.usual(10, 0.5, 10))
    with pytest.raises(DictionaryError, match=r"^The loss became (inf|nan) at step 1; .* lower learning rate than 0.5"):
        trainer.step(torch.full((8, 4), 1e38))
    assert torch.equal(weights.encoder, before)


def test_a_restored_trainer_goes_on_bit_for_bit():
    generator = torch.Generator().manual_seed(8)
    batches = [torch.randn(64, 8, generator=generator) for _ in range(12)]
    plan = Plan.usual(12, 1e-2, dead_after=100)

    def fresh(seed):
        return Trainer(some_weights(choices(k=3), 8, seed=seed), made(choices(k=3), 8.0), plan)

    whole = fresh(0)
    expected = [whole.step(batch) for batch in batches]
    first = fresh(0)
    for batch in batches[:7]:
        first.step(batch)
    values, arrays = first.state()
    second = fresh(99)
    second.restore(values, {name: array.copy() for name, array in arrays.items()})
    assert [second.step(batch) for batch in batches[7:]] == expected[7:]
    for name, tensor in whole.weights.tensors().items():
        assert torch.equal(tensor, second.weights.tensors()[name])


def test_a_checkpoint_of_another_shape_is_refused_and_changes_nothing():
    small, large = (
        Trainer(some_weights(chosen, 8), made(chosen), Plan.usual(5, 1e-2, 9))
        for chosen in (choices(width=32), choices(width=64))
    )
    values, arrays = large.state()
    before = small.weights.decoder.clone()
    with pytest.raises(DictionaryError, match=r"^The checkpoint's .* \(64.*another dictionary"):
        small.restore(values, arrays)
    assert torch.equal(small.weights.decoder, before)


def test_the_saved_dictionary_reads_raw_activations():
    scale = 0.05
    generator = torch.Generator().manual_seed(9)
    raw = torch.randn(100, 8, generator=generator) * 40 + 10
    chosen = choices(width=24, k=5)
    weights = some_weights(chosen, 8)
    weights.decoder /= weights.decoder.norm(dim=1, keepdim=True)
    trainer = Trainer(weights, made(chosen, 1.0), Plan.usual(5, 1e-2, 9))
    config = DictionaryConfig("topk", 8, 8, 24, 5, True, "topk", "h", "h", "demo", scale=scale)
    saved = trainer.dictionary(config, scale, scale)
    x = raw * scale
    pre = (x - weights.b_dec) @ weights.encoder.T + weights.b_enc
    top = pre.topk(5, dim=1)
    code = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    expected = (code @ weights.decoder + weights.b_dec) / scale
    torch.testing.assert_close(saved(raw), expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(saved.encode(raw).dense(), code / scale, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(saved.W_dec.norm(dim=1), torch.ones(24))


def test_weights_are_named_in_one_order():
    assert list(Weights(*(torch.zeros(1) for _ in range(4))).tensors()) == ["encoder", "decoder", "b_enc", "b_dec"]
