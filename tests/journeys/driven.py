"""The real window, plus a read-only guide that tells a test where things are on the screen.

``python -m tests.journeys.driven [ARGUMENTS OF SUPERSCOPE]`` starts the program as a person would.
Questions come as JSON lines on stdin, answers leave on stdout. The guide only looks: every click
and key of a journey is a real X event.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from typing import Any

from PySide6.QtCore import QAbstractListModel, QCoreApplication, QEvent, QObject, QPoint, QRect
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QProgressBar,
    QTabBar,
    QTextEdit,
    QTreeView,
    QWidget,
)

COVERED = (QAbstractItemView, QPlainTextEdit, QTextEdit)
ASK = QEvent.Type(QEvent.registerEventType())


def _text(widget: QWidget) -> str:
    if isinstance(widget, (QAbstractButton, QLineEdit, QLabel)):
        return widget.text().replace("&", "")
    if isinstance(widget, (QPlainTextEdit, QTextEdit)):
        return widget.toPlainText()
    if isinstance(widget, QComboBox):
        return widget.currentText()
    if isinstance(widget, QProgressBar):
        return widget.text()
    return ""


def _entry(kind: str, name: str, text: str, corner: QPoint, rect: QRect, enabled: bool) -> dict[str, Any]:
    ratio = QApplication.primaryScreen().devicePixelRatio()
    box = [corner.x(), corner.y(), rect.width(), rect.height()]
    return {
        "kind": kind,
        "name": name,
        "text": text,
        "rect": [round(value * ratio) for value in box],
        "enabled": enabled,
    }


def _rows(view: QAbstractItemView) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    model = view.model()
    if model is None:
        return found

    def walk(parent: Any, depth: int) -> None:
        for row in range(min(model.rowCount(parent), 500)):
            # A list model keeps its columnCount to itself.
            columns = 1 if isinstance(model, QAbstractListModel) else min(model.columnCount(parent), 8)
            for column in range(columns):
                index = model.index(row, column, parent)
                rect = view.visualRect(index)
                text = str(index.data() if index.data() is not None else "")
                if text and rect.isValid() and view.viewport().rect().intersects(rect):
                    corner = view.viewport().mapToGlobal(rect.topLeft())
                    found.append(_entry("row", view.accessibleName(), text, corner, rect, True))
            if isinstance(view, QTreeView) and depth < 4:
                walk(model.index(row, 0, parent), depth + 1)

    walk(view.rootIndex(), 0)
    return found


def survey() -> list[dict[str, Any]]:
    """Everything a person could see or click: kind, accessible name, text, global rectangle, enabled."""
    found: list[dict[str, Any]] = []
    for widget in QApplication.allWidgets():
        # A view or a text without a frame is covered by its own viewport.
        shown = widget.viewport() if isinstance(widget, COVERED) else widget
        if not widget.isVisible() or shown.visibleRegion().isEmpty():
            continue
        corner = widget.mapToGlobal(QPoint(0, 0))
        entry = _entry(
            type(widget).__name__, widget.accessibleName(), _text(widget), corner, widget.rect(), widget.isEnabled()
        )
        entry["focus"] = widget.hasFocus()
        entry["active"] = widget.isActiveWindow()
        entry["window"] = widget.window().windowTitle()
        found.append(entry)
        if isinstance(widget, QMenu):
            for action in widget.actions():
                rect = widget.actionGeometry(action)
                text = action.text().replace("&", "").split("\t")[0]
                found.append(_entry("action", "", text, widget.mapToGlobal(rect.topLeft()), rect, action.isEnabled()))
        elif isinstance(widget, QTabBar):
            for tab in range(widget.count()):
                rect = widget.tabRect(tab)
                corner = widget.mapToGlobal(rect.topLeft())
                found.append(_entry("tab", "", widget.tabText(tab).replace("&", ""), corner, rect, True))
        elif isinstance(widget, QAbstractItemView):
            found.extend(_rows(widget))
    return found


class Guide(QObject):
    """Answers questions on the window's thread."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: queue.Queue[Any] = queue.Queue()

    def event(self, event: QEvent) -> bool:
        if event.type() == ASK:
            self.answers.put(survey())
            return True
        return super().event(event)


def _serve() -> None:
    while QCoreApplication.instance() is None:
        time.sleep(0.01)  # before there is an event loop there is nothing to wait on
    guide = Guide()
    guide.moveToThread(QCoreApplication.instance().thread())
    for _ in sys.stdin:
        QCoreApplication.postEvent(guide, QEvent(ASK))
        print(json.dumps(guide.answers.get()), flush=True)


if __name__ == "__main__":
    threading.Thread(target=_serve, daemon=True).start()
    from app.main import main

    sys.exit(main(sys.argv[1:]))
