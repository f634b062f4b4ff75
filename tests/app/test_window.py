"""The parts of the window: tree, selection, jobs, log, messages, themes, tabs, opening a model."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from PySide6.QtCore import QItemSelectionModel, Qt
from PySide6.QtGui import QColor, QGuiApplication
from PySide6.QtWidgets import QApplication, QLineEdit, QPlainTextEdit, QPushButton

from app.settings import RECENT, Settings
from app.window.jobs import MOST
from app.window.popover import Popover
from app.window.start_page import ago
from app.window.tree_model import ID_ROLE
from engine.models import references
from tests.app.conftest import Shell


def rows(shell: Shell) -> list[str]:
    """Ids of what the tree shows, from top to bottom."""
    model = shell.window.tree.view.model()
    found = []
    for place in range(model.rowCount()):
        section = model.index(place, 0)
        found += [str(model.index(row, 0, section).data(ID_ROLE)) for row in range(model.rowCount(section))]
    return [id for id in found if id]


def select(shell: Shell, *runs: str) -> None:
    view = shell.window.tree.view
    view.clearSelection()
    for run in runs:
        index = shell.window.tree._filter.mapFromSource(shell.window.tree.model.find("runs", run))
        view.selectionModel().select(index, QItemSelectionModel.SelectionFlag.Select)
        view.selectionModel().setCurrentIndex(index, QItemSelectionModel.SelectionFlag.NoUpdate)


# ---- tree and selection


def test_the_tree_lists_runs_newest_first_and_search_narrows_it(shell: Shell):
    first = shell.run("sample-counting")
    second = shell.run("sample-walk")
    assert rows(shell) == [second, first]
    shell.workbench.tag("runs", first, ["baseline"])
    shell.qtbot.keyClicks(shell.window.tree.search, "#baseline")
    assert rows(shell) == [first]
    shell.window.tree.search.clear()
    shell.qtbot.keyClicks(shell.window.tree.search, "walk finished")
    assert rows(shell) == [second]


def test_the_selection_stays_while_runs_come_and_change(shell: Shell):
    run = shell.run("sample-counting")
    select(shell, run)
    other = shell.run("sample-walk")
    assert shell.window.tree.selected() == [("runs", run)]
    shell.workbench.rename("runs", other, "A walk")
    assert shell.window.tree.selected() == [("runs", run)]


def test_renaming_in_place_with_f2(shell: Shell):
    run = shell.run("sample-counting")
    select(shell, run)
    view = shell.window.tree.view
    shell.workbench.commands.run("item.rename")
    editor = view.findChild(QLineEdit)
    assert editor is not None
    editor.selectAll()
    shell.qtbot.keyClicks(editor, "Better")
    shell.qtbot.keyClick(editor, Qt.Key.Key_Return)
    shell.wait(lambda: shell.workbench.record(run).title == "Better")
    assert view.currentIndex().data() == "Better"


def test_deleted_runs_come_back_with_undo_from_the_message(shell: Shell):
    runs = [shell.run("sample-counting") for _ in range(2)]
    select(shell, *runs)
    shell.workbench.commands.run("item.delete")
    assert rows(shell) == []
    notice = shell.window.notices.shown()[-1]
    assert notice.said == "2 runs deleted."
    undo = next(button for button in notice.findChildren(QPushButton) if button.text() == "Undo")
    shell.qtbot.mouseClick(undo, Qt.MouseButton.LeftButton)
    shell.workbench.commands.run("edit.undo")
    assert sorted(rows(shell)) == sorted(runs)


def test_a_run_that_goes_on_is_not_deleted(shell: Shell):
    run = shell.workbench.start("sample-endless", {})
    shell.wait(lambda: shell.state(run) == "running")
    select(shell, run)
    shell.workbench.commands.run("item.delete")
    assert rows(shell) == [run]
    assert "stop it first" in shell.notices()[-1]


def test_several_selected_runs_are_compared(shell: Shell):
    runs = [shell.run("sample-counting", k=k) for k in (1, 2)]
    select(shell, *runs)
    assert shell.workbench.commands.action("item.compare").isEnabled()
    shell.workbench.commands.run("item.open")
    panel = shell.window.tabs.current()
    assert panel is not None
    assert panel.kind == "compare"
    assert set(panel.key.split(",")) == set(runs)


@pytest.mark.parametrize(("command", "typed", "name", "kept"), [
    ("item.tag", "one, #two,", "tags", ["one", "two"]),
    ("item.note", "A longer note", "note", "A longer note"),
])  # fmt: skip
def test_tags_and_notes_are_typed_beside_the_run(shell: Shell, command: str, typed: str, name: str, kept: object):
    run = shell.run("sample-counting")
    select(shell, run)
    shell.workbench.commands.run(command)
    popover = shell.window.findChild(Popover)
    assert popover is not None
    editor = popover.editor
    assert isinstance(editor, QLineEdit | QPlainTextEdit)
    shell.qtbot.keyClicks(editor, typed)
    shell.qtbot.keyClick(popover, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert getattr(shell.workbench.record(run), name) == kept
    shell.workbench.commands.run("edit.undo")
    assert not getattr(shell.workbench.record(run), name)


def test_duplicate_fills_the_form_and_copies_make_the_same_run(shell: Shell):
    run = shell.run("sample-counting", k=11)
    shell.window.form_side.show_chooser()
    select(shell, run)
    shell.workbench.commands.run("item.duplicate")
    assert shell.window.form.parameter_sets()[0]["k"] == 11
    shell.workbench.commands.run("item.command")
    assert QGuiApplication.clipboard().text() == "superscope run sample-counting --set k=11"
    shell.workbench.commands.run("item.python")
    assert "k=11" in QGuiApplication.clipboard().text()


def test_a_stopped_run_is_resumed_from_the_tree(shell: Shell):
    run = shell.workbench.start("sample-walk", {"disturb": "stop"})
    shell.wait(lambda: shell.state(run) == "stopped")
    select(shell, run)
    shell.workbench.commands.run("item.resume")
    shell.wait(lambda: shell.state(run) == "finished")


# ---- jobs


def test_jobs_show_what_runs_and_what_waits_and_their_buttons_act(shell: Shell):
    running = shell.workbench.start("sample-endless", {})
    first = shell.workbench.start("sample-counting", {})
    second = shell.workbench.start("sample-walk", {})
    jobs = shell.window.jobs

    def shown() -> list[str]:
        return [row.run for row in jobs._rows if row.isVisible()]

    shell.wait(lambda: shown() == [running, first, second] and "steps/s" in jobs._rows[0].numbers.text())
    assert jobs._rows[1].numbers.text() == "queued, next"
    assert not jobs._rows[1].first.isEnabled()
    shell.qtbot.mouseClick(jobs._rows[2].first, Qt.MouseButton.LeftButton)  # move up
    shell.qtbot.mouseClick(jobs._rows[0].first, Qt.MouseButton.LeftButton)  # pause
    shell.wait(lambda: shell.state(running) == "paused")
    shell.wait(lambda: jobs._rows[0].first.toolTip() == "Continue")
    shell.qtbot.mouseClick(jobs._rows[0].first, Qt.MouseButton.LeftButton)
    shell.wait(lambda: shell.state(running) == "running")
    shell.wait(lambda: jobs._rows[0].first.toolTip() == "Pause")
    shell.qtbot.mouseClick(jobs._rows[0].end, Qt.MouseButton.LeftButton)
    shell.wait(lambda: shell.state(first) == "finished" and shell.state(second) == "finished")
    assert shell.state(running) == "stopped"
    assert shell.workbench.record(second).started < shell.workbench.record(first).started  # type: ignore[operator]
    shell.wait(lambda: jobs.empty.isVisible())


def test_a_queued_run_is_taken_out_of_the_queue(shell: Shell):
    running = shell.workbench.start("sample-endless", {})
    queued = shell.workbench.start("sample-counting", {})
    jobs = shell.window.jobs
    shell.wait(lambda: len([row for row in jobs._rows if row.isVisible()]) == 2)
    shell.qtbot.mouseClick(jobs._rows[1].end, Qt.MouseButton.LeftButton)
    shell.wait(lambda: shell.state(queued) == "stopped")
    shell.wait(lambda: shell.state(running) == "running")


def test_a_long_queue_is_counted_not_listed(shell: Shell):
    shell.workbench.start("sample-endless", {})
    for _ in range(MOST + 4):
        shell.workbench.start("sample-counting", {})
    jobs = shell.window.jobs
    shell.wait(lambda: jobs.rest.isVisible())
    assert jobs.rest.text() == "and 5 more in the queue"
    assert len(jobs._rows) == MOST


def test_pause_and_stop_of_the_run_menu_act_on_the_run_in_front(shell: Shell):
    run = shell.workbench.start("sample-endless", {})
    shell.workbench.open_panel("run", run)
    shell.wait(lambda: shell.state(run) == "running")
    registry = shell.workbench.commands
    registry.run("run.pause")
    shell.wait(lambda: shell.state(run) == "paused")
    assert registry.action("run.pause").text() == "Continue"
    registry.run("run.stop")
    shell.wait(lambda: shell.state(run) == "stopped")
    assert not registry.action("run.stop").isEnabled()


def test_the_queue_waits_behind_a_failed_run_no_longer_and_the_failure_is_a_sentence(shell: Shell):
    failed = shell.workbench.start("sample-breaking", {"how": "sentence"})
    after = shell.workbench.start("sample-counting", {})
    shell.wait(lambda: shell.state(after) == "finished")
    assert shell.state(failed) == "failed"
    assert any("The hook blocks.9 is not in this model" in told for told in shell.notices())


def test_out_of_memory_in_a_run_leaves_engine_and_window_alive(shell: Shell):
    pid = shell.workbench.engine.pid
    run = shell.run("sample-breaking", how="memory")
    assert shell.state(run) == "failed"
    assert shell.workbench.engine.pid == pid
    assert "emory" in shell.workbench.record(run).error


# ---- log and messages


def test_the_log_filters_by_words_and_level_and_keeps_what_it_hides(shell: Shell):
    log = shell.window.log
    shell.window.log_dock.show()
    for level, text in (("info", "first step"), ("warning", "slow disk"), ("engine", "a library prints")):
        log.add("run-1", level, text)
    shell.wait(lambda: "slow disk" in log.text.toPlainText())
    assert "a library prints" not in log.text.toPlainText()
    log.level.setCurrentText("Everything")
    assert "a library prints" in log.text.toPlainText()
    shell.qtbot.keyClicks(log.search, "disk run-1")
    assert log.text.toPlainText().count("\n") == 0
    assert "slow disk" in log.text.toPlainText()
    log.search.clear()
    assert "first step" in log.text.toPlainText()


def test_messages_are_counted_when_they_repeat_and_the_oldest_goes(shell: Shell):
    for _ in range(3):
        shell.workbench.message.emit("error", "The same thing happened.", "")
    (notice,) = shell.window.notices.shown()
    assert notice.words.text() == "The same thing happened. (3 times)"
    for number in range(3):
        shell.workbench.message.emit("warning", f"Another thing {number}.", "")
    assert shell.notices() == [f"Another thing {number}." for number in range(3)]


def test_details_open_and_can_be_copied(shell: Shell):
    shell.workbench.message.emit("error", "It broke.", "Traceback: line 1")
    notice = shell.window.notices.shown()[-1]
    shell.wait(notice.isVisible)
    buttons = {button.text(): button for button in notice.findChildren(QPushButton)}
    assert not buttons["Copy details"].isVisible()
    shell.qtbot.mouseClick(buttons["Details"], Qt.MouseButton.LeftButton)
    assert notice.findChild(QPlainTextEdit).isVisible()
    shell.qtbot.mouseClick(buttons["Copy details"], Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == "It broke.\n\nTraceback: line 1"


# ---- themes, tabs, settings


def test_switching_the_theme_recolours_everything_and_is_remembered(shell: Shell):
    light = QColor(shell.workbench.theme.canvas)
    with shell.qtbot.waitSignal(shell.workbench.theme_changed):
        shell.workbench.commands.run("view.dark")
    assert shell.workbench.theme.is_dark
    application = QApplication.instance()
    assert isinstance(application, QApplication)
    assert application.palette().base().color() == shell.workbench.theme.canvas != light
    assert Settings.load().theme == "dark"
    assert shell.workbench.commands.action("view.dark").isChecked()
    assert not shell.workbench.commands.action("view.light").isChecked()
    shell.qtbot.mouseClick(shell.window.menus.theme, Qt.MouseButton.LeftButton)
    assert not shell.workbench.theme.is_dark


def test_a_panel_is_opened_once_and_the_last_tab_gives_way_to_the_start_page(shell: Shell):
    tabs = shell.window.tabs
    first = tabs.open("notes")
    tabs.open("help", "start")
    assert tabs.open("notes") is first
    while tabs.count() > 1:
        shell.workbench.commands.run("file.close-tab")
    shell.workbench.commands.run("file.close-tab")
    assert [panel.kind for panel in tabs.panels()] == ["start"]


def test_a_panel_of_another_version_is_said_not_raised(shell: Shell):
    assert shell.window.tabs.open("from-the-future", "x") is None
    assert "no panel of the kind" in shell.notices()[-1]
    shell.window.tabs.restore({"tabs": [{"kind": "from-the-future"}, {"kind": "run", "key": "gone-1"}]})
    shell.wait(lambda: sum("was not restored" in line for line in shell.window.log.lines()) >= 1)


def test_docks_are_where_they_were_when_a_session_is_opened_again(shell: Shell, tmp_path):
    shell.run("sample-counting")
    shell.workbench.commands.run("view.session")
    shell.workbench.commands.run("view.log")
    shell.window.keep_layout()
    path = tmp_path / "layout.superscope"
    with shell.qtbot.waitSignal(shell.window.documents.saved, timeout=60_000):
        shell.window.documents.save(path)
    shell.workbench.commands.run("view.reset")
    assert shell.window.session_dock.isVisible()
    shell.window.keep_layout()
    shell.workbench.commands.run("view.session")
    shell.window.sessions.new()
    shell.window.sessions.open_path(path)
    # Closing keeps how it looked last, although it was not saved again.
    assert not shell.window.session_dock.isVisible()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 99}', b'{"version": 1, "theme": 3, "recent": [1]}']
)
def test_broken_settings_are_as_none(home, content: bytes):
    (home / "settings").mkdir()
    (home / "settings" / "preferences.json").write_bytes(content)
    found = Settings.load()
    assert found.theme == "system"
    assert found.recent == []


def test_settings_remember_the_newest_sessions_only(home, tmp_path):
    settings = Settings.load()
    for number in range(RECENT + 3):
        settings.remember(tmp_path / f"{number}.superscope", f"Session {number}", 100.0 + number)
    again = Settings.load()
    assert [entry.title for entry in again.recent] == [f"Session {n}" for n in range(RECENT + 2, 2, -1)]
    assert again.recent[0].saved == 100.0 + RECENT + 2


@pytest.mark.parametrize(("seconds", "words"), [
    (0, "just now"), (2, "2 s ago"), (59, "59 s ago"), (60, "1 min ago"), (3599, "59 min ago"), (7300, "2 h ago"),
    (90_000, "yesterday"), (4 * 86_400, "4 days ago"),
])  # fmt: skip
def test_moments_are_said_as_people_do(seconds: float, words: str):
    assert ago(1_000_000.0, 1_000_000.0 + seconds) == words


# ---- opening a model


def test_a_model_is_opened_with_what_it_needs_said_first(shell: Shell):
    page = shell.window.tabs.open("open-model")
    assert page is not None
    assert "117 thousand parameters" in page.estimate.text()  # type: ignore[attr-defined]
    shell.qtbot.mouseClick(page.open, Qt.MouseButton.LeftButton)  # type: ignore[attr-defined]
    assert page.cancel.isVisible()  # type: ignore[attr-defined]
    shell.wait(lambda: shell.window.tabs.panel("model", "demo"))
    assert shell.window.tabs.panel("open-model", "") is None
    shell.wait(lambda: [thing.id for thing in shell.workbench.session.things("models")] == ["demo"])
    shell.wait(lambda: not shell.workbench.looking)


def test_opening_a_model_can_be_cancelled_before_it_begins(shell: Shell):
    shell.workbench.start("sample-endless", {})
    page = shell.window.tabs.open("open-model")
    assert page is not None
    shell.qtbot.mouseClick(page.open, Qt.MouseButton.LeftButton)  # type: ignore[attr-defined]
    shell.qtbot.mouseClick(page.cancel, Qt.MouseButton.LeftButton)  # type: ignore[attr-defined]
    shell.wait(lambda: page.open.isEnabled())  # type: ignore[attr-defined]
    assert not page.cancel.isVisible()  # type: ignore[attr-defined]


def test_a_gguf_that_is_cut_short_is_refused_before_anything_is_opened(shell: Shell, tmp_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00\x01")
    page = shell.window.tabs.open("open-model", str(path))
    assert page is not None
    assert "cut.gguf" in page.problem.text  # type: ignore[attr-defined]
    assert not page.open.isEnabled()  # type: ignore[attr-defined]


def test_a_model_that_was_converted_is_offered_in_forms(shell: Shell):
    shell.workbench.show_form("train-dictionary")
    field = next(entry for entry in shell.window.form.fields if entry.parameter.name == "model")
    offered = [field.combo.itemText(place) for place in range(field.combo.count())]
    assert offered[:2] == ["demo", "smollm2"]
    assert {entry.reference for entry in references.known()} <= set(offered)


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell to read the copied command")
def test_the_copied_command_runs(shell: Shell, tmp_path):
    import os
    import sys

    from tests.conftest import ROOT

    run = shell.run("sample-counting", k=4)
    select(shell, run)
    shell.workbench.commands.run("item.command")
    words = QGuiApplication.clipboard().text().removeprefix("superscope ")
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m engine {words} --json', sys.executable],
        env=dict(os.environ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"times_k": 20' in done.stdout
