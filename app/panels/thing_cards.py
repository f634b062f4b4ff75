"""Cards of what runs produce: a dictionary, a text. All from the session's stored attributes and arrays."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtWidgets import QFileDialog, QMenu, QPushButton, QVBoxLayout, QWidget

from app.panels.facts import FactsTable, rows_of
from app.panels.panel import Page
from app.panels.parts import Notice, Section, button, label, row, title_label
from app.panels.rows import Rows, RowsView
from app.panels.words import metric_value, size
from engine.errors import SuperscopeError
from engine.figures.kinds import Axis, Histogram

if TYPE_CHECKING:
    from app.workbench import Workbench

BINS_A_DECADE = 4
SHOWN = 200  # rows of a prompt set on its card
# Formats that dictionaries are written in, and the programs that read them.
EXPORTS = {"saelens": "SAELens", "dictionary_learning": "dictionary_learning", "sparsify": "sparsify"}


class ThingCard(Page):
    """What a card of any section has: facts, arrays, the run it came from."""

    section = ""
    gone = "It is no longer in this session."

    def __init__(self, key: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(key, workbench, parent)
        self.head = title_label("")
        self.problem = Notice("warning")
        self.facts = FactsTable("Facts")
        self._arrays = Rows(["Array", "Shape", "Type", "Size"], monospaced=["Array"])
        self.arrays = RowsView(self._arrays, "Arrays", most=10)
        self._arrays_section = Section("Arrays", self.arrays)
        self.column.addWidget(self.head)
        self.column.addLayout(row(*self.make_actions()))
        for widget in (self.problem, self.facts, *self.make_extras(), self._arrays_section):
            self.column.addWidget(widget)
        self.column.addStretch(1)
        workbench.things_changed.connect(self._changed)
        self.refresh()

    def title(self) -> str:
        attributes = self.attributes()
        return str(attributes.get("title") or self.key) if attributes is not None else self.key

    def closing(self) -> None:
        self.workbench.things_changed.disconnect(self._changed)

    def attributes(self) -> dict[str, Any] | None:
        """The thing's attributes; None where it is no longer there."""
        for thing in self.workbench.session.things(self.section):
            if thing.id == self.key:
                return dict(thing.attributes)
        return None

    def make_actions(self) -> list[QPushButton]:
        """Buttons under the title."""
        return []

    def make_extras(self) -> list[QWidget]:
        """Widgets between the facts and the arrays."""
        return []

    def fact_rows(self, attributes: dict[str, Any]) -> list[tuple[str, ...]]:
        """The facts shown, from the attributes."""
        return rows_of(attributes)

    def refresh(self) -> None:
        """Bring all up to date with the session."""
        attributes = self.attributes()
        self.head.setText(self.title())
        self.problem.say("" if attributes is not None else self.gone)
        self.facts.set_rows(self.fact_rows(attributes) if attributes is not None else [])
        rows = []
        session = self.workbench.session
        names = session.thing_array_names(self.section, self.key) if attributes is not None else []
        for name in names:
            array = session.thing_array(self.section, self.key, name)
            shape = " × ".join(f"{length:,}" for length in array.shape) or "one number"
            rows.append([name, shape, str(array.dtype), size(array.size * array.dtype.itemsize)])
        self._arrays.set_rows(rows)
        self._arrays_section.setVisible(bool(rows))
        self._say_title()

    def _changed(self, section: str) -> None:
        if section in ("", self.section):
            self.refresh()


