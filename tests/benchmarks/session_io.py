"""Saving a gigabyte of arrays against writing the same bytes with fsync; opening a ten-gigabyte session.

Goals: a save at 0.8 of the raw speed or better (least: 0.7), whether the arrays come from recordings
or from the file that is replaced; a usable tree within 0.5 s (least: 1 s), whatever the size.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from engine.runs.recording import RecordingWriter
from engine.session import Session
from tests.benchmarks._home import use_test_models

MB, GB = 2**20, 2**30
PARTS = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 1)  # megabytes; a gigabyte in all
ROOT = Path(__file__).resolve().parents[2]
OPEN = """
import sys, time
from engine.session import Session
began = time.perf_counter()
session = Session.open(sys.argv[1])
tree = [(run.id, session.metric_names(run.id), session.figure_names(run.id)) for run in session.runs()[:50]]
things = [session.things(section) for section in ("models", "corpora", "activations", "dictionaries")]
print(time.perf_counter() - began)
session.close()
"""


@dataclass
class Row:
    """A measured thing: its values, one a round, and the goal."""

    name: str
    values: list[float]
    unit: str
    goal: str

    def text(self) -> str:
        """Median, and least to most."""
        low, middle, high = min(self.values), statistics.median(self.values), max(self.values)
        return f"{self.name:58s} {middle:6.2f} {self.unit} ({low:.2f}–{high:.2f}; {self.goal})"


def measure(rounds: int, folder: Path, size: int = GB) -> list[Row]:
    """All rows; ``folder`` is on the disk that is measured."""
    first, again, spent = [], [], []
    raw_path = folder / "raw"
    for number in range(rounds):
        session, arrays = _recorded(size)
        path = folder / f"{number}.superscope"

        def save(session: Session = session, path: Path = path) -> None:
            session.save(path).wait()

        ours, raw = _in_turns(number, save, lambda arrays=arrays: _write(raw_path, arrays), raw_path)
        first.append(raw / ours)
        spent.append(ours)
        session.add_run("pca-spectrum", {})
        ours, raw = _in_turns(number, save, lambda arrays=arrays: _write(raw_path, arrays), raw_path)
        again.append(raw / ours)
        session.close(discard=True)
        path.unlink()
    scale = f"{size / GB:g} GB"
    goal = "goal 0.8, least 0.7"
    large, many = _large(folder / "large.superscope"), _many(folder / "many.superscope")
    return [
        Row(f"first save of {scale}, speed against write and fsync", first, "×", goal),
        Row(f"save of a {scale} session with a new run, the same", again, "×", goal),
        Row(f"first save of {scale}", spent, "s", "for scale"),
        Row("opening 10 GB to the tree, h5py's import included", _opening(large, rounds), "s", "goal 0.5, least 1"),
        Row("the same, from elsewhere: looked at by a child first", _opening(large, rounds, True), "s", "least 1"),
        Row("opening a session of 300 runs, the same", _opening(many, rounds), "s", "goal 0.5, least 1"),
    ]


def _recorded(size: int) -> tuple[Session, list[np.ndarray]]:
    """A session whose recordings hold ``size`` bytes, and the same arrays in memory."""
    session = Session.create()
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, part * size // 1024, dtype=np.uint8) for part in PARTS]
    record = session.add_run("train-dictionary", {})
    writer = RecordingWriter(session.run_folder(record.id), record)
    for number, array in enumerate(arrays):
        writer.kept(f"part-{number}", array, {})
    record.state = "finished"
    writer.write_record()
    session.update_run(record)
    return session, arrays


def _write(path: Path, arrays: list[np.ndarray]) -> None:
    with open(path, "wb", buffering=0) as out:
        for array in arrays:
            left = memoryview(array)
            while left:
                left = left[out.write(left[: 16 * MB]) :]
        os.fsync(out.fileno())


def _in_turns(number: int, ours: Callable[[], None], raw: Callable[[], None], left: Path) -> tuple[float, float]:
    """Seconds of both, begun by the one or the other, each with nothing left to flush from before."""
    times = {}
    for name, work in (("ours", ours), ("raw", raw)) if number % 2 else (("raw", raw), ("ours", ours)):
        os.sync()
        began = time.perf_counter()
        work()
        times[name] = time.perf_counter() - began
        left.unlink(missing_ok=True)  # overwriting it would first have to free its blocks
    return times["ours"], times["raw"]


def _large(path: Path) -> Path:
    """A session of 10 GB, most of it holes in the file."""
    with Session.create() as session:
        for _ in range(20):
            _small_run(session)
        session.save(path).wait()
    with h5py.File(path, "r+") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        group = file.require_group("activations/acts-1")
        space = h5py.h5s.create_simple((10 * GB // 4 // 1024, 1024))
        h5py.h5d.create(group.id, b"data", h5py.h5t.NATIVE_FLOAT, space, dcpl=plan)
    return path


def _many(path: Path) -> Path:
    with Session.create() as session:
        for _ in range(300):
            _small_run(session)
        session.save(path).wait()
    return path


def _small_run(session: Session) -> None:
    record = session.add_run("pca-spectrum", {"model": "demo"})
    writer = RecordingWriter(session.run_folder(record.id), record)
    for name in ("loss", "fvu", "l0", "dead"):
        writer.metrics({name: (1, 2.0, 3.0)})
    writer.flush()
    record.state = "finished"
    writer.write_record()
    session.update_run(record)


def _opening(path: Path, rounds: int, unknown: bool = False) -> list[float]:
    found = []
    for number in range(rounds + 1):
        if unknown:
            os.utime(path)  # another state of the file, as far as anybody knows
        shown = subprocess.run([sys.executable, "-c", OPEN, str(path)], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        if number:  # the first warms the caches
            found.append(float(shown.stdout))
    return found


def main() -> int:
    """Print the rows; the exit status is 0 whatever they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure (default: the temporary one)")
    parser.add_argument("--megabytes", type=int, default=1024)
    asked = parser.parse_args()
    use_test_models()
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="superscope-bench-") as folder:
        os.environ["SUPERSCOPE_HOME"] = str(Path(folder) / "home")  # recordings on the same disk
        for row in measure(asked.rounds, Path(folder), asked.megabytes * MB):
            print(row.text(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
