"""The main window: docks around tabs, menus from the command registry, one session at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QGuiApplication, QPaintEvent
from PySide6.QtWidgets import QDockWidget, QMainWindow, QVBoxLayout, QWidget

from app.documents import Documents
from app.icons import Dresser
from app.theme import NARROW, L
from app.window import actions, asking, layout
from app.window.docks import Dock, quiet_button
from app.window.form import Form, FormDock
from app.window.jobs import Jobs
from app.window.log import Log
from app.window.menus import Menus
from app.window.notices import Notices
from app.window.palette import Palette
from app.window.selection import Selection
from app.window.session_files import SessionFiles
from app.window.status import Status
from app.window.tabs import Tabs
from app.window.tree import SessionTree

if TYPE_CHECKING:
    from app.workbench import Workbench

SIZE = QSize(1280, 800)
LEAST = QSize(880, 560)
LAYOUT_PAUSE = 1500  # ms without a change after which the layout is kept


class MainWindow(QMainWindow):
    """The window. `begin` is called once, after the first paint.

    Signals:
        painted: the first paint has reached the screen.
        begun: there is a session and an engine.
    """

    painted = Signal()
    begun = Signal()

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self.workbench = workbench
        self.documents = Documents(workbench)
        self.dresser = Dresser(workbench.theme, self)
        self._was_painted = False
        self._closed = False
        self._palette: Palette | None = None
        self.setObjectName("main-window")
        self.setAccessibleName("Superscope")
        self.setMinimumSize(LEAST)
        self.setAcceptDrops(True)
        self.setDockOptions(QMainWindow.DockOption.AllowNestedDocks | QMainWindow.DockOption.AllowTabbedDocks)
        self._make_parts()
        self.selection = Selection(workbench, self.tree)
        actions.add_all(self)
        self.menus = Menus(self)
        self._place_docks()
        self._default_state = self.saveState()
        self._connect()
        layout.restore_geometry(self, SIZE)
        self.tabs.open("start")
        self._refresh()

    def _make_parts(self) -> None:
        # In the order in which Tab goes through them.
        workbench, dresser = self.workbench, self.dresser
        self.tree = SessionTree(workbench)
        self.session_dock = Dock("session", "Session", self.tree, dresser, self)
        self.notices = Notices(workbench, dresser)
        self.sessions = SessionFiles(self)
        self.tabs = Tabs(workbench, dresser, self.sessions)
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.notices)
        column.addWidget(self.tabs, 1)
        self.setCentralWidget(centre)
        self.form_side = FormDock(workbench, dresser)
        self.form_dock = Dock("form", "Experiment", self.form_side, dresser, self)
        self.jobs = Jobs(workbench, dresser)
        self.jobs_dock = Dock("jobs", "Jobs", self.jobs, dresser, self)
        self.log = Log(workbench)
        self.log_dock = Dock("log", "Log", self.log, dresser, self)
        self.status = Status(workbench, self.documents, self)
        self.setStatusBar(self.status)
        self._layout_timer = QTimer(self)
        self._layout_timer.setSingleShot(True)
        self._layout_timer.setInterval(LAYOUT_PAUSE)
        self._layout_timer.timeout.connect(self.keep_layout)

    def _place_docks(self) -> None:
        side = Qt.DockWidgetArea
        self.setCorner(Qt.Corner.BottomLeftCorner, side.BottomDockWidgetArea)
        self.setCorner(Qt.Corner.BottomRightCorner, side.BottomDockWidgetArea)
        self.addDockWidget(side.LeftDockWidgetArea, self.session_dock)
        self.addDockWidget(side.RightDockWidgetArea, self.form_dock)
        self.addDockWidget(side.BottomDockWidgetArea, self.jobs_dock)
        self.addDockWidget(side.BottomDockWidgetArea, self.log_dock)
        self.splitDockWidget(self.jobs_dock, self.log_dock, Qt.Orientation.Horizontal)
        self.resizeDocks([self.session_dock, self.form_dock], [NARROW - 5 * L, NARROW], Qt.Orientation.Horizontal)
        self.resizeDocks([self.jobs_dock], [72], Qt.Orientation.Vertical)
        self.log_dock.hide()
        toggle = quiet_button("Show or hide the log")
        toggle.setText("Log")
        toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.dresser.put(toggle, "log", "muted")
        toggle.clicked.connect(lambda: self.workbench.commands.run("view.log"))
        self._log_was_shown = False
        self.jobs_dock.add_to_head(toggle)

    def _connect(self) -> None:
        workbench, registry = self.workbench, self.workbench.commands
        workbench.theme_changed.connect(self._redress)
        for changed in (workbench.session_changed, workbench.session_edited, workbench.runs_changed):
            changed.connect(self._refresh)
        workbench.engine_changed.connect(lambda _: registry.refresh())
        workbench.run_changed.connect(self._run_changed)
        self.tree.selection_changed.connect(self._selected)
        self.tree.opened.connect(lambda: registry.run("item.open"))
        self.form.started.connect(self._started)
        self.form_side.currentChanged.connect(lambda _: registry.refresh())
        self.tabs.arranged.connect(self._arranged)
        self.documents.opened.connect(self._opened)
        self.documents.saved.connect(self.sessions.was_saved)
        workbench.toys_wanted.connect(self.sessions.open_toys)
        self.status.saved_changed.connect(self._name_window)
        for dock in self.findChildren(QDockWidget):
            dock.visibilityChanged.connect(lambda _: self._arranged())
            dock.dockLocationChanged.connect(lambda _: self._arranged())
        hints = QGuiApplication.styleHints()
        hints.colorSchemeChanged.connect(self._system_theme)

    @property
    def form(self) -> Form:
        return self.form_side.form

    # ---- beginning and end

    def begin(self, path: Path | None = None, *, copy: bool = False) -> None:
        """Open the session (or a new one) and start the engine."""
        self.documents.begin(path, copy=copy)
        self.begun.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._was_painted:
            self._was_painted = True
            # Behind the events of this paint: by then it has reached the screen.
            QTimer.singleShot(0, self.painted.emit)

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self._closed and not asking.may_leave(self):
            event.ignore()
            return
        self.shut_down(discard=True)
        event.accept()

    def shut_down(self, *, discard: bool = False) -> None:
        """Stop everything in order: timers, panels, engine, session. Nothing is asked.

        Args:
            discard: a person has said that what is not saved may go; else the next start offers it.
        """
        if self._closed:
            return
        self._closed = True
        QGuiApplication.styleHints().colorSchemeChanged.disconnect(self._system_theme)
        self.keep_layout()
        layout.keep_geometry(self)
        self._layout_timer.stop()
        self.status.stop()
        self.hide()
        self.notices.clear()
        self.tabs.blockSignals(True)
        self.tabs.close_all()
        self.workbench.end()
        self.documents.close(discard=discard)

    # ---- sessions

    def keep_layout(self) -> None:
        """Write tabs and docks into the session's layout."""
        self._layout_timer.stop()
        layout.keep(self)

    def _opened(self) -> None:
        self.notices.clear()
        self.tabs.close_all()
        layout.restore(self)
        front = self.tabs.current()
        if front is not None and front.kind == "start":
            self.tabs.enter()
        else:
            self.tree.view.setFocus()
        self._layout_timer.stop()
        self._refresh()

    # ---- runs

    def current_run(self) -> str | None:
        """The run that Pause and Stop act on: the one in front, else the one that runs."""
        going = [record.id for record in self.workbench.active()]
        panel = self.tabs.current()
        if panel is not None and panel.kind == "run" and panel.key in going:
            return panel.key
        return going[0] if going else None

    def choose_experiment(self) -> None:
        self.form_dock.show()
        self.form_side.show_chooser()

    def start_run(self) -> None:
        self.form.begin()

    def pause_or_continue(self) -> None:
        run = self.current_run()
        if run is not None:
            paused = self.workbench.record(run).state == "paused"
            (self.workbench.go_on if paused else self.workbench.pause)(run)

    def pause_words(self) -> str:
        run = self.current_run()
        return "Continue" if run is not None and self.workbench.record(run).state == "paused" else "Pause"

    def stop_run(self) -> None:
        run = self.current_run()
        if run is not None:
            self.workbench.stop(run)

    def copy_form(self, how: str) -> None:
        """Put the form on the clipboard as a command line or as Python."""
        asking.copy_form(self.workbench, self.form, how)

    def restart_engine(self) -> None:
        self.workbench.restart_engine()

    def _started(self, runs: list[str]) -> None:
        if len(runs) == 1:
            self.workbench.open_panel("run", runs[0])
        else:  # a family of curves
            self.workbench.open_panel("compare", ",".join(runs))
        self.tree.select("runs", runs[0])

    def _run_changed(self, run: str) -> None:
        record = self.workbench.record(run)
        if record.state == "failed":
            self.workbench.message.emit("error", f"{record.title or run}: {record.error}", record.traceback)
        elif record.state == "finished" and run not in (panel.key.split(",") if (panel := self.tabs.current()) else ()):
            self.workbench.message.emit("good", f"{record.title or run} has finished.", "")
        self.workbench.commands.refresh()

    def _selected(self) -> None:
        self.workbench.commands.refresh()
        runs = self.tree.selected_runs()
        if len(runs) != 1 or (self.form.edited and self.form_side.shows_form):
            return
        record = self.workbench.record(runs[0])
        if record.experiment in self.workbench.catalogue:
            self.workbench.show_form(record.experiment, dict(record.parameters))

    # ---- the window

    def toggle(self, dock: QDockWidget) -> None:
        """Show or hide a side of the window; the log gets half of the width the first time."""
        dock.setVisible(not dock.isVisible())
        if self.log_dock.isVisible() and not self._log_was_shown:
            self._log_was_shown = True
            half = self.width() // 2
            self.resizeDocks([self.jobs_dock, self.log_dock], [half, half], Qt.Orientation.Horizontal)

    def search_session(self) -> None:
        self.session_dock.show()
        self.tree.search.setFocus()
        self.tree.search.selectAll()

    def show_palette(self) -> Palette:
        """Show the palette, made when it is first wanted."""
        self.workbench.commands.refresh()
        if self._palette is None:
            self._palette = Palette(self.workbench, self)
        self._palette.popup()
        return self._palette

    def switch_theme(self) -> None:
        self.workbench.choose_theme("light" if self.workbench.theme.is_dark else "dark")

    def toggle_full_screen(self) -> None:
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def reset_layout(self) -> None:
        self.restoreState(self._default_state)
        self.resizeDocks([self.session_dock, self.form_dock], [NARROW - 5 * L, NARROW], Qt.Orientation.Horizontal)

    def help_on_form(self) -> None:
        self.workbench.open_panel("help", self.form.experiment)

    def about(self) -> None:
        asking.about(self)

    def undo_words(self) -> str:
        return asking.undo_words(self.workbench, "undo")

    def redo_words(self) -> str:
        return asking.undo_words(self.workbench, "redo")

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        event.acceptProposedAction()
        # Behind the drop: a question would keep the program that was dragged from waiting.
        QTimer.singleShot(0, lambda: asking.take_dropped(self, paths))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.WindowStateChange:
            self.workbench.commands.refresh()

    def _arranged(self) -> None:
        self.workbench.commands.refresh()
        if self.workbench.begun and not self._closed:
            self._layout_timer.start()

    def _refresh(self) -> None:
        self.workbench.commands.refresh()
        self._name_window()

    def _name_window(self) -> None:
        if not self.workbench.begun:
            self.setWindowTitle("Superscope")
            return
        session = self.workbench.session
        name = session.path.name if session.path is not None else session.title
        words = self.status.save_words()
        self.setWindowTitle(f"Superscope — {name}" + (f" • {words}" if words else ""))

    def _system_theme(self, _: Any = None) -> None:
        self.workbench.follow_theme()

    def _redress(self) -> None:
        self.dresser.change(self.workbench.theme)
        self.menus.dress()
        self.workbench.commands.refresh()
