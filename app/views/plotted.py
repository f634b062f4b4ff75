"""`PlotView`: a view whose content is a `Plot`. Log axes, fit, zoom and the way of the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtWidgets import QHBoxLayout, QWidget

from app.theme import XS, Theme
from app.views.base import FigureView
from app.views.colour_bar import ColourBar
from app.views.plot import Plot
from engine.figures.kinds import Figure, Scale

if TYPE_CHECKING:
    from app.workbench import Workbench


SCALES: dict[bool, Scale] = {True: "log", False: "linear"}


class PlotView(FigureView):
    """A figure on axes, with room for a colour bar at its right."""

    logs: tuple[str, ...] = ()  # which of "x" and "y" can be logarithmic

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        self.log = {"x": False, "y": False}
        self._declared: dict[str, Scale] = {}
        super().__init__(workbench, figure, parent)
        self.plot.moved.connect(self.hover)
        self.plot.left.connect(self.leave)
        self.plot.clicked.connect(self.click)
        self.plot.resized.connect(self._resized)

    def make_content(self) -> QWidget:
        content = QWidget()
        row = QHBoxLayout(content)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(XS)
        self.plot = Plot()
        self.bar = ColourBar()
        self.bar.hide()
        row.addWidget(self.plot, 1)
        row.addWidget(self.bar)
        content.setFocusProxy(self.plot)
        self.populate()
        return content

    def populate(self) -> None:
        """Make the items of the plot, once."""

    def add_actions(self) -> None:
        for side in self.logs:
            self.controls.add(
                f"log-{side}",
                f"Logarithmic {side} axis",
                lambda side=side: self.toggle_log(side),
                key=side.upper(),
                button=f"log {side}",
                checkable=True,
            )
        self.controls.add("fit", "Show everything", self.fit, key="A", button="fit")

    def _watch(self, widget: QWidget) -> None:
        super()._watch(self.plot)

    def dress(self, look: Theme) -> None:
        super().dress(look)
        self.plot.dress(look)

    # ---- axes

    def set_figure(self, figure: Figure) -> None:
        scales = self._scales(figure)
        if scales != self._declared:  # what a person chose stays until the figure itself asks for another scale
            self._declared = scales
            self.log = {side: scales.get(side) == "log" for side in ("x", "y")}
        super().set_figure(figure)

    @staticmethod
    def _scales(figure: Figure) -> dict[str, Scale]:
        found = {side: getattr(figure, f"{side}_axis", None) for side in ("x", "y")}
        return {side: axis.scale for side, axis in found.items() if axis is not None}

    def toggle_log(self, side: str) -> None:
        """Switch between linear and logarithmic."""
        self.log[side] = not self.log[side]
        self.plot.follow()
        self.workbench.painter.mark(self)

    def paint_now(self) -> None:
        for side in self.logs:
            self.controls.check(f"log-{side}", self.log[side])
        super().paint_now()
        self.plot.setAccessibleName(self.content.accessibleName())
        self.plot.setAccessibleDescription(self.note())

    def fit(self) -> None:
        """Show everything, and follow new data again."""
        self.plot.follow()
        self.workbench.painter.mark(self)

    def zoom(self, factor: float) -> None:
        self.plot.zoom(factor)

    def pan(self, right: int, down: int) -> None:
        self.plot.pan(0.1 * right, -0.1 * down)

    def _resized(self) -> None:
        inner = self.plot.inner()
        self.bar.stand_beside((inner.top(), inner.bottom()))
        self.resized()

    def resized(self) -> None:
        """The plot has another size."""

    # ---- mouse

    def hover(self, x: float, y: float) -> None:
        """Read out what is at (x, y) in axis coordinates."""

    def leave(self) -> None:
        """The mouse went away."""
        self.read_out("")

    def click(self, x: float, y: float) -> None:
        """A click at (x, y)."""


def as_drawn(values: np.ndarray, log: bool) -> np.ndarray:
    """Values in axis coordinates, float64; NaN where they cannot be drawn."""
    values = np.asarray(values, dtype=np.float64)
    if not log:
        return np.where(np.isfinite(values), values, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(values) & (values > 0), np.log10(values), np.nan)


def span(values: np.ndarray) -> tuple[float, float] | None:
    """Least and largest finite value; None where there is none."""
    good = values[np.isfinite(values)]
    return (float(good.min()), float(good.max())) if good.size else None
