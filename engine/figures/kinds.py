"""The closed set of figure kinds: plain data with titles, axes, units and names.

A figure is a frozen dataclass. Fields that hold numbers or strings per item are numpy arrays and
become datasets; everything else is its *spec* and becomes JSON. `pack` and `unpack` convert
between a figure and ``(kind, spec, arrays)``: that triple is what travels between processes, what
a recording holds and what the session file stores, so there is one definition of each kind.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import SuperscopeError

Array: TypeAlias = npt.NDArray[Any]
Scale: TypeAlias = Literal["linear", "log"]


class FigureError(SuperscopeError):
    """A figure's arrays do not fit each other, or its kind is unknown."""


@dataclass(frozen=True)
class Axis:
    """One axis or colour scale: ``label`` in words, ``unit`` ("" when dimensionless), ``scale``."""

    label: str
    unit: str = ""
    scale: Scale = "linear"

    def text(self) -> str:
        """The label as it is drawn and as it heads a CSV column: ``Loss (nats/token)``."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _numbers(values: Any) -> Array:
    return np.ascontiguousarray(values)


def _strings(values: Any) -> Array:
    return np.asarray([str(value) for value in values], dtype=np.str_)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What every kind has. ``note`` says how to read it: n, spread, control, definition."""

    kind: ClassVar[str] = ""
    datasets: ClassVar[tuple[str, ...]] = ()

    title: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Lines(Figure):
    """Curves. ``x`` is (n,) or (series, n); ``y`` (series, n); ``low``/``high`` an error band like y.

    Series of unequal length are padded with NaN at the end. Within a series a point whose x and y are both NaN
    lifts the pen (arrows, polygons side by side): it is no missing value. ``reference`` holds named
    horizontal lines (a floor, a baseline): ``{"entropy floor": 0.2797}``. ``equal``: a unit is as long across as up, so
    that circles are round.
    """

    kind: ClassVar[str] = "lines"
    datasets: ClassVar[tuple[str, ...]] = ("x", "y", "low", "high")

    x_axis: Axis
    y_axis: Axis
    series: tuple[str, ...]
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    reference: dict[str, float] = field(default_factory=dict)
    equal: bool = False

    def __post_init__(self) -> None:
        y = np.atleast_2d(_numbers(self.y))
        x = np.atleast_2d(_numbers(self.x))
        if x.shape[0] == 1 and y.shape[0] > 1:
            x = np.repeat(x, y.shape[0], axis=0)
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)
        for name in ("low", "high"):
            band = getattr(self, name)
            if band is not None:
                object.__setattr__(self, name, np.atleast_2d(_numbers(band)))
                _same(self, name, "y")
        _same(self, "x", "y")
        _length(self, "series", len(self.series), "y", y.shape[0])


@dataclass(frozen=True, kw_only=True)
class Scatter(Figure):
    """Points (n, 2 or 3), each with an optional ``value`` (n,) for colour and ``label`` (n,).

    ``columns`` (n, m) with ``column_names`` are further numbers of the same points: where they are
    present the view lets a person choose any two (or three) as axes and any one as colour.
    """

    kind: ClassVar[str] = "scatter"
    datasets: ClassVar[tuple[str, ...]] = ("points", "value", "label", "columns")

    x_axis: Axis
    y_axis: Axis
    z_axis: Axis | None = None
    value_axis: Axis | None = None
    points: Array
    value: Array | None = None
    label: Array | None = None
    columns: Array | None = None
    column_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        points = _numbers(self.points)
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            raise FigureError(f"Scatter “{self.title}” needs points of shape (n, 2) or (n, 3), not {points.shape}.")
        object.__setattr__(self, "points", points)
        n = points.shape[0]
        if self.value is not None:
            object.__setattr__(self, "value", _numbers(self.value))
            _length(self, "value", len(self.value), "points", n)
        if self.label is not None:
            object.__setattr__(self, "label", _strings(self.label))
            _length(self, "label", len(self.label), "points", n)
        if self.columns is not None:
            columns = _numbers(self.columns)
            object.__setattr__(self, "columns", columns)
            _length(self, "columns", columns.shape[0], "points", n)
            _length(self, "column_names", len(self.column_names), "columns", columns.shape[1])


