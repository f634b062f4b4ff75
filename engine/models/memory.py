"""Memory that a model needs against memory that is free, so that opening one never ends in a kill."""

from __future__ import annotations

import contextlib
from pathlib import Path

from engine.models.errors import ModelError

SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
OVERHEAD = 400_000_000  # bytes of torch, transformers and a small forward pass
SHARE = 1.1  # what opening needs at its peak, in units of the weights as they are kept


def available(device: str = "cpu") -> int:
    """Bytes that can still be used on ``device``: the machine's, or the container's limit where that is lower."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no limit ("max"), or not this kind of system
            free = min(free, max(int(Path(limit).read_text()) - int(Path(used).read_text()), 0))
    return free


def needed(parameters: int, dtype: str) -> int:
    """Bytes that opening a model of so many parameters takes at its peak."""
    return int(parameters * SIZES[dtype] * SHARE) + OVERHEAD


def require(wanted: int, device: str, *, what: str, way_out: str = "") -> None:
    """Refuse when ``device`` has less than ``wanted`` bytes.

    Raises:
        ModelError: both numbers, and ``way_out``.
    """
    free = available(device)
    if wanted > free:
        where = "" if device == "cpu" else f" on {device}"
        way_out = way_out or "close other programs or use a machine with more memory"
        raise ModelError(
            f"{what} needs about {in_words(wanted)} of memory, and {in_words(free)} are free{where}; {way_out}."
        )


def in_words(size: float) -> str:
    """A number of bytes as a person reads it: 93 MB, 1.1 GB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale * 0.9995:
            number = size / scale
            return f"{number:.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"
    return f"{size:.0f} bytes"
