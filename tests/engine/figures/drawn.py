"""Hypothesis strategies for figures of every kind: odd words, NaN, infinities, nothing at all, log axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.figures.kinds import (
    Axis,
    Bars,
    Figure,
    Graph,
    Heatmap,
    Histogram,
    Images,
    Lines,
    Scatter,
    Table,
    TokenStrip,
)

WORDS = st.text(max_size=6) | st.sampled_from(["", "Ġthe", "東京", "\0", "a\0b", "\ud83d", "🙂", "\n", '"', "\\u0041"])
DTYPES = st.sampled_from(["f8", "f4", "f2", "i8", "i4", "u1", ">f4"])
TITLES = st.text(max_size=12)


def numbers(*shape: int) -> st.SearchStrategy[Any]:
    """Arrays of a shape: of several types, with NaN and infinities where the type has them."""
    return DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, shape))


def words(*shape: int) -> st.SearchStrategy[Any]:
    """Arrays of text of a shape."""
    size = int(np.prod(shape))
    return st.lists(WORDS, min_size=size, max_size=size).map(
        lambda items: np.asarray(items, dtype=np.str_).reshape(shape)
    )


def several(count: int) -> st.SearchStrategy[tuple[str, ...]]:
    """Names of ``count`` series."""
    return st.tuples(*[TITLES] * count)


AXES = st.builds(Axis, label=TITLES, unit=TITLES, scale=st.sampled_from(["linear", "log"]))
MAYBE_AXES = st.none() | AXES
SIZES = st.integers(0, 5)


@st.composite
def _lines(draw: st.DrawFn) -> Figure:
    series, n = draw(st.integers(1, 3)), draw(SIZES)
    y = draw(numbers(series, n))
    low, high = (draw(st.none() | numbers(series, n)) for _ in range(2))
    return Lines(
        title=draw(TITLES), note=draw(TITLES), x_axis=draw(AXES), y_axis=draw(AXES), series=draw(several(series)),
        x=draw(numbers(n) | numbers(series, n)), y=y, low=low, high=high,
        reference=draw(st.dictionaries(TITLES, st.floats(allow_nan=False), max_size=2)),
    )  # fmt: skip


@st.composite
def _scatter(draw: st.DrawFn) -> Figure:
    n, wide, columns = draw(SIZES), draw(st.integers(2, 3)), draw(st.integers(1, 3))
    with_columns = draw(st.booleans())
    return Scatter(
        title=draw(TITLES), x_axis=draw(AXES), y_axis=draw(AXES), z_axis=draw(MAYBE_AXES), value_axis=draw(MAYBE_AXES),
        points=draw(numbers(n, wide)), value=draw(st.none() | numbers(n)), label=draw(st.none() | words(n)),
        columns=draw(numbers(n, columns)) if with_columns else None,
        column_names=draw(several(columns)) if with_columns else (),
    )  # fmt: skip


@st.composite
def _heatmap(draw: st.DrawFn) -> Figure:
    rows, columns = draw(SIZES), draw(SIZES)
    return Heatmap(
        title=draw(TITLES), x_axis=draw(AXES), y_axis=draw(AXES), value_axis=draw(AXES),
        values=draw(numbers(rows, columns)), x=draw(numbers(columns) | words(columns)),
        y=draw(numbers(rows) | words(rows)), text=draw(st.none() | words(rows, columns)),
        diverging=draw(st.booleans()), origin=draw(st.sampled_from(["upper", "lower"])),
    )  # fmt: skip


@st.composite
def _histogram(draw: st.DrawFn) -> Figure:
    groups, bins = draw(st.integers(1, 3)), draw(SIZES)
    counted = draw(st.booleans())
    return Histogram(
        title=draw(TITLES), x_axis=draw(AXES), y_axis=draw(AXES), groups=draw(several(groups)),
        edges=draw(numbers(bins + 1)) if counted else None, counts=draw(numbers(groups, bins)) if counted else None,
        samples=draw(numbers(groups, bins)) if not counted or draw(st.booleans()) else None,
        violins=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def _bars(draw: st.DrawFn) -> Figure:
    n = draw(SIZES)
    low, high = (draw(st.none() | numbers(n)) for _ in range(2))
    return Bars(
        title=draw(TITLES), x_axis=draw(AXES), y_axis=draw(AXES), label=draw(words(n)), value=draw(numbers(n)),
        low=low, high=high, horizontal=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def _table(draw: st.DrawFn) -> Figure:
    rows, columns = draw(SIZES), draw(st.integers(0, 12))
    return Table(
        title=draw(TITLES), axes=tuple(draw(AXES) for _ in range(columns)),
        columns=tuple(draw(words(rows) | numbers(rows)) for _ in range(columns)),
    )  # fmt: skip


@st.composite
def _token_strip(draw: st.DrawFn) -> Figure:
    n = draw(SIZES)
    return TokenStrip(
        title=draw(TITLES), value_axis=draw(MAYBE_AXES), tokens=draw(words(n)), value=draw(st.none() | numbers(n))
    )


@st.composite
def _graph(draw: st.DrawFn) -> Figure:
    nodes, edges = draw(SIZES), draw(SIZES)
    return Graph(
        title=draw(TITLES), weight_axis=draw(AXES), nodes=draw(words(nodes)), position=draw(numbers(nodes, 2)),
        edges=draw(hnp.arrays("i8", (edges, 2))), weight=draw(numbers(edges)),
    )  # fmt: skip


@st.composite
def _images(draw: st.DrawFn) -> Figure:
    n, height, width = draw(SIZES), draw(SIZES), draw(SIZES)
    colour = draw(st.booleans())
    return Images(
        title=draw(TITLES), x_axis=draw(AXES), y_axis=draw(AXES), value_axis=draw(MAYBE_AXES),
        captions=draw(several(n)),
        pixels=draw(hnp.arrays("u1", (n, height, width, 3))) if colour else draw(numbers(n, height, width)),
        x=draw(st.none() | words(width)), y=draw(st.none() | words(height)),
    )  # fmt: skip


BY_KIND: dict[str, st.SearchStrategy[Figure]] = {
    "lines": _lines(),
    "scatter": _scatter(),
    "heatmap": _heatmap(),
    "histogram": _histogram(),
    "bars": _bars(),
    "table": _table(),
    "token-strip": _token_strip(),
    "graph": _graph(),
    "images": _images(),
}


def figures() -> st.SearchStrategy[Figure]:
    """A figure of any kind."""
    return st.one_of(*BY_KIND.values())
