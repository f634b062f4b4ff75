"""The grammar of the command line. What is wrong is said in one line, with exit status 2."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import engine

VERBS = ("list", "run", "resume", "show", "export", "models")
EPILOG = """\
Without a verb, superscope opens its window, on SESSION where one is given.
Exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted with what was done saved."""


class UsageError(Exception):
    """The command line cannot be understood; the message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{' '.join(message.split())}; {self.prog} --help shows how it is used.")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Understand ``arguments``.

    Raises:
        UsageError: with one line that names what is wrong.
        SystemExit: help or the version was asked for and has been printed.
    """
    first = next((word for word in arguments if not word.startswith("-")), None)
    if first is not None and first not in VERBS:
        near = difflib.get_close_matches(first, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(VERBS)}."
        raise UsageError(f"{first} is not a verb; {hint}")
    return parser().parse_args(arguments)


def parser() -> argparse.ArgumentParser:
    """The grammar of DESIGN: verbs and their options."""
    whole = _make(
        "superscope",
        description="A workbench for mechanistic interpretability.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"superscope {engine.__version__}")
    whole.add_argument(
        "--self-test",
        action="store_true",
        help="capture, train, save and load on the demo model, without network or display",
    )
    verbs = whole.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=_Parser)

    listing = verbs.add_parser(
        "list", help="experiments with their parameters, defaults and bounds", allow_abbrev=False
    )
    listing.add_argument("--json", action="store_true", help="as a JSON array")

    run = verbs.add_parser(
        "run", help="run an experiment", allow_abbrev=False, epilog="--help behind EXPERIMENT shows its own help page."
    )
    run.add_argument("experiment", metavar="EXPERIMENT", help="its name; superscope list shows them")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="a parameter; VALUE is read as JSON, else as text; a list for a scalar runs each value",
    )
    run.add_argument("--params", metavar="FILE.json", help="a JSON object of parameters; --set goes before it")
    run.add_argument("--session", metavar="FILE", help="keep the run in this session; made where it is missing")
    run.add_argument("--json", action="store_true", help="print the result as JSON")

    resume = verbs.add_parser("resume", help="go on with a stopped or interrupted run", allow_abbrev=False)
    resume.add_argument("session", metavar="SESSION", help="session file")
    resume.add_argument("run", metavar="RUN", help="id of the run; superscope show SESSION lists them")
    resume.add_argument("--json", action="store_true", help="print the result as JSON")

    show = verbs.add_parser("show", help="what is inside a session", allow_abbrev=False)
    show.add_argument("session", metavar="SESSION", help="session file")
    show.add_argument("--json", action="store_true", help="as JSON")

    export = verbs.add_parser("export", help="write a figure as PNG, SVG or CSV", allow_abbrev=False)
    export.add_argument("session", metavar="SESSION", help="session file")
    export.add_argument("figure", metavar="RUN/FIGURE", help="the figure, as superscope show names it")
    export.add_argument("file", metavar="FILE", help="what to write; ends in .png, .svg or .csv")
    export.add_argument("--step", type=float, metavar="STEP", help="of a figure with a movie: the frame at that step")

    models = verbs.add_parser("models", help="model references, sizes, and which are here already", allow_abbrev=False)
    models.add_argument("--remove", metavar="REF", help="delete the cached copy of a model")
    models.add_argument("--json", action="store_true", help="as a JSON array")
    return whole


def _make(name: str, **options: Any) -> _Parser:
    return _Parser(prog=name, allow_abbrev=False, **options)


def say(text: str) -> None:
    """One line on stderr, which stays free of what scripts read."""
    print(text, file=sys.stderr, flush=True)
