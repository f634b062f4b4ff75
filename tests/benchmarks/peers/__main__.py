"""``make bench-peers``: training speed of the same architecture on the same activations, ours and the peers', in turns.

Each library runs in a process of its own, the peers in their own environment. In every round each takes one step;
the ratio of a round is a peer's time over ours. After some rounds that are not counted, the table shows the median
of the rounds' ratios and their smallest and largest. Nothing asserts: a goal is printed as reached or MISSED.

``--record`` adds the table to ``tests/benchmarks/RESULTS.md``, with date and hardware.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from tests.benchmarks.peers import environment
from tests.benchmarks.peers.cases import CASES, Case

RESULTS = Path(__file__).parents[1] / "RESULTS.md"
WARM = 3
OURS = "superscope"


class Worker:
    """A process that takes one step at a time with one library."""

    def __init__(self, library: str, case: Case, threads: int) -> None:
        python = Path(sys.executable) if library == OURS else environment.python()
        module = "tests.benchmarks.peers.worker"
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", "-m", module, library, case.name, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment.environment(),
        )
        self._answer()

    def step(self) -> tuple[float, float]:
        """Seconds of one step, and the active latents per activation in it."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds, active = self._answer().split()
        return float(seconds), float(active)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise RuntimeError("A library broke off: " + "\n".join(errors.splitlines()[-5:]))
        return line.strip()


@contextmanager
def worker(library: str, case: Case, threads: int) -> Iterator[Worker]:
    """A worker that is stopped at the end."""
    found = Worker(library, case, threads)
    try:
        yield found
    finally:
        found.stop()


def race(case: Case, peers: list[str], rounds: int, threads: int) -> list[str]:
    """The rows of one case: ours against the ``peers`` that have its architecture."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker(name, case, threads)) for name in (OURS, *peers)}
        for _ in range(WARM):
            for each in workers.values():
                each.step()
        steps = [{name: each.step() for name, each in workers.items()} for _ in range(rounds)]
    rows = []
    own = statistics.median(step[OURS][0] for step in steps)
    for name in peers:
        first, aim = case.goals[name]
        ratios = [step[name][0] / step[OURS][0] for step in steps]
        ratio = statistics.median(ratios)
        goal = f"{first:g} (aim {aim:g}) {'reached' if ratio >= first else 'MISSED'}" if first else "–"
        theirs = statistics.median(step[name][0] for step in steps)
        rows.append(
            f"| {case.name} | {name} | **{ratio:.2f}** ({min(ratios):.2f}–{max(ratios):.2f}) | {goal} "
            f"| {case.batch / own:,.0f} | {case.batch / theirs:,.0f} "
            f"| {steps[-1][OURS][1]:.1f} | {steps[-1][name][1]:.1f} |"
        )
    return rows


def processor() -> str:
    """What the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def heading(rounds: int, threads: int) -> list[str]:
    """When, on what, with which versions, and how busy the machine was."""
    peers = subprocess.run(
        [environment.python(), "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    versions = [line.replace("==", " ") for line in peers if line.split("==")[0] in environment.PEERS]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return [
        f"### {datetime.datetime.now(tz=datetime.UTC):%d %b %Y, %H:%M} UTC: training against the peers",
        "",
        f"{processor()}, {psutil.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GB; {threads} threads, {rounds} rounds in turns, load at the "
        f"beginning {load:.1f}; torch {version('torch')}, {', '.join(versions)}.",
        "",
        "| case | peer | ours × faster: median (min–max) | goal | ours, act/s | peer, act/s | our L0 | peer's L0 |",
        "|---|---|---|---|---|---|---|---|",
    ]


def main() -> int:
    """Print the table; the exit status is 0 whatever the numbers are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="cases by name; all by default", metavar="CASE")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 2)
    parser.add_argument("--without", action="append", default=[], help="leave a peer out", metavar="PEER")
    parser.add_argument("--record", action="store_true", help="add the table to RESULTS.md")
    asked = parser.parse_args()
    unknown = sorted(set(asked.cases) - {case.name for case in CASES})
    if unknown:
        parser.error(f"there is no case {unknown[0]}; there are {', '.join(case.name for case in CASES)}")
    table = heading(asked.rounds, asked.threads)
    print("\n".join(table), flush=True)
    for case in CASES:
        if not asked.cases or case.name in asked.cases:
            rows = race(case, [name for name in case.goals if name not in asked.without], asked.rounds, asked.threads)
            print("\n".join(rows), flush=True)
            table += rows
    if asked.record:
        with RESULTS.open("a", encoding="utf-8") as results:
            results.write("\n".join(["", *table, ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
