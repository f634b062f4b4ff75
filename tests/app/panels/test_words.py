"""What panels say in numbers."""

from __future__ import annotations

import pytest

from app.panels import words
from engine.runs.recording import RunRecord
from engine.runs.run import Progress

TRAINING = {
    "name": "train-dictionary",
    "title": "Train a dictionary",
    "metrics": {
        "loss": {"label": "Loss", "unit": ""},
        "fvu": {"label": "FVU", "unit": ""},
        "l0": {"label": "L0", "unit": ""},
        "dead": {"label": "dead", "unit": "share"},
    },
    "parameters": {
        "properties": {
            "model": {"default": "demo"},
            "k": {"default": 32, "unit": "latents"},
            "batch": {"default": 2048, "unit": "activations"},
            "name": {"default": ""},
        }
    },
}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.42, "0.4 s"), (59.4, "59 s"), (60, "1:00"), (1100, "18:20"), (7389, "2:03:09"), (273_700, "3 d 4 h")],
)
def test_a_duration_has_the_digits_a_person_needs(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(512, "512 B"), (37_200, "37 kB"), (1_100_000_000, "1.1 GB"), (2.5e13, "25.0 TB")]
)
def test_a_size_is_in_decimal_units(count: float, shown: str) -> None:
    assert words.size(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(7, "7"), (999.4, "999"), (10_400, "10.4 k"), (134_515_008, "135 M"), (8.03e9, "8.03 G")]
)
def test_a_large_count_has_three_digits(count: float, shown: str) -> None:
    assert words.large(count) == shown


def test_the_progress_line_has_position_rate_time_left_and_the_last_metrics() -> None:
    record = RunRecord("train-dictionary-1", "train-dictionary", {"batch": 2000}, state="running")
    progress = Progress(4120, 20_000, "steps", 5.2, 1100.0)
    last = {"fvu": 0.1128, "l0": 32.0, "dead": 0.02}
    line = words.progress_line(record, progress, last, TRAINING)
    assert line == "step 4,120 of 20,000 · 10.4 k act/s · 18:20 left · FVU 0.113 · L0 32 · dead 2 %"


def test_a_finished_run_shows_its_last_metrics_and_no_rate() -> None:
    record = RunRecord("train-dictionary-1", "train-dictionary", {"batch": 2000}, state="finished")
    line = words.progress_line(record, Progress(20_000, 20_000, "steps", 5.2, 0.0), {"loss": 0.5}, TRAINING)
    assert line == "Loss 0.5"


def test_a_paused_run_shows_where_it_waits_and_no_rate() -> None:
    record = RunRecord("pca-1", "pca-spectrum", {}, state="paused")
    line = words.progress_line(record, Progress(5000, None, "tokens", 900.0, None, "Capturing"), {}, {})
    assert line == "Capturing · 5,000 tokens"


def test_metrics_that_share_a_name_are_told_apart_by_their_groups() -> None:
    declared = {
        "shift": {"label": "Method", "unit": "nats", "group": "Shift"},
        "shift_random": {"label": "Random", "unit": "nats", "group": "Shift"},
        "damage": {"label": "Method", "group": "Damage"},
        "damage_random": {"label": "Random", "group": "Damage"},
        "accuracy": {"label": "Accuracy", "unit": "share", "group": "Shares"},
    }
    record = RunRecord("sweep-1", "steering-sweep", {}, state="finished")
    last = {"shift": 1.5, "shift_random": 0.1, "damage": 0.02, "damage_random": 0.03, "accuracy": 0.5}
    line = words.progress_line(record, None, last, {"metrics": declared})
    assert line == "Shift: Method 1.5 nats, Random 0.1 nats · Damage: Method 0.02, Random 0.03 · Accuracy 50 %"


def test_a_metric_that_is_not_finite_is_said_so() -> None:
    assert words.metric_value(float("nan"), "nats/token") == "not a number nats/token"


def test_only_parameters_that_differ_from_their_defaults_are_named() -> None:
    parameters = {"k": 64, "model": "demo", "batch": 2048, "extra": True}
    assert words.changed_parameters(parameters, TRAINING) == [("k", "64 latents"), ("extra", "yes")]
