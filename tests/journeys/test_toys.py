"""A toy from the gallery: trained, scrubbed, taken apart by a dictionary that is scored, saved and found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.journeys.person import Person
from tests.journeys.steps import choose_experiment, fill, open_run, recordings, save_as, state_of_run

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]
TOY = "Toy models of superposition"


def checkpoint(person: Person) -> str:
    """What the timeline says is shown."""
    found = person.see("Shown checkpoint")
    return str(found[0]["text"]) if found else ""


def write_model(person: Person, reference: str) -> None:
    x, y, _, height = person.find("model", kind="QLineEdit")["rect"]
    person.click_at(x + 20, y + height // 2)
    person.replace(reference)
    person.press("Tab")


def test_a_person_trains_a_toy_scrubs_it_and_scores_a_dictionary_on_it(
    person: Person, home: Path, tmp_path: Path
) -> None:
    person.start()
    person.click("Toy models", kind="Card")
    person.wait_until(lambda: person.see(f"Train: {TOY}"), "the gallery")
    person.screenshot("01-gallery")
    person.click(f"Train: {TOY}", kind="QPushButton")
    person.click("size", kind="QuietCombo")
    person.type("quick")
    person.press("Return")
    person.wait_until(lambda: person.see("About ", exact=False), "the estimate")
    person.screenshot("02-form")
    person.click("Start", kind="QPushButton")
    person.wait_until(lambda: state_of_run(person) == "finished", "the toy to be trained", 300)
    person.wait_until(lambda: checkpoint(person).endswith(", latest"), "the timeline")
    person.screenshot("03-trained")

    person.click("Checkpoint", kind="QSlider")
    person.press("Home")
    person.wait_until(lambda: checkpoint(person).startswith("step 0 · 1 of "), "the untrained toy")
    person.screenshot("04-untrained")
    person.press("Right", "Right", "Right")
    person.wait_until(lambda: " · 4 of " in checkpoint(person), "the fourth checkpoint")
    person.click("Play", kind="QPushButton")
    person.wait_until(lambda: checkpoint(person).endswith(", latest"), "the movie's end")

    choose_experiment(person, "Train a dictionary")
    write_model(person, "toy:superposition-1")
    person.wait_until(lambda: len(person.see("toy:superposition-1", kind="QLineEdit")) >= 2, "the toy's own text")
    fill(person, width="8", k="1", steps="300")
    person.screenshot("05-dictionary-form")
    person.click("Start", kind="QPushButton")
    person.wait_until(lambda: len(recordings(home)) == 2, "the second run")
    person.wait_until(lambda: recordings(home)["train-dictionary-1"].record().state == "finished", "the training", 300)
    found = recordings(home)["train-dictionary-1"]
    assert found.record().parameters["text"] == "toy:superposition-1"
    assert "planted features" in found.figure_names()
    assert 0 < found.metric("planted")[-1, 1] <= 1
    person.screenshot("06-dictionary")

    path = tmp_path / "toys.superscope"
    save_as(person, path)
    person.press("ctrl+q")
    assert person.quit() == 0

    person.start(str(path))
    open_run(person, "superposition-1")
    person.wait_until(lambda: checkpoint(person).endswith(", latest"), "the timeline of the reopened run")
    person.click("Checkpoint", kind="QSlider")
    person.press("Home")
    person.wait_until(lambda: checkpoint(person).startswith("step 0 · 1 of "), "the untrained toy again")
    person.screenshot("07-reopened")
    person.press("ctrl+q")
    assert person.quit() == 0
