"""The experiment on the demo's dictionary and on a toy whose features are known exactly."""

from __future__ import annotations

from pathlib import Path

from tests.engine.dictionaries.test_planted_features import planted_toy
from tests.engine.toys.running import start


def test_a_dictionary_of_the_planted_directions_themselves_is_found_whole(tmp_path: Path) -> None:
    directions = planted_toy(tmp_path, features=6, d=16)
    values = {"model": "toy:toy-1", "text": "toy:toy-1", "hook": "blocks.0.hook_hidden", "tokens": 6_000}
    trained = start("train-dictionary", tmp_path, **values, width=12, k=2, batch=256, steps=800, lr=3e-3, threads=1)
    assert trained.record().facts["planted_found"] > 0.8
    recording = start("planted-features", tmp_path, dictionary="train-dictionary-1", tokens=3_000, threads=1)
    last = {name: recording.metric(name)[-1, 1] for name in recording.metric_names()}
    assert last["planted"] > 0.9 > 0.7 > last["planted_control"]
    assert last["auroc"] > 0.85 > 0.65 > last["auroc_control"]
    activity = recording.figure("activity")
    assert sorted(activity.columns[0].tolist()) == sorted(f"f{i}" for i in range(6))
    # The latent that tells a feature is the atom that points its way.
    directed = dict(zip(*recording.figure("planted directions").columns[:2], strict=True))
    told = dict(zip(activity.columns[0], activity.columns[2], strict=True))
    assert sum(directed[name] == told[name] for name in told) >= len(directions) - 2
    assert len(recording.figure("both").points) == 6


def test_it_runs_with_its_defaults_on_the_demos_dictionary(tmp_path: Path) -> None:
    recording = start("planted-features", tmp_path, tokens=800)
    last = {name: recording.metric(name)[-1, 1] for name in recording.metric_names()}
    assert last["auroc"] > last["auroc_control"] + 0.1


def test_features_that_are_never_off_are_said_to_tell_nothing(tmp_path: Path) -> None:
    start("belief-states", tmp_path, size="quick", steps=2)
    values = {"hook": "blocks.0.hook_resid_post", "tokens": 1_000, "steps": 2, "width": 8, "k": 2}
    start("train-dictionary", tmp_path, model="toy:belief-states-1", text="toy:belief-states-1", **values)
    recording = start("planted-features", tmp_path, state="failed", dictionary="train-dictionary-1")
    assert "at all of the 4,000 positions looked at, or at none" in recording.record().error
