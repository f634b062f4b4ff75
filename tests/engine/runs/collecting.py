"""A place for messages in which tests wait for what they expect."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from engine.runs import messages
from engine.runs.messages import Message

M = TypeVar("M")


class Collected:
    """Messages in the order in which they came. Call it as a ``send``."""

    def __init__(self) -> None:
        self.all: list[Message] = []
        self._changed = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self._changed:
            self.all.append(message)
            self._changed.notify_all()

    def wait(self, condition: Callable[[], Any], timeout: float = 20.0) -> Any:
        """Wait until ``condition()`` is true, and give its value; fail after ``timeout`` seconds."""
        with self._changed:
            found = self._changed.wait_for(condition, timeout)
            assert found, f"not within {timeout} s; came: {self.all[-12:]}"
            return found

    def of(self, kind: type[M]) -> list[M]:
        """All messages of a kind."""
        return [message for message in self.all if isinstance(message, kind)]

    def states(self, run: str) -> list[str]:
        """The states that a run has been through."""
        return [message.record["state"] for message in self.of(messages.StateChanged) if message.run == run]

    def wait_for_state(self, run: str, state: str, timeout: float = 20.0) -> None:
        """Wait until a run is in ``state``."""
        self.wait(lambda: self.states(run)[-1:] == [state], timeout)

    def answer(self, look: int, timeout: float = 20.0) -> messages.Answered:
        """Wait for the answer to a look."""
        return self.wait(  # type: ignore[no-any-return]
            lambda: next((one for one in self.of(messages.Answered) if one.look == look), None), timeout
        )
