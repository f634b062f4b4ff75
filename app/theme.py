"""How the window looks: colours, distances, fonts and the one style sheet, in one file.

The colours themselves are `engine.figures.palette`'s, which exported figures use too. A `Theme`
is immutable; switching means that the workbench gets another one and emits ``theme_changed``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from string import Template
from typing import Literal, TypeAlias

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QWidget

from engine import places
from engine.figures.colours import Palette, palette

Choice: TypeAlias = Literal["system", "light", "dark"]

# Distances in device-independent pixels. Nothing in the window uses another.
XS, S, M, L, XL = 4, 8, 12, 16, 24
RADIUS = 4
READABLE = 640  # widest column of running text
NARROW = 300  # width of the side docks at first


@dataclass(frozen=True)
class Theme:
    """The colours of light or dark as `QColor`, and the `Palette` they come from."""

    source: Palette
    canvas: QColor
    panel: QColor
    line: QColor
    text: QColor
    muted: QColor
    accent: QColor
    good: QColor
    warning: QColor
    bad: QColor
    missing: QColor
    positive: QColor
    negative: QColor
    series: tuple[QColor, ...]

    @property
    def name(self) -> str:
        """``light`` or ``dark``: what `engine.figures.export` takes as its theme."""
        return self.source.name

    @property
    def is_dark(self) -> bool:
        return self.source.name == "dark"

    def blend(self, over: QColor, share: float, under: QColor | None = None) -> QColor:
        """``share`` of ``over`` mixed into ``under`` (the panel unless given); opaque."""
        base = under or self.panel
        mixed = [
            round(a * share + b * (1 - share))
            for a, b in zip(over.getRgb()[:3], base.getRgb()[:3], strict=True)  # type: ignore[index]
        ]
        return QColor(*mixed)


@cache
def theme(name: str) -> Theme:
    """The theme called ``light`` or ``dark``."""
    source = palette(name)
    names = (
        "canvas", "panel", "line", "text", "muted", "accent", "good", "warning", "bad", "missing",
        "positive", "negative",
    )  # fmt: skip
    colours = {name: QColor(getattr(source, name)) for name in names}
    return Theme(source=source, series=tuple(QColor(colour) for colour in source.series), **colours)


def chosen(choice: Choice) -> Theme:
    """The theme for a preference; ``system`` follows the desktop."""
    if choice == "system":
        scheme = QGuiApplication.styleHints().colorScheme()
        return theme("dark" if scheme == Qt.ColorScheme.Dark else "light")
    return theme(choice)


def colours_for_qt(look: Theme) -> QPalette:
    """The palette that the Fusion style draws with."""
    role, group = QPalette.ColorRole, QPalette.ColorGroup
    found = QPalette()
    raised = look.blend(QColor("white") if look.is_dark else look.canvas, 0.06 if look.is_dark else 0.6)
    for where, colour in {
        role.Window: look.panel,
        role.WindowText: look.text,
        role.Base: look.canvas,
        role.AlternateBase: look.blend(look.panel, 0.6, look.canvas),
        role.Text: look.text,
        role.Button: raised,
        role.ButtonText: look.text,
        role.BrightText: look.bad,
        role.ToolTipBase: look.canvas,
        role.ToolTipText: look.text,
        role.PlaceholderText: look.muted,
        role.Highlight: look.accent,
        role.HighlightedText: look.canvas,
        role.Accent: look.accent,
        role.Link: look.accent,
        role.LinkVisited: look.accent,
        role.Light: look.blend(look.line, 0.35),
        role.Midlight: look.blend(look.line, 0.55),
        role.Mid: look.line,
        role.Dark: look.blend(look.muted, 0.45),
        role.Shadow: look.blend(look.text, 0.35),
    }.items():
        found.setColor(where, colour)
    for where in (role.WindowText, role.Text, role.ButtonText):
        found.setColor(group.Disabled, where, look.blend(look.muted, 0.75))
    found.setColor(group.Disabled, role.Highlight, look.line)
    found.setColor(group.Inactive, role.Highlight, look.accent)
    return found


def edge(look: Theme) -> QColor:
    """The outline of fields and buttons: 3 : 1 against canvas and panel (WCAG 1.4.11)."""
    return look.blend(look.muted, 0.8 if look.is_dark else 0.72, look.canvas)


def style_sheet(look: Theme) -> str:
    """The only style sheet: what a palette cannot say. Widgets choose by their ``role`` property.

    Fusion draws the outlines of fields a shade darker than the window, which is invisible on a
    dark one; here they keep a contrast of 3 : 1 (WCAG 1.4.11).
    """
    names = ("canvas", "panel", "line", "text", "muted", "accent", "good", "warning", "bad")
    colours = {name: getattr(look, name) for name in names} | {
        "soft": look.blend(look.accent, 0.14),
        "hover": look.blend(look.text, 0.06),
        "outline": edge(look),
        "bar": look.blend(look.muted, 0.45, look.panel),
        "pressed": look.blend(look.text, 0.14, look.accent),
        "faded": look.blend(look.muted, 0.7),
        "button": look.blend(look.text, 0.08) if look.is_dark else look.blend(look.canvas, 0.6),
    }
    words = {name: colour.name() for name, colour in colours.items()} | {
        "theme": look.name,
        "icons": (places.resources() / "icons").as_posix(),
        **{name: str(size) for name, size in (("XS", XS), ("S", S), ("M", M), ("L", L), ("RADIUS", RADIUS))},
    }
    template = (places.resources() / "themes" / "window.qss").read_text(encoding="utf-8")
    return Template(template).substitute(words)


def apply(application: QApplication, look: Theme) -> None:
    """Dress the whole application in ``look``."""
    application.setPalette(colours_for_qt(look))
    application.setStyleSheet(style_sheet(look))


def set_role(widget: QWidget, role: str) -> None:
    """Give ``widget`` a role of the style sheet, also after it was shown."""
    widget.setProperty("role", role)
    widget.style().unpolish(widget)
    widget.style().polish(widget)


def body() -> QFont:
    """The interface font at its own size, digits of equal width."""
    font = QFont(QApplication.font())
    font.setFeature(QFont.Tag("tnum"), 1)
    return font


def small() -> QFont:
    return _scaled(body(), 0.9)


def heading() -> QFont:
    font = _scaled(body(), 1.25)
    font.setWeight(QFont.Weight.DemiBold)
    return font


def mono() -> QFont:
    """The system's monospace at the size of the interface font: tokens, hook points, code."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    font.setPointSizeF(body().pointSizeF())
    return font


def _scaled(font: QFont, factor: float) -> QFont:
    font.setPointSizeF(font.pointSizeF() * factor)
    return font
