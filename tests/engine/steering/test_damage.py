"""Damage against TransformerLens one context at a time, and matched damage against curves with known crossings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.steering.damage import Damage, NeutralText, matched
from engine.steering.errors import SteeringError
from engine.steering.interventions import AddVector
from engine.text.tokens import Contexts

HOOK = "blocks.0.hook_resid_post"
AT = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])


@pytest.fixture
def vector():
    return AddVector(torch.randn(32, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def text(tiny):
    """Four contexts of BOS and 11 tokens; the last is half padding, and one token counts as special."""
    random = np.random.default_rng(0)
    ids = random.integers(3, tiny.facts.vocabulary, (4, 12)).astype(np.int32)
    ids[:, 0] = tiny.bos
    counted = np.ones(ids.shape, dtype=bool)
    counted[:, 0] = False
    counted[3, 8:] = False
    counted[1, 4] = False
    return Contexts(ids, counted, {})


def one_at_a_time(model, ids, counted, changed, first: int, change):
    """Cross entropy and KL of one context by TransformerLens' own hooks."""
    tokens = torch.from_numpy(ids[None].astype(np.int64))
    where = torch.from_numpy(changed)

    def hook(x, hook=None):
        x = x.clone()
        x[0, where] = change(x[0, where])
        return x

    with torch.no_grad():
        clean = model.bridge(tokens, return_type="logits")[0].double().log_softmax(-1)
        steered = model.bridge.run_with_hooks(tokens, return_type="logits", fwd_hooks=[(HOOK, hook)])[0].double()
    steered = steered.log_softmax(-1)
    places = [p for p in range(len(ids) - 1) if counted[p] and counted[p + 1] and p >= first]
    nats = [float(clean[p, ids[p + 1]] - steered[p, ids[p + 1]]) for p in places]
    kl = [float((clean[p].exp() * (clean[p] - steered[p])).sum()) for p in places]
    return np.mean(nats), np.mean(kl), len(places)


@pytest.mark.parametrize("placement", ["all", "last", "answer"])
def test_damage_is_that_of_each_context_alone(tiny, text, vector, placement):
    neutral = NeutralText(tiny, text, placement)
    found = neutral.damage(vector, AT, hook=HOOK)
    at = np.arange(12)
    for row in range(4):
        changed = {"all": text.counted[row], "last": at == 6, "answer": (at >= 6) & text.counted[row]}[placement]
        first = 0 if placement == "all" else 6
        for index, strength in enumerate(AT):
            nats, kl, count = one_at_a_time(
                tiny, text.ids[row], text.counted[row], changed, first, lambda x, s=strength: vector(x, s)
            )
            assert found.ce[row, index] == pytest.approx(nats, abs=1e-4)
            assert found.kl[row, index] == pytest.approx(kl, abs=1e-4)
        assert found.tokens[row] == count
    assert neutral.tokens == found.tokens.sum()


def test_there_is_no_damage_at_strength_zero(tiny, text, vector):
    found = NeutralText(tiny, text, "all").damage(vector, AT, hook=HOOK)
    assert (found.ce[:, 2] == 0).all()
    assert (found.kl[:, 2] == 0).all()
    assert (found.kl[:, [0, 1, 3, 4]] > 0).all()


def test_damage_does_not_depend_on_batches_nor_on_what_is_kept(tiny, text, vector, monkeypatch):
    heard: list[int] = []
    whole = NeutralText(tiny, text, "all").damage(vector, AT, hook=HOOK)
    monkeypatch.setattr("engine.steering.damage.TOGETHER", 1)
    monkeypatch.setattr("engine.steering.damage.KEPT", 0)
    neutral = NeutralText(tiny, text, "all")
    single = neutral.damage(vector, AT, hook=HOOK, heard=heard.append)
    np.testing.assert_allclose(single.ce, whole.ce, atol=1e-5)
    np.testing.assert_allclose(single.kl, whole.kl, atol=1e-5)
    np.testing.assert_allclose(single.clean, whole.clean, atol=1e-5)
    assert sum(heard) == 4 * neutral.size  # four strengths change something


def test_means_count_predictions_and_not_contexts():
    found = Damage(np.array([0.0]), np.array([[1.0], [4.0]]), np.zeros((2, 1)), np.zeros(2), np.array([3, 1]))
    np.testing.assert_allclose(found.mean(found.ce), [7 / 4])
    np.testing.assert_allclose(found.resampled(found.ce, np.array([[0, 0], [1, 0]])), [[1], [7 / 4]])


def damage_of(curve) -> Damage:
    ce = np.repeat(np.asarray(curve)[None], 10, axis=0)
    return Damage(AT, ce, ce, np.ones(10), np.full(10, 5))


def test_success_is_read_off_where_damage_first_reaches_the_bound():
    samples = np.random.default_rng(0).normal(1, 0.1, 50)[:, None] * AT - 0.1
    found = matched(samples, samples > 0, damage_of([0.4, 0.1, 0.0, 0.025, 0.125]), np.random.default_rng(1))
    assert found.reached
    assert found.strength == pytest.approx(0.625)
    assert found.ce == pytest.approx(0.05)
    assert found.shift == pytest.approx(0.625 * (samples[:, 4] + 0.1).mean())
    assert found.shift_interval[0] < found.shift < found.shift_interval[1]
    assert found.strength_interval == pytest.approx((0.625, 0.625))
    assert found.share == pytest.approx(1.0)


def test_damage_that_stays_below_the_bound_is_read_at_the_last_strength_and_said():
    samples = np.ones((5, 1)) * AT
    found = matched(samples, samples > 0, damage_of([0, 0, 0, -0.01, 0.02]), np.random.default_rng(1))
    assert (found.reached, found.strength, found.shift) == (False, 1.0, 1.0)
    assert found.ce == pytest.approx(0.02)


def test_what_does_not_fit_is_refused(tiny):
    with pytest.raises(SteeringError, match="same ones"):
        matched(np.zeros((3, 4)), np.zeros((3, 4), bool), damage_of(AT), np.random.default_rng(0))
    nothing = Contexts(np.zeros((1, 8), dtype=np.int32), np.zeros((1, 8), dtype=bool), {})
    with pytest.raises(SteeringError, match="No prediction"):
        NeutralText(tiny, nothing, "all")


def test_predictions_that_are_not_finite_are_refused(tiny, text):
    broken = AddVector(torch.full((32,), float("nan")))
    with pytest.raises(SteeringError, match=r"At strength 0\.5"):
        NeutralText(tiny, text, "all").damage(broken, np.array([0.0, 0.5]), hook=HOOK)


def test_a_shift_counts_from_the_clean_propensity_where_strength_zero_changes_something_too():
    samples = np.ones((5, 1)) * AT + 0.3  # a clamped latent: 0.3 more than the clean model already at strength 0
    found = matched(samples, samples > 0, damage_of([0, 0, 0, 0, 0.05]), np.random.default_rng(1), clean=np.zeros(5))
    assert found.strength == pytest.approx(1.0)
    assert found.shift == pytest.approx(1.3)
