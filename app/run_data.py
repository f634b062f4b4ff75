"""`RunData`: metric rows, figures and progress of runs, live where the engine is saying them, else from the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from app.live import LiveRun

if TYPE_CHECKING:
    from engine.figures.kinds import Figure
    from engine.runs.run import Progress
    from engine.session import Session

Rows: TypeAlias = npt.NDArray[np.float64]


class RunData:
    """What runs of one session have said so far."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._live: dict[str, LiveRun] = {}

    def resume(self, run: str) -> None:
        """The run goes on from its checkpoint."""
        self._live.setdefault(run, LiveRun()).resume()

    def measure(self, run: str, rows: dict[str, Rows]) -> None:
        """Append rows by metric that the engine has sent."""
        live = self._live.setdefault(run, LiveRun())
        for name, new in rows.items():
            recorded = None
            if live.resumed and name not in live.metrics and name in self._session.metric_names(run):
                recorded = self._session.metric(run, name)
            live.measure(name, new, recorded)

    def show(self, run: str, name: str, figure: Figure) -> None:
        """Take a figure that the engine has sent; the latest of a name wins."""
        self._live.setdefault(run, LiveRun()).figures[name] = figure

    def proceed(self, run: str, progress: Progress) -> None:
        """Take how far a run is."""
        self._live.setdefault(run, LiveRun()).progress = progress

    def metric_names(self, run: str) -> list[str]:
        live = self._live.get(run)
        return sorted({*(live.metrics if live else ()), *self._session.metric_names(run)})

    def metric(self, run: str, name: str) -> Rows:
        """Rows (n, 3): step, value, seconds."""
        live = self._live.get(run)
        if live is not None and name in live.metrics:
            return live.metrics[name].rows
        rows: Rows = self._session.metric(run, name)
        return rows

    def figure_names(self, run: str) -> list[str]:
        live = self._live.get(run)
        return list(dict.fromkeys([*self._session.figure_names(run), *(live.figures if live else ())]))

    def figure(self, run: str, name: str) -> Figure:
        live = self._live.get(run)
        if live is not None and name in live.figures:
            return live.figures[name]
        return self._session.figure(run, name)

    def progress(self, run: str) -> Progress | None:
        """The latest progress of a run that is live here."""
        live = self._live.get(run)
        return live.progress if live is not None else None
