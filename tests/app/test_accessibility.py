"""Every control has a name, every command's text has contrast, nothing is cut off, Tab reaches what one needs."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFrame,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QScrollBar,
    QTabBar,
    QTextEdit,
    QWidget,
)

from app import theme as themes
from tests.app.conftest import Shell

CONTROLS = (
    QAbstractButton, QAbstractItemView, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit,
    QProgressBar, QTabBar, QTextEdit,
)  # fmt: skip
PANELS = [("start", ""), ("open-model", ""), ("help", "start"), ("help", "keyboard"), ("notes", "")]


def nameless(root: QWidget) -> list[str]:
    """Controls below ``root`` without an accessible name or a text that serves as one."""
    found = []
    for widget in root.findChildren(QWidget):
        if not isinstance(widget, CONTROLS) or isinstance(widget, QScrollBar):
            continue
        parent = widget.parent()
        if _is_part_of_qts(widget, parent):
            continue
        if isinstance(widget, QLineEdit) and isinstance(parent, QComboBox | QAbstractSpinBox):
            if not (widget.accessibleName() or parent.accessibleName()):
                found.append(_path(widget))
            continue
        if not widget.accessibleName() and not (isinstance(widget, QAbstractButton) and widget.text()):
            found.append(f"{_path(widget)}")
    return found


def _is_part_of_qts(widget: QWidget, parent: object) -> bool:
    """Parts of one control that Qt makes and names through it: headers, a line's clear button, a combo box's list."""
    if widget.objectName().startswith("qt_") or isinstance(widget, QHeaderView):
        return True
    if isinstance(parent, QLineEdit):
        return True
    return isinstance(parent, QFrame) and isinstance(parent.parent(), QComboBox)


def _path(widget: QWidget) -> str:
    """Where a widget is, for the message of a failed test."""
    parts = []
    step: QWidget | None = widget
    while step is not None and len(parts) < 6:
        parts.append(f"{type(step).__name__} {step.objectName() or step.accessibleName()}".strip())
        step = step.parentWidget()
    return " < ".join(parts)


def open_everything(shell: Shell) -> None:
    shell.workbench.show_form("train-dictionary")
    run = shell.run("sample-counting")
    other = shell.run("sample-counting", k=9)
    for kind, key in [*PANELS, ("run", run), ("compare", f"{run},{other}")]:
        assert shell.window.tabs.open(kind, key) is not None, kind
    shell.window.log_dock.show()
    shell.workbench.start("sample-endless", {})
    shell.workbench.message.emit("error", "Something happened to x; do y.", "details")
    shell.workbench.offer.emit("info", "One thing deleted.", "", "Undo", "edit.undo")
    shell.workbench.commands.run("view.palette")
    shell.wait(lambda: not shell.workbench.painter.active or shell.window.jobs._rows)


def test_every_control_of_the_window_has_an_accessible_name(shell: Shell):
    open_everything(shell)
    missing = nameless(shell.window)
    assert not missing, "\n".join(missing)
    assert shell.window._palette is not None
    assert nameless(shell.window._palette) == []
    shell.window._palette.hide()


def test_a_control_without_a_name_is_found(qtbot):
    root = QWidget()
    qtbot.addWidget(root)
    QLineEdit(root)
    QPushButton(root)
    QPushButton("Start", root)
    assert len(nameless(root)) == 2


def contrast(first: QColor, second: QColor) -> float:
    """WCAG 2.1's ratio."""

    def luminance(colour: QColor) -> float:
        parts = [part / 255 for part in colour.getRgb()[:3]]  # type: ignore[index]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_ratio_is_that_of_wcag():
    assert contrast(QColor("#000000"), QColor("#ffffff")) == pytest.approx(21.0)
    assert contrast(QColor("#777777"), QColor("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_words_and_outlines_have_contrast(name: str, qtbot):
    look = themes.theme(name)
    for ground in (look.canvas, look.panel):
        for ink in (look.text, look.muted, look.accent, look.good, look.warning, look.bad):
            assert contrast(ink, ground) >= 4.5
        # Words on what is selected, and the text of a primary button.
        chosen = look.blend(look.accent, 0.16, ground)
        assert contrast(look.text, chosen) >= 4.5
        assert contrast(look.muted, chosen) >= 4.5 or name == "light"
    assert contrast(look.canvas, look.accent) >= 4.5
    for ground in (look.canvas, look.panel):
        assert contrast(themes.edge(look), ground) >= 3.0


def clipped(root: QWidget) -> list[str]:
    """Labels and buttons whose words need more room than they have."""
    found = []
    for widget in root.findChildren(QWidget):
        if not widget.isVisible() or not isinstance(widget, QLabel | QPushButton):
            continue
        if isinstance(widget, QLabel) and (widget.wordWrap() or not widget.text() or widget.pixmap().width()):
            continue
        if not widget.text():
            continue
        need = widget.fontMetrics().horizontalAdvance(widget.text().replace("&", ""))
        elided = widget.toolTip() == widget.text()  # numbers that may be cut have a tool tip that says all
        if widget.width() < need and not elided:
            found.append(f"{widget.text()!r} needs {need} and has {widget.width()}")
    return found


@pytest.mark.parametrize("size", [QSize(1280, 800), QSize(880, 560)])
def test_no_words_are_cut_off(shell: Shell, size: QSize):
    shell.workbench.show_form("train-dictionary")
    shell.window.resize(size)
    for kind, key in PANELS:
        shell.window.tabs.open(kind, key)
        shell.qtbot.waitUntil(lambda: shell.window.tabs.current() is not None)
        assert clipped(shell.window) == []
    assert shell.window.size() == size


def test_tab_goes_from_the_menu_through_tree_tabs_and_form_and_comes_back(shell: Shell):
    shell.workbench.show_form("sample-counting")
    shell.window.tree.search.setFocus()
    seen: list[QWidget] = []
    for _ in range(200):
        shell.qtbot.keyClick(shell.window.focusWidget() or shell.window, Qt.Key.Key_Tab)
        widget = shell.window.focusWidget()
        assert widget is not None
        if widget in seen:
            break
        seen.append(widget)
    names = [widget.accessibleName() for widget in seen]
    for wanted in ("Session", "k", "Start", "Search the session"):
        assert wanted in names, "\n".join(names)
    assert names.index("steps") < names.index("seconds") < names.index("k") < names.index("Start")


def test_texts_that_one_may_want_to_copy_can_be_selected(shell: Shell):
    shell.workbench.message.emit("error", "Something happened.", "")
    words = shell.window.notices.shown()[-1].words
    assert words.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse
    shell.workbench.show_form("sample-counting")
    for label in (shell.window.form.title, shell.window.form.summary, shell.window.form.note):
        assert label.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse
