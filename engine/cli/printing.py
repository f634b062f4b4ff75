"""What verbs print: JSON for scripts, aligned words for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.runs.declaration import Metric
from engine.runs.recording import RunRecord


def print_json(value: Any) -> None:
    """Valid JSON on stdout; numbers that are not finite are the texts NaN, Infinity and -Infinity."""
    print(json.dumps(_finite(value), ensure_ascii=False, indent=2, default=str, allow_nan=False))


def run_object(record: RunRecord, metrics: Mapping[str, float], figures: Iterable[str]) -> dict[str, Any]:
    """A run as ``run --json`` and ``show --json`` print it; ``metrics`` are last values."""
    return {
        "id": record.id,
        "experiment": record.experiment,
        "title": record.title,
        "state": record.state,
        "parameters": record.parameters,
        "metrics": dict(metrics),
        "figures": sorted(figures),
        "facts": record.facts,
        "sweep": record.sweep,
        "elapsed": record.elapsed,
        "error": record.error,
    }


def metric_lines(metrics: Mapping[str, float], known: Mapping[str, Metric]) -> list[str]:
    """``name  value unit`` per metric, aligned."""
    wide = max(map(len, metrics), default=0)
    lines = []
    for name, value in metrics.items():
        unit = known[name].unit if name in known else ""
        lines.append(f"{name:<{wide}}  {value:.6g} {unit}".rstrip())
    return lines


def last_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The last value of each metric that has a row (n, 3)."""
    return {name: float(rows[-1, 1]) for name, rows in metrics.items() if len(rows)}


def duration(seconds: float) -> str:
    """Time in words: ``12.3 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in words, in powers of 1,000 as disks count: ``93 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of left-aligned columns, two spaces apart."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True)) for row in [head, *rows]]
    return [line.rstrip() for line in lines]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return _finite(value.tolist())
    return value
