"""The commands of the Run, View and Help menus."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.window.main_window import MainWindow
    from app.workbench import Workbench


def add_run(window: MainWindow) -> None:
    """Commands of the Run menu."""
    add, side = window.workbench.commands.add, window.form_side
    group = "Run"
    add(
        "run.choose",
        "Choose an experiment",
        window.choose_experiment,
        group=group,
        shortcut="Ctrl+E",
        icon="experiment",
        help="Go to the list of experiments",
    )
    add(
        "run.start",
        "Start",
        window.start_run,
        group=group,
        shortcut="Ctrl+Return",
        icon="play",
        possible=lambda: window.workbench.begun and side.shows_form,
        help="Start what the form at the right says",
    )
    add(
        "run.pause",
        "Pause or continue",
        window.pause_or_continue,
        group=group,
        shortcut="Ctrl+P",
        icon="pause",
        possible=lambda: window.current_run() is not None,
        text=window.pause_words,
        help="Let the run wait at its next batch, or go on",
    )
    add(
        "run.stop",
        "Stop and keep",
        window.stop_run,
        group=group,
        shortcut="Ctrl+.",
        icon="stop",
        possible=lambda: window.current_run() is not None,
        help="End the run; what it has found is kept",
    )
    _add_form(window)
    _add_engine(window)


def _add_form(window: MainWindow) -> None:
    add, side = window.workbench.commands.add, window.form_side
    group = "Run"
    add(
        "run.command",
        "Copy form as command",
        lambda: window.copy_form("command"),
        group=group,
        icon="command",
        possible=lambda: side.shows_form,
        help="The command line for what the form says",
    )
    add(
        "run.python",
        "Copy form as Python",
        lambda: window.copy_form("python"),
        group=group,
        icon="python",
        possible=lambda: side.shows_form,
        help="The Python for what the form says",
    )


def _add_engine(window: MainWindow) -> None:
    add = window.workbench.commands.add
    group = "Run"
    add(
        "run.resume",
        "Resume interrupted runs",
        window.workbench.resume_interrupted,
        group=group,
        icon="resume",
        possible=lambda: bool(window.workbench.interrupted()),
        help="Go on with every run that was interrupted, oldest first",
    )
    add("run.engine", "Restart the engine", window.restart_engine, group=group,
        possible=lambda: window.workbench.begun,
        help="End the engine process and start another; runs are interrupted and can be resumed")  # fmt: skip


def add_view(window: MainWindow) -> None:
    """Commands of the View menu."""
    workbench = window.workbench
    add = workbench.commands.add
    group = "View"
    add(
        "view.palette",
        "All commands",
        window.show_palette,
        group=group,
        shortcut="Ctrl+K",
        icon="search",
        help="Every action, experiment, run and model by name",
    )
    add(
        "view.start",
        "Start page",
        lambda: workbench.open_panel("start"),
        group=group,
        icon="start",
        help="Ways to begin, recent sessions",
    )
    add(
        "view.activations",
        "Activation viewer",
        lambda: workbench.open_panel("activations"),
        group=group,
        icon="activations",
        possible=lambda: workbench.begun,
        help="What happens inside a model on a text you type",
    )
    add(
        "view.steering",
        "Steering bench",
        lambda: workbench.open_panel("steering"),
        group=group,
        icon="steering",
        possible=lambda: workbench.begun,
        help="Push a model along a direction and read what it writes",
    )
    add(
        "view.notes",
        "Notes",
        lambda: workbench.open_panel("notes"),
        group=group,
        icon="note",
        possible=lambda: workbench.begun,
        help="The session's own notes",
    )
    _add_parts(window)


def _add_parts(window: MainWindow) -> None:
    workbench = window.workbench
    add = workbench.commands.add
    group = "View"
    for key, dock in enumerate((window.session_dock, window.form_dock, window.jobs_dock, window.log_dock), start=1):
        add(
            f"view.{dock.objectName()}",
            dock.windowTitle(),
            partial(window.toggle, dock),
            group=group,
            shortcut=f"Ctrl+{key}",
            checked=dock.isVisible,
            help=f"Show or hide: {dock.windowTitle().lower()}",
        )
    add("view.reset", "Reset layout", window.reset_layout, group=group, help="Put every part back to its place")
    for choice, title, glyph in (
        ("light", "Light", "light"),
        ("dark", "Dark", "dark"),
        ("system", "As the system", ""),
    ):
        add(
            f"view.{choice}",
            title,
            partial(workbench.choose_theme, choice),
            group=group,
            icon=glyph,
            checked=partial(_follows, workbench, choice),
            help=f"Colours: {title.lower()}",
        )
    add("view.next", "Next tab", lambda: window.tabs.step(1), group=group, shortcut="Ctrl+PgDown")
    add("view.previous", "Previous tab", lambda: window.tabs.step(-1), group=group, shortcut="Ctrl+PgUp")
    add("view.full", "Full screen", window.toggle_full_screen, group=group, shortcut="F11",
        checked=window.isFullScreen)  # fmt: skip


def add_help(window: MainWindow) -> None:
    """Commands of the Help menu."""
    workbench = window.workbench
    add = workbench.commands.add
    for page, title, key in (
        ("start", "First steps", "F1"),
        ("sessions", "Sessions", ""),
        ("models", "Models", ""),
        ("text", "Texts", ""),
        ("dictionaries", "Dictionaries", ""),
        ("steering", "Steering", ""),
        ("numbers", "Numbers", ""),
        ("toys", "Toy models and their figures", ""),
        ("keyboard", "Keyboard", "Ctrl+?"),
    ):
        add(
            f"help.{page}",
            title,
            partial(workbench.open_panel, "help", page),
            group="Help",
            shortcut=key,
            icon="keyboard" if page == "keyboard" else "help",
            help=f"Help: {title.lower()}",
        )
    add(
        "help.experiment",
        "About this experiment",
        window.help_on_form,
        group="Help",
        icon="help",
        possible=lambda: window.form_side.shows_form,
        help="What the experiment in the form computes and how to read it",
    )
    add("help.about", "About Superscope", window.about, group="Help", icon="info", help="Version and licence")  # fmt: skip


def _follows(workbench: Workbench, choice: str) -> bool:
    return workbench.settings.theme == choice
