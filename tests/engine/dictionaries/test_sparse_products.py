"""Exact selection and sums of rows against dense torch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.dictionaries import search, sparse
from engine.dictionaries.search import above, product, run_peaks, topk
from engine.dictionaries.sparse import ByLatent, Encoder, Latents, decode, slopes, sum_rows

SEEDS = st.integers(0, 2**31)
WIDTHS = st.one_of(st.integers(2, 600), st.integers(1, 120).map(lambda runs: 16 * runs))


def table(seed, count, width):
    """Normal entries, rounded so that some are equal."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).mul(50).round() / 50


@settings(deadline=None, max_examples=100)
@given(SEEDS, st.integers(1, 9), WIDTHS, st.integers(1, 40))
def test_selection_finds_the_largest_entries_of_each_row(seed, count, width, k):
    k = min(k, width)
    pre = table(seed, count, width)
    values, indices = topk(pre, k)
    assert torch.equal(values.sort(dim=1).values, pre.topk(k, dim=1).values.sort(dim=1).values)
    assert torch.equal(pre.gather(1, indices), values)
    assert all(len(set(row.tolist())) == k for row in indices)


@pytest.mark.parametrize("width", [4_608, 9_216, 12_288, 16_384, 32_768])
def test_selection_at_the_widths_people_train_lists_few_entries(width, monkeypatch):
    listed = []
    original = search._largest

    def counted(values, *rest):
        listed.append(len(values))
        return original(values, *rest)

    monkeypatch.setattr(search, "_largest", counted)
    topk(torch.randn(4, width, generator=torch.Generator().manual_seed(width)), 32)
    assert 4 * 32 <= listed[0] < 4 * 50


@pytest.mark.parametrize("width", [48, 3_072])
def test_equal_entries_give_k_different_latents(width):
    values, indices = topk(torch.ones(3, width), 8)
    assert torch.equal(values, torch.ones(3, 8))
    assert all(len(set(row.tolist())) == 8 for row in indices)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [slice(5, 6), slice(None)])
def test_entries_that_are_no_finite_numbers_are_ranked_as_torch_does(odd, where):
    pre = table(1, 3, 1_024)
    pre[1, where] = odd
    values, _ = topk(pre, 4)
    assert torch.equal(values.nan_to_num(9e9).sort().values, pre.topk(4).values.nan_to_num(9e9).sort().values)


@settings(deadline=None, max_examples=100)
@given(SEEDS, st.integers(1, 9), WIDTHS, st.floats(-3, 3), st.sampled_from(["one", "latent", "row"]))
def test_all_entries_above_a_bound_are_found_in_order(seed, count, width, level, kind):
    pre = table(seed, count, width)
    spread = {"one": torch.zeros(()), "latent": table(seed + 1, 1, width)[0], "row": table(seed + 1, count, 1)}[kind]
    bound = level if kind == "one" else level + spread
    values, places = above(pre, bound)
    expected = (pre > bound).flatten().nonzero().flatten()
    assert torch.equal(places, expected)
    assert torch.equal(values, pre.flatten()[expected])


def test_peaks_are_the_largest_of_neighbours():
    pre = table(0, 5, 64)
    assert torch.equal(run_peaks(pre), pre.view(5, 4, 16).amax(dim=2))
    assert run_peaks(pre[:, :50].contiguous()) is None


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("other", [False, True], ids=["chosen", "other"])
def test_the_product_equals_the_one_in_float64(bias, other, monkeypatch):
    if other:  # the way that this machine does not go
        available = search._onednn()
        monkeypatch.setattr(search, "_onednn", lambda: not available)
    generator = torch.Generator().manual_seed(3)
    x, rows, shift = (torch.randn(*size, generator=generator) for size in ((37, 24), (80, 24), (80,)))
    expected = x.double() @ rows.double().T + (shift.double() if bias else 0)
    given_bias = shift if bias else None
    torch.testing.assert_close(product(x, rows, given_bias).double(), expected, rtol=1e-5, atol=1e-5)
    turned = product(x.T.contiguous().T, rows.T.contiguous().T, given_bias)
    torch.testing.assert_close(turned.double(), expected, rtol=1e-5, atol=1e-5)
    assert product(x[:0], rows, given_bias).shape == (0, 80)


def random_encoder(seed, count=300, d=12, width=96):
    generator = torch.Generator().manual_seed(seed)
    x, encoder = torch.randn(count, d, generator=generator), torch.randn(width, d, generator=generator)
    return x, encoder, torch.randn(width, generator=generator)


def test_the_encoder_gives_the_same_in_slabs_and_at_once():
    x, encoder, bias = random_encoder(0)
    found = Encoder(slab=96 * 70).topk(x, encoder, bias, 5)
    top = (x @ encoder.T + bias).topk(5, dim=1)
    expected = torch.zeros(300, 96).scatter(1, top.indices, top.values)
    torch.testing.assert_close(found.dense(), expected)


def test_one_encoder_serves_batches_of_growing_size():
    x, encoder, bias = random_encoder(1, count=200)
    encode = Encoder()
    for count in (1, 7, 200, 3):
        found = encode.topk(x[:count], encoder, bias, 3).values.view(count, 3).sum(dim=1)
        torch.testing.assert_close(found, (x[:count] @ encoder.T + bias).topk(3, dim=1).values.sum(dim=1))


