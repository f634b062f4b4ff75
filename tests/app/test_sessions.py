"""Sessions in the window: save, reopen as it was, ask before anything is lost, recover after a crash."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QMessageBox, QPushButton
from safetensors.numpy import save_file

from app.window import asking
from app.window.references import kind_of
from engine.runs.messages import UseSession
from engine.session import Session, recoverable
from tests.app.conftest import LONG, Shell

Answer = QMessageBox.StandardButton


def save(shell: Shell, path: Path | None = None) -> None:
    with shell.qtbot.waitSignal(shell.window.documents.saved, timeout=LONG):
        shell.window.keep_layout()
        shell.window.documents.save(path)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list:
    """What a person will answer to message boxes, in order; what was asked is appended."""
    given: list = []

    def answer(box: QMessageBox) -> int:
        said = given.pop(0)
        given.append(box.text() + " " + box.informativeText())
        box.deleteLater()
        return int(said)

    monkeypatch.setattr(asking, "_run", answer)
    return given


def test_a_saved_session_reopens_with_its_runs_its_arrays_and_its_tabs(shell: Shell, tmp_path: Path):
    run = shell.run("sample-counting", steps=30, seconds=0.0, k=2)
    shell.workbench.open_panel("run", run)
    shell.workbench.open_panel("notes")
    before = np.array(shell.workbench.metric(run, "count"))
    path = tmp_path / "first.superscope"
    save(shell, path)
    assert path.is_file()
    assert "saved" in shell.window.status.save_words()
    assert shell.window.windowTitle().startswith("Superscope — first.superscope • saved")
    shell.window.sessions.new()
    assert shell.workbench.session.runs() == []
    assert [panel.kind for panel in shell.window.tabs.panels()] == ["start"]
    shell.window.sessions.open_path(path)
    assert [(panel.kind, panel.key) for panel in shell.window.tabs.panels()] == [("run", run), ("notes", "")]
    assert shell.window.tabs.current().kind == "notes"  # type: ignore[union-attr]
    assert np.array_equal(shell.workbench.metric(run, "count"), before)
    assert shell.workbench.figure(run, "line").title == "Counting"


def test_the_engine_is_told_where_the_work_folder_is_after_a_save(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[object] = []
    send = shell.workbench.engine.send
    monkeypatch.setattr(shell.workbench.engine, "send", lambda message: (told.append(message), send(message))[1])
    save(shell, tmp_path / "a.superscope")
    assert shell.workbench.session.work == tmp_path / "a.superscope.work"
    assert UseSession(str(shell.workbench.session.work)) in told


def test_closing_with_unsaved_work_asks_and_cancel_keeps_everything(shell: Shell, answers: list):
    run = shell.run("sample-counting")
    answers.append(Answer.Cancel)
    shell.window.close()
    assert "Save the changes to Untitled?" in answers[0]
    assert shell.window.isVisible()
    assert shell.state(run) == "finished"
    assert shell.workbench.engine.state == "ready"


def test_an_empty_session_closes_without_a_question(shell: Shell, answers: list):
    work = shell.workbench.session.work
    shell.window.close()
    assert answers == []
    assert not shell.window.isVisible()
    assert not work.exists()


def test_discard_closes_and_leaves_no_work_folder(shell: Shell, answers: list):
    shell.run("sample-counting")
    work = shell.workbench.session.work
    answers.append(Answer.Discard)
    shell.window.close()
    assert not shell.window.isVisible()
    assert not work.exists()


def test_save_in_the_question_interrupts_what_runs_and_saves_it(
    shell: Shell, answers: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = shell.workbench.start("sample-endless", {"seconds": 0.005})
    shell.wait(lambda: len(shell.workbench.metric_names(run)) and len(shell.workbench.metric(run, "count")) > 20)
    path = tmp_path / "kept.superscope"
    monkeypatch.setattr(asking, "where_to_save", lambda window: path)
    answers.append(Answer.Save)
    shell.window.close()
    assert run in answers[0]
    assert not shell.window.isVisible()
    with Session.open(path) as again:
        assert again.run(run).state == "interrupted"
        rows = again.metric(run, "count")
        assert len(rows) > 20
        assert np.array_equal(rows[:, 0], np.arange(len(rows)))


def test_a_save_that_fails_keeps_the_window_open_and_says_why(
    shell: Shell, answers: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shell.run("sample-counting")
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setattr(asking, "where_to_save", lambda window: blocked / "x.superscope")
    answers.append(Answer.Save)
    shell.window.close()
    assert shell.window.isVisible()
    assert "x.superscope" in shell.notices()[-1]
    assert shell.window.documents.unsaved
    answers.append(Answer.Discard)


def test_what_a_crash_left_is_offered_first_and_recovered(shell: Shell, home: Path):
    run = shell.run("sample-counting")
    shell.workbench.rename("runs", run, "Kept in spite of all")
    work = shell.workbench.session.work
    # As if this window had been killed: the folder stays, nobody owns it.
    shell.workbench.session._work.release()
    shell.workbench.use(Session.create())
    shell.window.documents.opened.emit()
    start = shell.window.tabs.panel("start", "")
    assert start is not None
    button = next(one for one in start.findChildren(QPushButton) if one.accessibleName() == "Recover Untitled")
    shell.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert shell.workbench.session.work == work
    assert shell.workbench.record(run).title == "Kept in spite of all"
    assert shell.workbench.metric(run, "count")[-1, 1] == 5
    assert shell.window.documents.unsaved


def test_a_window_that_ends_without_asking_keeps_unsaved_work_for_the_next_start(shell: Shell):
    run = shell.run("sample-counting")
    work = shell.workbench.session.work
    shell.window.shut_down()  # as after Ctrl+C in the terminal
    (recovery,) = recoverable()
    assert recovery.work == work
    with Session.recover(work) as again:
        assert again.run(run).state == "finished"


def test_a_recovery_can_be_discarded_after_asking(shell: Shell, monkeypatch: pytest.MonkeyPatch):
    shell.run("sample-counting")
    left = shell.workbench.session
    left._work.release()
    shell.workbench.use(Session.create())
    (recovery,) = shell.window.sessions.recoveries()
    monkeypatch.setattr(asking, "_confirm", lambda *_: False)
    shell.window.sessions.forget_recovery(recovery)
    assert left.work.exists()
    monkeypatch.setattr(asking, "_confirm", lambda *_: True)
    shell.window.sessions.forget_recovery(recovery)
    assert not left.work.exists()
    assert shell.window.sessions.recoveries() == []


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n cut"])
def test_a_file_that_is_no_session_is_a_sentence_and_the_present_one_stays(
    shell: Shell, tmp_path: Path, content: bytes
):
    present = shell.workbench.session
    path = tmp_path / "bad.superscope"
    path.write_bytes(content)
    shell.window.sessions.open_path(path)
    assert shell.workbench.session is present
    assert "bad.superscope" in shell.notices()[-1]
    assert path.read_bytes() == content


def test_a_session_that_is_open_elsewhere_can_be_opened_as_a_copy(shell: Shell, tmp_path: Path):
    path = tmp_path / "shared.superscope"
    with Session.create("Shared") as other:
        other.add_run("sample-counting", {})
        other.save(path).wait(60)
        shell.window.sessions.open_path(path)
        notice = shell.window.notices.shown()[-1]
        copy = next(one for one in notice.findChildren(QPushButton) if one.text() == "Open a copy")
        shell.qtbot.mouseClick(copy, Qt.MouseButton.LeftButton)
        assert shell.workbench.session.path is None
        assert len(shell.workbench.session.runs()) == 1
        other.close(discard=True)


def test_recent_sessions_are_remembered_newest_first_and_gone_ones_are_greyed(shell: Shell, tmp_path: Path):
    for name in ("one", "two"):
        shell.run("sample-counting")
        save(shell, tmp_path / f"{name}.superscope")
    titles = [Path(entry.path).stem for entry in shell.workbench.settings.recent]
    assert titles == ["two", "one"]
    shell.window.sessions.new()
    (tmp_path / "one.superscope").unlink()
    start = shell.window.tabs.panel("start", "")
    assert start is not None
    start.refresh()  # type: ignore[attr-defined]
    rows = {one.accessibleName(): one for one in start.findChildren(QPushButton) if "Open " in one.accessibleName()}
    assert rows["Open two"].isEnabled()
    assert not rows["Open one"].isEnabled()


def test_undo_of_a_rename_is_in_the_edit_menu_with_its_words(shell: Shell):
    run = shell.run("sample-counting")
    shell.workbench.rename("runs", run, "Better name")
    registry = shell.workbench.commands
    assert registry.action("edit.undo").text() == f"Undo: rename {run} to Better name"
    registry.run("edit.undo")
    assert shell.workbench.record(run).title == ""
    assert registry.action("edit.redo").isEnabled()
    registry.run("edit.redo")
    assert shell.workbench.record(run).title == "Better name"


def drop(shell: Shell, *paths: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDropEvent(
        QPoint(400, 300).toPointF(),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    shell.window.dropEvent(event)


def test_dropped_files_do_what_they_are_for(shell: Shell, tmp_path: Path):
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    drop(shell, model)
    shell.wait(lambda: shell.window.tabs.panel("open-model", str(model)))
    text = tmp_path / "a text.txt"
    text.write_text("words")
    shell.workbench.show_form("train-dictionary")
    drop(shell, text)
    shell.wait(lambda: any(entry.text() == str(text) for entry in shell.window.form.fields))
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"")
    drop(shell, picture)
    shell.wait(lambda: any("picture.png cannot be opened here" in told for told in shell.notices()))


def saved_sae(folder: Path, *, whole: bool = True) -> Path:
    """A SAELens folder as small as can be; without its config where it is not ``whole``."""
    folder.mkdir(parents=True)
    config = {"architecture": "standard", "d_in": 2, "d_sae": 3, "metadata": {"sae_lens_version": "6.0.0"}}
    if whole:
        (folder / "cfg.json").write_text(json.dumps(config))
    shapes = {"W_enc": (2, 3), "b_enc": (3,), "W_dec": (3, 2), "b_dec": (2,)}
    tensors = {name: np.ones(shape, dtype=np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "sae_weights.safetensors")
    return folder


def test_a_dropped_dictionary_opens_and_a_broken_one_says_why(shell: Shell, tmp_path: Path):
    drop(shell, saved_sae(tmp_path / "layer 3"))
    shell.wait(lambda: shell.workbench.session.things("dictionaries"))
    (thing,) = shell.workbench.session.things("dictionaries")
    shell.wait(lambda: shell.window.tabs.panel("dictionary", thing.id))
    assert thing.attributes["format"] == "saelens"
    drop(shell, saved_sae(tmp_path / "broken", whole=False))
    shell.wait(lambda: any("has no cfg.json" in told for told in shell.notices()))
    assert len(shell.workbench.session.things("dictionaries")) == 1


def test_a_folder_is_told_by_the_names_of_its_files(tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "gpt2"}')
    assert kind_of(model) == "model"
    run = tmp_path / "run"
    saved_sae(run / "layers.0")
    (run / "config.json").write_text('{"model": "gpt2"}')
    assert kind_of(run) == "dictionary"
    assert kind_of(run / "layers.0" / "sae_weights.safetensors") == "dictionary"
    (tmp_path / "empty").mkdir()
    assert kind_of(tmp_path / "empty") == ""


def test_a_window_that_begins_with_a_broken_session_begins_empty_and_says_so(plain_shell: Shell, tmp_path: Path):
    path = tmp_path / "broken.superscope"
    path.write_bytes(b"nothing")
    plain_shell.begin(path)
    assert plain_shell.workbench.session.path is None
    assert "broken.superscope" in plain_shell.notices()[-1]


def test_a_killed_save_is_said_and_the_session_stays_unsaved(shell: Shell, tmp_path: Path):
    shell.run("sample-counting")
    path = tmp_path / "killed.superscope"
    shell.window.documents.save(path)
    job = shell.workbench.session.saving
    assert job is not None
    with shell.qtbot.waitSignal(shell.window.documents.save_failed, timeout=LONG) as failed:
        os.kill(job.pid, signal.SIGKILL)
    assert "killed.superscope" in failed.args[0]
    assert not path.exists()
    assert shell.window.documents.unsaved
