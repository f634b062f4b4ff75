"""Activation stores: what is written comes back, a person's matrix is read as it is, and bad numbers are named."""

from __future__ import annotations

import errno
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import files
from engine.models import store
from engine.models.errors import ModelError
from engine.models.store import ActivationStore, write_store


def matrix(rows: int = 50, width: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=30.0, size=(rows, width)).astype(np.float32)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", lambda values: values),
        ("float16", lambda values: values.astype(np.float16).astype(np.float32)),
        ("bfloat16", lambda values: torch.from_numpy(values).bfloat16().float().numpy()),
    ],
)
def test_what_is_written_in_batches_comes_back_in_its_number_format(tmp_path: Path, dtype: str, expected) -> None:
    values = matrix()
    path = tmp_path / "store.h5"
    batches = (torch.from_numpy(values[start : start + 7]) for start in range(0, 50, 7))
    written = write_store(path, batches, width=6, dtype=dtype, attributes={"model": "demo", "hooks": ["a", "b"]})  # type: ignore[arg-type]
    assert written == 50
    with ActivationStore.open(path) as opened:
        assert (opened.shape, opened.dtype, len(opened), opened.width) == ((50, 6), dtype, 50, 6)
        assert opened.attributes == {"model": "demo", "hooks": '["a", "b"]'}
        assert np.array_equal(opened.rows(slice(None)), expected(values))
        assert np.array_equal(opened.rows(slice(13, 29)), expected(values)[13:29])
        assert np.array_equal(np.concatenate([block for _, block in opened.blocks(8)]), expected(values))
    with h5py.File(path) as plain:
        assert plain["data"].chunks == (store.CHUNK_ROWS, 6)
        assert plain["data"].compression is None


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_bfloat16_is_rounded_as_torch_rounds_it(values: list[float]) -> None:
    block = np.array([values], dtype=np.float32)
    expected = torch.from_numpy(block).bfloat16().float().numpy()
    found = store._as_float32(store.to_store(block, len(values), "bfloat16", 0), "bfloat16")
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["npy", "npy-fortran", "npy-float64", "safetensors", "safetensors-bf16", "h5"])
def test_a_persons_own_matrix_is_read_as_it_is(tmp_path: Path, kind: str) -> None:
    values = expected = matrix()
    path = tmp_path / f"mine.{kind.partition('-')[0]}"
    if kind == "npy":
        np.save(path, values)
    elif kind == "npy-fortran":
        np.save(path, np.asfortranarray(values))
    elif kind == "npy-float64":
        np.save(path, values.astype(np.float64))
    elif kind == "safetensors":
        safetensors.numpy.save_file({"acts": values, "labels": np.arange(50)}, path)
    elif kind == "safetensors-bf16":
        half = torch.from_numpy(values).bfloat16()
        safetensors.torch.save_file({"other": torch.zeros(2, 2), "activations": half}, path)
        expected = half.float().numpy()
    else:
        with h5py.File(path, "w") as file:
            file["acts"] = values
            file["names"] = np.arange(3)
    with ActivationStore.open(path) as opened:
        assert opened.shape == (50, 6)
        assert np.array_equal(opened.rows(slice(0, 50)), expected)
        assert opened.rows(slice(0, 2)).dtype == np.float32


def test_a_row_that_is_not_finite_is_named_when_it_is_read(tmp_path: Path) -> None:
    values = matrix()
    values[31, 2] = np.nan
    np.save(tmp_path / "mine.npy", values)
    opened = ActivationStore.open(tmp_path / "mine.npy")
    assert opened.rows(slice(0, 31)).shape == (31, 6)
    with pytest.raises(ModelError, match=r"mine\.npy has a value in row 31"):
        opened.rows(slice(20, 40))


def test_what_is_no_matrix_of_floats_is_refused_by_name(tmp_path: Path) -> None:
    cases = {
        "three.npy": np.zeros((2, 3, 4), np.float32),
        "ints.npy": np.zeros((2, 3), np.int64),
        "none.npy": np.zeros((0, 3), np.float32),
    }
    for name, values in cases.items():
        np.save(tmp_path / name, values)
    for name, said in (("three.npy", "two dimensions"), ("ints.npy", "int64"), ("none.npy", "is empty")):
        with pytest.raises(ModelError, match=said):
            ActivationStore.open(tmp_path / name)
    with pytest.raises(ModelError, match="There is no file"):
        ActivationStore.open(tmp_path / "absent.npy")
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ModelError, match=r"choose a \.npy, \.safetensors or \.h5 file"):
        ActivationStore.open(tmp_path / "x.csv")
    for name in ("x.npy", "x.h5", "x.safetensors"):
        (tmp_path / name).write_bytes(b"no such thing at all")
        with pytest.raises(ModelError, match="cannot be read"):
            ActivationStore.open(tmp_path / name)


def test_pickles_inside_npy_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match="cannot be read"):
        ActivationStore.open(tmp_path / "evil.npy")


def test_several_matrices_without_a_usual_name_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b"] = matrix(), matrix()
    with pytest.raises(ModelError, match=r"holds 2 of them \(a, b\); name it data"):
        ActivationStore.open(tmp_path / "two.h5")


def test_numbers_in_other_files_are_not_followed(tmp_path: Path) -> None:
    write_store(tmp_path / "real.h5", [matrix()], width=6)
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["data"] = h5py.ExternalLink("real.h5", "/data")
    with pytest.raises(ModelError, match="holds none"):
        ActivationStore.open(tmp_path / "linked.h5")
    layout = h5py.VirtualLayout((50, 6), "f2")
    layout[:] = h5py.VirtualSource(tmp_path / "real.h5", "data", (50, 6))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    with pytest.raises(ModelError, match="in other files"):
        ActivationStore.open(tmp_path / "virtual.h5")


@pytest.mark.parametrize(
    ("batch", "dtype", "said"),
    [
        (np.full((2, 6), np.nan, np.float32), "float16", "Activation 50 has a value"),
        (np.full((2, 6), 70_000, np.float32), "float16", "70,000 is too large for float16"),
        (np.zeros((2, 5), np.float32), "float32", r"shape \(2, 5\) instead of \(n, 6\)"),
        (np.zeros((2, 6), np.float32), "int8", "int8 is no number format"),
    ],
)
def test_what_cannot_be_stored_is_said_and_leaves_the_old_store(tmp_path: Path, batch, dtype, said) -> None:
    path = tmp_path / "stores" / "store.h5"
    write_store(path, [matrix(3)], width=6)
    before = path.read_bytes()
    with pytest.raises(ModelError, match=said):
        write_store(path, [matrix(), batch], width=6, dtype=dtype)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["store.h5"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_leaves_the_old_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "stores" / "store.h5"
    write_store(path, [matrix(3)], width=6)
    before = path.read_bytes()

    def fail(self: h5py.Dataset, *args: object) -> None:
        raise OSError(f"Can't write data (file write failed: errno = {code}, error message = 'x')")

    monkeypatch.setattr(h5py.Dataset, "__setitem__", fail)
    with pytest.raises(files.DiskError, match=r"full|cannot be written to"):
        write_store(path, [matrix()], width=6)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["store.h5"]
