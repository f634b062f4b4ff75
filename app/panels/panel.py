"""`Panel`, what the window's tabs hold, and `Page`, a panel that is one scrolling column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from app.theme import XL, L, set_role

if TYPE_CHECKING:
    from app.workbench import Workbench


class Panel(QWidget):
    """One tab. ``key`` says of what: a run's id, a model's reference, a page's name.

    Signals:
        title_changed: the tab's words, when they are others now.
    """

    title_changed = Signal(str)
    kind = ""

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.key = key
        self.workbench = workbench
        self.setObjectName(f"panel-{self.kind}")

    def title(self) -> str:
        """The words on the tab."""
        return self.key

    def state(self) -> dict[str, Any]:
        """What the session's layout keeps of the panel, as JSON values: choices and places, no data."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave, of this or an older version; what it does not know is left out."""

    def closing(self) -> None:
        """The tab is about to go: timers and questions of the panel end."""

    def _say_title(self) -> None:
        self.setAccessibleName(self.title())
        self.title_changed.emit(self.title())


class Page(Panel):
    """A panel that scrolls from top to bottom; subclasses fill `column`."""

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self.area = QScrollArea(self)
        self.area.setFrameShape(QFrame.Shape.NoFrame)
        self.area.setWidgetResizable(True)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # The page itself takes the focus first: arrow and page keys scroll it, and no field is typed into by accident.
        self.area.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.area.viewport().setAutoFillBackground(False)
        content = QWidget()
        set_role(content, "canvas")
        content.setObjectName("page")
        self.column = QVBoxLayout(content)
        self.column.setContentsMargins(XL, L, XL, XL)
        self.column.setSpacing(L)
        self.area.setWidget(content)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self.area)

    def state(self) -> dict[str, Any]:
        return {"scroll": self.area.verticalScrollBar().value()}

    def restore(self, state: dict[str, Any]) -> None:
        place = state.get("scroll")
        if isinstance(place, int):
            self.area.verticalScrollBar().setValue(place)
