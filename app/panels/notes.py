"""The session's notes: Markdown, kept with the session as one types, with a rendered reading view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QPlainTextEdit, QStackedWidget, QTextBrowser, QVBoxLayout, QWidget

from app.panels import markdown
from app.panels.panel import Panel
from app.panels.parts import button, label, row
from app.theme import XL, L, S, mono
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

PAUSE = 800  # ms without typing after which the notes are handed to the session


class Notes(Panel):
    """Writes to the session's notes. Undo while typing is the editor's own; the session keeps each pause."""

    kind = "notes"

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self.editor = QPlainTextEdit()
        self.editor.setFont(mono())
        self.editor.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        self.editor.document().setDocumentMargin(XL)
        self.editor.setAccessibleName("Notes (Markdown)")
        self.editor.setPlaceholderText(
            "What you tried, saw and think, in Markdown. It is saved with the session and can be undone."
        )
        self.reader = QTextBrowser()
        self.reader.setOpenLinks(False)
        self.reader.setFrameShape(QTextBrowser.Shape.NoFrame)
        self.reader.setAccessibleName("Notes as they read")
        self._stack = QStackedWidget()
        self._stack.addWidget(self.editor)
        self._stack.addWidget(self.reader)
        self._mode = button("Read", self._switch, tip="Between writing and reading")
        self._copy = button("Copy all", self._copy_all, tip="Copy the Markdown")
        self._said = label(role="muted", wrap=False)
        bar = row(self._mode, self._copy, self._said)
        bar.setContentsMargins(L, S, L, S)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addLayout(bar)
        whole.addWidget(self._stack)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(PAUSE)
        self._pause.timeout.connect(self.keep)
        self.editor.textChanged.connect(self._typed)
        workbench.session_changed.connect(self._load)
        workbench.session_edited.connect(self._load)
        workbench.theme_changed.connect(self._load)
        self._load()
        self.setFocusProxy(self.editor)

    def title(self) -> str:
        return "Notes"

    def state(self) -> dict[str, Any]:
        return {"reading": self._stack.currentIndex() == 1}

    def restore(self, state: dict[str, Any]) -> None:
        if bool(state.get("reading")) != (self._stack.currentIndex() == 1):
            self._switch()

    def closing(self) -> None:
        self.keep()
        self._pause.stop()
        self.workbench.session_changed.disconnect(self._load)
        self.workbench.session_edited.disconnect(self._load)
        self.workbench.theme_changed.disconnect(self._load)

    def keep(self) -> None:
        """Hand what was typed to the session."""
        self._pause.stop()
        text = self.editor.toPlainText()
        if text == self.workbench.session.notes:
            return
        try:
            self.workbench.session.set_notes(text)
        except SuperscopeError as problem:
            self._said.setText("")
            self.workbench.report(problem)
            return
        self._said.setText("kept")
        self.workbench.session_edited.emit()

    def _typed(self) -> None:
        self._said.setText("")
        self._pause.start()

    def _load(self) -> None:
        """Take what the session has (another session, an undone edit), unless there is something to keep here."""
        if self._pause.isActive():
            return
        text = self.workbench.session.notes
        if text != self.editor.toPlainText():
            self.editor.blockSignals(True)
            self.editor.setPlainText(text)
            self.editor.blockSignals(False)
        if self._stack.currentIndex() == 1:
            markdown.show(self.reader, text, self.workbench.theme)

    def _switch(self) -> None:
        reading = self._stack.currentIndex() == 0
        if reading:
            self.keep()
            markdown.show(self.reader, self.editor.toPlainText(), self.workbench.theme)
        self._stack.setCurrentIndex(1 if reading else 0)
        self._mode.setText("Write" if reading else "Read")
        self._mode.setAccessibleName(self._mode.text())

    def _copy_all(self) -> None:
        QGuiApplication.clipboard().setText(self.editor.toPlainText())
