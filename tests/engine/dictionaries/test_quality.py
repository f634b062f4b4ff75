"""Numbers about dictionaries against numpy's direct formulas: the honest ones, and the peers' legacy variants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.dictionaries.measures import MEASURES, legacy
from engine.dictionaries.quality import Quality
from engine.dictionaries.sparse import Latents

WIDTH = 12
NEED_A_MODEL = {"ce_recovered", "ce_recovered_mean", "kl"}
CUTS = [[], [7, 60, 63, 200], list(range(50, 400, 50))]
# In batches of equal size the mean of the batches' means is the mean of all.
BATCHED = set(legacy()) - {"explained_variance_saebench"}


def sparse(dense):
    rows, columns = dense.nonzero(as_tuple=True)
    offsets = torch.zeros(len(dense) + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(rows, minlength=len(dense)).cumsum(0)
    return Latents(dense[rows, columns], columns, offsets, dense.shape[1])


def sample(seed=0, count=400, offset=5.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator) * torch.arange(1, 7) + offset
    reconstruction = 0.9 * x + torch.randn(x.shape, generator=generator) + 0.5
    codes = (torch.randn(count, WIDTH, generator=generator) - 1).relu()
    codes[:, 3] = 0
    return x, reconstruction, codes


def measured(x, reconstruction, codes, cuts=(), dead_after=None):
    found = Quality(x[0], WIDTH, dead_after)
    for part in torch.arange(len(x)).tensor_split(list(cuts)):
        found.add(x[part], reconstruction[part], sparse(codes[part]))
    return found.values()


def honest(x, reconstruction, codes):
    """The definitions, read by numpy in float64 on everything at once."""
    x, y, z = (part.double().numpy() for part in (x, reconstruction, codes))
    error = x - y
    fvu = np.sum(error**2) / np.sum((x - x.mean(axis=0)) ** 2)
    norms = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    return {
        "fvu": fvu,
        "explained_variance": 1 - np.sum(error**2) / (np.sum(x**2) - np.sum(x.sum(axis=0) ** 2) / len(x)),
        "mse": np.mean(np.sum(error**2, axis=1)),
        "l0": np.mean(np.sum(z > 0, axis=1)),
        "l1": np.mean(np.sum(np.abs(z), axis=1)),
        "density": np.mean(z > 0),
        "never_active": np.mean(~np.any(z > 0, axis=0)),
        "cosine": np.mean(np.sum(x * y, axis=1) / (norms[0] * norms[1])),
        "l2_ratio": np.mean(norms[1] / norms[0]),
        "reconstruction_bias": np.mean(norms[1] ** 2) / np.mean(np.sum(x * y, axis=1)),
        "shrinkage": np.sum(x * y) / np.sum(x * x),
    }


def peers(x, reconstruction, cuts=()):
    """What the peers' code does, batch after batch."""
    by_activation, centred, fvu, mse, mean_squares = [], [], [], [], []
    x, y = x.double().numpy(), reconstruction.double().numpy()
    for part in np.split(np.arange(len(x)), list(cuts)):
        a, e = x[part], x[part] - y[part]
        squared, total = np.sum(e**2, axis=1), np.sum((a - a.mean(axis=0)) ** 2, axis=1)
        by_activation += list(1 - squared / total)
        centred.append(1 - e.var(axis=0, ddof=1).sum() / a.var(axis=0, ddof=1).sum())
        fvu.append(squared.sum() / total.sum())
        mse += list(squared / len(part))
        mean_squares += list(np.mean(a**2, axis=0))
    variance = np.mean(np.sum(x**2, axis=1)) - np.mean(mean_squares) ** 2
    return {
        "explained_variance_legacy": np.mean(by_activation),
        "explained_variance_saebench": 1 - np.mean(np.sum((x - y) ** 2, axis=1)) / variance,
        "explained_variance_centred": np.mean(centred),
        "fvu_sparsify": np.mean(fvu),
        "mse_saebench": np.mean(mse),
    }


@pytest.mark.parametrize("cuts", CUTS)
def test_every_number_is_that_of_its_definition(cuts):
    x, reconstruction, codes = sample()
    found = measured(x, reconstruction, codes, cuts)
    expected = honest(x, reconstruction, codes) | peers(x, reconstruction, cuts)
    assert found == pytest.approx(expected, rel=1e-10)