@dataclass(frozen=True, kw_only=True)
class Heatmap(Figure):
    """A map ``values`` (rows, columns). ``x`` (columns,) and ``y`` (rows,) are tick labels or numbers.

    ``text`` (rows, columns) is a word per cell (the logit lens' top token). ``diverging`` maps are
    drawn symmetric about zero. Row 0 is at the bottom when ``origin`` is "lower". ``levels`` are the
    values of the first and the last colour, for maps whose outliers are known; else the data decide.
    """

    kind: ClassVar[str] = "heatmap"
    datasets: ClassVar[tuple[str, ...]] = ("values", "x", "y", "text")

    x_axis: Axis
    y_axis: Axis
    value_axis: Axis
    values: Array
    x: Array
    y: Array
    text: Array | None = None
    diverging: bool = False
    origin: Literal["upper", "lower"] = "upper"
    levels: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_levels(self, self.levels)
        values = _numbers(self.values)
        if values.ndim != 2:
            raise FigureError(f"Heatmap “{self.title}” needs values of shape (rows, columns), not {values.shape}.")
        object.__setattr__(self, "values", values)
        for name, size in (("x", values.shape[1]), ("y", values.shape[0])):
            ticks = np.asarray(getattr(self, name))
            object.__setattr__(self, name, _strings(ticks) if ticks.dtype.kind in "OUS" else _numbers(ticks))
            _length(self, name, len(ticks), "values", size)
        if self.text is not None:
            text = np.asarray(self.text, dtype=np.str_)
            object.__setattr__(self, "text", text)
            _same(self, "text", "values")


@dataclass(frozen=True, kw_only=True)
class Histogram(Figure):
    """Counts (groups, bins) between ``edges`` (bins + 1,), or raw ``samples`` (groups, n), NaN-padded."""

    kind: ClassVar[str] = "histogram"
    datasets: ClassVar[tuple[str, ...]] = ("edges", "counts", "samples")

    x_axis: Axis
    y_axis: Axis
    groups: tuple[str, ...]
    edges: Array | None = None
    counts: Array | None = None
    samples: Array | None = None
    violins: bool = False

    def __post_init__(self) -> None:
        if self.samples is None and (self.edges is None or self.counts is None):
            raise FigureError(f"Histogram “{self.title}” needs edges and counts, or samples.")
        if self.edges is not None and self.counts is not None:
            object.__setattr__(self, "edges", _numbers(self.edges))
            object.__setattr__(self, "counts", np.atleast_2d(_numbers(self.counts)))
            _length(self, "edges", len(self.edges), "counts", self.counts.shape[-1] + 1)
        if self.samples is not None:
            object.__setattr__(self, "samples", np.atleast_2d(_numbers(self.samples)))
        rows = self.counts if self.counts is not None else self.samples
        assert rows is not None
        _length(self, "groups", len(self.groups), "counts", np.atleast_2d(rows).shape[0])


@dataclass(frozen=True, kw_only=True)
class Bars(Figure):
    """One bar per label: ``value`` (n,), with ``low`` and ``high`` (n,) as error marks."""

    kind: ClassVar[str] = "bars"
    datasets: ClassVar[tuple[str, ...]] = ("label", "value", "low", "high")

    x_axis: Axis
    y_axis: Axis
    label: Array
    value: Array
    low: Array | None = None
    high: Array | None = None
    horizontal: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", _strings(self.label))
        object.__setattr__(self, "value", _numbers(self.value))
        _length(self, "label", len(self.label), "value", len(self.value))
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _numbers(getattr(self, name)))
                _same(self, name, "value")


@dataclass(frozen=True, kw_only=True)
class Table(Figure):
    """Named columns of equal length; ``axes`` gives each column's label and unit, in order."""

    kind: ClassVar[str] = "table"
    datasets: ClassVar[tuple[str, ...]] = ("columns",)

    axes: tuple[Axis, ...]
    columns: tuple[Array, ...]

    def __post_init__(self) -> None:
        cleaned = []
        for column in self.columns:
            values = np.asarray(column)
            cleaned.append(_strings(values) if values.dtype.kind in "OUS" else _numbers(values))
        object.__setattr__(self, "columns", tuple(cleaned))
        _length(self, "axes", len(self.axes), "columns", len(cleaned))
        if len({len(column) for column in cleaned}) > 1:
            raise FigureError(f"Table “{self.title}” has columns of unequal length.")


@dataclass(frozen=True, kw_only=True)
class TokenStrip(Figure):
    """Tokens in order, each with an optional ``value`` (n,) that shades it; ``levels`` as in `Heatmap`."""

    kind: ClassVar[str] = "token-strip"
    datasets: ClassVar[tuple[str, ...]] = ("tokens", "value")

    value_axis: Axis | None = None
    tokens: Array
    value: Array | None = None
    levels: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_levels(self, self.levels)
        object.__setattr__(self, "tokens", _strings(self.tokens))
        if self.value is not None:
            object.__setattr__(self, "value", _numbers(self.value))
            _same(self, "value", "tokens")


