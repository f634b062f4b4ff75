"""The one exception family whose messages are written for the person at the screen."""

from __future__ import annotations


class SuperscopeError(Exception):
    """A problem that a person can understand and act on.

    The message is one sentence: what happened, to which thing with which value, and what to do.
    Each room derives its own family from this class. Anything else that escapes from an
    experiment is a defect, and is shown as such with its traceback one click away.
    """


class ParameterError(SuperscopeError):
    """A parameter is unknown, of the wrong type or outside its bounds (exit status 2)."""
