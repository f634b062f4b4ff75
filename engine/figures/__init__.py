"""Figures as plain data: the closed set of kinds, and how they are written to files.

Names are imported on first use: the window needs the colours before its first paint, and numpy
not until then.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.figures.kinds import KINDS as KINDS
    from engine.figures.kinds import Axis as Axis
    from engine.figures.kinds import Bars as Bars
    from engine.figures.kinds import Figure as Figure
    from engine.figures.kinds import FigureError as FigureError
    from engine.figures.kinds import Graph as Graph
    from engine.figures.kinds import Heatmap as Heatmap
    from engine.figures.kinds import Histogram as Histogram
    from engine.figures.kinds import Images as Images
    from engine.figures.kinds import Lines as Lines
    from engine.figures.kinds import Scatter as Scatter
    from engine.figures.kinds import Table as Table
    from engine.figures.kinds import TokenStrip as TokenStrip
    from engine.figures.kinds import pack as pack
    from engine.figures.kinds import unpack as unpack

__all__ = [
    "KINDS",
    "Axis",
    "Bars",
    "Figure",
    "FigureError",
    "Graph",
    "Heatmap",
    "Histogram",
    "Images",
    "Lines",
    "Scatter",
    "Table",
    "TokenStrip",
    "pack",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("engine.figures.kinds"), name)
    raise AttributeError(name)
