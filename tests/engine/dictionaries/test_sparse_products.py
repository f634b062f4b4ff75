"""Exact selection and sums of rows against dense torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.dictionaries.sparse import ByLatent, Encoder, Latents, _group_size, decode, slopes, sum_rows, topk


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(2, 600), st.integers(1, 40))
def test_selection_in_two_stages_finds_the_largest_entries(seed, count, width, k):
    k = min(k, width)
    pre = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    values, indices = topk(pre, k)
    expected = pre.topk(k, dim=1)
    assert torch.equal(values.sort(dim=1).values, expected.values.sort(dim=1).values)
    assert torch.equal(indices.sort(dim=1).values, expected.indices.sort(dim=1).values)


def test_both_stages_are_used_at_the_widths_people_train():
    assert all(_group_size(width, 32) >= 8 for width in (4_608, 9_216, 12_288, 16_384, 32_768))
    assert _group_size(9221, 32) == 1  # a prime has no groups of equal size


@pytest.mark.parametrize("width", [48, 3_072])
def test_equal_entries_give_k_different_latents(width):
    values, indices = topk(torch.ones(3, width), 8)
    assert torch.equal(values, torch.ones(3, 8))
    assert all(len(set(row.tolist())) == 8 for row in indices)


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
