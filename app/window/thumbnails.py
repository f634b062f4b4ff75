"""Small pictures of sessions: the first figure, drawn when a session is saved, kept in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QBuffer, QIODevice, Qt

from engine import files, places
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

SHOWN = (96, 60)  # device-independent pixels on the start page
DRAWN = (480, 300)  # the view's size when its picture is taken


def place(session: Path, theme: str) -> Path:
    """Where the picture of a session in a theme lies."""
    name = hashlib.sha256(str(session.resolve()).encode()).hexdigest()[:24]
    return places.cache() / "thumbnails" / f"{name}-{theme}.png"


def find(session: Path, theme: str) -> Path | None:
    """The picture in this theme, else in the other; None where there is none."""
    for name in (theme, "dark" if theme == "light" else "light"):
        path = place(session, name)
        if path.is_file():
            return path
    return None


def draw(workbench: Workbench, session: Path) -> bool:
    """Draw the picture of the session that is open. True when there was a figure to draw.

    Where no figure has been shown yet it is left for another time: the libraries that draw it take
    half a second to load, in which the window would stand still.
    """
    if "pyqtgraph" not in sys.modules:
        return False
    from app.views import make_view

    for record in workbench.session.runs():
        for name in workbench.figure_names(record.id):
            with contextlib.suppress(SuperscopeError):
                view = make_view(workbench.figure(record.id, name), workbench)
                try:
                    view.resize(*DRAWN)
                    view.ensurePolished()
                    view.paint_now()
                    picture = view.grab().scaled(
                        SHOWN[0] * 2,
                        SHOWN[1] * 2,
                        Qt.AspectRatioMode.KeepAspectRatioByExpanding,
                        Qt.TransformationMode.SmoothTransformation,
                    )
                    buffer = QBuffer()
                    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
                    picture.copy(0, 0, SHOWN[0] * 2, SHOWN[1] * 2).save(buffer, "PNG")
                    content = bytes(buffer.data().data())
                    files.write_bytes(place(session, workbench.theme.name), content, durable=False)
                    return True
                finally:
                    view.deleteLater()
    return False
