"""What a person reads when an experiment ends with an error: one sentence, the traceback apart."""

from __future__ import annotations

import traceback

from engine.errors import SuperscopeError
from engine.runs.declaration import Experiment
from engine.runs.parameters import Parameters

# What memory depends on, in the order in which to try, as far as an experiment has them.
HUNGRY = ("batch", "tokens", "width", "context", "model")
# How torch says that memory ran out where it raises a plain RuntimeError.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


def explain(problem: BaseException, experiment: Experiment, parameters: Parameters) -> tuple[str, str]:
    """One sentence for a person and the traceback ("" where the sentence says everything).

    The frames of ``problem`` are cleared: after an out-of-memory error they hold what filled the memory.
    """
    if isinstance(problem, SuperscopeError):
        return str(problem), ""
    trace = "".join(traceback.format_exception(problem))
    traceback.clear_frames(problem.__traceback__)
    if is_out_of_memory(problem):
        return _reduce(experiment, parameters), trace
    what = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
    what = " ".join(what.split())
    if len(what) > 300:
        what = what[:299] + "…"
    return (
        f"{experiment.title} ended on an error it has no words for ({what}); the traceback shows where, and is what "
        "a report should contain.",
        trace,
    )


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out, on the processor or on a GPU; recognised without importing torch."""
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError":
        return True
    return isinstance(problem, RuntimeError) and any(words in str(problem).lower() for words in OUT_OF_MEMORY)


def _reduce(experiment: Experiment, parameters: Parameters) -> str:
    hungry = [f"{name} ({getattr(parameters, name)})" for name in HUNGRY if hasattr(parameters, name)]
    way_out = f"reduce {' or '.join(hungry)}" if hungry else "close other programs or use a machine with more memory"
    return f"Memory ran out in {experiment.title}; {way_out} and start it again."
