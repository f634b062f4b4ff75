"""Live metric plots: a few with the main one large, many as small multiples, all with the same x axis.

What is plotted where (`plots_of`) is plain data and tested without a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtWidgets import QWidget

from app.panels.parts import ResponsiveGrid
from app.panels.words import name_of

if TYPE_CHECKING:
    from app.workbench import Workbench

LARGE = 280  # pixels: height of the main plot
SMALL = 210
LEAST = 260  # width below which small plots share a row no longer
MANY = 4  # plots of one run from which on none is large, so that the first four are seen without scrolling
NOTHING: Any = np.empty((0, 3))


@dataclass(frozen=True)
class Plot:
    """One plot and the metrics in it. ``scale`` is "linear" or "log"."""

    title: str
    unit: str
    definition: str
    scale: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    step: str = "Step"


def plots_of(declared: Mapping[str, Mapping[str, Any]], logged: Sequence[str], *, grouped: bool = True) -> list[Plot]:
    """The plots of metrics that were logged, the main one (first declared) first.

    Metrics of one ``group`` share a plot, at the place of the first of them, unless several runs
    are overlaid (``grouped`` false): then there would be too many curves to tell apart. Metrics
    that were logged and not declared follow under their own names.
    """
    order = [name for name in declared if name in logged] + sorted(name for name in logged if name not in declared)
    together: dict[str, list[str]] = {}
    for name in order:
        group = declared.get(name, {}).get("group", "") if grouped else ""
        together.setdefault(f"group {group}" if group else f"metric {name}", []).append(name)
    found = []
    for names in together.values():
        metrics = [declared.get(name, {}) for name in names]
        labels = tuple(metric.get("label") or name for metric, name in zip(metrics, names, strict=True))
        first = metrics[0]
        several = len(names) > 1
        definitions = [
            f"{text}: {metric['definition']}" if several else metric["definition"]
            for text, metric in zip(labels, metrics, strict=True)
            if metric.get("definition")
        ]
        title = str(first.get("group") if several else name_of(names[0], declared))
        if title[1:2].isalpha():  # "f: loss" begins with the name of a function
            title = title[:1].upper() + title[1:]
        found.append(
            Plot(
                title,
                first.get("unit", ""),
                "\n".join(definitions),
                first.get("scale", "linear"),
                tuple(names),
                labels,
                first.get("step", "Step"),
            )
        )
    return found


class MetricPlots(ResponsiveGrid):
    """The metric plots of one run, or of several in shared axes.

    Plots are made when their first number comes and kept; new numbers only replace their curves.
    """

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(LEAST, 3, parent)
        self.workbench = workbench
        self._views: dict[tuple[str, ...], Any] = {}
        self._runs: list[tuple[str, str]] = []
        self._declared: Mapping[str, Mapping[str, Any]] = {}
        self._curved: set[tuple[str, str]] = set()
        self._step: float | None = None

    def set_runs(self, runs: list[tuple[str, str]], declared: Mapping[str, Mapping[str, Any]]) -> None:
        """Show these runs ``(id, name in the legend)`` with metrics as the catalogue declares them."""
        self._runs, self._declared = runs, declared
        self.refresh()

    def refresh(self) -> None:
        """Bring all plots up to date with what was measured."""
        # A metric with a single value (measured once, at the end) is a number in the lines around, not a curve.
        logged = sorted(
            {name for run, _ in self._runs for name in self.workbench.metric_names(run) if self._is_curve(run, name)}
        )
        family = len(self._runs) > 1
        plots = plots_of(self._declared, logged, grouped=not family)
        for plot in plots:
            view = self._views.get(plot.names)
            if view is None:
                view = self._views[plot.names] = self._make()
                if family and plot is not plots[0]:
                    view.toggle_legend()  # colours are the same in all plots, so one legend serves them
            view.set_metric(plot.title, plot.unit, plot.definition, plot.scale, self._curves(plot), step=plot.step)
        large = family or len(plots) < MANY
        shown = [(self._views[plot.names], index == 0 and large) for index, plot in enumerate(plots)]
        for tile, wide in shown:
            tile.setFixedHeight(LARGE if wide else SMALL)
        self.set_tiles(shown)

    def mark_step(self, step: float | None) -> None:
        """Draw a line at ``step`` in every plot, or none."""
        self._step = step
        for view in self._views.values():
            view.mark_step(step)

    @property
    def count(self) -> int:
        return len(self.tiles)

    def _is_curve(self, run: str, name: str) -> bool:
        """Whether a metric has two values to draw a line between, and not only undefined ones."""
        if (run, name) not in self._curved:
            rows = self.workbench.metric(run, name)
            if int(np.isfinite(rows[:, 1]).sum()) > 1:
                self._curved.add((run, name))
        return (run, name) in self._curved

    def _make(self) -> Any:
        from app.views.lines import CurvesView  # late: pyqtgraph is not paid for before the first plot

        view = CurvesView(self.workbench)
        view.mark_step(self._step)
        return view

    def _curves(self, plot: Plot) -> list[tuple[str, Any]]:
        curves = []
        for run, called in self._runs:
            known = self.workbench.metric_names(run)
            for name, text in zip(plot.names, plot.labels, strict=True):
                if len(self._runs) > 1:  # also where there is nothing yet: a run has the same colour in all plots
                    curves.append((called, self.workbench.metric(run, name) if name in known else NOTHING))
                elif name in known:
                    curves.append((text, self.workbench.metric(run, name)))
        return curves
