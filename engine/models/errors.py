"""The exception family of this room."""

from __future__ import annotations

from engine.errors import SuperscopeError


class ModelError(SuperscopeError):
    """A model cannot be found, opened, understood or run; the sentence says which and what to do."""
