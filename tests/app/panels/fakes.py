"""A scripted stand-in for the workbench, for cases in which only the panel's own behaviour is at stake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.figures.kinds import Figure
from engine.runs.messages import Answered, LookProgressed
from engine.runs.run import Progress


class Looks:
    """Takes questions as `Workbench.ask` does and answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.cancelled: list[int] = []
        self._calls: dict[int, tuple[str, Callable[..., Any], Callable[..., Any] | None]] = {}

    def ask(
        self,
        panel: str,
        experiment: str,
        parameters: dict[str, Any],
        on_answer: Callable[[Answered], None],
        on_progress: Callable[[LookProgressed], None] | None = None,
    ) -> int:
        self.asked.append(parameters)
        self._calls[len(self.asked)] = (panel, on_answer, on_progress)
        return len(self.asked)

    def cancel(self, look: int) -> None:
        self.cancelled.append(look)

    def answer(self, look: int, figures: dict[str, Figure] | None = None, **more: Any) -> None:
        panel, on_answer, _ = self._calls[look]
        on_answer(Answered(look, panel, figures or {}, more.pop("facts", {}), **more))

    def progress(self, look: int, progress: Progress) -> None:
        panel, _, on_progress = self._calls[look]
        assert on_progress is not None
        on_progress(LookProgressed(look, panel, progress))
