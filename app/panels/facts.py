"""Facts about a thing: names at the left, values that can be selected at the right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QGuiApplication, QResizeEvent
from PySide6.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from app.panels.parts import button, label, row
from app.panels.words import fact_text
from app.theme import XL, XS, M, S

MANY, TWO_BLOCKS = 9, 600  # rows and pixels from which facts stand in two blocks
LONG = 16  # hexadecimal digits of a checksum that are shown


class FactsTable(QWidget):
    """Rows of ``(name, value)``; a third text is the tool tip (a definition, the whole of a shortened value).

    Many rows stand in two blocks side by side where there is room.
    """

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self._rows: list[tuple[str, ...]] = []
        self._labels: list[tuple[QLabel, QLabel]] = []
        self._blocks = 0
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(M)
        self._grid.setVerticalSpacing(XS)
        self._copy = button("Copy facts", self.copy, tip="Copy as lines of name and value")
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        whole.addLayout(self._grid)
        whole.addLayout(row(self._copy))
        self._copy.hide()

    def set_rows(self, rows: Sequence[tuple[str, ...]]) -> None:
        if self._rows == list(rows):
            return
        self._rows = list(rows)
        for pair in self._labels:
            for old in pair:
                self._grid.removeWidget(old)
                old.deleteLater()
        self._labels = []
        for name, value, *more in self._rows:
            left, right = label(name, role="muted", wrap=False), label(value)
            right.setAccessibleName(f"{name}: {value}")
            for side in (left, right):
                side.setToolTip(more[0] if more else "")
            self._labels.append((left, right))
        self._copy.setVisible(bool(self._rows))
        self._place()

    def _place(self) -> None:
        self._blocks = self._fitting()
        tall = math.ceil(len(self._labels) / self._blocks)
        for at, (left, right) in enumerate(self._labels):
            block, line = divmod(at, tall)
            self._grid.addWidget(left, line, 3 * block, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(right, line, 3 * block + 1, Qt.AlignmentFlag.AlignTop)
        for block in range(2):
            self._grid.setColumnStretch(3 * block + 1, 1 if block < self._blocks else 0)
        self._grid.setColumnMinimumWidth(2, XL if self._blocks == 2 else 0)

    def _fitting(self) -> int:
        return 2 if len(self._rows) >= MANY and self.width() >= TWO_BLOCKS else 1

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self._fitting() != self._blocks:
            self._place()

    def minimumSizeHint(self) -> QSize:
        # Two blocks must not keep their page from getting narrow.
        return QSize(200, super().minimumSizeHint().height())

    @property
    def rows(self) -> list[tuple[str, ...]]:
        return list(self._rows)

    def copy(self) -> None:
        """Put all rows on the clipboard."""
        lines = (f"{name}\t{more[-1] if more and value.endswith('…') else value}" for name, value, *more in self._rows)
        QGuiApplication.clipboard().setText("\n".join(lines))


def rows_of(values: Mapping[str, Any], *, verbatim: bool = False) -> list[tuple[str, ...]]:
    """Plain values as rows, nested ones with their path; checksums are shortened, the whole is the tool tip.

    ``verbatim`` keeps the names as they are in the file: those of parameters and of a configuration.
    """
    rows: list[tuple[str, ...]] = []
    for name, value in values.items():
        shown = name if verbatim else name.replace("_", " ")[:1].upper() + name.replace("_", " ")[1:]
        if isinstance(value, Mapping):
            rows += [(f"{shown}: {inner[:1].lower()}{inner[1:]}", *rest) for inner, *rest in rows_of(value)]
        elif value is None or value == "":
            continue
        elif isinstance(value, str) and "sha256" in name and len(value) > LONG:
            rows.append((shown.replace("Sha256", "SHA-256"), value[:LONG] + "…", value))
        else:
            rows.append((shown, fact_text(value), str(value)) if len(str(value)) > 60 else (shown, fact_text(value)))
    return rows
