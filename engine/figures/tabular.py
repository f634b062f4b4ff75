"""A figure as a CSV table: one header row of axis labels with units, then every number at full precision.

Rows are long (one observation a row), so that any table tool can read and regroup them:

- lines: series, x, y[, low, high]; a named reference line is a row whose x is empty
- scatter: x, y[, z][, value][, label], then the further columns
- heatmap: y, x, value[, text], row by row
- histogram: group, from, to, count; or group, sample
- bars: label, value[, low, high]
- table: its own columns
- token-strip: position, token[, value]
- graph: an edge a row with both ends (index, name, position) and its weight; a node without edges has an empty other end
- images: picture, row, column, value (or red, green, blue)

Numbers are the shortest text that reads back as the same value of the array's dtype. Values that
are not finite read ``nan``, ``inf`` and ``-inf``; an empty cell means that there is none.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

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

Array: TypeAlias = npt.NDArray[Any]
Row: TypeAlias = Iterable[str]
CHUNK = 65_536  # rows turned into text at once


def write_csv(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` as UTF-8 with ``\\n`` line ends; the caller sees to atomicity.

    Raises:
        OSError: the file could not be written.
    """
    header, rows = table(figure)
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def table(figure: Figure) -> tuple[list[str], Iterator[Row]]:
    """The header and the rows of a figure's table."""
    header, columns = _LAYOUTS[figure.kind](figure)
    return _unique(header), columns


def cells(values: Array) -> list[str]:
    """Numbers or words as text; a number reads back as the same value of its dtype."""
    values = np.asarray(values)
    if values.dtype.kind in "US":
        return [str(value) for value in values.tolist()]
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        return [np.format_float_scientific(value, unique=True) for value in values]
    return [str(value) for value in values.astype(np.str_).tolist()]


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    header = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        header.append(name if seen[name] == 1 else f"{name} [{seen[name]}]")
    return header


def _rows(columns: list[Array]) -> Iterator[Row]:
    count = len(columns[0]) if columns else 0
    for start in range(0, count, CHUNK):
        yield from zip(*(cells(column[start : start + CHUNK]) for column in columns), strict=True)


def _edge(axis: Axis, which: str) -> str:
    return Axis(f"{axis.label} {which}", axis.unit).text()


Layout: TypeAlias = tuple[list[str], Iterator[Row]]


def _lines(figure: Lines) -> Layout:
    header = ["Series", figure.x_axis.text() or "x", figure.y_axis.text() or "y"]
    bands = [band for band in (figure.low, figure.high) if band is not None]
    header += [
        _edge(figure.y_axis, which) for which, band in (("low", figure.low), ("high", figure.high)) if band is not None
    ]

    def rows() -> Iterator[Row]:
        for index, name in enumerate(figure.series):
            used = drawn_length(figure.x[index], figure.y[index])
            numbers = [figure.x[index], figure.y[index], *(band[index] for band in bands)]
            for row in _rows([column[:used] for column in numbers]):
                yield [name, *row]
        for name, value in figure.reference.items():
            yield [name, "", str(float(value)), *[""] * len(bands)]

    return header, rows()


def drawn_length(x: Array, y: Array) -> int:
    """How many entries of a series come before its padding (x and y both NaN, to the end)."""
    there = ~(_nan(x) & _nan(y))
    return int(len(there) - np.argmax(there[::-1])) if there.any() else 0


def _nan(values: Array) -> npt.NDArray[np.bool_]:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=np.bool_)


def _scatter(figure: Scatter) -> Layout:
    axes = [figure.x_axis, figure.y_axis, figure.z_axis or Axis("z")][: figure.points.shape[1]]
    header = [axis.text() for axis in axes]
    columns = list(figure.points.T)
    if figure.value is not None:
        header.append(figure.value_axis.text() if figure.value_axis else "Value")
        columns.append(figure.value)
    if figure.label is not None:
        header.append("Label")
        columns.append(figure.label)
    if figure.columns is not None:
        header += figure.column_names
        columns += list(figure.columns.T)
    return header, _rows(columns)


