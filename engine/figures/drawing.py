"""Figures as matplotlib draws them for papers: the frame that every kind shares, and which function draws which.

Only matplotlib's object interface is used (no pyplot), so nothing outlives the call but the `Figure`.
"""

from __future__ import annotations

import contextlib
import textwrap
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from engine.figures import drawing_maps, drawing_plots, drawing_words
from engine.figures.kinds import Figure
from engine.figures.palette import palette

# Preferred first; the others fill in scripts that it lacks, where the machine has them.
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans", "PingFang SC", "Microsoft YaHei")
_MONO = ("DejaVu Sans Mono", "Noto Sans Mono CJK SC", "Noto Sans Mono CJK JP", "PingFang SC", "Microsoft YaHei")
_TITLE_ROOM = 15  # characters of a title in one inch


@contextlib.contextmanager
def settings(theme: str) -> Iterator[None]:
    """matplotlib's settings while a figure is drawn and written; put back afterwards."""
    colours = palette(theme)
    values: Any = {
        "font.family": [name for name in _FONTS if name in _installed()],
        "font.monospace": [name for name in _MONO if name in _installed()],
        "font.size": 8,
        "axes.titlesize": 7,
        "axes.titlelocation": "right",
        "axes.titlecolor": colours.muted,
        "axes.labelsize": 8,
        "axes.labelcolor": colours.text,
        "axes.edgecolor": colours.muted,
        "axes.facecolor": colours.canvas,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "axes.formatter.use_mathtext": False,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "xtick.color": colours.muted,
        "ytick.color": colours.muted,
        "xtick.labelcolor": colours.text,
        "ytick.labelcolor": colours.text,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.minor.size": 1.5,
        "ytick.minor.size": 1.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "grid.color": colours.line,
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.1,
        "lines.markersize": 3,
        "legend.frameon": False,
        "legend.fontsize": 7,
        "legend.labelcolor": colours.text,
        "legend.handlelength": 2.2,
        "text.color": colours.text,
        "text.parse_math": False,
        "figure.facecolor": colours.canvas,
        "savefig.facecolor": colours.canvas,
        "savefig.edgecolor": "none",
        "hatch.color": colours.muted,
        "hatch.linewidth": 0.4,
        "svg.fonttype": "none",
        "svg.hashsalt": "superscope",
        "path.simplify": True,
    }
    with warnings.catch_warnings(), mpl.rc_context(values):
        # A sign that no installed font has is drawn as a box; the text in SVG and CSV is whole.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@cache
def _installed() -> frozenset[str]:
    from matplotlib.font_manager import fontManager

    return frozenset(font.name for font in fontManager.ttflist)


def draw(figure: Figure, theme: str, camera: tuple[float, float]) -> Sheet:
    """Draw ``figure`` on a sheet of the size a paper prints it."""
    sheet = Sheet(layout="constrained")
    sheet.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    if figure.kind == "scatter":
        drawing_plots.scatter(figure, sheet, theme, camera)  # type: ignore[arg-type]
    else:
        _DRAW[figure.kind](figure, sheet, theme)
    if figure.title:
        room = max(round(sheet.get_figwidth() * _TITLE_ROOM), 12)
        lines = textwrap.wrap(" ".join(figure.title.split()), room)
        sheet.suptitle("\n".join(lines), x=0.012, ha="left", fontsize=9)
    return sheet


_DRAW: dict[str, Callable[[Any, Sheet, str], Axes | None]] = {
    "lines": drawing_plots.lines,
    "histogram": drawing_plots.histogram,
    "bars": drawing_plots.bars,
    "heatmap": drawing_maps.heatmap,
    "images": drawing_maps.images,
    "graph": drawing_words.graph,
    "table": drawing_words.table,
    "token-strip": drawing_words.token_strip,
}
