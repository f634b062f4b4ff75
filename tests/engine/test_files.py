"""The one place that writes: atomic, durable, and one sentence for each way a disk can fail."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import files
from engine.errors import SuperscopeError
from engine.files import DiskError

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = {
    errno.ENOSPC: "is full, so a.txt was not written; free some space",
    errno.EDQUOT: "is full, so a.txt was not written; free some space",
    errno.EROFS: "cannot be written to, so a.txt was not saved there; choose another folder",
    errno.EACCES: "cannot be written to, so a.txt was not saved there; choose another folder",
    errno.EPERM: "cannot be written to, so a.txt was not saved there; choose another folder",
    errno.ENOENT: "does not exist any more, so a.txt was not written; choose another folder",
    errno.EIO: "could not be written to",
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An empty folder."""
    place = tmp_path / "here"
    place.mkdir()
    return place


def refusing(number: int) -> Any:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_replaced_file_has_the_new_content_and_nothing_is_left_beside_it(here: Path) -> None:
    path = here / "deep" / "a.txt"
    for content in (b"old", b"new"):
        files.write_bytes(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("number", SENTENCES)
@pytest.mark.parametrize("place", ["replace", "fsync", "open"])
def test_a_failed_write_leaves_the_old_content_and_says_why_in_one_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    path = here / "a.txt"
    files.write_bytes(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, place, refusing(number))
        with pytest.raises(DiskError) as caught:
            files.write_bytes(path, b"new")
    sentence = str(caught.value)
    assert SENTENCES[number] in sentence
    assert sentence.endswith(".")
    assert isinstance(caught.value, SuperscopeError)
    assert path.read_bytes() == b"old"
    assert list(here.iterdir()) == [path]


def test_what_the_caller_raises_leaves_the_old_content_too(here: Path) -> None:
    path = here / "a.txt"
    files.write_bytes(path, b"old")

    def write() -> None:
        with files.replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyError("a defect")

    with pytest.raises(KeyError):
        write()
    assert path.read_bytes() == b"old"
    assert list(here.iterdir()) == [path]


def test_file_and_folder_are_flushed_to_the_disk_before_and_after_the_renaming(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, rename = files._flush, os.replace
    monkeypatch.setattr(files, "_flush", lambda path: (done.append(Path(path).name), flush(path)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("renamed"), rename(a, b)))
    files.write_bytes(here / "a.txt", b"x")
    assert done[0].startswith(".a.txt.")
    assert done[1] == "renamed"
    if os.name == "posix":
        assert done[2] == here.name
    done.clear()
    files.write_bytes(here / "a.txt", b"y", durable=False)
    assert done == ["renamed"]


def test_appending_adds_at_the_end_and_makes_the_folder(here: Path) -> None:
    for content in (b"one\n", b"", b"two\n"):
        files.append(here / "deep" / "log", content)
    assert (here / "deep" / "log").read_bytes() == b"one\ntwo\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_appending_to_a_full_disk_says_so() -> None:
    with pytest.raises(DiskError, match="is full"):
        files.append(Path("/dev/full"), b"x")


class Filling:
    """A file on a disk that takes five bytes more, and then none."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.room = 5

    def __enter__(self) -> Filling:
        return self

    def __exit__(self, *problem: object) -> None:
        self.file.close()

    def write(self, content: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(bytes(content)[: self.room])
        self.room -= written
        return int(written)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_appending_to_a_disk_that_fills_up_leaves_nothing_of_what_did_not_fit(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / "rows"
    files.append(path, b"12345678")
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda *a, _open=open, **k: Filling(_open(*a, **k)))
        with pytest.raises(DiskError, match="is full"):
            files.append(path, b"abcdefgh")
    assert path.read_bytes() == b"12345678"
    files.append(path, b"abcdefgh")
    assert path.read_bytes() == b"12345678abcdefgh"


def test_a_torn_last_line_is_ended_once(here: Path) -> None:
    path = here / "log"
    files.mend_lines(path)
    assert not path.exists()
    for content, mended in ((b"", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\nb\n")):
        path.write_bytes(content)
        files.mend_lines(path)
        files.mend_lines(path)
        assert path.read_bytes() == mended


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(here: Path) -> None:
    keep = [
        ".a[1].txt.tmp",
        ".a[1].txt.12345678.tmpx",
        "a[1].txt.12345678.tmp",
        ".b.txt.12345678.tmp",
        ".a1.txt.12345678.tmp",
    ]
    for name in [*keep, ".a[1].txt.0123abcd.tmp", ".a[1].txt.deadbeef.tmp"]:
        (here / name).touch()
    files.remove_leftovers(here / "a[1].txt")
    assert sorted(path.name for path in here.iterdir()) == sorted(keep)


KILLED = """
import itertools, sys
from pathlib import Path
from engine import files
for number in itertools.count():
    files.write_bytes(Path(sys.argv[1]), b"%d" % (number % 10) * 200_000)
    print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_kill_leaves_one_whole_content_or_the_other(here: Path) -> None:
    path = here / "a.txt"
    for count in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(2 + 3 * count):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        content = path.read_bytes()
        assert len(content) == 200_000
        assert len(set(content)) == 1


def test_a_replaced_folder_appears_whole_or_not_at_all(here: Path) -> None:
    path = here / "folder"
    for content in ("old", "new"):
        with files.replacing_folder(path) as place:
            (place / "sub").mkdir()
            (place / "sub" / "a.txt").write_text(content)
        assert (path / "sub" / "a.txt").read_text() == content

    def fail() -> None:
        with files.replacing_folder(path) as place:
            (place / "b.txt").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskError, match="is full"):
        fail()
    assert [entry.name for entry in path.iterdir()] == ["sub"]
    assert list(here.iterdir()) == [path]


SCRATCH = """
import os, sys
from pathlib import Path
from engine import files
out = files.scratch(Path(sys.argv[1]))
out.write(bytes(100_000))
out.flush()
print(os.listdir(sys.argv[1]), flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_scratch_file_can_be_written_and_read_and_is_gone_when_closed(here: Path) -> None:
    with files.scratch(here / "sub") as file:
        file.write(b"some content")
        file.seek(5)
        assert file.read(3) == b"con"
    assert list((here / "sub").iterdir()) == []
    (here / "file").touch()
    with pytest.raises(DiskError, match="choose another folder"):
        files.scratch(here / "file")


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_killed_process_leaves_no_scratch_file(here: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", SCRATCH, str(here)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (child.returncode, child.stdout) == (-signal.SIGKILL, "[]\n"), child.stderr
    assert list(here.iterdir()) == []
