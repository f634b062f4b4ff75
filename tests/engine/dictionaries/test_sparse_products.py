"""Exact selection and sums of rows against dense torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.dictionaries.sparse import TopKEncoder, _group_size, from_topk, sum_rows, topk


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


def test_the_encoder_gives_the_same_in_slabs_and_at_once():
    generator = torch.Generator().manual_seed(0)
    x, encoder = torch.randn(300, 12, generator=generator), torch.randn(96, 12, generator=generator)
    bias = torch.randn(96, generator=generator)
    values, indices = TopKEncoder(5, slab=96 * 70)(x, encoder, bias)
    expected = (x @ encoder.T + bias).topk(5, dim=1)
    torch.testing.assert_close(values.sort(dim=1).values, expected.values.sort(dim=1).values)
    assert torch.equal(indices.sort(dim=1).values, expected.indices.sort(dim=1).values)


def test_one_encoder_serves_batches_of_growing_size():
    generator = torch.Generator().manual_seed(1)
    encoder, encode = torch.randn(50, 4, generator=generator), TopKEncoder(3)
    for count in (1, 7, 200, 3):
        x = torch.randn(count, 4, generator=generator)
        values, _ = encode(x, encoder, torch.zeros(50))
        torch.testing.assert_close(values.sum(dim=1), (x @ encoder.T).topk(3, dim=1).values.sum(dim=1))


def test_sums_of_rows_equal_the_dense_product_with_empty_bags_too():
    generator = torch.Generator().manual_seed(2)
    dense = torch.randn(30, 20, generator=generator) * (torch.rand(30, 20, generator=generator) < 0.1)
    dense[[0, 7, 29]] = 0
    table = torch.randn(20, 6, generator=generator)
    bags, rows = dense.nonzero(as_tuple=True)
    offsets = torch.searchsorted(bags, torch.arange(30))
    torch.testing.assert_close(sum_rows(table, rows, offsets, dense[bags, rows]), dense @ table)


def test_latents_leave_out_what_is_not_positive():
    values = torch.tensor([[2.0, -1.0], [0.0, 0.5], [-1.0, -2.0]])
    indices = torch.tensor([[4, 1], [0, 3], [2, 1]])
    latents = from_topk(values, indices, 5)
    assert latents.l0.tolist() == [1, 1, 0]
    expected = torch.zeros(3, 5)
    expected[0, 4], expected[1, 3] = 2.0, 0.5
    assert torch.equal(latents.dense(), expected)
    assert len(latents) == 3
