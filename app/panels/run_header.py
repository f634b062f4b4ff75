"""The top of a run's page: its name, state, times, changed parameters, what one can do with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSize, QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QLineEdit, QMenu, QVBoxLayout, QWidget

from app.icons import state_icon
from app.panels.parts import button, label
from app.panels.run_actions import LATEST, RunActions, done_words
from app.panels.words import STATE_WORDS, changed_parameters, clock, defaults_of, duration, progress_line
from app.theme import XS, M, S, heading, set_role
from engine.runs import snippets
from engine.runs.recording import ENDED, RunRecord

if TYPE_CHECKING:
    from app.workbench import Workbench

ICON = QSize(16, 16)


class TitleEdit(QLineEdit):
    """A heading that is edited in place: a line appears under the pointer and while typing."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFont(heading())
        set_role(self, "title")
        self.setAccessibleName("Title of the run")
        self.setToolTip("Click to rename")


class StateMark(QWidget):
    """The run's state: its icon in the state's colour, and the word."""

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self._picture = QLabel()
        self._word = label(wrap=False)
        whole = QHBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(XS)
        whole.addWidget(self._picture)
        whole.addWidget(self._word)

    def set_state(self, state: str) -> None:
        self._word.setText(STATE_WORDS.get(state, state))
        self.setAccessibleName(f"State: {self._word.text()}")
        self._picture.setPixmap(state_icon(state, self.workbench.theme).pixmap(ICON, self.devicePixelRatioF()))


