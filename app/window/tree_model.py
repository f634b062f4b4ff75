"""The session as a two-level item model: sections, and the models, texts, dictionaries and runs in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QAbstractItemModel, QModelIndex, QPersistentModelIndex, Qt

from app.icons import icon, state_icon
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

SECTIONS = {
    "models": "Models",
    "corpora": "Texts",
    "activations": "Activations",
    "dictionaries": "Dictionaries",
    "runs": "Runs",
}
ALWAYS = ("models", "corpora", "dictionaries", "runs")  # shown with a hint while empty
HINTS = {
    "models": "Open a model to begin",
    "corpora": "Texts that runs have used",
    "dictionaries": "Train one to see it here",
    "runs": "Start an experiment",
}
STATE_WORDS = {
    "queued": "queued",
    "running": "running",
    "paused": "paused",
    "finished": "finished",
    "stopped": "stopped",
    "interrupted": "interrupted",
    "failed": "failed",
}
SECTION_ROLE = Qt.ItemDataRole.UserRole
ID_ROLE = Qt.ItemDataRole.UserRole + 1
SEARCH_ROLE = Qt.ItemDataRole.UserRole + 2
Index = QModelIndex | QPersistentModelIndex


@dataclass
class Entry:
    """One line: ``id`` is "" for a section's hint."""

    id: str
    title: str
    state: str = ""
    tags: tuple[str, ...] = ()
    tip: str = ""


@dataclass
class Section:
    name: str
    entries: list[Entry] = field(default_factory=list)
    hint: bool = False


