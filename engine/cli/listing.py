"""``superscope list`` and the help page of one experiment."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import Any

from engine.cli import DONE
from engine.cli.arguments import say
from engine.cli.printing import print_json
from engine.runs import schema
from engine.runs.declaration import experiments, find, unusable
from engine.runs.helppage import page


def experiments_described() -> list[dict[str, Any]]:
    """`Experiment.describe` of all, by area and title."""
    described = [experiment.describe() for experiment in experiments().values()]
    for sentence in unusable():
        say(sentence)
    return sorted(described, key=lambda one: (one["area"], one["title"]))


def list_experiments(*, as_json: bool) -> int:
    """Print every experiment with its parameters, defaults and bounds."""
    described = experiments_described()
    if as_json:
        print_json(described)
        return DONE
    for area, group in groupby(described, key=lambda one: one["area"]):
        print(f"{area}\n")
        for one in group:
            print(f"  {one['name']}: {one['title']}")
            first = one["help"].strip().partition("\n\n")[0]
            if first:
                print(textwrap.fill(" ".join(first.split()), 110, initial_indent="    ", subsequent_indent="    "))
            for line in _parameters(one):
                print(f"      {line}")
            print()
    return DONE


def help_page(name: str) -> int:
    """Print the help page of one experiment."""
    print(page(find(name).describe()), end="")
    return DONE


def _parameters(description: dict[str, Any]) -> list[str]:
    rows = []
    for one in schema.parameters(description):
        start = f"{one.name}={one.default}" if one.default else f"{one.name} (to be given)"
        allowed = f"{one.bounds} {one.unit}".strip()
        rows.append((start, allowed, one.help))
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    limits = [min(widths[0], 44), min(widths[1], 40)]
    return [f"{row[0]:<{limits[0]}}  {row[1]:<{limits[1]}}  {row[2]}".rstrip() for row in rows]
