"""The bottom: what runs, how far it is, how long it takes, and what waits behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QLabel,
    QProgressBar,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.icons import Dresser, icon
from app.panels.words import duration, large
from app.theme import XS, L, M, S, set_role
from app.window.docks import quiet_button

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.runs.recording import RunRecord
    from engine.runs.run import Progress

MOST = 40  # rows; a longer queue is counted
STEPS = 1000  # of the progress bar


class JobRow(QWidget):
    """One run: name, bar, numbers, buttons. Rows are reused, never made per update."""

    def __init__(self, workbench: Workbench, dresser: Dresser, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self.run = ""
        self._state = ""
        self.name = QToolButton()
        self.name.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.name.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        set_role(self.name, "quiet")
        self.name.clicked.connect(lambda: workbench.open_panel("run", self.run))
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.bar.setMinimumWidth(48)
        self.bar.setMaximumWidth(320)
        self.numbers = QLabel()
        self.numbers.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.numbers.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        set_role(self.numbers, "muted")
        self.first = quiet_button("Pause")
        self.first.clicked.connect(self._act)
        self.end = quiet_button("Stop and keep")
        dresser.put(self.end, "stop")
        self.end.clicked.connect(lambda: workbench.stop(self.run))
        grid = QGridLayout(self)
        grid.setContentsMargins(S, 0, S, 0)
        grid.setHorizontalSpacing(S)
        grid.addWidget(self.name, 0, 0)
        grid.addWidget(self.bar, 0, 1)
        grid.addWidget(self.numbers, 0, 2)
        grid.addWidget(self.first, 0, 3)
        grid.addWidget(self.end, 0, 4)
        # Where it is narrow the bar gives way first, then the name; the numbers say most.
        grid.setColumnMinimumWidth(0, 120)
        grid.setColumnMinimumWidth(2, 210)
        grid.setColumnStretch(1, 2)
        grid.setColumnStretch(2, 3)

    def show_run(self, record: RunRecord, progress: Progress | None, place: int) -> None:
        """Bring the row up to date. ``place`` is the run's place in the queue, from 1; 0 while it runs."""
        look = self._workbench.theme
        title = record.title or record.id
        if (self.run, self._state, self.name.text()) != (record.id, record.state, title):
            self.run, self._state = record.id, record.state
            self.name.setText(title)
            self.name.setIcon(icon(record.state, look, "accent" if record.state == "running" else "muted"))
            self.name.setToolTip(f"Show {record.id}")
            self.name.setAccessibleName(f"Show {title}")
            self.bar.setAccessibleName(f"Progress of {title}")
            words, glyph = {
                "running": ("Pause", "pause"),
                "paused": ("Continue", "play"),
                "queued": ("Move up", "up"),
            }.get(record.state, ("Pause", "pause"))
            self.first.setIcon(icon(glyph, look))
            self.first.setToolTip(words)
            self.first.setAccessibleName(f"{words}: {title}")
            stop = "Take out of the queue" if record.state == "queued" else "Stop and keep"
            self.end.setToolTip(stop)
            self.end.setAccessibleName(f"{stop}: {title}")
        self.first.setEnabled(record.state != "queued" or place > 1)
        share = None
        if progress is not None and progress.total:
            share = max(0.0, min(1.0, progress.done / progress.total))
        known = share is not None or record.state != "running"
        self.bar.setRange(0, STEPS if known else 0)
        if known:
            self.bar.setValue(round((share or 0.0) * STEPS))
        self.bar.setVisible(record.state != "queued")
        text = said(record, progress, place)
        self.numbers.setText(text)
        self.numbers.setToolTip(text)

    def _act(self) -> None:
        act = {"running": self._workbench.pause, "paused": self._workbench.go_on}.get(self._state)
        if act is not None:
            act(self.run)
        elif self._state == "queued":
            queued = [record.id for record in self._workbench.active() if record.state == "queued"]
            if self.run in queued:
                self._workbench.move(self.run, max(queued.index(self.run) - 1, 0))


def said(record: RunRecord, progress: Progress | None, place: int) -> str:
    """The numbers beside a bar: ``41 % · 10.4 k act/s · 18:20 left``."""
    if record.state == "queued":
        return "queued, next" if place == 1 else f"queued, {place} in line"
    parts = ["paused"] if record.state == "paused" else []
    if progress is None:
        return " · ".join(parts) or "starting"
    if progress.stage:
        parts.append(progress.stage)
    if progress.total:
        parts.append(f"{100 * progress.done / progress.total:.0f} %")
    elif progress.done:
        parts.append(f"{large(progress.done)} {progress.unit}")
    if record.state == "running":
        if progress.rate > 0:
            parts.append(f"{large(progress.rate)} {progress.unit}/s")
        if progress.left is not None:
            parts.append(f"{duration(progress.left)} left")
    return " · ".join(parts)


class Jobs(QScrollArea):
    """The rows. Redrawn through the paint scheduler, however often progress arrives."""

    def __init__(self, workbench: Workbench, dresser: Dresser, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self._dresser = dresser
        self._rows: list[JobRow] = []
        self.setAccessibleName("Jobs")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setMinimumHeight(44)
        body = QWidget()
        self._column = QVBoxLayout(body)
        self._column.setContentsMargins(0, XS, 0, XS)
        self._column.setSpacing(XS)
        self.empty = QLabel("Nothing is running. Choose an experiment at the right and press Start.")
        self.empty.setWordWrap(True)
        self.empty.setContentsMargins(M, XS, M, XS)
        set_role(self.empty, "muted")
        self.rest = QLabel()
        self.rest.setContentsMargins(L, 0, M, 0)
        set_role(self.rest, "muted")
        self.rest.hide()
        self._column.addWidget(self.empty)
        self._column.addWidget(self.rest)
        self._column.addStretch(1)
        self.setWidget(body)
        for changed in (workbench.runs_changed, workbench.session_changed, workbench.theme_changed):
            changed.connect(self._mark)
        workbench.run_changed.connect(lambda _: self._mark())
        workbench.run_progressed.connect(lambda _: self._mark())

    def _mark(self) -> None:
        self._workbench.painter.mark(self)

    def paint_now(self) -> None:
        """Bring the rows up to date."""
        records = self._workbench.active()
        queued = [record.id for record in records if record.state == "queued"]
        shown = records[:MOST]
        while len(self._rows) < len(shown):
            row = JobRow(self._workbench, self._dresser)
            self._column.insertWidget(len(self._rows), row)
            self._rows.append(row)
        for row, record in zip(self._rows, shown, strict=False):
            place = queued.index(record.id) + 1 if record.state == "queued" else 0
            row.show_run(record, self._workbench.progress(record.id), place)
            row.show()
        for row in self._rows[len(shown) :]:
            row.hide()
        self.empty.setVisible(not records)
        left = len(records) - len(shown)
        self.rest.setText(f"and {left} more in the queue")
        self.rest.setVisible(left > 0)
