"""Figures and arrays through recording and file: the same, bit for bit."""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.figures.kinds import Figure, pack, unpack
from engine.runs.recording import Recording, RecordingWriter, RunRecord
from engine.session import Session, encoding
from tests.engine.figures.drawn import figures
from tests.engine.session.making import child_with, equal, record, saved

COUNTER = itertools.count()


def same(a: Figure, b: Figure) -> None:
    """Assert that two figures agree in kind, spec and, bit for bit, in their arrays."""
    (kind_a, spec_a, arrays_a), (kind_b, spec_b, arrays_b) = pack(a), pack(b)
    assert kind_a == kind_b
    assert repr(spec_a) == repr(spec_b)  # NaN in a spec is equal to itself here
    assert arrays_a.keys() == arrays_b.keys()
    for name, array in arrays_a.items():
        assert equal(array, arrays_b[name]), name


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(figure=figures())
def test_any_figure_comes_back_from_hdf5_bit_for_bit(figure: Figure, tmp_path: Path) -> None:
    kind, spec, arrays = pack(figure)
    with h5py.File(tmp_path / f"{next(COUNTER)}.h5", "w", driver="core", backing_store=False) as file:
        group = file.create_group("figure")
        encoding.put(group, {"kind": kind, "spec": spec})
        for name, array in arrays.items():
            encoding.put_array(group, name, array)
        stored = encoding.get(group)
        back = {name: encoding.read_array(group[name]) for name in encoding.array_names(group)}
    same(unpack(stored["kind"], stored["spec"], back), figure)


@settings(max_examples=60, deadline=None)
@given(figure=figures())
def test_any_figure_comes_back_from_its_recording_bit_for_bit(figure: Figure) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = RecordingWriter(Path(folder), RunRecord("a-1", "a", {}))
        writer.figure("f", figure)
        same(Recording(Path(folder)).figure("f"), figure)


@settings(max_examples=100, deadline=None)
@given(
    array=hnp.arrays(
        st.one_of(
            hnp.boolean_dtypes(),
            hnp.integer_dtypes(endianness="?"),
            hnp.unsigned_integer_dtypes(endianness="?"),
            hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
            hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
            hnp.unicode_string_dtypes(endianness="=", max_len=6),
        ),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_any_array_comes_back_from_hdf5_bit_for_bit(array: Any) -> None:
    with h5py.File(f"{next(COUNTER)}.h5", "w", driver="core", backing_store=False) as file:
        assert equal(encoding.read_array(encoding.put_array(file, "a", np.asarray(array))), array)


def test_arrays_of_every_size_and_order_come_back_from_a_saved_session(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    large = generator.standard_normal((1_500, 800))
    kept = {
        "large": large,  # moved by the kernel
        "half": large.astype(np.float16),
        "fortran": np.asfortranarray(large),
        "mask": large > 0,
        "complex": (large + 1j * large).astype(np.complex64),
        "middle": generator.integers(0, 2**63, 20_000, dtype=np.uint64),  # mapped when read
        "small": np.array([np.nan, np.inf, -0.0]),
        "empty": np.zeros((0, 7), np.int32),
        "scalar": np.float32(0.1),
        "words": np.array([["a", ""], ["ü\0x", "\ud83d"]]),
        "bytes": np.array([b"ab", b"\xff"]),
    }
    with Session.open(saved(tmp_path / "a.superscope", kept=kept)) as session:
        assert session.kept_names("pca-spectrum-1") == sorted(kept)
        for name, array in kept.items():
            assert equal(session.kept("pca-spectrum-1", name), np.asarray(array)), name
        assert isinstance(session.kept("pca-spectrum-1", "large"), np.memmap)
        assert session.kept_attributes("pca-spectrum-1", "large") == {"unit": "nats"}


def test_mapped_arrays_stay_valid_when_the_session_is_saved_again_and_closed(tmp_path: Path) -> None:
    array = np.random.default_rng(1).standard_normal(300_000)
    session = Session.open(saved(tmp_path / "a.superscope", kept={"x": array}))
    mapped = session.kept("pca-spectrum-1", "x")
    record(session, kept={"y": np.zeros(300_000)})
    session.save().wait()
    assert equal(session.kept("pca-spectrum-1", "x"), array)
    session.close()
    assert equal(mapped, array)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_many_large_arrays_need_no_more_files_than_a_process_may_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_with(
        monkeypatch,
        """
import resource
from engine.session import bulk
bulk.BULK = 1000
resource.setrlimit(resource.RLIMIT_NOFILE, (bulk.MOST + 50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
""",
    )
    kept = {f"a{i}": np.full(200, i, np.int64) for i in range(200)}
    with Session.open(saved(tmp_path / "a.superscope", kept=kept)) as session:
        for name in session.kept_names("pca-spectrum-1"):
            assert equal(session.kept("pca-spectrum-1", name), kept[name])


def test_a_disk_to_disk_copy_by_the_kernel_falls_back_to_reading_and_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_with(
        monkeypatch,
        """
import errno, os
def refuse(*arguments):
    raise OSError(errno.EXDEV, "two disks")
os.copy_file_range = refuse
""",
    )
    array = np.random.default_rng(2).standard_normal(5_000_000)
    with Session.open(saved(tmp_path / "a.superscope", kept={"x": array})) as session:
        assert equal(session.kept("pca-spectrum-1", "x"), array)
