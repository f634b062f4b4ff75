"""What the window asks of the process that saves, as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunToSave:
    """A recording to gather. ``dead`` runs were running when their process ended: they are stored as interrupted."""

    id: str
    folder: str
    dead: bool = False


@dataclass(frozen=True)
class SaveRequest:
    """A save, complete: what is not named here is copied from ``source`` as it is.

    Attributes:
        target: the file to write.
        source: the file as the session opened it; "" for none.
        handle: another name for the bytes of ``source`` (``/dev/fd/5``), used where its path has other bytes by now.
        identity: device and inode of those bytes.
        header: attributes of the root: title, created, uid, counters.
        notes: Markdown.
        layout: window state as JSON text.
        runs: recordings that replace or join the runs of ``source``.
        changed: ``[section, id, {name: value}]``: titles, tags and notes that were edited.
        deleted: ``[section, id, when]``: runs and things to leave out; things made later stay.
        made: folders of recordings whose things are gathered though their run is deleted.
    """

    target: str
    source: str
    handle: str
    identity: list[int]
    header: dict[str, Any]
    notes: str
    layout: str
    runs: list[RunToSave] = field(default_factory=list)
    changed: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    deleted: list[tuple[str, str, float]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SaveRequest:
        known = dict(values)
        known["runs"] = [RunToSave(**run) for run in known.get("runs", ())]
        return cls(**known)


@dataclass(frozen=True)
class SaveResult:
    """How a save ended. ``error`` is "" when the file is in place; else nothing on disk has changed.

    Attributes:
        path: the file.
        bytes: size of the new file.
        seconds: how long it took.
        warning: one sentence about what could not be carried over from a damaged file; "" for nothing.
    """

    path: str
    error: str = ""
    details: str = ""
    bytes: int = 0
    seconds: float = 0.0
    warning: str = ""

    @property
    def ok(self) -> bool:
        return not self.error
