"""Several runs in shared axes: each metric overlaid, the parameters that differ, the last values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.panels.comparing import Ends, difference_table, differing, final_table, legend_names, sweep_of
from app.panels.metric_plots import MetricPlots
from app.panels.panel import Page
from app.panels.parts import Notice, label, title_label
from app.panels.run_figures import height_of
from app.panels.run_header import title_of
from engine.errors import SuperscopeError
from engine.figures.kinds import Table
from engine.runs.recording import RunRecord

if TYPE_CHECKING:
    from app.workbench import Workbench

REST = 200  # ms between two updates while runs go on


class ComparePage(Page):
    """Compares the runs whose ids the key joins with commas; runs that were deleted are left out."""

    kind = "compare"

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self._ids = [run for run in key.split(",") if run]
        self._head = title_label("")
        self._names = label(role="muted")
        self.hint = Notice()
        self.plots = MetricPlots(workbench)
        self.differences = _TableSlot(workbench)
        self.finals = _TableSlot(workbench)
        for widget in (self._head, self._names, self.hint, self.plots, self.differences, self.finals):
            self.column.addWidget(widget)
        self.column.addStretch(1)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST)
        self._rest.timeout.connect(self.refresh)
        self._stale = False
        self._followed: list[Any] = [workbench.run_changed, workbench.run_measured]
        for signal in self._followed:
            signal.connect(self._later)
        workbench.runs_changed.connect(self.refresh)
        self.refresh()

    def title(self) -> str:
        records = self._records()
        names = differing(records) if sweep_of(records) else []
        return f"Sweep over {' and '.join(names)}" if names else f"Compare {len(records)} runs"

    def closing(self) -> None:
        self._rest.stop()
        for signal in self._followed:
            signal.disconnect(self._later)
        self._followed = []
        self.workbench.runs_changed.disconnect(self.refresh)

    def _records(self) -> list[RunRecord]:
        found = []
        for run in self._ids:
            try:
                found.append(self.workbench.record(run))
            except SuperscopeError:  # deleted since the page was opened
                continue
        return found

    def _later(self, run: str) -> None:
        if run not in self._ids:
            return
        self._stale = True
        if self.isVisible() and not self._rest.isActive():
            self._rest.start()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._stale:
            self._rest.start()

    def refresh(self) -> None:
        """Bring all up to date."""
        self._stale = False
        bench = self.workbench
        records = self._records()
        titles = [title_of(record, bench.catalogue.get(record.experiment, {})) for record in records]
        called = legend_names(records, titles)
        self._head.setText(self.title())
        self._names.setText(" · ".join(f"{name} ({record.id})" for name, record in zip(titles, records, strict=True)))
        declared: dict[str, Any] = {}
        for record in records:
            for name, metric in bench.catalogue.get(record.experiment, {}).get("metrics", {}).items():
                declared.setdefault(name, metric)
        self.plots.set_runs([(record.id, name) for record, name in zip(records, called, strict=True)], declared)
        ends = [self._ends(record) for record in records]
        if len(records) < 2:
            self.hint.say("Select several runs at the left with Ctrl or Shift, then choose Compare.")
        elif not self.plots.count:
            self.hint.say("None of these runs has logged a number yet; their curves appear here as they do.")
        else:
            self.hint.say("")
        self.plots.setVisible(self.plots.count > 0)
        self.differences.show_table(difference_table(records, called, bench.catalogue) if records else None)
        self.finals.show_table(final_table(records, called, ends, bench.catalogue) if self.plots.count else None)
        self._say_title()

    def _ends(self, record: RunRecord) -> Ends:
        step, values = float("nan"), {}
        for name in self.workbench.metric_names(record.id):
            rows = self.workbench.metric(record.id, name)
            if len(rows):
                values[name] = float(rows[-1, 1])
                step = float(rows[-1, 0]) if step != step else max(step, float(rows[-1, 0]))
        return Ends(step, values)


class _TableSlot(QWidget):
    """A table figure in its view; nothing where it has no rows."""

    def __init__(self, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self.view: Any = None
        self._whole = QVBoxLayout(self)
        self._whole.setContentsMargins(0, 0, 0, 0)

    def show_table(self, table: Table | None) -> None:
        if table is None or not len(table.columns[0]):
            self.hide()
            return
        if self.view is None:
            from app.views import make_view  # late, as everywhere: views bring pyqtgraph

            self.view = make_view(table, self.workbench)
            self._whole.addWidget(self.view)
        else:
            self.view.set_figure(table)
        self.view.setFixedHeight(height_of(table))
        self.show()
