"""What a person chooses: the architecture, stored activations, measuring on the way, and acting on a run that goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from engine.dictionaries.form import read
from engine.errors import ParameterError
from engine.figures import Heatmap, Histogram
from engine.runs.control import Control
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording
from engine.runs.run import Checkpoint
from engine.runs.sinks import NullSink
from tests.engine.dictionaries.training_runs import EXPERIMENT, At, curves, finished, start, stored

SELECTING = ("topk", "batchtopk", "matryoshka", "jumprelu", "transcoder", "skip-transcoder")
PAIR = {"hook_in": "blocks.1.mlp.hook_in", "hook_out": "blocks.1.hook_mlp_out"}


@pytest.mark.parametrize("architecture", [*SELECTING, "relu", "gated"])
def test_every_architecture_learns_and_goes_on_bit_for_bit(tmp_path, values, architecture):
    values |= PAIR | {"architecture": architecture, "steps": 120, "tokens": 2_000, "buffer": 900, "lr": 3e-3}
    whole = finished(tmp_path / "whole" / "run-1", values)
    fvu = whole.metric("fvu")[:, 1]
    assert fvu[-1] < 0.6 * fvu[0]
    kept = stored(whole)
    config = read(kept["attributes"], kept["arrays"]).config
    assert config.architecture == architecture
    assert (config.hook_in != config.hook_out) == architecture.endswith("transcoder")
    # The saved dictionary, which reads raw activations, is as good as the one that was trained on scaled ones.
    assert whole.metric("fvu_held_out")[-1, 1] < 1.6 * fvu[-1] + 0.05
    if architecture in SELECTING:
        assert whole.metric("l0_held_out")[-1, 1] == pytest.approx(6, rel=0.35)

    control, folder = Control(), tmp_path / "cut" / "run-1"
    assert start(folder, values, At(70, control.stop), control=control).state == "stopped"
    resumed = finished(folder, values, resume=True)
    assert curves(resumed) == curves(whole)
    for name, array in kept["arrays"].items():
        np.testing.assert_array_equal(stored(resumed)["arrays"][name], array, err_msg=name)


def matrix(path, rows, d, seed):
    """Sums of few of 2·d directions, and the matrix they are stored in."""
    rng = np.random.default_rng(seed)
    code = (rng.random((rows, 2 * d)) < 2 / d) * rng.random((rows, 2 * d))
    x = (code @ rng.normal(size=(2 * d, d)) + 1.0).astype(np.float32)
    np.save(path, x)
    return x


def test_stored_activations_need_no_model(tmp_path, values):
    x = matrix(tmp_path / "mine.npy", 4_000, 16, 0)
    values |= {"activations": str(tmp_path / "mine.npy"), "model": "nobody/nothing", "width": 48, "k": 3, "steps": 300}
    recording = finished(tmp_path / "run-1", values | {"lr": 3e-3})
    assert "ce_recovered" not in recording.metric_names()
    kept = stored(recording)
    dictionary = read(kept["attributes"], kept["arrays"])
    assert (dictionary.config.d_in, dictionary.config.hook_in) == (16, "mine.npy")
    every = torch.from_numpy(x)
    error = (dictionary(every) - every).square().sum() / (every - every.mean(dim=0)).square().sum()
    assert float(error) < 0.25
    assert recording.metric("fvu_held_out")[-1, 1] == pytest.approx(float(error), rel=0.25)


def test_a_transcoder_reads_one_stored_matrix_and_rebuilds_the_other(tmp_path, values):
    x = matrix(tmp_path / "in.npy", 2_000, 12, 1)
    np.save(tmp_path / "out.npy", np.maximum(x @ np.random.default_rng(2).normal(size=(12, 5)).astype(np.float32), 0))
    values |= {"architecture": "skip-transcoder", "activations": str(tmp_path / "in.npy"), "width": 48}
    with pytest.raises(ParameterError, match="give activations_out as well"):
        check(EXPERIMENT.parameters, values)
    recording = finished(tmp_path / "run-1", values | {"activations_out": str(tmp_path / "out.npy"), "steps": 300})
    config = stored(recording)["attributes"]["config"]
    assert (config["d_in"], config["d_out"]) == (12, 5)
    assert recording.metric("fvu_held_out")[-1, 1] < 0.5


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda x: x.__setitem__((70, 3), np.nan), "mine.npy has a value in row 70 that is no finite number"),
        (lambda x: x.__setitem__(slice(None), 2.0), "are equal, so there is nothing to reconstruct"),
    ],
)
def test_stored_activations_that_cannot_be_trained_on_are_refused(tmp_path, values, spoil, sentence):
    x = matrix(tmp_path / "mine.npy", 600, 8, 3)
    spoil(x)
    np.save(tmp_path / "mine.npy", x)
    record = start(tmp_path / "run-1", values | {"activations": str(tmp_path / "mine.npy"), "held_out": 0})
    assert record.state == "failed"
    assert sentence in record.error


def test_cross_entropy_is_measured_on_the_way(tmp_path, values):
    recording = finished(tmp_path / "run-1", values | {"measure_every": 30})
    assert recording.metric("ce_recovered_live")[:, 0].tolist() == [30, 60]
    assert recording.metric("kl_live")[1, 1] < recording.metric("kl_live")[0, 1]
    assert isinstance(recording.figure("density over training"), Heatmap)
    assert isinstance(recording.figure("atoms"), Histogram)
    assert recording.figure("density over training").values.sum(axis=0).tolist() == [96] * 90


class Acts(NullSink):
    """Asks for a learning rate and for new latents at steps of its own, and dies at another."""

    def __init__(self, control: Control, dies: int = 10**9) -> None:
        self.control, self.dies = control, dies
        self.stored = False

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.stored = True

    def metrics(self, rows: Any) -> None:
        step = rows.get("loss", (-1,))[0]
        if step == 20:
            self.control.ask("lr", {"value": 5e-4})
        if step == 40:
            self.control.ask("resample", {})
        if step == self.dies:
            raise KeyboardInterrupt


def test_what_a_person_did_is_done_again_at_the_same_step(tmp_path, values, monkeypatch):
    monkeypatch.setattr("engine.dictionaries.training.clock", lambda: 0.0)  # no checkpoint but the first
    values |= {"dead_after": 64, "architecture": "relu", "coefficient": 5.0}
    control = Control()
    record = start(tmp_path / "whole" / "run-1", values, Acts(control), control=control)
    assert record.state == "finished", record.traceback
    whole = Recording(tmp_path / "whole" / "run-1")
    assert [(act["step"], act["name"]) for act in record.facts["actions"]] == [(20, "lr"), (40, "resample")]
    plain = finished(tmp_path / "plain" / "run-1", values)
    assert curves(plain)["loss"][:20] == curves(whole)["loss"][:20]
    assert whole.metric("lr")[30, 1] == pytest.approx(5e-4)
    assert plain.metric("lr")[30, 1] == pytest.approx(1e-3)
    assert whole.metric("loss")[40, 1] != plain.metric("loss")[40, 1]

    folder, control = tmp_path / "cut" / "run-1", Control()
    control_stop = Control()
    start(folder, values, At(10, control_stop.stop), control=control_stop)  # leaves a checkpoint at step 10

    parameters = check(EXPERIMENT.parameters, values)
    died = execute(EXPERIMENT, parameters, folder, [Acts(control, dies=60)], control, True)
    assert died.state == "interrupted"
    again = finished(folder, values, resume=True)
    assert curves(again) == curves(whole)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path, values):
    control, folder = Control(), tmp_path / "run-1"
    start(folder, values, At(5, control.stop), control=control)
    record = start(folder, values | {"architecture": "gated"}, resume=True)
    assert record.state == "failed"
    assert "The checkpoint is of the architecture topk, not of gated" in record.error


def test_more_levels_than_a_width_can_be_halved_are_refused(values):
    with pytest.raises(ParameterError, match=r"^levels=9 is not allowed"):
        check(EXPERIMENT.parameters, values | {"architecture": "matryoshka", "levels": 9})
