"""From arguments to exit status: one function per verb, and what is said when something is wrong."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from typing import TextIO

from engine.cli import DONE, FAILED, INTERRUPTED, WRONG_USE
from engine.cli.arguments import UsageError, parse, parser, say
from engine.errors import ParameterError, SuperscopeError


def main(arguments: list[str]) -> int:
    """Carry out a command line and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A console that knows no “ or ≥ shows their code instead of ending in an error.
        with contextlib.suppress(AttributeError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return _dispatch(arguments)
    except UsageError as problem:
        say(f"superscope: {problem}")
        return WRONG_USE
    except ParameterError as problem:
        say(_one_line(problem))
        return WRONG_USE
    except SuperscopeError as problem:
        say(_one_line(problem))
        return FAILED
    except MemoryError:
        say("Memory ran out; close other programs or use a machine with more memory.")
        return FAILED
    except KeyboardInterrupt:
        say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has seen enough
        _silence(sys.stdout)
        return DONE


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["run"] and len(arguments) > 2 and {"--help", "-h"} & set(arguments[2:]):
        from engine.cli import listing

        return listing.help_page(arguments[1])
    try:
        given = parse(arguments)
    except SystemExit as done:  # help and version
        return int(done.code or 0)
    if given.self_test:
        from engine.cli import selftest

        return selftest.main()
    if given.verb is None:
        parser().print_help()
        return DONE
    return VERBS[given.verb](given)


def _list(given: argparse.Namespace) -> int:
    from engine.cli import listing

    return listing.list_experiments(as_json=given.json)


def _run(given: argparse.Namespace) -> int:
    from engine.cli import running

    return running.run(given.experiment, given.settings, given.params, given.session, as_json=given.json)


def _resume(given: argparse.Namespace) -> int:
    from engine.cli import running

    return running.resume(given.session, given.run, as_json=given.json)


def _show(given: argparse.Namespace) -> int:
    from engine.cli import showing

    return showing.show(given.session, as_json=given.json)


def _export(given: argparse.Namespace) -> int:
    from engine.cli import showing

    return showing.export(given.session, given.figure, given.file, step=given.step)


def _models(given: argparse.Namespace) -> int:
    from engine.cli import models

    return models.remove(given.remove) if given.remove is not None else models.models(as_json=given.json)


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "run": _run,
    "resume": _resume,
    "show": _show,
    "export": _export,
    "models": _models,
}


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())


def _silence(stream: TextIO) -> None:
    """Keep Python's own last flush from complaining about the closed pipe."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)