class RunHeader(QFrame):
    """Shows one run's record and acts on the run.

    Signals:
        renamed: the person gave the run another title.
    """

    renamed = Signal(str)

    def __init__(self, run: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.run, self.workbench = run, workbench
        self._title = TitleEdit()
        self._title.editingFinished.connect(self._rename)
        self._state = StateMark(workbench)
        self._times = label(role="muted", wrap=False)
        self._parameters = label(role="muted")
        self._progress = label()
        self._progress.setAccessibleName("Progress")
        self.actions = RunActions(run, workbench)
        self.done = label(role="muted")
        self.done.setAccessibleName("Done by hand")
        self._buttons = {
            "pause": button("Pause", lambda: workbench.pause(run), tip="Wait at the next batch"),
            "go_on": button("Continue", lambda: workbench.go_on(run), tip="Go on from where it waits"),
            "stop": button("Stop and keep", lambda: workbench.stop(run), tip="End at the next batch; all so far stays"),
            "resume": button("Resume", lambda: workbench.resume(run), tip="Go on as the same run from where it ended"),
            "again": button("Duplicate…", self._duplicate, tip="Open the form with these parameters to change some"),
        }
        self._copy_button = button("Copy as…", lambda: None, tip="The same run as a command or as Python")
        menu = QMenu(self._copy_button)
        menu.addAction("Copy as command", lambda: self._copy(snippets.as_command))
        menu.addAction("Copy as Python", lambda: self._copy(snippets.as_python))
        self._copy_button.setMenu(menu)
        self._lay_out()
        self._ticker = QTimer(self)
        self._ticker.setInterval(1000)
        self._ticker.timeout.connect(self._show_times)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(S)
        top.addWidget(self._title, 1)
        for made in (*self._buttons.values(), self._copy_button):
            top.addWidget(made)
        facts = QHBoxLayout()
        facts.setSpacing(M)
        facts.addWidget(self._state)
        self._times.setMinimumWidth(1)  # gives way to the buttons where the page is narrow
        facts.addWidget(self._times, 1)
        facts.addWidget(self.actions)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(XS)
        whole.addLayout(top)
        whole.addLayout(facts)
        whole.addWidget(self._parameters)
        whole.addWidget(self._progress)
        whole.addWidget(self.done)

    # ---- showing

    def refresh(self) -> None:
        """Bring everything up to date with the record."""
        record = self.workbench.record(self.run)
        described = self._described(record)
        if not self._title.hasFocus():
            self._title.setText(title_of(record, described))
            self._title.setCursorPosition(0)
        self._state.set_state(record.state)
        changed = changed_parameters(record.parameters, described)
        words = " · ".join(f"{name} {value}" for name, value in changed) or "all parameters at their defaults"
        self._parameters.setText(f"{record.id} — {words}")
        self._parameters.setToolTip("\n".join(f"{name} = {value}" for name, value in record.parameters.items()))
        self.refresh_progress()
        self._show_times()
        self._show_done(record, described)
        self._show_buttons(record, described)
        if record.state in ("running", "paused") and self.isVisible():
            self._ticker.start()
        else:
            self._ticker.stop()

    def refresh_progress(self) -> None:
        """Bring the progress line up to date."""
        record = self.workbench.record(self.run)
        last = {}
        for name in self.workbench.metric_names(self.run):
            rows = self.workbench.metric(self.run, name)
            if len(rows):
                last[name] = float(rows[-1, 1])
        line = progress_line(record, self.workbench.progress(self.run), last, self._described(record))
        self._progress.setText(line)
        self._progress.setVisible(bool(line))

    def stop_ticking(self) -> None:
        """No timer of the header runs after this."""
        self._ticker.stop()

    def _show_times(self) -> None:
        record = self.workbench.record(self.run)
        self._times.setText(times_of(record))

    def _show_done(self, record: RunRecord, described: dict[str, Any]) -> None:
        done = done_words(record.facts.get("actions", []), described.get("actions", {}))
        before = [f"{len(done) - LATEST} before"] * (len(done) > LATEST)
        self.done.setText(" · ".join([*done[-LATEST:][::-1], *before]))
        self.done.setToolTip("\n".join(done))
        self.done.setVisible(bool(done))
        self.actions.refresh(record, described.get("actions", {}))

    def _show_buttons(self, record: RunRecord, described: dict[str, Any]) -> None:
        ended = record.state in ENDED
        can = {
            "pause": record.state == "running",
            "go_on": record.state == "paused",
            "stop": not ended,
            "resume": record.state in ("stopped", "interrupted"),
        }
        for name, possible in can.items():
            self._buttons[name].setVisible(possible)
        if can["resume"]:
            fresh = not (described.get("resumable") and record.checkpoint)
            self._buttons["resume"].setText("Run again from the start" if fresh else "Resume")
        self._buttons["stop"].setText("Take out of the queue" if record.state == "queued" else "Stop and keep")
        for made in self._buttons.values():
            made.setAccessibleName(made.text().rstrip("…"))

    def _described(self, record: RunRecord) -> dict[str, Any]:
        return self.workbench.catalogue.get(record.experiment, {})

    # ---- acting

    def _rename(self) -> None:
        record = self.workbench.record(self.run)
        text = self._title.text().strip()
        if text and text != title_of(record, self._described(record)):
            self.workbench.rename("runs", self.run, text)
            self.renamed.emit(text)
        self._title.clearFocus()

    def _duplicate(self) -> None:
        record = self.workbench.record(self.run)
        self.workbench.show_form(record.experiment, dict(record.parameters))

    def _copy(self, make: Any) -> None:
        record = self.workbench.record(self.run)
        QGuiApplication.clipboard().setText(
            make(record.experiment, record.parameters, defaults_of(self._described(record)))
        )


def title_of(record: RunRecord, described: dict[str, Any]) -> str:
    """The run's title, or the experiment's with the run's number."""
    if record.title:
        return record.title
    number = record.id.rpartition("-")[2]
    named = described.get("title") or record.experiment
    return f"{named} {number}" if number.isdigit() else named


def times_of(record: RunRecord) -> str:
    """``started 14:05 · 18:20 so far``, ``finished 14:31 after 26:10``."""
    if record.state == "queued":
        return f"since {clock(record.created)}" if record.created else ""
    parts = [f"started {clock(record.started)}"] if record.started else []
    if record.state in ENDED:
        taken = record.elapsed or ((record.ended or 0) - record.started if record.started and record.ended else 0)
        if taken > 0:
            parts.append(f"took {duration(taken)}")
    elif record.started:
        parts.append(f"{duration(max(0.0, time.time() - record.started))} so far")
    return " · ".join(parts)
