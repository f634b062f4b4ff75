"""Packing documents into contexts: rows of equal length, each beginning with the same token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def pack(
    pieces: Iterable[tuple[Array, bool]],
    context: int,
    *,
    first: Array | None,
    separator: Array | None,
    padding: Array,
    whole: bool = False,
) -> Iterator[Array]:
    """Rows ``(context, channels)`` from pieces of documents, in order, nothing twice.

    Channel 0 is the token id; further channels travel with it (whether it counts, its slot).

    Args:
        pieces: ``(n, channels)`` arrays, each with whether it begins a document.
        context: length of a row.
        first: ``(channels,)`` put at the front of every row (BOS), or None.
        separator: ``(channels,)`` put between two documents (EOS), or None.
        padding: ``(channels,)`` fills the last row.
        whole: every row begins with the beginning of a document; the rest of a document that a row cuts
            off is left out. For texts without end, where it costs nothing.
    """
    head = np.empty((0, len(padding)), padding.dtype) if first is None else first[None]
    row = [head]
    space = context - len(head)
    begun = skipping = False
    for piece, starts in pieces:
        if starts:
            skipping = False
            if begun and separator is not None and space < context - len(head):
                piece = np.concatenate((separator[None], piece))
        begun = True
        while len(piece) and not skipping:
            row.append(piece[:space])
            piece = piece[space:]
            space -= len(row[-1])
            if not space:
                yield np.concatenate(row)
                row, space = [head], context - len(head)
                skipping = whole
    if space < context - len(head):
        yield np.concatenate([*row, np.repeat(padding[None], space, axis=0)])
