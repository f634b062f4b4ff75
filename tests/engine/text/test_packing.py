"""Packing, against a reading of its definition one token at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.text.packing import pack

FIRST, SEPARATOR, PADDING = -1, -2, -3

documents = st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=12)


def packed(texts: list[list[int]], context: int, bos: bool, whole: bool, cut: int) -> list[list[int]]:
    pieces = []
    for text in texts:
        starts = True
        for begin in range(0, len(text), cut):
            pieces.append((np.array(text[begin : begin + cut], np.int32)[:, None], starts))
            starts = False
    rows = pack(
        pieces,
        context,
        first=np.array([FIRST], np.int32) if bos else None,
        separator=np.array([SEPARATOR], np.int32),
        padding=np.array([PADDING], np.int32),
        whole=whole,
    )
    return [row[:, 0].tolist() for row in rows]


@given(documents, st.integers(2, 9), st.booleans(), st.integers(1, 5))
def test_rows_hold_the_joined_documents_in_order(texts: list[list[int]], context: int, bos: bool, cut: int) -> None:
    stream: list[int] = []
    room = context - bos
    for text in filter(None, texts):
        # A separator at a row's very front would only repeat what BOS says.
        if stream and len(stream) % room:
            stream.append(SEPARATOR)
        stream.extend(text)
    expected = [[FIRST] * bos + stream[start : start + room] for start in range(0, len(stream), room)]
    if expected:
        expected[-1] += [PADDING] * (context - len(expected[-1]))
    assert packed(texts, context, bos, whole=False, cut=cut) == expected


@given(documents, st.integers(2, 9), st.integers(1, 5))
def test_whole_packing_begins_every_row_with_a_document(texts: list[list[int]], context: int, cut: int) -> None:
    expected: list[list[int]] = []
    row: list[int] = []
    for text in filter(None, texts):
        row = [*row, SEPARATOR, *text] if row else [FIRST, *text]
        if len(row) >= context:
            expected.append(row[:context])
            row = []
    if row:
        expected.append(row + [PADDING] * (context - len(row)))
    assert packed(texts, context, True, whole=True, cut=cut) == expected
