"""How far a look is, with a way out: a model that is opened for the first time takes a while."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QWidget

from app.panels.parts import button, label
from app.panels.words import duration, rate, size
from app.theme import L, M, set_role
from engine.runs.run import Progress


class LoadingBar(QFrame):
    """A stage in words, a bar, and Cancel.

    Signals:
        cancelled: the person does not want to wait.
    """

    cancelled = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        set_role(self, "notice")
        self._words = label(wrap=False)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(8)
        self._bar.setAccessibleName("Progress")
        whole = QHBoxLayout(self)
        whole.setContentsMargins(L, M, M, M)
        whole.setSpacing(M)
        whole.addWidget(self._words)
        whole.addWidget(self._bar, 1)
        whole.addWidget(button("Cancel", self.cancelled.emit, tip="Stop opening; what was fetched whole is kept"))
        self.hide()

    @property
    def text(self) -> str:
        return self._words.text()

    def show_progress(self, progress: Progress | None, otherwise: str = "") -> None:
        """Show how far it is; without progress ``otherwise`` and a bar that only moves."""
        self.setVisible(True)
        if progress is None or not progress.total:
            self._words.setText((progress.stage if progress is not None else "") or otherwise)
            self._bar.setRange(0, 0)
            return
        self._bar.setRange(0, 1000)
        self._bar.setValue(round(1000 * progress.done / progress.total))
        self._words.setText(words_of(progress))


def words_of(progress: Progress) -> str:
    """``Fetching the wheel · 34 of 93 MB · 5.1 MB/s · 11 s left``."""
    parts = [progress.stage] if progress.stage else []
    assert progress.total
    if progress.unit == "bytes":
        parts.append(f"{size(progress.done)} of {size(progress.total)}")
        parts += [f"{size(progress.rate)}/s"] if progress.rate else []
    else:
        parts.append(f"{progress.done:,.0f} of {progress.total:,.0f} {progress.unit}")
        parts += [rate(progress.rate, progress.unit)] if progress.rate else []
    if progress.left is not None and progress.rate:
        parts.append(f"{duration(progress.left)} left")
    return " · ".join(parts)
