"""The exception family of this room."""

from __future__ import annotations

from engine.errors import SuperscopeError


class GeometryError(SuperscopeError):
    """Activations whose geometry cannot be measured; the sentence says which and what to do."""
