"""Without a display: draw the window all the same, keep picture and session, and say where they lie."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from PySide6.QtCore import (
    QBuffer,
    QIODevice,
    QMessageLogContext,
    QSize,
    Qt,
    QTimer,
    QtMsgType,
    qInstallMessageHandler,
)
from PySide6.QtWidgets import QApplication, QWidget

from engine import files, places
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.window.main_window import MainWindow

SETTLE = 1500  # ms in which figures are drawn
PATIENCE = 30_000  # ms for the engine to say which experiments there are
SIZE = QSize(1280, 800)


def quieten() -> None:
    """Leave out what the off-screen platform says of its own limits, once for each window it makes."""

    def say(kind: QtMsgType, context: QMessageLogContext, text: str) -> None:
        if not text.startswith("This plugin does not support"):
            print(text, file=sys.stderr)

    qInstallMessageHandler(say)


def show_and_leave(window: MainWindow) -> None:
    """Wait until experiments are known and all is drawn, save picture and session, print both paths, quit."""
    # The off-screen platform's screen is smaller than any real one; a window there may be larger than it.
    window.setWindowState(Qt.WindowState.WindowNoState)
    window.resize(SIZE)
    settled = QTimer(window)
    settled.setSingleShot(True)
    settled.timeout.connect(lambda: _keep(window))
    window.workbench.catalogue_changed.connect(lambda: settled.start(SETTLE))
    settled.start(SETTLE if window.workbench.catalogue else PATIENCE)


def _keep(window: MainWindow) -> None:
    folder = places.data() / "off-screen"
    picture, session = folder / "window.png", folder / "demo.superscope"
    try:
        files.write_bytes(picture, png(window))
        window.documents.save_failed.connect(lambda sentence: print(f"superscope: {sentence}"))
        window.documents.save(session)
        if window.documents.wait():
            print("There is no display, so the window was drawn off-screen.")
            print(f"Picture: {picture}\nSession: {session}")
    except SuperscopeError as problem:
        print(f"superscope: {problem}")
    QApplication.quit()


def png(window: QWidget) -> bytes:
    """A widget as it looks now."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    window.grab().save(buffer, "PNG")
    return bytes(buffer.data().data())
