"""The main story: open SmolLM2, look, watch a PCA and a dictionary grow, save, close, reopen, find all as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from engine.runs.recording import Recording
from tests.journeys.person import Person
from tests.journeys.steps import choose_experiment, fill, open_run, recordings, save_as, state_of_run

pytestmark = [pytest.mark.journey, pytest.mark.real_model, pytest.mark.timeout(900)]
HOOK = "blocks.6.hook_resid_post"


def hovered_bar(person: Person, token: str) -> bool:
    """Point at the longest bar of the next tokens and read what the window says of it."""
    shown = person.see("Next token", exact=False, kind="BarsView")
    if not shown:
        return False
    x, y, width, height = shown[0]["rect"]
    person.point_at(x + width * 2 // 5, y + int(height * 0.16))
    return bool(person.see(f"{token} · Probability 0.7", exact=False))


def contents(recording: Recording) -> dict[str, Any]:
    """Every number of a run, as bytes that can be compared."""
    found: dict[str, Any] = {}
    for name in recording.metric_names():
        found[f"metrics/{name}"] = np.array(recording.metric(name))
    for name in recording.kept_names():
        found[f"kept/{name}"] = np.array(recording.kept(name))
    for section, id, _, arrays in recording.things():
        for name, array in arrays.items():
            found[f"{section}/{id}/{name}"] = np.array(array)
    return found


def assert_in_file(path: Path, run: str, numbers: dict[str, Any]) -> None:
    with h5py.File(path, "r") as file:
        for name, array in numbers.items():
            section = name.split("/")[0]
            where = name if section in ("models", "corpora", "activations", "dictionaries") else f"runs/{run}/{name}"
            stored = file[where][()]
            assert stored.dtype == array.dtype, where
            assert stored.tobytes() == array.tobytes(), f"{where} is not what was recorded"


def test_a_person_opens_smollm2_looks_trains_saves_and_finds_everything_again(
    person: Person, home: Path, tmp_path: Path
) -> None:
    person.start()
    person.screenshot("01-start")

    person.click("Open a model")
    person.click("SmolLM2-135M-Instruct", kind="QRadioButton")
    person.click("Open model")
    person.find("SmolLM2-135M-Instruct", kind="tab")
    person.find("Look at activations", kind="QPushButton")
    person.screenshot("02-model-card")

    person.click("Look at activations", kind="QPushButton")
    prompt = person.find("Prompt", kind="PromptEdit")["rect"]
    person.click_at(prompt[0] + 40, prompt[1] + 15)
    person.replace("The capital of France is")
    person.wait_until(lambda: hovered_bar(person, "Paris"), "the most likely next token under the mouse")
    person.screenshot("03-activations")

    choose_experiment(person, "PCA spectrum")
    fill(person, model="smollm2", text="python-docs", hook=HOOK, tokens="4000")
    person.click("Start", kind="QPushButton")
    person.wait_until(lambda: state_of_run(person) == "running", "the PCA to run")
    person.wait_until(lambda: state_of_run(person) == "finished", "the PCA to finish", 300)
    person.screenshot("04-pca")

    choose_experiment(person, "Train a dictionary")
    fill(person, model="smollm2", text="python-docs", hook=HOOK, tokens="6000", width="1152", k="16")
    fill(person, batch="512", steps="150")
    person.click("Start", kind="QPushButton")
    person.wait_until(lambda: state_of_run(person) == "running", "the training to run")
    person.wait_until(lambda: person.see("Loss", kind="CurvesView"), "the live curves", 300)
    person.click("Pause", kind="QPushButton")
    person.wait_until(lambda: state_of_run(person) == "paused", "the pause", 30)
    person.screenshot("05-paused")
    person.click("Continue", kind="QPushButton")
    person.wait_until(lambda: state_of_run(person) == "finished", "the training to finish", 300)
    person.screenshot("06-trained")

    recorded = {run: contents(recording) for run, recording in recordings(home).items()}
    assert {"pca-spectrum-1", "train-dictionary-1"} <= set(recorded)
    assert len(recorded["train-dictionary-1"]["metrics/loss"]) > 10
    assert any(name.startswith("dictionaries/") for name in recorded["train-dictionary-1"])

    path = tmp_path / "evening.superscope"
    save_as(person, path)
    person.press("ctrl+q")
    assert person.quit() == 0
    for run, numbers in recorded.items():
        assert_in_file(path, run, numbers)

    person.start(str(path))
    for title in ("pca-spectrum-1", "train-dictionary-1"):
        open_run(person, title)
        person.wait_until(lambda: state_of_run(person) == "finished", f"{title} reopened")
        person.screenshot(f"07-reopened-{title}")
    person.press("ctrl+q")
    assert person.quit() == 0
    for run, numbers in recorded.items():
        assert_in_file(path, run, numbers)
    assert not list(tmp_path.glob("*.tmp"))
