"""A sweep reads the model once; what is shared is the same bits as what each run would have captured itself."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch

from engine import api
from engine.dictionaries import sharing
from engine.dictionaries.buffer import Buffer
from engine.dictionaries.sharing import Kept, share
from engine.dictionaries.sources import ModelSource, hold_out
from engine.models.capture import capture
from engine.runs import sweeps
from engine.text.tokens import Contexts

HOOK = "blocks.0.hook_resid_post"
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    for sweep in list(sharing._passes):
        sweeps.ended(sweep)
    assert not sharing._passes


@pytest.fixture
def contexts(tiny):
    counted = RNG.random((40, 16)) < 0.9
    return Contexts(RNG.integers(3, tiny.facts.vocabulary, (40, 16)).astype(np.int32), counted)


@pytest.fixture
def passes(tiny, monkeypatch):
    """Contexts that the model reads, by forward pass."""
    from engine.dictionaries import sources

    seen = []
    next(capture(tiny, np.ones((1, 8), dtype=np.int64), [HOOK]))  # a hook point's first read is checked, by two more

    def counting(model, ids, hooks, **options):
        for part, found in capture(model, ids, hooks, **options):
            seen.append(len(ids[part]))
            yield part, found

    monkeypatch.setattr(sources, "capture", counting)
    return seen


def drawn(source, *, capacity, batches=60, overlap=True, seed=0, batch=16):
    """What a run of the sweep trains on."""
    with Buffer(
        source, capacity, batch=batch, seed=seed, overlap=overlap, without=hold_out(source.counts, 4, seed)
    ) as buffer:
        found = []
        for _ in range(batches):
            while buffer.hungry:
                buffer.feed()
            found.append(buffer.draw(batch)[0])
    return torch.stack(found)


@pytest.mark.parametrize("capacity", [120, 10_000])
def test_a_sweep_of_three_reads_the_model_once_and_trains_on_the_same_bits(tiny, contexts, passes, capacity):
    alone = drawn(share(ModelSource(tiny, contexts, HOOK), ""), capacity=capacity)
    each = len(passes)
    passes.clear()
    together = [drawn(share(ModelSource(tiny, contexts, HOOK), "k"), capacity=capacity) for _ in range(3)]
    assert sum(passes) == 36  # 40 contexts, 4 held out, each once
    assert len(passes) <= each
    assert all(torch.equal(one, alone) for one in together)


def test_runs_that_need_more_of_the_text_add_to_what_is_shared(tiny, contexts, passes):
    source = share(ModelSource(tiny, contexts, HOOK), "steps")
    short = drawn(source, capacity=120, batches=2, overlap=False)
    before = sum(passes)
    assert before < 36
    long = drawn(share(ModelSource(tiny, contexts, HOOK), "steps"), capacity=120, overlap=False)
    assert sum(passes) == 36
    assert torch.equal(long[:2], short)


def test_a_sweep_of_experiments_reads_the_model_once_and_trains_each_as_it_would_alone(tiny_hf, tmp_path, passes):
    words = np.random.default_rng(3).choice(["fox", "dog", "canal", "man", "plan", "lazy"], size=700)
    (tmp_path / "words.txt").write_text(" ".join(words))
    values = {
        "model": str(tiny_hf), "text": str(tmp_path / "words.txt"), "hook": HOOK, "tokens": 1_200, "context": 32,
        "width": 64, "batch": 32, "steps": 40, "held_out": 4, "device": "cpu", "threads": 1, "buffer": 600,
    }  # fmt: skip
    alone = api.run("train-dictionary", k=6, **values)
    contexts = alone.facts["text"]["contexts"] - alone.facts["held_out_contexts"]
    assert sum(passes) > contexts  # the buffer is smaller than the text, so it is read again
    passes.clear()
    family = api.sweep("train-dictionary", k=[4, 6, 8], **values)
    assert sum(passes) == contexts
    assert [one.parameters["k"] for one in family] == [4, 6, 8]
    assert len({one.sweep for one in family}) == 1
    np.testing.assert_array_equal(family[1].metrics["loss"][:, :2], alone.metrics["loss"][:, :2])
    assert not sharing._passes


@pytest.mark.parametrize("bound", [0, 5_000, 10**9])
def test_what_memory_has_no_room_for_comes_back_from_the_file_bit_for_bit(tmp_path, bound):
    kept = Kept(bound, tmp_path / "place")
    pairs = {n: (torch.randn(n + 1, 7), torch.randn(n + 1, 3) if n % 2 else None) for n in range(20)}
    for name, pair in pairs.items():
        kept.put(name, pair)
        kept.put(name, (torch.zeros(1, 7), None))  # the first stays
    size = sum(t.numel() * 4 for pair in pairs.values() for t in pair if t is not None)
    assert kept.held <= bound
    assert kept.held + kept.written == size
    assert list((tmp_path / "place").glob("*")) == []
    for name, (x, y) in pairs.items():
        again = kept.get(name)
        assert torch.equal(again[0], x)
        assert again[1] is None if y is None else torch.equal(again[1], y)
    kept.close()
    assert kept.get(3) is None
    kept.put(3, pairs[3])
    assert kept.held == kept.written == 0


def test_a_disk_without_room_costs_another_capture_and_nothing_else(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    kept = Kept(0, tmp_path)
    monkeypatch.setattr(sharing.shutil, "disk_usage", lambda folder: usage(sharing.DISK_LEFT + 100))
    kept.put("small", (torch.zeros(5, 5), None))
    kept.put("large", (torch.zeros(6, 5), None))
    assert kept.get("small") is not None
    assert kept.get("large") is None
    (tmp_path / "file").touch()
    nowhere = Kept(0, tmp_path / "file")
    nowhere.put("small", (torch.zeros(5, 5), None))
    assert nowhere.get("small") is None
    kept.close()


@pytest.mark.parametrize("what", ["text", "counted", "hook", "threads"])
def test_another_source_shares_nothing(tiny, contexts, passes, what):
    share(ModelSource(tiny, contexts, HOOK), "k").harvest(np.arange(8))
    ids, counted, hook = np.array(contexts.ids), np.array(contexts.counted), HOOK
    if what == "text":
        ids[39, 15] = 3 if ids[39, 15] != 3 else 4
    elif what == "counted":
        counted[39, 15] ^= True
    elif what == "hook":
        hook = "blocks.0.hook_resid_pre"
    else:
        torch.set_num_threads(2)
    source = share(ModelSource(tiny, Contexts(ids, counted), hook), "k")
    before = len(passes)
    source.harvest(np.arange(8))
    assert len(passes) == before + 1
    source.harvest(np.arange(8))
    assert len(passes) == before + 1


def test_it_is_let_go_at_the_end_of_the_sweep_and_when_another_begins(tiny, contexts):
    source = ModelSource(tiny, contexts, HOOK)
    share(source, "first").harvest(np.arange(8))
    first = sharing._passes["first"]
    assert first.held == int(source.counts[:8].sum()) * 32 * 4
    running = share(source, "first")
    share(source, "second")
    assert list(sharing._passes) == ["second"]
    assert first.held == 0
    running.harvest(np.arange(8))  # a run that still goes on captures for itself
    assert first.held == 0
    sweeps.ended("second")
    assert not sharing._passes
