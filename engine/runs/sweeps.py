"""What the runs of one sweep share, by the sweep's name, and when it is let go: when the last of them has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

_guard = threading.Lock()
_acts: dict[str, list[Callable[[], None]]] = {}


def at_end(sweep: str, act: Callable[[], None]) -> None:
    """Call ``act`` when the sweep has ended; whoever runs the sweep says so by `ended`."""
    with _guard:
        _acts.setdefault(sweep, []).append(act)


def ended(sweep: str) -> None:
    """No further run of this sweep is to come. Saying it twice, or of no sweep (""), does no harm."""
    with _guard:
        acts = _acts.pop(sweep, [])
    for act in acts:
        act()
