"""The one icon set, Phosphor in its regular weight, in the colours of the theme.

qtawesome ships the font. Its own loader reads twelve fonts (0.19 s, a fifth of the time until the
first paint), so the one that is used is loaded here (8 ms).
"""

from __future__ import annotations

import importlib.util
import json
import weakref
from functools import cache
from pathlib import Path
from typing import Protocol

import shiboken6
from PySide6.QtCore import QObject, QRect, Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QIcon, QPainter, QPixmap

from app.theme import Theme

SIZES = (16, 20, 24, 32)
# What Superscope shows, by its own word: a change of set is a change here.
GLYPHS = {
    "activations": "grid-four",
    "activity": "pulse",
    "add": "plus",
    "close": "x",
    "command": "terminal-window",
    "compare": "chart-line",
    "copy": "copy",
    "corpora": "text-align-left",
    "dark": "moon",
    "delete": "trash",
    "demo": "flask",
    "dictionaries": "books",
    "down": "caret-down",
    "error": "x-circle",
    "experiment": "flask",
    "export": "export",
    "failed": "x-circle",
    "file": "file",
    "finished": "check-circle",
    "fit": "arrows-out",
    "folder": "folder-open",
    "good": "check-circle",
    "help": "question",
    "info": "info",
    "interrupted": "warning-circle",
    "keyboard": "keyboard",
    "legend": "list-dashes",
    "left": "caret-left",
    "light": "sun",
    "log": "list-bullets",
    "menu": "dots-three",
    "models": "cube",
    "note": "note-pencil",
    "open": "folder-open",
    "pause": "pause",
    "paused": "pause-circle",
    "play": "play",
    "python": "code",
    "queued": "circle",
    "rename": "pencil-simple",
    "resume": "arrow-clockwise",
    "right": "caret-right",
    "running": "circle-half-fill",
    "runs": "chart-line",
    "save": "floppy-disk",
    "search": "magnifying-glass",
    "start": "house",
    "steering": "sliders-horizontal",
    "stop": "stop",
    "stopped": "stop-circle",
    "tag": "tag",
    "toy": "cube",
    "train": "brain",
    "undo": "arrow-counter-clockwise",
    "up": "caret-up",
    "warning": "warning",
}
STATE_COLOUR = {
    "queued": "muted",
    "running": "accent",
    "paused": "warning",
    "finished": "good",
    "stopped": "muted",
    "interrupted": "warning",
    "failed": "bad",
}


class HasIcon(Protocol):
    """A button, an action, a label of a tab: what an icon can be put on."""

    def setIcon(self, icon: QIcon) -> None: ...


@cache
def _font() -> tuple[str, dict[str, str]]:
    """The font's family and the code of each glyph by name."""
    spec = importlib.util.find_spec("qtawesome")
    if spec is None or spec.origin is None:
        return "", {}
    folder = Path(spec.origin).parent / "fonts"
    font, names = next(folder.glob("phosphor-[0-9]*.ttf")), next(folder.glob("phosphor-charmap-*.json"))
    families = QFontDatabase.applicationFontFamilies(QFontDatabase.addApplicationFont(str(font)))
    return (families[0] if families else ""), json.loads(names.read_bytes())


@cache
def _drawn(name: str, colour: str, faded: str) -> QIcon:
    icon = QIcon()
    for mode, ink in ((QIcon.Mode.Normal, colour), (QIcon.Mode.Disabled, faded)):
        for size in SIZES:
            for ratio in (1, 2):
                icon.addPixmap(pixmap(name, size, QColor(ink), ratio), mode)
    return icon


def pixmap(name: str, size: int, colour: QColor, ratio: float = 1.0) -> QPixmap:
    """The glyph of ``name`` in a square of ``size`` device-independent pixels."""
    family, codes = _font()
    canvas = QPixmap(round(size * ratio), round(size * ratio))
    canvas.setDevicePixelRatio(ratio)
    canvas.fill(Qt.GlobalColor.transparent)
    code = codes.get(GLYPHS[name])
    if family and code:
        painter = QPainter(canvas)
        painter.setRenderHint(QPainter.RenderHint.TextAntialiasing)
        font = QFont(family)
        font.setPixelSize(size)
        painter.setFont(font)
        painter.setPen(colour)
        painter.drawText(QRect(0, 0, size, size), Qt.AlignmentFlag.AlignCenter, chr(int(code, 16)))
        painter.end()
    return canvas


def icon(name: str, theme: Theme, colour: str = "text") -> QIcon:
    """The icon of ``name`` in the theme's ``colour`` ("text", "muted", "accent", "bad" …)."""
    ink: QColor = getattr(theme, colour)
    return _drawn(name, ink.name(), theme.blend(theme.muted, 0.5).name())


def state_icon(state: str, theme: Theme) -> QIcon:
    """The icon of a run's state; shape and colour differ."""
    return icon(state, theme, STATE_COLOUR[state])


class Dresser(QObject):
    """Puts icons on things and puts them on again when the theme changes."""

    def __init__(self, theme: Theme, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._dressed: list[tuple[weakref.ref[QObject], str, str]] = []

    def put(self, thing: QObject, name: str, colour: str = "text") -> None:
        """Put the icon ``name`` on ``thing`` (it has ``setIcon``), for as long as it lives."""
        self._dressed = [entry for entry in self._dressed if entry[0]() is not None and entry[0]() is not thing]
        self._dressed.append((weakref.ref(thing), name, colour))
        thing.setIcon(icon(name, self._theme, colour))  # type: ignore[attr-defined]

    def change(self, theme: Theme) -> None:
        """Draw all icons in another theme."""
        self._theme = theme
        for reference, name, colour in self._dressed:
            thing = reference()
            if thing is not None and shiboken6.isValid(thing):
                thing.setIcon(icon(name, theme, colour))  # type: ignore[attr-defined]
