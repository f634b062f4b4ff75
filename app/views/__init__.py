"""The views: one per kind of figure. pyqtgraph is imported with the first view that needs it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from engine.figures.kinds import Figure

if TYPE_CHECKING:
    from app.views.base import FigureView
    from app.workbench import Workbench

VIEWS = {
    "lines": ("lines", "LinesView"),
    "scatter": ("scatter", "ScatterView"),
    "heatmap": ("heatmap", "HeatmapView"),
    "histogram": ("histogram", "HistogramView"),
    "bars": ("bars", "BarsView"),
    "table": ("table", "TableView"),
    "token-strip": ("tokens", "TokenStripView"),
    "graph": ("graph", "GraphView"),
    "images": ("images", "ImagesView"),
}


def make_view(figure: Figure, workbench: Workbench) -> FigureView:
    """A view that shows ``figure``; it draws itself at the painter's next turn after it is shown."""
    module, name = VIEWS[figure.kind]
    made: FigureView = getattr(import_module(f"app.views.{module}"), name)(workbench, figure)
    return made
