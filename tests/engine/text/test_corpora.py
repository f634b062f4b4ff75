"""Corpora: what each kind gives, and that wrong files get one sentence that says what is wrong where."""

from __future__ import annotations

import hashlib
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text import corpora, python_docs, stories
from engine.text.corpora import open_corpus
from engine.text.errors import TextError
from engine.text.reading import PIECE, split


def said(reference: str | Path, column: str | None = None) -> str:
    """The sentence with which reading the whole text is refused."""
    with pytest.raises(TextError) as problem:
        for _ in open_corpus(str(reference), column=column).pieces():
            pass
    sentence = str(problem.value)
    assert "\n" not in sentence
    assert sentence[0].isupper() or sentence.split()[0].endswith((".txt", ".jsonl", ".parquet"))
    return sentence


def whole(reference: str | Path) -> list[str]:
    """The documents put together again from their pieces."""
    found: list[str] = []
    for piece, starts in open_corpus(str(reference)).pieces():
        assert len(piece) <= PIECE
        if starts:
            found.append(piece)
        else:
            found[-1] += piece
    return found


def test_stories_are_as_many_as_one_takes_and_the_same_each_time() -> None:
    corpus = open_corpus("stories")
    texts = list(itertools.islice(corpus.documents(), 2000))
    assert texts == [story.text for story in itertools.islice(stories.generate(0), 2000)]
    assert texts == list(itertools.islice(corpus.documents(), 2000))
    other = open_corpus("stories#1")
    assert next(other.documents()) != texts[0]
    assert other.fingerprint != corpus.fingerprint
    assert corpus.endless


def test_python_docs_are_the_topics_of_the_standard_library() -> None:
    from pydoc_data.topics import topics

    corpus = open_corpus("python-docs")
    described = corpus.describe()
    assert list(corpus.documents()) == [topics[name] for name in sorted(topics)]
    assert whole("python-docs") == [topics[name] for name in sorted(topics)]
    assert described["documents"] == len(topics)
    assert 460_000 < described["characters"] < 520_000
    assert described["sha256"] == hashlib.sha256("".join(topics[name] for name in sorted(topics)).encode()).hexdigest()


def test_python_without_its_documentation_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(TextError, match="has no pydoc_data"):
        list(python_docs.documents())


def test_a_text_file_is_one_document_with_all_its_characters(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {n} über Zeichen.\r\nIts second line.\r\n\r\n" * 3 for n in range(2000)]
    path = tmp_path / "novel.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "".join(paragraphs).encode())
    expected = "".join(paragraphs).replace("\r\n", "\n")
    assert whole(path) == [expected]
    pieces = list(open_corpus(str(path)).documents())
    assert "".join(pieces) == expected
    assert all(piece.startswith("\n\nParagraph") for piece in pieces[1:])


def test_a_line_of_ten_megabytes_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 2_000_000 + "x" * 1_000_000)
    corpus = open_corpus(str(path))
    tracemalloc.start()
    length = 0
    for piece, _ in corpus.pieces():
        assert len(piece) <= PIECE
        length += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == 11_000_000
    # A few chunks of 1 MB as bytes and as text, and never the whole.
    assert peak < 8 << 20


@given(st.text(alphabet="ab \n", max_size=400), st.integers(1, 40), st.integers(1, 60))
def test_pieces_are_the_same_characters_none_longer_than_asked(text: str, size: int, chunk: int) -> None:
    chunks = [text[start : start + chunk] for start in range(0, len(text), chunk)]
    pieces = list(split(chunks, size))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces)


def test_a_long_piece_ends_before_a_blank_line_then_a_line_then_a_space() -> None:
    assert list(split(["one two\n\nthree\nfour five"], 16)) == ["one two", "\n\nthree", "\nfour five"]
    assert list(split(["one two three"], 9)) == ["one two", " three"]
    assert list(split(["onetwothree"], 4)) == ["onet", "woth", "ree"]


def test_jsonl_gives_its_text_column_or_the_chosen_or_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"text": "a é", "body": "b", "n": 1}, {"text": None, "body": "c"}, {"text": "d" * 50_000, "body": "e"}]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert whole(path) == ["a é", "d" * 50_000]
    assert whole(f"{path}#body") == ["b", "c", "e"]
    assert list(open_corpus(str(path), column="body").documents()) == ["b", "c", "e"]
    assert open_corpus(f"{path}#body").fingerprint != open_corpus(str(path)).fingerprint
    path.write_text('{"n": 1, "prose": "only"}')
    assert whole(path) == ["only"]
    assert open_corpus(str(path)).describe()["column"] == "prose"


def test_parquet_gives_its_text_column_or_the_chosen_or_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    body = pa.array(["x", "y", "x"]).dictionary_encode()
    pq.write_table(pa.table({"n": [1, 2, 3], "body": body, "text": ["a", None, "c"]}), path)
    assert whole(path) == ["a", "c"]
    assert whole(f"{path}#body") == ["x", "y", "x"]
    assert said(f"{path}#n") == "The column “n” of rows.parquet holds no text; its columns are: n, body, text."
    assert "has no column “zz”; its columns are: n, body, text." in said(path, "zz")
    pq.write_table(pa.table({"n": [1], "prose": ["only"]}), path)
    assert whole(path) == ["only"]