class DictionaryCard(ThingCard):
    """A dictionary: its configuration, arrays, firing densities and the run that trained it."""

    kind = "dictionary"
    section = "dictionaries"
    gone = "This dictionary is no longer in the session; undo brings it back where it was deleted here."

    def make_actions(self) -> list[QPushButton]:
        self._to_run = button("Open its run", self._open_run, tip="The run it comes from, with its curves and figures")
        return [self._to_run, self._make_export()]

    def _make_export(self) -> QPushButton:
        self.export = button("Export…", lambda: None, tip="Write it into a folder that another program reads")
        menu = QMenu(self.export)
        for format, program in EXPORTS.items():
            action = menu.addAction(f"{program}…")
            action.triggered.connect(lambda _=False, format=format: self.choose_export(format))
        self.export.setMenu(menu)
        return self.export

    def choose_export(self, format: str) -> None:
        """Ask for a new folder and write the dictionary into it."""
        settings = self.workbench.settings
        start = Path(settings.folder) if settings.folder else Path.home()
        path, _ = QFileDialog.getSaveFileName(
            self, f"Export for {EXPORTS[format]}: a new folder", str(start / f"{self.key}-{format}")
        )
        if path:
            settings.folder = str(Path(path).parent)
            settings.save()
            self.export_to(Path(path), format)

    def export_to(self, folder: Path, format: str) -> str:
        """Write the dictionary into ``folder`` in the background; a message says how it went. The run, "" where none."""
        parameters = {"dictionary": self.key, "folder": str(folder), "format": format}
        try:
            return self.workbench.start("export-dictionary", parameters, title=f"Export {self.title()}")
        except SuperscopeError as problem:
            self.workbench.report(problem)
            return ""

    def make_extras(self) -> list[QWidget]:
        self._density_view: Any = None
        self._density = QWidget()
        QVBoxLayout(self._density).setContentsMargins(0, 0, 0, 0)
        return [self._density]

    def fact_rows(self, attributes: dict[str, Any]) -> list[tuple[str, ...]]:
        config = attributes.get("config", {})
        if isinstance(config, str):
            try:
                config = json.loads(config)
            except ValueError:
                config = {"config": config}
        rest = {
            name: value for name, value in attributes.items() if name not in ("config", "title", "metrics", "facts")
        }
        rest |= {name: value for name, value in _said(attributes).items() if name != "note"}
        return rows_of(config, verbatim=True) + rows_of(rest, verbatim=True) + self._metric_rows(attributes)

    def _metric_rows(self, attributes: dict[str, Any]) -> list[tuple[str, ...]]:
        """What was measured, as the experiment that made it calls it."""
        metrics = attributes.get("metrics")
        if not isinstance(metrics, dict):
            return []
        run = self._run()
        experiment = self.workbench.record(run).experiment if run is not None else ""
        declared = self.workbench.catalogue.get(experiment, {}).get("metrics", {})
        rows: list[tuple[str, ...]] = []
        for name, value in metrics.items():
            metric = declared.get(name, {})
            label = metric.get("label") or name
            rows.append(
                (label, metric_value(float(value), metric.get("unit", ""), label), metric.get("definition", ""))
            )
        return rows

    def refresh(self) -> None:
        super().refresh()
        self._to_run.setVisible(self._run() is not None)
        attributes = self.attributes()
        self.export.setEnabled(attributes is not None)
        if attributes is not None:  # what to know of a file that another program wrote
            self.problem.say(str(_said(attributes).get("note", "")))
        self._show_density()

    def _run(self) -> str | None:
        run = (self.attributes() or {}).get("run")
        try:
            return self.workbench.record(str(run)).id if run else None
        except SuperscopeError:  # its run was deleted
            return None

    def _open_run(self) -> None:
        run = self._run()
        if run is not None:
            self.workbench.open_panel("run", run)

    def _show_density(self) -> None:
        from app.views import make_view  # late: views bring pyqtgraph

        names = self.workbench.session.thing_array_names(self.section, self.key) if self.attributes() else []
        found = next((name for name in names if name.rpartition("/")[2].rpartition(".")[2] == "density"), None)
        self._density.setVisible(found is not None)
        if found is None or self._density_view is not None:
            return
        density = np.asarray(self.workbench.session.thing_array(self.section, self.key, found), dtype=np.float64)
        self._density_view = make_view(density_figure(density), self.workbench)
        self._density_view.setMinimumHeight(260)
        layout = self._density.layout()
        assert layout is not None
        layout.addWidget(self._density_view)


def _said(attributes: dict[str, Any]) -> dict[str, Any]:
    """What the files of a dictionary say besides its configuration, where it was opened from files."""
    facts = attributes.get("facts")
    return facts if isinstance(facts, dict) else {}


