"""What can be done with what is selected in the session tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtGui import QGuiApplication

from app.window.popover import Popover
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.window.tree import SessionTree
    from app.workbench import Workbench
    from engine.runs.recording import RunRecord

PANELS = {"runs": "run", "models": "model", "corpora": "text", "dictionaries": "dictionary"}
ACTIVE = ("queued", "running", "paused")


class Selection:
    """Commands on the tree's selection."""

    def __init__(self, workbench: Workbench, tree: SessionTree) -> None:
        self._workbench = workbench
        self._tree = tree

    # ---- what is selected

    def runs(self) -> list[RunRecord]:
        """Records of the selected runs; empty where anything else is selected too."""
        found = []
        for run in self._tree.selected_runs():
            try:
                found.append(self._workbench.record(run))
            except SuperscopeError:
                return []
        return found

    def one(self) -> bool:
        return len(self._tree.selected()) == 1

    def one_or_more(self) -> bool:
        return bool(self._tree.selected())

    def one_run(self) -> bool:
        return len(self._tree.selected_runs()) == 1

    def comparable(self) -> bool:
        return len(self._tree.selected_runs()) > 1

    def resumable(self) -> bool:
        return any(record.state in ("stopped", "interrupted") for record in self.runs())

    def deletable(self) -> bool:
        chosen = self._tree.selected()
        return bool(chosen) and len({section for section, _ in chosen}) == 1

    # ---- what is done

    def open(self) -> None:
        """Show each selected entry in a tab; several runs as one comparison."""
        if self.comparable():
            self.compare()
            return
        for section, id in self._tree.selected():
            kind = PANELS.get(section)
            if kind == "model":
                self._workbench.open_panel(kind, self._reference(id))
            elif kind is not None:
                self._workbench.open_panel(kind, id)

    def compare(self) -> None:
        self._workbench.open_panel("compare", ",".join(self._tree.selected_runs()))

    def resume(self) -> None:
        for record in self.runs():
            if record.state in ("stopped", "interrupted"):
                try:
                    self._workbench.resume(record.id)
                except SuperscopeError as problem:
                    self._workbench.report(problem)

    def duplicate(self) -> None:
        """Show the run's parameters in the form, to be changed and started."""
        record = self.runs()[0]
        self._workbench.show_form(record.experiment, dict(record.parameters))

    def delete(self) -> None:
        """Delete what is selected; runs that go on are left."""
        chosen = self._tree.selected()
        section = chosen[0][0]
        ids = [id for _, id in chosen]
        if section == "runs":
            going = [record.id for record in self.runs() if record.state in ACTIVE]
            ids = [id for id in ids if id not in going]
            if going:
                self._workbench.message.emit(
                    "warning", f"{', '.join(going)} is still going and was not deleted; stop it first.", ""
                )
        if not ids:
            return
        try:
            self._workbench.delete(section, ids)
        except SuperscopeError as problem:
            self._workbench.report(problem)
            return
        what = ids[0] if len(ids) == 1 else f"{len(ids)} {section}"
        self._workbench.offer.emit("info", f"{what} deleted.", "", "Undo", "edit.undo")

    def tag(self) -> None:
        section, id = self._tree.selected()[0]
        present = ", ".join(self._attributes(section, id).get("tags") or ())

        def keep(text: str) -> None:
            tags = [tag.strip().lstrip("#") for tag in text.split(",")]
            self._try(lambda: self._workbench.tag(section, id, [tag for tag in tags if tag]))

        self._ask("Tags, separated by commas", present, keep, long=False)

    def note(self) -> None:
        section, id = self._tree.selected()[0]
        present = str(self._attributes(section, id).get("note") or "")
        self._ask(
            "Note", present, lambda text: self._try(lambda: self._workbench.annotate(section, id, text)), long=True
        )

    def copy_command(self) -> None:
        from engine.runs.snippets import as_command

        self._copy(as_command, "Command")

    def copy_python(self) -> None:
        from engine.runs.snippets import as_python

        self._copy(as_python, "Python")

    def show_help(self) -> None:
        self._workbench.open_panel("help", self.runs()[0].experiment)

    # ---- parts

    def _copy(self, write: Any, what: str) -> None:
        from engine.runs.schema import defaults

        record = self.runs()[0]
        described = self._workbench.catalogue.get(record.experiment, {"parameters": {}})
        QGuiApplication.clipboard().setText(write(record.experiment, record.parameters, defaults(described)))
        self._workbench.message.emit("good", f"{what} for {record.id} copied.", "")

    def _attributes(self, section: str, id: str) -> dict[str, Any]:
        if section == "runs":
            record = self._workbench.record(id)
            return {"tags": list(getattr(record, "tags", ()) or ()), "note": getattr(record, "note", "")}
        for thing in self._workbench.session.things(section):
            if thing.id == id:
                return dict(thing.attributes)
        return {}

    def _reference(self, id: str) -> str:
        return str(self._attributes("models", id).get("reference") or id)

    def _ask(self, title: str, text: str, keep: Any, *, long: bool) -> None:
        Popover(title, text, keep, self._tree.window(), long=long).popup(self._tree.place_of_selection())

    def _try(self, act: Any) -> None:
        try:
            act()
        except SuperscopeError as problem:
            self._workbench.report(problem)
