"""Progress on stderr: a bar on a terminal, plain occasional lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from engine.cli.printing import duration
from engine.runs.run import Progress
from engine.runs.sinks import NullSink, Rows

LINE_EVERY = 10.0  # seconds between lines where there is no terminal
METRICS_SHOWN = 4


class ProgressSink(NullSink):
    """Shows how far a run is, its latest metrics, and what it says."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._kind: tuple[object, ...] = ()
        self._stage = ""
        self._spoke = 0.0
        self._metrics: dict[str, float] = {}

    def progress(self, progress: Progress) -> None:
        if self._terminal:
            self._draw(progress)
            return
        now = time.monotonic()
        # a new stage at once, and the last report of one
        if progress.stage != self._stage or now - self._spoke >= LINE_EVERY or progress.done == progress.total:
            self._stage, self._spoke = progress.stage, now
            self._say(f"{self._name}: {self._words(progress)}")

    def metrics(self, rows: Rows) -> None:
        self._metrics.update({name: value for name, (_, value, _) in rows.items()})

    def log(self, level: str, text: str) -> None:
        self._say(f"{self._name}: {'warning: ' if level == 'warning' else ''}{text}")

    def close(self) -> None:
        """Leave the bar as it stands and go to the next line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def _draw(self, progress: Progress) -> None:
        kind = (progress.stage, progress.unit, progress.total)
        if self._bar is None or kind != self._kind:
            from tqdm import tqdm

            self.close()
            self._kind = kind
            self._bar = tqdm(
                total=None if progress.total is None else _whole(progress.total),
                unit=f" {progress.unit}" if progress.unit else "",
                unit_scale=(progress.total or 0) >= 100_000,
                desc=f"{self._name} {progress.stage}".strip(),
                file=sys.stderr,
                **_shape(),
                leave=True,
            )
        if self._metrics:
            self._bar.set_postfix_str(self._numbers(), refresh=False)
        self._bar.update(_whole(progress.done) - self._bar.n)

    def _words(self, progress: Progress) -> str:
        parts = [progress.stage] if progress.stage else []
        if progress.unit:
            amount = f"{progress.done:,.0f}"
            if progress.total is not None:
                share = f"{progress.done / progress.total:.0%} " if progress.total else ""
                amount = f"{share}({amount} of {progress.total:,.0f} {progress.unit})"
            else:
                amount += f" {progress.unit}"
            parts.append(amount)
            if progress.rate:
                parts.append(f"{progress.rate:,.3g} {progress.unit}/s")
            if progress.left:
                parts.append(f"{duration(progress.left)} left")
        return ", ".join(parts + ([self._numbers()] if self._metrics else [])) or "at work"

    def _numbers(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in list(self._metrics.items())[:METRICS_SHOWN])


def _shape() -> dict[str, Any]:
    """The bar's shape: the terminal's own, or 80 × 24 on one that does not know its size (a serial line says 0)."""
    with contextlib.suppress(OSError):
        if os.get_terminal_size(sys.stderr.fileno()).columns > 0:
            return {"dynamic_ncols": True}
    return {"ncols": 80, "nrows": 24}


def _whole(value: float) -> float:
    """A whole number as an integer, so that the bar reads 30/30 and not 30.0/30."""
    return int(value) if float(value).is_integer() else value
