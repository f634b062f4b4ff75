"""``superscope show`` and ``superscope export``: what is inside a session, and its figures as files."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import DONE
from engine.cli.arguments import say
from engine.cli.printing import duration, last_values, print_json, run_object
from engine.errors import ParameterError, SuperscopeError

if TYPE_CHECKING:
    from engine.session import Session

SECTIONS = {"models": "Models", "corpora": "Texts", "activations": "Activations", "dictionaries": "Dictionaries"}
FORMATS = (".png", ".svg", ".csv")


class NotThere(SuperscopeError):
    """A session holds no run or figure of the name given."""


def show(path: str, *, as_json: bool) -> int:
    """Print what a session holds."""
    from engine.api import read_session

    with read_session(Path(path)) as session:
        runs = [
            run_object(
                record,
                last_values({name: session.metric(record.id, name) for name in session.metric_names(record.id)}),
                session.figure_names(record.id),
            )
            for record in session.runs()
        ]
        things = {
            section: [{"id": thing.id, **thing.attributes} for thing in session.things(section)] for section in SECTIONS
        }
        if as_json:
            print_json({"title": session.title, "path": path, "runs": runs, **things})
            return DONE
        _print(session, path, runs, things)
    return DONE


def _print(session: Session, path: str, runs: list[dict[str, Any]], things: dict[str, list[dict[str, Any]]]) -> None:
    print(f"{session.title} ({path})")
    print("\nRuns" if runs else "\nNo runs.")
    for run in runs:
        title = f" “{run['title']}”" if run["title"] else ""
        print(f"  {run['id']}{title}: {run['state']}, {duration(run['elapsed'])}")
        if run["error"]:
            print(f"    {run['error']}")
        if run["metrics"]:
            print("    " + ", ".join(f"{name} {value:.4g}" for name, value in run["metrics"].items()))
        for figure in run["figures"]:
            print(f"    {run['id']}/{figure}")
    for section, words in SECTIONS.items():
        if things[section]:
            print(f"\n{words}")
        for thing in things[section]:
            title = str(thing.get("title") or thing.get("reference") or "")
            print(f"  {thing['id']}{f': {title}' if title else ''}")


def export(path: str, figure: str, file: str, *, step: float | None = None) -> int:
    """Write a figure of a session as PNG, SVG or CSV, or with ``step`` the frame of its movie that is shown there."""
    target = Path(file)
    if target.suffix.lower() not in FORMATS:
        raise ParameterError(f"FILE={file} cannot be written: its name has to end in .png, .svg or .csv.")
    run, slash, name = figure.partition("/")
    if not slash or not run or not name:
        raise ParameterError(f"RUN/FIGURE={figure} names no figure: write a run's id, a slash and a figure's name.")
    from engine.api import read_session

    with read_session(Path(path)) as session:
        ids = [record.id for record in session.runs()]
        if run not in ids:
            raise NotThere(f"There is no run {run} in {path}{_near(run, ids)}")
        names = session.figure_names(run)
        if name not in names:
            raise NotThere(f"{run} in {path} has no figure {name}{_near(name, names)}")
        if step is None:
            found = session.figure(run, name)
        elif name in session.movie_names(run):
            movie = session.movie(run, name)
            found = movie.frame(movie.at(step))
        else:
            filmed = session.movie_names(run)
            raise NotThere(f"{run}/{name} has no movie, so it cannot be had at a step{_near(name, filmed)}")
    from engine.figures.export import write_figure

    write_figure(found, target)
    say(f"Wrote {target}.")
    return DONE


def _near(word: str, known: list[str]) -> str:
    if not known:
        return "; there is none at all."
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.3) or known[:3]
    return f"; there is {', '.join(near)}{' and more' if len(known) > len(near) else ''}."
