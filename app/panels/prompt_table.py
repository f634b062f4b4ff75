"""`PromptTable`: a prompt set as a table in which rows are written, pasted, deleted and taken back.

A part of a panel, no panel itself: whoever holds it calls `closing` with its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QMenu, QVBoxLayout, QWidget

from app.panels.asking import Asker
from app.panels.inputs import Choice
from app.panels.parts import Notice, button
from app.panels.prompt_editing import PromptEditor
from app.panels.prompt_rows import Content, Source
from app.theme import S
from app.views.base import Line
from engine import files
from engine.errors import SuperscopeError
from engine.text import prompts as sets
from engine.text.prompt_files import SUFFIXES, make_set, read_jsonl
from engine.text.prompt_sets import PromptSet

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.runs.messages import Answered

READ, KEEP = "prompt-rows", "prompt-set"
FILTER = "Prompt sets (*.csv *.jsonl *.ndjson);;All files (*)"
FORMATS = {"CSV (*.csv)": ".csv", "JSON lines (*.jsonl)": ".jsonl"}
FIRST = "story-sentiment"


class PromptTable(QWidget):
    """An editable table of a prompt set, with where it comes from and where it can go.

    Signals:
        changed: the `PromptSet` that the table holds now; after another set was opened, and after every edit.
    """

    changed = Signal(object)

    def __init__(self, workbench: Workbench, reference: str = FIRST, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self._made: tuple[tuple[Content, Source], PromptSet] | None = None
        self._kept = ("", Content())  # the run that keeps the set, and what it keeps
        self.editor = PromptEditor(workbench)
        self.chooser = Choice()
        self.filter, self.naming = QLineEdit(), QLineEdit()
        self.counts = Line("Counts of the prompt set")
        self.problem_button = button("", self._go_to_problem, role="link")
        self.problem_notice = Notice("error")
        self.asker = Asker(workbench, f"{READ} {id(self):x}", READ, self)
        self._lay_out()
        self._connect()
        self.open(reference)

    # ---- what others ask

    @property
    def is_edited(self) -> bool:
        """Whether the rows differ from those that the set was opened with."""
        return self.editor.is_edited

    @property
    def problem(self) -> str:
        """What is wrong first, as a sentence; "" for nothing."""
        if not any(any(row) for row in self.editor.content.rows):
            return "The set has no rows; add one."
        found = self.editor.content.first_problem()
        if found is None:
            return ""
        row, _, words = found
        return f"Row {row + 1:,}: {words}"

    def reference(self) -> str:
        """By what engines open what the table holds: the set's own reference, or its rows as JSON lines once edited."""
        return self.prompts().reference

    def prompts(self) -> PromptSet:
        """The set that the table holds. Its reference is that of `reference`."""
        content, source = key = (self.editor.content, self.editor.source)
        # A long set is asked for several times between two edits; content and source never change in themselves.
        if self._made is None or self._made[0][0] is not content or self._made[0][1] is not source:
            name = f"{source.name} (edited)" if self.is_edited else source.name
            made = content.to_set(name=name, reference=source.reference, note=source.note)
            if self.is_edited or not source.reference:
                made = replace(made, reference=sets.as_jsonl(made))
            self._made = (key, made)
        return self._made[1]

    def open(self, reference: str) -> None:
        """Show another set: at once where it is built in or given as rows, else as soon as the engine has read it."""
        self.problem_notice.say("")
        try:
            kind = sets.check(reference)
            if reference == self.editor.source.reference and not self.is_edited and kind != "file":
                self.asker.cancel()
                return
            if kind in ("file", "kept"):
                self.asker.ask({"prompts": reference}, pause=0)
                self.counts.say("Reading the prompt set…")
                return
            found = sets.open_prompts(reference)
        except SuperscopeError as problem:
            self._fail(str(problem), "")
            return
        self.asker.cancel()
        self.show_set(found)

    def show_set(self, found: PromptSet) -> None:
        """Show ``found`` as it is; undo goes back to what was shown before."""
        self.filter.clear()
        self.editor.open(Source.of(found))
        self.editor.grid.scrollToTop()
        self.editor.grid.horizontalScrollBar().setValue(0)

    def closing(self) -> None:
        """The panel goes: questions end, signals are let go."""
        self.asker.cancel()
        self.workbench.things_changed.disconnect(self._things_changed)
        self.workbench.session_changed.disconnect(self._list_sets)
        self.workbench.theme_changed.disconnect(self.editor.grid.dress)

    # ---- layout

    def _lay_out(self) -> None:
        self.chooser.setAccessibleName("Prompt set")
        self.chooser.setSizeAdjustPolicy(Choice.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.chooser.setMinimumContentsLength(16)
        self.filter.setPlaceholderText("Filter rows")
        self.filter.setAccessibleName("Filter rows")
        self.filter.setClearButtonEnabled(True)
        self.naming.setPlaceholderText("Name of the factor, then Enter")
        self.naming.setAccessibleName("Name of the new factor")
        self.naming.hide()
        self._save = button("Save as…", self.choose_save, tip="Write the rows into a CSV or JSON lines file")
        self._keep = button("Keep in session", self.keep, tip="Keep the set as it is now, for every experiment")
        self._rows_button = button("Rows", lambda: None, tip="What can be done with rows, factors and labels")
        self._rows_button.setMenu(self._make_menu())
        top = _line(
            self.chooser,
            button("Open file…", self.choose_file, tip="Read a CSV or JSON lines file"),
            self._save,
            self._keep,
        )
        tools = _line(button("Add row", self.editor.add_row, tip="Insert"), self._rows_button, self.naming, self.filter)
        top.setStretch(0, 1)
        tools.setStretch(2, 1)
        tools.setStretch(3, 2)
        bottom = _line(self.counts, self.problem_button)
        bottom.setStretch(0, 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(S)
        whole.addLayout(top)
        whole.addLayout(tools)
        whole.addWidget(self.problem_notice)
        whole.addWidget(self.editor, 1)
        whole.addLayout(bottom)
        self.setFocusProxy(self.editor)

    def _make_menu(self) -> QMenu:
        menu = QMenu(self)

        def add(words: str, keys: str, run: Callable[[], object]) -> Any:
            action = menu.addAction(f"{words}\t{keys}" if keys else words)
            action.triggered.connect(lambda: run())
            return action

        add("Duplicate rows", "Ctrl+D", self.editor.duplicate_rows)
        add("Delete rows", "Ctrl+Del", self.editor.delete_rows)
        add("Copy", "Ctrl+C", self.editor.copy)
        add("Paste", "Ctrl+V", self.editor.paste)
        menu.addSeparator()
        add("Add factor…", "", self.name_factor)
        self._drop = add("Delete factor", "", self.editor.delete_factor)
        self._cycle = add("Labels are a cycle", "", self.editor.toggle_cycle)
        self._cycle.setCheckable(True)
        menu.addSeparator()
        self._undo = add("Undo", "Ctrl+Z", self.editor.stack.undo)
        self._redo = add("Redo", "Ctrl+Shift+Z", self.editor.stack.redo)
        menu.aboutToShow.connect(self._prepare_menu)
        return menu

    def _prepare_menu(self) -> None:
        factor = self.editor.current_factor()
        self._drop.setText(f"Delete factor “{factor}”" if factor else "Delete factor")
        self._drop.setEnabled(bool(factor))
        made = self.prompts()
        self._cycle.setChecked(made.cyclic)
        # Days and months are a cycle by themselves; without labels there is none.
        self._cycle.setEnabled(bool(made.classes) and made.cyclic == self.editor.content.cyclic)
        for action, words, can in (
            (self._undo, f"Undo {self.editor.stack.undoText().lower()}\tCtrl+Z", self.editor.stack.canUndo()),
            (self._redo, f"Redo {self.editor.stack.redoText().lower()}\tCtrl+Shift+Z", self.editor.stack.canRedo()),
        ):
            action.setText(words)
            action.setEnabled(can)

    def _connect(self) -> None:
        self.chooser.activated.connect(lambda _: self.open(str(self.chooser.currentData())))
        self.filter.textChanged.connect(self._filter)
        self.naming.returnPressed.connect(self._add_factor)
        self.editor.edited.connect(self._say_changed)
        self.editor.refused.connect(self._warn)
        self.editor.unfiltered.connect(self.filter.clear)
        self.asker.answered.connect(self._read)
        self.asker.failed.connect(self._fail)
        self.workbench.things_changed.connect(self._things_changed)
        self.workbench.session_changed.connect(self._list_sets)
        self.workbench.theme_changed.connect(self.editor.grid.dress)

    def name_factor(self) -> None:
        """Ask for the name of a new factor, beside the filter."""
        self.naming.clear()
        self.naming.show()
        self.naming.setFocus()

    def _add_factor(self) -> None:
        if self.editor.add_factor(self.naming.text()):
            self._stop_naming()

    def _stop_naming(self) -> None:
        self.naming.hide()
        self.editor.grid.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self.naming.hasFocus():
            self._stop_naming()
            return
        super().keyPressEvent(event)

    # ---- files and the session

    def choose_file(self) -> None:
        """Ask for a file and open it."""
        start = self.workbench.settings.folder
        path, _ = QFileDialog.getOpenFileName(self, "Open a prompt set", start, FILTER)
        if path:
            self.workbench.settings.folder = str(Path(path).parent)
            if Path(path).suffix.lower() in SUFFIXES:
                self.open(path)
            else:
                self._fail(f"{Path(path).name} is no prompt set; choose a .csv or .jsonl file.", "")

    def choose_save(self) -> None:
        """Ask for a file and write the rows into it; the table then shows that file."""
        start = Path(self.workbench.settings.folder or Path.home()) / f"{self.editor.source.name or 'prompts'}.csv"
        path, format = QFileDialog.getSaveFileName(self, "Save the prompt set", str(start), ";;".join(FORMATS))
        if path:
            chosen = Path(path)
            if chosen.suffix.lower() not in SUFFIXES:
                chosen = chosen.with_name(chosen.name + FORMATS.get(format, ".csv"))
            self.workbench.settings.folder = str(chosen.parent)
            self.save(chosen)

    def save(self, path: Path) -> None:
        """Write the rows into a .csv, .jsonl or .ndjson file, which is what the table then shows."""
        write = sets.as_csv if path.suffix.lower() == ".csv" else sets.as_jsonl
        try:
            files.write_bytes(path, write(self.prompts()).encode())
        except SuperscopeError as problem:
            self.workbench.report(problem)
            return
        self.editor.mark(replace(self.editor.source, name=path.stem, reference=str(path), content=self.editor.content))
        self.workbench.message.emit("good", f"Saved {len(self.editor.content.rows):,} rows to {path}.", "")

    def keep(self) -> str:
        """Keep the set in the session, as a job that takes no time to speak of; its run, "" where it cannot start."""
        name = self.prompts().name
        try:
            run = self.workbench.start(KEEP, {"prompts": self.reference(), "title": name}, title=f"Keep {name}")
        except SuperscopeError as problem:
            self.workbench.report(problem)
            return ""
        self._kept = (run, self.editor.content)
        return run

    def _things_changed(self, section: str) -> None:
        if section not in ("", "corpora"):
            return
        run, content = self._kept
        if run and any(thing.id == run for thing in self.workbench.session.things("corpora")):
            self._kept = ("", content)
            if content == self.editor.content:  # nobody has typed meanwhile: what is shown is what was kept
                made = self.prompts()
                self.editor.mark(Source(made.name, f"{sets.KEPT}{run}", made.note, content))
                return
        self._list_sets()

    def _read(self, said: Answered) -> None:
        facts, rows = said.facts, said.kept.get("rows")
        if rows is None:
            return
        reference = str(self.asker.asked["prompts"])
        found = read_jsonl(rows.tobytes().decode(), where="The rows", name=str(facts["name"]), reference=reference)
        note, cyclic = str(facts.get("note") or ""), bool(facts.get("cyclic"))
        self.show_set(make_set(found.rows, name=found.name, reference=reference, cyclic=cyclic, note=note))

    # ---- what is said

    def _fail(self, sentence: str, details: str) -> None:
        self._count()
        self._list_sets()
        self.problem_notice.say(sentence, details)

    def _warn(self, sentence: str) -> None:
        self.workbench.message.emit("warning", sentence, "")

    def _filter(self) -> None:
        chosen = self.editor.chosen_rows()
        self.editor.model.keep(self.filter.text())
        if chosen:
            self.editor.go_to(chosen[0], 0)
        self._count()

    def _say_changed(self) -> None:
        self.problem_notice.say("")
        self._count()
        self._list_sets()
        self.changed.emit(self.prompts())

    def _count(self) -> None:
        made, shown, total = self.prompts(), len(self.editor.model.order), len(self.editor.content.rows)
        parts = [f"{shown:,} of {_many(total, 'row')} shown"] if shown < total else []
        pairs = sum(1 for row in made.rows if row.positive and row.negative)
        parts += (
            [_many(pairs, "pair")] if pairs == len(made.rows) else [_many(len(made.rows), "row"), _many(pairs, "pair")]
        )
        if made.classes:
            parts.append(_many(len(made.classes), "class") + (" in a cycle" if made.cyclic else ""))
        for factor in made.factors:
            parts.append(_many(len({row.factors.get(factor, "") for row in made.rows}), factor))
        self.counts.say(" · ".join(parts))
        self.counts.setToolTip(made.note)
        self.problem_button.setText(self.problem)
        self.problem_button.setAccessibleName(self.problem or "Go to the first problem")
        self.problem_button.setVisible(bool(self.problem))
        self._keep.setEnabled(not self.problem)

    def _go_to_problem(self) -> None:
        found = self.editor.content.first_problem()
        if found is not None:
            self.filter.clear()
            self.editor.go_to(found[0], found[1])
        self.editor.grid.setFocus()

    def _list_sets(self) -> None:
        """Offer the built-in sets, those of the session, and what is shown where it is none of them."""
        offered = [(words, reference) for reference, words in sets.BUILT_IN.items()]
        if self.workbench.begun:
            offered += [
                (str(thing.attributes.get("title") or thing.id), f"{sets.KEPT}{thing.id}")
                for thing in self.workbench.session.things("corpora")
                if thing.attributes.get("kind") == "prompts"
            ]
        shown = "" if self.is_edited else self.editor.source.reference
        if not shown or shown not in [reference for _, reference in offered]:
            offered.insert(0, (self.prompts().name, shown))
        self.chooser.clear()
        for words, reference in offered:
            self.chooser.addItem(words, reference)
        self.chooser.setCurrentIndex(self.chooser.findData(shown))


def _many(count: int, word: str) -> str:
    """So many of something: 64 pairs, 1 class, 2 classes, 6 words."""
    if count == 1 or (word.endswith("s") and not word.endswith("ss")):
        return f"{count:,} {word}"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{count:,} {word[:-1]}ies"
    return f"{count:,} {word}{'es' if word.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def _line(*widgets: QWidget) -> QHBoxLayout:
    made = QHBoxLayout()
    made.setSpacing(S)
    for widget in widgets:
        made.addWidget(widget)
    return made
