"""Small widgets that several panels are composed of: labels, notices, buttons, sections, the responsive grid."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.theme import L, M, S, heading, mono, set_role, small

SELECTABLE = Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard


def label(text: str = "", *, role: str = "", wrap: bool = True, is_small: bool = False) -> QLabel:
    """Words that can be selected and copied. ``role``: muted, good, warning or bad."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setTextInteractionFlags(SELECTABLE)
    # A label that can be selected by keyboard takes focus; tabbing through every label would bury the controls.
    made.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
    made.setWordWrap(wrap)
    if is_small:
        made.setFont(small())
    if role:
        set_role(made, role)
    return made


def title_label(text: str) -> QLabel:
    """A heading."""
    made = label(text)
    made.setFont(heading())
    return made


def section_label(text: str) -> QLabel:
    """The words above a part of a page."""
    made = label(text, wrap=False)
    font = made.font()
    font.setBold(True)
    made.setFont(font)
    return made


def button(text: str, run: Callable[[], object], *, role: str = "", tip: str = "") -> QPushButton:
    """A push button with a word; its accessible name is the word."""
    made = QPushButton(text)
    made.setAccessibleName(text.rstrip("…"))
    made.setAutoDefault(False)
    made.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    if tip:
        made.setToolTip(tip)
        made.setAccessibleDescription(tip)
    if role:
        set_role(made, role)
    made.clicked.connect(lambda: run())
    return made


def row(*widgets: QWidget, spacing: int = S) -> QHBoxLayout:
    """Widgets side by side, left-aligned."""
    made = QHBoxLayout()
    made.setContentsMargins(0, 0, 0, 0)
    made.setSpacing(spacing)
    for widget in widgets:
        made.addWidget(widget)
    made.addStretch(1)
    return made


class Notice(QFrame):
    """A framed sentence with what to do beside it, and details one click away. Hidden while it says nothing."""

    def __init__(self, level: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        set_role(self, f"notice-{level}" if level else "notice")
        self._text = label()
        self._details = QPlainTextEdit()
        self._details.setReadOnly(True)
        self._details.setFont(mono())
        self._details.setAccessibleName("Details")
        self._details.setMinimumHeight(220)
        self._details.hide()
        self._more = button("Details", self._toggle)
        self._more.setCheckable(True)
        self._actions = QHBoxLayout()
        self._actions.setSpacing(S)
        top = QHBoxLayout()
        top.setSpacing(M)
        top.addWidget(self._text, 1)
        top.addLayout(self._actions)
        top.addWidget(self._more, 0, Qt.AlignmentFlag.AlignTop)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(L, M, M, M)
        whole.setSpacing(S)
        whole.addLayout(top)
        whole.addWidget(self._details)
        self.hide()

    def add_action(self, made: QPushButton) -> None:
        """Put a button beside the sentence."""
        self._actions.addWidget(made, 0, Qt.AlignmentFlag.AlignTop)

    def say(self, text: str, details: str = "") -> None:
        """Show ``text`` (hide where it is empty); ``details`` open on demand."""
        self._text.setText(text)
        self.setAccessibleName(text)
        self._details.setPlainText(details)
        self._more.setVisible(bool(details))
        if not details:
            self._more.setChecked(False)
            self._details.hide()
        self.setVisible(bool(text))

    @property
    def text(self) -> str:
        return self._text.text()

    @property
    def details(self) -> str:
        return self._details.toPlainText()

    def _toggle(self) -> None:
        self._details.setVisible(self._more.isChecked())


class Section(QWidget):
    """Words above a body; hidden as long as it is empty."""

    def __init__(self, text: str, body: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.body = body
        self.head = row(section_label(text))
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        whole.addLayout(self.head)
        whole.addWidget(body)

    def add_action(self, made: QPushButton) -> None:
        """Put a button at the right end of the words."""
        self.head.addWidget(made)


class ResponsiveGrid(QWidget):
    """Tiles in as many columns as fit; a wide tile takes a whole row, the last row is filled up.

    Args:
        least: width in pixels below which a column is given up.
        most: never more columns than this.
    """

    def __init__(self, least: int, most: int = 3, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._least, self._most = least, most
        self._tiles: list[tuple[QWidget, bool]] = []
        self._columns = self._fits = 0
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(M)

    @property
    def columns(self) -> int:
        return self._columns

    @property
    def tiles(self) -> list[QWidget]:
        return [tile for tile, _ in self._tiles]

    def set_tiles(self, tiles: list[tuple[QWidget, bool]]) -> None:
        """Show these ``(widget, wide)`` in order; widgets that are no longer among them are hidden, not deleted."""
        if tiles == self._tiles:
            return
        for gone in {tile for tile, _ in self._tiles} - {tile for tile, _ in tiles}:
            gone.hide()
        self._tiles = list(tiles)
        self._place()

    def _place(self) -> None:
        while self._grid.count():
            self._grid.takeAt(0)
        narrow = sum(1 for _, wide in self._tiles if not wide)
        self._fits = self._fitting()
        columns = max(1, min(self._most, self._fits, max(narrow, 1)))
        # Four tiles look better as two rows of two than as three and one.
        if columns == 3 and narrow == 4:
            columns = 2
        for old in range(max(self._columns, columns)):
            self._grid.setColumnStretch(old, 1 if old < columns else 0)
        self._columns = columns
        at_row, at_column = 0, 0
        for index, (tile, wide) in enumerate(self._tiles):
            if wide and at_column:
                at_row, at_column = at_row + 1, 0
            following = self._tiles[index + 1][1] if index + 1 < len(self._tiles) else True
            span = columns if wide else (columns - at_column if following else 1)
            # Tiles have heights of their own; beside a taller one they stay at the top.
            self._grid.addWidget(tile, at_row, at_column, 1, span, Qt.AlignmentFlag.AlignTop)
            tile.show()
            at_column += span
            if at_column >= columns:
                at_row, at_column = at_row + 1, 0

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self._fitting() != self._fits:
            self._place()

    def _fitting(self) -> int:
        """How many columns there is room for."""
        return max(1, (self.width() + M) // (self._least + M))

    def minimumSizeHint(self) -> QSize:
        # The grid gives up columns before it makes its page scroll sideways.
        return QSize(0, super().minimumSizeHint().height())
