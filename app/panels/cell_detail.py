"""The locked cell of the activation viewer: its most likely next tokens, its norm, its largest units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.panels.parts import label
from app.panels.rows import Rows, RowsView
from app.theme import S
from engine.figures.kinds import Bars, Figure, Table
from engine.figures.words import quantity

if TYPE_CHECKING:
    from app.workbench import Workbench

FEW, MANY = 5, 14  # rows that are seen at once, beside the bars and without them
NO_LENS = "The logit lens reads streams as wide as the residual stream; this one is not."


class CellDetail(QWidget):
    """Bars of the next tokens above a list of numbers."""

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self.bars: Any = None
        self._no_lens = label(NO_LENS, role="muted")
        self._no_lens.setContentsMargins(S, S, S, S)
        self._no_lens.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._no_lens.hide()
        self._rows = Rows(["Quantity", "Value"])
        self.table = RowsView(self._rows, "Numbers of the locked cell", most=FEW, flexible=0)
        self._whole = QVBoxLayout(self)
        self._whole.setContentsMargins(0, 0, 0, 0)
        self._whole.setSpacing(S)
        self._whole.addWidget(self._no_lens)
        self._whole.addWidget(self.table)
        self._whole.addStretch()

    @property
    def rows(self) -> list[list[str]]:
        return self._rows.rows

    def show_cell(self, logits: Figure | None, numbers: Figure | None) -> None:
        """Show the figures of another cell; ``logits`` is None where the lens cannot read the stream."""
        if isinstance(logits, Bars):
            if self.bars is None:
                from app.views import make_view  # late: views bring pyqtgraph

                self.bars = make_view(logits, self.workbench)
                self._whole.insertWidget(0, self.bars, 1)
            else:
                self.bars.set_figure(logits)
        if self.bars is not None:
            self.bars.setVisible(isinstance(logits, Bars))
        self._no_lens.setVisible(not isinstance(logits, Bars))
        self.table.show_most(FEW if isinstance(logits, Bars) else MANY)
        if isinstance(numbers, Table):
            names, values, units = numbers.columns
            self._rows.set_rows(
                [
                    [str(name), f"{quantity(float(value), None)} {unit}".rstrip()]
                    for name, value, unit in zip(names, values, units, strict=True)
                ]
            )
            self.table.setToolTip(numbers.title)
