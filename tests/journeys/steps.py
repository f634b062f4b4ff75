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


def save_as(person: Person, path: Path) -> None:
    """Save the session under a name of its own."""
    person.press("ctrl+s")
    person.wait_until(
        lambda: any(e["window"] == "Save session" for e in person.survey() if "window" in e), "the dialog"
    )
    person.replace(str(path))
    person.press("Return")
    person.wait_until(path.exists, "the saved file")
    person.wait_until(lambda: person.see("saved", exact=False), "the word that it is saved")


def open_run(person: Person, title: str) -> None:
    """Double-click a run in the tree at the left. A thing that it made has its name; the lower of two rows is the run."""
    rows = person.wait_until(lambda: person.see(title, kind="row"), f"{title} in the tree")
    lowest = max((row["rect"] for row in rows if row["rect"][0] < 220), key=lambda rect: rect[1])
    person.click_at(lowest[0] + 20, lowest[1] + lowest[3] // 2, double=True)


def recordings(home: Path) -> dict[str, Recording]:
    return {folder.name: Recording(folder) for folder in home.glob("data/work/*/runs/*")}
