"""Sources of activations: a model at one hook point or two, and matrices on disk, each with its bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.sources import (
    BLOCK,
    ModelSource,
    StoredSource,
    constant_dimensions,
    demand_variation,
    hold_out,
    open_stored,
)
from engine.models.errors import ModelError
from engine.models.store import ActivationStore, write_store
from engine.runs.recording import RecordingWriter, RunRecord
from engine.session import SessionError
from engine.session.work import WorkFolder
from engine.text.tokens import Contexts

HOOK_IN, HOOK_OUT = "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"
RNG = np.random.default_rng(0)


def text(model, contexts=11, length=16):
    rng = np.random.default_rng(1)
    counted = rng.random((contexts, length)) < 0.8
    counted[:, 0] = False
    return Contexts(rng.integers(3, model.facts.vocabulary, (contexts, length)).astype(np.int32), counted)


def watched(model, hook):
    """What TransformerLens' own cache has at ``hook``, context by context."""

    def of(contexts):
        rows = []
        for ids, counted in zip(contexts.ids, contexts.counted, strict=True):
            with torch.no_grad():
                _, cache = model.bridge.run_with_cache(torch.from_numpy(ids.astype(np.int64))[None])
            rows.append(cache[model.hook_point(hook).canonical][0].flatten(1)[torch.from_numpy(counted)])
        return rows

    return of


def test_a_model_gives_the_counted_activations_of_the_contexts_asked_for(tiny):
    contexts = text(tiny)
    source = ModelSource(tiny, contexts, "blocks.0.hook_resid_post")
    expected = watched(tiny, "blocks.0.hook_resid_post")(contexts)
    assert source.counts.tolist() == [len(rows) for rows in expected]
    assert (source.d_in, source.d_out, source.paired) == (32, 32, False)
    which = np.asarray([0, 2, 3, 5, 6, 7, 8, 9, 10])
    x, y = source.harvest(which)
    assert y is None
    torch.testing.assert_close(x, torch.cat([expected[one] for one in which]), rtol=1e-4, atol=1e-5)


def test_heads_are_flattened(tiny):
    source = ModelSource(tiny, text(tiny), "blocks.0.attn.hook_z")
    assert source.d_in == 32
    assert source.harvest(np.arange(2))[0].shape[1] == 32


def test_a_transcoder_reads_both_hook_points_in_one_pass(tiny, monkeypatch):
    contexts = text(tiny)
    source = ModelSource(tiny, contexts, HOOK_IN, HOOK_OUT)
    assert source.paired
    source.harvest(np.arange(2))  # the first read of a hook point is compared with TransformerLens'
    passes = []
    read = type(tiny.plain).read
    monkeypatch.setattr(type(tiny.plain), "read", lambda *given: passes.append(1) or read(*given))
    x, y = source.harvest(np.arange(8))
    assert len(passes) == 1
    for found, hook in ((x, HOOK_IN), (y, HOOK_OUT)):
        torch.testing.assert_close(found, torch.cat(watched(tiny, hook)(contexts)[:8]), rtol=1e-4, atol=1e-5)


def test_a_missing_hook_point_is_refused_at_once(tiny):
    with pytest.raises(ModelError, match=r"blocks\.0\.hook_resid_post"):
        ModelSource(tiny, text(tiny), HOOK_IN, "blocks.0.hook_resid_pots")


@pytest.mark.parametrize(("hook", "value", "word"), [(HOOK_IN, np.nan, "NaN"), (HOOK_OUT, np.inf, "infinity")])
def test_an_activation_that_is_not_finite_names_hook_and_token(tiny, monkeypatch, hook, value, word):
    from engine.dictionaries import sources

    contexts = text(tiny)
    position = int(np.flatnonzero(contexts.counted[6])[2])
    capture = sources.capture

    def broken(*arguments, **options):
        for part, found in capture(*arguments, **options):
            found[hook][2, position, 3] = value
            yield part, found

    monkeypatch.setattr(sources, "capture", broken)
    with pytest.raises(ModelError) as problem:
        ModelSource(tiny, contexts, HOOK_IN, HOOK_OUT).harvest(np.asarray([1, 4, 6]))
    token = tiny.tokenizer.decode([int(contexts.ids[6, position])])
    assert f"of {hook} holds {word} at the token “{token}”" in str(problem.value)
    assert f"position {position} of context 6" in str(problem.value)


# ---- stored


@pytest.fixture(params=[".npy", ".safetensors", ".h5", "bfloat16"])
def matrix(request, tmp_path):
    """A matrix of 3,000 × 5, exact in every format, and the file it lies in."""
    rows = RNG.integers(-9, 9, (3_000, 5)).astype(np.float32)
    path = tmp_path / f"mine{request.param if request.param.startswith('.') else '.h5'}"
    if request.param == ".npy":
        np.save(path, rows)
    elif request.param == ".safetensors":
        from safetensors.numpy import save_file

        save_file({"activations": rows}, path)
    else:
        write_store(path, [rows], width=5, dtype="float32" if request.param == ".h5" else "bfloat16")
    return rows, path


def test_a_persons_matrix_is_cut_into_blocks_of_rows(matrix):
    rows, path = matrix
    source = StoredSource(open_stored(str(path), None))
    assert source.counts.sum() == 3_000
    assert source.counts[0] == 3_000 // 64
    assert source.name == path.name
    which = np.asarray([0, 3, len(source.counts) - 1])
    cut = np.split(rows, np.cumsum(source.counts)[:-1])
    x, y = source.harvest(which)
    assert y is None
    np.testing.assert_array_equal(x, np.concatenate([cut[one] for one in which]))


