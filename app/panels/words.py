"""What panels say in numbers: durations, sizes, rates, states, the progress line, changed parameters. Free of Qt."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.runs.recording import RunRecord
    from engine.runs.run import Progress

STATE_WORDS = {
    "queued": "Queued",
    "running": "Running",
    "paused": "Paused",
    "finished": "Finished",
    "stopped": "Stopped",
    "interrupted": "Interrupted",
    "failed": "Failed",
}
FEW = 4  # metrics in the progress line of a run that goes on
_SHORT = {"activations": "act", "tokens": "tok"}  # the field's short forms, where a rate would get long


def number(value: float, digits: int = 4) -> str:
    """A number for people, as exported figures write it."""
    # Not at the top: it brings numpy, and the window's job list is there before its first paint.
    from engine.figures import words

    return words.number(value, digits)


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``42 s``, ``18:20``, ``2:03:09``, ``3 d 4 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 86_400:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def size(count: float) -> str:
    """Bytes in decimal units: ``512 B``, ``37 kB``, ``1.1 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def large(count: float) -> str:
    """A count with k, M or G and three digits: ``10.4 k``, ``135 M``; below a thousand as it is."""
    for unit in ("", " k", " M", " G"):
        if abs(count) < 1000 or unit == " G":
            return f"{count:.3g}{unit}" if abs(count) < 999.5 else f"{count:.0f}{unit}"
        count /= 1000
    raise AssertionError("unreachable: the last unit returns")


def rate(per_second: float, unit: str) -> str:
    """``10.4 k act/s``; slower than one in two seconds as seconds per unit."""
    unit = _SHORT.get(unit, unit)
    if 0 < per_second < 0.5:
        return f"{1 / per_second:.1f} s/{unit.removesuffix('s')}"
    return f"{large(per_second)} {unit}/s"


def clock(when: float | None) -> str:
    """A moment as local time: ``14:05``, with the date where it is not today's."""
    if not when:
        return ""
    then, now = time.localtime(when), time.localtime()
    pattern = "%H:%M" if then[:3] == now[:3] else "%Y-%m-%d %H:%M"
    return time.strftime(pattern, then)


def metric_value(value: float, unit: str, label: str = "") -> str:
    """A metric's value with its unit, where ``label`` does not say it; shares are shown in percent."""
    if unit in ("share", "fraction"):
        return f"{number(100 * value, 3)} %"
    text = number(value, 3)
    return f"{text} {unit}" if unit and unit.lower() not in label.lower() else text


def progress_line(
    record: RunRecord, progress: Progress | None, last: Mapping[str, float], described: Mapping[str, Any]
) -> str:
    """The line under a run's title: ``step 4,120 of 20,000 · 10.4 k act/s · FVU 0.113 · L0 32 · dead 2 %``.

    Args:
        record: the run.
        progress: how far it is; None where nothing is known.
        last: last value per metric name.
        described: the experiment as the catalogue has it.
    """
    parts: list[str] = []
    if progress is not None and record.state in ("running", "paused"):
        if progress.stage:
            parts.append(progress.stage)
        if progress.unit or progress.done:
            parts.append(_position(progress))
        if progress.rate > 0 and record.state == "running":
            parts.append(_rate_of(record, progress, described))
            if progress.left is not None:
                parts.append(f"{duration(progress.left)} left")
    declared: Mapping[str, Any] = described.get("metrics", {})
    names = [*(name for name in declared if name in last), *(name for name in last if name not in declared)]
    last_group = ""
    for name in names[:FEW] if record.state in ("queued", "running", "paused") else names:
        metric = declared.get(name, {})
        label = metric.get("label") or name
        said = f"{label} {metric_value(last[name], metric.get('unit', ''), label)}"
        group = metric.get("group", "")
        shared = _is_shared(name, declared)
        if shared and group == last_group:
            parts[-1] += f", {said}"
        else:
            parts.append(f"{group}: {said}" if shared else said)
        last_group = group
    return " · ".join(parts)


def name_of(metric: str, declared: Mapping[str, Mapping[str, Any]]) -> str:
    """What a metric is called by itself: where another one has its label, with the group that it belongs to."""
    label = str(declared.get(metric, {}).get("label") or metric)
    return f"{declared[metric]['group']}: {label}" if _is_shared(metric, declared) else label


def _is_shared(metric: str, declared: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a metric of another group has the same label."""
    label, group = declared.get(metric, {}).get("label"), declared.get(metric, {}).get("group")
    return bool(group) and any(
        other.get("label") == label and other.get("group") != group for other in declared.values()
    )


def _position(progress: Progress) -> str:
    """``step 4,120 of 20,000``, ``120,000 of 1,000,000 tokens``."""
    done, total = f"{progress.done:,.0f}", f"{progress.total:,.0f}" if progress.total else ""
    if progress.unit == "steps":
        return f"step {done} of {total}" if total else f"step {done}"
    return f"{done} of {total} {progress.unit}" if total else f"{done} {progress.unit}"


def _rate_of(record: RunRecord, progress: Progress, described: Mapping[str, Any]) -> str:
    """Steps of a known batch are shown as what the batch holds: activations or tokens per second."""
    batch = record.parameters.get("batch")
    entry = schema_of(described).get("batch", {})
    if progress.unit == "steps" and isinstance(batch, int) and entry.get("unit"):
        return rate(progress.rate * batch, entry["unit"])
    return rate(progress.rate, progress.unit or "units")


def schema_of(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema of each parameter by name, in the declared order."""
    found: Mapping[str, Any] = described.get("parameters", {}).get("properties", {})
    return found


def defaults_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """The default values of the parameters that have one; nothing where the experiment is unknown."""
    return {name: entry["default"] for name, entry in schema_of(described).items() if "default" in entry}


def changed_parameters(parameters: Mapping[str, Any], described: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of the parameters that differ from their defaults, in the declared order."""
    schema = schema_of(described)
    order = [*(name for name in schema if name in parameters), *(name for name in parameters if name not in schema)]
    return [
        (name, value_text(parameters[name], unit_of(name, schema)))
        for name in order
        if name not in schema or "default" not in schema[name] or schema[name]["default"] != parameters[name]
    ]


def unit_of(name: str, schema: Mapping[str, Any]) -> str:
    """A parameter's unit, "" where the name says it already ("steps 60")."""
    unit = str(schema.get(name, {}).get("unit", ""))
    return "" if unit == name else unit


def fact_text(value: Any) -> str:
    """A fact's value: as a parameter's, but numbers that were computed have four digits."""
    return number(value) if isinstance(value, float) else value_text(value)


def value_text(value: Any, unit: str = "") -> str:
    """A parameter's value as it is shown: numbers grouped, texts shortened, units behind."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        text = f"{value:,}"
    elif isinstance(value, float):
        text = f"{value:g}" if math.isfinite(value) else number(value)
    elif isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "…"
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
        text = text if len(text) <= 60 else text[:57] + "…"
    return f"{text} {unit}" if unit else text
