"""What running runs have sent so far: metric rows, figures, progress. Torch-free and Qt-free."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Figure
from engine.runs.run import Progress

Rows: TypeAlias = npt.NDArray[np.float64]
FIRST = 1024  # rows a buffer starts with


class Growing:
    """Rows (n, 3) float64 that grow without copying at each append: the buffer doubles."""

    def __init__(self, rows: npt.NDArray[Any] | None = None) -> None:
        self._buffer: Rows = np.empty((FIRST, 3), dtype=np.float64)
        self._count = 0
        if rows is not None and len(rows):
            self.append(rows)

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Rows:
        """A read-only view of the rows so far: step, value, seconds."""
        view = self._buffer[: self._count]
        view.flags.writeable = False
        return view

    def append(self, rows: npt.NDArray[Any]) -> None:
        needed = self._count + len(rows)
        if needed > len(self._buffer):
            larger = np.empty((max(needed, 2 * len(self._buffer)), 3), dtype=np.float64)
            larger[: self._count] = self._buffer[: self._count]
            self._buffer = larger
        self._buffer[self._count : needed] = rows
        self._count = needed

    def rewind(self, step: float) -> None:
        """Drop the rows from ``step`` on: a resumed run says them again."""
        later = np.flatnonzero(self._buffer[: self._count, 0] >= step)
        if len(later):
            self._count = int(later[0])


class LiveRun:
    """One run's buffers. ``rewound`` holds the metrics whose next rows follow a resumption."""

    def __init__(self) -> None:
        self.metrics: dict[str, Growing] = {}
        self.figures: dict[str, Figure] = {}
        self.progress: Progress | None = None
        self.resumed = False
        self.rewound: set[str] = set()

    def resume(self) -> None:
        """The run goes on from its checkpoint: what it says next replaces what it said after that."""
        self.resumed = True
        self.rewound.clear()

    def measure(self, name: str, rows: npt.NDArray[Any], recorded: npt.NDArray[Any] | None) -> None:
        """Append rows. ``recorded`` are the session's rows, used where a resumed run has no buffer yet."""
        buffer = self.metrics.get(name)
        if buffer is None:
            buffer = self.metrics[name] = Growing(recorded)
        if self.resumed and name not in self.rewound and len(rows):
            buffer.rewind(float(rows[0, 0]))
            self.rewound.add(name)
        buffer.append(rows)
