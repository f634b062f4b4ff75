"""Looks: what panels ask of the engine while a person types or hovers, and whom to tell the answer."""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.runs import messages

if TYPE_CHECKING:
    from engine.runs.messages import Answered, LookProgressed, Message


class Looks:
    """The questions that are out: one per panel, a newer one replaces it."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._out: dict[int, tuple[str, Callable[..., Any], Callable[..., Any] | None]] = {}

    def ask(
        self,
        panel: str,
        experiment: str,
        parameters: dict[str, Any],
        on_answer: Callable[[Answered], None],
        on_progress: Callable[[LookProgressed], None] | None = None,
    ) -> int:
        """Put a question; its number. Bound methods are held weakly, so that a closed panel is not called."""
        for number, (asking, _, _) in list(self._out.items()):
            if asking == panel:
                del self._out[number]
        number = next(self._numbers)
        self._out[number] = (panel, _weakly(on_answer), _weakly(on_progress) if on_progress else None)
        self._send(messages.Ask(number, panel, experiment, parameters))
        return number

    def cancel(self, look: int) -> None:
        """Forget a question; nothing is called any more."""
        if self._out.pop(look, None) is not None:
            self._send(messages.Cancel(look))

    @property
    def out(self) -> int:
        """How many questions wait for their answer."""
        return len(self._out)

    def forget(self) -> None:
        """Forget all of them: the session is another."""
        self._out.clear()

    def answer(self, said: Answered) -> None:
        """Pass an answer on; one that nobody waits for is dropped."""
        found = self._out.get(said.look)
        if found is None:
            return
        if said.done:
            del self._out[said.look]
        found[1](said)

    def progress(self, said: LookProgressed) -> None:
        """Pass progress on."""
        found = self._out.get(said.look)
        if found is not None and found[2] is not None:
            found[2](said)

    def fail(self, sentence: str) -> None:
        """Answer every question that is out with an error."""
        lost, self._out = self._out, {}
        for number, (panel, on_answer, _) in lost.items():
            on_answer(messages.Answered(number, panel, {}, {}, error=sentence))


def _weakly(call: Callable[..., Any]) -> Callable[..., Any]:
    if not inspect.ismethod(call):
        return call
    held = weakref.WeakMethod(call)

    def through(*values: Any) -> None:
        method = held()
        if method is not None:
            method(*values)

    return through
