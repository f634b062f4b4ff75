"""The session: one HDF5 file, a work folder that is the autosave, recovery, saving.

Names are imported on first use, so that importing this package costs nothing; h5py is imported
when the first file is opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.session.contents import Thing as Thing
    from engine.session.errors import NotInSession as NotInSession
    from engine.session.errors import SessionError as SessionError
    from engine.session.errors import SessionLocked as SessionLocked
    from engine.session.finding import find_thing as find_thing
    from engine.session.finding import restore_recording as restore_recording
    from engine.session.finding import state_of as state_of
    from engine.session.recovery import Recovery as Recovery
    from engine.session.recovery import recoverable as recoverable
    from engine.session.request import SaveResult as SaveResult
    from engine.session.save_job import SaveJob as SaveJob
    from engine.session.session import Session as Session
    from engine.session.stored import StoredArray as StoredArray

_WHERE = {
    "NotInSession": "errors",
    "Recovery": "recovery",
    "SaveJob": "save_job",
    "SaveResult": "request",
    "Session": "session",
    "SessionError": "errors",
    "SessionLocked": "errors",
    "StoredArray": "stored",
    "Thing": "contents",
    "find_thing": "finding",
    "recoverable": "recovery",
    "restore_recording": "finding",
    "state_of": "finding",
}
__all__ = [
    "NotInSession",
    "Recovery",
    "SaveJob",
    "SaveResult",
    "Session",
    "SessionError",
    "SessionLocked",
    "StoredArray",
    "Thing",
    "find_thing",
    "recoverable",
    "restore_recording",
    "state_of",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"engine.session.{_WHERE[name]}"), name)
    raise AttributeError(name)
