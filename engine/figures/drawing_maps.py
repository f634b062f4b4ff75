"""Heat maps and grids of pictures on matplotlib axes."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as Sheet

from engine.figures.cells import Levels, cell_indices, cell_table, is_diverging, levels, said_of_cells
from engine.figures.drawing_plots import colour_bar, norm
from engine.figures.kinds import Axis, Heatmap, Images
from engine.figures.palette import CHALK, INK, dark_ink, palette
from engine.figures.words import every, shortened, tick_words, visible_token

Array: TypeAlias = npt.NDArray[Any]
CELL = 0.26  # inches a side of a cell that is large enough for a word
MOST_WORDS = 1200  # cells up to which words are written into them
MOST_HATCHED = 2000
MOST_PICTURES = 64
MOST_NUMBERS = 12  # ticks of a numbered side


def heatmap(figure: Heatmap, sheet: Sheet, theme: str) -> Axes:
    """A map of cells with its bar; missing cells grey and hatched, words in the cells where they fit."""
    rows, columns = figure.values.shape
    words = figure.text is not None and rows * columns <= MOST_WORDS
    width = float(np.clip(columns * (0.42 if words else 0.12), 2.4, 8.5 if words else 4.6))
    height = float(np.clip(rows * (0.2 if words else 0.12), 1.4, 7.5 if words else 4.2))
    sheet.set_size_inches(width + 1.7, height + 1.0)
    axes = sheet.add_subplot()
    log = figure.value_axis.scale == "log"
    found = levels(figure.values, diverging=figure.diverging, log=log, given=figure.levels)
    table = cell_table(theme, figure.diverging)
    indices = cell_indices(figure.values, found)
    if indices.size:
        axes.imshow(table[indices], aspect="auto", interpolation="none", origin=figure.origin)
    _bare(axes)
    _hatch(axes, indices == 0, theme)
    axes.set_xlabel(figure.x_axis.text())
    axes.set_ylabel(figure.y_axis.text())
    _ticks(axes, figure.x, figure.y, width, height)
    if words:
        _cell_words(axes, figure, table[indices], width / max(columns, 1))
    key = ScalarMappable(norm(found), ListedColormap(table[1:] / 255.0))
    colour_bar(sheet, axes, key, figure.value_axis, found)
    axes.set_title(said_of_cells(found) if indices.size else "no cells")
    return axes


def _bare(axes: Axes) -> None:
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)


def _hatch(axes: Axes, missing: npt.NDArray[np.bool_], theme: str) -> None:
    """Hatch missing cells while they are few enough for an SVG to stay small; grey they are in any case."""
    places = np.argwhere(missing)
    if 0 < len(places) <= MOST_HATCHED:
        corners = np.asarray([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        cells = places[:, None, ::-1] + corners[None]
        axes.add_collection(
            PolyCollection(
                list(cells), facecolors="none", edgecolors=palette(theme).muted, linewidths=0, hatch="/////"
            ),
            autolim=False,
        )


def _ticks(axes: Axes, x: Array | None, y: Array | None, width: float, height: float, size: float = 6.5) -> None:
    """Tick words along both sides, thinned to what fits, slanted where they would touch."""
    line = size / 72 * 1.35
    if y is not None and len(y):
        numeric = np.asarray(y).dtype.kind not in "US"
        step = every(len(y), min(int(height / line), MOST_NUMBERS if numeric else len(y)))
        axes.set_yticks(range(0, len(y), step), [shortened(word, 18) for word in tick_words(y)[::step]], fontsize=size)
    else:
        axes.set_yticks([])
    if x is not None and len(x):
        names = [shortened(word, 14) for word in tick_words(x)]
        longest = max(len(name) for name in names) * size / 72 * 0.62 + 0.06
        numeric = np.asarray(x).dtype.kind not in "US"
        level = numeric or longest * len(names) <= width
        step = every(len(names), min(int(width / (longest if level else line)), MOST_NUMBERS if numeric else len(x)))
        axes.set_xticks(range(0, len(names), step), names[::step], fontsize=size, rotation=0 if level else 90)
    else:
        axes.set_xticks([])


def _cell_words(axes: Axes, figure: Heatmap, colours: Array, cell: float) -> None:
    """The word of each cell, dark on light cells and light on dark ones."""
    assert figure.text is not None
    size = 5.0
    room = max(int(cell * 72 / (size * 0.6)), 1)
    dark = dark_ink(colours)
    for row in range(figure.values.shape[0]):
        for column in range(figure.values.shape[1]):
            word = str(figure.text[row, column])
            if word:
                colour = INK if dark[row, column] else CHALK
                shown = shortened(visible_token(word), room)
                axes.text(column, row, shown, ha="center", va="center", fontsize=size, color=colour, clip_on=True)


def images(figure: Images, sheet: Sheet, theme: str) -> Axes | None:
    """Pictures in a grid with one scale of colours for all."""
    total, height, width = figure.pixels.shape[:3]
    count = min(total, MOST_PICTURES)
    if count == 0:
        sheet.set_size_inches(3, 1)
        sheet.text(0.5, 0.4, "No pictures", ha="center", color=palette(theme).muted)
        return None
    across = min(count, max(1, math.ceil(math.sqrt(count * 1.3 * height / max(width, 1)))))
    down = math.ceil(count / across)
    side = float(np.clip(6.6 / across, 0.55, 2.2))
    tall = side * min(max(height / max(width, 1), 0.4), 2.0)
    few = (figure.x is not None or figure.y is not None) and width <= 24 and side >= 1.2
    sheet.set_size_inches(across * side + (1.4 if few else 1.0), down * (tall + 0.2) + (0.9 if few else 0.55))
    grid = sheet.subplots(down, across, squeeze=False)
    colour = figure.pixels.ndim == 4
    axis = figure.value_axis or Axis("Value")
    found, table = _scale(figure, axis, theme)
    for place, axes in enumerate(grid.flat):
        if place >= count:
            axes.set_axis_off()
            continue
        picture = figure.pixels[place]
        axes.imshow(picture if colour else table[cell_indices(picture, found)], interpolation="none", aspect="auto")
        if not colour:
            _hatch(axes, cell_indices(picture, found) == 0, theme)
        _bare(axes)
        axes.set_title(shortened(figure.captions[place], max(int(side * 17), 4)), fontsize=6, pad=2, loc="center")
        left, bottom = place % across == 0, place + across >= count
        if few:
            _ticks(axes, figure.x if bottom else None, figure.y if left else None, side, tall, size=5)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
    sheet.supxlabel(figure.x_axis.text(), fontsize=8)
    sheet.supylabel(figure.y_axis.text(), fontsize=8)
    if not colour:
        key = ScalarMappable(norm(found), ListedColormap(table[1:] / 255.0))
        colour_bar(sheet, grid, key, axis, found)
    said = [said_of_cells(found)] if not colour else []
    said += [f"the first {count} of {total:,} pictures; the CSV has all"] if total > count else []
    if any(said):
        sheet.text(0.995, 0.995, "; ".join(part for part in said if part), ha="right", va="top", fontsize=6,
                   color=palette(theme).muted)  # fmt: skip
    return None


def _scale(figure: Images, axis: Axis, theme: str) -> tuple[Levels, Array]:
    if figure.pixels.ndim == 4:
        return Levels(0, 255), cell_table(theme, False)
    diverging = is_diverging(figure.pixels)
    return levels(figure.pixels, diverging=diverging, log=axis.scale == "log"), cell_table(theme, diverging)
