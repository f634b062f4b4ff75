"""What can go wrong with a toy model."""

from engine.errors import SuperscopeError


class ToyError(SuperscopeError):
    """A toy cannot be trained as asked, or its training has diverged."""
