"""What steering did in numbers: logit changes, KL token by token, where the activations lie on the direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.panels.looking import Veil
from app.panels.parts import ResponsiveGrid, label
from app.theme import M, S

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.figures.kinds import Figure

NAMES = ("logits", "kl", "projections")
LEAST = 380  # pixels below which a column is given up
TALL = {"logits": 360, "kl": 190}  # pixels, of a figure; another one is
USUAL = 300
HINT = "Logit changes, KL and the distribution along the direction appear here with the first steered text."


class SteeringPictures(QWidget):
    """The figures of an answer, but for those that the texts above show. A view is made once and kept."""

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self.views: dict[str, Any] = {}
        self._veils: dict[str, Veil] = {}
        self.hint = label(HINT, role="muted")
        self.hint.setContentsMargins(S, S, S, S)
        self._grid = ResponsiveGrid(LEAST)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(M)
        whole.addWidget(self.hint)
        whole.addWidget(self._grid)
        whole.addStretch(1)

    def show_figures(self, figures: Mapping[str, Figure], *, done: bool) -> None:
        """Show the figures of an answer; those that a finished one lacks are hidden."""
        figures = {name: figure for name, figure in figures.items() if name in NAMES}
        for name, figure in figures.items():
            view = self.views.get(name)
            if view is None or view.figure.kind != figure.kind:
                self._make(name, figure)
            else:
                view.set_figure(figure)
            self._veils[name].set_waiting(False)
        if done:
            shown = [name for name in self.views if name in figures]
        else:
            shown = [name for name in self.views if name in figures or self.views[name] in self._grid.tiles]
        self._grid.set_tiles([(self.views[name], False) for name in sorted(shown, key=NAMES.index)])
        self.hint.setVisible(not shown)

    def set_waiting(self, waiting: bool, *, silent: bool = False) -> None:
        """Dim the pictures that are about to change."""
        for veil in self._veils.values():
            veil.set_waiting(waiting, silent=silent)

    def _make(self, name: str, figure: Figure) -> None:
        from app.views import make_view  # late: views bring pyqtgraph

        view = make_view(figure, self.workbench)
        view.setFixedHeight(TALL.get(name, USUAL))
        self.views[name] = view
        self._veils[name] = Veil(view, self.workbench)
