"""What a run was computed with: versions, machine, threads. A difference is said when a run is resumed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import engine

# Distribution by import name; what of these a run has imported is recorded with it.
LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "transformers": "transformers",
    "transformer_lens": "transformer-lens",
}
# What a bit-for-bit continuation depends on, with the words for a person.
DECISIVE = {
    "superscope": "Superscope",
    "python": "Python",
    "platform": "system",
    "processor": "processor",
    "threads": "threads",
    "gpu": "GPU",
    **{name: name for name in LIBRARIES},
}


@lru_cache
def version(module: str) -> str:
    """Version of an installed library by its import name, without importing it; "" where it is not installed."""
    try:
        return importlib.metadata.version(LIBRARIES.get(module, module))
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(module), "__version__", ""))


def versions() -> dict[str, str]:
    """Versions of Superscope, Python and the libraries that are installed, imported or not."""
    found = {"superscope": engine.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in LIBRARIES if version(name)}


def describe(threads: int = 0) -> dict[str, Any]:
    """The environment of a run that asked for ``threads`` (0: all), as plain JSON values.

    Libraries are named only where they are imported by now, so it is taken at the end of a run too.
    """
    found: dict[str, Any] = {
        "superscope": engine.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": cores(),
        "threads": threads or cores(),
    }
    found |= {name: version(name) for name in LIBRARIES if name in sys.modules}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_initialized():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs, in words ("torch 2.12.0, now 2.13.0; threads 2, now 8"); "" where all that is known agrees."""
    found = []
    for key, words in DECISIVE.items():
        if key in before and key in now and before[key] != now[key]:
            found.append(f"{words} {before[key]}, now {now[key]}")
    return "; ".join(found)


@contextlib.contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Let torch compute with ``threads`` processor threads, 0 for all; afterwards as before.

    torch is imported only when it has to be told something. The number holds for the whole process:
    one thread that changes it changes what another computes in the last digits.
    """
    if not threads and "torch" not in sys.modules:
        yield
        return
    import torch

    before = torch.get_num_threads()
    if threads and threads != before:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache
def processor() -> str:
    """The processor's name as its maker writes it, or its architecture where that cannot be read."""
    try:
        if sys.platform == "linux":
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    key, _, value = line.partition(":")
                    if key.strip() == "model name":
                        return value.strip()
        elif sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return platform.machine()
    return platform.processor() or platform.machine()
