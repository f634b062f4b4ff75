"""Every action a person can take, by name, in one registry.

Menus, shortcuts, the palette, the keyboard help page and the tests all come from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import shiboken6
from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QWidget


class CommandError(Exception):
    """Two commands have one name or one shortcut: a defect, found by the tests."""


@dataclass(eq=False)
class Command:
    """One action.

    Attributes:
        name: ``group.verb`` in lower case ("file.save"); what scripts and tests call it.
        title: the words on the menu and in the palette ("Save").
        group: the menu, and the heading in palette and help ("File").
        run: does it.
        shortcut: portable key text ("Ctrl+S"), or "".
        help: one sentence, the tool tip.
        icon: a name `app.icons.icon` knows, or "".
        possible: whether it can be run now.
        checked: for switches, whether it is on.
        text: the title where it changes ("Undo rename").
        widget: a panel's command works while this widget or a child of it has the focus.
    """

    name: str
    title: str
    group: str
    run: Callable[[], object]
    shortcut: str = ""
    help: str = ""
    icon: str = ""
    possible: Callable[[], bool] | None = None
    checked: Callable[[], bool] | None = None
    text: Callable[[], str] | None = None
    widget: QWidget | None = None

    def shown(self) -> str:
        """The title as it is now."""
        return self.text() if self.text is not None else self.title

    def is_possible(self) -> bool:
        return self.possible is None or self.possible()

    def keys(self) -> str:
        """The shortcut as this system writes it."""
        return QKeySequence(self.shortcut).toString(QKeySequence.SequenceFormat.NativeText) if self.shortcut else ""


class CommandRegistry(QObject):
    """Holds the commands and their `QAction`\\ s.

    Signals:
        changed: commands were added or removed.
        ran: a command was run, by its name.
    """

    changed = Signal()
    ran = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._commands: list[Command] = []
        self._actions: dict[Command, QAction] = {}

    def add(
        self,
        name: str,
        title: str,
        run: Callable[[], object],
        *,
        group: str,
        shortcut: str = "",
        help: str = "",
        icon: str = "",
        possible: Callable[[], bool] | None = None,
        checked: Callable[[], bool] | None = None,
        text: Callable[[], str] | None = None,
        widget: QWidget | None = None,
    ) -> Command:
        """Add a command; one with a ``widget`` goes when the widget goes.

        Raises:
            CommandError: the name or the shortcut is taken.
        """
        command = Command(name, title, group, run, shortcut, help, icon, possible, checked, text, widget)
        for other in self:
            if widget is None and other.widget is None and other.name == name:
                raise CommandError(f"Two commands are called {name}.")
            both = widget is None or other.widget is None or other.widget is widget
            if shortcut and both and QKeySequence(other.shortcut) == QKeySequence(shortcut):
                raise CommandError(f"{shortcut} is the shortcut of both {other.name} and {name}.")
        self._commands.append(command)
        self._actions[command] = self._action(command)
        self.changed.emit()
        return command

    def remove(self, command: Command) -> None:
        """Take a command out, with its action."""
        if command in self._actions:
            self._commands.remove(command)
            action = self._actions.pop(command)
            if shiboken6.isValid(action):
                action.deleteLater()
            self.changed.emit()

    def __iter__(self) -> Iterator[Command]:
        """The commands whose widget, where they have one, is still there."""
        return iter(
            [command for command in self._commands if command.widget is None or shiboken6.isValid(command.widget)]
        )

    def find(self, name: str) -> Command:
        """The command called ``name``. Raises KeyError where there is none."""
        for command in self:
            if command.name == name:
                return command
        raise KeyError(name)

    def action(self, name: str) -> QAction:
        """The action of a command, for menus and tool buttons."""
        return self._actions[self.find(name)]

    def run(self, name: str) -> None:
        """Run a command as its menu entry would."""
        command = self.find(name)
        self._refresh(command)
        self._actions[command].trigger()

    def refresh(self) -> None:
        """Bring texts, ticks and greyed entries up to date."""
        for command in self:
            self._refresh(command)

    def _refresh(self, command: Command) -> None:
        action = self._actions[command]
        action.setEnabled(command.is_possible())
        if command.text is not None:
            action.setText(command.text())
        if command.checked is not None:
            action.setChecked(command.checked())

    def _action(self, command: Command) -> QAction:
        action = QAction(command.shown(), command.widget or self)
        action.setObjectName(command.name)
        if command.shortcut:
            action.setShortcut(QKeySequence(command.shortcut))
        tip = command.help or command.title
        action.setToolTip(f"{tip} ({command.keys()})" if command.shortcut else tip)
        action.setStatusTip(command.help)
        action.setCheckable(command.checked is not None)
        if command.checked is not None:
            action.setChecked(command.checked())
        if command.widget is not None:
            action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            command.widget.addAction(action)
        action.triggered.connect(lambda: self._do(command))
        return action

    def _do(self, command: Command) -> None:
        # Possibility may have changed since the last refresh; a shortcut must not slip through.
        if command.is_possible():
            command.run()
            self.ran.emit(command.name)
        self.refresh()
