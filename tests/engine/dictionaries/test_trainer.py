"""The loop that all families share: schedules, exact state, resampling, unit and free atoms, bad numbers."""

from __future__ import annotations

import math

import pytest
import torch

from engine.dictionaries.architectures import make
from engine.dictionaries.architectures.batchtopk import RATE
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.trainer import Plan, Trainer
from tests.engine.dictionaries.making import choices, made, moments, some_weights
from tests.engine.dictionaries.test_architectures import CASES, TRANSCODERS, batch, chosen_for

PLAN = Plan(40, 1e-2, 2, 10, dead_after=200)


def trainer_of(chosen, seed=0, plan=PLAN, variance=37.0):
    d_in, d_out = (12, 20) if chosen.transcodes else (16, 16)
    architecture = made(chosen, variance, mean=torch.ones(d_in), mean_out=torch.ones(d_out))
    weights = some_weights(chosen, d_in, d_out, seed)
    architecture.after(weights)
    return Trainer(weights, architecture, plan)


def batches_of(chosen, count, first=0):
    for number in range(first, first + count):
        if chosen.transcodes:
            yield batch(12, 60, seed=number), batch(20, 60, seed=number + 500)
        else:
            yield batch(16, 60, seed=number), None


@pytest.mark.parametrize("name", CASES | TRANSCODERS)
def test_a_restored_trainer_goes_on_bit_for_bit(name):
    chosen = chosen_for(name)
    whole = trainer_of(chosen)
    whole.change_lr(0.02)
    for x, y in batches_of(chosen, 6):
        whole.step(x, y)
    values, arrays = whole.state()
    expected = [whole.step(x, y) for x, y in batches_of(chosen, 6, 6)]
    other = trainer_of(chosen, seed=9)
    other.restore(values, {name: array.copy() for name, array in arrays.items()})
    assert [other.step(x, y) for x, y in batches_of(chosen, 6, 6)] == expected
    for name, tensor in whole.weights.tensors().items():
        assert torch.equal(tensor, other.weights.tensors()[name]), name
    assert whole.state()[0] == other.state()[0]
    assert whole.live() == other.live()


@pytest.mark.parametrize("name", CASES | TRANSCODERS)
def test_empty_weights_can_be_restored_into(name):
    chosen = chosen_for(name)
    whole = trainer_of(chosen)
    d_in, d_out = whole.weights.encoder.shape[1], whole.weights.decoder.shape[1]
    empty = whole.architecture.empty(d_in, d_out, "cpu")
    assert {n: t.shape for n, t in empty.tensors().items()} == {n: t.shape for n, t in whole.weights.tensors().items()}
    fresh = Trainer(empty, trainer_of(chosen).architecture, PLAN)
    fresh.restore(*whole.state())
    for x, y in batches_of(chosen, 1):
        assert fresh.step(x, y) == whole.step(x, y)


def test_a_checkpoint_of_another_architecture_is_refused():
    gated, topk = trainer_of(choices("gated")), trainer_of(choices("topk"))
    with pytest.raises(DictionaryError, match=r"^The checkpoint's r_mag is missing where \(64,\) was expected"):
        gated.restore(*topk.state())


@pytest.mark.parametrize(("atoms", "unit"), [("auto", True), ("unit", True), ("free", False)])
@pytest.mark.parametrize("name", ["topk", "batchtopk", "matryoshka", "relu", "gated", "jumprelu"])
def test_atoms_stay_unit_only_where_they_are_to(name, atoms, unit):
    chosen = choices(name, atoms=atoms)
    trainer = Trainer(
        made(chosen).initial(16, 16, torch.Generator().manual_seed(0)), made(chosen), Plan(9, 1e-2, 0, 0, 10**6)
    )
    for x, _ in batches_of(chosen, 4):
        trainer.step(x)
    norms = trainer.decoder_norms()
    assert norms.shape == (64,)
    assert (abs(norms - 1).max() < 1e-5) == unit


def test_transcoders_start_as_sparsify_has_it():
    x, y = batch(12), batch(20, seed=2)
    chosen = choices("skip-transcoder")
    architecture = make(chosen, moments(x, y))
    weights = architecture.initial(12, 20, torch.Generator().manual_seed(0))
    assert not architecture.centre
    assert weights.decoder.abs().max() == 0
    assert weights.skip is not None
    assert weights.skip.abs().max() == 0
    torch.testing.assert_close(weights.b_dec, y.mean(dim=0))
    torch.testing.assert_close(weights.encoder.norm(dim=1), torch.ones(64))
    torch.testing.assert_close(weights.b_enc, -(weights.encoder @ x.mean(dim=0)))
    assert made(choices("transcoder"), d=4).initial(4, 4, torch.Generator().manual_seed(0)).skip is None
    first = architecture.step(weights, x, y, None, 0.0)
    assert float(first.loss) == pytest.approx(1, rel=1e-5)  # it predicts the mean


