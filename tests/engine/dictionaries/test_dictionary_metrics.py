"""Metrics with known answers: mean predictor, perfect and shifted reconstructions, any cut into batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.dictionaries.metrics import Fit, Recovery, Variation, density_histogram


def activations(count=400, offset=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator) * torch.arange(1, 7) + offset


def fit(x, reconstruction, cuts=()):
    found = Fit(x[0])
    for part, rebuilt in zip(x.tensor_split(list(cuts)), reconstruction.tensor_split(list(cuts)), strict=True):
        found.add(part, rebuilt)
    return found


def test_predicting_the_mean_leaves_all_variance_unexplained():
    x = activations(offset=50.0)
    assert fit(x, x.double().mean(dim=0).expand_as(x)).fvu == pytest.approx(1.0, abs=1e-9)


def test_a_perfect_reconstruction_leaves_none():
    x = activations()
    assert fit(x, x).fvu == 0.0


def test_a_constant_offset_is_not_forgiven():
    x = activations().double()
    offset = torch.full((6,), 2.0)
    expected = len(x) * 24.0 / float((x - x.mean(dim=0)).square().sum())
    assert fit(x, x + offset).fvu == pytest.approx(expected, rel=1e-9)


def test_fvu_equals_the_direct_formula_in_many_digits_with_a_large_offset():
    x = activations(offset=1e4).double()
    reconstruction = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    direct = (x - reconstruction).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert fit(x, reconstruction, [100, 101, 350]).fvu == pytest.approx(float(direct), rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 400), max_size=6))
def test_fvu_does_not_depend_on_batches(cuts):
    x = activations(offset=3.0)
    reconstruction = x * 0.9
    assert fit(x, reconstruction, sorted(cuts)).fvu == pytest.approx(fit(x, reconstruction).fvu, rel=1e-12)


def test_nothing_that_varies_gives_no_number():
    x = torch.ones(5, 6)
    assert np.isnan(fit(x, x).fvu)


def test_variation_survives_its_checkpoint_bit_for_bit():
    first = Variation(torch.full((6,), 0.1))
    first.add(activations(offset=1.0))
    values, arrays = first.state()
    second = Variation.restored(json.loads(json.dumps(values)), arrays)
    for one in (first, second):
        one.add(activations(seed=5))
    assert second.total == first.total
    assert torch.equal(second.mean, first.mean)


def recovery(clean, spliced, zero, mean):
    ones = np.ones(len(clean))
    return Recovery(10 * ones, *(np.asarray(one, dtype=float) for one in (clean, spliced, zero, mean)), kl=0 * ones)


def test_ce_recovered_is_one_without_loss_and_zero_when_as_bad_as_the_ablation():
    clean, zero, mean = [20.0, 30.0], [100.0, 90.0], [60.0, 70.0]
    whole = recovery(clean, clean, zero, mean)
    assert whole.ce_recovered == whole.ce_recovered_mean == 1.0
    assert recovery(clean, zero, zero, mean).ce_recovered == 0.0
    assert recovery(clean, mean, zero, mean).ce_recovered_mean == 0.0
    halfway = recovery(clean, [60.0, 60.0], zero, mean)
    assert halfway.ce_recovered == pytest.approx((190 - 120) / (190 - 50))
    assert halfway.values()["spliced"] == pytest.approx(6.0)


def test_intervals_equal_a_bootstrap_over_contexts_by_hand():
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 20, size=30).astype(float)
    clean, zero, mean = tokens * 2 + rng.normal(size=30), tokens * 8 + rng.normal(size=30), tokens * 5.0
    found = Recovery(tokens, clean, clean + tokens * 0.3, zero, mean, tokens * 0.1)
    shares = []
    draws = np.random.default_rng([4, 5]).multinomial(30, np.full(30, 1 / 30), size=200)
    for draw in draws:
        chosen = np.repeat(np.arange(30), draw)
        shares.append((zero[chosen].sum() - found.spliced[chosen].sum()) / (zero[chosen].sum() - clean[chosen].sum()))
    intervals = found.intervals(seed=4, resamples=200)
    assert intervals["ce_recovered"] == pytest.approx(tuple(np.percentile(shares, [2.5, 97.5])))
    assert intervals["kl"] == pytest.approx((0.1, 0.1))
    assert found.deviations()["clean"] == pytest.approx(np.std(clean / tokens, ddof=1))


def test_one_context_has_no_deviation():
    assert np.isnan(recovery([1.0], [1.0], [2.0], [2.0]).deviations()["clean"])


def test_the_density_histogram_counts_every_latent_once():
    density = np.asarray([0, 0, 1.0, 0.5, 0.1, 0.01, 0.01, 1e-4])
    edges, counts, never = density_histogram(density)
    assert never == 2
    assert counts.sum() == 6
    assert edges[0] <= -4
    assert edges[-1] >= 0
    assert counts[np.searchsorted(edges, -1.99) - 1] == 2


@pytest.mark.parametrize("density", [np.zeros(5), np.ones(5)])
def test_the_density_histogram_of_extremes_is_drawn_too(density):
    edges, counts, never = density_histogram(density)
    assert counts.sum() + never == 5
    assert len(edges) == len(counts) + 1


def test_deviations_of_shares_are_those_of_single_contexts():
    found = recovery([10.0, 20.0], [20.0, 20.0], [110.0, 120.0], [60.0, 70.0])
    assert found.deviations()["ce_recovered"] == pytest.approx(np.std([0.9, 1.0], ddof=1))


def test_an_ablation_that_changes_nothing_gives_no_share():
    found = recovery([10.0, 20.0], [20.0, 20.0], [10.0, 20.0], [60.0, 70.0])
    assert np.isnan(found.ce_recovered)
    assert np.isnan(found.intervals(seed=0)["ce_recovered"][0])
