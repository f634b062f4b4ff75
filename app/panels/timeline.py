"""The timeline of a run: scrub through the checkpoint movie of its figures, or let it play."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSlider, QWidget

from app.panels.parts import button, label
from app.theme import M, S, set_role

BEAT = 120  # ms that a frame stays while the movie plays


class Timeline(QFrame):
    """Chooses a step among those that have frames. At its right end it follows the run.

    Signals:
        moved: the step to show, None for what the run shows last.
    """

    moved = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        set_role(self, "bar")
        self._steps = np.zeros(0)
        self._shown: float | None = None
        self.play = button("Play", self._toggle, tip="Go through the checkpoints from the first to the last")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Checkpoint")
        self.slider.setToolTip("Checkpoints of this run, spaced evenly on the logarithm of the step")
        self.slider.setPageStep(5)
        self.slider.valueChanged.connect(self._changed)
        self.words = label(role="muted", wrap=False)
        self.words.setAccessibleName("Shown checkpoint")
        self.words.setMinimumWidth(self.words.fontMetrics().horizontalAdvance("step 100,000 · 100 of 100, latest"))
        self._beat = QTimer(self)
        self._beat.setInterval(BEAT)
        self._beat.timeout.connect(self._next)
        whole = QHBoxLayout(self)
        whole.setContentsMargins(M, S, M, S)
        whole.setSpacing(M)
        whole.addWidget(self.play)
        whole.addWidget(self.slider, 1)
        whole.addWidget(self.words)
        self.hide()

    @property
    def step(self) -> float | None:
        """The chosen step; None at the right end."""
        return self._shown

    def set_steps(self, steps: Sequence[float]) -> None:
        """There are frames at these steps, rising; with fewer than two there is nothing to choose."""
        if len(steps) == len(self._steps) and np.array_equal(steps, self._steps):
            return
        at_end = self._shown is None
        self._steps = np.asarray(steps, dtype=np.float64)
        self.slider.blockSignals(True)
        self.slider.setMaximum(max(len(self._steps) - 1, 0))
        if at_end:
            self.slider.setValue(self.slider.maximum())
        self.slider.blockSignals(False)
        self._say()
        self.setVisible(len(self._steps) > 1)

    def _changed(self, place: int) -> None:
        shown = None if place >= self.slider.maximum() else float(self._steps[place])
        if shown != self._shown:
            self._shown = shown
            self.moved.emit(shown)
        self._say()

    def _say(self) -> None:
        if not len(self._steps):
            return
        place = self.slider.value()
        latest = ", latest" if self._shown is None else ""
        self.words.setText(f"step {self._steps[place]:,.0f} · {place + 1} of {len(self._steps)}{latest}")

    # ---- playing

    def _toggle(self) -> None:
        if self._beat.isActive():
            self._rest()
            return
        if self.slider.value() >= self.slider.maximum():
            self.slider.setValue(0)
        self._beat.start()
        self.play.setText("Pause movie")
        self.play.setAccessibleName("Pause movie")

    def _next(self) -> None:
        self.slider.setValue(self.slider.value() + 1)
        if self.slider.value() >= self.slider.maximum():
            self._rest()

    def _rest(self) -> None:
        self._beat.stop()
        self.play.setText("Play")
        self.play.setAccessibleName("Play")

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._rest()
