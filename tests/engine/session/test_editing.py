"""Titles, tags, notes, deletions, layout: journaled, undone, redone, saved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runs.recording import RecordingWriter
from engine.session import NotInSession, Session, SessionError, edits
from engine.session.edits import Edit, Edits
from tests.engine.session.making import record, saved

ROOT = Path(__file__).resolve().parents[3]


def make_model(writer: RecordingWriter) -> None:
    writer.produced("models", "toy-1", {"reference": "toy:x"}, {})


def test_edits_can_be_undone_and_done_again_one_by_one_and_say_what_they_were(tmp_path: Path) -> None:
    with Session.open(saved(tmp_path / "a.superscope", more=make_model)) as session:
        assert not session.unsaved
        assert not session.can_undo
        assert session.undo() == ""
        session.rename("runs", "pca-spectrum-1", "Layer 3")
        session.tag("runs", "pca-spectrum-1", ["good", "ü"])
        session.rename("models", "toy-1", "My toy")
        session.annotate("models", "toy-1", "small")
        assert session.unsaved
        assert session.undo_text == "Note on My toy"
        assert session.run("pca-spectrum-1").title == "Layer 3"
        assert session.runs()[0].tags == ["good", "ü"]
        assert session.things("models")[0].attributes["title"] == "My toy"
        assert session.undo() == "Note on My toy"
        assert session.undo() == "Rename toy-1 to My toy"
        assert session.undo() == "Tag Layer 3"
        assert (
            "title" not in session.things("models")[0].attributes or not session.things("models")[0].attributes["title"]
        )
        assert session.undo_text == "Rename pca-spectrum-1 to Layer 3"
        assert session.undo() == "Rename pca-spectrum-1 to Layer 3"
        assert session.run("pca-spectrum-1").title == ""
        assert not session.unsaved
        assert session.redo() == "Rename pca-spectrum-1 to Layer 3"
        assert session.redo_text == "Tag Layer 3"
        session.rename("runs", "pca-spectrum-1", "Layer 4")  # a new edit ends what could be redone
        assert not session.can_redo
        session.close(discard=True)


def test_a_deleted_run_is_gone_until_undo_and_for_good_after_a_save(tmp_path: Path) -> None:
    with Session.open(saved(tmp_path / "a.superscope")) as session:
        session.delete("runs", "pca-spectrum-1")
        assert session.runs() == []
        with pytest.raises(NotInSession, match="undo brings it back"):
            session.run("pca-spectrum-1")
        with pytest.raises(NotInSession):
            session.metric("pca-spectrum-1", "loss")
        session.undo()
        assert len(session.metric("pca-spectrum-1", "loss")) == 4
        session.redo()
        session.save().wait()
        assert session.runs() == []
        assert not session.can_undo
        assert session.add_run("pca-spectrum", {}).id == "pca-spectrum-2"  # an id is never used again
        session.save().wait()
    with Session.open(tmp_path / "a.superscope") as session:
        session.delete("runs", "pca-spectrum-2")
        session.save().wait()
    with Session.open(tmp_path / "a.superscope") as session:
        assert session.add_run("pca-spectrum", {}).id == "pca-spectrum-3"
        session.close(discard=True)


def test_a_run_deleted_before_it_was_ever_saved_leaves_its_things(tmp_path: Path) -> None:
    with Session.create() as session:
        record(session, more=make_model)
        session.delete("runs", "pca-spectrum-1")
        session.save(tmp_path / "a.superscope").wait()
        assert session.runs() == []
        assert [thing.id for thing in session.things("models")] == ["toy-1"]
        assert not session.unsaved
        assert not list((session.work / "runs").iterdir())


def test_a_thing_that_is_made_again_after_it_was_deleted_is_there_again(tmp_path: Path) -> None:
    with Session.open(saved(tmp_path / "a.superscope", more=make_model)) as session:
        session.delete("models", "toy-1")
        assert session.things("models") == []
        record(session, more=make_model)
        assert [thing.attributes["run"] for thing in session.things("models")] == ["pca-spectrum-2"]
        session.save().wait()
        assert [thing.attributes["run"] for thing in session.things("models")] == ["pca-spectrum-2"]


def test_a_run_that_has_not_ended_cannot_be_deleted() -> None:
    with Session.create() as session:
        record(session, state="running")
        with pytest.raises(SessionError, match="is running; stop it"):
            session.delete("runs", "pca-spectrum-1")
        with pytest.raises(NotInSession):
            session.delete("runs", "pca-spectrum-2")
        with pytest.raises(NotInSession):
            session.rename("models", "nothing", "x")
        session.close(discard=True)


def test_typing_notes_is_one_step_of_undo_until_one_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    with Session.create() as session:
        for length in range(1, 6):
            session.set_notes("Hello"[:length])
            now[0] += 1
        now[0] += edits.TOGETHER
        session.set_notes("Hello there")
        assert session.undo() == "Edit the notes"
        assert session.notes == "Hello"
        session.undo()
        assert session.notes == ""
        assert not session.can_undo
        session.redo()
        assert session.notes == "Hello"
        session.close(discard=True)


def test_layout_is_remembered_but_neither_undone_nor_a_reason_to_ask(tmp_path: Path) -> None:
    with Session.open(saved(tmp_path / "a.superscope")) as session:
        session.set_layout({"tabs": [1]})
        assert not session.unsaved
        assert not session.can_undo
        session.rename("session", "", "New name")
        assert session.title == "New name"
        session.save().wait()
    with Session.open(tmp_path / "a.superscope") as session:
        assert session.layout == {"tabs": [1]}
        assert session.title == "New name"


def test_edits_of_a_run_that_goes_on_survive_saves_and_its_end(tmp_path: Path) -> None:
    with Session.create() as session:
        run = record(session, state="running")
        session.rename("runs", run.id, "Mine")
        session.tag("runs", run.id, ["t"])
        session.save(tmp_path / "a.superscope").wait()
        assert session.run(run.id).title == "Mine"  # the recording knows nothing of it
        session.save().wait()
        assert session.run(run.id).title == "Mine"
        run.state, run.ended = "finished", 2.0
        RecordingWriter(session.run_folder(run.id), run)
        session.update_run(run)
        session.save().wait()
        assert (session.run(run.id).title, session.run(run.id).tags) == ("Mine", ["t"])
        assert not session.unsaved
    with Session.open(tmp_path / "a.superscope") as session:
        assert (session.run(run.id).title, session.run(run.id).tags) == ("Mine", ["t"])


def test_edits_made_while_a_save_goes_on_are_kept_for_the_next(tmp_path: Path) -> None:
    with Session.open(saved(tmp_path / "a.superscope")) as session:
        session.rename("runs", "pca-spectrum-1", "First")
        job = session.save()
        session.rename("runs", "pca-spectrum-1", "Second")
        session.set_notes("late")
        job.wait()
        assert session.unsaved
        assert session.run("pca-spectrum-1").title == "Second"
        session.undo()
        session.undo()
        assert session.run("pca-spectrum-1").title == "First"
        assert not session.unsaved
        session.redo()
        session.redo()
        session.save().wait()
    with Session.open(tmp_path / "a.superscope") as session:
        assert session.run("pca-spectrum-1").title == "Second"
        assert session.notes == "late"


def test_undo_reaches_back_over_a_save(tmp_path: Path) -> None:
    with Session.open(saved(tmp_path / "a.superscope")) as session:
        session.rename("runs", "pca-spectrum-1", "Renamed")
        session.save().wait()
        session.undo()
        assert session.run("pca-spectrum-1").title == ""
        assert session.unsaved
        session.save().wait()
    with Session.open(tmp_path / "a.superscope") as session:
        assert session.run("pca-spectrum-1").title == ""


EDIT_AND_DIE = """
import os, signal, sys
from engine.session import Session
session = Session.open(sys.argv[1])
session.rename("runs", "pca-spectrum-1", "Kept")
session.tag("runs", "pca-spectrum-1", ["kept"])
session.annotate("runs", "pca-spectrum-1", "undone")
session.undo()
session.set_notes("note")
session.set_layout({"a": 1})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_kill_right_after_an_edit_loses_none_of_them_nor_the_undo(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    ended = subprocess.run([sys.executable, "-c", EDIT_AND_DIE, str(path)], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL
    with Session.open(path) as session:
        assert session.unsaved
        assert session.run("pca-spectrum-1").title == "Kept"
        assert session.run("pca-spectrum-1").tags == ["kept"]
        assert session.run("pca-spectrum-1").note == ""
        assert session.notes == "note"
        assert session.layout == {"a": 1}
        assert session.undo() == "Edit the notes"
        assert session.undo() == "Tag Kept"
        assert session.undo() == "Rename pca-spectrum-1 to Kept"
        assert not session.unsaved


def test_a_torn_or_foreign_journal_line_is_passed_over(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    session = Session.open(path)
    session.set_notes("kept")
    journal = session.work / "journal.jsonl"
    session.close()
    with open(journal, "ab") as out:
        out.write(b'{"what": "do", "section": "runs"}\n[1]\n\xff\n{"what": "do", "sec')
    with Session.open(path) as session:
        assert session.notes == "kept"
        session.rename("runs", "pca-spectrum-1", "After")
    with Session.open(path) as session:
        assert session.run("pca-spectrum-1").title == "After"


def test_a_long_journal_is_written_anew_without_losing_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.session.editing.COMPACTED", 20_000)
    path = saved(tmp_path / "a.superscope")
    session = Session.open(path)
    for number in range(200):
        session.set_notes(f"{number} " + "x" * 500)
    assert os.path.getsize(session.work / "journal.jsonl") < 25_000
    session.close()
    with Session.open(path) as session:
        assert session.notes.startswith("199 ")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("do"), st.sampled_from("abc"), st.integers(0, 3)),
            st.tuples(st.sampled_from(["undo", "redo", "save", "crash"]), st.none(), st.none()),
        ),
        max_size=30,
    )
)
def test_values_undo_and_crashes_agree_with_a_plain_history(
    steps: list[tuple[str, str | None, int | None]],
) -> None:
    """Against the simplest model there is: a list of all states, and a place in it."""
    subject, journal = Edits(), []
    history: list[dict[str, int]] = [{"a": 0, "b": 0, "c": 0}]
    place, saved_state = 0, history[0]
    base = dict(history[0])
    for what, id, value in steps:
        if what == "do":
            assert id is not None
            assert value is not None
            old = subject.get("runs", id, "title", base[id])
            if old == value:
                continue
            line = subject.doing(Edit("runs", id, "title", old, value, "", float(len(journal))))
            subject.take(line)
            journal.append(line)
            history[place + 1 :] = [{**history[place], id: value}]
            place += 1
        elif what == "undo" and (line := subject.undoing()):
            subject.take(line)
            journal.append(line)
            place -= 1
        elif what == "redo" and (line := subject.redoing()):
            subject.take(line)
            journal.append(line)
            place += 1
        elif what == "save":
            snapshot = subject.snapshot()
            base = {id: snapshot.get(("runs", id, "title"), base[id]) for id in base}
            subject.saved(snapshot)
            saved_state = history[place]
            journal = list(subject.lines())
        elif what == "crash":
            subject = Edits()
            for line in json.loads(json.dumps(journal)):
                subject.take(line)
            if len(subject.done) != place:  # a save has shortened the journal: undo begins there
                history, place = history[place - len(subject.done) :], len(subject.done)
        now = {id: subject.get("runs", id, "title", base[id]) for id in base}
        assert now == history[place]
        assert bool(subject.changed()) == (now != saved_state)
