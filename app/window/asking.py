"""The few questions that stop a person: which file, whether to lose something, what a failure was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QMessageBox

import engine
from app.window.opening import open_dictionary
from app.window.popover import Popover
from app.window.references import SESSION_FILTER, kind_of
from app.window.schema import Refused
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.window.form import Form
    from app.window.main_window import MainWindow
    from app.workbench import Workbench
    from engine.session import Recovery

Answer = QMessageBox.StandardButton


def may_leave(window: MainWindow) -> bool:
    """Whether the session that is open may be closed: asks where something would be lost, saves where wanted."""
    workbench, documents = window.workbench, window.documents
    if not workbench.begun:
        return True
    window.keep_layout()
    if documents.busy and not documents.wait():
        return False
    going = [record.title or record.id for record in workbench.active()]
    if not going and not documents.unsaved:
        return True
    answer = _ask_about_leaving(window, going)
    if answer == Answer.Cancel:
        return False
    saves = answer == Answer.Save
    path = where_to_save(window) if saves and documents.needs_path else None
    if saves and documents.needs_path and path is None:
        return False
    if going:
        # Before saving, so that what the runs write while they end is in the file too.
        workbench.stop_engine()
    if saves:
        documents.save(path)
        return documents.wait()
    return True


def _ask_about_leaving(window: MainWindow, going: list[str]) -> Answer:
    box = QMessageBox(window)
    box.setIcon(QMessageBox.Icon.Question)
    session = window.workbench.session
    name = session.path.name if session.path is not None else session.title
    box.setWindowTitle("Save changes")
    box.setText(f"Save the changes to {name}?")
    told = "What is not saved is deleted when the session is closed."
    if going:
        names = ", ".join(going[:3]) + (f" and {len(going) - 3} more" if len(going) > 3 else "")
        told += f" Going runs are interrupted and can be resumed later: {names}."
    box.setInformativeText(told)
    box.setStandardButtons(Answer.Save | Answer.Discard | Answer.Cancel)
    box.setDefaultButton(Answer.Save)
    return Answer(_run(box))


def _run(box: QMessageBox) -> int:
    for button in box.buttons():
        button.setAccessibleName(button.text().replace("&", ""))
    box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    try:
        return box.exec()
    finally:
        box.deleteLater()


def session_to_open(window: MainWindow) -> Path | None:
    """The session file a person chooses."""
    path, _ = QFileDialog.getOpenFileName(window, "Open session", _folder(window), SESSION_FILTER)
    return _chosen(window, path)


def where_to_save(window: MainWindow) -> Path | None:
    """Where a person wants the session; the ending is added where it is missing."""
    session = window.workbench.session
    name = session.path.name if session.path is not None else f"{session.title}.superscope"
    start = str(Path(_folder(window)) / name.replace("/", "-"))
    path, _ = QFileDialog.getSaveFileName(window, "Save session", start, SESSION_FILTER)
    if not path:
        return None
    found = Path(path)
    if found.suffix.lower() != ".superscope":
        found = found.with_name(found.name + ".superscope")
        # The dialog asked about the name without the ending.
        if found.exists() and not _confirm(window, f"{found.name} exists. Replace it?", "Replace"):
            return None
    return _chosen(window, str(found))


def say_not_opened(window: MainWindow, path: Path, problem: SuperscopeError, *, copied: bool) -> None:
    """Say why a session was not opened; one that another window writes can be opened as a copy."""
    from engine.session import SessionLocked

    if isinstance(problem, SessionLocked) and not copied:
        window.notices.say(
            "warning", str(problem), actions=[("Open a copy", lambda: window.sessions.open_path(path, copy=True))]
        )
    else:
        window.workbench.report(problem)
    if not path.exists():
        window.workbench.settings.forget(str(path))


def really_forget(window: MainWindow, recovery: Recovery) -> bool:
    """Whether what a crash left may be deleted."""
    return _confirm(window, f"Delete what is left of “{recovery.title or 'Untitled'}” for good?", "Delete")


def _confirm(window: MainWindow, question: str, verb: str) -> bool:
    box = QMessageBox(window)
    box.setIcon(QMessageBox.Icon.Warning)
    box.setWindowTitle("Superscope")
    box.setText(question)
    sure = box.addButton(verb, QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(Answer.Cancel)
    box.setDefaultButton(Answer.Cancel)
    _run(box)
    return box.clickedButton() is sure


def about(window: MainWindow) -> None:
    """Version and licence."""
    versions = window.workbench.engine.versions if window.workbench.begun else {}
    lines = [f"{name} {version}" for name, version in versions.items()]
    box = QMessageBox(window)
    box.setWindowTitle("About Superscope")
    box.setText(f"Superscope {engine.__version__}")
    box.setInformativeText("A desktop workbench for mechanistic interpretability. Apache License 2.0.")
    if lines:
        box.setDetailedText("\n".join(lines))
    _run(box)


def rename_session(window: MainWindow) -> None:
    """Give the session another title, in place."""
    workbench = window.workbench

    def keep(title: str) -> None:
        if title.strip():
            try:
                workbench.rename("session", "", title.strip())
            except SuperscopeError as problem:
                workbench.report(problem)
            workbench.session_changed.emit()

    corner = window.mapToGlobal(window.tabs.pos())
    Popover("Title of the session", workbench.session.title, keep, window, long=False).popup(corner)


def undo_words(workbench: Workbench, verb: str) -> str:
    """``Undo: rename PCA spectrum to Layer 3``."""
    what = str(getattr(workbench.session, f"{verb}_text")) if workbench.begun else ""
    return f"{verb.capitalize()}: {what[0].lower()}{what[1:]}" if what else verb.capitalize()


def copy_form(workbench: Workbench, form: Form, how: str) -> None:
    """Put what the form says on the clipboard."""
    from engine.runs.schema import defaults
    from engine.runs.snippets import as_command, as_python

    try:
        parameters = form.for_copying()
    except Refused:
        form.problems()
        return
    write = as_command if how == "command" else as_python
    standard = defaults(workbench.catalogue[form.experiment])
    QGuiApplication.clipboard().setText(write(form.experiment, parameters, standard))
    workbench.message.emit("good", f"{'Command' if how == 'command' else 'Python'} copied.", "")


def take_dropped(window: MainWindow, paths: list[Path]) -> None:
    """Do with dropped files and folders what they are for."""
    workbench = window.workbench
    if not workbench.begun:
        return
    for path in paths:
        kind = kind_of(path)
        if kind == "session":
            window.sessions.open_path(path)
        elif kind == "model":
            workbench.open_panel("open-model", str(path))
        elif kind == "dictionary":
            open_dictionary(window, path)
        elif kind == "text":
            _use_text(window, path)
        else:
            workbench.message.emit(
                "warning",
                f"{path.name} cannot be opened here; drop a session, a model, a dictionary or a text.",
                "",
            )


def _use_text(window: MainWindow, path: Path) -> None:
    """Put a text into the form where it takes one; else say where it can be used."""
    for field in window.form.fields if window.form_side.shows_form else []:
        if field.parameter.widget == "text":
            field.show_value(str(path))
            field.changed.emit()
            window.workbench.message.emit("good", f"The form uses {path.name} as its text.", "")
            return
    window.choose_experiment()
    QGuiApplication.clipboard().setText(str(path))
    window.workbench.message.emit(
        "info", f"Choose an experiment that takes a text; the path of {path.name} is on the clipboard.", ""
    )


def _folder(window: MainWindow) -> str:
    return window.workbench.settings.folder or str(Path.home())


def _chosen(window: MainWindow, path: str) -> Path | None:
    if not path:
        return None
    settings = window.workbench.settings
    settings.folder = str(Path(path).parent)
    settings.save()
    return Path(path)
