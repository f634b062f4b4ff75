"""The page of one run: header, live curves, figures, kept arrays, log. The same live and after reopening."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QTimer
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QWidget

from app.panels.metric_plots import MetricPlots
from app.panels.panel import Page
from app.panels.parts import Notice, Section, button, label
from app.panels.run_figures import RunFigures
from app.panels.run_header import RunHeader, title_of
from app.panels.run_kept import KeptArrays, RunLog
from app.panels.timeline import Timeline
from app.panels.words import fact_text
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

REST = 100  # ms between two updates of curves and progress: no view paints more often
SIMPLE = (str, int, float, bool)
SENTENCE = 40  # letters from which a fact in words is read as a sentence


class RunPage(Page):
    """What a run has shown so far; follows it while it goes on."""

    kind = "run"

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self.header = RunHeader(key, workbench)
        self.header.renamed.connect(lambda: self._say_title())
        self.problem = Notice("error")
        self.hint = Notice()
        self.note = Notice("warning")
        self.note.add_action(button("Resume", lambda: workbench.resume(key)))
        self.facts = label(role="muted")
        self.facts.setAccessibleName("Facts")
        self.plots = MetricPlots(workbench)
        self.figures = RunFigures(key, workbench)
        self.kept = KeptArrays(key, workbench)
        self.log = RunLog(key, workbench)
        self._kept_section = Section("Kept arrays", self.kept)
        self._log_section = Section("Log", self.log)
        for widget in (self.header, self.problem, self.note, self.hint, self.plots, self.facts, self.figures):
            self.column.addWidget(widget)
        for section in (self._kept_section, self._log_section):
            self.column.addWidget(section)
        self.column.addStretch(1)
        # Below the scrolling column, so that the movie is at hand wherever one looks.
        self.timeline = Timeline()
        self.timeline.moved.connect(self._scrub)
        whole = self.layout()
        assert whole is not None
        whole.addWidget(self.timeline)
        self._stale: set[str] = set()
        self._followed: list[tuple[Any, Any]] = []
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST)
        self._rest.timeout.connect(self._catch_up)
        self._follow()
        self._refresh()

    def title(self) -> str:
        record = self.workbench.record(self.key)
        return title_of(record, self._described())

    def closing(self) -> None:
        self._rest.stop()
        self.header.stop_ticking()
        for signal, slot in self._followed:
            signal.disconnect(slot)
        self._followed = []

    # ---- following the run

    def _follow(self) -> None:
        bench = self.workbench
        self._followed = [
            (bench.run_changed, self._changed),
            (bench.runs_changed, self._refresh),
            (bench.run_progressed, self._progressed),
            (bench.run_measured, self._measured),
            (bench.run_shown, self._shown),
            (bench.logged, self._logged),
            (bench.theme_changed, self._repaint),
            (bench.catalogue_changed, self._refresh),
        ]
        for signal, slot in self._followed:
            signal.connect(slot)

    def _changed(self, run: str) -> None:
        if run == self.key:
            self._refresh()

    def _progressed(self, run: str) -> None:
        if run == self.key:
            self._later("progress")

    def _measured(self, run: str) -> None:
        if run == self.key:
            self._later("metrics")

    def _shown(self, run: str, name: str) -> None:
        if run == self.key:
            self._later(f"figure {name}")

    def _logged(self, run: str, level: str, text: str) -> None:
        if run == self.key:
            self._later("log")

    def _later(self, what: str) -> None:
        """Remember that something is out of date; a hidden page catches up when it is shown."""
        self._stale.add(what)
        if self.isVisible() and not self._rest.isActive():
            self._rest.start()

    def _catch_up(self) -> None:
        stale, self._stale = self._stale, set()
        if stale & {"metrics", "progress"}:
            self.header.refresh_progress()
        if "metrics" in stale:
            self.plots.refresh()
        self._show_stale_figures(stale)
        if "log" in stale:
            self._refresh_log()
        if any(what.startswith("figure ") for what in stale):
            self.timeline.set_steps(self.figures.steps())
        self._show_parts()

    def _show_stale_figures(self, stale: set[str]) -> None:
        for what in sorted(stale):
            if what.startswith("figure "):
                self.figures.show_figure(what.removeprefix("figure "))

    def _scrub(self, step: float | None) -> None:
        """Let all views follow the timeline."""
        self.figures.show_at(step)
        self.plots.mark_step(step)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.header.refresh()
        if self._stale:
            self._rest.start()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.header.stop_ticking()

    # ---- showing

    def _described(self) -> dict[str, Any]:
        found: dict[str, Any] = self.workbench.catalogue.get(self.workbench.record(self.key).experiment, {})
        return found

    def _refresh(self) -> None:
        """Bring the whole page up to date."""
        try:
            record = self.workbench.record(self.key)
        except SuperscopeError:  # deleted; the window closes the tab
            return
        stale, self._stale = self._stale, set()
        self.header.refresh()
        self.plots.set_runs([(self.key, self.title())], self._described().get("metrics", {}))
        self._show_stale_figures(stale)  # refreshing takes new ones only: those there may be many, and lie in a file
        self.figures.refresh()
        self.timeline.set_steps(self.figures.steps())
        self.kept.refresh()
        self._refresh_log()
        failed = record.state == "failed"
        self.problem.say(record.error if failed else "", record.traceback)
        self.note.say(record.error if record.state == "interrupted" else "", record.traceback)
        self.facts.setText(facts_line(record.facts))
        self._show_parts()
        self._say_title()

    def _refresh_log(self) -> None:
        self.log.refresh()

    def _repaint(self) -> None:
        self.header.refresh()

    def _show_parts(self) -> None:
        """Hide what is empty; say what will come where nothing is there yet."""
        self.plots.setVisible(self.plots.count > 0)
        self.figures.setVisible(self.figures.count > 0)
        self.facts.setVisible(bool(self.facts.text()))
        self._kept_section.setVisible(self.kept.count > 0)
        self._log_section.setVisible(self.log.count > 0)
        empty = not self.plots.count and not self.figures.count
        self.hint.say(self._expectation() if empty else "")

    def _expectation(self) -> str:
        record = self.workbench.record(self.key)
        declared = self._described().get("metrics", {})
        labels = list(dict.fromkeys(metric.get("group") or metric.get("label") or n for n, metric in declared.items()))
        what = f"Curves of {', '.join(labels)} and the figures" if labels else "The figures"
        if record.state == "queued":
            return f"This run waits for those before it in the queue. {what} appear here once it runs."
        if record.state in ("running", "paused"):
            return f"{what} appear here as soon as the first numbers are there."
        if record.state == "failed":
            return ""
        return "This run ended before it showed anything. Resume goes on with it; Duplicate… starts it anew."


def facts_line(facts: dict[str, Any]) -> str:
    """The plain facts of a run in one line, ``tokens found 100,000 · passes 1.2``; a sentence has a line of its own."""
    short, lines = [], []
    for name, value in facts.items():
        words = name.replace("_", " ")
        if isinstance(value, str) and " " in value and len(value) > SENTENCE:
            lines.append(f"{words[:1].upper()}{words[1:]}: {value}")
        elif isinstance(value, SIMPLE):
            short.append(f"{words} {fact_text(value)}")
    return "\n".join([*([" · ".join(short)] if short else []), *lines])
