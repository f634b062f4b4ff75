"""Opening reads the tree, not the arrays; migration works on a copy."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from engine.session import Session, SessionError, StoredArray, migration
from tests.engine.session.making import equal, lines, saved

ROOT = Path(__file__).resolve().parents[3]
GIB = 2**30
READS = """
import json, os, sys
from engine.session import Session
import h5py
def bytes_read():
    return int(dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())["rchar"])
from engine.session import probing
probing.probe = lambda path: None
before = bytes_read()
session = Session.open(sys.argv[1])
tree = [[run.id, session.metric_names(run.id), session.figure_names(run.id), session.kept_names(run.id)]
        for run in session.runs()]
things = [thing.id for thing in session.things("activations")]
arrays = [session.kept("pca-spectrum-1", "huge"), session.thing_array("activations", "acts-1", "data")]
shapes = [list(array.shape) for array in arrays]
after = bytes_read()
last = float(arrays[0][-1, -1])
session.close()
print(json.dumps([after - before, tree, things, shapes, last]))
"""


@pytest.fixture
def ten_gigabytes(tmp_path: Path) -> Path:
    """A session of 10 GB that takes little of the disk: the arrays are holes in the file."""
    path = saved(tmp_path / "a.superscope", figures={"f": lines()})
    with h5py.File(path, "r+") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        for where in ("runs/pca-spectrum-1/kept/huge", "activations/acts-1/data"):
            group = file.require_group(where.rpartition("/")[0])
            space = h5py.h5s.create_simple((5 * GIB // 4 // 1024, 1024))
            h5py.h5d.create(group.id, where.rpartition("/")[2].encode(), h5py.h5t.NATIVE_FLOAT, space, dcpl=plan)
    assert path.stat().st_size > 10 * GIB
    if path.stat().st_blocks * 512 > GIB:
        pytest.skip("this file system has no sparse files")
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts bytes in /proc/self/io")
def test_opening_ten_gigabytes_reads_less_than_two_megabytes(ten_gigabytes: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", READS, str(ten_gigabytes)], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    import json

    read, tree, things, shapes, last = json.loads(shown.stdout)
    assert read < 2_000_000
    assert tree == [["pca-spectrum-1", ["loss"], ["f"], ["huge"]]]
    assert things == ["acts-1"]
    assert shapes == [[5 * GIB // 4 // 1024, 1024]] * 2
    assert last == 0.0


def test_a_packed_array_is_read_only_where_it_is_indexed(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.superscope")
    array = np.random.default_rng(0).integers(0, 9, (4000, 64))
    with h5py.File(path, "r+") as file:
        file["runs/pca-spectrum-1/kept"].create_dataset("x", data=array, chunks=(1000, 64), compression="gzip")
    with Session.open(path) as session:
        found = session.kept("pca-spectrum-1", "x")
        assert isinstance(found, StoredArray)
        assert (found.shape, found.ndim, found.size, len(found)) == ((4000, 64), 2, 256_000, 4000)
        assert found.nbytes == array.nbytes
        assert equal(found[17:20, ::3], array[17:20, ::3])
        assert equal(np.asarray(found), array)
        assert np.asarray(found, dtype=np.float32).dtype == np.float32


@pytest.fixture
def version_0(tmp_path: Path) -> Path:
    """What an older layout might have been: metrics lay in one table."""
    path = tmp_path / "old.superscope"
    with h5py.File(path, "w") as file:
        file.attrs.update(format="superscope-session", version=0, title="Old")
        run = file.create_group("runs/pca-spectrum-1")
        run.attrs.update(experiment="pca-spectrum", parameters="{}", state="finished")
        run["table"] = np.arange(6.0).reshape(2, 3)
    return path


def tables_to_metrics(file: Any) -> None:
    for run in file["runs"].values():
        run.move("table", "metrics/loss")


def test_an_old_session_is_brought_up_to_date_in_a_copy_and_saved_in_the_present_layout(
    version_0: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = version_0.read_bytes()
    with pytest.raises(SessionError, match="layout version 0, which this Superscope"):
        Session.open(version_0)
    monkeypatch.setitem(migration.MIGRATORS, 0, tables_to_metrics)
    with Session.open(version_0) as session:
        assert not session.unsaved
        assert session.file_state == "unchanged"
        assert session.metric("pca-spectrum-1", "loss").tolist() == [[0, 1, 2], [3, 4, 5]]
        assert version_0.read_bytes() == content
        session.save().wait()
        assert session.metric("pca-spectrum-1", "loss").tolist() == [[0, 1, 2], [3, 4, 5]]
    with h5py.File(version_0) as file:
        assert file.attrs["version"] == 1
        assert "table" not in file["runs/pca-spectrum-1"]


def test_a_migration_that_fails_leaves_the_file_and_no_copy(
    version_0: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(version_0.read_bytes()).digest()

    def fail(file: Any) -> None:
        del file["runs"]
        raise KeyError("table")

    monkeypatch.setitem(migration.MIGRATORS, 0, fail)
    with pytest.raises(SessionError, match="could not be brought up to date"):
        Session.open(version_0)
    assert hashlib.sha256(version_0.read_bytes()).digest() == digest
    assert os.listdir(home / "cache" / "migrated") == []