@pytest.mark.parametrize("tied", [True, False])
def test_the_encoder_starts_as_the_decoder_s_transpose_or_not(tied):
    for name in ("topk", "relu"):
        weights = made(choices(name, tied=tied)).initial(16, 16, torch.Generator().manual_seed(0))
        cosines = torch.cosine_similarity(weights.encoder, weights.decoder, dim=1)
        assert bool((cosines > 0.999).all()) == tied
        assert abs(float(cosines.mean())) < 0.2 or tied


@pytest.mark.parametrize("name", ["relu", "gated"])
def test_the_first_reconstruction_is_about_as_large_as_the_activations(name):
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(3))
    architecture = make(choices(name, width=512), moments(x))
    weights = architecture.initial(16, 16, torch.Generator().manual_seed(0))
    rebuilt = architecture.reconstruct(weights, x) - weights.b_dec
    assert float(rebuilt.norm() / x.norm()) == pytest.approx(1, abs=0.15)


# ---- schedules


def test_the_cosine_falls_along_half_a_wave_and_the_constant_not_at_all():
    plan = Plan(100, 2.0, 10, 40, 1, schedule="cosine")
    rates = [plan.lr_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:60] == [2.0] * 51
    for step in (70, 80, 99):
        share = (100 - step) / 41
        assert rates[step] == pytest.approx(2 * 0.5 * (1 + math.cos(math.pi * (1 - share))))
    assert rates[60:] == sorted(rates[60:], reverse=True)
    constant = Plan(100, 2.0, 10, 40, 1, schedule="constant")
    assert [constant.lr_at(step) for step in range(9, 100)] == [2.0] * 91


def test_a_changed_learning_rate_counts_from_the_next_step_and_keeps_the_schedule_s_shape():
    chosen = choices()
    trainer = trainer_of(chosen, plan=Plan(20, 1e-2, 5, 10, 10**6))
    found = []
    for number, (x, _) in enumerate(batches_of(chosen, 20)):
        if number == 7:
            trainer.change_lr(3e-2)
        found.append(trainer.step(x).lr)
    height = [1e-2] * 7 + [3e-2] * 13
    assert found == pytest.approx([trainer.plan.lr_at(step) / 1e-2 * height[step] for step in range(20)])
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(DictionaryError, match=r"^A learning rate of .* is no rate; give a number from 0 up\.$"):
            trainer.change_lr(wrong)
    assert trainer.lr == 3e-2


def test_a_learning_rate_of_zero_stands_still():
    trainer = trainer_of(choices())
    trainer.change_lr(0.0)
    before = trainer.weights.encoder.clone()
    trainer.step(batch(16))
    assert torch.equal(trainer.weights.encoder, before)


# ---- dead latents


@pytest.mark.parametrize("name", ["topk", "relu", "gated", "jumprelu", "transcoder-relu", "relu-free"])
def test_resampling_draws_the_dead_anew_and_nothing_else(name):
    chosen = chosen_for(name)
    trainer = trainer_of(chosen)
    weights = trainer.weights
    dead = [3, 17, 40]
    weights.b_enc[dead] = -1e4
    for x, y in batches_of(chosen, 5):
        trainer.step(x, y)
    assert set(dead) <= set(trainer.dead.tolist())
    dead = trainer.dead
    live = torch.ones(64, dtype=torch.bool)
    live[dead] = False
    before = {name: tensor.clone() for name, tensor in weights.tensors().items()}
    x, y = next(batches_of(chosen, 1, 77))
    assert trainer.resample(x, y, torch.Generator().manual_seed(0)) == len(dead)
    assert len(trainer.dead) == 0
    for name, tensor in weights.tensors().items():
        moments = trainer._adam.state[tensor]
        if name in ("b_dec", "skip"):
            assert torch.equal(tensor, before[name])
            continue
        assert torch.equal(tensor[live], before[name][live])
        assert moments["exp_avg"][dead].abs().max() == moments["exp_avg_sq"][dead].abs().max() == 0
        assert moments["exp_avg_sq"][live].max() > 0
    lengths = before["encoder"][live].norm(dim=1).mean()
    torch.testing.assert_close(weights.encoder[dead].norm(dim=1), lengths.expand(len(dead)) * 0.2)
    wanted = 1.0 if trainer.architecture.unit else float(before["decoder"][live].norm(dim=1).mean())
    assert weights.decoder[dead].norm(dim=1) == pytest.approx([wanted] * len(dead), rel=1e-5)
    origin = torch.ones(12) if chosen.transcodes else weights.b_dec
    targets = x - origin if y is None else y - weights.b_dec
    cosines = (
        torch.nn.functional.normalize(x - origin, dim=1) @ torch.nn.functional.normalize(weights.encoder[dead], dim=1).T
    )
    drawn = cosines.max(dim=0).indices
    assert cosines.max(dim=0).values == pytest.approx([1.0] * len(dead), rel=1e-4)
    assert len(set(drawn.tolist())) == len(dead)
    assert torch.cosine_similarity(weights.decoder[dead], targets[drawn], dim=1).min() > 0.999
    if not chosen.transcodes:
        assert weights.b_enc[dead].abs().max() == 0
    for x, y in batches_of(chosen, 2, 80):
        trainer.step(x, y)


