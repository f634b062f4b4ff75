"""After a crash: what the work folder holds comes back, and is offered only then."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.recording import Recording, RecordingWriter
from engine.session import (
    NotInSession,
    Session,
    SessionError,
    SessionLocked,
    find_thing,
    recoverable,
    restore_recording,
    state_of,
    work,
)
from tests.engine.session.making import equal, lines, record, saved, with_checkpoint

ROOT = Path(__file__).resolve().parents[3]
WORK_AND_DIE = """
import os, signal, sys
import numpy as np
from engine.session import Session
from tests.engine.session.making import record, lines
session = Session.open(sys.argv[1]) if len(sys.argv) > 1 else Session.create("Lost")
record(session, state="running", kept={"x": np.arange(5)}, figures={"f": lines()})
record(session, state="finished")
session.add_run("train-dictionary", {"k": 3})
session.set_notes("written before the crash")
print(session.work, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(*arguments: str) -> Path:
    """Another process works on a session and is killed; its work folder."""
    ended = subprocess.run(
        [sys.executable, "-c", WORK_AND_DIE, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert ended.returncode == -signal.SIGKILL
    return Path(ended.stdout.strip())


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")


def test_an_unsaved_session_is_offered_after_a_crash_and_comes_back_whole(tmp_path: Path) -> None:
    folder = die()
    (found,) = recoverable()
    assert found.work == folder
    assert (found.title, found.path) == ("Lost", None)
    assert found.runs == ("pca-spectrum-1", "pca-spectrum-2", "train-dictionary-1")
    assert found.when > 0
    with Session.recover(found.work) as session:
        assert recoverable() == []  # it is open
        assert session.unsaved
        assert session.title == "Lost"
        assert session.notes == "written before the crash"
        states = {run.id: run.state for run in session.runs()}
        assert states == {
            "pca-spectrum-1": "interrupted",
            "pca-spectrum-2": "finished",
            "train-dictionary-1": "interrupted",
        }
        assert "resume it" in session.run("pca-spectrum-1").error
        assert equal(session.kept("pca-spectrum-1", "x"), np.arange(5))
        assert session.figure("pca-spectrum-1", "f").title == "Loss"
        assert session.add_run("pca-spectrum", {}).id == "pca-spectrum-3"
        session.save(tmp_path / "a.superscope").wait()
        assert session.run("pca-spectrum-1").state == "interrupted"
    assert recoverable() == []


def test_a_saved_session_picks_up_its_work_folder_when_it_is_opened(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    content = path.read_bytes()
    folder = die(str(path))
    assert folder == tmp_path / "a.superscope.work"
    assert recoverable() == []
    (found,) = recoverable([path, tmp_path / "other.superscope"])
    assert found.path == path
    assert path.read_bytes() == content
    for open_ in (lambda: Session.open(path), lambda: Session.recover(found.work)):
        with open_() as session:
            assert session.path == path
            assert session.unsaved
            assert session.run("pca-spectrum-2").state == "interrupted"
            assert session.run("pca-spectrum-3").state == "finished"
            assert session.notes == "written before the crash"


def test_nothing_is_offered_for_sessions_that_are_open_or_were_ended_in_peace(tmp_path: Path) -> None:
    with Session.create() as session:
        record(session)
        assert recoverable() == []
        with pytest.raises(SessionLocked):
            Session.recover(session.work)
        session.save(tmp_path / "a.superscope").wait()
    assert recoverable([tmp_path / "a.superscope"]) == []
    assert list(tmp_path.glob("a.superscope*")) == [tmp_path / "a.superscope"]
    with Session.create() as session:
        record(session)
        session.close(discard=True)
    assert recoverable() == []
    assert list(work.elsewhere().iterdir()) == []


def test_closing_without_discarding_keeps_what_was_not_saved(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    with Session.open(path) as session:
        session.set_notes("not saved")
    (found,) = recoverable([path])
    assert found.path == path
    with Session.open(path) as session:
        assert session.notes == "not saved"
        session.close(discard=True)
    assert recoverable([path]) == []


def test_an_empty_session_leaves_nothing_behind() -> None:
    Session.create().close()
    assert list(work.elsewhere().iterdir()) == []


def test_recordings_that_are_in_the_file_already_are_not_taken_for_new(tmp_path: Path) -> None:
    """As after a kill between the renaming of the file and the clearing of the work folder."""
    session = Session.create()
    record(session, kept={"x": np.arange(3)})
    session.rename("runs", "pca-spectrum-1", "Mine")
    shutil.copytree(session.work / "runs", tmp_path / "runs")
    shutil.copy(session.work / "journal.jsonl", tmp_path / "journal.jsonl")
    session.save(tmp_path / "a.superscope").wait()
    folder = session.work
    session.set_notes("so that the folder stays")
    session.close()
    shutil.copytree(tmp_path / "runs", folder / "runs", dirs_exist_ok=True)
    (folder / "journal.jsonl").write_bytes((tmp_path / "journal.jsonl").read_bytes())
    with Session.open(tmp_path / "a.superscope") as session:
        assert not session.unsaved
        assert not (folder / "runs" / "pca-spectrum-1").exists()
        assert session.run("pca-spectrum-1").title == "Mine"
        assert equal(session.kept("pca-spectrum-1", "x"), np.arange(3))


def test_a_work_folder_of_another_session_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    """The file was replaced by another one while its window was dead."""
    path = saved(tmp_path / "a.superscope")
    die(str(path))
    other = saved(tmp_path / "other" / "b.superscope")
    shutil.copy(other, path)
    with Session.open(path) as session:
        assert [run.id for run in session.runs()] == ["pca-spectrum-1"]
        assert session.work != tmp_path / "a.superscope.work"
    (found,) = recoverable([path])
    assert found.work == tmp_path / "a.superscope.work"
    assert len(found.runs) == 3


def test_overwriting_a_session_with_unsaved_work_keeps_that_work_to_be_recovered(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    die(str(path))
    with Session.create("New") as session:
        record(session)
        session.save(path).wait()
        assert session.work == tmp_path / "a.superscope.work"
        assert [run.id for run in session.runs()] == ["pca-spectrum-1"]
        (found,) = recoverable()
        assert found.path is None
        assert len(found.runs) == 3
    with Session.recover(found.work) as session:
        assert len(session.runs()) == 3
        session.close(discard=True)
    with Session.open(path) as session:
        assert session.title == "New"
        assert not session.unsaved


def test_a_session_saved_under_another_name_while_a_run_goes_on_is_found_again_after_a_crash(tmp_path: Path) -> None:
    session = Session.create()
    record(session, state="running")
    session.save(tmp_path / "a.superscope").wait()
    assert session.work.parent == work.elsewhere()  # where the engine writes, until the run has ended
    session._work.release()  # as the end of the process does
    assert session._lock is not None
    session._lock.release()
    with Session.open(tmp_path / "a.superscope") as again:
        assert again.work == session.work
        assert again.run("pca-spectrum-1").state == "interrupted"
        again.save().wait()
        assert again.work == tmp_path / "a.superscope.work"
        assert not again.unsaved


def test_a_read_only_place_has_its_work_folder_elsewhere_and_finds_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.superscope")
    real = os.open

    def refuse(name: object, flags: int, *rest: int, **more: int) -> int:
        if str(name).startswith(str(tmp_path / "a.superscope.")) and flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return real(name, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with Session.open(path) as session:
        assert session.read_only
        assert session.work.parent == work.elsewhere()
        session.set_notes("mine")
        with pytest.raises(SessionError, match=r"cannot be written to; save a\.superscope under another name"):
            session.save()
    with Session.open(path) as session:
        assert session.notes == "mine"
        session.save(tmp_path / "b" / "b.superscope").wait()
        assert not session.read_only
        assert session.notes == "mine"


# ---- what the engine looks up


def test_a_thing_is_found_in_the_work_folder_first_and_in_the_file_after(tmp_path: Path) -> None:
    with Session.create() as session:
        run = record(session, more=lambda w: w.produced("models", "toy", {"kind": "native"}, {"W": np.zeros(3)}))
        for name in ("toy", run.id):  # by its id, or by the run that made it
            attributes, arrays = find_thing(session.work, "models", name)
            assert attributes["kind"] == "native"
            assert equal(arrays["W"], np.zeros(3))
        session.save(tmp_path / "a.superscope").wait()
        for name in ("toy", run.id):
            attributes, arrays = find_thing(session.work, "models", name)
            assert attributes["kind"] == "native"
            assert equal(arrays["W"], np.zeros(3))
        record(session, more=lambda w: w.produced("models", "toy", {"kind": "new"}, {"W": np.ones(3)}))
        attributes, arrays = find_thing(session.work, "models", "toy")
        assert attributes["kind"] == "new"
        assert equal(arrays["W"], np.ones(3))
        with pytest.raises(NotInSession, match="no model other"):
            find_thing(session.work, "models", "other")
        session.close(discard=True)


def test_what_the_engine_looks_at_has_another_state_once_a_toy_is_another(tmp_path: Path) -> None:
    from engine.models.references import parse
    from engine.models.toys import stored

    with Session.create() as session:
        record(session, more=lambda w: w.produced("models", "toy", {"kind": "native"}, {"W": np.zeros(3)}))
        unsaved = state_of(session.work, "models")
        assert equal(stored(parse("toy:toy"), session.work)[1]["W"], np.zeros(3))
        session.save(tmp_path / "a.superscope").wait()
        saved = state_of(session.work, "models")
        assert equal(stored(parse("toy:toy"), session.work)[1]["W"], np.zeros(3))
        record(session, more=lambda w: w.produced("models", "toy", {"kind": "new"}, {"W": np.ones(3)}))
        again = state_of(session.work, "models")
        assert len({unsaved, saved, again}) == 3
        assert state_of(session.work, "models") == again
        assert equal(stored(parse("toy:toy"), session.work)[1]["W"], np.ones(3))
        session.close(discard=True)


def test_a_saved_run_gets_its_recording_back_exactly(tmp_path: Path) -> None:
    with Session.create() as session:
        run = record(session, state="stopped", more=with_checkpoint, kept={"x": np.arange(4.0)}, figures={"f": lines()})
        session.run_folder(run.id)
        before = Recording(session.work / "runs" / run.id)
        metric, log = before.metric("loss"), before.log()
        session.update_run(run)
        session.save(tmp_path / "a.superscope").wait()
        assert not (session.work / "runs" / run.id).exists()
        after = Recording(restore_recording(session.work, run.id))
        assert equal(after.metric("loss"), metric)
        assert equal(after.kept("x"), np.arange(4.0))
        assert after.kept_attributes("x") == {"unit": "nats"}
        assert after.figure("f").title == "Loss"
        assert after.log() == log
        checkpoint = after.checkpoint()
        assert checkpoint is not None
        assert checkpoint.values == {"step": 4, "generator": [1, 2]}
        assert equal(checkpoint.arrays["weights"], np.arange(6.0).reshape(2, 3))
        assert after.record().state == "stopped"
        RecordingWriter(after.folder, after.record()).rewind()  # the row after the checkpoint goes
        assert len(after.metric("loss")) == 4
        assert restore_recording(session.work, run.id) == after.folder  # what is there is not touched
        assert len(after.metric("loss")) == 4


def test_a_resume_that_ends_before_it_began_hides_nothing_of_the_saved_run(tmp_path: Path) -> None:
    """The queue writes the record of a run that was withdrawn, and nothing else."""
    with Session.open(saved(tmp_path / "a.superscope", state="stopped", kept={"x": np.arange(4.0)})) as session:
        record_ = session.run("pca-spectrum-1")
        record_.state, record_.error = "interrupted", "The engine died."
        RecordingWriter(session.run_folder(record_.id), record_)
        session.update_run(record_)
        assert session.run("pca-spectrum-1").state == "interrupted"
        assert len(session.metric("pca-spectrum-1", "loss")) == 4
        session.save().wait()
        assert not session.unsaved
        assert (session.run("pca-spectrum-1").state, session.run("pca-spectrum-1").error) == (
            "interrupted",
            "The engine died.",
        )
        assert len(session.metric("pca-spectrum-1", "loss")) == 4
        assert equal(session.kept("pca-spectrum-1", "x"), np.arange(4.0))


def test_a_saved_run_is_resumed_from_the_file_as_if_it_had_never_stopped(tmp_path: Path, samples: object) -> None:
    walk = find("sample-walk")
    whole = execute(walk, walk.parameters(), tmp_path / "whole")
    assert whole.state == "finished"
    with Session.create() as session:
        parameters = walk.parameters(disturb="stop")
        run = session.add_run("sample-walk", parameters.model_dump())
        stopped = execute(walk, parameters, session.run_folder(run.id), work=session.work)
        assert stopped.state == "stopped"
        session.update_run(stopped)
        session.save(tmp_path / "a.superscope").wait()
        folder = session.run_folder(run.id)
        assert not folder.exists()
        assert restore_recording(session.work, run.id) == folder
        session.update_run(execute(walk, parameters, folder, work=session.work, resume=True))
        assert session.run(run.id).state == "finished"
        for name in ("x", "y"):
            assert equal(session.metric(run.id, name)[:, :2], Recording(tmp_path / "whole").metric(name)[:, :2])
        session.save().wait()
        assert not session.unsaved
    with Session.open(tmp_path / "a.superscope") as session:
        assert equal(session.kept(run.id, "position"), Recording(tmp_path / "whole").kept("position"))
