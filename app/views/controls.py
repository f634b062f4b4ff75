"""What a person can do with a view: one list of actions feeds the bar that appears on hover, the menu and the keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QHBoxLayout, QMenu, QToolButton, QWidget

from app.icons import icon
from app.theme import XS, Theme, set_role, small

if TYPE_CHECKING:
    from app.views.base import FigureView

NARROW = 300  # width of a view in pixels below which the bar holds its menu only
# The keys of every view, for the help page; a view has those that make sense for its kind.
KEYS = (
    ("I", "how to read the figure"),
    ("L", "show or hide the legend"),
    ("X, Y", "logarithmic axis"),
    ("S", "smooth curves"),
    ("T", "curves against time"),
    ("R", "colours over the full range, or without outliers"),
    ("A", "show everything"),
    ("+, -", "zoom; with Ctrl the wheel does"),
    ("Arrow keys", "move the read-out, or the locked cell or token"),
    ("Shift + arrow keys", "pan, or turn a cloud of points"),
    ("E", "export and copy"),
    ("Ctrl+C, Ctrl+Shift+C", "copy the data, copy the picture"),
    ("Esc", "unlock, or back to all pictures"),
)


class Controls(QWidget):
    """The bar at the upper right of a view; hidden until the mouse or the focus is there."""

    def __init__(self, view: FigureView) -> None:
        super().__init__(view)
        self._view = view
        self._actions: dict[str, QAction] = {}
        self._buttons: list[tuple[QToolButton, str]] = []
        self._of: dict[QToolButton, QAction] = {}
        self.setAutoFillBackground(True)
        self.setAccessibleName("Controls of the figure")
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(XS, 0, 0, 0)
        self._row.setSpacing(0)
        self.menu = QMenu(self)
        self.more = self._button("More: export and copy", "menu")
        self.more.setMenu(self.menu)
        self.more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.hide()

    def add(
        self,
        name: str,
        title: str,
        run: Callable[[], object],
        *,
        key: str = "",
        hint: str = "",
        button: str = "",
        checkable: bool = False,
    ) -> QAction:
        """Add an action to the menu and the keys, and with ``button`` (an icon's name or a word) to the bar.

        ``hint`` names keys that the view handles itself.
        """
        action = QAction(f"{title}\t{hint}" if hint else title, self._view)
        action.setObjectName(name)
        action.setCheckable(checkable)
        if key:
            action.setShortcut(QKeySequence(key))
            action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        action.setToolTip(f"{title} ({key or hint})" if key or hint else title)
        action.triggered.connect(lambda: run())
        self._view.addAction(action)
        self._actions[name] = action
        self.menu.addAction(action)
        if button:
            # Not the button's default action: that would write the action's title on the button.
            made = self._button(title, button)
            made.setToolTip(action.toolTip())
            made.setCheckable(checkable)
            made.clicked.connect(action.trigger)
            action.changed.connect(lambda: self._sync(made, action))
            self._of[made] = action
        return action

    def separate(self) -> None:
        """Put a line into the menu."""
        self.menu.addSeparator()

    def action(self, name: str) -> QAction:
        return self._actions[name]

    def has(self, name: str) -> bool:
        return name in self._actions

    def allow(self, name: str, possible: bool) -> None:
        """Show an action, or take it away while it makes no sense for the figure."""
        if name in self._actions and self._actions[name].isVisible() != possible:
            self._actions[name].setVisible(possible)
            self._actions[name].setEnabled(possible)
            self.arrange()

    def _sync(self, button: QToolButton, action: QAction) -> None:
        button.setEnabled(action.isEnabled())
        button.setChecked(action.isChecked())

    def check(self, name: str, on: bool) -> None:
        if name in self._actions:
            self._actions[name].setChecked(on)

    def dress(self, look: Theme) -> None:
        """Take the theme's colours."""
        for button, name in self._buttons:
            if _is_icon(name):
                button.setIcon(icon(name, look, "muted"))
            else:
                button.setText(name)

    def arrange(self) -> None:
        """Stand at the upper right of the view, only as wide as it has room for."""
        narrow = self._view.width() < NARROW
        for button, _ in self._buttons:
            possible = button is self.more or (self._of[button].isVisible() and not narrow)
            button.setVisible(possible)
        self.adjustSize()
        margin = self._view.contentsMargins()
        top = self._view.header_top()
        self.move(self._view.width() - self.width() - max(margin.right(), XS), top)
        self.raise_()

    def _button(self, name: str, picture: str) -> QToolButton:
        made = QToolButton(self)
        made.setAccessibleName(name)
        made.setToolTip(name)
        made.setIconSize(QSize(16, 16))
        made.setFont(small())
        made.setAutoRaise(True)
        style = Qt.ToolButtonStyle.ToolButtonIconOnly if _is_icon(picture) else Qt.ToolButtonStyle.ToolButtonTextOnly
        made.setToolButtonStyle(style)
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        set_role(made, "quiet")
        self._buttons.append((made, picture))
        self._row.insertWidget(max(self._row.count() - 1, 0), made)
        return made

    @property
    def buttons(self) -> list[QToolButton]:
        return [button for button, _ in self._buttons]


def _is_icon(name: str) -> bool:
    return " " not in name and name in ("menu", "fit", "legend", "export", "copy", "info")