def density_figure(density: np.ndarray[Any, np.dtype[np.float64]]) -> Histogram:
    """Histogram of log10 firing densities (width,); latents that never fired are counted in the first bin."""
    finite = density[np.isfinite(density)]
    fired = finite[finite > 0]
    dead = len(finite) - len(fired)
    least = math.floor(math.log10(fired.min())) if len(fired) else -1
    floor = 10.0 ** (least - 1)
    wanted = np.log10(np.maximum(finite, floor))
    counts, edges = np.histogram(wanted, bins=BINS_A_DECADE * (1 - least), range=(least - 1, 0))
    note = f"{len(density):,} latents."
    if dead:
        note += f" {dead:,} never fired; they are counted at the left end, at {floor:.0e}."
    return Histogram(
        title="How often latents fire",
        note=note,
        x_axis=Axis("Share of tokens, log10"),
        y_axis=Axis("Latents"),
        groups=("latents",),
        edges=edges,
        counts=counts[None, :],
    )


class TextCard(ThingCard):
    """A text: where it comes from, how long it is, its checksum. Or a prompt set: its rows, and the way to use it."""

    kind = "text"
    section = "corpora"
    gone = "This text is no longer in the session; undo brings it back where it was deleted here."

    def make_actions(self) -> list[QPushButton]:
        self.to_bench = button("Open in the steering bench", self._steer, tip="Steer a model with this prompt set")
        return [self.to_bench]

    def make_extras(self) -> list[QWidget]:
        self._note = label(role="muted")
        self._prompts = Rows(["Prompt", "Positive", "Negative", "Label"], monospaced=["Prompt", "Positive", "Negative"])
        self.prompts = RowsView(self._prompts, "Rows of the prompt set", most=16, flexible=0)
        self._prompts_section = Section("Rows", self.prompts)
        return [self._note, self._prompts_section]

    def refresh(self) -> None:
        super().refresh()
        attributes = self.attributes() or {}
        is_prompts = attributes.get("kind") == "prompts"
        self._note.setText(str(attributes.get("note") or ""))
        for widget in (self.to_bench, self._note, self._prompts_section):
            widget.setVisible(is_prompts)
        if is_prompts:
            self._arrays_section.hide()
            self._show_prompts()

    def _show_prompts(self) -> None:
        """The first rows, as the array of JSON lines has them."""
        from engine.text.prompt_files import read_jsonl
        from engine.text.prompts import visible

        found = bytes(np.asarray(self.workbench.session.thing_array(self.section, self.key, "rows"), np.uint8))
        lines = found.decode(errors="replace").split("\n")[:SHOWN]
        try:
            rows = read_jsonl("\n".join(lines), where="The set", name="", reference="").rows
        except SuperscopeError as problem:
            self.problem.say(str(problem))
            return
        texts = [(row.prompt, row.positive, row.negative, row.label) for row in rows]
        self._prompts.set_rows([[visible(text) for text in row] for row in texts])

    def _steer(self) -> None:
        self.workbench.open_panel("steering", "", {"prompts": f"prompts:{self.key}"})

    def fact_rows(self, attributes: dict[str, Any]) -> list[tuple[str, ...]]:
        rest = {name: value for name, value in attributes.items() if name != "title"}
        if rest.get("kind") == "prompts":
            return _prompt_facts(rest)
        source = rest.pop("source", None)
        if isinstance(source, str) and source.startswith("{"):
            try:
                source = json.loads(source)
            except ValueError:
                source = {"source": source}
        rows = rows_of(source) if isinstance(source, dict) else rows_of({"source": source})
        return rows + rows_of(rest)


def _prompt_facts(attributes: dict[str, Any]) -> list[tuple[str, ...]]:
    """What is known of a prompt set, without its note."""
    classes = f"{attributes.get('classes')}{', in a cycle' if attributes.get('cyclic') else ''}"
    told = {
        "kind": "prompt set",
        "rows": attributes.get("rows"),
        "classes": classes if attributes.get("classes") else None,
        "factors": ", ".join(attributes.get("factors") or ()),
    }
    rest = {name: value for name, value in attributes.items() if name not in (*told, "cyclic", "note")}
    return rows_of(told | rest)
