"""Killed at any moment, the saving process leaves the old session or the new one, and no recording is lost."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engine.session import Session, SessionError, save_job
from tests.engine.session.making import child_with, equal, record, saved

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
ROOT = Path(__file__).resolve().parents[3]
SMALL, LARGE = np.arange(1000.0), np.random.default_rng(0).standard_normal(3_000_000)
MOMENTS = {
    "before it begins": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "with the new file half built": """
from engine.session import gathering
import os, signal
gathering.Gathering._checkpoint = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
""",
    "in the middle of the arrays": """
from engine.session import bulk
import os, signal
once = bulk._Flusher.wrote
bulk.STEP = 2**20
def wrote(self, size):
    self.count = getattr(self, "count", 0) + 1
    if self.count == 7:
        os.kill(os.getpid(), signal.SIGKILL)
bulk._Flusher.wrote = wrote
""",
    "before the file is flushed": """
from engine import files
import os, signal
files._flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)
""",
    "before the renaming": """
from engine import files
import os, signal
files.os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
""",
    "right after the renaming": """
from engine import files
import os, signal
rename = os.replace
def replace(*a):
    rename(*a)
    os.kill(os.getpid(), signal.SIGKILL)
files.os.replace = replace
""",
    "before it can say that it is done": """
from engine.session import saving
import os, signal
saving._say = lambda line: "result" in line and os.kill(os.getpid(), signal.SIGKILL)
""",
}


def whole(path: Path, runs: int) -> None:
    """Assert that the session at ``path`` has ``runs`` runs, complete."""
    with Session.open(path) as session:
        ids = [run.id for run in session.runs()]
        assert ids == [f"pca-spectrum-{number + 1}" for number in range(runs)]
        for id in ids:
            assert len(session.metric(id, "loss")) == 4
            assert equal(session.kept(id, "small"), SMALL)
            assert equal(session.kept(id, "large"), LARGE)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_leaves_the_old_or_the_new_session_and_every_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = saved(tmp_path / "a.superscope", kept={"small": SMALL, "large": LARGE})
    old = hashlib.sha256(path.read_bytes()).digest()
    done = moment in ("right after the renaming", "before it can say that it is done")
    with Session.open(path) as session:
        record(session, kept={"small": SMALL, "large": LARGE})
        with monkeypatch.context() as patch:
            child_with(patch, MOMENTS[moment])
            result = None
            job = session.save()
            if done:
                assert job.wait().ok  # the file is in place, whatever became of who put it there
            else:
                with pytest.raises(SessionError, match=r"Saving a\.superscope was cut off .*nothing is lost"):
                    job.wait()
                result = job.poll()
                assert result is not None
                assert not result.ok
        assert (hashlib.sha256(path.read_bytes()).digest() == old) is not done
        assert session.unsaved is not done
        assert (session.work / "runs" / "pca-spectrum-2").exists() is not done
        assert equal(session.kept("pca-spectrum-2", "large"), LARGE)
        assert not list(tmp_path.glob(".*.tmp"))  # what it left half done is cleared away
        session.save().wait()
    whole(path, 2)


def test_kills_at_random_moments_never_cost_anything(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope", kept={"small": SMALL, "large": LARGE})
    generator = np.random.default_rng(5)
    killed = 0
    with Session.open(path) as session:
        began = time.monotonic()
        record(session, kept={"small": SMALL, "large": LARGE})
        session.save().wait()
        length = time.monotonic() - began
        runs = 2
        record(session, kept={"small": SMALL, "large": LARGE})
        while killed < 10:
            job = session.save()
            job._reader.join(generator.uniform(0, 1.0) * length)
            job.cancel()
            try:
                job.wait()
            except SessionError:
                killed += 1
                assert session.unsaved
                whole_copy = Session.open(path, copy=True)
                assert len(whole_copy.runs()) == runs
                assert equal(whole_copy.kept("pca-spectrum-2", "large"), LARGE)
                whole_copy.close()
                assert equal(session.kept(f"pca-spectrum-{runs + 1}", "large"), LARGE)
            else:  # it was quicker; something new for the next
                runs += 1
                record(session, kept={"small": SMALL, "large": LARGE})
        session.save().wait()
        assert not session.unsaved
    whole(path, runs + 1)


SAVE_AND_DIE = """
import os, signal, sys
from engine.session import Session
session = Session.open(sys.argv[1])
session.save()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_window_that_dies_while_it_saves_loses_nothing(tmp_path: Path) -> None:
    """The child may end its work or not: both are whole."""
    path = saved(tmp_path / "a.superscope", kept={"small": SMALL, "large": LARGE})
    with Session.open(path) as session:
        record(session, kept={"small": SMALL, "large": LARGE})
    ended = subprocess.run([sys.executable, "-c", SAVE_AND_DIE, str(path)], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL
    whole(path, 2)


def test_the_saving_process_is_started_as_documented() -> None:
    assert save_job.child_command() == [sys.executable, "-m", "engine.session.saving", "-"]


def test_a_frozen_program_starts_itself_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert save_job.child_command() == [sys.executable, "--save-session", "-"]
