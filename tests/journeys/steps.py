"""What people do again and again in the window."""

from __future__ import annotations

from pathlib import Path

from engine.runs.recording import Recording
from tests.journeys.person import Person


def fill(person: Person, **parameters: str) -> None:
    """Type values into the form's fields, each found by its accessible name."""
    for name, value in parameters.items():
        person.click(name, kind="QLineEdit" if name not in ("hook",) else "HookLine")
        person.replace(value)
        person.press("Tab")


def choose_experiment(person: Person, words: str) -> None:
    person.press("ctrl+k")
    person.find("Search commands")
    person.type(words)
    person.find(words, kind="row")
    person.press("Return")


def state_of_run(person: Person) -> str:
    found = person.see("State: ", exact=False)
    return str(found[0]["name"]).removeprefix("State: ").lower() if found else ""


def recordings(home: Path) -> dict[str, Recording]:
    return {folder.name: Recording(folder) for folder in home.glob("data/work/*/runs/*")}
