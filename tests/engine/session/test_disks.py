"""Full, read-only and vanished disks: one sentence, and everything is as it was."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import files
from engine.errors import SuperscopeError
from engine.files import DiskError
from engine.session import Session, SessionError, work
from tests.engine.session.making import child_with, equal, record, saved

LARGE = np.random.default_rng(0).standard_normal(1_000_000)
FULL, READ_ONLY, GONE = errno.ENOSPC, errno.EROFS, errno.EIO
RAISE = """
import os, threading
from engine import files
from engine.session import bulk
bulk.FLUSHED = bulk.STEP = 2**20
asked = threading.Event()
def refuse(*arguments, **more):
    asked.set()
    raise OSError({number}, os.strerror({number}))
{target} = refuse
"""
# The flushing thread has to have been at it before the copying thread has nothing more to tell it.
WAIT = """
wrote = bulk._Flusher.wrote
bulk._Flusher.wrote = lambda self, size: (wrote(self, size), asked.wait())
"""
WRITES = {
    "flush": "files._flush",
    "rename": "files.os.replace",
    "arrays": "os.copy_file_range",
    "background flush": "os.fdatasync",
}


@pytest.mark.parametrize(
    ("number", "words"),
    [(FULL, "is full, so a.superscope was not written; free some space"), (READ_ONLY, "cannot be written to")],
)
@pytest.mark.parametrize("write", WRITES)
def test_a_disk_that_refuses_a_write_leaves_session_and_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str, number: int, words: str
) -> None:
    if not hasattr(os, WRITES[write].rpartition(".")[2]) and write != "flush":
        pytest.skip(f"{WRITES[write]} is not on this system")
    path = saved(tmp_path / "a.superscope", kept={"x": LARGE})
    old = hashlib.sha256(path.read_bytes()).digest()
    with Session.open(path) as session:
        record(session, kept={"x": LARGE})
        with monkeypatch.context() as patch:
            code = RAISE.format(number=number, target=WRITES[write])
            child_with(patch, code + (WAIT if write == "background flush" else ""))
            job = session.save()
            with pytest.raises(SessionError) as caught:
                job.wait()
        assert words in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        assert hashlib.sha256(path.read_bytes()).digest() == old
        assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_file()) == [
            "a.superscope",
            "a.superscope.lock",
        ]
        assert session.unsaved
        assert equal(session.kept("pca-spectrum-2", "x"), LARGE)
        session.save().wait()
        assert not session.unsaved


def test_a_full_disk_refuses_an_edit_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session.open(saved(tmp_path / "a.superscope")) as session:
        session.rename("runs", "pca-spectrum-1", "Before")

        def refuse(path: Path, content: bytes) -> None:
            raise files.explain(OSError(FULL, "No space left on device"), path)

        with monkeypatch.context() as patch:
            patch.setattr(files, "append", refuse)
            with pytest.raises(DiskError, match="is full"):
                session.rename("runs", "pca-spectrum-1", "After")
            with pytest.raises(DiskError, match="is full"):
                session.undo()
        assert session.run("pca-spectrum-1").title == "Before"
        assert session.undo() == "Rename pca-spectrum-1 to Before"


def test_a_full_disk_refuses_a_run_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(FULL, "No space left on device")

    with Session.open(saved(tmp_path / "a.superscope")) as session:
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", refuse)
            with pytest.raises(DiskError, match="is full"):
                session.add_run("pca-spectrum", {})
        assert [run.id for run in session.runs()] == ["pca-spectrum-1"]
        assert session.add_run("pca-spectrum", {}).id == "pca-spectrum-2"
        session.close(discard=True)


def test_a_save_to_a_good_disk_succeeds_though_the_work_folders_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session.create() as session:
        record(session)
        session.set_notes("kept")
        job = session.save(tmp_path / "a.superscope")
        job._reader.join()

        def refuse(path: Path, content: bytes, **more: bool) -> None:
            raise files.explain(OSError(FULL, "No space left on device"), path)

        with monkeypatch.context() as patch:
            patch.setattr(files, "write_bytes", refuse)
            result = job.poll()
        assert result is not None
        assert result.ok
        assert not session.unsaved
        assert session.notes == "kept"
    with Session.open(tmp_path / "a.superscope") as session:
        assert session.notes == "kept"
        assert not session.unsaved


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")
def test_a_saved_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    path.chmod(0o640)
    with Session.open(path) as session:
        session.save().wait()
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_made_is_said_before_anything_begins(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Session.create() as session:
        record(session)
        with pytest.raises(SuperscopeError, match="choose another folder"):
            session.save(tmp_path / "file" / "a.superscope")
        assert session.unsaved
        session.close(discard=True)


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session.create() as session:
        record(session, kept={"x": LARGE})
        with monkeypatch.context() as patch:
            child_with(
                patch,
                "import collections, shutil\n"
                "shutil.disk_usage = lambda path: collections.namedtuple('U', 'total used free')(10**9, 0, 10**6)\n"
                "from engine.session import saving\n"
                "saving._build = None",
            )
            with pytest.raises(SessionError, match="is full"):
                session.save(tmp_path / "a.superscope").wait()
        session.save(tmp_path / "a.superscope").wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB of our own."""
    place = tmp_path / "small disk"
    place.mkdir()
    if not sys.platform.startswith("linux") or not shutil.which("mount"):
        pytest.skip("mounting a tmpfs is for Linux")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"this user may not mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("spare", [0, 2_000_000, 6_000_000, 8_100_000])
def test_a_disk_that_is_really_full_leaves_the_old_session_and_the_recordings(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    """The first save is 2 MB, the second would be 10: it meets the end of the disk at several places."""
    path = saved(small_disk / "a.superscope", kept={"x": LARGE[:250_000]})
    old = hashlib.sha256(path.read_bytes()).digest()
    session = Session.open(path)
    monkeypatch.setattr(work, "beside", lambda path: work.for_read_only(path))  # recordings on another disk
    session.close()
    session = Session.open(path)
    for number in range(10):
        record(session, kept={"x": LARGE[number * 100_000 : (number + 1) * 100_000]})
    (small_disk / "filler").write_bytes(b"x" * (shutil.disk_usage(small_disk).free - spare))
    child_with(monkeypatch, "from engine.session import saving\nsaving._check_space = lambda *a: None")
    job = session.save()
    with pytest.raises(SessionError, match=r"is full, so a\.superscope was not written"):
        job.wait()
    assert hashlib.sha256(path.read_bytes()).digest() == old
    assert sorted(entry.name for entry in small_disk.iterdir()) == ["a.superscope", "a.superscope.lock", "filler"]
    (small_disk / "filler").unlink()
    monkeypatch.undo()
    session.delete("runs", "pca-spectrum-1")
    session.save().wait()
    for number in range(10):
        assert equal(session.kept(f"pca-spectrum-{number + 2}", "x"), LARGE[number * 100_000 : (number + 1) * 100_000])
    session.close()


def test_a_session_on_a_read_only_disk_opens_and_is_saved_elsewhere(small_disk: Path, tmp_path: Path) -> None:
    path = saved(small_disk / "a.superscope")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Session.open(path) as session:
        assert session.read_only
        session.rename("runs", "pca-spectrum-1", "Mine")
        with pytest.raises(SessionError, match=r"save a\.superscope under another name"):
            session.save()
        with pytest.raises(DiskError, match="cannot be written to"):
            session.save(small_disk / "b.superscope")
        session.save(tmp_path / "b.superscope").wait()
        assert session.run("pca-spectrum-1").title == "Mine"
        assert not session.read_only
