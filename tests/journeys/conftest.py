"""A display of the test's own with a window manager, and a person to use it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.journeys.person import Person

NEEDED = {"Xvfb": "xvfb", "xdotool": "xdotool", "openbox": "openbox"}


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """An X display with openbox, 1280 × 800. A missing program fails the test with the command to type."""
    missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    if missing:
        pytest.fail(f"A display for the journeys is missing; type: sudo apt-get install -y {' '.join(missing)}")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=(writing,),
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    name = f":{number}"
    manager = subprocess.Popen(["openbox"], env=dict(os.environ, DISPLAY=name), stderr=subprocess.DEVNULL)
    yield name
    for process in (manager, server):
        process.terminate()
        process.wait(10)


@pytest.fixture
def person(display: str, home: Path, request: pytest.FixtureRequest) -> Iterator[Person]:
    someone = Person(display, home, ROOT / "build" / "journeys" / request.node.name)
    yield someone
    someone.end()