class SessionModel(QAbstractItemModel):
    """What the tree shows. Reads titles and states only, never arrays."""

    def __init__(self, workbench: Workbench, parent: Any = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self._sections: list[Section] = [Section(name, [Entry("", HINTS[name])], hint=True) for name in ALWAYS]
        workbench.session_changed.connect(self.reload)
        workbench.runs_changed.connect(lambda: self.reload_section("runs"))
        workbench.things_changed.connect(self.reload_section)
        workbench.run_changed.connect(self._run_changed)
        workbench.theme_changed.connect(self._recolour)

    # ---- filling

    def reload(self) -> None:
        """Read everything again: the session is another."""
        self.beginResetModel()
        read = [(name, self._read(name)) for name in SECTIONS]
        self._sections = [_section(name, entries) for name, entries in read if entries or name in ALWAYS]
        self.endResetModel()

    def reload_section(self, name: str) -> None:
        """Read one section again; what is selected elsewhere stays selected."""
        entries = self._read(name)
        place = next((i for i, section in enumerate(self._sections) if section.name == name), None)
        if place is None or (not entries and name not in ALWAYS):
            self.reload()
            return
        parent = self.index(place, 0)
        section = self._sections[place]
        new = _section(name, entries)
        if not section.hint and [entry.id for entry in section.entries] == [entry.id for entry in new.entries]:
            self._sections[place] = new
            self.dataChanged.emit(self.index(0, 0, parent), self.index(len(new.entries) - 1, 0, parent))
            return
        if not section.hint and len(new.entries) > len(section.entries):
            # The usual change: new runs at the top. Rows are inserted, so that the selection stays.
            added = len(new.entries) - len(section.entries)
            if [entry.id for entry in new.entries[added:]] == [entry.id for entry in section.entries]:
                self.beginInsertRows(parent, 0, added - 1)
                self._sections[place] = new
                self.endInsertRows()
                return
        self.beginRemoveRows(parent, 0, len(section.entries) - 1)
        self._sections[place] = Section(name)
        self.endRemoveRows()
        self.beginInsertRows(parent, 0, len(new.entries) - 1)
        self._sections[place] = new
        self.endInsertRows()
        self.dataChanged.emit(parent, parent)

    def _read(self, name: str) -> list[Entry]:
        workbench = self._workbench
        if not workbench.begun:
            return []
        if name == "runs":
            return [self._run_entry(record) for record in reversed(workbench.session.runs())]
        found = []
        for thing in workbench.session.things(name):
            attributes = thing.attributes
            title = str(attributes.get("title") or attributes.get("name") or thing.id)
            tip = str(attributes.get("reference") or attributes.get("source") or "")
            found.append(Entry(thing.id, title, tags=tuple(attributes.get("tags") or ()), tip=tip))
        return found

    def _run_entry(self, record: Any) -> Entry:
        title = record.title or record.id
        tip = f"{record.id}, {STATE_WORDS[record.state]}" + (f"\n{record.error}" if record.error else "")
        return Entry(record.id, title, record.state, tuple(getattr(record, "tags", ()) or ()), tip)

    def _run_changed(self, run: str) -> None:
        index = self.find("runs", run)
        if not index.isValid():
            return
        try:
            entry = self._run_entry(self._workbench.record(run))
        except SuperscopeError:  # deleted meanwhile: runs_changed follows
            return
        section = self._sections[index.parent().row()]
        if section.entries[index.row()] != entry:
            section.entries[index.row()] = entry
            self.dataChanged.emit(index, index)

    def _recolour(self) -> None:
        for row in range(len(self._sections)):
            parent = self.index(row, 0)
            self.dataChanged.emit(parent, parent)
            self.dataChanged.emit(self.index(0, 0, parent), self.index(self.rowCount(parent) - 1, 0, parent))

    # ---- finding

    def find(self, section: str, id: str) -> QModelIndex:
        """The index of an entry; invalid where there is none."""
        for row, candidate in enumerate(self._sections):
            if candidate.name == section:
                for place, entry in enumerate(candidate.entries):
                    if entry.id == id:
                        return self.index(place, 0, self.index(row, 0))
        return QModelIndex()

    def at(self, index: Index) -> tuple[str, str]:
        """Section and id at ``index``; the id is "" for a section or a hint."""
        if not index.isValid():
            return "", ""
        if not index.parent().isValid():
            return self._sections[index.row()].name, ""
        section = self._sections[index.parent().row()]
        return section.name, section.entries[index.row()].id

    # ---- what Qt asks

    def index(self, row: int, column: int, parent: Index = QModelIndex()) -> QModelIndex:  # noqa: B008 Qt's signature
        if not self.hasIndex(row, column, parent):
            return QModelIndex()
        # The internal id is 0 for a section, else the section's row plus one.
        return self.createIndex(row, column, parent.row() + 1 if parent.isValid() else 0)

    def parent(self, index: Index = QModelIndex()) -> QModelIndex:  # type: ignore[override] # noqa: B008
        if not index.isValid() or index.internalId() == 0:
            return QModelIndex()
        return self.createIndex(int(index.internalId()) - 1, 0, 0)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        if not parent.isValid():
            return len(self._sections)
        return len(self._sections[parent.row()].entries) if parent.internalId() == 0 else 0

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 1

    def flags(self, index: Index) -> Qt.ItemFlag:
        section, id = self.at(index)
        if not section:
            return Qt.ItemFlag.NoItemFlags
        if not index.parent().isValid():
            return Qt.ItemFlag.ItemIsEnabled
        if not id:
            return Qt.ItemFlag.NoItemFlags
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEditable

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        look = self._workbench.theme
        if not index.parent().isValid():
            return self._section_data(self._sections[index.row()], role)
        section = self._sections[index.parent().row()]
        entry = section.entries[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return entry.title + "".join(f"  #{tag}" for tag in entry.tags)
        if role == Qt.ItemDataRole.EditRole:
            return entry.title
        if role == Qt.ItemDataRole.DecorationRole and entry.id:
            return state_icon(entry.state, look) if entry.state else icon(section.name, look, "muted")
        if role == Qt.ItemDataRole.ToolTipRole:
            return entry.tip or None
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{entry.title}, {STATE_WORDS[entry.state]}" if entry.state else entry.title
        if role == Qt.ItemDataRole.ForegroundRole and not entry.id:
            return look.muted
        if role == SECTION_ROLE:
            return section.name
        if role == ID_ROLE:
            return entry.id
        if role == SEARCH_ROLE:
            return " ".join([entry.title, entry.id, entry.state, *(f"#{tag}" for tag in entry.tags), entry.tip])
        return None

    def _section_data(self, section: Section, role: int) -> Any:
        count = 0 if section.hint else len(section.entries)
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return f"{SECTIONS[section.name]}  {count}" if count else SECTIONS[section.name]
        if role == Qt.ItemDataRole.ForegroundRole:
            return self._workbench.theme.muted
        if role == SECTION_ROLE:
            return section.name
        return "" if role in (ID_ROLE, SEARCH_ROLE) else None

    def setData(self, index: Index, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        section, id = self.at(index)
        title = str(value).strip()
        if role != Qt.ItemDataRole.EditRole or not id or not title:
            return False
        if title != self.data(index, Qt.ItemDataRole.EditRole):
            try:
                self._workbench.rename(section, id, title)
            except SuperscopeError as problem:
                self._workbench.report(problem)
                return False
        return True


def _section(name: str, entries: list[Entry]) -> Section:
    return Section(name, entries) if entries else Section(name, [Entry("", HINTS.get(name, ""))], hint=True)
