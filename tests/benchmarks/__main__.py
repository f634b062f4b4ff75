"""``make bench``: run every benchmark of this folder, one after another, each in a process of its own.

A benchmark is a module that prints its rows when run. It times things in turns within one run and
prints ratios with their spread; a figure that is missed is printed as missed, and nothing asserts.
``python -m tests.benchmarks NAME…`` runs only those named.
"""

from __future__ import annotations

import pkgutil
import platform
import subprocess
import sys
from pathlib import Path

import psutil


def main(names: list[str]) -> int:
    """Run the benchmarks called ``names``, or all; the number of those that broke."""
    here = Path(__file__).parent
    found = [module.name for module in pkgutil.iter_modules([str(here)]) if not module.ispkg and module.name[0] != "_"]
    unknown = sorted(set(names) - set(found))
    if unknown:
        print(f"There is no benchmark called {unknown[0]}; there are: {', '.join(found)}.", file=sys.stderr)
        return 2
    print(f"# {platform.machine()}, {psutil.cpu_count()} threads, Python {platform.python_version()}")
    broken = 0
    for name in names or found:
        print(f"\n## {name}", flush=True)
        broken += subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"], check=False).returncode != 0
    return broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
