"""One writer a session, also across processes, also after a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.session import Session, SessionLocked
from engine.session.locks import Busy, FileLock, is_held, read_holder
from tests.engine.session.making import record, saved

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys
from engine.session import Session
session = Session.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
session.close()
"""


def holding(path: Path) -> subprocess.Popen[str]:
    """Another process that has the session open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def test_a_session_open_in_another_process_is_refused_with_who_and_since_when(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    process = holding(path)
    for _ in range(2):  # being refused leaves the description readable
        with pytest.raises(
            SessionLocked, match=rf"a\.superscope is open .*process {process.pid} on .*, since \d\d:\d\d"
        ):
            Session.open(path)
    end(process)
    assert not path.with_name("a.superscope.lock").exists()
    Session.open(path).close()


def test_a_copy_of_a_locked_session_can_be_opened(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    process = holding(path)
    with Session.open(path, copy=True) as session:
        assert session.path is None
        assert not session.unsaved
        assert [run.id for run in session.runs()] == ["pca-spectrum-1"]
    end(process)


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    process = holding(path)
    process.kill()
    process.communicate()
    assert path.with_name("a.superscope.lock").exists()
    Session.open(path).close()


def test_the_same_process_cannot_open_a_session_twice(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    with Session.open(path):
        with pytest.raises(SessionLocked):
            Session.open(path)
        with pytest.raises(SessionLocked):
            Session.open(tmp_path / ".." / tmp_path.name / "a.superscope")
    Session.open(path).close()


def test_saving_under_the_name_of_an_open_session_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    content = path.read_bytes()
    process = holding(path)
    with Session.create() as session:
        record(session)
        with pytest.raises(SessionLocked, match="choose another name"):
            session.save(path)
        session.close(discard=True)
    end(process)
    assert path.read_bytes() == content


def test_after_saving_under_another_name_only_the_new_name_is_locked(tmp_path: Path) -> None:
    with Session.open(saved(tmp_path / "a.superscope")) as session:
        session.save(tmp_path / "b.superscope").wait()
        assert is_held(tmp_path / "b.superscope.lock")
        Session.open(tmp_path / "a.superscope").close()
        with pytest.raises(SessionLocked):
            Session.open(tmp_path / "b.superscope")


def test_a_description_that_cannot_be_read_still_refuses(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "l")
    (tmp_path / "l").write_bytes(b"\xff not json")
    with pytest.raises(Busy, match="another process"):
        FileLock(tmp_path / "l")
    lock.release()
    lock.release()
    assert read_holder(tmp_path / "l") is None


def test_a_lock_file_removed_under_its_holder_does_not_lock_a_fresh_one_twice(tmp_path: Path) -> None:
    first = FileLock(tmp_path / "l")
    os.unlink(tmp_path / "l")
    second = FileLock(tmp_path / "l")
    first.release()  # must not remove the second's file
    assert is_held(tmp_path / "l")
    with pytest.raises(Busy):
        FileLock(tmp_path / "l")
    second.release()


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX")
def test_where_the_file_system_has_no_locks_the_holders_word_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    path = tmp_path / "l"
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    FileLock(path)._handle = -1
    path.write_text(path.read_text().replace(str(os.getpid()), str(process.pid)))

    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(Busy, match=str(process.pid)):
        FileLock(path)
    process.communicate(b"\n")
    FileLock(path).release()
