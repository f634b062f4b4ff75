"""The experiment as a person runs it: trained, stopped, killed, paused, resumed, and refused with a sentence."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.dictionaries import material, sources, training
from engine.dictionaries.form import read
from engine.dictionaries.splice import evaluate
from engine.errors import ParameterError
from engine.figures import Histogram, Table
from engine.models.capture import capture
from engine.runs.control import Control
from engine.runs.parameters import check
from engine.runs.recording import Recording
from engine.runs.sinks import NullSink
from engine.text.corpora import open_corpus
from engine.text.tokens import contexts
from tests.engine.dictionaries.training_runs import (
    EXPERIMENT,
    HOOK,
    At,
    curves,
    dictionaries,
    finished,
    start,
    stored,
)

LIVE = ("auxiliary", "dead", "fvu", "l0", "loss", "lr", "passes", "rate", "reconstruction")


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the run may catch it."""


def test_a_run_trains_measures_and_keeps_a_dictionary(tmp_path, values, tiny):
    recording = finished(tmp_path / "train-dictionary-1", values)
    fvu = recording.metric("fvu")[:, 1]
    assert fvu[-1] < 0.5 * fvu[0]
    assert set(recording.metric_names()) <= set(EXPERIMENT.metrics)
    assert all(metric.definition for metric in EXPERIMENT.metrics.values())
    facts = recording.record().facts
    assert facts["held_out_contexts"] == 6
    assert facts["buffer"]["whole_text"]
    assert facts["passes"] == pytest.approx(90 * 64 / facts["activations_in_text"])
    assert isinstance(recording.figure("density"), Histogram)
    for name in ("ce", "quality"):
        table = recording.figure(name)
        assert isinstance(table, Table)
        assert "n = " in table.note
    kept = stored(recording)
    assert kept["attributes"]["finished"]
    dictionary = read(kept["attributes"], kept["arrays"])
    assert set(kept["attributes"]["config"]) == {
        "architecture", "d_in", "d_out", "width", "k", "centre", "activation", "hook_in", "hook_out", "model", "dtype",
        "scale",
    }  # fmt: skip
    assert (dictionary.config.hook_in, dictionary.config.k, dictionary.config.width) == (HOOK, 6, 96)
    torch.testing.assert_close(dictionary.W_dec.norm(dim=1), torch.ones(96))
    assert kept["arrays"]["features/density"].sum() == pytest.approx(recording.metric("l0_held_out")[-1, 1], rel=1e-5)
    held_out_metrics(recording, values, dictionary, tiny)


def held_out_metrics(recording, values, dictionary, tiny):
    """The final numbers are those of the kept dictionary on contexts that were not trained on."""
    found = contexts(open_corpus(values["text"]), tiny, tokens=3_000, context=32)
    counts = np.asarray(found.counted).sum(axis=1)
    chosen = sources.hold_out(counts, 6, 5)
    counts[chosen] = 0
    assert counts.sum() == recording.record().facts["activations_in_text"]
    trained = np.flatnonzero(counts)
    parts = [
        rows[HOOK][torch.from_numpy(found.counted[trained][part])]
        for part, rows in capture(tiny, found.ids[trained], [HOOK])
    ]
    mean = torch.cat(parts).double().mean(dim=0)
    again = evaluate(tiny, dictionary, found.ids[chosen], found.counted[chosen], mean)
    for name, value in (
        ("ce_recovered", again.recovery.ce_recovered),
        ("ce_recovered_mean", again.recovery.ce_recovered_mean),
        ("fvu_held_out", again.fit.fvu),
    ):
        [[step, logged, _]] = recording.metric(name)
        assert step == values["steps"]
        assert logged == pytest.approx(value, rel=1e-4)
    assert 0 < again.fit.fvu < 1
    assert recording.metric("l0")[-1, 1] == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize("buffer", [250_000, 600])
@pytest.mark.parametrize("stop", [1, 37, 89])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, values, buffer, stop):
    values |= {"buffer": buffer}
    whole = finished(tmp_path / "whole" / "run-1", values)
    control = Control()
    record = start(tmp_path / "cut" / "run-1", values, At(stop, control.stop), control=control)
    assert record.state == "stopped"
    partial = stored(Recording(tmp_path / "cut" / "run-1"))
    assert not partial["attributes"]["finished"]
    assert partial["attributes"]["steps"] == stop
    resumed = finished(tmp_path / "cut" / "run-1", values, resume=True)
    assert curves(resumed) == curves(whole)
    for name, array in stored(whole)["arrays"].items():
        np.testing.assert_array_equal(stored(resumed)["arrays"][name], array, err_msg=name)


