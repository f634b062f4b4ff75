"""Messages come out of a pipe as they went in, and a broken pipe is an end, not an error."""

from __future__ import annotations

import io
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.figures import kinds
from engine.figures.kinds import Axis
from engine.runs import messages
from engine.runs.messages import Message, encode, read
from engine.runs.run import Progress

words = st.text(max_size=12) | st.sampled_from(["", "Größe µ → ∞", "日本", "\N{ROBOT FACE}", "a\nb\0c", "\udce4"])
numbers = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1e-300])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words.filter(lambda key: key[:1] != "$"), inner, max_size=3)
    ),
    max_leaves=6,
)
objects = st.dictionaries(words.filter(lambda key: key[:1] != "$"), json_values, max_size=4)
dtypes = st.sampled_from(["<f8", "<f4", "<f2", "<i4", "|u1", "|b1", ">i2", "<c8", "<U5"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
rows = hnp.arrays("<f8", st.tuples(st.integers(0, 5), st.just(3)))
progress = st.builds(Progress, numbers, st.none() | numbers, words, numbers, st.none() | numbers, words)


def _axis() -> st.SearchStrategy[Axis]:
    return st.builds(Axis, words, words, st.sampled_from(["linear", "log"]))


@st.composite
def figures(draw: st.DrawFn) -> kinds.Figure:
    title, a, b = draw(words), draw(_axis()), draw(_axis())
    n, m = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    values = draw(hnp.arrays("<f8", (m, n)))
    texts = draw(st.lists(words.filter(lambda t: "\0" not in t), min_size=n, max_size=n))
    which = draw(st.integers(0, 6))
    if which == 0:
        names = tuple(f"s{i}" for i in range(m))
        return kinds.Lines(
            title=title, note=draw(words), x_axis=a, y_axis=b, series=names, x=values, y=values, low=values,
            reference={"floor": 0.25},
        )  # fmt: skip
    if which == 1:
        points = draw(hnp.arrays("<f4", (n, draw(st.sampled_from([2, 3])))))
        return kinds.Scatter(title=title, x_axis=a, y_axis=b, points=points, label=np.array(texts, dtype=np.str_))
    if which == 2:
        return kinds.Heatmap(
            title=title, x_axis=a, y_axis=b, value_axis=a, values=values, x=np.arange(n), y=np.arange(m), diverging=True
        )
    if which == 3:
        return kinds.Table(title=title, axes=(a, b), columns=(np.arange(n), np.array(texts, dtype=np.str_)))
    if which == 4:
        return kinds.TokenStrip(title=title, tokens=np.array(texts, dtype=np.str_), value=np.zeros(n))
    if which == 5:
        return kinds.Bars(title=title, x_axis=a, y_axis=b, label=np.array(texts, dtype=np.str_), value=np.ones(n))
    pixels = draw(hnp.arrays("|u1", (m, n, 2, 3)))
    return kinds.Images(title=title, x_axis=a, y_axis=b, captions=tuple(f"c{i}" for i in range(m)), pixels=pixels)


BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "str": words,
    "int": st.integers(),
    "float | None": st.none() | numbers,
    "bool": st.booleans(),
    "dict[str, Any]": objects,
    "dict[str, str]": st.dictionaries(words.filter(lambda key: key[:1] != "$"), words, max_size=3),
    "list[dict[str, Any]]": st.lists(objects, max_size=3),
    "list[int]": st.lists(st.integers(), max_size=3),
    "Progress": progress,
    "Figure": figures(),
    "dict[str, Figure]": st.dictionaries(st.text("abc", max_size=3), figures(), max_size=2),
    "dict[str, Array]": st.dictionaries(st.text("abc", max_size=3), arrays | rows, max_size=3),
}
TYPES = list(messages._TYPES.values())
any_message = st.sampled_from(TYPES).flatmap(
    lambda kind: st.builds(kind, **{entry.name: BY_TYPE[str(entry.type)] for entry in fields(kind)})
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
        )
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, e.name), getattr(b, e.name)) for e in fields(a))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@settings(max_examples=300, deadline=None)
@given(st.lists(any_message, max_size=4))
def test_messages_come_out_as_they_went_in(sent: list[Message]) -> None:
    stream = io.BytesIO(b"".join(map(encode, sent)))
    found = []
    while (message := read(stream)) is not None:
        found.append(message)
    assert same(found, sent)


@settings(max_examples=60, deadline=None)
@given(any_message, st.data())
def test_a_stream_that_breaks_off_anywhere_ends(sent: Message, data: st.DataObject) -> None:
    frame = encode(sent)
    cut = data.draw(st.integers(0, len(frame) - 1))
    stream = io.BytesIO(frame + frame[:cut])
    assert same(read(stream), sent)
    assert read(stream) is None


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_every_message_can_travel(kind: type) -> None:
    assert {str(entry.type) for entry in fields(kind)} <= set(BY_TYPE)


def test_a_stream_that_gives_few_bytes_at_a_time_is_read_whole() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 1, 7))

    sent = messages.Measured("r", {"loss": np.arange(30.0).reshape(10, 3)})
    assert same(read(Slow(encode(sent))), sent)


def test_numbers_that_are_not_finite_stay_as_they_are() -> None:
    sent = messages.Progressed("r", Progress(math.nan, math.inf, "x", -math.inf, None))
    assert same(read(io.BytesIO(encode(sent))), sent)


def test_python_objects_do_not_travel() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        encode(messages.Measured("r", {"loss": np.array([{}])}))
