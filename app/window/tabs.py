"""The centre: tabs that hold panels, with what the session's layout keeps of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QTabBar, QTabWidget, QWidget

from app.icons import Dresser
from app.panels.panel import Panel
from app.window.docks import quiet_button
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.window.start_page import Host
    from app.workbench import Workbench

WORDS = 32  # letters of a tab's title


class Tabs(QTabWidget):
    """Panels by kind and key. The start page is there whenever nothing else is.

    Signals:
        arranged: tabs were opened, closed, moved or raised.
    """

    arranged = Signal()

    def __init__(self, workbench: Workbench, dresser: Dresser, host: Host, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self._dresser = dresser
        self._host = host
        self.setAccessibleName("Panels")
        self.setDocumentMode(True)
        self.setMovable(True)
        self.setUsesScrollButtons(True)
        self.setElideMode(Qt.TextElideMode.ElideNone)
        self.tabBar().setAccessibleName("Tabs")
        self.tabBar().setExpanding(False)
        self.tabBar().setDrawBase(False)
        self.tabBar().setSelectionBehaviorOnRemove(QTabBar.SelectionBehavior.SelectPreviousTab)
        self.tabBar().tabMoved.connect(lambda *_: self.arranged.emit())
        self.currentChanged.connect(self._raised)
        workbench.panel_wanted.connect(self.open)
        workbench.panel_done.connect(self._close_panel)

    # ---- panels

    def panels(self) -> list[Panel]:
        return [panel for place in range(self.count()) if isinstance(panel := self.widget(place), Panel)]

    def current(self) -> Panel | None:
        widget = self.currentWidget()
        return widget if isinstance(widget, Panel) else None

    def panel(self, kind: str, key: str) -> Panel | None:
        return next((panel for panel in self.panels() if (panel.kind, panel.key) == (kind, key)), None)

    def open(self, kind: str, key: str = "", state: dict[str, Any] | None = None) -> Panel | None:
        """Raise the panel, making it first where it is not there, and bring it into ``state``.

        What cannot be shown is said.
        """
        panel = self.panel(kind, key)
        if panel is None:
            try:
                panel = self._make(kind, key)
            except SuperscopeError as problem:
                self._workbench.report(problem)
                return None
            except KeyError:
                # A panel that another version had.
                self._workbench.message.emit("warning", f"This version has no panel of the kind “{kind}”.", "")
                return None
            self._add(panel)
        if state:
            panel.restore(state)
        self.setCurrentWidget(panel)
        return panel

    def close(self, place: int | None = None) -> None:  # type: ignore[override]
        """Close a tab, the current one unless told; the start page comes when it was the last."""
        place = self.currentIndex() if place is None else place
        panel = self.widget(place)
        if panel is None:
            return
        if self.count() == 1 and isinstance(panel, Panel) and panel.kind == "start":
            return
        self._drop(panel)
        if self.count() == 0:
            self.open("start")
        self.arranged.emit()

    def _close_panel(self, kind: str, key: str) -> None:
        panel = self.panel(kind, key)
        if panel is not None:
            self.close(self.indexOf(panel))

    def close_all(self) -> None:
        """Close every tab; none is left."""
        while (panel := self.widget(0)) is not None:
            self._drop(panel)

    def step(self, by: int) -> None:
        """Go to the next or previous tab, round the end."""
        if self.count():
            self.setCurrentIndex((self.currentIndex() + by) % self.count())

    def _make(self, kind: str, key: str) -> Panel:
        if kind == "start":
            from app.window.start_page import StartPage

            return StartPage(self._workbench, self._host)
        if kind == "open-model":
            from app.window.open_model import OpenModelPage

            return OpenModelPage(key, self._workbench)
        from app.panels import make_panel

        return make_panel(kind, key, self._workbench)

    def _add(self, panel: Panel) -> None:
        place = self.addTab(panel, "")
        button = quiet_button("Close tab")
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # Ctrl+W does it
        self._dresser.put(button, "close", "muted")
        button.clicked.connect(lambda: self.close(self.indexOf(panel)))
        self.tabBar().setTabButton(place, QTabBar.ButtonPosition.RightSide, button)
        panel.title_changed.connect(lambda title: self._name(panel, title))
        self._name(panel, panel.title())
        self.arranged.emit()

    def _name(self, panel: Panel, title: str) -> None:
        place = self.indexOf(panel)
        if place < 0:
            return
        short = title if len(title) <= WORDS else title[: WORDS - 1] + "…"
        self.setTabText(place, short.replace("&", "&&"))
        self.setTabToolTip(place, title)
        panel.setAccessibleName(title)
        button = self.tabBar().tabButton(place, QTabBar.ButtonPosition.RightSide)
        if button is not None:
            button.setAccessibleName(f"Close {title}")
            button.setToolTip(f"Close {title}")

    def _drop(self, panel: QWidget) -> None:
        if isinstance(panel, Panel):
            panel.closing()
        self.removeTab(self.indexOf(panel))
        panel.setParent(None)
        panel.deleteLater()

    def _raised(self, _: int) -> None:
        self._order_focus()
        self.arranged.emit()

    def _order_focus(self) -> None:
        """Let Tab go from the tabs into the panel in front: panels are made later than what stands beside them."""
        for first, second in itertools.pairwise([self.tabBar(), *self._stops()]):
            QWidget.setTabOrder(first, second)

    def _stops(self) -> list[QWidget]:
        """What Tab stops at in the panel in front, in order."""
        panel = self.currentWidget()
        found: list[QWidget] = []
        step = panel.nextInFocusChain() if panel is not None else None
        while step is not panel and step is not None:
            if panel.isAncestorOf(step) and step.focusPolicy() & Qt.FocusPolicy.TabFocus:
                found.append(step)
            step = step.nextInFocusChain()
        return found

    def enter(self) -> None:
        """Give the focus to the panel in front."""
        stops = self._stops()
        (stops[0] if stops else self.tabBar()).setFocus()

    # ---- layout

    def state(self) -> dict[str, Any]:
        """What the session's layout keeps: the tabs in order and which one is in front."""
        return {
            "tabs": [
                {"kind": panel.kind, "key": panel.key, "state": panel.state()}
                for panel in self.panels()
                if panel.kind not in ("start", "open-model")
            ],
            "current": [self.current().kind, self.current().key] if self.current() else [],  # type: ignore[union-attr]
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Open the tabs of a layout; those that cannot be shown any more are passed over, and that is logged."""
        for entry in state.get("tabs", []):
            kind, key = str(entry.get("kind", "")), str(entry.get("key", ""))
            if self.panel(kind, key) is not None:
                continue
            try:
                panel = self._make(kind, key)
                self._add(panel)
                panel.restore(entry.get("state") or {})
            except (SuperscopeError, KeyError) as problem:
                self._workbench.logged.emit("", "warning", f"The tab {kind} {key} was not restored: {problem}")
        wanted = state.get("current") or []
        front = self.panel(*wanted) if len(wanted) == 2 else None
        if front is not None:
            self.setCurrentWidget(front)