def test_resampling_prefers_what_is_reconstructed_badly_and_repeats_with_its_generator():
    def drawn(seed):
        trainer = trainer_of(choices())
        trainer.weights.b_enc[:8] = -1e4
        trainer.silent[:8] = 10**6
        x = torch.cat([0.1 * batch(16, 200) + trainer.weights.b_dec, 30 * batch(16, 10, seed=5)])
        trainer.resample(x, None, torch.Generator().manual_seed(seed))
        directions = torch.nn.functional.normalize(x - trainer.weights.b_dec, dim=1)
        return (directions @ trainer.weights.decoder[:8].T).max(dim=0).indices.tolist()

    assert min(drawn(0)) >= 200
    assert drawn(0) == drawn(0) != drawn(1)


def test_resampling_without_dead_latents_or_with_too_few_activations_does_what_it_can():
    trainer = trainer_of(choices())
    assert trainer.resample(batch(16), None, torch.Generator().manual_seed(0)) == 0
    trainer.silent[:] = 10**6
    assert trainer.resample(batch(16, 5), None, torch.Generator().manual_seed(0)) == 5
    assert len(trainer.dead) == 59


def test_dead_jumprelu_latents_come_back():
    shares = []
    for aux in (1 / 32, 0.0):
        chosen = choices("jumprelu", aux=aux, k=8)
        trainer = trainer_of(chosen, plan=Plan(300, 1e-2, 0, 0, dead_after=2_000))
        trainer.weights.b_enc[::2] = -5.0
        trainer.weights.threshold[::2] = 5.0
        for x, _ in batches_of(chosen, 300):
            trainer.step(x)
        shares.append(trainer.dead_share)
    assert shares[0] < 0.25
    assert shares[1] > 0.4


# ---- thresholds


@pytest.mark.parametrize(("k", "scale"), [(4, 1.0), (4, 0.01), (12, 30.0)])
def test_jumprelu_s_l0_reaches_k_in_a_short_run_whatever_the_activations_scale(k, scale):
    generator = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(100, 32, generator=generator), dim=1)
    x = (
        (torch.rand(20_000, 100, generator=generator) < k / 100) * torch.rand(20_000, 100, generator=generator)
    ) @ atoms
    x *= scale * 10
    chosen = choices("jumprelu", width=256, k=k)
    architecture = make(chosen, moments(x))
    weights = architecture.initial(32, 32, generator)
    trainer = Trainer(weights, architecture, Plan.usual(400, 2e-3, 10**6))
    active = [trainer.step(part).active / 256 for part in x.repeat(6, 1).split(256)[:400]]
    assert active[0] > 60
    assert sum(active[-20:]) / 20 == pytest.approx(k, rel=0.2)
    assert trainer.live()["threshold"] > 0.05 * architecture.sigma
    assert bool((weights.threshold >= 0).all())


def test_thresholds_never_become_negative():
    chosen = choices("jumprelu", k=64, threshold=0.001)
    trainer = trainer_of(chosen, plan=Plan(30, 0.1, 0, 0, 10**6))
    for x, _ in batches_of(chosen, 10):
        trainer.step(x)
    assert trainer.weights.threshold.min() == 0


def test_batchtopk_s_threshold_starts_at_the_first_value_and_follows_slowly():
    chosen = choices("batchtopk")
    trainer = trainer_of(chosen, plan=Plan(30, 0.0, 0, 0, 10**6))
    assert trainer.live() == {}
    weights = trainer.weights
    wanted = None
    for x, _ in batches_of(chosen, 5):
        pre = (x - weights.b_dec) @ weights.encoder.T + weights.b_enc
        least = float(pre.flatten().topk(chosen.k * len(x)).values.min())
        wanted = least if wanted is None else (1 - RATE) * wanted + RATE * least
        trainer.step(x)
        assert trainer.live()["threshold"] == pytest.approx(wanted, rel=1e-4)


# ---- bad numbers


@pytest.mark.parametrize("name", ["batchtopk", "matryoshka", "relu", "gated", "jumprelu", "transcoder-topk"])
def test_what_is_not_finite_is_said_and_leaves_all_as_it_was(name):
    chosen = chosen_for(name)
    trainer = trainer_of(chosen)
    x, y = next(batches_of(chosen, 1))
    trainer.step(x, y)
    values, arrays = trainer.state()
    for wrong in (float("nan"), float("inf"), 1e38):
        spoiled = x.clone()
        spoiled[3, 2] = wrong
        with pytest.raises(
            DictionaryError, match=r"^The (loss|gradient) became -?(inf|nan) at step 2; .*lower learning"
        ):
            trainer.step(spoiled, y)
        after, same = trainer.state()
        assert after == values
        assert all((same[name] == array).all() for name, array in arrays.items())
