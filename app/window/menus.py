"""Menus and the corner beside them, made from the command registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QMenu, QWidget

from app.theme import XS, S
from app.window import actions
from app.window.docks import quiet_button

if TYPE_CHECKING:
    from app.window.main_window import MainWindow


class Menus:
    """The menu bar of a window."""

    def __init__(self, window: MainWindow) -> None:
        self._window = window
        registry = window.workbench.commands
        bar = window.menuBar()
        bar.setAccessibleName("Menus")
        bar.setNativeMenuBar(False)  # a corner beside the menus is not possible in a bar of the system's
        self.recent = QMenu("Recent sessions", window)
        self.recent.aboutToShow.connect(self._fill_recent)
        for title, names in actions.MENUS.items():
            menu = bar.addMenu(title)
            menu.setAccessibleName(title.replace("&", ""))
            menu.setToolTipsVisible(True)
            menu.aboutToShow.connect(registry.refresh)
            for name in names:
                if name == "-":
                    menu.addSeparator()
                elif name == "recent":
                    menu.addMenu(self.recent)
                else:
                    menu.addAction(registry.action(name))
        for command in registry:
            if command.widget is None:
                window.addAction(registry.action(command.name))
        self._more()
        self._corner()

    def _more(self) -> None:
        registry, button = self._window.workbench.commands, self._window.form.more
        menu = QMenu(button)
        for name in ("run.command", "run.python", "help.experiment"):
            menu.addAction(registry.action(name))
        menu.aboutToShow.connect(registry.refresh)
        button.setMenu(menu)

    def _corner(self) -> None:
        window = self._window
        # Kept: the menu bar takes the widget without telling Python so.
        self.corner = QWidget()
        row = QHBoxLayout(self.corner)
        row.setContentsMargins(0, 0, S, 0)
        row.setSpacing(XS)
        self.theme = quiet_button("Switch between light and dark")
        self.theme.clicked.connect(window.switch_theme)
        self.search = quiet_button("All commands", "All commands (Ctrl+K)")
        self.search.setText("Ctrl+K")
        self.search.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        window.dresser.put(self.search, "search", "muted")
        self.search.clicked.connect(window.show_palette)
        row.addWidget(self.theme)
        row.addWidget(self.search)
        window.menuBar().setCornerWidget(self.corner, Qt.Corner.TopRightCorner)
        self.dress()

    def dress(self) -> None:
        """Show the theme that a click would bring."""
        dark = self._window.workbench.theme.is_dark
        self._window.dresser.put(self.theme, "light" if dark else "dark", "muted")

    def _fill_recent(self) -> None:
        self.recent.clear()
        for recent in self._window.workbench.settings.recent:
            path = Path(recent.path)
            action = self.recent.addAction(f"{path.stem}  ({path.parent})".replace("&", "&&"))
            action.setEnabled(path.exists())
            action.triggered.connect(lambda _=False, path=path: self._window.sessions.open_path(path))
        if self.recent.isEmpty():
            self.recent.addAction("None yet").setEnabled(False)
