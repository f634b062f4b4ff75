"""The experiment as a person runs it: on its known helix, on a toy whose embedding is one, on a small BPE and SmolLM2."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.figures import Lines, Scatter, Table
from engine.geometry.helix_scores import score
from engine.geometry.number_activations import choose, read
from engine.geometry.number_causal import some
from engine.geometry.number_design import design
from engine.geometry.number_words import helix_sentence
from engine.geometry.periods import spectrum
from engine.geometry.synthetic_numbers import planted_helix
from engine.models.native import SPECIAL, build_native
from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import ParameterError, check
from engine.runs.recording import Recording, RecordingWriter, RunRecord
from engine.runs.run import Run
from engine.runs.sinks import NullSink
from engine.text.toys import ToyData
from engine.toys.keeping import keep_toy

EXPERIMENT = find("number-helix")
EVERY = {
    "fits", "helix", "spectrum", "peaks", "residuals", "components", "summary", "log", "ranking", "angles", "control"
}  # fmt: skip


def start(work: Path, values: dict[str, Any], control: Control | None = None) -> tuple[RunRecord, Recording]:
    folder = work / "runs" / "number-helix-1"
    parameters = check(EXPERIMENT.parameters, {"threads": 1, "device": "cpu", **values})
    return execute(EXPERIMENT, parameters, folder, control=control, work=work), Recording(folder)


def quiet() -> Run:
    return Run("quiet-1", NullSink(), Control())


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    record, recording = start(tmp_path_factory.mktemp("known"), {})
    assert record.state == "finished", record.traceback
    return record, recording


def column(table: Table, label: str) -> np.ndarray:
    return dict(zip([axis.label for axis in table.axes], table.columns, strict=True))[label]


def test_the_known_helix_is_found_and_its_controls_are_beside_it(known):
    record, recording = known
    assert set(recording.figure_names()) == EVERY
    table = recording.figure("fits")
    held = dict(zip(column(table, "Fit"), column(table, "R², held-out numbers"), strict=True))
    assert held["helix"] > 0.94
    assert held["PCA"] >= held["helix"]
    assert max(held["polynomial"], held["random periods"], held["linear"]) < 0.4
    fitted = dict(zip(column(table, "Fit"), column(table, "R², all numbers fitted"), strict=True))
    assert fitted["helix, numbers shuffled"] == pytest.approx(fitted["noise, (q - 1) / (n - 1)"], abs=0.02)
    assert "better than by other functions" in record.facts["helix"]
    assert recording.metric("held")[-1, 1] == pytest.approx(held["helix"])
    assert "300" in table.note


def test_periods_of_the_known_helix_stand_out_in_the_spectrum(known):
    _, recording = known
    found = recording.figure("peaks")
    assert sorted(column(found, "Period")) == pytest.approx([2, 5, 10, 100])
    lines = recording.figure("spectrum")
    assert isinstance(lines, Lines)
    assert lines.reference["95 % of highest, shuffled"] > lines.y[2].max()
    assert lines.low is not None


def test_the_helix_can_be_seen_from_fits_that_have_not_seen_the_number(known):
    _, recording = known
    scatter = recording.figure("helix")
    assert isinstance(scatter, Scatter)
    assert scatter.points.shape == (300, 3)
    a = np.arange(300)
    assert scatter.label.tolist() == [str(value) for value in a]
    np.testing.assert_array_equal(scatter.value, a % 10)
    for axis, exact in enumerate((a / 299, np.cos(2 * np.pi * a / 10), np.sin(2 * np.pi * a / 10))):
        assert np.corrcoef(scatter.points[:, axis], exact)[0, 1] > 0.97


def test_the_kept_fit_predicts_the_numbers_that_it_has_not_seen(known):
    _, recording = known
    coefficients, components, mean = (recording.kept(name) for name in ("coefficients", "components", "mean"))
    train, held = recording.kept("train"), recording.kept("held_out")
    assert len(held) == 60
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(300))
    predicted = mean + design(np.arange(300))(held) @ coefficients @ components
    exact = planted_helix(np.arange(300), np.random.default_rng([0, 1]))[held]
    assert 1 - np.square(exact - predicted).sum() / np.square(exact - exact.mean(axis=0)).sum() > 0.94


def test_the_planted_code_of_the_logarithm_is_found_and_said(known):
    record, recording = known
    assert record.facts["angular_code"].startswith("An angular code of log a was found: ω = 6")
    assert record.facts["log_direction"].startswith("The logarithm is a direction: ")
    lines = recording.figure("angles")
    assert lines.y[0].max() > lines.reference["95 % of highest, shuffled"]
    assert "period of 10 adds" in record.facts["control"]
    assert "above the threshold" in record.facts["control"]
    assert np.linalg.norm(recording.kept("log_direction")) == pytest.approx(1)


def toy(work: Path, *, helix: bool, **attributes: int) -> None:
    """The toy ``toy:numbers-1`` of 100 numbers, whose embedding is a helix or noise, with one block over it."""
    words = [*map(str, range(100)), "+", "=", *SPECIAL]
    config = {
        "d_model": 32, "n_layers": 1, "n_heads": 2, "d_head": 16, "d_mlp": 32, "n_ctx": 4, "d_vocab": len(words),
        "act_fn": "relu", "normalization_type": None,
    }  # fmt: skip
    bridge = build_native(config, words)
    random = np.random.default_rng(3)
    values = np.arange(100)
    table = planted_helix(values, random, width=32) if helix else random.standard_normal((100, 32))
    with torch.no_grad():
        bridge.embed.weight[:100] = torch.from_numpy(table)
    folder = work / "runs" / "numbers-1"
    run = Run("numbers-1", RecordingWriter(folder, RunRecord("numbers-1", "adding", {})), Control())
    tokens = np.stack([values, np.full(100, 100), values[::-1], np.full(100, 101)], axis=1)
    keep_toy(run, bridge, ToyData(tokens), title="Adding", **attributes)


def test_a_toy_whose_embedding_is_a_helix_shows_it_layer_by_layer(tmp_path):
    toy(tmp_path, helix=True)
    record, recording = start(tmp_path, {"model": "toy:numbers-1", "template": "{a} + {b} =", "others": 3})
    assert record.state == "finished", record.error + record.traceback
    assert set(recording.figure_names()) == EVERY | {"layers", "spectra", "logs"}
    held = recording.metric("held")
    assert held[:, 0].tolist() == [0, 1]
    assert held[0, 1] > 0.9
    assert record.facts["best_layer"] == "blocks.0.hook_resid_pre"
    assert "100 numbers from 0 to 99, each one token; 200 of the 300 looked at" in record.facts["numbers"]
    lines = recording.figure("layers")
    assert lines.y.shape[1] == 2
    assert dict(zip(lines.series, lines.y[:, 0], strict=True))["polynomial, held-out"] < 0.6
    summary = dict(zip(*recording.figure("summary").columns, strict=True))
    assert summary["Prompts"] == "100"  # what follows a does not change its activations
    assert summary["Columns left out (0 at every number)"] == "sin 2"


def test_sums_are_patched_and_ablated_on_the_numbers_that_the_fits_have_not_seen(tmp_path):
    toy(tmp_path, helix=True)
    values = {"model": "toy:numbers-1", "template": "{a} + {b} =", "hook": "blocks.0.hook_resid_pre", "pairs": 12}
    record, recording = start(tmp_path, values)
    assert record.state == "finished", record.error + record.traceback
    assert record.facts["patching"].startswith("Patched at blocks.0.hook_resid_pre")  # chance answers make a few pairs
    assert {"patching", "patched-pairs", "patching-table", "ablation", "ablation-table"} <= set(
        recording.figure_names()
    )
    held = len(recording.kept("held_out"))
    assert f"one of the {held} held out" in recording.figure("patching").note
    methods = recording.kept_attributes("effects")["methods"]
    assert recording.kept("effects").shape[:2] == (1, len(methods))  # what they hold is tested on a model that adds


def test_a_toy_of_sums_is_asked_for_the_numbers_that_it_was_trained_to_add(tmp_path):
    toy(tmp_path, helix=True, numbers=40)
    record, _ = start(tmp_path, {"model": "toy:numbers-1"})
    assert record.state == "finished", record.error + record.traceback
    assert record.facts["numbers"].startswith("40 numbers from 0 to 39")
    record, _ = start(tmp_path, {"model": "toy:numbers-1", "largest": 59})
    assert record.facts["numbers"].startswith("60 numbers from 0 to 59")


def test_a_model_that_answers_no_sums_is_said_to_and_the_rest_is_shown(tmp_path, tiny_hf):
    values = {
        "model": str(tiny_hf),
        "template": "{a}+{b}=",
        "hook": "blocks.0.hook_resid_post",
        "pairs": 4,
        "largest": 12,
    }
    record, recording = start(tmp_path, values)
    assert record.state == "finished", record.error + record.traceback
    assert record.facts["patching"].startswith("No causal test. ")
    assert "fits" in recording.figure_names()
    assert "patching" not in recording.figure_names()


def test_at_most_five_hook_points_are_patched_from_the_first_to_the_last():
    hooks = {f"blocks.{layer}.hook_resid_post": layer + 1 for layer in range(30)}
    assert len(some(hooks)) == 5
    assert (min(some(hooks).values()), max(some(hooks).values())) == (1, 30)
    assert some(dict(list(hooks.items())[:3])) == dict(list(hooks.items())[:3])


def test_an_embedding_of_noise_is_said_to_be_no_helix(tmp_path):
    toy(tmp_path, helix=False)
    record, recording = start(tmp_path, {"model": "toy:numbers-1", "hook": "blocks.0.hook_resid_pre"})
    assert record.state == "finished", record.error + record.traceback
    assert record.facts["helix"].startswith("No helix")
    assert record.facts["angular_code"].startswith("No angular code")
    assert "layers" not in recording.figure_names()
    assert recording.metric("held")[-1, 1] < 0


def test_layers_at_which_all_numbers_are_alike_are_left_out_or_refused(tmp_path):
    toy(tmp_path, helix=True)
    values = {"model": "toy:numbers-1", "template": "{a} + {b} =", "place": "end"}
    record, recording = start(tmp_path, values)
    assert record.state == "finished", record.error + record.traceback
    assert recording.metric("held")[:, 0].tolist() == [1]
    record, _ = start(tmp_path / "again", {**values, "hook": "blocks.0.hook_resid_pre"})
    assert record.state == "failed"
    toy(tmp_path / "again", helix=True)
    record, _ = start(tmp_path / "again", {**values, "hook": "blocks.0.hook_resid_pre"})
    assert "are the same for all numbers; choose a later layer" in record.error


def test_the_ten_digits_of_a_small_bpe_leave_out_periods_that_they_cannot_tell(tmp_path, tiny_hf):
    record, recording = start(tmp_path, {"model": str(tiny_hf), "numbers": "single tokens", "largest": 22})
    assert record.state == "finished", record.error + record.traceback
    assert "periods 10, 100" in record.facts["periods_left_out"]
    assert record.facts["dropped"] == 13
    assert "10 numbers from 0 to 9" in recording.figure("fits").note


def test_activations_are_read_at_the_last_digit_and_no_other_place(tiny):
    chosen = choose(tiny, np.random.default_rng(0), template="{a}+{b}=", others=2, largest=30)
    assert not chosen.single
    found = dict(read(tiny, chosen.prompts, ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"], quiet()))
    embedding = found["blocks.0.hook_resid_pre"]
    table = tiny.bridge.embed.weight.detach().numpy()
    last = [tiny.encode(str(value), prepend_bos=False)[-1] for value in embedding.values]
    np.testing.assert_allclose(embedding.x, table[last], atol=1e-6)
    points = found["blocks.1.hook_resid_post"]
    assert len(points.x) == 31  # both sums of a number begin alike
    row = 37
    with torch.no_grad():
        _, cache = tiny.bridge.run_with_cache(torch.as_tensor([tiny.encode(chosen.prompts.texts[row])]))
    place = len(tiny.encode(str(chosen.prompts.values[row]))) - 1
    np.testing.assert_allclose(points.x[row // 2], cache["blocks.1.hook_resid_post"][0, place], atol=1e-4)


def test_numbers_of_equal_length_are_taken_for_the_logarithm(tiny):
    chosen = choose(tiny, np.random.default_rng(0))
    two = [a for a in range(10, 100) if len(tiny.encode(str(a), prepend_bos=False)) == 2]  # 23 is one token here
    np.testing.assert_array_equal(chosen.alike, two)
    assert 80 < len(two) < 90
    assert "written in 1 to 2 tokens each and read at the last one; only 14 of the 300" in chosen.sentence


def test_a_few_numbers_are_taken_as_single_tokens_when_all_of_them_are(tiny):
    assert choose(tiny, np.random.default_rng(0), largest=9).single
    assert not choose(tiny, np.random.default_rng(0), largest=10).single


def test_smollm2_numbers_repeat_with_their_last_digit(smollm2):
    chosen = choose(smollm2, np.random.default_rng(0))
    [(_, points)] = read(smollm2, chosen.prompts, ["blocks.2.hook_resid_post"], quiet())
    found = score(points, np.random.default_rng(1))
    assert found.held["helix"].r2 > 0.1
    assert found.held["digits"].r2 > found.held["helix"].r2
    power = spectrum(points.distinct, points.means, np.random.default_rng(2), periods=(2, 5, 10, 100))
    assert {2.0, 5.0, 10.0} <= {round(peak.period, 3) for peak in power.peaks}
    assert "what repeats may be the digit" in helix_sentence("here", found, power)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"hook": "blocks.0.hook_resid_pre"}, "name a model as well"),
        ({"model": "demo", "pairs": 10}, "needs a sum to answer"),
        ({"model": "demo", "template": "{a}+{b}=", "pairs": 1}, "has no spread"),
        ({"periods": [1]}, "greater than or equal to 2"),
        ({"periods": []}, "periods"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(values, match):
    with pytest.raises(ParameterError, match=match):
        check(EXPERIMENT.parameters, values)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"model": "demo"}, "has no numbers in its vocabulary"),
        ({"model": "demo", "numbers": "single tokens"}, "None of the numbers 0 to 299 is one token"),
    ],
)
def test_a_model_without_numbers_is_refused_in_a_sentence(tmp_path, values, match):
    record, _ = start(tmp_path, values)
    assert record.state == "failed"
    assert match in record.error
    assert record.error.endswith(".")


def test_a_template_without_its_number_is_refused_in_a_sentence(tmp_path, tiny_hf):
    record, _ = start(tmp_path, {"model": str(tiny_hf), "template": "no number"})
    assert "needs {a} once" in record.error


def test_it_stops_between_layers(tmp_path):
    toy(tmp_path, helix=True)
    control = Control()
    control.stop()
    record, _ = start(tmp_path, {"model": "toy:numbers-1"}, control)
    assert record.state == "stopped"
    assert threading.active_count() < 50