@dataclass(frozen=True, kw_only=True)
class Graph(Figure):
    """Named ``nodes`` (n,) at ``position`` (n, 2), joined by ``edges`` (m, 2) with ``weight`` (m,)."""

    kind: ClassVar[str] = "graph"
    datasets: ClassVar[tuple[str, ...]] = ("nodes", "position", "edges", "weight")

    weight_axis: Axis
    nodes: Array
    position: Array
    edges: Array
    weight: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", _strings(self.nodes))
        for name in ("position", "edges", "weight"):
            object.__setattr__(self, name, _numbers(getattr(self, name)))
        _length(self, "position", len(self.position), "nodes", len(self.nodes))
        _length(self, "weight", len(self.weight), "edges", len(self.edges))


@dataclass(frozen=True, kw_only=True)
class Images(Figure):
    """A grid of pictures ``pixels`` (n, h, w) in units of ``value_axis``, or (n, h, w, 3) uint8 colour.

    ``x`` (w,) and ``y`` (h,) are shared tick labels (the tokens of an attention pattern).
    """

    kind: ClassVar[str] = "images"
    datasets: ClassVar[tuple[str, ...]] = ("pixels", "x", "y")

    x_axis: Axis
    y_axis: Axis
    value_axis: Axis | None = None
    captions: tuple[str, ...]
    pixels: Array
    x: Array | None = None
    y: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", _numbers(self.pixels))
        if self.pixels.ndim not in (3, 4):
            raise FigureError(f"Images “{self.title}” needs pixels (n, h, w) or (n, h, w, 3), not {self.pixels.shape}.")
        _length(self, "captions", len(self.captions), "pixels", self.pixels.shape[0])
        for name, size in (("x", self.pixels.shape[2]), ("y", self.pixels.shape[1])):
            ticks = getattr(self, name)
            if ticks is not None:
                object.__setattr__(self, name, _strings(ticks))
                _length(self, name, len(ticks), "pixels", size)


KINDS: dict[str, type[Figure]] = {
    kind.kind: kind for kind in (Lines, Scatter, Heatmap, Histogram, Bars, Table, TokenStrip, Graph, Images)
}


def _same(figure: Figure, name: str, other: str) -> None:
    a, b = getattr(figure, name), getattr(figure, other)
    if a.shape != b.shape:
        raise FigureError(f"“{figure.title}”: {name} has shape {a.shape} but {other} has shape {b.shape}.")


def _length(figure: Figure, name: str, found: int, other: str, wanted: int) -> None:
    if found != wanted:
        raise FigureError(f"“{figure.title}”: {name} has {found} entries but {other} has {wanted}.")


def _check_levels(figure: Figure, levels: tuple[float, float] | None) -> None:
    if levels is not None and not (np.isfinite(levels).all() and levels[0] < levels[1]):
        raise FigureError(f"“{figure.title}”: levels have to be two finite numbers in order, not {levels}.")


def pack(figure: Figure) -> tuple[str, dict[str, Any], dict[str, Array]]:
    """Split a figure into its kind, its JSON spec and its arrays by dataset name."""
    spec: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for entry in fields(figure):
        value = getattr(figure, entry.name)
        if entry.name in figure.datasets:
            if isinstance(figure, Table):
                arrays.update({f"column-{i}": column for i, column in enumerate(value)})
            elif value is not None:
                arrays[entry.name] = value
        elif isinstance(value, Axis):
            spec[entry.name] = asdict(value)
        elif entry.name == "axes":
            spec[entry.name] = [asdict(axis) for axis in value]
        elif value is not None:
            spec[entry.name] = list(value) if isinstance(value, tuple) else value
    return figure.kind, spec, arrays


def unpack(kind: str, spec: dict[str, Any], arrays: dict[str, Array]) -> Figure:
    """Rebuild a figure from `pack`'s triple.

    Raises:
        FigureError: the kind is unknown, or the parts do not fit each other.
    """
    cls = KINDS.get(kind)
    if cls is None:
        raise FigureError(f"This figure is of kind “{kind}”, which this version does not know; update Superscope.")
    try:
        return cls(**_parts(cls, spec, arrays))
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as problem:  # a stored figure may be anything
        raise FigureError(f"A stored {kind} figure is incomplete ({problem}); its run has to be repeated.") from problem


def _parts(cls: type[Figure], spec: dict[str, Any], arrays: dict[str, Array]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in fields(cls):
        name = entry.name
        if name in cls.datasets and cls is Table:
            values[name] = tuple(arrays[f"column-{i}"] for i in range(len(arrays)))
        elif name in arrays:
            values[name] = arrays[name]
        elif name == "axes":
            values[name] = tuple(Axis(**axis) for axis in spec[name])
        elif name in spec:
            value = spec[name]
            if name.endswith("_axis"):
                value = Axis(**value)
            values[name] = tuple(value) if isinstance(value, list) else value
    return values
