"""The catalogue between starts: there when it is current, absent when it is not."""

from __future__ import annotations

import errno

import pytest

from engine import files
from engine.runs import catalogue


def test_it_is_read_back_and_forgotten_when_the_program_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalogue.read() is None
    catalogue.write([{"name": "größe", "n": 1}])
    assert catalogue.read() == [{"name": "größe", "n": 1}]
    monkeypatch.setattr("engine.__version__", "0.0.0")
    assert catalogue.read() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 3}', b"\xff"])
def test_a_damaged_one_is_as_none(content: bytes) -> None:
    catalogue.path().write_bytes(content)
    assert catalogue.read() is None


def test_a_full_disk_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise files.explain(OSError(errno.ENOSPC, "full"), catalogue.path())

    monkeypatch.setattr(files, "write_bytes", full)
    catalogue.write([])
    assert catalogue.read() is None