def test_blocks_of_a_large_matrix_are_read_a_thousand_rows_at_a_time(tmp_path):
    np.save(tmp_path / "large.npy", np.zeros((100_000, 1), dtype=np.float16))
    source = StoredSource(ActivationStore.open(tmp_path / "large.npy"))
    assert source.counts[:-1].tolist() == [BLOCK] * 97
    assert source.counts[-1] == 100_000 - 97 * BLOCK


def test_two_matrices_serve_a_transcoder_row_by_row(tmp_path):
    a, b = RNG.normal(size=(100, 4)).astype(np.float32), RNG.normal(size=(100, 6)).astype(np.float32)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    source = StoredSource(*(open_stored(str(tmp_path / name), None) for name in ("a.npy", "b.npy")))
    assert (source.d_in, source.d_out, source.paired) == (4, 6, True)
    x, y = source.harvest(np.arange(len(source.counts)))
    np.testing.assert_array_equal(x, a)
    np.testing.assert_array_equal(y, b)
    np.save(tmp_path / "b.npy", b[:-1])
    with pytest.raises(DictionaryError, match=r"a\.npy has 100 activations and b\.npy 99"):
        StoredSource(*(open_stored(str(tmp_path / name), None) for name in ("a.npy", "b.npy")))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_stored_value_that_is_not_finite_names_the_row(tmp_path, value):
    rows = np.zeros((900, 3), dtype=np.float32)
    rows[777, 1] = value
    np.save(tmp_path / "bad.npy", rows)
    source = StoredSource(open_stored(str(tmp_path / "bad.npy"), None))
    with pytest.raises(ModelError, match=r"bad\.npy has a value in row 777 that is no finite number"):
        source.harvest(np.arange(len(source.counts)))


def test_a_set_of_the_session_is_found_by_its_id(tmp_path):
    work = WorkFolder(tmp_path / "work")
    rows = RNG.normal(size=(200, 3)).astype(np.float16)
    writer = RecordingWriter(work.path / "runs" / "keep-1", RunRecord("keep-1", "keep", {}))
    writer.produced("activations", "mlp-3", {"model": "demo"}, {"data": rows})
    bits = (np.arange(6, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16).reshape(3, 2)
    writer.produced("activations", "packed", {"dtype": "bfloat16"}, {"data": bits})
    writer.produced("activations", "wrong", {}, {"data": rows[0]})
    for name in ("mlp-3", "activations/mlp-3"):
        found = StoredSource(open_stored(name, work.path)).harvest(np.asarray([2]))[0]
        np.testing.assert_array_equal(found, rows[6:9].astype(np.float32))
    np.testing.assert_array_equal(open_stored("packed", work.path).rows(slice(None)), [[0, 1], [2, 3], [4, 5]])
    with pytest.raises(DictionaryError, match="holds no matrix"):
        open_stored("wrong", work.path)
    with pytest.raises(DictionaryError, match="neither a file mlp-4 nor activations"):
        open_stored("mlp-4", work.path)


def test_a_set_beside_the_session_file_is_read_there_and_nowhere_else(tmp_path):
    work = WorkFolder(tmp_path / "mine.superscope.work")
    (tmp_path / "mine.superscope").touch()
    writer = RecordingWriter(work.path / "runs" / "keep-1", RunRecord("keep-1", "keep", {}))
    work.write_info({"path": str(tmp_path / "mine.superscope")})
    write_store(tmp_path / "mine.superscope.data" / "big.h5", [np.ones((9, 2))], width=2, dtype="float32")
    writer.produced("activations", "big", {"path": "big.h5"}, {})
    writer.produced("activations", "outside", {"path": "../secret.h5"}, {})
    assert open_stored("big", work.path).shape == (9, 2)
    with pytest.raises(SessionError, match="outside the folder"):
        open_stored("outside", work.path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ModelError, match="There is no file"):
        open_stored(str(tmp_path / "none.npy"), tmp_path)
    with pytest.raises(ModelError, match="There is no file"):
        open_stored("mlp-3", None)


# ---- what is in them


def test_constant_dimensions_are_found_across_all_rows():
    rows = torch.randn(50, 6)
    rows[:, 1] = 3.0
    rows[:, 4] = -0.5
    rows[49, 4] = 0.5  # varies in the last row only
    assert constant_dimensions(rows.split(7)).tolist() == [1]
    said = demand_variation(rows.split(7), 6, "mine.npy")
    assert said.startswith("1 of the 6 dimensions of mine.npy are constant (1)")
    assert demand_variation([torch.randn(5, 3)], 3, "mine.npy") == ""
    with pytest.raises(DictionaryError, match=r"^All activations of mine\.npy are equal"):
        demand_variation([torch.ones(5, 3), torch.ones(2, 3)], 3, "mine.npy")


def test_a_fifth_of_the_contexts_is_held_out_at_most():
    counts = np.full(40, 3)
    assert len(hold_out(counts, 100, 0)) == 8
    found = hold_out(counts, 5, 0)
    assert len(set(found.tolist())) == 5
    assert found.tolist() == sorted(found.tolist()) == hold_out(counts, 5, 0).tolist()
    assert found.tolist() != hold_out(counts, 5, 1).tolist()