@pytest.mark.parametrize("buffer", [250_000, 600])
def test_a_killed_run_goes_on_bit_for_bit_from_its_last_checkpoint(tmp_path, values, buffer, monkeypatch):
    values |= {"buffer": buffer, "checkpoint_every": 1.0}
    ticks = itertools.count()
    monkeypatch.setattr(training, "clock", lambda: next(ticks) / 20)  # a checkpoint each few steps, however fast
    whole = finished(tmp_path / "whole" / "run-1", values)

    class Die(NullSink):
        """Dies a few steps behind the second checkpoint, without a chance to store anything."""

        checkpoints = steps = 0

        def checkpoint(self, checkpoint: Any) -> None:
            self.checkpoints += 1

        def metrics(self, rows: Any) -> None:
            self.steps += "loss" in rows
            if self.steps > 50 and self.checkpoints >= 1:
                raise Killed

    folder = tmp_path / "cut" / "run-1"
    assert start(folder, values, Die()).state == "failed"
    assert dictionaries(folder) == []
    before = Recording(folder).record().checkpoint
    assert before
    resumed = finished(folder, values, resume=True)
    assert curves(resumed) == curves(whole)


CHILD = """
import json, sys
from pathlib import Path
from engine.runs.sinks import NullSink
from tests.engine.dictionaries.training_runs import start

class Tell(NullSink):
    def checkpoint(self, checkpoint):
        if "trainer" in checkpoint.values:
            print("stored", flush=True)

start(Path(sys.argv[1]), json.loads(sys.argv[2]), Tell())
"""


def test_a_process_killed_by_the_system_leaves_a_run_that_goes_on_bit_for_bit(tmp_path, values):
    values |= {"steps": 2_000, "checkpoint_every": 0.1}
    whole = finished(tmp_path / "whole" / "run-1", values)
    folder = tmp_path / "cut" / "run-1"
    command = [sys.executable, "-c", CHILD, str(folder), json.dumps(values)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "stored\n"
        child.kill()
    record = Recording(folder).record()
    assert record.state == "running"
    assert dictionaries(folder) == []
    resumed = finished(folder, values, resume=True)
    assert resumed.checkpoint() is None
    assert curves(resumed) == curves(whole)


def test_a_run_stopped_while_it_captures_goes_on(tmp_path, values, monkeypatch):
    whole = finished(tmp_path / "whole" / "run-1", values)
    control, folder, calls = Control(), tmp_path / "cut" / "run-1", []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:  # with more captured ahead
            control.stop()
        return capture(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sources, "capture", stopping)
        assert start(folder, values, control=control).state == "stopped"
    assert dictionaries(folder) == []
    assert len(Recording(folder).checkpoint().arrays["buffer-rows"]) > 0
    assert curves(finished(folder, values, resume=True)) == curves(whole)


def test_a_run_stopped_while_it_is_measured_goes_on_with_that(tmp_path, values, monkeypatch):
    whole = finished(tmp_path / "whole" / "run-1", values)
    control, folder = Control(), tmp_path / "cut" / "run-1"

    def stopping(*arguments):
        control.stop()
        return evaluate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(material, "evaluate", stopping)
        assert start(folder, values, control=control).state == "stopped"
    assert stored(Recording(folder))["attributes"]["steps"] == 90
    assert Recording(folder).metric_names() == sorted(LIVE)
    resumed = finished(folder, values, resume=True)
    assert curves(resumed) == curves(whole)
    for name in ("ce_recovered", "kl", "fvu_held_out"):
        assert resumed.metric(name)[:, :2].tolist() == whole.metric(name)[:, :2].tolist()


def test_pausing_stores_a_checkpoint_before_it_waits(tmp_path, values):
    control = Control()
    folder = tmp_path / "run-1"
    stored_while_paused = threading.Event()

    class Watch(NullSink):
        def checkpoint(self, checkpoint: Any) -> None:
            if control.paused:
                stored_while_paused.set()
                control.resume()

    record = start(folder, values, At(20, control.pause), Watch(), control=control)
    assert stored_while_paused.is_set()
    assert record.state == "finished", record.error


def test_special_tokens_train_only_when_asked(tmp_path, values):
    without = finished(tmp_path / "a" / "run-1", values | {"steps": 2}).record().facts["activations_in_text"]
    included = finished(tmp_path / "b" / "run-1", values | {"steps": 2, "include_special": True}).record().facts
    rows = included["text"]["contexts"] - included["held_out_contexts"]
    assert included["activations_in_text"] == without + rows  # one BOS in front of each context


def refused(tmp_path: Path, values: dict[str, Any]) -> str:
    record = start(tmp_path / "run-1", values)
    assert record.state == "failed"
    assert record.error.count("\n") == 0
    assert dictionaries(tmp_path / "run-1") == []
    return record.error


def test_k_beyond_the_width_is_refused_before_anything_is_opened(values):
    with pytest.raises(ParameterError, match=r"^k=100 is not allowed: it is more than the width of 96\.$"):
        check(EXPERIMENT.parameters, values | {"k": 100})


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("lr", 0), ("width", 1), ("buffer", 3), ("batch", 0)])
def test_parameters_out_of_bounds_are_named(values, name, value):
    with pytest.raises(ParameterError, match=rf"^{name}={value} is not allowed"):
        check(EXPERIMENT.parameters, values | {name: value})


