"""New, Open, Save and what belongs to them, with the questions a person has to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.documents import demo
from app.window import asking
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.window.main_window import MainWindow
    from engine.session import Recovery


class SessionFiles:
    """The commands of the File menu. The start page asks it too."""

    def __init__(self, window: MainWindow) -> None:
        self._window = window
        self._documents = window.documents
        self._workbench = window.workbench

    def new(self) -> None:
        """Begin an empty session."""
        if asking.may_leave(self._window):
            self._documents.new()

    def choose(self) -> None:
        """Open a session that a person chooses."""
        path = asking.session_to_open(self._window)
        if path is not None:
            self.open_path(path)

    def open_demo(self) -> None:
        """Open the demo session as an unsaved copy."""
        self.open_path(demo(), copy=True)

    def open_toys(self, experiment: str) -> None:
        """Open the finished runs of all toys as an unsaved copy, at that of ``experiment`` where it is named."""
        from app.panels.toy_gallery import finished_toys

        if self.open_path(finished_toys(), copy=True):
            made = [record.id for record in self._workbench.session.runs() if record.experiment == experiment]
            if made:
                self._workbench.open_panel("run", made[0])

    def open_path(self, path: Path, *, copy: bool = False) -> bool:
        """Open a session in place of the present one, after asking about unsaved changes; whether it was opened."""
        if not asking.may_leave(self._window):
            return False
        try:
            self._documents.open(path, copy=copy)
        except SuperscopeError as problem:
            asking.say_not_opened(self._window, path, problem, copied=copy)
            self.refresh_start()
            return False
        return True

    def save(self) -> None:
        """Save, asking where only if it has no place yet."""
        if self._documents.needs_path:
            self.save_as()
        else:
            self._window.keep_layout()
            self._documents.save()

    def save_as(self) -> None:
        """Save where a person chooses."""
        path = asking.where_to_save(self._window)
        if path is not None:
            self._window.keep_layout()
            self._documents.save(path)

    def was_saved(self, path: str) -> None:
        """The session is on disk: say so and draw its picture for the start page."""
        from app.window import thumbnails

        self._workbench.message.emit("good", f"Saved {Path(path).name}.", "")
        try:
            thumbnails.draw(self._workbench, Path(path))
        except SuperscopeError as problem:  # a picture, no more: the session is saved
            self._workbench.logged.emit("", "warning", str(problem))
        self.refresh_start()

    def recoveries(self) -> list[Recovery]:
        """What a crash has left."""
        return self._documents.recoverable() if self._workbench.begun else []

    def recover(self, recovery: Recovery) -> None:
        """Go on with what a crash has left."""
        if not asking.may_leave(self._window):
            return
        try:
            self._documents.recover(recovery.work)
        except SuperscopeError as problem:
            self._workbench.report(problem)

    def forget_recovery(self, recovery: Recovery) -> None:
        """Delete what a crash has left, after asking."""
        if asking.really_forget(self._window, recovery):
            try:
                self._documents.forget(recovery)
            except SuperscopeError as problem:
                self._workbench.report(problem)
            self.refresh_start()

    def refresh_start(self) -> None:
        """Let the start page read again what there is."""
        start = self._window.tabs.panel("start", "")
        if start is not None:
            start.refresh()  # type: ignore[attr-defined]
