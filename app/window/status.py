"""The line at the bottom: what the engine does, and whether the session is saved."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QLabel, QProgressBar, QStatusBar, QWidget

from app.icons import icon
from app.theme import L, set_role
from app.window.start_page import ago

if TYPE_CHECKING:
    from app.documents import Documents
    from app.workbench import Workbench

ENGINE = {
    "off": ("Engine off", "queued", "muted"),
    "starting": ("Engine starting", "running", "muted"),
    "ready": ("Engine ready", "finished", "good"),
    "busy": ("Engine busy", "running", "accent"),
    "died": ("Engine died", "failed", "bad"),
}


class Status(QStatusBar):
    """Engine at the left, save state at the right.

    Signals:
        saved_changed: `save_words` are others now.
    """

    saved_changed = Signal()

    def __init__(self, workbench: Workbench, documents: Documents, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self._documents = documents
        self.setAccessibleName("Status")
        self.setSizeGripEnabled(False)
        self._sign = QLabel()
        self.engine = QLabel()
        self.saved = QLabel()
        set_role(self.saved, "muted")
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Progress of saving")
        self.bar.setFixedSize(120, 8)
        self.bar.setTextVisible(False)
        self.bar.hide()
        self._sign.setContentsMargins(L // 2, 0, 0, 0)
        self.saved.setContentsMargins(0, 0, L // 2, 0)
        self.addWidget(self._sign)
        self.addWidget(self.engine)
        self.addPermanentWidget(self.bar)
        self.addPermanentWidget(self.saved)
        self._clock = QTimer(self)
        self._clock.timeout.connect(self.refresh)
        workbench.engine_changed.connect(lambda _: self.refresh())
        workbench.theme_changed.connect(self.refresh)
        workbench.session_edited.connect(self.refresh)
        workbench.session_changed.connect(self.refresh)
        documents.saving.connect(self._saving)
        documents.saved.connect(lambda _: self._saving_ended())
        documents.save_failed.connect(lambda _: self._saving_ended())
        self.refresh()

    def save_words(self) -> str:
        """``saved 12 s ago``, ``unsaved changes``, ``not saved yet``; "" before there is a session."""
        if not self._workbench.begun:
            return ""
        session = self._workbench.session
        if self._documents.busy:
            return "saving"
        if session.path is None:
            return "not saved yet" if session.unsaved or session.runs() else ""
        if session.unsaved:
            return "unsaved changes"
        return f"saved {ago(session.saved_at)}" if session.saved_at else ""

    def refresh(self) -> None:
        """Say how things are now."""
        state = self._workbench.engine.state if self._workbench.begun else "off"
        words, glyph, colour = ENGINE[state]
        if state == "off" and not self._workbench.begun:
            words = "Engine starting"
        if self.engine.text() != words or self.sender() is not self._clock:
            self.engine.setText(words)
            self._sign.setPixmap(icon(glyph, self._workbench.theme, colour).pixmap(16, 16))
        self._say(self.save_words())
        self._pace()

    def stop(self) -> None:
        """The window closes."""
        self._clock.stop()

    def _say(self, words: str) -> None:
        if words != self.saved.text():
            self.saved.setText(words)
            self.saved_changed.emit()

    def _pace(self) -> None:
        """Count seconds in the first minute after a save, minutes later, nothing while nothing is saved."""
        session = self._workbench.session if self._workbench.begun else None
        if session is None or session.unsaved or not session.saved_at:
            self._clock.stop()
            return
        wanted = 1000 if time.time() - session.saved_at < 60 else 30_000
        if not self._clock.isActive() or self._clock.interval() != wanted:
            self._clock.start(wanted)

    def _saving(self, share: float) -> None:
        self.bar.setVisible(True)
        self.bar.setRange(0, 1000 if share > 0 else 0)
        self.bar.setValue(round(1000 * share))
        self._say(self.save_words())

    def _saving_ended(self) -> None:
        self.bar.hide()
        self.refresh()
