"""The exception family of this room."""

from __future__ import annotations

from engine.errors import SuperscopeError


class DictionaryError(SuperscopeError):
    """A dictionary cannot be trained, measured or read; the sentence says why and what to do."""
