"""Sessions as documents: begin, open, save, recover, close. Asks nothing itself; the window does.

Saving is a child process of the session's; a timer, which runs only meanwhile, watches it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEventLoop, QObject, QTimer, Signal

from engine import places
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.session import Recovery, SaveJob, Session

WATCH = 50  # ms between looks at a save that goes on


def demo() -> Path:
    """The demo session that ships; it opens as an unsaved copy."""
    return places.resources() / "demo" / "demo.superscope"


class Documents(QObject):
    """The session that is open, as a file.

    Signals:
        opened: another session is shown.
        saving: share of the save that is done, 0 to 1.
        saved: the session is on disk; its path.
        save_failed: one sentence.
    """

    opened = Signal()
    saving = Signal(float)
    saved = Signal(str)
    save_failed = Signal(str)

    def __init__(self, workbench: Workbench) -> None:
        super().__init__(workbench)
        self._workbench = workbench
        self._job: SaveJob | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(WATCH)
        self._timer.timeout.connect(self._watch)

    # ---- which session

    def begin(self, path: Path | None = None, *, copy: bool = False) -> None:
        """Begin with the session at ``path``, or a new one; a path that cannot be opened is said."""
        from engine.session import Session

        problem: SuperscopeError | None = None
        session: Session | None = None
        if path is not None:
            try:
                session = Session.open(path, copy=copy)
            except SuperscopeError as found:
                problem = found
        self._workbench.begin(session or Session.create())
        self._remember()
        self.opened.emit()
        if problem is not None:
            self._workbench.report(problem)

    def new(self) -> None:
        """Close the session and begin an empty one."""
        from engine.session import Session

        self._replace(Session.create())

    def open(self, path: Path, *, copy: bool = False) -> None:
        """Close the session and open another.

        Raises:
            SuperscopeError: it cannot be opened; the present one stays as it is.
        """
        from engine.session import Session

        present = self._workbench.session
        if not copy and present.path is not None and present.path.resolve() == path.resolve():
            return
        self._replace(Session.open(path, copy=copy))

    def recover(self, work: Path) -> None:
        """Close the session and go on with one whose window did not end in peace. Raises `SuperscopeError`."""
        from engine.session import Session

        self._replace(Session.recover(work))

    def recoverable(self) -> list[Recovery]:
        """Sessions that a crash left, newest first."""
        from engine.session import recoverable

        try:
            found = recoverable(Path(entry.path) for entry in self._workbench.settings.recent)
        except (SuperscopeError, OSError) as problem:
            self._workbench.logged.emit("", "warning", f"What can be recovered could not be read: {problem}")
            return []
        present = self._workbench.session.work if self._workbench.begun else None
        return sorted((one for one in found if one.work != present), key=lambda one: -one.when)

    def forget(self, recovery: Recovery) -> None:
        """Delete what a crash left. Raises `SuperscopeError`."""
        from engine.session import Session

        Session.recover(recovery.work).close(discard=True)

    def _replace(self, session: Session) -> None:
        present = self._workbench.session
        self._workbench.use(session)
        self._close(present)
        self._remember()
        self.opened.emit()

    def close(self, *, discard: bool) -> None:
        """Close the session for good. What was not saved is deleted, or kept to be recovered at the next start."""
        if self._workbench.begun:
            self._close(self._workbench.session, discard=discard)

    def _close(self, session: Session, *, discard: bool = True) -> None:
        try:
            session.close(discard=discard)
        except SuperscopeError as problem:
            self._workbench.report(problem)

    def _remember(self) -> None:
        session = self._workbench.session
        if session.path is not None:
            self._workbench.settings.remember(session.path, session.title, session.saved_at)

    # ---- saving

    @property
    def busy(self) -> bool:
        """Whether a save goes on."""
        return self._job is not None

    @property
    def needs_path(self) -> bool:
        """Whether saving has to ask where."""
        session = self._workbench.session
        return session.path is None or session.read_only

    @property
    def unsaved(self) -> bool:
        return self._workbench.begun and self._workbench.session.unsaved

    def save(self, path: Path | None = None) -> None:
        """Save in the background, to ``path`` or where the session lies. A save that goes on is waited for."""
        if self._job is not None:
            return
        session = self._workbench.session
        try:
            self._job = session.save(path)
        except SuperscopeError as problem:
            self._failed(str(problem))
            return
        self.saving.emit(0.0)
        self._timer.start()

    def wait(self) -> bool:
        """Wait for the save that goes on, with the window alive. True when it succeeded."""
        if self._job is None:
            return not self.unsaved
        outcome: list[bool] = []
        loop = QEventLoop()

        def done(_: Any = None) -> None:
            outcome.append(True)
            loop.quit()

        def failed(_: Any = None) -> None:
            outcome.append(False)
            loop.quit()

        self.saved.connect(done)
        self.save_failed.connect(failed)
        try:
            loop.exec()
        finally:
            self.saved.disconnect(done)
            self.save_failed.disconnect(failed)
        return bool(outcome and outcome[0])

    def _watch(self) -> None:
        job = self._job
        if job is None:
            self._timer.stop()
            return
        result = job.poll()
        if result is None:
            self.saving.emit(job.progress)
            return
        self._job = None
        self._timer.stop()
        if not result.ok:
            self._failed(result.error, result.details)
            return
        session = self._workbench.session
        self._workbench.settings.remember(job.path, session.title, session.saved_at)
        self._workbench.say_session()
        self.saved.emit(str(job.path))
        self._workbench.session_changed.emit()
        if result.warning:  # a part that was damaged before could not be carried over
            self._workbench.message.emit("warning", result.warning, "")

    def _failed(self, sentence: str, details: str = "") -> None:
        self._job = None
        self._timer.stop()
        self.save_failed.emit(sentence)
        self._workbench.message.emit("error", sentence, details)
