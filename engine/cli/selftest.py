"""``superscope --self-test``: the whole way on the demo model, without network, display or anything of the person's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.api import RunResult, load, open_session, run
from engine.cli import DONE, FAILED
from engine.cli.arguments import say
from engine.cli.printing import duration
from engine.errors import SuperscopeError
from engine.figures.export import write_figure
from engine.runs import messages

CAPTURE = {"tokens": 2_000}
TRAIN = {"tokens": 4_000, "steps": 100, "batch": 256, "width": 256, "k": 8, "held_out": 4}


class SelfTestFailed(SuperscopeError):
    """Something does not work as it should on this machine."""


def main() -> int:
    """Run every check, print one line each; the exit status."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="superscope-self-test-", ignore_cleanup_errors=True) as scratch:
        os.environ.update(SUPERSCOPE_HOME=str(Path(scratch) / "home"), HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
        test = _SelfTest(Path(scratch) / "self-test.superscope")
        for name, check in (
            ("engine process", test.engine_process),
            ("capture, train, save", test.capture_train_save),
            ("load", test.load),
            ("export", test.export),
        ):
            if not _passes(name, check):
                return FAILED
    print(f"Everything works ({duration(time.monotonic() - began)}).")
    return DONE


def _passes(name: str, check: Callable[[], str]) -> bool:
    began = time.monotonic()
    try:
        found = check()
    except SuperscopeError as problem:
        say(f"{name}: {problem}")
        return False
    except Exception as problem:
        say(f"{name}: an unexpected error ({type(problem).__name__}: {problem}).")
        return False
    print(f"{name}: {found} ({duration(time.monotonic() - began)})", flush=True)
    return True


class _SelfTest:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.results: list[RunResult] = []

    def engine_process(self) -> str:
        """Start an engine process and let it say hello."""
        frozen = getattr(sys, "frozen", False)
        command = [sys.executable, *([] if frozen else ["-m", "engine"]), "--engine-process"]
        root = None if frozen else Path(__file__).resolve().parent.parent.parent
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as process:
            assert process.stdout is not None
            hello, catalogue = messages.read(process.stdout), messages.read(process.stdout)  # type: ignore[arg-type]
            process.communicate(messages.encode(messages.Shutdown()), timeout=20)
        if not isinstance(hello, messages.Hello) or not isinstance(catalogue, messages.Catalogue):
            raise SelfTestFailed("The engine process did not answer; its messages are above.")
        return f"knows {len(catalogue.experiments)} experiments"

    def capture_train_save(self) -> str:
        """Run the two experiments of which the others are made, in one session."""
        with open_session(self.file) as session:
            self.results = [
                run("pca-spectrum", session=session, **CAPTURE),
                run("train-dictionary", session=session, **TRAIN),
            ]
            session.save().wait()
        loss = self.results[1].metrics["loss"][:, 1]
        if not np.all(np.isfinite(loss)) or not loss[-1] < loss[0]:
            raise SelfTestFailed(f"The dictionary's loss did not fall: it went from {loss[0]:.4g} to {loss[-1]:.4g}.")
        return f"the dictionary's loss fell from {loss[0]:.3g} to {loss[-1]:.3g}"

    def load(self) -> str:
        """Read everything back and compare it bit for bit with what was recorded."""
        arrays = 0
        with load(self.file) as session:
            for result in self.results:
                stored = session.run(result.id)
                if (stored.state, stored.parameters) != (result.state, result.parameters):
                    raise SelfTestFailed(f"The record of {result.id} came back from the session file changed.")
                pairs = [(name, rows, session.metric(result.id, name)) for name, rows in result.metrics.items()]
                pairs += [(name, kept, np.asarray(session.kept(result.id, name))) for name, kept in result.kept.items()]
                for name, before, after in pairs:
                    if before.tobytes() != after.tobytes():
                        raise SelfTestFailed(f"{name} of {result.id} came back from the session file changed.")
                arrays += len(pairs)
        return f"{arrays} arrays are equal bit for bit"

    def export(self) -> str:
        """Draw each figure as PNG, SVG and CSV."""
        written = 0
        with load(self.file) as session:
            for result in self.results:
                for name in session.figure_names(result.id):
                    for kind in ("png", "svg", "csv"):
                        target = self.file.with_name(f"{result.id}-{name}.{kind}")
                        write_figure(session.figure(result.id, name), target)
                        if not target.stat().st_size:
                            raise SelfTestFailed(f"The figure {name} of {result.id} came out empty as {kind.upper()}.")
                        written += 1
        return f"{written} files of figures"
