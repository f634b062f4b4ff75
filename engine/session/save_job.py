"""The window's side of a save: starts the process that saves, follows it, tells how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.session.errors import SessionError
from engine.session.request import SaveRequest, SaveResult

ROOT = Path(__file__).resolve().parent.parent.parent  # where the package `engine` is found


def child_command() -> list[str]:
    """How the saving process is started; the request follows on its stdin."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "--save-session", "-"]
    return [sys.executable, "-m", "engine.session.saving", "-"]


def child_options() -> dict[str, Any]:
    """Where and with which environment it is started."""
    frozen = getattr(sys, "frozen", False)
    return {"cwd": None if frozen else ROOT, "env": {**os.environ, "PYTHONIOENCODING": "utf-8"}}


class SaveJob:
    """A save under way. The session learns of its end in `poll` or `wait`, in the thread that calls them.

    Attributes:
        path: the file that is written.
    """

    def __init__(self, request: SaveRequest, handle: int | None, finished: Callable[[SaveResult], SaveResult]) -> None:
        self.path = Path(request.target)
        self._done, self._total = 0, 0
        self._finished = finished
        self._result: SaveResult | None = None
        self._last: dict[str, Any] = {}
        self._said: list[str] = []
        options = child_options()
        if handle is not None and sys.platform != "win32":
            options["pass_fds"] = (handle,)
        try:
            self._process = subprocess.Popen(
                child_command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                **options,
            )
        except OSError as problem:
            raise SessionError(
                f"The process that saves could not be started ({problem.strerror}), so {self.path.name} was not saved; "
                "close other programs and try again."
            ) from problem
        self._reader = threading.Thread(
            target=self._follow, args=(json.dumps(request.to_json()).encode(),), name="save", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """The saving process."""
        return self._process.pid

    @property
    def progress(self) -> float:
        """How much is written, from 0 to 1."""
        return self._done / self._total if self._total else 0.0

    def poll(self) -> SaveResult | None:
        """The result, or None while the save goes on. A failed save has an ``error``; nothing is raised."""
        if self._result is None and not self._reader.is_alive():
            self._reader.join()
            self._result = self._finished(self._read_result())
        return self._result

    def wait(self, timeout: float | None = None) -> SaveResult:
        """Wait for the end.

        Raises:
            SessionError: the save failed; the sentence says why. What was there is untouched.
            TimeoutError: it goes on after ``timeout`` seconds.
        """
        self._reader.join(timeout)
        result = self.poll()
        if result is None:
            raise TimeoutError(f"saving {self.path.name} takes longer than {timeout} s")
        if not result.ok:
            raise SessionError(result.error)
        return result

    def cancel(self) -> None:
        """Give the save up; what was there is untouched."""
        if self._reader.is_alive():
            self._process.kill()

    def _follow(self, request: bytes) -> None:
        """In the thread: hand over the request, read what the process says until it ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(request)
            self._process.stdin.close()
        except OSError:
            self._said.append("the process ended before it read what to save")
        for line in self._process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                said = None
            if not isinstance(said, dict):
                self._said.append(line.decode("utf-8", "replace").rstrip())
            elif "result" in said:
                self._last = said["result"]
            else:
                self._done, self._total = said.get("done", 0), said.get("total", 0)
        self._process.stdout.close()
        self._process.wait()

    def _read_result(self) -> SaveResult:
        if self._last:
            return SaveResult(**self._last)
        status = self._process.returncode
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return SaveResult(
            str(self.path),
            error=f"Saving {self.path.name} was cut off ({how}), so the file is as it was before and nothing is lost; "
            "save again.",
            details="\n".join(self._said),
        )