def test_every_number_has_a_definition_and_every_definition_a_number():
    values = measured(*sample(), dead_after=10)
    assert set(values) | NEED_A_MODEL == set(MEASURES)
    assert all(one.label and one.definition and one.source for one in MEASURES.values())


def test_honest_numbers_do_not_depend_on_batches_and_legacy_ones_do():
    whole, cut = measured(*sample(), dead_after=10), measured(*sample(), cuts=CUTS[2], dead_after=10)
    for name in set(whole) - set(legacy()):
        assert cut[name] == pytest.approx(whole[name], rel=1e-11, abs=1e-13), name
    for name in BATCHED:
        assert abs(cut[name] / whole[name] - 1) > 1e-4, name
    assert cut["mse_saebench"] == pytest.approx(8 * whole["mse_saebench"])


def test_the_mean_explains_nothing_and_the_activation_itself_everything():
    x, _, codes = sample()
    mean = measured(x, x.double().mean(dim=0).expand_as(x), codes)
    assert mean["explained_variance"] == pytest.approx(0, abs=1e-12)
    assert mean["fvu"] == pytest.approx(1, abs=1e-12)
    perfect = measured(x, x, codes)
    for name in ("explained_variance", "cosine", "l2_ratio", "reconstruction_bias", "shrinkage"):
        assert perfect[name] == pytest.approx(1, abs=1e-12), name
    assert perfect["fvu"] == perfect["mse"] == 0


def test_a_constant_offset_is_forgiven_by_the_legacy_variant_only():
    x, _, codes = sample()
    found = measured(x, x + 3.0, codes)
    variance = np.sum(x.double().numpy().var(axis=0))
    assert found["explained_variance"] == pytest.approx(1 - 6 * 9 / variance, rel=1e-5)
    assert found["explained_variance_centred"] == pytest.approx(1, abs=1e-9)


def test_a_large_mean_flatters_saebench_s_variance_only():
    # Points at distance one around a mean of length one: E‖x‖² = 2, and their variance is 1.
    circle = torch.tensor([[1.0, 1.0, 0], [-1, 1, 0], [0, 1, 1], [0, 1, -1]])
    constant = torch.tensor([[0.0, 1.0, 0]]).expand(4, 3)
    found = Quality(circle[0], WIDTH)
    found.add(circle, constant, sparse(torch.zeros(4, WIDTH)))
    assert found.values()["explained_variance"] == pytest.approx(0)
    assert found.values()["explained_variance_saebench"] == pytest.approx(1 - 1 / (2 - (2 / 3) ** 2))


def test_a_shrunk_reconstruction_shows_in_slope_ratio_and_bias():
    x, _, codes = sample()
    found = measured(x, 0.8 * x, codes)
    for name in ("shrinkage", "l2_ratio", "reconstruction_bias"):
        assert found[name] == pytest.approx(0.8, rel=1e-6), name
    assert found["cosine"] == pytest.approx(1)


@pytest.mark.parametrize("cuts", [[], [1, 2, 3], [50]])
def test_a_latent_is_dead_after_so_many_silent_activations(cuts):
    x, reconstruction, codes = sample(count=100)
    codes[:] = 1.0
    codes[:, 0] = 0  # never
    codes[90:, 1] = 0  # silent for 10
    codes[91:, 2] = 0  # silent for 9
    assert measured(x, reconstruction, codes, cuts, dead_after=10)["dead"] == pytest.approx(2 / WIDTH)
    assert measured(x, reconstruction, codes, cuts, dead_after=101)["dead"] == 0
    assert "dead" not in measured(x, reconstruction, codes, cuts)


def test_zero_activations_and_no_activations_give_no_nonsense():
    zero = torch.zeros(4, 6)
    found = measured(zero, zero, torch.zeros(4, WIDTH))
    assert found["cosine"] == 0
    assert np.isnan(found["l2_ratio"])
    assert np.isnan(found["explained_variance"])
    assert np.isnan(found["shrinkage"])
    assert np.isnan(Quality(zero[0], WIDTH).values()["mse"])
