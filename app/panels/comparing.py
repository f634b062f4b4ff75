"""Several runs side by side as plain data: what they are called, where they differ, how they ended. Free of Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.panels.words import STATE_WORDS, schema_of, unit_of, value_text
from engine.figures.kinds import Axis, Table
from engine.runs.recording import RunRecord

ABSENT = "–"
Described = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Ends:
    """Where a run has got to: its last ``step`` (NaN before the first) and the last value per metric."""

    step: float
    values: Mapping[str, float]


def differing(records: Sequence[RunRecord]) -> list[str]:
    """The parameters that are not the same in all runs, in the order of the first run that has them."""
    names = list(dict.fromkeys(name for record in records for name in record.parameters))
    missing = object()
    return [
        name
        for name in names
        if any(
            record.parameters.get(name, missing) != records[0].parameters.get(name, missing) for record in records[1:]
        )
    ]


def sweep_of(records: Sequence[RunRecord]) -> str:
    """The sweep that all these runs belong to; "" where there is none."""
    sweeps = {record.sweep for record in records}
    return sweeps.pop() if len(sweeps) == 1 else ""


def legend_names(records: Sequence[RunRecord], titles: Sequence[str]) -> list[str]:
    """What the runs are called in a legend: by the one or two parameters that tell them apart, else by title.

    The runs of one sweep are told apart by what it goes over, however many parameters that are. Titles
    that are not unique get the run's id.
    """
    names = differing(records)
    one_kind = len({record.experiment for record in records}) == 1
    if one_kind and (1 <= len(names) <= 2 or sweep_of(records)) and len(records) > 1:
        called = [", ".join(_called(name, record.parameters.get(name, ABSENT)) for name in names) for record in records]
        if len(set(called)) == len(called):
            return called
    return [
        title if list(titles).count(title) == 1 else f"{title} ({record.id})"
        for record, title in zip(records, titles, strict=True)
    ]


def _called(name: str, value: Any) -> str:
    """``k 32``, but ``topk`` and not ``architecture topk``: a choice says by itself what it is."""
    return value_text(value) if isinstance(value, str) and value not in ("", ABSENT) else f"{name} {value_text(value)}"


def difference_table(records: Sequence[RunRecord], called: Sequence[str], catalogue: Described) -> Table:
    """One row per parameter that differs, one column per run."""
    names = differing(records)
    if len({record.experiment for record in records}) > 1:
        names = ["experiment", *names]

    def shown(record: RunRecord, name: str) -> str:
        if name == "experiment":
            return record.experiment
        if name not in record.parameters:
            return ABSENT
        schema = schema_of(catalogue.get(record.experiment, {}))
        return value_text(record.parameters[name], unit_of(name, schema))

    columns = [np.asarray(names, dtype=np.str_)]
    columns += [np.asarray([shown(record, name) for name in names], dtype=np.str_) for record in records]
    return Table(
        title="Parameters that differ",
        note="Parameters not listed are the same in all runs.",
        axes=(Axis("Parameter"), *(Axis(name) for name in called)),
        columns=tuple(columns),
    )


def final_table(
    records: Sequence[RunRecord], called: Sequence[str], ends: Sequence[Ends], catalogue: Described
) -> Table:
    """One row per run, one column per metric: the last value of each; NaN where a run has none."""
    declared: dict[str, Mapping[str, Any]] = {}
    for record in records:
        for name, metric in catalogue.get(record.experiment, {}).get("metrics", {}).items():
            declared.setdefault(name, metric)
    names = [name for name in declared if any(name in end.values for end in ends)]
    names += sorted({name for end in ends for name in end.values} - set(declared))
    axes = [Axis("Run"), Axis("State"), Axis("Step")]
    columns: list[Any] = [
        np.asarray(called, dtype=np.str_),
        np.asarray([STATE_WORDS.get(record.state, record.state) for record in records], dtype=np.str_),
        np.asarray([end.step for end in ends], dtype=np.float64),
    ]
    for name in names:
        metric = declared.get(name, {})
        axes.append(Axis(metric.get("label") or name, metric.get("unit", "")))
        columns.append(np.asarray([end.values.get(name, np.nan) for end in ends], dtype=np.float64))
    return Table(
        title="Last values",
        note="The last value each run has logged of each metric; the step is its latest.",
        axes=tuple(axes),
        columns=tuple(columns),
    )