def test_several_columns_without_one_called_text_have_to_be_chosen_from(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a", "answer": "b", "n": 1}')
    assert "several columns with text (its columns are: question, answer, n); choose one" in said(path)
    path.write_text('{"n": 1}')
    assert "no column with text (its columns are: n)" in said(path)


def test_latin_1_is_refused_with_the_byte_and_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    # The byte stands across the border of two chunks of reading, behind a three-byte character.
    path.write_bytes(b"line\n" * 209_715 + "€".encode() + b"caf\xe9 au lait")
    offset = 5 * 209_715 + 3 + 3
    sentence = said(path)
    assert f"byte 0xE9 at offset {offset:,} (line 209,716)" in sentence
    assert "iconv -f latin1 -t utf-8 old.txt > old-utf8.txt" in sentence
    path.write_bytes("é".encode()[:1])
    assert "byte 0xC3 at offset 0 (line 1)" in said(path)


def test_other_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_bytes(b"")
    assert said(path) == "other.txt is empty (zero bytes); choose a file with text."
    path.write_bytes(b"\x7fELF\x02\x01\x01\x00rest")
    assert "holds a zero byte at offset 7" in said(path)
    path.write_bytes("wide".encode("utf-16"))
    assert "is in UTF-16" in said(path)
    assert "There is no file" in said(tmp_path / "missing.txt")
    folder = tmp_path / "folder.txt"
    folder.mkdir()
    assert "is a folder" in said(folder)
    path.write_text("text")
    assert "has no column “body”" in said(path, "body")


def test_broken_jsonl_names_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    good = b'{"text": "fine"}\n'
    for bad, sentence in (
        (b'{"text": "cut', "Line 3 of rows.jsonl is not JSON"),
        (b"[" * 100_000, "Line 3 of rows.jsonl is not JSON"),
        (b"[1, 2]", "Line 3 of rows.jsonl is no JSON object"),
        (b'{"body": "b"}', "Line 3 of rows.jsonl has no column “text”; its columns are: body."),
        (b'{"text": 5}', "Line 3 of rows.jsonl has no text in “text”"),
        (b'{"text": "caf\xe9"}', "Line 3 of rows.jsonl is not in UTF-8 (byte 0xE9)"),
    ):
        path.write_bytes(good * 2 + bad + b"\n")
        assert sentence in said(path)
    path.write_bytes(b"")
    assert "is empty" in said(path)
    path.write_bytes(b"\n\n")
    assert "holds no lines with text" in said(path)
    monkeypatch.setattr("engine.text.reading.LONGEST_LINE", 1 << 20)
    path.write_bytes(good + b'{"text": "' + b"x" * (2 << 20) + b'"}\n')
    assert "Line 2 of rows.jsonl is longer than 1 MB" in said(path)


def test_a_json_line_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "word " * 2_000_000}))
    assert len(whole(path)[0]) == 10_000_000


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" * 50 for n in range(5000)]}), path, compression="none")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "rows.parquet is no whole Parquet file" in said(path)
    path.write_text("text")
    assert "rows.parquet is no whole Parquet file" in said(path)
    path.write_bytes(b"")
    assert "is empty" in said(path)


def test_a_large_file_is_known_by_its_ends_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"a" * (3 << 20))
    small = open_corpus(str(path)).describe()
    assert small["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(corpora, "HASHED_WHOLE", 1 << 20)
    before = open_corpus(str(path))
    assert "sha256" not in before.describe()
    path.write_bytes(b"a" * (3 << 20) + b"b")
    assert open_corpus(str(path)).fingerprint != before.fingerprint


def test_a_dataset_without_network_gets_one_sentence() -> None:
    sentence = said("org/name")
    assert "The dataset org/name could not be opened" in sentence
    assert "choose a file instead" in sentence


def test_a_dataset_streams_its_column(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def rows() -> Iterator[dict[str, Any]]:
        yield from ({"n": n, "prose": f"row {n}" if n % 2 else None} for n in range(6))

    stream = datasets.IterableDataset.from_generator(rows)
    asked: list[Any] = []

    def load(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        return stream

    monkeypatch.setattr("datasets.load_dataset", load)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: type("Info", (), {"sha": "abc"})())
    with pytest.raises(TextError, match=r"org/name holds no text; its columns are: n, prose"):
        open_corpus("org/name#n")
    assert open_corpus("org/name").reference == "org/name#prose"
    corpus = open_corpus("org/name:small#prose")
    assert list(corpus.documents()) == ["row 1", "row 3", "row 5"]
    assert asked[-1] == (("org/name", "small"), {"split": "train", "streaming": True, "revision": "abc"})
    assert "abc" in corpus.fingerprint
