"""Figures: what they accept, what they refuse, and that pack and unpack are each other's inverse."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.figures.kinds import (
    KINDS,
    Axis,
    Bars,
    Figure,
    FigureError,
    Graph,
    Heatmap,
    Histogram,
    Images,
    Lines,
    Scatter,
    Table,
    TokenStrip,
    pack,
    unpack,
)
from tests.engine.figures.drawn import BY_KIND

X, Y = Axis("x"), Axis("Loss", "nats/token", "log")


def test_there_is_a_strategy_for_every_kind() -> None:
    assert BY_KIND.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", BY_KIND)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_unpacking_what_was_packed_gives_the_figure_again(kind: str, data: st.DataObject) -> None:
    figure = data.draw(BY_KIND[kind])
    name, spec, arrays = pack(figure)
    assert name == kind
    again = unpack(name, json.loads(json.dumps(spec)), arrays)
    assert type(again) is type(figure)
    for entry in fields(figure):
        before, after = getattr(figure, entry.name), getattr(again, entry.name)
        if entry.name not in figure.datasets:
            assert after == before, entry.name
        elif isinstance(figure, Table):
            for one, other in zip(after, before, strict=True):
                assert one is other or one.tolist() == other.tolist()
        elif before is None or before.dtype.kind == "U":
            assert after is before or after.tolist() == before.tolist(), entry.name
        else:
            assert after is before, entry.name  # numbers are not copied


def test_an_axis_text_is_label_and_unit() -> None:
    assert Y.text() == "Loss (nats/token)"
    assert X.text() == "x"


def test_one_row_of_x_serves_all_series() -> None:
    figure = Lines(title="t", x_axis=X, y_axis=Y, series=("a", "b"), x=[1, 2, 3], y=np.zeros((2, 3)))
    assert figure.x.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert Lines(title="t", x_axis=X, y_axis=Y, series=("a",), x=[1, 2], y=[3, 4]).y.shape == (1, 2)


def _lines(**change: Any) -> Figure:
    return Lines(**{"title": "t", "x_axis": X, "y_axis": Y, "series": ("a",), "x": [1, 2], "y": [1, 2], **change})


def _scatter(**change: Any) -> Figure:
    return Scatter(**{"title": "t", "x_axis": X, "y_axis": Y, "points": np.zeros((3, 2)), **change})


def _heatmap(**change: Any) -> Figure:
    return Heatmap(
        **{
            "title": "t", "x_axis": X, "y_axis": Y, "value_axis": Y, "values": np.zeros((2, 3)), "x": list("abc"),
            "y": [0, 1], **change,
        }
    )  # fmt: skip


def _images(**change: Any) -> Figure:
    return Images(
        **{"title": "t", "x_axis": X, "y_axis": Y, "captions": ("a",), "pixels": np.zeros((1, 2, 3)), **change}
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _lines(series=("a", "b")), "series has 2 entries but y has 1"),
        (lambda: _lines(x=[1, 2, 3]), "x has shape"),
        (lambda: _lines(low=[1, 2, 3]), "low has shape"),
        (lambda: _scatter(points=np.zeros((3, 4))), r"\(n, 2\) or \(n, 3\)"),
        (lambda: _scatter(points=np.zeros(3)), r"\(n, 2\) or \(n, 3\)"),
        (lambda: _scatter(value=[1, 2]), "value has 2 entries but points has 3"),
        (lambda: _scatter(label=["a"]), "label has 1"),
        (lambda: _scatter(columns=np.zeros((2, 2))), "columns has 2"),
        (lambda: _scatter(columns=np.zeros((3, 2)), column_names=("a",)), "column_names has 1"),
        (lambda: _heatmap(values=np.zeros(3)), "rows, columns"),
        (lambda: _heatmap(x=["a", "b"]), "x has 2"),
        (lambda: _heatmap(y=[1]), "y has 1"),
        (lambda: _heatmap(text=[["a"]]), "text has shape"),
        (lambda: Histogram(title="t", x_axis=X, y_axis=Y, groups=("a",)), "needs edges and counts, or samples"),
        (
            lambda: Histogram(title="t", x_axis=X, y_axis=Y, groups=("a",), edges=[0, 1], counts=[[1, 2]]),
            "edges has 2 entries but counts has 3",
        ),
        (lambda: Histogram(title="t", x_axis=X, y_axis=Y, groups=("a", "b"), samples=[1, 2]), "groups has 2"),
        (lambda: Bars(title="t", x_axis=X, y_axis=Y, label=["a"], value=[1, 2]), "label has 1"),
        (lambda: Bars(title="t", x_axis=X, y_axis=Y, label=["a"], value=[1], low=[1, 2]), "low has shape"),
        (lambda: Table(title="t", axes=(X, Y), columns=([1], [1, 2])), "unequal length"),
        (lambda: Table(title="t", axes=(X,), columns=([1], [2])), "axes has 1"),
        (lambda: TokenStrip(title="t", tokens=["a"], value=[1, 2]), "value has shape"),
        (
            lambda: Graph(title="t", weight_axis=Y, nodes=["a"], position=[[0, 0], [1, 1]], edges=[[0, 0]], weight=[1]),
            "position has 2",
        ),
        (
            lambda: Graph(title="t", weight_axis=Y, nodes=["a"], position=[[0, 0]], edges=[[0, 0]], weight=[1, 2]),
            "weight has 2",
        ),
        (lambda: _images(pixels=np.zeros((2, 2))), r"\(n, h, w\)"),
        (lambda: _images(captions=()), "captions has 0"),
        (lambda: _images(x=["a"]), "x has 1"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused_with_their_names_and_sizes(make: Any, words: str) -> None:
    with pytest.raises(FigureError, match=words) as caught:
        make()
    assert "“t”" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "spec", "arrays"),
    [
        ("hologram", {}, {}),
        ("lines", {}, {}),
        ("lines", {"title": "t", "x_axis": 3, "y_axis": {}}, {}),
        ("table", {"title": "t", "axes": [{"label": "a"}]}, {"column-1": np.zeros(1)}),
        ("table", {"title": "t", "axes": 7}, {}),
        ("heatmap", {"title": "t", "x_axis": {"label": "x", "colour": "red"}}, {"values": np.zeros((1, 1))}),
        ("graph", {"title": "t", "weight_axis": {"label": "w"}}, {"nodes": np.float64(3.0)}),
    ],
)
def test_a_stored_figure_that_is_incomplete_or_of_an_unknown_kind_is_refused_in_one_sentence(
    kind: str, spec: dict[str, Any], arrays: dict[str, Any]
) -> None:
    with pytest.raises(FigureError) as caught:
        unpack(kind, spec, arrays)
    assert str(caught.value).endswith(".")
    assert kind in str(caught.value)
