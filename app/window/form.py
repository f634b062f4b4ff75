"""The right side: the form of an experiment, made from the JSON schema of its parameters."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.icons import Dresser
from app.theme import XS, L, M, S, heading, set_role, small
from app.window.chooser import Chooser
from app.window.docks import quiet_button
from app.window.fields import Field, HookField, make_field
from app.window.schema import Refused, combinations, label_of, parameters
from engine.errors import SuperscopeError

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.runs.messages import Answered

MOST = 200  # runs that one press of Start may queue


class Form(QWidget):
    """The fields of one experiment and its Start button.

    Signals:
        left: back to the list of experiments.
        started: ids of the runs that were queued.
    """

    left = Signal()
    started = Signal(list)

    def __init__(self, workbench: Workbench, dresser: Dresser, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self.experiment = ""
        self.edited = False
        self.fields: list[Field] = []
        self._hooks_of = ""
        self._estimated: tuple[str, str] = ("", "")
        self.back = QPushButton("Experiments")
        self.back.setAccessibleName("Back to the list of experiments")
        set_role(self.back, "link")
        dresser.put(self.back, "left", "accent")
        self.back.clicked.connect(self.left)
        self.title = QLabel()
        self.title.setFont(heading())
        self.title.setWordWrap(True)
        self.title.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.summary.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        set_role(self.summary, "muted")
        self._body = QWidget()
        self._area = QScrollArea()
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setWidgetResizable(True)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setFont(small())
        self.note.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        set_role(self.note, "muted")
        self.start = QPushButton("Start")
        self.start.setAccessibleName("Start")
        self.start.setAutoDefault(True)  # Enter presses it, as Space does
        self.start.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        set_role(self.start, "primary")
        self.start.clicked.connect(lambda: self._workbench.commands.run("run.start"))
        self.more = quiet_button("More for this experiment")
        self.more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        dresser.put(self.more, "menu")
        self._lay_out()

    def _lay_out(self) -> None:
        head = QVBoxLayout()
        head.setContentsMargins(M, 0, M, 0)
        head.setSpacing(XS)
        head.addWidget(self.back, 0, Qt.AlignmentFlag.AlignLeft)
        head.addWidget(self.title)
        head.addWidget(self.summary)
        foot = QVBoxLayout()
        foot.setContentsMargins(M, S, M, M)
        foot.setSpacing(S)
        foot.addWidget(self.note)
        buttons = QHBoxLayout()
        buttons.setSpacing(S)
        buttons.addWidget(self.start, 1)
        buttons.addWidget(self.more)
        foot.addLayout(buttons)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(S)
        layout.addLayout(head)
        layout.addWidget(self._area, 1)
        layout.addLayout(foot)

    # ---- filling

    def show_experiment(self, name: str, values: dict[str, Any] | None = None) -> None:
        """Show the fields of an experiment, with ``values`` where given and its defaults elsewhere.

        Raises:
            SuperscopeError: there is no such experiment (a run of an older or another version).
        """
        described = self._workbench.catalogue.get(name)
        if described is None:
            raise SuperscopeError(f"There is no experiment called {name} in this version, so its form cannot be shown.")
        for field in self.fields:
            field.closing()
        self.experiment = name
        self.edited = False
        self._hooks_of = ""
        self.title.setText(described["title"])
        self.summary.setText(described["help"].split("\n\n")[0].replace("\n", " ").replace("`", ""))
        self.summary.setVisible(bool(self.summary.text()))
        self.fields = [make_field(entry, self._workbench) for entry in parameters(described["parameters"])]
        body = self._make_body()
        self._area.setWidget(body)
        self._order_focus()
        self._body = body
        given = values or {}
        for field in self.fields:
            field.show_value(given.get(field.parameter.name, field.parameter.default))
            field.changed.connect(self._edited)
            if isinstance(field, HookField):
                field.wanted.connect(self._learn_hooks)
        self._tell()

    def _make_body(self) -> QWidget:
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(M, 0, M, 0)
        column.setSpacing(M)
        plain = [field for field in self.fields if not field.parameter.advanced]
        folded = [field for field in self.fields if field.parameter.advanced]
        column.addWidget(self._rows(plain))
        if folded:
            rows = self._rows(folded)
            fold = self._fold = QToolButton()
            fold.setText("Advanced")
            fold.setAccessibleName("Advanced parameters")
            fold.setCheckable(True)
            fold.setArrowType(Qt.ArrowType.RightArrow)
            fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            set_role(fold, "quiet")

            def unfold(on: bool) -> None:
                rows.setVisible(on)
                fold.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)

            fold.toggled.connect(unfold)
            rows.hide()
            column.addWidget(fold, 0, Qt.AlignmentFlag.AlignLeft)
            column.addWidget(rows)
        column.addStretch(1)
        return body

    def _order_focus(self) -> None:
        """Let Tab go through the fields as they stand, then to Start: they were made after it."""
        plain = [field.editor for field in self.fields if not field.parameter.advanced]
        folded = [field.editor for field in self.fields if field.parameter.advanced]
        fold = [self._fold] if folded else []
        chain = [self.back, *plain, *fold, *folded, self.start, self.more]
        for first, second in itertools.pairwise(chain):
            QWidget.setTabOrder(first, second)

    def _rows(self, fields: list[Field]) -> QWidget:
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(S)
        grid.setVerticalSpacing(S)
        grid.setColumnStretch(1, 1)
        for row, field in enumerate(fields):
            words = QLabel(label_of(field.parameter.name))
            words.setBuddy(field.editor)
            words.setToolTip(field.editor.toolTip())
            long = field.parameter.widget == "prompt"
            if long:
                column = QVBoxLayout()
                column.setSpacing(XS)
                column.addWidget(words)
                column.addWidget(field)
                column.addWidget(field.problem)
                grid.addLayout(column, 2 * row, 0, 1, 3)
                continue
            # As high as the editor and at its top: beside its text, also when a problem stands beneath.
            words.setMinimumHeight(field.editor.sizeHint().height())
            grid.addWidget(words, 2 * row, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(field.problem, 2 * row + 1, 1, 1, 2)
            unit = QLabel(field.parameter.unit)
            unit.setFont(small())
            unit.setMinimumHeight(field.editor.sizeHint().height())
            set_role(unit, "muted")
            short = field.parameter.unit or field.parameter.sweeps
            grid.addWidget(field, 2 * row, 1, 1, 1 if short else 2)
            if field.parameter.unit:
                grid.addWidget(unit, 2 * row, 2, Qt.AlignmentFlag.AlignTop)
        return holder

    # ---- reading

    def problems(self) -> list[Field]:
        """The fields whose value is not allowed; each says so."""
        return [field for field in self.fields if not field.check()]

    def parameter_sets(self) -> list[dict[str, Any]]:
        """One set of parameters per run: several where a sweep was typed. Raises `Refused`."""
        return combinations({field.parameter.name: field.values() for field in self.fields})

    def for_copying(self) -> dict[str, Any]:
        """The parameters as one set; a sweep is a list. Raises `Refused`."""
        read = {field.parameter.name: field.values() for field in self.fields}
        return {name: values[0] if len(values) == 1 else values for name, values in read.items()}

    def begin(self) -> None:
        """Queue what the form says. What is wrong is said, and nothing is started."""
        wrong = self.problems()
        if wrong:
            self._tell()
            wrong[0].editor.setFocus()
            return
        sets = self.parameter_sets()
        if len(sets) > MOST:
            self._workbench.message.emit(
                "warning", f"This sweep would start {len(sets)} runs; the most at a time is {MOST}.", ""
            )
            return
        sweep = ""
        if len(sets) > 1:
            swept = [field.parameter.name for field in self.fields if len(field.values()) > 1]
            sweep = f"{self.experiment}:{','.join(swept)}:{self._sweeps_so_far() + 1}"
        try:
            runs = [self._workbench.start(self.experiment, values, sweep=sweep) for values in sets]
        except SuperscopeError as problem:
            self._workbench.report(problem)
            return
        self.started.emit(runs)

    def _sweeps_so_far(self) -> int:
        return len({record.sweep for record in self._workbench.session.runs() if record.sweep})

    def _edited(self) -> None:
        self.edited = True
        if self._hooks_of and self._model() != self._hooks_of:
            self._hooks_of = ""
            self._offer_hooks([])
        self._tell()

    def _tell(self) -> None:
        """Say what Start would do; grey it where it cannot."""
        try:
            sets = self.parameter_sets()
        except Refused:
            self.start.setEnabled(False)
            self.start.setText("Start")
            wrong = [label_of(field.parameter.name) for field in self.fields if not field.check()]
            self.note.setText(f"To start, mend {', '.join(wrong)}.")
            self.note.show()
            return
        self.start.setEnabled(True)
        self.start.setText("Start" if len(sets) == 1 else f"Start {len(sets)} runs")
        self.start.setAccessibleName(self.start.text())
        swept = [label_of(field.parameter.name) for field in self.fields if len(field.values()) > 1]
        parts = ([f"Model: {self._estimate()}"] if self._estimate() else []) + (
            [f"Sweep over {' and '.join(swept)}."] if swept else []
        )
        self.note.setText("\n".join(part for part in parts if part))
        self.note.setVisible(bool(self.note.text()))

    def _model(self) -> str:
        fields = [field for field in self.fields if field.parameter.widget == "model"]
        return fields[0].text().strip() if fields else ""

    def _estimate(self) -> str:
        """What the chosen model needs, from its headers; "" where that is not known before it is opened."""
        model = self._model()
        if model != self._estimated[0]:
            from app.window import estimates

            try:
                sentence = estimates.of_model(model) if model else ""
            except SuperscopeError as problem:
                sentence = str(problem)
            self._estimated = (model, sentence)
        return self._estimated[1]

    # ---- hook points

    def _learn_hooks(self) -> None:
        """Ask which hook points the chosen model has, when somebody is about to type one."""
        model = self._model()
        if not model or model == self._hooks_of or "model-card" not in self._workbench.catalogue:
            return
        self._hooks_of = model
        self._workbench.ask("form", "model-card", {"model": model}, self._hooks_known)

    def _hooks_known(self, said: Answered) -> None:
        if said.error or not self._hooks_of:  # the model was changed meanwhile
            self._hooks_of = ""
            return
        self._offer_hooks([str(entry["name"]) for entry in said.facts.get("hook_points", [])])
        self._tell()

    def _offer_hooks(self, names: list[str]) -> None:
        for field in self.fields:
            if isinstance(field, HookField):
                field.offer(names)


class FormDock(QStackedWidget):
    """The list of experiments, or the form of one."""

    def __init__(self, workbench: Workbench, dresser: Dresser, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workbench = workbench
        self.chooser = Chooser(workbench)
        self.form = Form(workbench, dresser)
        self.addWidget(self.chooser)
        self.addWidget(self.form)
        self.setContentsMargins(0, 0, 0, L - M)
        self.chooser.chosen.connect(self._choose)
        self.form.left.connect(self.show_chooser)
        workbench.form_wanted.connect(self.show_experiment)

    @property
    def shows_form(self) -> bool:
        return self.currentWidget() is self.form

    def show_experiment(self, name: str, values: dict[str, Any] | None = None) -> None:
        """Show the form of an experiment; a name that is unknown is said."""
        try:
            self.form.show_experiment(name, values)
        except SuperscopeError as problem:
            self._workbench.report(problem)
            return
        self.setCurrentWidget(self.form)

    def _choose(self, name: str) -> None:
        self.show_experiment(name)
        if self.form.fields:
            self.form.fields[0].editor.setFocus()

    def show_chooser(self) -> None:
        """Go back to the list."""
        self.setCurrentWidget(self.chooser)
        self.chooser.search.setFocus()
