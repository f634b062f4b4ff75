"""A person at the screen: real X events through xdotool, found by what is written on things."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # seconds a person waits for something on a slow machine before giving up


class Person:
    """Starts the window and uses it with mouse and keys.

    Args:
        display: the X display (":99").
        home: SUPERSCOPE_HOME of the program.
        shots: where screenshots go.
    """

    def __init__(self, display: str, home: Path, shots: Path) -> None:
        self.environment = dict(
            os.environ, DISPLAY=display, QT_QPA_PLATFORM="xcb", SUPERSCOPE_HOME=str(home), NO_AT_BRIDGE="1"
        )
        self.shots = shots
        self.program: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> None:
        """Start Superscope and wait for its window."""
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.journeys.driven", *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.wait_until(lambda: any("Superscope" in entry.get("window", "") for entry in self.survey()), "the window")

    def survey(self) -> list[dict[str, Any]]:
        """What is on the screen now."""
        assert self.program is not None
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        if self.program.poll() is not None:
            raise AssertionError(f"the program ended with status {self.program.returncode}")
        self.program.stdin.write("?\n")
        self.program.stdin.flush()
        ready, _, _ = select.select([self.program.stdout], [], [], PATIENCE)
        assert ready, "the window did not answer: its event loop is stuck"
        return list(json.loads(self.program.stdout.readline()))

    def see(self, text: str, *, kind: str = "", exact: bool = True) -> list[dict[str, Any]]:
        """What carries ``text`` as its words or its accessible name."""

        def fits(value: str) -> bool:
            return value == text if exact else text in value

        return [
            entry
            for entry in self.survey()
            if (fits(entry["text"]) or fits(entry["name"])) and (not kind or entry["kind"] == kind)
        ]

    def wait_until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Look again until ``condition`` gives something true."""
        end = time.monotonic() + patience
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > end:
                self.screenshot("gave-up")
                raise AssertionError(f"waited {patience:.0f} s for {what}")
            select.select([], [], [], 0.1)

    def find(self, text: str, *, kind: str = "", exact: bool = True, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait for an enabled thing with these words; the smallest where several have them."""

        def enabled() -> list[dict[str, Any]]:
            return [entry for entry in self.see(text, kind=kind, exact=exact) if entry["enabled"]]

        found = self.wait_until(enabled, f"“{text}”", patience)
        best: dict[str, Any] = min(found, key=lambda entry: entry["rect"][2] * entry["rect"][3])
        return best

    def click(self, text: str, *, kind: str = "", exact: bool = True, button: int = 1, double: bool = False) -> None:
        """Move the mouse onto it and click."""
        x, y, width, height = self.find(text, kind=kind, exact=exact)["rect"]
        self.click_at(x + min(width // 2, 60), y + height // 2, button=button, double=double)

    def click_at(self, x: int, y: int, *, button: int = 1, double: bool = False) -> None:
        self.xdotool("mousemove", str(x), str(y))
        again = ["--repeat", "2", "--delay", "60"] if double else []
        self.xdotool("click", *again, str(button))

    def drag(self, start: tuple[int, int], end: tuple[int, int], steps: int = 8) -> None:
        """Press the left button at ``start``, move to ``end`` in so many steps, and let go."""
        self.xdotool("mousemove", str(start[0]), str(start[1]), "mousedown", "1")
        for step in range(1, steps + 1):
            x, y = (round(a + (b - a) * step / steps) for a, b in zip(start, end, strict=True))
            self.xdotool("mousemove", str(x), str(y))
        self.xdotool("mouseup", "1")

    def point_at(self, x: int, y: int) -> None:
        self.xdotool("mousemove", str(x), str(y))

    def type(self, text: str) -> None:
        self.xdotool("type", "--delay", "15", text)

    def press(self, *keys: str) -> None:
        self.xdotool("key", "--delay", "30", *keys)

    def replace(self, text: str) -> None:
        """Replace what the focused field holds."""
        self.press("ctrl+a")
        self.type(text)

    def xdotool(self, *words: str) -> None:
        subprocess.run(["xdotool", *words], env=self.environment, check=True, timeout=30)

    def screenshot(self, name: str) -> Path:
        """The whole display as PNG, through the X server's own dump."""
        self.shots.mkdir(parents=True, exist_ok=True)
        path = self.shots / f"{name}.png"
        code = (
            "import sys; from PySide6.QtGui import QGuiApplication; a = QGuiApplication([]); "
            "a.primaryScreen().grabWindow(0).save(sys.argv[1])"
        )
        subprocess.run([sys.executable, "-c", code, str(path)], env=self.environment, check=False, timeout=60)
        return path

    def quit(self, patience: float = 60.0) -> int:
        """Wait for the program to end by itself; its exit status."""
        assert self.program is not None
        assert self.program.stdin is not None
        status = self.program.wait(patience)
        self.program.stdin.close()
        assert self.program.stdout is not None
        self.program.stdout.close()
        self.program = None
        return status

    def end(self) -> None:
        """Kill what is left after a failed test."""
        if self.program is not None:
            self.program.send_signal(signal.SIGKILL)
            self.quit()
