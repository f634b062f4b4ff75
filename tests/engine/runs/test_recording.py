"""Recordings: what a run writes is read back exactly, at any moment, also after a kill."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import files
from engine.figures.kinds import Axis, Lines
from engine.files import DiskError
from engine.runs.recording import Recording, RecordingError, RecordingWriter, RunRecord, write_record
from engine.runs.run import Checkpoint

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def writer(tmp_path: Path) -> RecordingWriter:
    return RecordingWriter(tmp_path / "run-1", RunRecord("run-1", "sample", {"k": 3}))


@pytest.fixture
def recording(writer: RecordingWriter) -> Recording:
    return Recording(writer.folder)


def figure(title: str = "Loss") -> Lines:
    return Lines(title=title, x_axis=Axis("x"), y_axis=Axis("y"), series=("a",), x=[1.0], y=[2.0])


def test_a_record_comes_back_and_names_of_later_versions_are_left_out(writer: RecordingWriter) -> None:
    recording = Recording(writer.folder)
    assert recording.record() == RunRecord("run-1", "sample", {"k": 3})
    assert recording.is_bare
    stored = json.loads((writer.folder / "record.json").read_bytes())
    (writer.folder / "record.json").write_text(json.dumps({**stored, "of tomorrow": 1, "title": "Ünï"}))
    assert recording.record().title == "Ünï"


def test_rows_of_metrics_come_back_in_order_while_they_are_written(
    writer: RecordingWriter, recording: Recording
) -> None:
    for step in range(1000):
        writer.metrics({"loss": (step, 1 / (step + 1), step / 10), "l0": (step, 32, 0)})
    writer.flush()
    rows = recording.metric("loss")
    assert rows.dtype == np.float64
    assert rows.shape == (1000, 3)
    assert rows[:, 0].tolist() == list(range(1000))
    assert rows[999].tolist() == [999, 1 / 1000, 99.9]
    assert recording.metric_names() == ["l0", "loss"]
    assert not recording.is_bare


def test_a_torn_row_is_not_read_and_what_follows_is_read_right(writer: RecordingWriter, recording: Recording) -> None:
    writer.metrics({"loss": (0, 1, 2)})
    writer.log("info", "first")
    writer.flush()
    with open(writer.folder / "metrics" / "loss.f64", "ab") as out:
        out.write(b"\1" * 11)
    with open(writer.folder / "log.jsonl", "ab") as out:
        out.write(b'{"time": 1, "lev')
    assert recording.metric("loss").tolist() == [[0, 1, 2]]
    assert [line["text"] for line in recording.log()] == ["first"]
    again = RecordingWriter(writer.folder, writer.record)  # the engine that goes on after the kill
    again.metrics({"loss": (1, 3, 4)})
    again.flush()
    again.log("warning", "second")
    assert recording.metric("loss").tolist() == [[0, 1, 2], [1, 3, 4]]
    assert [(line["level"], line["text"]) for line in recording.log()] == [("info", "first"), ("warning", "second")]


def test_rows_that_met_a_full_disk_are_written_once_when_there_is_room(
    writer: RecordingWriter, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = files.append

    def refuse(path: Path, content: bytes) -> None:
        if path.name == "b.f64":
            raise files.explain(OSError(errno.ENOSPC, "full"), path)
        append(path, content)

    writer.metrics({"a": (0, 1, 2), "b": (0, 1, 2), "c": (0, 1, 2)})
    with monkeypatch.context() as patch:
        patch.setattr(files, "append", refuse)
        with pytest.raises(DiskError, match="is full"):
            writer.flush()
    writer.flush()
    for name in "abc":
        assert recording.metric(name).tolist() == [[0, 1, 2]]


def test_figures_and_arrays_are_replaced_by_name(writer: RecordingWriter, recording: Recording) -> None:
    for title in ("first", "second"):
        writer.figure("f", figure(title))
        writer.kept("x", np.array([title]), {"unit": title})
    assert recording.figure("f").title == "second"
    assert recording.figure_names() == ["f"]
    assert recording.kept("x").tolist() == ["second"]
    assert recording.kept_attributes("x") == {"unit": "second"}
    assert recording.kept_attributes("nothing") == {}
    assert isinstance(recording.kept("x"), np.memmap)


@pytest.mark.parametrize(
    "array",
    [np.float32(1.5), np.zeros((0, 3), np.int8), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array([True]), 3],
)
def test_arrays_of_any_shape_and_order_are_kept(writer: RecordingWriter, recording: Recording, array: Any) -> None:
    writer.kept("x", array, {})
    found = recording.kept("x")
    assert np.array_equal(found, array)
    assert found.dtype == np.asarray(array).dtype


@pytest.mark.parametrize(
    "array", [np.array([{}]), np.array(["a", None]), np.zeros(2, "M8[s]"), np.zeros(2, [("a", "f8")])]
)
def test_arrays_that_no_file_could_hold_are_refused_where_they_are_kept(
    writer: RecordingWriter, recording: Recording, array: Any
) -> None:
    with pytest.raises(RecordingError, match=r"x has the type .*keep numbers, booleans or text"):
        writer.kept("x", array, {})
    assert recording.kept_names() == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40))
def test_any_name_without_a_slash_comes_back_and_stays_inside_the_folder(tmp_path: Path, name: str) -> None:
    writer = RecordingWriter(tmp_path / "runs" / "run-1", RunRecord("run-1", "sample", {}))
    try:
        writer.kept(name, np.arange(3), {"n": name})
    except RecordingError:
        assert set(name) == {"."}
        return
    recording = Recording(writer.folder)
    assert name in recording.kept_names()
    assert recording.kept(name).tolist() == [0, 1, 2]
    assert recording.kept_attributes(name) == {"n": name}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run-1"]
    (writer.folder / "kept" / recording.kept_path(name).name).unlink()


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "a\0b", "x" * 201, "\ud800"])
def test_names_that_could_not_be_datasets_are_refused_where_they_are_given(writer: RecordingWriter, name: str) -> None:
    for give in (
        lambda: writer.metrics({name: (0, 0, 0)}),
        lambda: writer.figure(name, figure()),
        lambda: writer.kept(name, np.zeros(1), {}),
    ):
        with pytest.raises(RecordingError, match="cannot be the name"):
            give()


def test_things_appear_only_whole_and_may_have_parts_with_slashes(
    writer: RecordingWriter, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"W_enc": np.eye(2), "features/density": np.ones(3)}
    writer.produced("dictionaries", "d-1", {"config": {"k": 3}}, arrays)
    ((section, id, attributes, found),) = recording.things()
    assert (section, id, attributes) == ("dictionaries", "d-1", {"config": {"k": 3}})
    assert {name: array.tolist() for name, array in found.items()} == {k: v.tolist() for k, v in arrays.items()}
    assert recording.thing_array_names("dictionaries", "d-1") == ["W_enc", "features/density"]
    assert recording.thing_array("dictionaries", "d-1", "features/density").tolist() == [1, 1, 1]
    with pytest.raises(RecordingError, match="id of a thing"):
        writer.produced("models", "Not An Id", {}, {})

    def die(path: Path, content: bytes, **more: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_bytes", die)
    with pytest.raises(KeyboardInterrupt):
        writer.produced("models", "half", {}, {"W": np.eye(2)})
    assert [id for _, id, _, _ in recording.things()] == ["d-1"]


def test_a_checkpoint_is_replaced_as_a_whole_and_rewinding_goes_back_to_it(
    writer: RecordingWriter, recording: Recording
) -> None:
    assert recording.checkpoint() is None
    for number in range(3):
        writer.metrics({"loss": (number, 0, 0)})
        writer.checkpoint(Checkpoint({"step": number}, {"w": np.full(4, number)}))
    writer.metrics({"loss": (99, 0, 0), "late": (99, 0, 0)})
    writer.flush()
    found = recording.checkpoint()
    assert found is not None
    assert found.values == {"step": 2}
    assert found.arrays["w"].tolist() == [2, 2, 2, 2]
    assert [path.name for path in writer.folder.glob("checkpoint-*")] == ["checkpoint-3"]
    RecordingWriter(writer.folder, recording.record()).rewind()
    assert recording.metric("loss")[:, 0].tolist() == [0, 1, 2]
    assert len(recording.metric("late")) == 0


@pytest.mark.parametrize("write", [1, 2, 3, 4])
def test_a_failure_at_any_write_of_a_checkpoint_leaves_the_one_before(
    writer: RecordingWriter, recording: Recording, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    writer.checkpoint(Checkpoint({"step": 1}, {"a": np.ones(2), "b": np.ones(2)}))
    replace, count = os.replace, [0]

    def refuse(*names: Any) -> None:
        count[0] += 1
        if count[0] == write:
            raise OSError(errno.ENOSPC, "full")
        replace(*names)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", refuse)
        with pytest.raises(DiskError):
            writer.checkpoint(Checkpoint({"step": 2}, {"a": np.zeros(2), "b": np.zeros(2)}))
    found = recording.checkpoint()
    assert found is not None
    assert found.values == {"step": 1}
    assert found.arrays["b"].tolist() == [1, 1]


def test_a_record_from_elsewhere_cannot_lead_to_another_folder(writer: RecordingWriter, recording: Recording) -> None:
    write_record(writer.folder, RunRecord("run-1", "sample", {}, checkpoint="../../etc"))
    with pytest.raises(ValueError, match="not the name of a checkpoint"):
        recording.checkpoint()


def test_nothing_pickled_is_ever_loaded(writer: RecordingWriter, recording: Recording) -> None:
    (writer.folder / "kept").mkdir()
    with open(writer.folder / "kept" / "x.npy", "wb") as out:
        np.lib.format.write_array(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"[Pp]ickle|Python objects"):
        recording.kept("x")


WRITE = """
import itertools, sys
from pathlib import Path
import numpy as np
from engine.figures.kinds import Axis, Lines
from engine.runs.recording import RecordingWriter, RunRecord
from engine.runs.run import Checkpoint
writer = RecordingWriter(Path(sys.argv[1]), RunRecord("run-1", "sample", {}))
for n in itertools.count():
    for k in range(50):
        writer.metrics({"loss": (n * 50 + k, n * 50 + k, 0.0)})
    writer.flush()
    x = np.full(3000, float(n))
    writer.figure("f", Lines(title=str(n), x_axis=Axis("x"), y_axis=Axis("y"), series=("a",), x=x, y=x))
    writer.kept("x", x, {})
    writer.checkpoint(Checkpoint({"n": n}, {"x": x}))
    writer.fact("n", n)
    writer.log("info", str(n))
    print(n, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("after", [1, 3, 6, 10])
def test_a_kill_at_any_moment_leaves_a_recording_that_agrees_with_itself(tmp_path: Path, after: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(tmp_path / "run-1")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(after):
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    recording = Recording(tmp_path / "run-1")
    rows = recording.metric("loss")
    assert np.array_equal(rows[:, 0], np.arange(len(rows)))
    assert np.array_equal(rows[:, 1], rows[:, 0])
    assert len(rows) >= 50 * (last + 1)
    found = recording.figure("f")
    assert isinstance(found, Lines)
    assert set(found.y.ravel()) == {float(found.title)}
    assert len(set(recording.kept("x"))) == 1
    checkpoint = recording.checkpoint()
    assert checkpoint is not None
    assert set(checkpoint.arrays["x"]) == {checkpoint.values["n"]}
    assert checkpoint.values["n"] >= last
    assert [int(line["text"]) for line in recording.log()] == list(range(len(recording.log())))
    assert recording.record().facts["n"] >= last


def test_figures_are_named_in_the_order_in_which_they_were_first_shown(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path, RunRecord("a-1", "a", {}))
    for name in ("second in the alphabet", "first in it", "second in the alphabet", "another"):
        writer.figure(name, figure(name))
    assert Recording(tmp_path).figure_names() == ["second in the alphabet", "first in it", "another"]
