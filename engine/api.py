"""Scripting: ``from engine import run, sweep, load, Session``. The same engine as window and command line."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy.typing as npt

from engine.errors import SuperscopeError
from engine.figures.kinds import Figure
from engine.runs import parameters as reading
from engine.runs import sweeps
from engine.runs.control import Control
from engine.runs.declaration import Experiment, find
from engine.runs.execute import execute
from engine.runs.parameters import Parameters
from engine.runs.recording import Recording, RecordingWriter, RunRecord
from engine.runs.run import Sink

if TYPE_CHECKING:
    from engine.session import Session

Array: TypeAlias = npt.NDArray[Any]


class RunFailed(SuperscopeError):
    """A run that was started from Python has failed; ``record`` is what is known of it, traceback included."""

    def __init__(self, record: RunRecord) -> None:
        super().__init__(record.error)
        self.record = record


class RunResult(RunRecord):
    """A run's record with what it has put out.

    Attributes:
        metrics: by name, rows (n, 3) float64: step, value, seconds since the start.
        figures: by name.
        kept: arrays by name.
        log: what the run said, as ``{"time", "level", "text"}``.
    """

    metrics: dict[str, Array]
    figures: dict[str, Figure]
    kept: dict[str, Array]
    log: list[dict[str, Any]]

    def __init__(self, record: RunRecord, folder: Path, held: object = None) -> None:
        """Read the recording in ``folder``; ``held`` is kept alive as long as the result (a temporary folder)."""
        super().__init__(**{entry.name: getattr(record, entry.name) for entry in fields(RunRecord)})
        recording = Recording(folder)
        self.metrics = {name: recording.metric(name) for name in recording.metric_names()}
        self.figures = {name: recording.figure(name) for name in recording.figure_names()}
        self.kept = {name: recording.kept(name) for name in recording.kept_names()}
        self.log = recording.log()
        self._held = held

    def last(self, metric: str) -> float:
        """The last value of a metric."""
        return float(self.metrics[metric][-1, 1])


class Store(Protocol):
    """Where runs are recorded: a session, or a temporary folder."""

    @property
    def work(self) -> Path:
        """The folder that ``toy:RUN`` is looked up in."""
        ...

    def add(self, experiment: Experiment, parameters: Parameters, sweep: str) -> Path:
        """Make room for a run; its recording's folder."""
        ...

    def update(self, record: RunRecord) -> None:
        """A run's record has changed."""
        ...

    def save(self) -> None:
        """Make what has been recorded last."""
        ...


class TemporaryStore:
    """Recordings in a folder that goes away with the store, or when ``delete`` is called."""

    def __init__(self) -> None:
        self._work = Path(tempfile.mkdtemp(prefix="superscope-"))
        self._count = 0
        self.delete = weakref.finalize(self, shutil.rmtree, self._work, ignore_errors=True)

    @property
    def work(self) -> Path:
        return self._work

    def add(self, experiment: Experiment, parameters: Parameters, sweep: str) -> Path:
        self._count += 1
        record = new_record(f"{experiment.name}-{self._count}", experiment, parameters, sweep)
        return RecordingWriter(self.work / "runs" / record.id, record).folder

    def update(self, record: RunRecord) -> None:
        """Nothing to do: the recording is all there is."""

    def save(self) -> None:
        """Nothing to do: the folder goes away."""


class SessionStore:
    """Recordings in a session's work folder; ``save`` gathers them into its file."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def work(self) -> Path:
        """The session's work folder; another one after a save under another name."""
        return self.session.work

    def add(self, experiment: Experiment, parameters: Parameters, sweep: str) -> Path:
        values = parameters.model_dump(mode="json")
        seed = int(getattr(parameters, "seed", 0))
        record = self.session.add_run(experiment.name, values, sweep=sweep, seed=seed)
        return self.session.run_folder(record.id)

    def update(self, record: RunRecord) -> None:
        self.session.update_run(record)

    def save(self) -> None:
        self.session.save().wait()


def run(name: str, *, session: Session | Path | str | None = None, **parameters: Any) -> RunResult:
    """Run the experiment ``name`` here and now.

    Args:
        name: the experiment ("pca-spectrum").
        session: keeps the run: a session (which saves it when it is saved), or the path of a session
            file, which is made where it is missing and saved at the end. Without it the results
            live as long as what is returned.
        parameters: of the experiment; what is not given has its default.

    Raises:
        ParameterError: an unknown experiment, or a wrong parameter; names the bound.
        RunFailed: the experiment ended with an error; with a session, the failed run is kept there.
        KeyboardInterrupt: after what was done is saved.
    """
    experiment = find(name)
    checked = reading.check(experiment.parameters, parameters)
    return _run_all(experiment, [checked], session, "")[0]


