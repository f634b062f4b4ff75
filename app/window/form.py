"""The right side: the form of an experiment, made from the JSON schema of its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QFrame,
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
from app.panels.markdown import plain
from app.theme import XS, L, M, S, heading, set_role, small
from app.window import toys
from app.window.chooser import Chooser
from app.window.docks import quiet_button
from app.window.estimating import Estimator
from app.window.fields import Field, HookField, make_field
from app.window.form_body import FormBody, tab_through
from app.window.schema import Refused, label_of, parameters, relevant, runs_of
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
        self._followed = ""
        self._body = FormBody([])
        self._area = QScrollArea()
        self._area.setWidget(self._body)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setWidgetResizable(True)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setFont(small())
        self.note.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        set_role(self.note, "muted")
        self.estimate = QLabel()
        self.estimate.setWordWrap(True)
        self.estimate.setFont(small())
        self.estimate.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.estimate.setAccessibleName("Estimate")
        self.estimate.hide()
        self._estimator = Estimator(workbench, self)
        self._estimator.said.connect(self._say_estimate)
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
        foot.addWidget(self.estimate)
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
        self.summary.setText(plain(described["help"].split("\n\n")[0]))
        self.summary.setVisible(bool(self.summary.text()))
        self.fields = [make_field(entry, self._workbench) for entry in parameters(described["parameters"])]
        self._body = FormBody(self.fields)
        self._area.setWidget(self._body)
        # The fields were made after what stands around them.
        tab_through([self.back, *self._body.stops, self.start, self.more])
        self._estimator.use(str(described.get("estimate", "")), name)
        given = values or {}
        for field in self.fields:
            field.show_value(given.get(field.parameter.name, field.parameter.default))
            field.changed.connect(self._edited)
            if isinstance(field, HookField):
                field.wanted.connect(self._learn_hooks)
        self._followed = self._model()
        self._tell()

    # ---- reading

    def relevant(self) -> list[Field]:
        """The fields that matter with the present choices; the others are hidden and count as their defaults."""
        deciding = {name for field in self.fields for name in field.parameter.when}
        values = {}
        for field in self.fields:
            if field.parameter.name in deciding:
                try:
                    values[field.parameter.name] = field.values()
                except Refused:
                    values[field.parameter.name] = [field.parameter.default]
        names = relevant([field.parameter for field in self.fields], values)
        return [field for field in self.fields if field.parameter.name in names]

    def problems(self) -> list[Field]:
        """The fields whose value is not allowed; each says so."""
        return [field for field in self.relevant() if not field.check()]

    def parameter_sets(self) -> list[dict[str, Any]]:
        """One set of parameters per run: several where a sweep was typed. Raises `Refused`."""
        return runs_of([field.parameter for field in self.fields], self._values())

    def for_copying(self) -> dict[str, Any]:
        """The parameters as one set; a sweep is a list. Raises `Refused`."""
        return {name: values[0] if len(values) == 1 else values for name, values in self._values().items()}

    def _values(self) -> dict[str, list[Any]]:
        """What is typed, by parameter; the default where it does not matter. Raises `Refused`."""
        matter = self.relevant()
        return {
            field.parameter.name: field.values()
            if field in matter or field.parameter.required
            else [field.parameter.default]
            for field in self.fields
        }

    def begin(self) -> None:
        """Queue what the form says. What is wrong is said, and nothing is started."""
        wrong = self.problems()
        if wrong:
            self._tell()
            self._body.reveal(wrong[0])
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
            swept = [name for name, values in self._values().items() if len(values) > 1]
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
        self._follow_model()
        if self._hooks_of and self._model() != self._hooks_of:
            self._hooks_of = ""
            self._offer_hooks([])
        self._tell()

    def _follow_model(self) -> None:
        """A toy reads its own data only: choosing one fills in text and hook point, leaving it brings the usual back."""
        model, before = self._model(), self._followed
        self._followed = model
        if model == before:
            return
        wanted, left = toys.fitting(self._workbench, model), toys.fitting(self._workbench, before)
        for field in self.fields:
            name = field.parameter.name
            if name in wanted:
                field.show_value(wanted[name])
            elif name in left and field.text() == left[name]:
                field.show_value(field.parameter.default)

    def _tell(self) -> None:
        """Say what Start would do; grey it where it cannot."""
        self._body.show_only(field.parameter.name for field in self.relevant())
        try:
            sets = self.parameter_sets()
        except Refused:
            self._estimator.rest()
            self.start.setEnabled(False)
            self.start.setText("Start")
            wrong = [label_of(field.parameter.name) for field in self.problems()]
            self.note.setText(f"To start, mend {', '.join(wrong)}.")
            self.note.show()
            return
        self.start.setEnabled(True)
        self.start.setText("Start" if len(sets) == 1 else f"Start {len(sets)} runs")
        self.start.setAccessibleName(self.start.text())
        self._estimator.ask(sets)
        swept = [label_of(name) for name, values in self._values().items() if len(values) > 1]
        parts = ([f"Model: {self._estimate()}"] if self._estimate() else []) + (
            [f"Sweep over {' and '.join(swept)}."] if swept else []
        )
        self.note.setText("\n".join(part for part in parts if part))
        self.note.setVisible(bool(self.note.text()))

    def _say_estimate(self, sentence: str, level: str) -> None:
        set_role(self.estimate, level)
        self.estimate.setText(sentence)
        self.estimate.setVisible(bool(sentence))

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
