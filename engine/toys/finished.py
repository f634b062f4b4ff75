"""``python -m engine.toys.finished``: run every toy at its demo size, and keep the runs that ship.

The session it writes opens as an unsaved copy from the gallery of toy models, so that each toy's figures and its
checkpoint movie can be looked at before anything is trained. Nothing in it is made up: each run is what its
experiment recorded on the machine on which this was called.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from engine import files, places
from engine.api import RunResult, run
from engine.errors import SuperscopeError
from engine.runs.declaration import Experiment, experiments
from engine.session import Session

AREA = "Toy models"
FILE = "toys.superscope"
LIMIT = 12_000_000  # bytes that may ship
SMALL, CHUNK = 2_048, 65_536  # bytes of an array from which it is compressed, and of what is compressed at once
CPU_LIMIT = 600.0  # seconds of processor time for all toys together

NOTES = """\
# Finished toy models

One run of every toy at its demo size, as it was recorded: {count} runs, {cpu:.0f} seconds of processor time
together. Open one, drag the timeline at the bottom, and read *How to read it* in the gallery of toy models.

Each trained toy is a model of this session (`toy:RUN`): look at its activations, or train a dictionary on it with
the same reference as model and as text.

This is a copy: change, delete and try what you like.
"""


class FinishedError(SuperscopeError):
    """The runs of the toys are not what may ship."""


def toys() -> list[Experiment]:
    """All toys, by name."""
    return [found for found in experiments().values() if found.area == AREA and found.lane == "job"]


def target() -> Path:
    """Where the session lies that ships."""
    return places.resources() / "demo" / FILE


def build(session: Session, wanted: list[Experiment]) -> list[tuple[RunResult, float]]:
    """Run each toy with its defaults in ``session``; results and seconds of processor time.

    Raises:
        SuperscopeError: a toy fails.
    """
    import time

    made = []
    for found in wanted:
        began = time.process_time()
        result = run(found.name, session=session)
        spent = time.process_time() - began
        made.append((result, spent))
        session.rename("runs", result.id, found.title)
        print(f"{result.id}: {spent:.1f} s of processor time, {result.elapsed:.1f} s", flush=True)
    return made


def compress(source: Path, place: Path) -> None:
    """Write the session file ``source`` again as ``place`` with its larger arrays compressed by gzip, for shipping.

    Sessions themselves are stored plain, because compressing costs more time than the disk is worth.
    """
    import h5py

    def copy(old: Any, new: Any) -> None:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name, item in old.items():
            if isinstance(item, h5py.Group):
                copy(item, new.create_group(name))
            elif item.dtype.kind in "biuf" and item.ndim and item.nbytes >= SMALL:
                rows = max(1, CHUNK * len(item) // item.nbytes)
                chunks = (min(rows, len(item)), *item.shape[1:])
                made = new.create_dataset(name, data=item[()], chunks=chunks, compression="gzip", shuffle=True)
                for key, value in item.attrs.items():
                    made.attrs[key] = value
            else:
                old.copy(item, new, name)

    with files.replacing(place) as temporary, h5py.File(source, "r") as old, h5py.File(temporary, "w") as new:
        copy(old, new)


def main(arguments: list[str] | None = None) -> int:
    """Write the session; 0, or 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.toys.finished", description="Run every toy at its demo size and keep the runs that ship."
    )
    parser.add_argument("toys", nargs="*", help="only these, and report without writing what ships")
    chosen = parser.parse_args(arguments).toys
    wanted = [found for found in toys() if not chosen or found.name in chosen]
    try:
        with tempfile.TemporaryDirectory(prefix="superscope-toys-") as folder:
            place = Path(folder) / FILE if chosen else target()
            session = Session.create(title=AREA)
            try:
                session.save(Path(folder) / "first.superscope").wait()
                made = build(session, wanted)
                cpu = sum(spent for _, spent in made)
                session.set_notes(NOTES.format(count=len(made), cpu=cpu))
                saved = Path(folder) / "saved.superscope"
                session.save(saved).wait()
            finally:
                session.close(discard=True)
            compress(saved, place)
            size = place.stat().st_size
        print(f"{len(made)} toys: {cpu:.0f} s of processor time, {size:,} bytes")
        if size > LIMIT or cpu > CPU_LIMIT:
            raise FinishedError(
                f"{size:,} bytes and {cpu:.0f} s of processor time are more than the {LIMIT:,} bytes and "
                f"{CPU_LIMIT:.0f} s that are allowed; make the toys' recordings or their demo sizes smaller."
            )
    except SuperscopeError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
