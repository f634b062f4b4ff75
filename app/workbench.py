"""`Workbench`: the one object panels get. Session, engine, catalogue, live data, theme, commands.

Panels read from it, ask it to start runs and looks, and listen to its signals; they never talk to
each other, to the engine or to the window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QApplication

from app import theme as themes
from app.commands import CommandRegistry
from app.paint import PaintScheduler
from app.settings import Settings
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from app.deaths import Deaths
    from app.engine_client import EngineClient
    from app.looks import Looks
    from app.run_data import RunData
    from engine.figures.kinds import Figure
    from engine.runs.messages import Answered, LookProgressed, Message
    from engine.runs.movies import Movie
    from engine.runs.recording import RunRecord
    from engine.runs.run import Progress
    from engine.session import Session

Catalogue: TypeAlias = dict[str, dict[str, Any]]
ACTIVE = ("queued", "running", "paused")


class Workbench(QObject):
    """What the window is about, without a widget.

    Signals:
        session_changed: another session, or its file, title or layout.
        session_edited: something of it changed: unsaved state and undo text may be different.
        runs_changed: runs were added or removed.
        run_changed: a run's record (state, title, tags, facts); its id.
        run_progressed, run_measured: new progress, new metric rows; the run's id.
        run_shown: a figure; the run's id and the figure's name.
        things_changed: models, corpora, activations or dictionaries; the section.
        engine_changed: ``off``, ``starting``, ``ready``, ``busy`` or ``died``.
        catalogue_changed: the experiments are known, or others.
        theme_changed: `theme` is another.
        message: level (``info``, ``good``, ``warning``, ``error``), one sentence, details.
        offer: level, one sentence, details, words on a button, name of the command it runs.
        logged: run id or "", level, text.
        panel_wanted: kind, key and state (see `open_panel`) of a panel to show.
        panel_done: kind and key of a panel that has served its purpose.
        form_wanted: experiment and parameters to show in the form.
        toys_wanted: the toy whose finished run to show from the session of them that ships, "" for none in particular.
        ticked: the 33 ms heart beat while the engine lives.
    """

    session_changed = Signal()
    session_edited = Signal()
    runs_changed = Signal()
    run_changed = Signal(str)
    run_progressed = Signal(str)
    run_measured = Signal(str)
    run_shown = Signal(str, str)
    things_changed = Signal(str)
    engine_changed = Signal(str)
    catalogue_changed = Signal()
    theme_changed = Signal()
    message = Signal(str, str, str)
    offer = Signal(str, str, str, str, str)
    logged = Signal(str, str, str)
    panel_wanted = Signal(str, str, object)
    panel_done = Signal(str, str)
    form_wanted = Signal(str, object)
    toys_wanted = Signal(str)
    ticked = Signal()

    session: Session
    engine: EngineClient
    _looks: Looks
    _deaths: Deaths
    _data: RunData

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.settings = Settings.load()
        self.theme = themes.chosen(self.settings.theme)  # type: ignore[arg-type]
        self.painter = PaintScheduler(self)
        self.commands = CommandRegistry(self)
        self.catalogue: Catalogue = {}

    # ---- beginning and end

    @property
    def begun(self) -> bool:
        """Whether there is a session: not before the first paint."""
        return hasattr(self, "session")

    def begin(self, session: Session) -> None:
        """Take the first session and start the engine. Called once, after the first paint."""
        from app.deaths import Deaths
        from app.engine_client import EngineClient
        from app.looks import Looks
        from engine.runs import catalogue, messages

        self._messages = messages
        self.engine = EngineClient(self)
        self._looks = Looks(self._send)
        self._deaths = Deaths()
        self._connect(self.engine)
        self.catalogue = catalogue.by_name(catalogue.read() or [])
        self.use(session)
        if self.catalogue:
            self.catalogue_changed.emit()

    def use(self, session: Session) -> None:
        """Show another session; the previous one is closed by who calls."""
        from app.run_data import RunData

        self.session = session
        self._data = RunData(session)
        self._looks.forget()
        if self.engine.alive:
            self.say_session()
        else:
            self._start_engine()
        self.session_changed.emit()
        self.runs_changed.emit()

    def end(self) -> None:
        """Stop the engine and forget what waits. Its last words still reach the session."""
        self.painter.stop()
        if hasattr(self, "engine"):
            self._looks.forget()
            self.engine.stop()

    def stop_engine(self) -> None:
        """End the engine after its runs have reached their next batch; it starts again when it is needed."""
        self.engine.stop()

    def restart_engine(self) -> None:
        """End the engine and start another."""
        self.stop_engine()
        self._deaths.forget()
        self._start_engine()

    # ---- runs

    def start(self, experiment: str, parameters: dict[str, Any], *, title: str = "", sweep: str = "") -> str:
        """Queue a run of ``experiment``; its id. Raises `SuperscopeError` where it cannot be recorded."""
        from engine.runs.messages import Start

        seed = parameters.get("seed", self._default(experiment, "seed", 0))
        record = self.session.add_run(experiment, parameters, title=title, sweep=sweep, seed=int(seed))
        folder = str(self.session.run_folder(record.id))
        self.runs_changed.emit()
        self.session_edited.emit()
        self._send(Start(record.id, experiment, parameters, folder, title, sweep))
        return record.id

    def resume(self, run: str) -> None:
        """Go on with a stopped or interrupted run, as the same run."""
        from engine.runs.messages import Start

        record = replace(self.record(run), state="queued", error="", traceback="", ended=None)
        self._data.resume(run)
        self.session.update_run(record)
        self.run_changed.emit(run)
        folder = str(self.session.run_folder(run))
        self._send(Start(run, record.experiment, record.parameters, folder, record.title, record.sweep, resume=True))

    def resume_interrupted(self) -> None:
        """Go on with every run that the death of an engine or a window interrupted, oldest first."""
        for record in self.interrupted():
            self.resume(record.id)

    def interrupted(self) -> list[RunRecord]:
        """Runs that were interrupted, oldest first."""
        return [record for record in self.session.runs() if record.state == "interrupted"] if self.begun else []

    def pause(self, run: str) -> None:
        """Ask a run to wait at its next batch."""
        self._send(self._messages.Pause(run))

    def go_on(self, run: str) -> None:
        """Let a paused run go on."""
        self._send(self._messages.Continue(run))

    def stop(self, run: str) -> None:
        """End a run at its next batch; what it has kept stays, and it can be resumed."""
        self._send(self._messages.Stop(run))

    def act(self, run: str, action: str, values: dict[str, Any]) -> None:
        """Ask a running or paused run to do an action that its experiment declares, between two batches."""
        self._send(self._messages.Act(run, action, values))

    def move(self, run: str, place: int) -> None:
        """Put a queued run at ``place`` (0 is next)."""
        self._send(self._messages.Move(run, place))
        self.runs_changed.emit()

    def active(self) -> list[RunRecord]:
        """Runs that are running, paused or queued, in that order."""
        if not self.begun:
            return []
        found = [record for record in self.session.runs() if record.state in ACTIVE]
        return sorted(found, key=lambda record: (record.state == "queued", record.created))

    # ---- edits of the session: journaled, undoable

    def rename(self, section: str, id: str, title: str) -> None:
        """Give a run ("runs") or a thing another title. Raises `SuperscopeError`."""
        self.session.rename(section, id, title)
        self._edited(section, id)

    def tag(self, section: str, id: str, tags: list[str]) -> None:
        """Replace the tags of a run or thing. Raises `SuperscopeError`."""
        self.session.tag(section, id, tags)
        self._edited(section, id)

    def annotate(self, section: str, id: str, note: str) -> None:
        """Replace the note of a run or thing. Raises `SuperscopeError`."""
        self.session.annotate(section, id, note)
        self._edited(section, id)

    def delete(self, section: str, ids: list[str]) -> None:
        """Delete runs or things; `undo` brings them back one by one. Raises `SuperscopeError`."""
        for id in ids:
            self.session.delete(section, id)
        self.edited(section)

    def undo(self) -> None:
        """Take back the last edit."""
        self.session.undo()
        self.edited("")

    def redo(self) -> None:
        """Do again what was taken back."""
        self.session.redo()
        self.edited("")

    def edited(self, section: str) -> None:
        """Tell everybody that a section ("" for any) was edited."""
        if section in ("", "runs"):
            self.runs_changed.emit()
        if section != "runs":
            for name in (section,) if section else ("models", "corpora", "activations", "dictionaries"):
                self.things_changed.emit(name)
        self.session_edited.emit()

    def _edited(self, section: str, id: str) -> None:
        if section == "runs":
            self.run_changed.emit(id)
            self.session_edited.emit()
        else:
            self.edited(section)

    # ---- looks

    def ask(
        self,
        panel: str,
        experiment: str,
        parameters: dict[str, Any],
        on_answer: Callable[[Answered], None],
        on_progress: Callable[[LookProgressed], None] | None = None,
    ) -> int:
        """Run ``experiment`` at once for ``panel``, replacing the panel's earlier look; the look's number.

        ``on_answer`` gets `Answered`, with ``error`` where it failed. See `app.looks`.
        """
        return self._looks.ask(panel, experiment, parameters, on_answer, on_progress)

    def cancel(self, look: int) -> None:
        """Forget a look; nothing is called any more."""
        self._looks.cancel(look)

    @property
    def looking(self) -> bool:
        """Whether an answer is waited for."""
        return self._looks.out > 0

    # ---- what runs have said

    def record(self, run: str) -> RunRecord:
        return self.session.run(run)

    def metric_names(self, run: str) -> list[str]:
        return self._data.metric_names(run)

    def metric(self, run: str, name: str) -> npt.NDArray[np.float64]:
        """Rows (n, 3): step, value, seconds; the live ones where the run is or was live here."""
        return self._data.metric(run, name)

    def figure_names(self, run: str) -> list[str]:
        return self._data.figure_names(run)

    def figure(self, run: str, name: str) -> Figure:
        return self._data.figure(run, name)

    def movie_names(self, run: str) -> list[str]:
        """Names of the run's figures that have frames."""
        return self.session.movie_names(run)

    def movie(self, run: str, name: str) -> Movie:
        """The frames that there are now of a run's figure."""
        return self.session.movie(run, name)

    def progress(self, run: str) -> Progress | None:
        """The latest progress of a run that is live here."""
        return self._data.progress(run)

    # ---- the window

    def open_panel(self, kind: str, key: str = "", state: dict[str, Any] | None = None) -> None:
        """Show the panel of ``kind`` for ``key``: a tab that is open already is raised.

        ``state`` is what the panel's `restore` then takes: a hook point to look at, a page to show.
        """
        self.panel_wanted.emit(kind, key, state)

    def close_panel(self, kind: str, key: str = "") -> None:
        """Close the tab of a panel that has served its purpose."""
        self.panel_done.emit(kind, key)

    def show_form(self, experiment: str, parameters: dict[str, Any] | None = None) -> None:
        """Fill the form at the right with an experiment and, where given, its parameters."""
        self.form_wanted.emit(experiment, parameters or {})

    def choose_theme(self, choice: str) -> None:
        """Switch to ``light`` or ``dark``, or follow the ``system``; remembered."""
        self.settings.theme = choice
        self.settings.save()
        self.follow_theme()

    def follow_theme(self) -> None:
        """Bring the theme up to date with preference and desktop."""
        wanted = themes.chosen(self.settings.theme)  # type: ignore[arg-type]
        if wanted is self.theme:
            return
        self.theme = wanted
        application = QApplication.instance()
        if isinstance(application, QApplication):
            themes.apply(application, wanted)
        self.theme_changed.emit()

    def report(self, problem: BaseException) -> None:
        """Show a problem: a sentence for a person where there is one, else what it was."""
        import traceback

        details = "" if isinstance(problem, SuperscopeError) else "".join(traceback.format_exception(problem))
        sentence = str(problem) if isinstance(problem, SuperscopeError) else f"Something went wrong: {problem!r}"
        self.message.emit("error", sentence, details)

    # ---- what the engine says

    def _connect(self, engine: EngineClient) -> None:
        engine.state_changed.connect(self.engine_changed)
        engine.catalogue.connect(self._learn)
        engine.run_changed.connect(self._state)
        engine.progressed.connect(self._progress)
        engine.measured.connect(self._measure)
        engine.shown.connect(self._show)
        engine.produced.connect(lambda said: self.things_changed.emit(said.section))
        engine.logged.connect(lambda said: self.logged.emit(said.run, said.level, said.text))
        engine.wrote.connect(lambda line: self.logged.emit("", "engine", line))
        engine.answered.connect(self._looks.answer)
        engine.look_progressed.connect(self._looks.progress)
        engine.died.connect(self._died)
        engine.ticked.connect(self.ticked)

    def _send(self, message: Message) -> None:
        if not self.engine.alive:
            self._start_engine()
        self.engine.send(message)

    def _start_engine(self) -> None:
        self.say_session()
        self.engine.start()

    def say_session(self) -> None:
        """Tell the engine where the session's work folder is; a first save moves it beside the file."""
        self.engine.send(self._messages.UseSession(str(self.session.work)))

    def _default(self, experiment: str, name: str, otherwise: Any) -> Any:
        schema = self.catalogue.get(experiment, {}).get("parameters", {})
        return schema.get("properties", {}).get(name, {}).get("default", otherwise)

    def _learn(self, said: Any) -> None:
        from engine.runs.catalogue import by_name

        found = by_name(said.experiments)
        if found != self.catalogue:
            self.catalogue = found
            self.catalogue_changed.emit()

    def _state(self, said: Any) -> None:
        from engine.runs.recording import RunRecord

        try:
            self.session.update_run(RunRecord.from_json(said.record))
        except SuperscopeError as problem:  # a run of a session that was closed meanwhile
            self.logged.emit(said.run, "warning", str(problem))
            return
        self.run_changed.emit(said.run)
        self.session_edited.emit()

    def _progress(self, said: Any) -> None:
        self._data.proceed(said.run, said.progress)
        self.run_progressed.emit(said.run)

    def _measure(self, said: Any) -> None:
        self._data.measure(said.run, said.rows)
        self.run_measured.emit(said.run)

    def _show(self, said: Any) -> None:
        self._data.show(said.run, said.name, said.figure)
        self.run_shown.emit(said.run, said.name)

    def _died(self, sentence: str, details: str) -> None:
        from app import deaths

        lost = self.active()
        deaths.interrupt(self.session, lost, sentence)
        for record in lost:
            self.run_changed.emit(record.id)
        again = self._deaths.count()
        if again:
            self._start_engine()
        told = deaths.told(sentence, again, lost)
        if lost:
            self.offer.emit("error", told, details, "Resume", "run.resume")
        else:
            self.message.emit("error", told, details)
        self._looks.fail(f"{sentence} while it was looking; try again.")
