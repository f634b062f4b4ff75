"""Edits of a session: what changed since the last save, what can be undone, and the journal's lines.

An edit sets one value (``title``, ``tags``, ``note``, ``deleted``, and of the session itself
``title``, ``notes``, ``layout``) of one run, thing or the session. A journal line is an edit and
what was done with it: ``do``, ``more`` (it continues the one before), ``undo`` or ``redo``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeAlias

Key: TypeAlias = tuple[str, str, str]
TOGETHER = 3.0  # seconds within which typing into the same text is one step of undo
TYPED = ("notes", "note")
NOT_UNDONE = ("layout",)


@dataclass(frozen=True)
class Edit:
    """One change. ``text`` says it in words; ``time`` is in seconds since 1970 (UTC)."""

    section: str
    id: str
    name: str
    old: Any
    new: Any
    text: str
    time: float

    @property
    def key(self) -> Key:
        return self.section, self.id, self.name


class Edits:
    """The values that edits have set since the last save, with undo and redo."""

    def __init__(self) -> None:
        self._values: dict[Key, Any] = {}
        self._saved: dict[Key, Any] = {}  # what the file has for each key of _values
        self.done: list[Edit] = []
        self.undone: list[Edit] = []

    def get(self, section: str, id: str, name: str, default: Any) -> Any:
        """The value set since the last save, or ``default``."""
        return self._values.get((section, id, name), default)

    def changed(self) -> dict[Key, Any]:
        """Values that differ from what the file has."""
        return {key: value for key, value in self._values.items() if value != self._saved.get(key)}

    def doing(self, edit: Edit) -> dict[str, Any]:
        """The journal's line for an edit; `take` makes it."""
        last = self.done[-1] if self.done else None
        together = (
            last is not None
            and not self.undone
            and last.key == edit.key
            and edit.name in TYPED
            and edit.time - last.time <= TOGETHER
        )
        return {"what": "more" if together else "do", **asdict(edit)}

    def undoing(self) -> dict[str, Any] | None:
        """The journal's line for taking the last edit back; None where there is none."""
        return {"what": "undo", **asdict(self.done[-1])} if self.done else None

    def redoing(self) -> dict[str, Any] | None:
        """The journal's line for making the last undone edit again; None where there is none."""
        return {"what": "redo", **asdict(self.undone[-1])} if self.undone else None

    def take(self, line: dict[str, Any]) -> None:
        """Do what a line of the journal says. One that this version does not understand is passed over."""
        names = [entry.name for entry in fields(Edit)]
        if all(name in line for name in names):
            self._apply(str(line.get("what")), Edit(**{name: line[name] for name in names}))

    def snapshot(self) -> dict[Key, Any]:
        """All values, for a save; `saved` gets them back once they are in the file."""
        return dict(self._values)

    def saved(self, snapshot: dict[Key, Any], keep: Collection[tuple[str, str]] = ()) -> None:
        """The file holds ``snapshot`` by now: forget what it covers, keep what came later.

        Values of the runs and things in ``keep`` stay, as no longer changed: their recording, which
        knows nothing of edits, is still there and wins over the file.
        """
        for key, value in snapshot.items():
            if key in self._values:
                if self._values[key] == value and key[:2] not in keep:
                    del self._values[key]
                    self._saved.pop(key, None)
                else:
                    self._saved[key] = value
        gone = {key[:2] for key, value in snapshot.items() if key[2] == "deleted" and value}
        # What the file has lost cannot be brought back, so its edits leave the history.
        self.done = [edit for edit in self.done if (edit.section, edit.id) not in gone]
        self.undone = [edit for edit in self.undone if (edit.section, edit.id) not in gone]

    def settle(self, is_in_file: Callable[[Key, Any], bool]) -> None:
        """Forget values that the file has already: a process was killed between a save and its journal."""
        self.saved({key: value for key, value in self._values.items() if is_in_file(key, value)})

    def lines(self) -> Iterator[dict[str, Any]]:
        """The shortest journal that gives the same values; its history of undo is empty."""
        for key, value in self._values.items():
            section, id, name = key
            edit = Edit(section, id, name, self._saved.get(key), value, "", time.time())
            yield {"what": "set", **asdict(edit)}

    def _apply(self, what: str, edit: Edit) -> None:
        value = edit.old if what == "undo" else edit.new
        self._saved.setdefault(edit.key, edit.new if what == "undo" else edit.old)
        self._values[edit.key] = value
        if what == "undo":
            if self.done and self.done[-1] == edit:
                self.done.pop()
            self.undone.append(edit)  # also one from before a save, of which a replayed journal knows no more
        elif what == "redo":
            if self.undone and self.undone[-1] == edit:
                self.undone.pop()
            self.done.append(edit)
        elif what == "more" and self.done:
            last = self.done.pop()
            self.done.append(replace(last, new=edit.new, time=edit.time))
        elif what == "do" and edit.name not in NOT_UNDONE:
            self.done.append(edit)
            self.undone.clear()
