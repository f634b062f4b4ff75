"""A family of dictionaries, a run that is acted on while it goes on, and a dictionary handed to another program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.journeys.person import Person
from tests.journeys.steps import choose_experiment, fill, recordings, state_of_run

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]


def choose(person: Person, field: str, value: str) -> None:
    """Choose ``value`` in a drop-down list by typing its first letters."""
    person.click(field, kind="QuietCombo")
    person.type(value)
    person.press("Return")


def steps_since_change(home: Path) -> float:
    """Steps that are recorded since a person acted on the third run last."""
    run = recordings(home)["train-dictionary-3"]
    return float(run.metric("lr")[-1, 0] - run.record().facts["actions"][-1]["step"])


def test_a_person_trains_a_family_acts_on_a_run_and_hands_a_dictionary_on(
    person: Person, home: Path, tmp_path: Path
) -> None:
    person.start()
    choose_experiment(person, "Train a dictionary")
    person.screenshot("01-form")
    fill(person, tokens="20000", k="4, 8", steps="200")
    person.wait_until(lambda: person.see("First of 2 runs", exact=False), "the estimate")
    person.screenshot("02-estimate")
    person.click("Start 2 runs", kind="QPushButton")
    person.wait_until(lambda: len(recordings(home)) == 2, "two runs")
    person.wait_until(lambda: person.see("Loss", kind="CurvesView"), "the family's curves", 300)
    person.screenshot("03-family")
    person.wait_until(
        lambda: all(one.record().state == "finished" for one in recordings(home).values()), "both to finish", 300
    )
    person.screenshot("04-family-finished")
    assert {one.record().parameters["k"] for one in recordings(home).values()} == {4, 8}
    assert all(len(one.metric("fvu")) == 200 for one in recordings(home).values())

    fill(person, steps="20000")
    choose(person, "architecture", "relu")
    person.find("ReLU with a sparsity penalty", exact=False)
    assert not person.see("k", kind="QLineEdit"), "k says nothing where a penalty decides"
    person.screenshot("05-form-of-relu")
    person.click("Start", kind="QPushButton")
    person.wait_until(lambda: state_of_run(person) == "running", "the training to run")
    person.wait_until(lambda: person.see("Loss", kind="CurvesView"), "the live curves")
    person.click("Resample dead latents", kind="QPushButton")
    person.wait_until(lambda: person.see("resample dead latents", exact=False), "the word that it was done")
    person.click("Change learning rate…", kind="QPushButton")
    person.click("Learning rate", kind="QLineEdit")
    person.replace("0.0005")
    person.press("Return")
    person.wait_until(lambda: person.see("learning rate 0.0005", exact=False), "the word that it was changed")
    person.screenshot("06-acted-on")
    person.wait_until(lambda: steps_since_change(home) > 40, "some steps with the new learning rate")
    person.click("Stop and keep", kind="QPushButton")
    person.wait_until(lambda: state_of_run(person) == "stopped", "the run to stop", 30)
    run = recordings(home)["train-dictionary-3"]
    resampled, changed = run.record().facts["actions"]
    assert (resampled["name"], changed["name"], changed["values"]) == ("resample", "lr", {"value": 0.0005})
    lr = {step: value for step, value, _ in run.metric("lr")}
    after = [value for step, value in lr.items() if step > changed["step"] + 20]
    assert after
    assert max(after) <= 0.0005

    # A dictionary has its run's name; the upper of two rows in the tree is the dictionary.
    rows = [entry["rect"] for entry in person.see("train-dictionary-1", kind="row") if entry["rect"][0] < 220]
    row = min(rows, key=lambda rect: rect[1])
    person.click_at(row[0] + 20, row[1] + row[3] // 2, double=True)
    person.click("Export…", kind="QPushButton")
    person.click("SAELens…", kind="action")
    person.wait_until(lambda: any("a new folder" in e.get("window", "") for e in person.survey()), "the dialog")
    folder = tmp_path / "for-saelens"
    person.replace(str(folder))
    person.press("Return")
    person.wait_until((folder / "sae_weights.safetensors").exists, "the exported files")
    person.wait_until(lambda: person.see("finished", exact=False), "the word that it is done")
    person.screenshot("07-exported")
    config = json.loads((folder / "cfg.json").read_text())
    assert (config["architecture"], config["d_in"], config["d_sae"], config["k"]) == ("topk", 64, 512, 4)
    [(_, _, _, arrays)] = [t for t in recordings(home)["train-dictionary-1"].things() if t[0] == "dictionaries"]
    tensors = load_file(folder / "sae_weights.safetensors")
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        np.testing.assert_array_equal(tensors[name], np.array(arrays[name]))
