"""Superscope's engine: the science and the data, without a window.

``from engine import run, sweep, load, Session`` is the whole scripting interface; everything is
imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.api import load as load
    from engine.api import run as run
    from engine.api import sweep as sweep
    from engine.session import Session as Session

__version__ = "0.1.0"
__all__ = ["Session", "load", "run", "sweep"]


def __getattr__(name: str) -> Any:
    if name in ("run", "sweep", "load"):
        from engine import api

        return getattr(api, name)
    if name == "Session":
        from engine.session import Session

        return Session
    raise AttributeError(name)
