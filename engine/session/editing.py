"""Editing a session: each edit is in the journal before it is seen, and can be undone."""

from __future__ import annotations

import json
import time
from typing import Any

from engine.runs.recording import ENDED
from engine.session.contents import Contents
from engine.session.edits import Edit
from engine.session.errors import SessionError

COMPACTED = 4 * 2**20  # bytes of journal beyond which it is written anew


class Editing(Contents):
    """Titles, tags, notes, deletions and the window's layout."""

    _title: str

    @property
    def title(self) -> str:
        return str(self._edits.get("session", "", "title", self._title))

    @property
    def notes(self) -> str:
        """Markdown."""
        return str(self._edits.get("session", "", "notes", self._stored.text("notes") if self._stored else ""))

    @property
    def layout(self) -> Any:
        """The window's state as `set_layout` was given it; None where there is none."""
        stored = self._stored.text("layout") if self._stored else ""
        try:
            return self._edits.get("session", "", "layout", json.loads(stored) if stored else None)
        except ValueError:
            return None

    # ---- edits

    def rename(self, section: str, id: str, title: str) -> None:
        """Give a run ("runs"), a thing or the session ("session", "") another title."""
        what = "the session" if section == "session" else self._name(section, id)
        self._edit(section, id, "title", title, f"Rename {what} to {title}")

    def tag(self, section: str, id: str, tags: list[str]) -> None:
        """Replace the tags of a run or thing."""
        self._edit(section, id, "tags", list(tags), f"Tag {self._name(section, id)}")

    def annotate(self, section: str, id: str, note: str) -> None:
        """Replace the note of a run or thing."""
        self._edit(section, id, "note", note, f"Note on {self._name(section, id)}")

    def delete(self, section: str, id: str) -> None:
        """Delete a run or thing. `undo` brings it back until the next save.

        Raises:
            SessionError: it is not there, or it is a run that has not ended.
        """
        if section == "runs" and self.run(id).state not in ENDED:
            raise SessionError(f"The run {id} is {self.run(id).state}; stop it before you delete it.")
        self._edit(section, id, "deleted", time.time(), f"Delete {self._name(section, id)}")

    def set_notes(self, markdown: str) -> None:
        """Replace the session's notes."""
        self._edit("session", "", "notes", markdown, "Edit the notes")

    def set_layout(self, state: Any) -> None:
        """Remember the window's state (JSON values). Not undoable, and no reason to ask for a save."""
        self._edit("session", "", "layout", state, "")

    @property
    def can_undo(self) -> bool:
        return bool(self._edits.done)

    @property
    def can_redo(self) -> bool:
        return bool(self._edits.undone)

    @property
    def undo_text(self) -> str:
        """What `undo` would take back ("Rename PCA spectrum to Layer 3"); "" for nothing."""
        return self._edits.done[-1].text if self._edits.done else ""

    @property
    def redo_text(self) -> str:
        """What `redo` would do again; "" for nothing."""
        return self._edits.undone[-1].text if self._edits.undone else ""

    def undo(self) -> str:
        """Take the last edit back; what it was ("" for nothing)."""
        return self._journal(self._edits.undoing())

    def redo(self) -> str:
        """Do the edit again that was taken back last; what it was ("" for nothing)."""
        return self._journal(self._edits.redoing())

    def _journal(self, line: dict[str, Any] | None) -> str:
        """Write a line of the journal, and only then do what it says; what that is."""
        if line is None:
            return ""
        self._work.append_journal(line)
        self._edits.take(line)
        if self._work.journal_size > COMPACTED:
            self._work.rewrite_journal(self._edits.lines())
        return str(line["text"])

    def _edit(self, section: str, id: str, name: str, value: Any, text: str) -> None:
        old = self._present(section, id, name)
        if value != old:
            self._journal(self._edits.doing(Edit(section, id, name, old, value, text, time.time())))

    def _present(self, section: str, id: str, name: str) -> Any:
        if section == "session":
            return {"title": self.title, "notes": self.notes, "layout": self.layout}[name]
        if name == "deleted":
            self._name(section, id)
            return None
        if section == "runs":
            return getattr(self.run(id), name)
        return self._attributes_of(section, id).get(name, [] if name == "tags" else "")

    def _name(self, section: str, id: str) -> str:
        """The title of a run or thing, else its id. Raises `SessionError` where there is none."""
        title = self.run(id).title if section == "runs" else self._attributes_of(section, id).get("title")
        return str(title or id)

    def _attributes_of(self, section: str, id: str) -> dict[str, Any]:
        self._thing(section, id)
        return next(thing.attributes for thing in self.things(section) if thing.id == id)
