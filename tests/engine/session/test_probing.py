"""Files that would end or freeze the process that reads them."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from engine.session import Session, SessionError, probing, save_job
from tests.engine.session.making import child_with, saved


@pytest.fixture
def path(tmp_path: Path, home: Path) -> Path:
    found = saved(tmp_path / "a.superscope")
    (home / "cache" / "sessions-read.json").unlink()  # as if it came from elsewhere
    return found


def test_a_file_that_ends_the_process_reading_it_is_refused_and_this_process_lives(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_with(monkeypatch, "import os\nos.abort()")
    with pytest.raises(SessionError, match=r"a\.superscope is damaged so badly"):
        Session.open(path)


def test_a_file_that_never_lets_go_of_its_reader_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PATIENCE", 0.5)
    child_with(monkeypatch, "import threading\nthreading.Event().wait()")
    with pytest.raises(SessionError, match="damaged so badly"):
        Session.open(path)


def test_a_file_is_looked_at_once_and_again_only_when_it_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    command = save_job.child_command
    monkeypatch.setattr(save_job, "child_command", lambda: looks.append(1) or command())
    Session.open(path).close()
    Session.open(path).close()
    assert len(looks) == 1
    os.utime(path, ns=(1, 1))
    Session.open(path).close()
    assert len(looks) == 2


def test_a_file_that_was_saved_here_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.superscope")
    monkeypatch.setattr(save_job, "child_command", lambda: pytest.fail("looked at"))
    Session.open(path).close()


def test_an_attribute_of_a_type_that_hurts_is_not_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        ragged = np.empty(1, dtype=object)
        ragged[0] = np.arange(3.0)
        file["runs/pca-spectrum-1"].attrs.create("state", ragged, dtype=h5py.vlen_dtype(np.float64))
    with Session.open(path) as session:
        assert "damaged" in session.run("pca-spectrum-1").error
