"""Saving: what is written, when the work folder is cleared, and names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from engine.runs.recording import RecordingWriter
from engine.session import Session, SessionError
from tests.engine.session.making import child_with, equal, lines, record, saved

ROOT = Path(__file__).resolve().parents[3]


def test_a_first_save_needs_a_name_and_gives_the_session_its_title(tmp_path: Path) -> None:
    with Session.create() as session:
        assert (session.path, session.saved_at, session.file_state) == (None, None, "none")
        assert not session.unsaved
        record(session)
        assert session.unsaved
        with pytest.raises(SessionError, match="no file yet"):
            session.save()
        job = session.save(tmp_path / "new folder" / "Größe 1.superscope")
        result = job.wait()
        assert result.ok
        assert result.bytes == (tmp_path / "new folder" / "Größe 1.superscope").stat().st_size
        assert job.progress == 1.0
        assert session.path == tmp_path / "new folder" / "Größe 1.superscope"
        assert session.title == "Größe 1"
        assert session.saved_at is not None
        assert session.file_state == "unchanged"
        assert not session.unsaved
        assert job.poll() is result


def test_ended_runs_leave_the_work_folder_and_running_ones_stay(tmp_path: Path) -> None:
    with Session.create() as session:
        ended = record(session, kept={"x": np.arange(3)})
        running = record(session, state="running", kept={"x": np.arange(4)})
        queued = session.add_run("pca-spectrum", {})
        session.save(tmp_path / "a.superscope").wait()
        assert sorted(path.name for path in (session.work / "runs").iterdir()) == [running.id, queued.id]
        with h5py.File(tmp_path / "a.superscope", locking=False) as file:
            assert {id: run.attrs["state"] for id, run in file["runs"].items()} == {
                ended.id: "finished",
                running.id: "running",
                queued.id: "queued",
            }
        assert session.run(running.id).state == "running"
        writer = RecordingWriter(session.run_folder(running.id), running)  # it goes on, and ends
        writer.metrics({"loss": (99, 0.5, 1.0)})
        writer.flush()
        running.state = "finished"
        writer.write_record()
        session.update_run(running)
        session.save().wait()
        assert [path.name for path in (session.work / "runs").iterdir()] == [queued.id]
        assert session.metric(running.id, "loss")[-1, 0] == 99
        session.close(discard=True)


def test_a_run_that_ends_while_it_is_saved_is_still_to_be_saved(tmp_path: Path) -> None:
    with Session.create() as session:
        run = record(session, state="running")
        job = session.save(tmp_path / "a.superscope")
        job._reader.join()  # the file is written; the session has not been told yet
        run.state = "finished"
        RecordingWriter(session.run_folder(run.id), run).metrics({"loss": (9, 9, 9)})
        session.update_run(run)
        job.wait()
        assert session.unsaved
        assert (session.work / "runs" / run.id).exists()
    with Session.open(tmp_path / "a.superscope") as session:
        assert session.run(run.id).state == "finished"
        session.save().wait()
        assert not session.unsaved


def test_a_run_that_is_resumed_while_it_is_saved_keeps_its_recording(tmp_path: Path) -> None:
    with Session.create() as session:
        run = record(session, state="stopped")
        job = session.save(tmp_path / "a.superscope")
        folder = session.run_folder(run.id)  # as the window asks for it before it tells the engine to resume
        job.wait()
        assert (folder / "record.json").exists()
        run.state = "finished"
        RecordingWriter(folder, run)
        session.update_run(run)
        session.save().wait()
        assert not folder.exists()


def test_saving_again_replaces_and_adds_and_copies_the_rest_bit_for_bit(tmp_path: Path) -> None:
    large = np.random.default_rng(0).standard_normal((1000, 1000))
    path = saved(tmp_path / "a.superscope", kept={"x": large}, figures={"f": lines()})
    with h5py.File(path, "r+") as file:  # what other programs have added stays
        file["extra/numbers"] = [1, 2, 3]
        file.attrs["lab"] = "ours"
        file["runs/pca-spectrum-1"].attrs["reviewer"] = "me"
    with Session.open(path) as session:
        record(session, kept={"y": large.T})
        session.rename("runs", "pca-spectrum-1", "First")
        session.save().wait()
        assert equal(session.kept("pca-spectrum-1", "x"), large)
        assert equal(session.kept("pca-spectrum-2", "y"), large.T)
        assert session.figure("pca-spectrum-1", "f").title == "Loss"
    with h5py.File(path) as file:
        assert file["extra/numbers"][:].tolist() == [1, 2, 3]
        assert file.attrs["lab"] == "ours"
        assert file["runs/pca-spectrum-1"].attrs["reviewer"] == "me"
        assert file["runs/pca-spectrum-1"].attrs["title"] == "First"


def test_saving_over_and_over_does_not_make_the_file_grow(tmp_path: Path) -> None:
    with Session.open(saved(tmp_path / "a.superscope")) as session:
        sizes = []
        for number in range(4):
            session.set_notes(f"{number}" + "x" * 50_000)
            session.set_layout({"a": "y" * 50_000, "n": number})
            sizes.append(session.save().wait().bytes)
        assert max(sizes) - min(sizes) < 4096


def test_deleting_makes_the_file_smaller(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope", kept={"x": np.zeros(1_000_000)})
    assert path.stat().st_size > 8_000_000
    with Session.open(path) as session:
        session.delete("runs", "pca-spectrum-1")
        session.save().wait()
    assert path.stat().st_size < 100_000


def test_save_as_leaves_the_old_file_and_goes_on_with_the_new_one(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    content = path.read_bytes()
    with Session.open(path) as session:
        record(session)
        session.save(tmp_path / "b.superscope").wait()
        assert session.path == tmp_path / "b.superscope"
        assert session.work == tmp_path / "b.superscope.work"
    assert path.read_bytes() == content
    assert sorted(entry.name for entry in tmp_path.glob("*.superscope*")) == ["a.superscope", "b.superscope"]
    with Session.open(tmp_path / "b.superscope") as session:
        assert len(session.runs()) == 2


def test_save_as_brings_external_stores_along(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    store = tmp_path / "a.superscope.data" / "acts" / "1.npy"
    store.parent.mkdir(parents=True)
    np.save(store, np.arange(6.0))
    with h5py.File(path, "r+") as file:
        file.create_group("activations/acts-1").attrs["path"] = "acts/1.npy"
    with Session.open(path) as session:
        session.save(tmp_path / "b" / "b.superscope").wait()
    assert equal(np.load(tmp_path / "b" / "b.superscope.data" / "acts" / "1.npy"), np.arange(6.0))


def test_an_opened_copy_has_no_file_until_it_is_saved(tmp_path: Path) -> None:
    path = saved(tmp_path / "demo.superscope")
    content = path.read_bytes()
    with Session.open(path, copy=True) as session:
        assert session.path is None
        assert session.title == "Made"
        session.rename("runs", "pca-spectrum-1", "Mine")
        with pytest.raises(SessionError, match="no file yet"):
            session.save()
        session.save(tmp_path / "mine.superscope").wait()
        assert session.run("pca-spectrum-1").title == "Mine"
    assert path.read_bytes() == content


def test_a_copy_is_saved_whole_though_its_file_was_replaced_or_removed_meanwhile(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope", kept={"x": np.arange(300_000.0)})
    with Session.open(path, copy=True) as session:
        other = saved(tmp_path / "other.superscope", experiment="train-dictionary")
        os.replace(other, path)
        session.save(tmp_path / "b.superscope").wait()
        assert equal(session.kept("pca-spectrum-1", "x"), np.arange(300_000.0))
    with Session.open(tmp_path / "b.superscope", copy=True) as session:
        (tmp_path / "b.superscope").unlink()
        session.save(tmp_path / "c.superscope").wait()
        assert equal(session.kept("pca-spectrum-1", "x"), np.arange(300_000.0))


def test_a_file_that_another_program_has_changed_is_not_overwritten(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    with Session.open(path) as session:
        record(session)
        shutil.copy(path, tmp_path / "copy")
        with h5py.File(tmp_path / "copy", "r+") as file:
            file.attrs["by"] = "somebody else"
        os.replace(tmp_path / "copy", path)
        assert session.file_state == "changed"
        with pytest.raises(SessionError, match="changed by another program"):
            session.save()
        session.save(tmp_path / "b.superscope").wait()
        assert len(session.runs()) == 2
    with h5py.File(path) as file:
        assert file.attrs["by"] == "somebody else"


def test_a_file_that_was_removed_is_written_again(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    with Session.open(path) as session:
        path.unlink()
        assert session.file_state == "missing"
        session.save().wait()
        assert session.file_state == "unchanged"
        assert len(session.metric("pca-spectrum-1", "loss")) == 4


def test_a_link_to_a_session_stays_a_link(tmp_path: Path) -> None:
    real = saved(tmp_path / "real" / "a.superscope")
    (tmp_path / "link.superscope").symlink_to(real)
    with Session.open(tmp_path / "link.superscope") as session:
        record(session)
        session.save().wait()
    assert (tmp_path / "link.superscope").is_symlink()
    with Session.open(real) as session:
        assert len(session.runs()) == 2


def test_a_second_save_while_one_goes_on_is_the_same_one(tmp_path: Path) -> None:
    with Session.create() as session:
        record(session)
        job = session.save(tmp_path / "a.superscope")
        assert session.saving is job
        assert session.save(tmp_path / "a.superscope") is job
        with pytest.raises(SessionError, match=r"being saved to a\.superscope"):
            session.save(tmp_path / "b.superscope")
        job.wait()
        assert session.saving is None


def test_a_save_that_is_given_up_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.superscope")
    content = path.read_bytes()
    with Session.open(path) as session:
        record(session)
        with monkeypatch.context() as patch:
            child_with(patch, "import threading\nthreading.Event().wait()")
            job = session.save()
        with pytest.raises(TimeoutError):
            job.wait(timeout=0.01)
        job.cancel()
        with pytest.raises(SessionError, match="cut off"):
            job.wait()
        assert path.read_bytes() == content
        assert session.unsaved
        session.save().wait()
        assert not session.unsaved


def test_closing_waits_for_a_save(tmp_path: Path) -> None:
    session = Session.create()
    record(session)
    session.save(tmp_path / "a.superscope")
    session.close()
    with Session.open(tmp_path / "a.superscope") as session:
        assert len(session.runs()) == 1
        assert not session.unsaved


def test_a_defect_while_saving_is_told_with_its_traceback_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session.create() as session:
        record(session)
        with monkeypatch.context() as patch:
            child_with(patch, "from engine.session import gathering\ngathering.Gathering.run = lambda *a: 1 / 0")
            job = session.save(tmp_path / "a.superscope")
            with pytest.raises(SessionError, match="defect in Superscope"):
                job.wait()
        result = job.poll()
        assert result is not None
        assert "ZeroDivisionError" in result.details
        assert not (tmp_path / "a.superscope").exists()
        session.save(tmp_path / "a.superscope").wait()


def test_a_damaged_part_of_a_recording_is_left_out_and_the_recording_stays(tmp_path: Path) -> None:
    with Session.create() as session:
        run = record(session, kept={"x": np.arange(3), "y": np.arange(4)}, figures={"f": lines(), "g": lines()})
        folder = session.work / "runs" / run.id
        (folder / "figures" / "f.npz").write_bytes(b"PK nonsense")
        (folder / "kept" / "x.npy").write_bytes(b"\x93NUMPY nonsense")
        result = session.save(tmp_path / "a.superscope").wait()
        assert "figures/f" in result.warning
        assert "kept/x" in result.warning
        assert (session.work / "runs" / run.id).exists()
        session.close(discard=True)
    with Session.open(tmp_path / "a.superscope") as session:
        assert session.figure_names(run.id) == ["g"]
        assert equal(session.kept(run.id, "y"), np.arange(4))


def test_the_newest_thing_of_an_id_is_the_one_that_is_saved(tmp_path: Path) -> None:
    with Session.create() as session:
        for value in (1.0, 2.0):
            record(session, more=lambda w, v=value: w.produced("models", "m", {"n": v}, {"W": np.full(2, v)}))
        assert equal(session.thing_array("models", "m", "W"), np.full(2, 2.0))
        session.save(tmp_path / "a.superscope").wait()
        assert session.things("models")[0].attributes["n"] == 2.0
        assert equal(session.thing_array("models", "m", "W"), np.full(2, 2.0))


LOOK = """
import json, sys
sys.stdout.write(json.dumps(sorted(sys.modules)))
"""


def test_neither_the_session_nor_the_process_that_saves_knows_torch_qt_or_pydantic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = ("torch", "PySide6", "pydantic", "transformer_lens", "transformers", "scipy", "matplotlib")
    code = "import engine.session, engine.session.session, engine.session.recovery, engine.session.finding\n" + LOOK
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()
    for name in (*heavy, "h5py"):  # h5py comes with the first file
        assert f'"{name}"' not in shown, name
    report = tmp_path / "modules"
    child_with(
        monkeypatch,
        "import atexit, sys\n"
        "from engine.session import saving\n"
        "whole = saving.main\n"
        f"saving.main = lambda a: (whole(a), open({str(report)!r}, 'w').write(' '.join(sys.modules)), 0)[2]\n",
    )
    saved(tmp_path / "a.superscope", kept={"x": np.zeros(10)}, figures={"f": lines()})
    loaded = report.read_text().split()
    assert "h5py" in loaded
    for name in heavy:
        assert name not in loaded, name
