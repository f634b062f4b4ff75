"""Steering SmolLM2: a direction from the sentiment pairs, the slider dragged, a sweep run, saved and found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.journeys.person import Person
from tests.journeys.steps import open_run, recordings, save_as, state_of_run

pytestmark = [pytest.mark.journey, pytest.mark.real_model, pytest.mark.timeout(900)]
BEGINNING = "The weather on our trip was"


def text_of(person: Person, name: str) -> str:
    """What one of the two texts says."""
    found = person.see(name, kind="TokenText", exact=False)
    return str(found[0]["text"]) if found else ""


def steered_text(person: Person, prompt: str = BEGINNING) -> str:
    """The steered text once there is more than the prompt."""
    found = text_of(person, "Steered")
    return found if found.startswith(prompt) and len(found) > len(prompt) + 20 else ""


def rectangle(person: Person, name: str, kind: str) -> tuple[int, int, int, int]:
    x, y, width, height = person.find(name, kind=kind)["rect"]
    return int(x), int(y), int(width), int(height)


def strength(person: Person) -> float:
    """The strength that the steered text was written with, as it says above the text."""
    found = person.see("Steered, strength ", kind="TokenText", exact=False)
    words = found[0]["name"].removeprefix("Steered, strength ") if found else "nan"
    return float(words.replace("−", "-").replace("+", ""))


def drag_to(person: Person, share: float) -> None:
    """Take the slider's handle where it is by clicking its middle, and drag it to ``share`` of its width."""
    x, y, width, height = rectangle(person, "Strength", "StrengthSlider")
    across = y + height // 2
    person.drag((x + width // 2, across), (x + round(width * share), across))


def test_a_person_steers_smollm2_sweeps_saves_and_finds_everything_again(
    person: Person, home: Path, tmp_path: Path
) -> None:
    person.start()
    person.click("Open a model")
    person.click("SmolLM2-135M-Instruct", kind="QRadioButton")
    person.click("Open model")
    person.click("Steer", kind="QPushButton")
    person.wait_until(lambda: text_of(person, "Steered"), "the first steered text", 300)
    assert person.find("Prompt set", kind="Choice")["text"] == "Sentiment"
    assert person.find("Method", kind="Choice")["text"] == "Difference of means"
    x, y, _, _ = rectangle(person, "Prompt", "PromptEdit")
    person.click_at(x + 40, y + 12)
    person.replace(BEGINNING)
    person.wait_until(lambda: steered_text(person), "both texts from the new beginning", 120)
    person.screenshot("01-bench")

    drag_to(person, 0.9)
    person.wait_until(lambda: strength(person) > 1.5 and steered_text(person), "the text steered to the positive", 120)
    up = steered_text(person)
    drag_to(person, 0.1)
    person.wait_until(lambda: strength(person) < -1.5 and steered_text(person), "the text steered the other way", 120)
    assert steered_text(person) != up
    clean = text_of(person, "Not steered")
    person.screenshot("02-dragged")
    assert clean.startswith(BEGINNING)

    person.click("Run sweep", kind="QPushButton")
    person.wait_until(lambda: "steering-sweep-1" in recordings(home), "the sweep")
    sweep = recordings(home)["steering-sweep-1"]
    person.wait_until(lambda: sweep.record().state == "finished", "the sweep to finish", 600)
    person.wait_until(lambda: state_of_run(person) == "finished", "its page")
    person.screenshot("03-sweep")
    assert sweep.record().parameters["model"] == "smollm2"
    figures = sweep.figure_names()
    numbers = {name: np.array(sweep.kept(name)) for name in sweep.kept_names()}
    assert numbers
    assert "steerability" in figures

    path = tmp_path / "steering.superscope"
    save_as(person, path)
    person.press("ctrl+q")
    assert person.quit() == 0

    person.start(str(path))
    open_run(person, "steering-sweep-1")
    person.wait_until(lambda: state_of_run(person) == "finished", "the sweep reopened")
    person.screenshot("04-reopened-sweep")
    person.click("Steering · ", kind="tab", exact=False)
    person.wait_until(lambda: steered_text(person), "the bench as it was", 300)
    assert strength(person) < -1.5
    person.screenshot("05-reopened-bench")
    person.press("ctrl+q")
    assert person.quit() == 0
