"""The exception family of this room."""

from __future__ import annotations

from engine.errors import SuperscopeError


class TextError(SuperscopeError):
    """A text cannot be found, read or tokenised; the sentence says which, where and what to do."""
