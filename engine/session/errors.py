"""The session room's error family."""

from __future__ import annotations

from engine.errors import SuperscopeError


class SessionError(SuperscopeError):
    """A session cannot be opened, read or saved; nothing was half-loaded and no file was changed."""


class NotInSession(SessionError):
    """There is no run or thing of that id in the session."""


class SessionLocked(SessionError):
    """Another window or command is writing this session; the sentence says which and since when."""
