"""Memory is estimated in the model's number format and said in units a person reads."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from engine.models import memory
from engine.models.errors import ModelError


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (93_000_000, "93 MB"),
        (999_600_000, "1.0 GB"),
        (1_100_000_000, "1.1 GB"),
        (23_000_000_000, "23 GB"),
        (1_200_000_000_000, "1.2 TB"),
    ],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert memory.in_words(size) == words


def test_half_formats_need_half_the_memory_of_the_weights() -> None:
    full, half = memory.needed(7_000_000_000, "float32"), memory.needed(7_000_000_000, "bfloat16")
    assert full - memory.OVERHEAD == 2 * (half - memory.OVERHEAD)
    assert full > 28e9


def test_free_memory_is_no_more_than_the_machine_has() -> None:
    assert 0 < memory.available() <= psutil.virtual_memory().total


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"/sys/fs/cgroup/memory.max": "1000000", "/sys/fs/cgroup/memory.current": "400000"}

    def read(path: Path, *args: object, **options: object) -> str:
        if str(path) not in limits:
            raise FileNotFoundError(path)
        return limits[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    assert memory.available() == 600_000
    limits["/sys/fs/cgroup/memory.max"] = "max"
    assert memory.available() > 600_000


def test_what_fits_passes_and_what_does_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device="cpu": 2_000_000_000)
    memory.require(2_000_000_000, "cpu", what="Opening x")
    with pytest.raises(ModelError, match=r"Opening x needs about 3\.0 GB of memory, and 2\.0 GB are free; close other"):
        memory.require(3_000_000_000, "cpu", what="Opening x")
