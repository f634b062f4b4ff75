"""The help page of an experiment, in Markdown, made from its declaration alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.runs import schema


def page(description: Mapping[str, Any]) -> str:
    """The help page for ``Experiment.describe()``: what it shows, its parameters, its metrics, its source."""
    parts = [f"# {description['title']}", description["help"].strip()]
    parameters = schema.parameters(description)
    if parameters:
        rows = [
            [f"`{one.name}`", one.help, f"`{one.default}`" if one.default else "to be given", one.bounds, one.unit]
            for one in parameters
        ]
        parts.append("## Parameters\n\n" + _table(["name", "meaning", "default", "allowed", "unit"], rows))
    metrics = description.get("metrics") or {}
    if metrics:
        rows = [
            [f"`{name}`", metric["label"], metric["unit"], metric["definition"]] for name, metric in metrics.items()
        ]
        parts.append("## Metrics\n\n" + _table(["name", "label", "unit", "definition"], rows))
    if description.get("resumable"):
        parts.append(
            "A stopped or interrupted run of this experiment goes on exactly where its last checkpoint was made."
        )
    if description.get("cites"):
        parts.append(f"## Source\n\n{description['cites']}")
    parts.append(f"## On the command line\n\n    superscope run {description['name']}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table without its empty columns."""
    used = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [[head[i] for i in used], ["---"] * len(used), *([_cell(row[i]) for i in used] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