def _heatmap(figure: Heatmap) -> Layout:
    header = [figure.y_axis.text() or "Row", figure.x_axis.text() or "Column", figure.value_axis.text()]
    header += ["Text"] if figure.text is not None else []

    def rows() -> Iterator[Row]:
        across = cells(figure.x)
        for index, name in enumerate(cells(figure.y)):
            for column, value in enumerate(cells(figure.values[index])):
                text = [str(figure.text[index, column])] if figure.text is not None else []
                yield [name, across[column], value, *text]

    return header, rows()


def _histogram(figure: Histogram) -> Layout:
    if figure.samples is not None:
        samples = figure.samples

        def drawn() -> Iterator[Row]:
            for index, name in enumerate(figure.groups):
                for value in cells(samples[index, : drawn_length(samples[index], samples[index])]):
                    yield [name, value]

        return ["Group", figure.x_axis.text()], drawn()
    assert figure.edges is not None
    assert figure.counts is not None
    edges, counts = cells(figure.edges), figure.counts

    def counted() -> Iterator[Row]:
        for index, name in enumerate(figure.groups):
            for column, value in enumerate(cells(counts[index])):
                yield [name, edges[column], edges[column + 1], value]

    return ["Group", _edge(figure.x_axis, "from"), _edge(figure.x_axis, "to"), figure.y_axis.text()], counted()


def _bars(figure: Bars) -> Layout:
    header, columns = [figure.x_axis.text() or "Label", figure.y_axis.text()], [figure.label, figure.value]
    for which, band in (("low", figure.low), ("high", figure.high)):
        if band is not None:
            header.append(_edge(figure.y_axis, which))
            columns.append(band)
    return header, _rows(columns)


def _table(figure: Table) -> Layout:
    return [axis.text() for axis in figure.axes], _rows(list(figure.columns))


def _token_strip(figure: TokenStrip) -> Layout:
    header, columns = ["Position", "Token"], [np.arange(len(figure.tokens)), figure.tokens]
    if figure.value is not None:
        header.append(figure.value_axis.text() if figure.value_axis else "Value")
        columns.append(figure.value)
    return header, _rows(columns)


def _graph(figure: Graph) -> Layout:
    ends = ("index", "name", "x", "y")
    header = [*(f"From {end}" for end in ends), *(f"To {end}" for end in ends), figure.weight_axis.text() or "Weight"]

    def end(node: int) -> list[str]:
        return [str(node), str(figure.nodes[node]), *cells(figure.position[node])]

    def rows() -> Iterator[Row]:
        edges = figure.edges.reshape(-1, 2)
        for (source, target), weight in zip(edges.tolist(), cells(figure.weight), strict=True):
            yield [*end(int(source)), *end(int(target)), weight]
        for node in sorted(set(range(len(figure.nodes))) - {int(node) for node in edges.ravel().tolist()}):
            yield [*end(node), "", "", "", "", ""]

    return header, rows()


def _images(figure: Images) -> Layout:
    y, x = figure.y_axis.text() or "Row", figure.x_axis.text() or "Column"
    colour = figure.pixels.ndim == 4
    value = ["Red", "Green", "Blue"] if colour else [figure.value_axis.text() if figure.value_axis else "Value"]
    down = cells(figure.y if figure.y is not None else np.arange(figure.pixels.shape[1]))
    across = cells(figure.x if figure.x is not None else np.arange(figure.pixels.shape[2]))

    def rows() -> Iterator[Row]:
        for name, picture in zip(figure.captions, figure.pixels, strict=True):
            for place, line in zip(down, picture, strict=True):
                numbers = [cells(line[:, channel]) for channel in range(3)] if colour else [cells(line)]
                yield from ([name, place, at, *values] for at, *values in zip(across, *numbers, strict=True))

    return ["Picture", y, x, *value], rows()


_LAYOUTS: dict[str, Callable[[Any], Layout]] = {
    "lines": _lines,
    "scatter": _scatter,
    "heatmap": _heatmap,
    "histogram": _histogram,
    "bars": _bars,
    "table": _table,
    "token-strip": _token_strip,
    "graph": _graph,
    "images": _images,
}
