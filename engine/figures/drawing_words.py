"""Token strips, tables and graphs on matplotlib axes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure as Sheet
from matplotlib.patches import Rectangle

from engine.figures.cells import strip_top
from engine.figures.kinds import Axis, Graph, Table, TokenStrip
from engine.figures.palette import CHALK, INK, dark_ink, mixed_shade, palette
from engine.figures.words import cell_word, lines_of_tokens, number, shortened, visible_token, width_in_cells

Array: TypeAlias = npt.NDArray[Any]
POINT = 7.0  # size of words in points
ADVANCE = POINT / 72 * 0.6021  # inches a monospaced cell takes (DejaVu Sans Mono)
COLUMNS = 92  # cells in a line of tokens
MOST_LINES = 60
MOST_ROWS = 45
WIDEST = 28  # characters of a table's cell
MOST_NAMES = 150  # nodes up to which each is named


def token_strip(figure: TokenStrip, sheet: Sheet, theme: str) -> Axes:
    """Tokens in lines, shaded by value; a token without a finite value is struck out in grey."""
    wrapped = lines_of_tokens(figure.tokens, COLUMNS)
    shown = wrapped[:MOST_LINES]
    step = POINT / 72 * 1.75
    width, height = COLUMNS * ADVANCE, max(len(shown), 1) * step
    sheet.set_size_inches(width + 0.3, height + (0.75 if figure.value is None else 1.15))
    axes = sheet.add_subplot()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    top = strip_top(figure.value, figure.levels)
    colours = mixed_shade(figure.value, theme, top=top) if figure.value is not None else None
    dark = dark_ink(colours) if colours is not None else None
    for row, line in enumerate(shown):
        for index, cell, text in line:
            box = Rectangle((cell * ADVANCE, row * step + 0.01), width_in_cells(text) * ADVANCE, step - 0.02)
            box.set(facecolor=colours[index] / 255 if colours is not None else "none", edgecolor="none")
            missing = figure.value is not None and not np.isfinite(figure.value[index])
            if missing:
                box.set(facecolor=palette(theme).missing, hatch="////", alpha=0.6)
            axes.add_patch(box)
            word = axes.text(cell * ADVANCE, (row + 0.5) * step, text, family="monospace", fontsize=POINT)
            word.set(va="center_baseline")
            if dark is not None and not missing:
                word.set_color(INK if dark[index] else CHALK)
    said = []
    if len(shown) < len(wrapped):
        last = shown[-1][-1][0] + 1
        said.append(f"the first {last:,} of {len(figure.tokens):,} tokens; the CSV has all")
    if figure.value is not None:
        left_out = int(np.count_nonzero(~np.isfinite(figure.value)))
        said += [f"{left_out:,} not finite (grey)"] if left_out else []
        _strip_key(figure, sheet, axes, theme, top)
    axes.set_title("; ".join(said))
    return axes


def _strip_key(figure: TokenStrip, sheet: Sheet, axes: Axes, theme: str, top: float) -> None:
    assert figure.value is not None
    low = -top if np.nanmin(np.where(np.isfinite(figure.value), figure.value, np.nan), initial=0.0) < 0 else 0.0
    steps = np.linspace(low, top, 256)
    mixed = mixed_shade(steps, theme, top=top) / 255
    key = ScalarMappable(Normalize(low, top), ListedColormap(mixed))
    axis = figure.value_axis or Axis("Value")
    style: dict[str, Any] = {"orientation": "horizontal", "fraction": 0.08, "aspect": 40, "shrink": 0.4}
    bar = sheet.colorbar(key, ax=axes, label=axis.text(), anchor=(0, 1), **style)
    bar.outline.set_visible(False)


def table(figure: Table, sheet: Sheet, theme: str) -> Axes:
    """A ruled table: numbers to the right, words to the left, no vertical lines."""
    count = len(figure.columns[0]) if figure.columns else 0
    rows = min(count, MOST_ROWS)
    columns = [[shortened(cell_word(value), WIDEST) for value in column[:rows].tolist()] for column in figure.columns]
    heads = [shortened(axis.text(), WIDEST) for axis in figure.axes]
    right = [column.dtype.kind in "iufb" for column in figure.columns]
    cells = [
        max([width_in_cells(head), *map(width_in_cells, column)]) for head, column in zip(heads, columns, strict=True)
    ]
    gap, step = 0.16, POINT / 72 * 1.9
    widths = [cell * ADVANCE * 1.04 for cell in cells]
    width = max(sum(widths) + gap * max(len(widths) - 1, 0), 1.5)
    height = (rows + 1.3) * step
    sheet.set_size_inches(width + 0.3, height + 0.55)
    axes = sheet.add_subplot()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    at = 0.0
    for head, column, numeric, room in zip(heads, columns, right, widths, strict=True):
        place, side = (at + room, "right") if numeric else (at, "left")
        axes.text(place, step * 0.6, head, fontsize=POINT, fontweight="bold", ha=side, va="center")
        for row, text in enumerate(column):
            axes.text(place, step * (row + 1.75), text, fontsize=POINT, ha=side, va="center")
        at += room + gap
    for y, weight in ((step * 1.15, 0.8), (height - 0.02, 0.8), (0.02, 0.8)):
        axes.plot([0, width], [y, y], color=palette(theme).muted, linewidth=weight, clip_on=False)
    axes.set_title(
        f"the first {rows} of {count:,} rows; the CSV has all" if rows < count else "" if count else "no rows"
    )
    return axes


def graph(figure: Graph, sheet: Sheet, theme: str) -> Axes:
    """Nodes with their names, edges as wide as their weight, negative ones in the second hue and dashed."""
    sheet.set_size_inches(5.0, 4.2)
    axes = sheet.add_subplot()
    axes.set_axis_off()
    at = np.asarray(figure.position, dtype=np.float64).reshape(-1, 2)
    edges = np.asarray(figure.edges).reshape(-1, 2).astype(int)
    weight = np.asarray(figure.weight, dtype=np.float64)
    colours = palette(theme)
    finite = np.isfinite(weight)
    top = float(np.abs(weight[finite]).max()) if finite.any() else 1.0
    share = np.where(finite, np.abs(weight), 0) / (top or 1.0)
    for chosen, colour, dash, name in (
        (finite & (weight >= 0), colours.series[0], "solid", "positive"),
        (finite & (weight < 0), colours.series[1], (0, (4, 2)), "negative"),
        (~finite, colours.missing, "dotted", "not finite"),
    ):
        if chosen.any():
            segments = at[edges[chosen]]
            widths = 0.3 + 2.7 * share[chosen]
            bundle = LineCollection(list(segments), linewidths=widths.tolist(), colors=colour, alpha=0.75)
            bundle.set(linestyle=dash, label=f"{name}, widest {number(top, 3)} {figure.weight_axis.unit}".rstrip())
            axes.add_collection(bundle)
    axes.plot(at[:, 0], at[:, 1], "o", color=colours.text, markersize=4)
    if len(figure.nodes) <= MOST_NAMES:
        for node, (x, y) in zip(figure.nodes.tolist(), at.tolist(), strict=True):
            text = axes.annotate(shortened(visible_token(node), 20), (x, y), (0, 4), textcoords="offset points")
            text.set(fontsize=6, ha="center", va="bottom")
            text.set_bbox({"facecolor": colours.canvas, "edgecolor": "none", "alpha": 0.7, "pad": 0.6})
    axes.margins(0.1)
    if len(weight):
        axes.legend(
            title=figure.weight_axis.text(), loc="upper left", bbox_to_anchor=(0, 0), fontsize=6, title_fontsize=6
        )
    return axes
