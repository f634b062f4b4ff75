"""Opening a model: which one, what it needs, how far it is, and a way to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import (
    QButtonGroup,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from app.panels.panel import Page
from app.panels.parts import Notice, button, label, title_label
from app.theme import READABLE, L, S, mono
from app.window import estimates
from app.window.jobs import STEPS, said
from app.window.references import FILTERS
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench

EXPERIMENT = "open-model"
SOURCES = (
    ("demo", "Demo model", "The small language model that ships with Superscope, trained on the story grammar"),
    ("smollm2", "SmolLM2-135M-Instruct", "135 million parameters; about 93 MB are fetched the first time"),
    ("other", "Another", "A .gguf file, a Hugging Face folder, or a hub id such as openai-community/gpt2"),
)


class OpenModelPage(Page):
    """The page. ``key`` is a reference to begin with, or ""."""

    kind = "open-model"

    def __init__(self, key: str, workbench: Workbench) -> None:
        super().__init__(key, workbench)
        self.run = ""
        self.column.addWidget(title_label("Open a model"))
        self._choice = QButtonGroup(self)
        self._buttons: dict[str, QRadioButton] = {}
        for name, title, detail in SOURCES:
            self.column.addLayout(self._source(name, title, detail))
        self.column.addWidget(self._other())
        self.estimate = label("", role="muted")
        self.estimate.setMaximumWidth(READABLE)
        self.problem = Notice("error")
        self.problem.setMaximumWidth(READABLE)
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Progress of opening the model")
        self.bar.setTextVisible(False)
        self.bar.setMaximumWidth(READABLE)
        self.bar.setFixedHeight(8)
        self.numbers = label("", role="muted")
        self.open = button("Open model", self._open, role="primary")
        self.open.setAutoDefault(True)
        self.cancel = button("Cancel", self._cancel)
        row = QHBoxLayout()
        row.setSpacing(S)
        row.addWidget(self.open)
        row.addWidget(self.cancel)
        row.addStretch(1)
        for widget in (self.estimate, self.problem, self.bar, self.numbers):
            self.column.addWidget(widget)
        self.column.addLayout(row)
        self.column.addStretch(1)
        self._choice.buttonClicked.connect(lambda _: self._changed())
        self.reference_line.textEdited.connect(lambda _: self._typed())
        workbench.run_changed.connect(self._follow)
        workbench.run_progressed.connect(self._progress)
        self._show_running(False)
        self._begin_with(key)

    def title(self) -> str:
        return "Open a model"

    def reference(self) -> str:
        """The model that is chosen; "" where none is yet."""
        for name, radio in self._buttons.items():
            if radio.isChecked():
                return self.reference_line.text().strip() if name == "other" else name
        return ""

    # ---- parts

    def _source(self, name: str, title: str, detail: str) -> QVBoxLayout:
        radio = QRadioButton(title)
        radio.setAccessibleName(title)
        radio.setAccessibleDescription(detail)
        self._buttons[name] = radio
        self._choice.addButton(radio)
        more = label(detail, role="muted")
        more.setContentsMargins(L + S, 0, 0, 0)
        column = QVBoxLayout()
        column.setSpacing(2)
        column.addWidget(radio)
        column.addWidget(more)
        return column

    def _other(self) -> QWidget:
        holder = QWidget()
        holder.setMaximumWidth(READABLE)
        self.reference_line = QLineEdit()
        self.reference_line.setAccessibleName("Model reference")
        self.reference_line.setPlaceholderText("path/to/model.gguf, path/to/folder or org/name")
        self.reference_line.setFont(mono())
        self.reference_line.returnPressed.connect(self._open)
        row = QHBoxLayout(holder)
        row.setContentsMargins(L + S, 0, 0, 0)
        row.setSpacing(S)
        row.addWidget(self.reference_line, 1)
        row.addWidget(button("Choose a file…", self._choose_file))
        row.addWidget(button("Choose a folder…", self._choose_folder))
        return holder

    def _begin_with(self, key: str) -> None:
        name = key if key in ("demo", "smollm2") else ("other" if key else "demo")
        self._buttons[name].setChecked(True)
        if name == "other":
            self.reference_line.setText(key)
        self._changed()

    def _choose_file(self) -> None:
        folder = self.workbench.settings.folder
        path, _ = QFileDialog.getOpenFileName(self, "Choose a model file", folder, FILTERS["model"])
        self._chosen(path)

    def _choose_folder(self) -> None:
        folder = self.workbench.settings.folder
        self._chosen(QFileDialog.getExistingDirectory(self, "Choose a Hugging Face model folder", folder))

    def _chosen(self, path: str) -> None:
        if path:
            self.reference_line.setText(path)
            self._typed()

    def _typed(self) -> None:
        self._buttons["other"].setChecked(True)
        self._changed()

    # ---- what it needs

    def _changed(self) -> None:
        reference = self.reference()
        self.problem.say("")
        self.open.setEnabled(bool(reference) and not self.run)
        sentence = ""
        if reference:
            try:
                sentence = estimates.of_model(reference)
            except SuperscopeError as problem:
                if self._said_all(reference):
                    self.problem.say(str(problem))
                    self.open.setEnabled(False)
        self.estimate.setText(sentence)
        self.estimate.setVisible(bool(sentence))

    def _said_all(self, reference: str) -> bool:
        """Whether a reference that cannot be read is a mistake, not one that is still being typed."""
        return not self.reference_line.hasFocus() or reference.lower().endswith(".gguf")

    # ---- opening

    def _open(self) -> None:
        reference = self.reference()
        if not reference or self.run:
            return
        self.problem.say("")
        try:
            self.run = self.workbench.start(EXPERIMENT, {"model": reference}, title=f"Open {_short(reference)}")
        except SuperscopeError as problem:
            self.problem.say(str(problem))
            return
        self._show_running(True)

    def _cancel(self) -> None:
        if self.run:
            self.numbers.setText("Stopping")
            self.workbench.stop(self.run)

    def _progress(self, run: str) -> None:
        progress = self.workbench.progress(run)
        if run != self.run or progress is None:
            return
        known = bool(progress.total)
        self.bar.setRange(0, STEPS if known else 0)
        if progress.total:
            self.bar.setValue(round(STEPS * min(progress.done / progress.total, 1.0)))
        self.numbers.setText(said(self.workbench.record(run), progress, 0))

    def _follow(self, run: str) -> None:
        if run != self.run or not run:
            return
        record = self.workbench.record(run)
        if record.state in ("queued", "running", "paused"):
            return
        self.run = ""
        self._show_running(False)
        if record.state == "finished":
            self.workbench.open_panel("model", str(record.parameters["model"]))
            self.workbench.close_panel(self.kind, self.key)
        elif record.state == "failed":
            self.problem.say(record.error, record.traceback)
        elif record.state == "interrupted":
            self.problem.say(record.error)

    def _show_running(self, on: bool) -> None:
        self.bar.setVisible(on)
        self.bar.setRange(0, 0)
        self.numbers.setText("Waiting for the engine" if on else "")
        self.numbers.setVisible(on)
        self.cancel.setVisible(on)
        self.open.setEnabled(not on and bool(self.reference()))
        for radio in self._buttons.values():
            radio.setEnabled(not on)
        self.reference_line.setEnabled(not on)


def _short(reference: str) -> str:
    return reference.replace("\\", "/").rstrip("/").rpartition("/")[2] or reference
