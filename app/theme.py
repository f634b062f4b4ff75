"""How the window looks: colours, distances, fonts and the one style sheet, in one file.

The colours themselves are `engine.figures.palette`'s, which exported figures use too. A `Theme`
is immutable; switching means that the workbench gets another one and emits ``theme_changed``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
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
    soft = look.blend(look.accent, 0.14).name()
    hover = look.blend(look.text, 0.06).name()
    outline = edge(look).name()
    bar = look.blend(look.muted, 0.45, look.panel).name()
    icons = (places.resources() / "icons").as_posix()
    c = {
        name: getattr(look, name).name()
        for name in ("canvas", "panel", "line", "text", "muted", "accent", "good", "warning", "bad")
    }
    pressed = look.blend(look.text, 0.14, look.accent).name()
    faded = look.blend(look.muted, 0.7).name()
    return f"""
    QToolTip {{ background: {c["canvas"]}; color: {c["text"]}; border: 1px solid {c["line"]}; padding: {XS}px; }}
    QMainWindow::separator {{ background: {c["line"]}; width: 1px; height: 1px; }}
    QMainWindow::separator:hover {{ background: {c["accent"]}; }}
    QSplitter::handle {{ background: {c["line"]}; }}
    QMenuBar {{ background: {c["panel"]}; border-bottom: 1px solid {c["line"]}; }}
    QMenuBar::item {{ padding: 6px {S}px; background: transparent; }}
    QMenuBar::item:selected {{ background: {hover}; }}
    QStatusBar {{ background: {c["panel"]}; border-top: 1px solid {c["line"]}; }}
    QStatusBar::item {{ border: 0; }}

    QTabWidget::pane {{ border: 0; border-top: 1px solid {c["line"]}; }}
    QTabBar {{ background: {c["panel"]}; }}
    QTabBar::tab {{ background: {c["panel"]}; color: {c["muted"]}; padding: 6px {M}px; border: 0;
        border-bottom: 2px solid transparent; }}
    QTabBar::tab:hover {{ color: {c["text"]}; background: {hover}; }}
    QTabBar::tab:selected {{ color: {c["text"]}; border-bottom: 2px solid {c["accent"]}; }}
    QTabBar QToolButton {{ background: {c["panel"]}; border: 0; }}
    QTabBar QToolButton:hover {{ background: {hover}; }}
    QTabBar::tab:focus {{ color: {c["accent"]}; }}

    QLineEdit, QComboBox, QSpinBox, QPlainTextEdit[role="field"], QTextEdit[role="field"] {{ background: {c["canvas"]};
        border: 1px solid {outline}; border-radius: {RADIUS}px; padding: 3px 5px; selection-background-color: {c["accent"]};
        selection-color: {c["canvas"]}; }}
    QLineEdit:focus, QComboBox:focus, QSpinBox:focus, QPlainTextEdit[role="field"]:focus, QTextEdit[role="field"]:focus {{
        border: 2px solid {c["accent"]}; padding: 2px 4px; }}
    QSpinBox::up-button, QSpinBox::down-button {{ subcontrol-origin: border; border: 0; width: 18px; }}
    QSpinBox::up-button {{ subcontrol-position: top right; }}
    QSpinBox::down-button {{ subcontrol-position: bottom right; }}
    QSpinBox::up-arrow {{ image: url("{icons}/up-{look.name}.png"); width: 9px; height: 9px; }}
    QSpinBox::down-arrow {{ image: url("{icons}/down-{look.name}.png"); width: 9px; height: 9px; }}
    QLineEdit[role="title"] {{ background: transparent; border: 0; border-bottom: 1px solid transparent;
        border-radius: 0; padding: 2px 0; }}
    QLineEdit[role="title"]:hover {{ border-bottom-color: {c["line"]}; }}
    QLineEdit[role="title"]:focus {{ border-bottom-color: {c["accent"]}; }}
    QLineEdit:disabled, QComboBox:disabled, QSpinBox:disabled {{ color: {faded}; border-color: {c["line"]}; }}
    QComboBox QLineEdit, QSpinBox QLineEdit, QAbstractItemView QLineEdit {{ border: 0; padding: 0; }}
    QAbstractItemView QLineEdit {{ border: 1px solid {c["accent"]}; }}
    QComboBox::drop-down {{ border: 0; width: 18px; }}
    QComboBox::down-arrow {{ image: url("{icons}/down-{look.name}.png"); width: 12px; height: 12px; }}

    QPushButton {{ background: {look.blend(look.canvas, 0.6).name() if not look.is_dark else look.blend(look.text, 0.08).name()};
        border: 1px solid {outline}; border-radius: {RADIUS}px; padding: 4px {M}px; }}
    QPushButton:hover {{ background: {hover}; }}
    QPushButton:pressed, QPushButton:checked {{ background: {soft}; }}
    QPushButton:focus {{ border: 2px solid {c["accent"]}; padding: 3px 11px; }}
    QPushButton:disabled {{ color: {faded}; border-color: {c["line"]}; }}
    QToolButton[role="quiet"]::menu-indicator {{ image: none; }}
    QToolButton[role="legend"] {{ border: 1px solid transparent; border-radius: {RADIUS}px; padding: 1px {XS}px;
        background: transparent; }}
    QToolButton[role="legend"]:hover {{ background: {hover}; }}
    QToolButton[role="legend"]:focus {{ border-color: {look.accent.name()}; }}
    QToolButton[role="legend"]:!checked {{ color: {look.muted.name()}; }}
    QPushButton[role="primary"] {{ background: {c["accent"]}; color: {c["canvas"]}; border: 1px solid {c["accent"]};
        padding: 5px {L}px; font-weight: 600; }}
    QPushButton[role="primary"]:hover {{ background: {pressed}; }}
    QPushButton[role="primary"]:focus {{ border: 2px solid {c["text"]}; padding: 4px 15px; }}
    QPushButton[role="primary"]:disabled {{ background: {c["line"]}; color: {c["muted"]}; border-color: {c["line"]}; }}
    QPushButton[role="card"] {{ background: {c["canvas"]}; border: 1px solid {c["line"]}; text-align: left; }}
    QPushButton[role="card"]:hover {{ background: {soft}; border-color: {c["accent"]}; }}
    QPushButton[role="card"]:focus {{ border: 2px solid {c["accent"]}; }}
    QPushButton[role="link"] {{ background: transparent; border: 1px solid transparent; color: {c["accent"]};
        padding: 3px 0; text-align: left; }}
    QPushButton[role="link"]:hover {{ text-decoration: underline; }}
    QPushButton[role="link"]:focus {{ border: 1px solid {c["accent"]}; }}
    QToolButton[role="quiet"] {{ border: 1px solid transparent; border-radius: {RADIUS}px; padding: 3px;
        background: transparent; }}
    QToolButton[role="quiet"]:hover {{ background: {hover}; }}
    QToolButton[role="quiet"]:focus {{ border-color: {c["accent"]}; }}
    QToolButton[role="quiet"]:checked, QToolButton[role="quiet"]:pressed {{ background: {soft}; }}
    QToolButton[role="quiet"]::menu-indicator {{ image: none; width: 0; }}

    QCheckBox::indicator, QRadioButton::indicator {{ width: 14px; height: 14px; border: 1px solid {outline};
        background: {c["canvas"]}; }}
    QCheckBox::indicator {{ border-radius: 3px; }}
    QRadioButton::indicator {{ border-radius: 8px; }}
    QCheckBox::indicator:checked {{ background: {c["accent"]}; border-color: {c["accent"]};
        image: url("{icons}/check-{look.name}.png"); }}
    QRadioButton::indicator:checked {{ border: 5px solid {c["accent"]}; width: 6px; height: 6px; }}
    QCheckBox::indicator:focus, QRadioButton::indicator:focus {{ border-color: {c["accent"]}; }}
    QCheckBox:focus, QRadioButton:focus {{ color: {c["accent"]}; }}
    QCheckBox::indicator:disabled, QRadioButton::indicator:disabled {{ border-color: {c["line"]}; }}

    QProgressBar {{ background: {c["line"]}; border: 0; border-radius: {RADIUS}px; text-align: center; }}
    QProgressBar::chunk {{ background: {c["accent"]}; border-radius: {RADIUS}px; }}
    QScrollBar:vertical {{ background: transparent; width: 12px; margin: 0; }}
    QScrollBar:horizontal {{ background: transparent; height: 12px; margin: 0; }}
    QScrollBar::handle {{ background: {bar}; border-radius: 3px; margin: 3px; }}
    QScrollBar::handle:vertical {{ min-height: 28px; }}
    QScrollBar::handle:horizontal {{ min-width: 28px; }}
    QScrollBar::handle:hover {{ background: {c["muted"]}; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
    QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}

    QTreeView, QListView, QTableView {{ outline: 0; }}
    QTreeView::item, QListView::item {{ padding: 3px 2px; border: 0; }}
    QTreeView::item:hover, QListView::item:hover {{ background: {hover}; }}
    QTreeView::item:selected, QListView::item:selected, QTableView::item:selected {{ background: {soft}; color: {c["text"]}; }}
    QTreeView[role="side"] {{ background: {c["panel"]}; }}
    QTreeView::item:focus, QListView::item:focus {{ border: 1px solid {c["accent"]}; }}

    QFrame[role="card"] {{ background: {c["canvas"]}; border: 1px solid {c["line"]}; border-radius: {RADIUS}px; }}
    QFrame[role="bar"] {{ background: {c["panel"]}; border: 0; border-top: 1px solid {c["line"]}; }}
    QFrame[role="notice"] {{ background: {c["canvas"]}; border: 1px solid {c["line"]};
        border-left: 3px solid {c["accent"]}; }}
    QFrame[role="notice-warning"] {{ background: {c["canvas"]}; border: 1px solid {c["line"]};
        border-left: 3px solid {c["warning"]}; }}
    QFrame[role="notice-error"] {{ background: {c["canvas"]}; border: 1px solid {c["line"]};
        border-left: 3px solid {c["bad"]}; }}
    QTableView[role="figure"], QTreeView[role="figure"] {{ border: 0; }}
    QTableView[role="figure"]::item {{ padding: 0 {S}px; }}
    QTableView[role="figure"] QHeaderView, QTreeView[role="figure"] QHeaderView {{ background: {look.canvas.name()}; }}
    QTableView[role="figure"] QHeaderView::section, QTreeView[role="figure"] QHeaderView::section {{
        background: {look.canvas.name()}; color: {look.muted.name()};
        border: 0; border-bottom: 1px solid {look.line.name()}; padding: {XS}px {S}px; }}
    QLabel[role="muted"] {{ color: {c["muted"]}; }}
    QLabel[role="bad"] {{ color: {c["bad"]}; }}
    QLabel[role="warning"] {{ color: {c["warning"]}; }}
    QLabel[role="good"] {{ color: {c["good"]}; }}
    QWidget[role="canvas"] {{ background: {c["canvas"]}; }}
    """


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