@pytest.mark.parametrize("count", [7, 3_000, 10**6])
def test_the_largest_of_a_batch_are_those_of_a_flat_sort(count):
    x, encoder, bias = random_encoder(2)
    found, least = Encoder(slab=96 * 70).batchtopk(x, encoder, bias, count)
    pre = (x @ encoder.T + bias).relu()
    border = pre.flatten().sort(descending=True).values[: min(count, int((pre > 0).sum()))][-1]
    torch.testing.assert_close(found.dense(), torch.where(pre >= border, pre, 0.0))
    assert least == pytest.approx(float(border))


def test_what_an_encoder_saw_before_does_not_change_what_it_finds():
    x, encoder, bias = random_encoder(7)
    encode = Encoder()
    for scale in (1.0, 0.01, 40.0, 1.0):
        found, least = encode.batchtopk(scale * x, encoder, bias, 900)
        fresh, expected = Encoder().batchtopk(scale * x, encoder, bias, 900)
        assert len(found.values) == 900
        assert least == expected
        assert torch.equal(found.indices, fresh.indices)
        assert torch.equal(found.values, fresh.values)
        assert torch.equal(found.offsets, fresh.offsets)


def test_candidates_that_cannot_be_among_the_largest_are_not_kept(monkeypatch):
    x, encoder, bias = random_encoder(10)
    seen = []
    original = sparse.above

    def counted(pre, bound, peaks=None):
        found = original(pre, bound, peaks)
        seen.append(len(found[0]))
        return found

    monkeypatch.setattr(sparse, "above", counted)
    encode = Encoder(slab=96 * 64)
    first, _ = encode.batchtopk(x, encoder, bias, 100)
    assert sum(seen) < (x @ encoder.T + bias > 0).sum() / 3
    seen.clear()
    second, _ = encode.batchtopk(x, encoder, bias, 100)
    assert 100 <= sum(seen) < 200
    assert torch.equal(first.indices, second.indices)


def test_of_equal_entries_at_the_border_the_first_are_taken():
    x = torch.ones(10, 1)
    found, least = Encoder(slab=2).batchtopk(torch.cat([x] * 20), torch.ones(32, 1), torch.zeros(32), 40)
    assert least == 1.0
    assert found.l0.tolist() == [32, 8] + [0] * 198
    assert found.indices.tolist() == [*range(32), *range(8)]


def test_nothing_is_positive_and_so_nothing_is_found():
    x, encoder, _ = random_encoder(3)
    found, least = Encoder().batchtopk(x, encoder, torch.full((96,), -1e6), 5)
    assert len(found.values) == 0
    assert least == 0.0
    assert len(found) == 300


@pytest.mark.parametrize("each", [False, True])
def test_all_above_a_threshold_are_found(each):
    x, encoder, bias = random_encoder(4)
    threshold = torch.rand(96, generator=torch.Generator().manual_seed(5)) if each else 0.5
    pre = x @ encoder.T + bias
    found = Encoder(slab=96 * 70).above(x, encoder, bias, threshold)
    torch.testing.assert_close(found.dense(), torch.where(pre > threshold, pre, 0.0))


def test_products_of_a_code_equal_the_dense_ones():
    x, encoder, bias = random_encoder(6)
    code = Encoder().above(x, encoder, bias, 3.0)
    decoder, error = torch.randn(96, 12), torch.randn(300, 12)
    dense = code.dense()
    torch.testing.assert_close(decode(decoder, code), dense @ decoder)
    expected = (error @ decoder.T)[code.rows, code.indices]
    torch.testing.assert_close(slopes(decoder, code, error), expected)
    grouped = ByLatent(code)
    torch.testing.assert_close(grouped.sum(code.values, error), dense.T @ error, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(grouped.totals(code.values), dense.sum(dim=0), rtol=1e-5, atol=1e-4)
    assert torch.equal(grouped.fired, (dense != 0).sum(dim=0))


@pytest.mark.parametrize("least", [2.5, 1e6])
def test_slopes_equal_the_dense_product_where_rows_are_empty(least):
    x, encoder, bias = random_encoder(8)
    code = Encoder().above(x, encoder, bias, 4 * least)
    assert (code.l0 == 0).any()
    error = torch.randn(300, 12, generator=torch.Generator().manual_seed(9))
    expected = (error @ encoder.T)[code.rows, code.indices]
    torch.testing.assert_close(slopes(encoder, code, error), expected)
    torch.testing.assert_close(sparse._slopes_by_autograd(encoder, code, error), expected)


def test_sums_of_rows_equal_the_dense_product_with_empty_bags_too():
    generator = torch.Generator().manual_seed(2)
    dense = torch.randn(30, 20, generator=generator) * (torch.rand(30, 20, generator=generator) < 0.1)
    dense[[0, 7, 29]] = 0
    table = torch.randn(20, 6, generator=generator)
    bags, rows = dense.nonzero(as_tuple=True)
    offsets = torch.searchsorted(bags, torch.arange(30))
    torch.testing.assert_close(sum_rows(table, rows, offsets, dense[bags, rows]), dense @ table)


def test_latents_leave_out_what_is_not_positive():
    values, indices = torch.tensor([2.0, -1.0, 0.0, 0.5, -1.0, -2.0]), torch.tensor([4, 1, 0, 3, 2, 1])
    latents = Latents(values, indices, torch.tensor([0, 2, 4, 6]), 5).positive()
    assert latents.l0.tolist() == [1, 1, 0]
    expected = torch.zeros(3, 5)
    expected[0, 4], expected[1, 3] = 2.0, 0.5
    assert torch.equal(latents.dense(), expected)
    assert len(latents) == 3
