"""The sweep as a person runs it, against the same measurements made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.figures import Heatmap, Histogram, Lines, Scatter, Table
from engine.models.opening import open_model
from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording, RunRecord
from engine.steering.rows import read
from engine.text.prompts import open_prompts

EXPERIMENT = find("steering-sweep")
HOOK = "blocks.0.hook_resid_post"
VALUES: dict[str, Any] = {"rows": 16, "context": 32, "tokens": 1_000, "device": "cpu", "threads": 1, "seed": 1}


def start(folder: Path, values: dict[str, Any], control: Control | None = None) -> RunRecord:
    return execute(EXPERIMENT, check(EXPERIMENT.parameters, VALUES | values), folder, control=control)


def columns(table: Table) -> dict[str, np.ndarray]:
    return {axis.label: column for axis, column in zip(table.axes, table.columns, strict=True)}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "steering-sweep-1"
    record = start(folder, {"methods": ["affine-mean"], "transfer": "template", "factors": ["template", "name"]})
    assert record.state == "finished", record.traceback
    return record, Recording(folder)


def test_held_out_rows_are_those_that_no_method_was_made_from(swept):
    record, recording = swept
    rows = recording.kept("rows").tolist()
    assert len(rows) == 16
    assert rows == record.facts["measured_rows"]
    assert not set(rows) & set(record.facts["fitted_rows"])
    assert record.facts["declared_factors"] == ["template", "name"]


def test_the_shift_is_that_of_the_difference_of_means_added_by_hand(swept):
    record, recording = swept
    model, prompts = open_model("demo", device="cpu"), open_prompts("story-sentiment")
    fitted = [prompts.rows[row] for row in record.facts["fitted_rows"]]
    means = [
        read(
            model, [row.prompt for row in fitted], [getattr(row, which) for row in fitted],
            [row.suffix for row in fitted], hook=HOOK, read_at="end", prepend_bos=True,
        ).double().mean(0)
        for which in ("positive", "negative")
    ]  # fmt: skip
    vector = (means[0] - means[1]).float()
    propensity, at = recording.kept("propensity"), recording.kept("strengths")
    for sample in (0, 7, 15):
        row = prompts.rows[recording.kept("rows")[sample]]
        for index in (0, 3, 5):
            expected = _alone(model, row.prompt, row.positive, at[index] * vector) - _alone(
                model, row.prompt, row.negative, at[index] * vector
            )
            assert propensity[0, sample, index] == pytest.approx(expected, abs=1e-3)
            # Mean matching adds the same vector, so it is the same method under another name.
            assert propensity[1, sample, index] == pytest.approx(expected, abs=1e-3)


def _alone(model, prompt: str, answer: str, shift: torch.Tensor) -> float:
    head, tail = model.encode(prompt), model.encode(answer, prepend_bos=False)
    ids = torch.tensor([head + tail])

    def hook(x, hook=None):
        x = x.clone()
        x[:, 1:] += shift
        return x

    with torch.no_grad():
        logits = model.bridge.run_with_hooks(ids, return_type="logits", fwd_hooks=[(HOOK, hook)])[0]
    logp = torch.log_softmax(logits.double(), dim=-1)
    return float(sum(logp[len(head) - 1 + k, token] for k, token in enumerate(tail)))


def test_figures_and_tables_say_what_was_kept(swept):
    record, recording = swept
    propensity, at = recording.kept("propensity"), recording.kept("strengths")
    slope = np.polyfit(at, propensity[0].T, 1)[0]
    table = columns(recording.figure("table"))
    assert table["Method"].tolist() == ["mean-difference", "affine-mean", "random vector", "shuffled"]
    assert table["Mean s"][0] == pytest.approx(slope.mean())
    assert table["Anti-steerable"][0] == pytest.approx((slope < 0).mean())
    violins = recording.figure("steerability")
    assert isinstance(violins, Histogram)
    assert violins.violins
    np.testing.assert_allclose(violins.samples[0][~np.isnan(violins.samples[0])], slope)
    assert violins.groups[:2] == ("mean-difference", "mean-difference · mood")
    curves = recording.figure("curves")
    assert isinstance(curves, Lines)
    np.testing.assert_allclose(curves.y[0, :7], propensity[0].mean(axis=0))
    drawn = curves.y[2:][~np.isnan(curves.y[2:])]
    np.testing.assert_allclose(np.sort(drawn), np.sort(propensity[0].ravel()))
    factors = columns(recording.figure("factors"))
    assert factors["Factor"].tolist() == ["template", "name"] * 4
    assert isinstance(recording.figure("two-way template name"), Heatmap)
    for name in record.shown:
        assert "n = " in recording.figure(name).note or name in ("damage", "kl")


def test_nothing_is_damaged_and_nothing_is_far_at_strength_zero(swept):
    _, recording = swept
    assert (recording.kept("damage_ce")[:, :, 3] == 0).all()
    assert (recording.kept("damage_kl")[:, :, 3] == 0).all()
    tradeoff = recording.figure("tradeoff")
    assert isinstance(tradeoff, Scatter)
    still = tradeoff.value == 0
    np.testing.assert_allclose(tradeoff.points[still], [[1, 0]] * 4, atol=1e-6)
    assert (tradeoff.points[tradeoff.value == 1.5][:3, 0] > 1.5).all()


def test_the_direction_steers_and_its_controls_do_not(swept):
    _, recording = swept
    steered, random = recording.metric("shift"), recording.metric("shift_random")
    assert steered[:, 0].tolist() == np.linspace(-1.5, 1.5, 7).tolist()
    assert steered[-1, 1] > 1
    assert abs(random[-1, 1]) < 0.5 * steered[-1, 1]
    assert abs(recording.metric("shift_shuffled")[-1, 1]) < 0.5 * steered[-1, 1]
    assert set(recording.metric_names()) == set(EXPERIMENT.metrics)


def test_a_direction_is_carried_to_rows_that_it_was_not_made_from(swept):
    record, recording = swept
    found, prompts = record.facts["transfer"], open_prompts("story-sentiment")
    assert (found["from"], found["to"]) == ("mood", ["voice", "face"])
    arrays = recording.kept("transfer")
    assert found["r"] == pytest.approx(np.corrcoef(arrays[0], arrays[1])[0, 1])
    rows = recording.kept_attributes("transfer")["rows"]
    assert {prompts.rows[row].factors["template"] for row in rows} <= {"voice", "face"}
    assert isinstance(recording.figure("transfer"), Scatter)


def test_labels_are_moved_and_success_is_the_likeliest_answer(tmp_path):
    places, folder = ("park", "beach", "forest", "farm"), tmp_path / "steering-sweep-1"
    rows = [
        {
            "prompt": f"one {day} {name} went to the {place} . she felt happy . {name} saw a",
            "positive": f" {place}", "negative": f" {places[(number + 1) % 4]}", "label": place,
            "factors": {"name": name},
        }
        for number, place in enumerate(places)
        for day in ("monday", "tuesday", "friday")
        for name in ("anna", "emma")
    ]  # fmt: skip
    text = "\n".join(json.dumps(row) for row in rows)
    record = start(folder, {"prompts": text, "method": "circular", "read_at": "prompt", "positions": "last"})
    assert record.state == "finished", record.traceback
    recording = Recording(folder)
    assert record.facts["asked"].startswith("the target")
    table, measured = columns(recording.figure("table")), [rows[row] for row in record.facts["measured_rows"]]
    assert table["Method"].tolist() == ["circular", "random vector", "shuffled"]
    # Places do not go round: behind the last one nothing follows, so its rows have nowhere to go.
    assert {row["label"] for row in measured} == set(places[:3])
    model, nothing = open_model("demo", device="cpu"), torch.zeros(1)
    clean = [[_alone(model, row["prompt"], f" {place}", nothing) for place in places] for row in measured]
    own = [places.index(row["label"]) for row in measured]
    expected = [logp[at + 1] - logp[at] for logp, at in zip(clean, own, strict=True)]
    np.testing.assert_allclose(recording.kept("propensity")[0, :, 3], expected, atol=1e-3)
    matched = recording.figure("matched")
    assert "likeliest" in matched.note
    right = np.mean([int(np.argmax(logp)) == at + 1 for logp, at in zip(clean, own, strict=True)])
    assert columns(matched)["Success at strength 0"][0] == pytest.approx(right)


def test_a_run_that_is_stopped_keeps_the_arms_that_were_done(tmp_path, monkeypatch):
    from engine.steering import sweep_job

    control, show = Control(), sweep_job.show

    def stop_after_first(found, *rest):
        show(found, *rest)
        control.stop()

    monkeypatch.setattr(sweep_job, "show", stop_after_first)
    record = start(tmp_path / "steering-sweep-1", {}, control)
    assert record.state == "stopped"
    table = columns(Recording(tmp_path / "steering-sweep-1").figure("table"))
    assert table["Method"].tolist() == ["mean-difference"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"factors": ["weather"]}, "no factor “weather”"),
        ({"transfer": "weather"}, "no factor “weather”"),
        ({"hook": "blocks.0.hook_nothing"}, "hook_nothing"),
        ({"prompts": '{"prompt": "one monday", "positive": " anna", "negative": " ben"}'}, "0 held-out rows"),
    ],
)
def test_what_cannot_be_swept_is_said_in_a_sentence(tmp_path, values, said):
    record = start(tmp_path / "steering-sweep-1", values)
    assert record.state == "failed"
    assert record.error is not None
    assert said in record.error
    assert record.error[-1] in ".?"


def test_the_same_seed_gives_the_same_numbers(tmp_path, swept):
    start(tmp_path / "steering-sweep-1", {"methods": ["affine-mean"], "factors": ["name"]})
    again = Recording(tmp_path / "steering-sweep-1").kept("propensity")
    np.testing.assert_allclose(again, swept[1].kept("propensity"), atol=1e-5)
