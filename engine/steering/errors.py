"""The exception family of this room."""

from __future__ import annotations

from engine.errors import SuperscopeError


class SteeringError(SuperscopeError):
    """An intervention that cannot be made or measured; the sentence says which and what to do."""
