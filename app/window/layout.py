"""Where things stand: tabs and docks in the session, the window's own place in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QByteArray, QPoint, QRect, QSize, Qt
from PySide6.QtGui import QGuiApplication

from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.window.main_window import MainWindow

VERSION = 1


def restore_geometry(window: MainWindow, size: QSize) -> None:
    """Put the window where it was, or give it ``size``; on a screen that has no room for it, all of the screen."""
    stored = window.workbench.settings.geometry
    if stored and window.restoreGeometry(QByteArray.fromBase64(stored.encode())):
        return
    room = QGuiApplication.primaryScreen().availableSize()
    window.resize(size.boundedTo(room))
    frame = QSize(16, 48)  # what a window manager puts around it at most
    if not QRect(QPoint(), room).contains(QRect(QPoint(), size + frame)):
        window.setWindowState(Qt.WindowState.WindowMaximized)


def keep_geometry(window: MainWindow) -> None:
    """Remember the window's place and the docks for sessions that have none of their own."""
    settings = window.workbench.settings
    settings.geometry = _text(window.saveGeometry())
    settings.layout = _text(window.saveState())
    settings.save()


def keep(window: MainWindow) -> None:
    """Keep tabs and docks, in the session and beside it. Not worth a message where it fails; the log has it."""
    workbench = window.workbench
    if not workbench.begun:
        return
    wanted = {"version": VERSION, "docks": _text(window.saveState()), **window.tabs.state()}
    session = workbench.session
    try:
        session.set_layout(wanted)
    except SuperscopeError as problem:
        workbench.logged.emit("", "warning", f"The layout was not kept: {problem}")
    if session.path is not None:
        workbench.settings.arrange(session.path, wanted)


def restore(window: MainWindow) -> None:
    """Open the tabs of the session's layout; without one, show its newest finished run or the start page."""
    workbench = window.workbench
    session = workbench.session
    stored = _known(session.layout)
    beside = workbench.settings.of(session.path) if session.path is not None else None
    if beside is not None and beside.arranged > (session.saved_at or 0.0):
        stored = _known(beside.layout) or stored
    docks = str(stored.get("docks") or workbench.settings.layout)
    if docks:
        window.restoreState(QByteArray.fromBase64(docks.encode()))
    window.tabs.restore(stored)
    if window.tabs.count() == 0:
        finished = [record.id for record in session.runs() if record.state == "finished"]
        if finished and not stored:
            workbench.open_panel("run", finished[-1])
        else:
            workbench.open_panel("start")
    workbench.commands.refresh()


def _known(layout: Any) -> dict[str, Any]:
    """A layout of this version; empty for any other."""
    return layout if isinstance(layout, dict) and layout.get("version") == VERSION else {}


def _text(state: QByteArray) -> str:
    return bytes(state.toBase64().data()).decode()
