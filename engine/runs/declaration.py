"""`Experiment`: one declaration from which form, plots, palette, command line, record and help come."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_type_hints

from engine.errors import ParameterError, SuperscopeError
from engine.figures.kinds import Scale
from engine.runs.parameters import Parameters

if TYPE_CHECKING:
    from engine.runs.run import Run

P = TypeVar("P", bound=Parameters)
ENTRY_POINTS = "superscope.experiments"
PLAIN_ROOMS = ("runs", "figures", "session")


@dataclass(frozen=True)
class Metric:
    """What one logged number is: shown as plot title, axis and hover text.

    ``definition`` is the formula in words, so that nobody has to wonder what a number means.
    ``group`` puts metrics that share an axis into one plot. ``step`` says what its steps count ("Tokens").
    """

    label: str
    unit: str = ""
    definition: str = ""
    scale: Scale = "linear"
    group: str = ""
    step: str = "Step"


@dataclass(frozen=True)
class ActionValue:
    """The number that an action takes, between ``minimum`` and ``maximum``.

    ``metric`` names the metric whose latest value a person starts from.
    """

    label: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    metric: str = ""


@dataclass(frozen=True)
class Action:
    """What a person may do to a running experiment between two batches: a button on the run's page.

    ``help`` says what it does, in one or two sentences. Without ``value`` it takes no number.
    """

    label: str
    help: str = ""
    value: ActionValue | None = None

    def check(self, values: Mapping[str, Any]) -> dict[str, float]:
        """``values`` as the action takes them: {"value": number}, or {} where it takes none.

        Raises:
            ParameterError: the number is missing, none, or out of its bounds.
        """
        if self.value is None:
            return {}
        name, given = self.label.rstrip("…"), values.get("value")
        if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
            raise ParameterError(f"“{name}” needs a number, not {given!r}; nothing was changed.")
        low, high = self.value.minimum, self.value.maximum
        if (low is not None and given < low) or (high is not None and given > high):
            bounds = [f"at least {low:g}"] * (low is not None) + [f"at most {high:g}"] * (high is not None)
            raise ParameterError(
                f"“{name}” cannot take {given:g}: {self.value.label.lower()} has to be {' and '.join(bounds)}; "
                "nothing was changed."
            )
        return {"value": float(given)}


@dataclass(frozen=True)
class Experiment:
    """A typed function that takes time. Made by `experiment`; found by `experiments`.

    ``lane`` is "job" (queued, recorded) or "look" (answers a panel at once, recorded only when kept).
    ``resumable`` experiments write checkpoints and continue from the last one. ``actions`` are what a person
    may do while it runs; the function asks `Run.actions` for them. ``estimate`` names a look that takes the
    same parameters and says what the run will need: a fact "sentence", and a fact "fits" that is false where
    it would not; or else a table "estimate" with the sentence as its note.
    """

    name: str
    title: str
    area: str
    parameters: type[Parameters]
    function: Callable[[Any, Run], None]
    metrics: dict[str, Metric] = field(default_factory=dict)
    cites: str = ""
    lane: Literal["job", "look"] = "job"
    resumable: bool = False
    actions: dict[str, Action] = field(default_factory=dict)
    estimate: str = ""

    def action(self, name: str) -> Action:
        """The action called ``name``. Raises `ParameterError` where the experiment has none of that name."""
        if name not in self.actions:
            known = f"it has: {', '.join(self.actions)}" if self.actions else "it has none"
            raise ParameterError(f"{self.name} has no action {name}; {known}.")
        return self.actions[name]

    @property
    def help(self) -> str:
        """The help page (Markdown): what it shows and how to read it."""
        return inspect.getdoc(self.function) or ""

    def describe(self) -> dict[str, Any]:
        """Everything about the experiment as plain JSON values, for the catalogue and ``list --json``."""
        return {
            "name": self.name,
            "title": self.title,
            "area": self.area,
            "lane": self.lane,
            "resumable": self.resumable,
            "cites": self.cites,
            "help": self.help,
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "actions": {name: asdict(action) for name, action in self.actions.items()},
            "estimate": self.estimate,
            "parameters": self.parameters.model_json_schema(),
        }


_registered: dict[str, Experiment] = {}
_unusable: list[str] = []


def experiment(
    name: str,
    *,
    title: str,
    area: str,
    metrics: dict[str, Metric] | None = None,
    cites: str = "",
    lane: Literal["job", "look"] = "job",
    resumable: bool = False,
    actions: dict[str, Action] | None = None,
    estimate: str = "",
) -> Callable[[Callable[[P, Run], None]], Callable[[P, Run], None]]:
    """Declare a function ``(parameters, run) -> None`` as an experiment named ``name``.

    The file that does so must not import torch or transformer_lens at its top, so that listing
    experiments stays instant. The function's docstring is its help page.
    """

    def declare(function: Callable[[P, Run], None]) -> Callable[[P, Run], None]:
        first = next(iter(inspect.signature(function).parameters))
        kind = get_type_hints(function, localns={"Run": object})[first]
        known = _registered.get(name)
        if known is not None and known.function.__qualname__ != function.__qualname__:
            raise SuperscopeError(f"Two experiments are called {name}; rename one of them.")
        _registered[name] = Experiment(
            name, title, area, kind, function, metrics or {}, cites, lane, resumable, actions or {}, estimate
        )
        return function

    return declare


def _modules_with_experiments() -> Iterator[str]:
    import engine

    for room in pkgutil.iter_modules(engine.__path__, "engine."):
        if not room.ispkg or room.name.rpartition(".")[2] in PLAIN_ROOMS:
            continue
        package = importlib.import_module(room.name)
        for module in pkgutil.iter_modules(package.__path__, room.name + "."):
            spec = module.module_finder.find_spec(module.name, None)
            loader = spec.loader if spec else None
            code = loader.get_code(module.name) if loader is not None and hasattr(loader, "get_code") else None
            # Reading the compiled module's names finds the decorator without importing torch-heavy
            # neighbours, and works in a frozen program, which has no sources.
            if code is not None and "experiment" in code.co_names:
                yield module.name


@lru_cache(maxsize=1)
def experiments() -> dict[str, Experiment]:
    """All experiments by name: those of the rooms and those other packages add by entry point."""
    for module in _modules_with_experiments():
        importlib.import_module(module)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except Exception as problem:  # another package's defect must not take the program down
            package = entry.dist.name if entry.dist is not None else entry.value
            reason = f"{type(problem).__name__}: {problem}"
            _unusable.append(f"The experiments of {package} cannot be used ({reason}); update or remove that package.")
    return dict(sorted(_registered.items()))


def unusable() -> list[str]:
    """One sentence per package whose experiments could not be imported."""
    experiments()
    return list(_unusable)


def find(name: str) -> Experiment:
    """The experiment called ``name``.

    Raises:
        ParameterError: there is none; the nearest names are given.
    """
    import difflib

    known = experiments()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; `superscope list` shows them all."
    raise ParameterError(f"There is no experiment called {name}{hint}")