def sweep(name: str, *, session: Session | Path | str | None = None, **parameters: Any) -> list[RunResult]:
    """Run ``name`` once for each combination of the lists that scalar parameters are given. Raises as `run` does."""
    experiment = find(name)
    each = reading.sweep(experiment.parameters, parameters)
    label = sweep_label(reading.swept(experiment.parameters, parameters))
    try:
        return _run_all(experiment, each, session, label)
    finally:
        sweeps.ended(label)


def load(path: Path | str) -> Session:
    """Open a session file. Raises `engine.session.SessionError`."""
    from engine.session import Session

    return Session.open(Path(path))


def sweep_label(names: list[str]) -> str:
    """The attribute ``sweep`` of the runs of one sweep: what it goes over and when it began; "" for no sweep."""
    return f"{', '.join(names)} {time.strftime('%Y-%m-%dT%H:%M:%S')}" if names else ""


def new_record(id: str, experiment: Experiment, parameters: Parameters, sweep: str) -> RunRecord:
    """A queued run's record."""
    return RunRecord(
        id=id,
        experiment=experiment.name,
        parameters=parameters.model_dump(mode="json"),
        seed=int(getattr(parameters, "seed", 0)),
        created=time.time(),
        sweep=sweep,
    )


@contextlib.contextmanager
def open_session(path: Path, *, make: bool = True) -> Iterator[Session]:
    """The session at ``path``, closed at the end; made where it is missing, unless ``make`` is False.

    Raises:
        SessionError: it is locked by another program (the sentence says by whom), damaged or no session.
    """
    from engine.session import Session

    if make and not path.exists():
        session = Session.create(title=path.stem)
        try:
            session.save(path).wait()
        except BaseException:
            session.close(discard=True)
            raise
    else:
        session = Session.open(path)
    try:
        yield session
    finally:
        session.close()


@contextlib.contextmanager
def read_session(path: Path) -> Iterator[Session]:
    """The session at ``path`` for reading. Where another program has it open, what is in its file.

    Raises:
        SessionError: it is damaged or no session.
    """
    from engine.session import Session, SessionLocked

    try:
        session = Session.open(path)
    except SessionLocked:
        session = Session.open(path, copy=True)
        try:
            yield session
        finally:
            session.close(discard=True)
        return
    with contextlib.closing(session):
        yield session


def carry_out(
    experiment: Experiment,
    parameters: Parameters,
    store: Store,
    *,
    sweep: str = "",
    sinks: tuple[Sink, ...] = (),
    control: Control | None = None,
    announce: Callable[[RunRecord], None] = lambda record: None,
    folder: Path | None = None,
) -> tuple[RunRecord, Path]:
    """Run in ``store``; ``folder`` names a recording to resume. The record and its folder."""
    resume = folder is not None
    if folder is None:
        folder = store.add(experiment, parameters, sweep)
    else:
        from engine.session import restore_recording

        restore_recording(store.work, folder.name)

    def both(record: RunRecord) -> None:
        store.update(record)
        announce(record)

    record = execute(experiment, parameters, folder, sinks, control, resume, work=store.work, announce=both)
    return record, folder


def _run_all(
    experiment: Experiment, each: list[Parameters], session: Session | Path | str | None, label: str
) -> list[RunResult]:
    if session is None:
        store = TemporaryStore()
        return [_one(experiment, one, store, label, store) for one in each]
    if not isinstance(session, (str, Path)):
        kept = SessionStore(session)
        return [_one(experiment, one, kept, label, None) for one in each]
    with open_session(Path(session)) as opened:
        kept = SessionStore(opened)
        try:
            return [_one(experiment, one, kept, label, None) for one in each]
        finally:
            kept.save()


def _one(experiment: Experiment, parameters: Parameters, store: Store, label: str, held: object) -> RunResult:
    record, folder = carry_out(experiment, parameters, store, sweep=label)
    if record.state == "failed":
        raise RunFailed(record)
    if record.state == "interrupted":
        raise KeyboardInterrupt
    return RunResult(record, folder, held)
