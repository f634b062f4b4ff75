"""What is measured of modular addition, against networks and logits written by hand: no training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine.toys import fourier
from engine.toys.modular import analysis as modular_analysis
from engine.toys.modular.network import Shape, initial, over_pairs, sums, unpack
from engine.toys.modular.repair import ablations, clusters
from engine.toys.modular.robustness import _length, attack, margins, robustness
from engine.toys.modular.training import Setting, split

P, KEYS = 53, [3, 7]
A, B = np.divmod(np.arange(P * P), P)


def clock(keys: list[int] = KEYS, p: int = P) -> torch.Tensor:
    waves = modular_analysis.waves(p)
    return torch.stack([waves[k - 1] for k in keys]).sum(0)[sums(p)]


def pizza(k: int) -> torch.Tensor:
    return torch.from_numpy(np.abs(np.cos(np.pi * k * (A - B) / P)))[:, None] * clock([k])


def test_an_embedding_of_two_frequencies_has_its_power_there() -> None:
    rng = np.random.default_rng(0)
    table = sum(fourier.basis(P, k) @ rng.normal(size=(2, 48)) for k in KEYS) + 1.5
    assert fourier.shares(table)[[2, 6]].sum() > 0.999


def test_logits_of_two_frequencies_share_their_variance_equally() -> None:
    shares = modular_analysis.logit_shares(clock() + torch.randn(P, generator=torch.Generator().manual_seed(0)))
    assert shares[[2, 6]] == pytest.approx([0.5, 0.5], abs=1e-9)
    assert modular_analysis.key_frequencies(shares) == KEYS
    assert modular_analysis.logit_shares(torch.ones(P * P, P)).tolist() == [0] * (P // 2)


def test_restricted_loss_is_the_whole_loss_and_excluded_loss_is_that_of_guessing() -> None:
    logits, part = 10 * clock(), split(P, 0.45, Setting(0))
    right = sums(P)
    found = modular_analysis.progress(logits, part, KEYS)
    assert found.test == pytest.approx(modular_analysis.loss(logits, part.test, right[part.test]))
    assert found.restricted == pytest.approx(found.test, abs=1e-6)
    assert found.excluded == pytest.approx(math.log(P), abs=1e-6)


def test_projecting_on_key_frequencies_is_the_projection_written_out() -> None:
    logits = torch.randn(P * P, P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    angles = 2 * np.pi * np.outer(KEYS, A + B) / P
    unit = np.concatenate([np.cos(angles), np.sin(angles)])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    expected = unit.T @ (unit @ logits.numpy())
    assert np.allclose(modular_analysis.projected(logits, KEYS).numpy(), expected, atol=1e-12)
    assert np.allclose((modular_analysis.excluded(logits, KEYS) + modular_analysis.projected(logits, KEYS)), logits)


def test_losses_below_what_float32_can_tell_are_counted() -> None:
    logits = torch.zeros(P * P, P).scatter(1, sums(P)[:, None], 30.0)
    found = modular_analysis.loss(logits, torch.arange(9), sums(P)[:9])
    assert found == pytest.approx((P - 1) * math.exp(-30), rel=1e-3)
    assert -float(logits[0].log_softmax(-1)[0]) == 0  # what float32 says


def test_distance_irrelevance_is_one_for_a_clock_and_small_for_a_pizza() -> None:
    # Neither depends on the sum at its peak c = a + b, so both get the logits' spread over sums from a common term.
    by_sum = torch.cos(2 * torch.pi * 5 * sums(P) / P)[:, None]
    matrix = modular_analysis.correct_logits(clock() * (2 + by_sum))
    assert modular_analysis.distance_irrelevance(matrix) == pytest.approx(1, abs=1e-9)
    assert modular_analysis.distance_irrelevance(modular_analysis.correct_logits(pizza(3))) < 0.3
    s, d = 10, 4
    a = (s + d) * pow(2, -1, P) % P
    assert matrix[s, d] == pytest.approx(float((clock() * (2 + by_sum))[a * P + (s - a) % P, s]))


def test_an_even_modulus_has_no_pairs_of_odd_sum_and_even_difference() -> None:
    matrix = modular_analysis.correct_logits(torch.ones(64, 8))
    assert np.isnan(matrix[1, 2])
    assert matrix[1, 3] == 1


def test_candidates_explain_the_logits_they_are() -> None:
    found = modular_analysis.explained(clock(), KEYS)
    assert found["clock"] == pytest.approx(1, abs=1e-9)
    assert found["pizza"] < 0.9
    found = modular_analysis.explained(pizza(3), [3])
    assert found["pizza"] == pytest.approx(1, abs=1e-9)
    assert found["clock"] == pytest.approx(modular_analysis.logit_shares(pizza(3))[2], abs=1e-9)
    assert found["both"] == pytest.approx(1, abs=1e-9)


def test_neurons_of_one_frequency_are_told_from_others_and_dead_ones_left_out() -> None:
    angle = 2 * np.pi * 5 / P
    pure = np.cos(angle * A) + np.cos(angle * B) + np.cos(angle * (A + B)) + 2
    noise = np.random.default_rng(0).normal(size=P * P)
    hidden = torch.from_numpy(np.stack([pure, noise, np.zeros(P * P)], axis=1))
    frequency, share = modular_analysis.neuron_frequencies(hidden)
    assert frequency[0] == 5
    assert share[0] == pytest.approx(1, abs=1e-9)
    assert share[1] < 0.05
    assert np.isnan(share[2])


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_uniform_attention_is_symmetric_at_any_weights_and_learned_attention_is_not(scale: float) -> None:
    theta = scale * initial(Shape(P, 48, 4, 192), 0)[None]
    assert modular_analysis.symmetricity(Shape(P, 48, 4, 192, uniform=1.0), theta, 0).min() > 0.999
    if scale > 1:
        assert modular_analysis.symmetricity(Shape(P, 48, 4, 192), theta, 0).mean() < 0.9


def test_the_attack_stays_within_its_radius_and_hurts_more_than_chance() -> None:
    shape = Shape(13, 16, 2, 32)
    theta = initial(shape, 3)
    logits = over_pairs(shape, theta[None]).logits[0]
    labels = logits.argmax(1)  # as if what it answers were right: margins are then above 0
    rows = torch.arange(169)
    embed = theta[: 14 * 16].reshape(14, 16)
    pairs = embed[torch.stack([rows // 13, rows % 13], dim=1)]
    moved = attack(shape, theta[None], pairs, labels, 0.4)
    lengths = _length(moved - pairs).flatten()
    assert float(lengths.max()) <= 0.4 * (1 + 1e-5)
    assert float(lengths.min()) > 0.39
    before = margins(shape, theta[None], pairs, labels)
    after = margins(shape, theta[None], moved, labels)
    direction = torch.randn(pairs.shape, generator=torch.Generator().manual_seed(0))
    chance = margins(shape, theta[None], pairs + 0.4 * direction / _length(direction), labels)
    assert before.min() > 0
    assert after.mean() < chance.mean() < before.mean() + 0.05
    found = robustness(shape, theta, rows[:50], 0)
    assert found.margin.shape == (50,)
    assert (found.adversarial <= found.random + 0.05).all()


def test_setting_a_part_to_zero_is_setting_its_weights_to_zero_and_contributions_add_up() -> None:
    shape, part = Shape(13, 16, 2, 32), split(13, 0.5, Setting(0))
    theta = 2 * initial(shape, 3)
    groups = {"some": np.arange(10), "rest": np.arange(10, 32)}
    found = ablations(shape, theta, groups, part)
    right = sums(13)

    def lead(values: torch.Tensor) -> float:
        return float((values[torch.arange(169), right] - values.mean(1)).mean())

    def without(name: str, rows: slice) -> torch.Tensor:
        changed = theta.clone()[None]
        unpack(shape, changed)[name][0, rows] = 0  # a view of the copy
        return over_pairs(shape, changed).logits[0]

    whole = over_pairs(shape, theta[None]).logits[0]
    for label, name, rows in (
        ("head 1", "o", slice(8, 16)),
        ("some", "out", slice(10)),
        ("rest", "out", slice(10, 32)),
    ):
        ablated = without(name, rows)
        assert found[label].drop == pytest.approx(lead(whole) - lead(ablated), abs=1e-5)
        hits = (ablated.argmax(1) == right)[part.test].double().mean()
        assert found[label].test_accuracy == pytest.approx(float(hits))
    assert [found[name].compensation for name in groups] == pytest.approx([0, 0], abs=1e-5)
    assert abs(found["head 1"].compensation) > 1e-4
    # Heads, neurons and what stays when all of them are gone make up the whole.
    weights = unpack(shape, theta[None])
    stays = (weights["embed"][0, 13] + weights["pos"][0, 2] + weights["b_out"][0]) @ weights["unembed"][0]
    parts = sum(one.direct for one in found.values()) + lead(stays.expand(169, 13))
    assert parts == pytest.approx(lead(whole), abs=1e-5)


def test_clusters_part_the_neurons_and_the_control_is_as_large_as_the_largest() -> None:
    angle = 2 * np.pi * np.array([3, 3, 5]) / P
    pure = [np.cos(w * A) + np.cos(w * B) + 2 for w in angle]
    noise = np.random.default_rng(0).normal(size=(3, P * P))
    found = clusters(torch.from_numpy(np.stack([*pure, *noise], axis=1)), [3, 5], np.random.default_rng(0))
    assert [neurons.tolist() for neurons in list(found.values())[:3]] == [[0, 1], [2], [3, 4, 5]]
    assert len(found["random neurons (control)"]) == 3
