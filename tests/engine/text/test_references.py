"""Text references: what each form means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.text.errors import TextError
from engine.text.references import TextReference, parse


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("stories", TextReference("stories", "stories")),
        ("stories#7", TextReference("stories", "stories", seed=7)),
        (" python-docs ", TextReference("python-docs", "python-docs")),
        ("a/b/novel.TXT", TextReference("txt", "a/b/novel.TXT")),
        ("odd#name.txt", TextReference("txt", "odd#name.txt")),
        ("rows.jsonl", TextReference("jsonl", "rows.jsonl")),
        ("odd#name.jsonl#body", TextReference("jsonl", "odd#name.jsonl", column="body")),
        ("C:\\texts\\rows.parquet#body", TextReference("parquet", "C:\\texts\\rows.parquet", column="body")),
        ("org/name", TextReference("dataset", "org/name")),
        ("org/na-me.x:config-1#body", TextReference("dataset", "org/na-me.x", column="body", config="config-1")),
    ],
)
def test_each_form_is_read(written: str, read: TextReference) -> None:
    assert parse(written) == read


@pytest.mark.parametrize(
    "written", ["", "novel", "novel.docx", "a/b/c", "../etc", "org/", "stories#x", "python-docs#1"]
)
def test_anything_else_is_refused_with_a_sentence(written: str) -> None:
    with pytest.raises(TextError) as problem:
        parse(written)
    assert str(problem.value).endswith(".")
    assert "\n" not in str(problem.value)


def test_a_home_folder_is_resolved() -> None:
    assert parse("~/novel.txt").path == Path.home() / "novel.txt"
