"""The commands of the window, by menu. What they do lies in `MainWindow`, `Selection` and the panels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.window import asking
from app.window.view_actions import add_help, add_run, add_view

if TYPE_CHECKING:
    from app.window.main_window import MainWindow

# The menus in order; "-" is a line, "recent" the list of recent sessions.
MENUS: dict[str, tuple[str, ...]] = {
    "&File": (
        "file.new", "file.open", "recent", "file.demo", "-", "file.model", "file.toy", "-", "file.save",
        "file.save-as", "-", "file.close-tab", "file.quit",
    ),
    "&Edit": (
        "edit.undo", "edit.redo", "-", "item.rename", "item.tag", "item.note", "item.delete", "-", "edit.title",
        "edit.find",
    ),
    "&Run": (
        "run.choose", "run.start", "-", "run.pause", "run.stop", "item.resume", "run.resume", "-",
        "item.duplicate", "item.compare", "-", "run.command", "run.python", "-", "run.engine",
    ),
    "&View": (
        "view.palette", "-", "view.start", "view.activations", "view.steering", "view.notes", "-", "view.session",
        "view.form", "view.jobs", "view.log", "view.reset", "-", "view.light", "view.dark", "view.system", "-", "view.next",
        "view.previous", "view.full",
    ),
    "&Help": (
        "help.start", "help.sessions", "help.models", "help.text", "help.dictionaries", "help.steering", "help.numbers",
        "help.toys", "help.keyboard", "-", "help.experiment", "-", "help.about",
    ),
}  # fmt: skip


def add_all(window: MainWindow) -> None:
    """Put every command into the registry."""
    _file(window)
    _ways_to_begin(window)
    _edit(window)
    _selected(window)
    _selected_runs(window)
    add_run(window)
    add_view(window)
    add_help(window)


def _file(window: MainWindow) -> None:
    add = window.workbench.commands.add
    group = "File"

    def begun() -> bool:
        return window.workbench.begun

    add(
        "file.new",
        "New session",
        window.sessions.new,
        group=group,
        shortcut="Ctrl+N",
        icon="add",
        possible=begun,
        help="Begin an empty session",
    )
    add(
        "file.open",
        "Open session…",
        window.sessions.choose,
        group=group,
        shortcut="Ctrl+O",
        icon="open",
        possible=begun,
        help="Open a .superscope file",
    )
    add(
        "file.save",
        "Save",
        window.sessions.save,
        group=group,
        shortcut="Ctrl+S",
        icon="save",
        possible=lambda: begun() and not window.documents.busy,
        help="Write the session to its file",
    )
    add(
        "file.save-as",
        "Save as…",
        window.sessions.save_as,
        group=group,
        shortcut="Ctrl+Shift+S",
        possible=lambda: begun() and not window.documents.busy,
        help="Write the session to another file",
    )
    add(
        "file.close-tab",
        "Close tab",
        lambda: window.tabs.close(),
        group=group,
        shortcut="Ctrl+W",
        help="Close the tab in front",
    )
    add("file.quit", "Quit", window.close, group=group, shortcut="Ctrl+Q", help="Close the window")  # fmt: skip


def _ways_to_begin(window: MainWindow) -> None:
    add = window.workbench.commands.add
    group = "File"

    def begun() -> bool:
        return window.workbench.begun

    add(
        "file.demo",
        "Open the demo session",
        window.sessions.open_demo,
        group=group,
        icon="demo",
        possible=begun,
        help="A small trained model with finished runs, as an unsaved copy",
    )
    add(
        "file.model",
        "Open a model…",
        lambda: window.workbench.open_panel("open-model"),
        group=group,
        shortcut="Ctrl+Shift+O",
        icon="models",
        possible=begun,
        help="Open a model by name, from a file or a folder",
    )
    add(
        "file.toy",
        "Toy models",
        lambda: window.workbench.open_panel("toys"),
        group=group,
        icon="train",
        possible=begun,
        help="Small worlds with known answers, to train or to look at",
    )


def _edit(window: MainWindow) -> None:
    add, workbench = window.workbench.commands.add, window.workbench
    group = "Edit"
    add(
        "edit.undo",
        "Undo",
        workbench.undo,
        group=group,
        shortcut="Ctrl+Z",
        icon="undo",
        possible=lambda: workbench.begun and bool(workbench.session.can_undo),
        text=window.undo_words,
        help="Take back the last change of the session",
    )
    add(
        "edit.redo",
        "Redo",
        workbench.redo,
        group=group,
        shortcut="Ctrl+Shift+Z",
        possible=lambda: workbench.begun and bool(workbench.session.can_redo),
        text=window.redo_words,
        help="Do again what was taken back",
    )
    add(
        "edit.title",
        "Rename the session…",
        lambda: asking.rename_session(window),
        group=group,
        possible=lambda: workbench.begun,
        help="Give the session another title",
    )
    add(
        "edit.find",
        "Search the session",
        window.search_session,
        group=group,
        shortcut="Ctrl+F",
        icon="search",
        help="Go to the search line above the session",
    )


def _selected(window: MainWindow) -> None:
    add, chosen = window.workbench.commands.add, window.selection
    group = "Selection"
    tree = window.tree.view
    add(
        "item.open",
        "Open",
        chosen.open,
        group=group,
        icon="right",
        possible=chosen.one_or_more,
        help="Show what is selected in a tab",
    )
    add(
        "item.rename",
        "Rename",
        window.tree.edit_title,
        group=group,
        shortcut="F2",
        icon="rename",
        widget=tree,
        possible=chosen.one,
        help="Give what is selected another title",
    )
    add(
        "item.delete",
        "Delete",
        chosen.delete,
        group=group,
        shortcut="Del",
        icon="delete",
        widget=tree,
        possible=chosen.deletable,
        help="Delete what is selected; Undo brings it back",
    )
    add(
        "item.tag",
        "Tags…",
        chosen.tag,
        group=group,
        icon="tag",
        possible=chosen.one,
        help="Words by which it can be found",
    )
    add(
        "item.note",
        "Note…",
        chosen.note,
        group=group,
        icon="note",
        possible=chosen.one,
        help="A text that belongs to it",
    )


def _selected_runs(window: MainWindow) -> None:
    add, chosen = window.workbench.commands.add, window.selection
    group = "Selection"
    add(
        "item.compare",
        "Compare",
        chosen.compare,
        group=group,
        icon="compare",
        possible=chosen.comparable,
        help="Overlay the curves of the selected runs and compare their parameters",
    )
    add(
        "item.resume",
        "Resume",
        chosen.resume,
        group=group,
        icon="resume",
        possible=chosen.resumable,
        help="Go on with a stopped or interrupted run",
    )
    add(
        "item.duplicate",
        "Duplicate with changes",
        chosen.duplicate,
        group=group,
        icon="copy",
        possible=chosen.one_run,
        help="Fill the form with the parameters of this run",
    )
    add(
        "item.command",
        "Copy as command",
        chosen.copy_command,
        group=group,
        icon="command",
        possible=chosen.one_run,
        help="The command line that makes the same run",
    )
    add(
        "item.python",
        "Copy as Python",
        chosen.copy_python,
        group=group,
        icon="python",
        possible=chosen.one_run,
        help="The Python that makes the same run",
    )
    add("item.help", "Show in help", chosen.show_help, group=group, icon="help", possible=chosen.one_run,
        help="What this experiment computes and how to read it")  # fmt: skip
