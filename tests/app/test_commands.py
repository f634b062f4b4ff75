"""Every action is a named command in one registry, and menu, palette, shortcut and help come from it."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QMenu, QWidget

from app.commands import CommandError, CommandRegistry
from app.window import keyboard
from app.window.actions import MENUS
from app.window.palette import Choice, choices, score
from engine import places
from tests.app.conftest import Shell


def test_a_name_and_a_shortcut_are_given_once(qtbot):
    registry = CommandRegistry()
    registry.add("a.one", "One", lambda: None, group="A", shortcut="Ctrl+1")
    with pytest.raises(CommandError, match=r"a\.one"):
        registry.add("a.one", "Another", lambda: None, group="A")
    with pytest.raises(CommandError, match=r"Ctrl\+1"):
        registry.add("a.two", "Two", lambda: None, group="A", shortcut="Ctrl+1")


def test_a_command_that_is_not_possible_does_nothing_whatever_calls_it(qtbot):
    registry, done = CommandRegistry(), []
    allowed = [False]
    registry.add("a.one", "One", lambda: done.append(1), group="A", possible=lambda: allowed[0])
    registry.run("a.one")
    assert done == []
    allowed[0] = True
    registry.refresh()
    registry.run("a.one")
    assert done == [1]


def test_a_panels_command_goes_with_the_panel(qtbot):
    registry = CommandRegistry()
    first, second = QWidget(), QWidget()
    qtbot.addWidget(second)
    registry.add("view.next", "Next", lambda: None, group="View", shortcut="J", widget=first)
    registry.add("view.next", "Next", lambda: None, group="View", shortcut="J", widget=second)
    assert len(list(registry)) == 2
    first.deleteLater()
    qtbot.waitUntil(lambda: len(list(registry)) == 1)
    registry.refresh()


def test_every_command_of_the_menus_exists_and_says_what_it_does(plain_shell: Shell):
    registry = plain_shell.workbench.commands
    in_menus = set()

    def walk(menu: QMenu) -> None:
        for action in menu.actions():
            if action.menu() is not None:
                walk(action.menu())
            elif action.objectName():
                in_menus.add(action.objectName())

    for action in plain_shell.window.menuBar().actions():
        walk(action.menu())
    for command in registry:
        assert command.title
        assert command.help or command.group == "View", command.name
        assert command.title[0].isupper()
        assert not command.title.endswith(("!", "."))
    # What is not in a menu is on the context menu of the session.
    missing = {command.name for command in registry} - in_menus
    assert missing <= {"item.open", "item.command", "item.python", "item.help"}


def test_no_two_commands_of_the_window_share_their_keys(plain_shell: Shell):
    keys = [QKeySequence(command.shortcut).toString() for command in plain_shell.workbench.commands if command.shortcut]
    assert len(keys) == len(set(keys))


def test_the_keyboard_page_is_made_from_the_commands_of_today(plain_shell: Shell):
    made = keyboard.page(plain_shell.workbench.commands)
    assert keyboard.path().read_text() == made, "run `python -m app.window.keyboard` to write the page again"


def test_the_palette_finds_by_word_beginnings_and_by_what_it_is_about():
    def found(words: str, title: str, detail: str = "", extra: str = "") -> float | None:
        return score(words, Choice(title, detail, "", lambda: None, extra=extra))

    best = found("train", "Train a dictionary")
    middle = found("dict", "Train a dictionary")
    inside = found("ction", "Train a dictionary")
    about = found("geom", "PCA spectrum", "Geometry")
    scattered = found("tdict", "Train a dictionary")
    assert None not in (best, middle, inside, about, scattered)
    assert best < middle < inside < about < scattered
    assert found("xyz", "Train a dictionary") is None
    assert found("train xyz", "Train a dictionary") is None
    assert found("", "Anything") == 0


def test_the_palette_offers_commands_experiments_and_runs_and_does_what_is_chosen(shell: Shell):
    run = shell.run("sample-counting")
    titles = [choice.title for choice in choices(shell.workbench)]
    assert "Save as…" in titles
    assert "Counting" in titles
    assert run in titles
    assert "Echo" not in titles  # a look is asked by its panel
    shell.workbench.commands.run("view.palette")
    palette = shell.window._palette
    assert palette is not None
    assert palette.isVisible()
    shell.qtbot.keyClicks(palette.search, "random walk")
    shell.qtbot.keyClick(palette.search, Qt.Key.Key_Return)
    assert not palette.isVisible()
    assert shell.window.form.experiment == "sample-walk"


def test_arrows_move_in_the_palette_while_the_focus_stays_in_its_line(shell: Shell):
    shell.workbench.commands.run("view.palette")
    palette = shell.window._palette
    assert palette is not None
    assert palette.list.currentIndex().row() == 0
    shell.qtbot.keyClick(palette.search, Qt.Key.Key_Down)
    shell.qtbot.keyClick(palette.search, Qt.Key.Key_Down)
    shell.qtbot.keyClick(palette.search, Qt.Key.Key_Up)
    assert palette.list.currentIndex().row() == 1
    shell.qtbot.keyClick(palette, Qt.Key.Key_Escape)
    assert not palette.isVisible()


def test_experiments_that_come_to_be_known_while_one_types_are_found(shell: Shell):
    known, shell.workbench.catalogue = shell.workbench.catalogue, {}
    shell.workbench.commands.run("view.palette")
    palette = shell.window._palette
    assert palette is not None
    shell.qtbot.keyClicks(palette.search, "random walk")
    assert palette._found.rowCount() == 0
    assert "Nothing fits “random walk”" in palette.nothing.text()
    assert palette.nothing.isVisible()
    shell.workbench.catalogue = known
    shell.workbench.catalogue_changed.emit()
    assert palette._found.rowCount() == 1
    assert not palette.nothing.isVisible()
    shell.qtbot.keyClick(palette.search, Qt.Key.Key_Return)
    assert shell.window.form.experiment == "sample-walk"


def test_every_page_of_help_is_in_its_menu(plain_shell: Shell):
    pages = {f"help.{path.stem}" for path in (places.resources() / "help").glob("*.md")}
    assert pages <= set(MENUS["&Help"])
    for page in pages:
        assert plain_shell.workbench.commands.find(page).help
