"""What a toy will need before it is started: each declares its cost, and one look answers for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from engine.runs.declaration import experiment, find
from engine.runs.parameters import Parameters, check
from engine.toys.errors import ToyError

if TYPE_CHECKING:
    from engine.runs.run import Run

F = TypeVar("F", bound=Callable[[Any], "Cost"])
LIMIT = 1.5  # seconds that timing a toy's steps may take
NAME = "toy-estimate"
_costs: dict[str, Callable[[Any], Cost]] = {}


@dataclass(frozen=True)
class Cost:
    """What a run will take.

    Attributes:
        seconds: of processor time on this machine, from timing a few of its own steps; 0 where it does not fit in memory.
        memory: bytes at its peak.
        note: one more sentence, "" for none.
    """

    seconds: float
    memory: int = 0
    note: str = ""


def cost(name: str) -> Callable[[F], F]:
    """Declare a function ``(parameters) -> Cost`` as the cost of the experiment ``name``."""

    def declare(function: F) -> F:
        _costs[name] = function
        return function

    return declare


def timed(step: Callable[[], object], steps: int, *, measured: int = 20, warm: int = 2) -> float:
    """Seconds that ``steps`` calls of ``step`` will take, from ``measured`` of them after ``warm`` unmeasured ones.

    Fewer are measured where they take long: a look is waited for.
    """
    began = time.perf_counter()
    for done in range(1, warm + 1):
        step()
        if time.perf_counter() - began > LIMIT / 2:
            return (time.perf_counter() - began) / done * steps
    begin, done = time.perf_counter(), 0
    while done < measured and (done == 0 or time.perf_counter() - began < LIMIT):
        step()
        done += 1
    return (time.perf_counter() - begin) / done * steps


class ToyEstimate(Parameters):
    """Which toy, with which parameters."""

    experiment: str = Field("superposition", description="Name of the toy's experiment")
    parameters: dict[str, Any] = Field({}, description="Its parameters; those left out have their defaults")


@experiment(NAME, title="Estimate a toy", area="Toy models", lane="look")
def toy_estimate(p: ToyEstimate, run: Run) -> None:
    """Says how long a toy will train and how much memory it needs, by timing a few of its own steps."""
    from engine.models import memory

    declared = find(p.experiment)
    if p.experiment not in _costs:
        raise ToyError(f"{p.experiment} does not say what it costs; name a toy, as superscope list shows them.")
    # With the process' own number of threads: changing it would change the last digits of a job beside this look.
    found = _costs[p.experiment](check(declared.parameters, p.parameters))
    free = memory.available()
    fits = found.memory <= free
    parts = [f"{in_words(found.seconds)} on this machine"] if found.seconds or fits else []  # not timed: too large
    if found.memory:
        parts.append(f"{memory.in_words(found.memory)} of memory")
    sentence = f"About {', '.join(parts)}" + (f". {found.note}" if found.note else ".")
    if not fits:
        sentence += f" That is more than the {memory.in_words(free)} that are free: choose a smaller size."
    run.say(sentence)
    run.fact("sentence", sentence)
    run.fact("seconds", found.seconds)
    run.fact("memory", found.memory)
    run.fact("fits", fits)


def in_words(seconds: float) -> str:
    """A duration as a person says it: 3 seconds, 12 minutes, 5 hours."""
    for unit, scale in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 1.5 * scale:
            return f"{round(seconds / scale)} {unit}s"
    whole = max(round(seconds), 1)
    return f"{whole} second{'s' if whole > 1 else ''}"