def test_an_unknown_hook_point_is_refused_with_near_names(tmp_path, values):
    assert "blocks.0.hook_resid_post" in refused(tmp_path, values | {"hook": "blocks.0.hook_resid_pots"})


def test_a_width_that_does_not_fit_memory_is_refused_before_anything_is_allocated(tmp_path, values, monkeypatch):
    monkeypatch.setattr("engine.models.memory.available", lambda device="cpu": 600_000_000)
    error = refused(tmp_path, values | {"width": 1_000_000, "k": 4})
    assert error.startswith("Training 1,000,000 latents on 32 dimensions needs about 2.0 GB of memory, and 600 MB are")


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_activations_that_are_not_finite_name_the_token(tmp_path, values, tiny, monkeypatch, value, word):
    found = contexts(open_corpus(values["text"]), tiny, tokens=3_000, context=32)

    def broken(model, ids, hooks, **options):
        for part, rows in capture(model, ids, hooks, **options):
            if (ids[part] == found.ids[40]).all(axis=1).any():
                rows[HOOK][(ids[part] == found.ids[40]).all(axis=1), 7, 3] = value
            yield part, rows

    monkeypatch.setattr(sources, "capture", broken)
    token = tiny.tokenizer.decode([int(found.ids[40, 7])])
    error = refused(tmp_path, values | {"held_out": 0})
    assert f"holds {word} at the token “{token}”" in error
    assert "position 7 of context 40" in error


def test_constant_activations_are_refused(tmp_path, values, monkeypatch):
    def constant(model, ids, hooks, **options):
        for part, rows in capture(model, ids, hooks, **options):
            rows[HOOK][:] = 3.0
            yield part, rows

    monkeypatch.setattr(sources, "capture", constant)
    assert "are equal, so there is nothing to reconstruct" in refused(tmp_path, values)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path, values):
    control, folder = Control(), tmp_path / "run-1"
    start(folder, values, At(5, control.stop), control=control)
    record = start(folder, values | {"width": 128}, resume=True)
    assert record.state == "failed"
    assert "belongs to another dictionary" in record.error


@pytest.mark.real_model
def test_a_real_model_predicts_nearly_as_well_with_its_activations_rebuilt(tmp_path, smollm2):
    real = {"model": "smollm2", "text": "python-docs", "hook": "blocks.3.hook_resid_post", "tokens": 4_000}
    small = {"context": 64, "width": 1_152, "k": 64, "batch": 512, "steps": 60, "held_out": 4, "device": "cpu"}
    recording = finished(tmp_path / "run-1", real | small)
    assert recording.metric("fvu")[-1, 1] < 0.3 < recording.metric("fvu")[0, 1]
    assert recording.metric("ce_recovered")[-1, 1] > 0.8
    assert recording.metric("ce_recovered_mean")[-1, 1] < recording.metric("ce_recovered")[-1, 1]
    dictionary = read(stored(recording)["attributes"], stored(recording)["arrays"])
    assert dictionary.config.scale < 1  # activations are far longer than √576
