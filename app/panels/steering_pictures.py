"""What steering did in numbers: logit changes, KL token by token, where the activations lie on the direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from app.panels.looking import Veil
from app.panels.parts import label
from app.theme import M, S

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.figures.kinds import Figure

NAMES = ("logits", "kl", "projections")
TALL = {"logits": 360, "kl": 190, "projections": 300}  # pixels
WIDE = 2 * 380 + M  # pixels from which two figures stand side by side
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
        self._shown: list[str] = []
        self._is_wide = False
        self._grid = QGridLayout()
        self._grid.setSpacing(M)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(M)
        whole.addWidget(self.hint)
        whole.addLayout(self._grid)
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
        kept = [] if done else self._shown
        self._place([name for name in NAMES if name in self.views and (name in figures or name in kept)])

    def set_waiting(self, waiting: bool, *, silent: bool = False) -> None:
        """Dim the pictures that are about to change."""
        for veil in self._veils.values():
            veil.set_waiting(waiting, silent=silent)

    def _make(self, name: str, figure: Figure) -> None:
        from app.views import make_view  # late: views bring pyqtgraph

        view = make_view(figure, self.workbench)
        view.setParent(self)
        if name in self.views:  # of another kind
            self.views[name].deleteLater()
            self._shown = []
        self.views[name] = view
        self._veils[name] = Veil(view, self.workbench)

    def _place(self, shown: list[str]) -> None:
        """One below the other; where there is room, the first takes the left side and the others the right."""
        wide = self.width() >= WIDE and len(shown) > 1
        if (shown, wide) == (self._shown, self._is_wide):
            return
        self._shown, self._is_wide = shown, wide
        while self._grid.count():
            self._grid.takeAt(0)
        beside = shown[1:]
        for row, name in enumerate(shown):
            view, tall = self.views[name], TALL[name]
            if not self._is_wide:
                self._grid.addWidget(view, row, 0)
            elif row == 0:
                tall = max(tall, sum(TALL[other] for other in beside) + M * (len(beside) - 1))
                self._grid.addWidget(view, 0, 0, len(beside), 1)
            else:
                self._grid.addWidget(view, row - 1, 1)
            view.setFixedHeight(tall)
            view.show()
        for name in self.views.keys() - set(shown):
            self.views[name].hide()
        for column in range(2):
            self._grid.setColumnStretch(column, int(column == 0 or self._is_wide))
        self.hint.setVisible(not shown)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place(self._shown)
