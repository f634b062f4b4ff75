"""Capture beside training, through the whole experiment: nothing computed differs, nothing is left running."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from engine import api
from engine.dictionaries import buffer, sources
from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording
from engine.runs.sinks import NullSink

HOOK = "blocks.0.hook_resid_post"
EXACT = ("loss", "fvu", "l0", "dead")


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


@pytest.fixture
def values(tiny_hf, tmp_path, monkeypatch):
    """A run that begins with a small part of a text of some 90 contexts."""
    monkeypatch.setattr(buffer, "FIRST_BATCHES", 4)
    monkeypatch.setattr(buffer, "FIRST_LEAST", 0)
    words = np.random.default_rng(3).choice(["fox", "dog", "canal", "man", "plan", "lazy"], size=1_600)
    (tmp_path / "words.txt").write_text(" ".join(words))
    return {
        "model": str(tiny_hf), "text": str(tmp_path / "words.txt"), "hook": HOOK, "tokens": 3_000, "context": 32,
        "width": 64, "k": 4, "batch": 64, "steps": 60, "held_out": 4, "device": "cpu", "threads": 1,
    }  # fmt: skip


def started(folder, values, *sinks, control=None, resume=False):
    experiment = find("train-dictionary")
    return execute(experiment, check(experiment.parameters, values), folder, sinks, control, resume)


def curves(recording):
    return {name: recording.metric(name)[:, :2].tolist() for name in EXACT}


@pytest.mark.parametrize("held", [800, 250_000])
def test_overlap_changes_no_bit(values, held):
    runs = [api.run("train-dictionary", **values, buffer=held, overlap=overlap) for overlap in (False, True)]
    for name in EXACT:
        np.testing.assert_array_equal(runs[0].metrics[name][:, :2], runs[1].metrics[name][:, :2])


@pytest.mark.parametrize("stop", [3, 20, 45])
@pytest.mark.parametrize("held", [800, 250_000])
def test_a_run_stopped_while_the_text_still_comes_in_goes_on_bit_for_bit(tmp_path, values, held, stop):
    values = values | {"buffer": held}
    started(tmp_path / "whole" / "run-1", values)
    control = Control()

    class Stop(NullSink):
        def metrics(self, rows):
            if rows.get("loss", (0,))[0] == stop:
                control.stop()

    folder = tmp_path / "cut" / "run-1"
    assert started(folder, values, Stop(), control=control).state == "stopped"
    assert started(folder, values | {"overlap": False}, resume=True).state == "finished"
    assert curves(Recording(folder)) == curves(Recording(tmp_path / "whole" / "run-1"))


def test_training_begins_before_the_text_has_been_read_and_reads_no_more_than_it_needs(tmp_path, values, monkeypatch):
    seen, at_first = [], []
    capture = sources.capture

    def counting(model, ids, hooks, **options):
        seen.append(len(ids))
        return capture(model, ids, hooks, **options)

    class First(NullSink):
        def metrics(self, rows):
            if rows.get("loss", (0,))[0] == 1:
                at_first.append(sum(seen))

    monkeypatch.setattr(sources, "capture", counting)
    record = started(tmp_path / "run-1", values | {"overlap": False, "steps": 12}, First())
    contexts = record.facts["text"]["contexts"] - record.facts["held_out_contexts"]
    assert record.facts["buffer"]["whole_text"]
    assert at_first[0] < contexts / 3
    # 11 steps of 64 are drawn before the last batch; two come in for each, in chunks of 8 contexts of 31 tokens.
    first = record.facts["activations_in_text"] // 8
    assert sum(seen) * 31 == pytest.approx(first + 2 * 11 * 64, abs=2 * 8 * 31)
    assert sum(seen) < contexts


def test_an_error_of_the_capture_is_the_runs_own_sentence(tmp_path, values, monkeypatch):
    capture = sources.capture
    calls = []

    def broken(model, ids, hooks, **options):
        calls.append(threading.current_thread().name)
        for part, found in capture(model, ids, hooks, **options):
            if len(calls) == 5:
                found[HOOK][:] = float("nan")
            yield part, found

    monkeypatch.setattr(sources, "capture", broken)
    record = started(tmp_path / "run-1", values)
    assert set(calls) == {"capture ahead"}
    assert record.state == "failed"
    assert record.error.startswith(f"The activation of {HOOK} holds NaN at the token “")
    assert Recording(tmp_path / "run-1").metric("loss")[:, 0].size > 0  # it came at its place, after the first steps


def test_a_crash_of_the_trainer_ends_the_capture(tmp_path, values, monkeypatch):
    from engine.dictionaries.trainer import Trainer

    step = Trainer.step

    def crash(self, *batch):
        if self.done == 3:
            raise MemoryError
        return step(self, *batch)

    monkeypatch.setattr(Trainer, "step", crash)
    assert started(tmp_path / "run-1", values).state == "failed"
