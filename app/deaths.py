"""When the engine dies: what was running is interrupted, and whether another engine is started at once."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from engine.files import DiskError
from engine.runs.recording import RunRecord, write_record

if TYPE_CHECKING:
    from engine.session import Session

MOST = 3  # an engine that died so often within GRACE seconds is not started again by itself
GRACE = 60.0


class Deaths:
    """Counts the deaths of engines, so that one that dies at its start does not die for ever."""

    def __init__(self) -> None:
        self._when: list[float] = []

    def count(self) -> bool:
        """Another one. Whether an engine should be started again by itself."""
        now = time.monotonic()
        self._when = [death for death in self._when if now - death < GRACE] + [now]
        return len(self._when) < MOST

    def forget(self) -> None:
        """A person has started the engine again: begin to count anew."""
        self._when.clear()


def interrupt(session: Session, records: list[RunRecord], sentence: str) -> None:
    """Record that runs were interrupted. The engine, whose word it is otherwise, is dead."""
    for record in records:
        record.state = "interrupted"
        record.error = f"{sentence}. Resume goes on from its last checkpoint, or from the start where it has none."
        record.ended = time.time()
        with contextlib.suppress(DiskError):  # without a disk the session still knows it
            write_record(session.run_folder(record.id), record)
        session.update_run(record)


def told(sentence: str, again: bool, lost: list[RunRecord]) -> str:
    """What a person reads: what happened, what is done about it, what waits for them."""
    what = (
        "it is starting again and nothing that was recorded is lost."
        if again
        else f"it died {MOST} times within a minute, so it waits until the next run is started."
    )
    names = ", ".join(record.id for record in lost[:3]) + (", …" if len(lost) > 3 else "")
    return f"{sentence}; {what}" + (f" Interrupted, to be resumed when wanted: {names}." if lost else "")
