"""Reading sessions that an older Superscope wrote: a copy is brought up to date, step by step.

Each migrator takes the open h5py file of one layout version and makes it the next. The file itself
is never changed: only saving writes it anew, in the present layout.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import files, places
from engine.session import checking
from engine.session.errors import SessionError
from engine.session.layout import VERSION

# From the version that is the key to the next one. Version 1 is the first.
MIGRATORS: dict[int, Callable[[Any], None]] = {}


def migrated(path: Path, version: int) -> Path:
    """A copy of the session at ``path`` in the present layout; made once for each state of the file.

    Raises:
        SessionError: no way leads from ``version`` to the present one, or the file is damaged.
        DiskError: there is no room for the copy.
    """
    import h5py

    if any(step not in MIGRATORS for step in range(version, VERSION)):
        raise SessionError(
            f"{path.name} has layout version {version}, which this Superscope (version {VERSION}) cannot read; "
            "open and save it with the Superscope that wrote it, or a newer one than this."
        )
    status = path.stat()
    mark = hashlib.sha256(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{VERSION}".encode()).hexdigest()[:24]
    place = places.cache() / "migrated" / f"{mark}.superscope"
    if place.exists():
        return place
    try:
        with files.replacing(place) as temporary:
            shutil.copyfile(path, temporary)
            with h5py.File(temporary, "r+", locking=False) as file:
                for step in range(version, VERSION):
                    MIGRATORS[step](file)
                    file.attrs["version"] = step + 1
    except checking.DAMAGE as problem:
        raise SessionError(
            f"{path.name} (layout version {version}) is damaged and could not be brought up to date ({problem}); "
            "take a backup of it."
        ) from problem
    return place
