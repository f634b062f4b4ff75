"""Prompt sets as files and rows: nothing is lost on the way, and what is wrong is said with its place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runs.control import Control
from engine.runs.recording import RecordingWriter, RunRecord
from engine.runs.run import Run
from engine.text import prompt_files
from engine.text.corpora import open_corpus
from engine.text.errors import TextError
from engine.text.prompt_files import as_csv, as_jsonl, classes_of, make_set, read_csv, read_jsonl
from engine.text.prompt_sets import COLUMNS, PromptRow, PromptSet
from engine.text.prompts import check, open_prompts, store, visible

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FACTOR = TEXT.filter(lambda name: name.strip() and name.strip().lower() not in (*COLUMNS, prompt_files.CYCLIC))


@st.composite
def sets(draw: st.DrawFn) -> PromptSet:
    names = draw(st.lists(FACTOR, max_size=3, unique=True))
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        factors = {name: value for name in names if (value := draw(TEXT))}
        pair = draw(st.tuples(TEXT, TEXT).filter(lambda pair: all(pair) and pair[0] != pair[1]))
        rows.append(PromptRow(draw(TEXT), *pair, draw(TEXT), draw(TEXT), factors))
    return make_set(rows, name="A set", reference="a", cyclic=draw(st.sampled_from([None, True])))


@given(sets())
@settings(max_examples=200, deadline=None)
def test_a_set_comes_back_from_csv_and_json_lines_as_it_was(prompts: PromptSet) -> None:
    for read, text in ((read_csv, as_csv(prompts)), (read_jsonl, as_jsonl(prompts))):
        found = read(text, where="It", name="A set", reference="a")
        assert found.rows == prompts.rows
        assert (found.classes, found.cyclic) == (prompts.classes, prompts.cyclic)
        assert set(found.factors) == set(prompts.factors)


@pytest.mark.parametrize(
    ("labels", "classes", "cyclic"),
    [
        (["10", "9", "-1", "2.5"], ["-1", "2.5", "9", "10"], False),
        (["Sunday", "Monday"], ["Monday", "Sunday"], False),
        (["sunday", "friday", "monday", "tuesday", "saturday", "wednesday", "thursday"], None, True),
        (["May", "January"], ["January", "May"], False),
        (["warm", "cold", "warm"], ["warm", "cold"], False),
        (["1", "nan"], ["1", "nan"], False),
        (["", "b", ""], ["b"], False),
        ([], [], False),
    ],
)
def test_numbers_go_by_value_and_days_from_monday(labels: list[str], classes: list[str] | None, cyclic: bool) -> None:
    days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    assert classes_of(labels) == (tuple(days if classes is None else classes), cyclic)


def test_columns_are_known_in_any_case_and_every_other_is_a_factor(tmp_path: Path) -> None:
    path = tmp_path / "hours.csv"
    path.write_text("\ufeffPrompt;Positive;Negative;Cyclic label;Person\r\nIt is; one; two;1;Ann\r\n\r\n;;;;\r\n")
    found = open_prompts(str(path))
    assert found.rows == (PromptRow("It is", " one", " two", "", "1", {"Person": "Ann"}),)
    assert found.cyclic
    assert (found.name, found.reference) == ("hours", str(path))


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jsonl").write_text('{"prompt": "2 + 2 =", "label": 4}\n')
    assert open_prompts(" ~/a.jsonl ").rows == (PromptRow("2 + 2 =", label="4"),)


def test_factors_stand_flat_or_in_an_object_and_numbers_are_texts() -> None:
    rows = (
        '{"prompt": "a", "positive": 1, "negative": 2.5, "template": "x"}\n'
        '{"prompt": "a", "positive": "b", "negative": "c", "factors": {"template": "y", "n": 3, "none": null}}'
    )
    found = open_prompts(rows)
    assert found.rows[0] == PromptRow("a", "1", "2.5", factors={"template": "x"})
    assert found.rows[1].factors == {"template": "y", "n": "3"}
    assert found.factors == ("template", "n")


HEAD = b"prompt,positive,negative\n"
WRONG = {
    "nothing.csv": (b"", "nothing.csv has no rows"),
    "header.csv": (HEAD, "header.csv has no rows"),
    "column.csv": (b"prompt,positive\na,b\n", "column.csv, line 1, has no column “negative”"),
    "other.csv": (b"text,sentiment\na,b\n", "other.csv, line 1, has no column “positive”"),
    "double.csv": (b"prompt,positive,negative,Prompt\n", "line 1, has the column “prompt” twice"),
    "factor.csv": (b"prompt,positive,negative,t,t\n", "line 1, has the column “t” twice"),
    "unnamed.csv": (b"prompt,positive,negative,\n", "line 1, column 4, has no name"),
    "labels.csv": (b"prompt,label,cyclic label\n", "“label” and “cyclic label”; keep one"),
    "long.csv": (HEAD + b'"a\nb",c,d\na,b,c,d\n', "long.csv, line 4, has 4 cells for 3 columns"),
    "quotes.csv": (HEAD + b"a,b,c\n" + b'"a,b,c\n', "quotes.csv, line 3, is not CSV"),
    "empty.csv": (HEAD + b"a,b,c\na,,c\n", "empty.csv, line 3, column “positive”, is empty; a pair has both"),
    "same.csv": (HEAD + b"a,b,b\n", "line 2, column “negative”, is the same as positive"),
    "neither.csv": (HEAD + b"a,,\n", "line 2, column “positive”, is empty; a row has two completions, or a label"),
    "latin.csv": (HEAD + "a,b,ü\n".encode("latin-1"), "latin.csv, line 2, is not UTF-8"),
    "list.jsonl": (b"[1]\n", "list.jsonl, line 1, is no JSON object"),
    "broken.jsonl": (b'{"prompt": "a"\n', "broken.jsonl, line 1, is not JSON (expecting ',' delimiter at character"),
    "value.jsonl": (b'\n{"prompt": ["a"]}\n', "value.jsonl, line 2, column “prompt”: [\"a\"] is no text"),
    "true.jsonl": (b'{"positive": true}\n', "line 1, column “positive”: true is no text"),
    "twice.jsonl": (b'{"prompt": "a", "prompt": "b"}\n', "line 1, has “prompt” twice"),
    "case.jsonl": (b'{"prompt": "a", "PROMPT": "b"}\n', "line 1, has the column “prompt” twice"),
    "inner.jsonl": (b'{"prompt": "a", "factors": {"label": "b"}}\n', "line 1, has the column “label” twice"),
    "factors.jsonl": (b'{"prompt": "a", "factors": 3}\n', "line 1, column “factors”: 3 is no object"),
    "half.jsonl": (b'{"prompt": "\\ud800"}\n', "half of a character"),
    "digits.jsonl": (b'{"label": ' + b"1" * 5000 + b"}\n", "is not JSON that can be read"),
    "deep.jsonl": (b"[" * 100_000 + b"\n", "deep.jsonl, line 1, is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_file_is_said_with_its_place_and_the_way_out(tmp_path: Path, name: str) -> None:
    content, words = WRONG[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError) as raised:
        open_prompts(str(tmp_path / name))
    sentence = str(raised.value)
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_file_may_be_missing_a_folder_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TextError, match="could not be read \\(no such file"):
        open_prompts(str(tmp_path / "none.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TextError, match="could not be read \\(is a directory"):
        open_prompts(str(tmp_path / "folder.csv"))
    monkeypatch.setattr(prompt_files, "MOST_ROWS", 2)
    (tmp_path / "many.csv").write_bytes(HEAD + b"a,b,c\n" * 3)
    with pytest.raises(TextError, match=r"many\.csv has more than 2 rows"):
        open_prompts(str(tmp_path / "many.csv"))
    monkeypatch.setattr(prompt_files, "MOST_BYTES", 5)
    with pytest.raises(TextError, match=r"many\.csv has 43 bytes; a prompt set has at most 5"):
        open_prompts(str(tmp_path / "many.csv"))


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("stories", "“stories” is no prompt set; give sentiment, gender"),
        ("", "“” is no prompt set"),
        ("sums#x", "“x” is no modulus"),
        ("sums#1", "from 2 to 141"),
        ("sums#142", "from 2 to 141"),
        ("prompts:", "names no prompt set"),
        ("prompts:../x", "names no prompt set"),
        ("prompts:some-1", "no session is open"),
        ("{", "The rows, line 1, is not JSON"),
    ],
)
def test_a_reference_that_names_no_set_is_refused(reference: str, words: str) -> None:
    with pytest.raises(TextError, match="^.*" + words.replace("(", "\\(")):
        open_prompts(reference)


def test_what_a_reference_is_can_be_told_without_opening_it() -> None:
    found = [check(name) for name in ("days", "sums", "sums#7", "/no/such/file.CSV", "prompts:a-1", ' {"a": 1}')]
    assert found == ["built-in", "sums", "sums", "file", "kept", "rows"]


def test_a_kept_set_opens_by_its_id_and_is_no_text(tmp_path: Path) -> None:
    run = Run("keep-1", RecordingWriter(tmp_path / "runs" / "keep-1", RunRecord("keep-1", "keep", {})), Control())
    prompts = make_set(
        [PromptRow("It is", " one\n", " two", label="1", factors={"who": "Ann ☃"})], name="x", reference="", cyclic=True
    )
    run.produce("corpora", "keep-1", *store(prompts, "Hours"))
    run.produce("corpora", "words", {"title": "Words"}, {})
    found = open_prompts("prompts:keep-1", work=tmp_path)
    assert found.rows == prompts.rows
    assert (found.name, found.reference, found.cyclic) == ("Hours", "prompts:keep-1", True)
    with pytest.raises(TextError, match="There is no prompt set other-1 in this session"):
        open_prompts("prompts:other-1", work=tmp_path)
    with pytest.raises(TextError, match="words is a text and no prompt set"):
        open_prompts("prompts:words", work=tmp_path)
    with pytest.raises(TextError, match="prompts:keep-1 is a prompt set and no text"):
        open_corpus("prompts:keep-1", work=tmp_path)


def test_a_kept_set_is_bytes_however_long_it_is() -> None:
    prompts = make_set([PromptRow("a" * 100_000, "b", "c")], name="x", reference="")
    attributes, arrays = store(prompts, "Long")
    assert len(json.dumps(attributes)) < 1000
    assert arrays["rows"].dtype == np.uint8
    assert len(arrays["rows"]) > 100_000


def test_labels_are_looked_through_once_however_many_rows_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = make_set([PromptRow(str(n), label=str(n % 9)) for n in range(50)], name="x", reference="", cyclic=True)
    looked: list[int] = []
    monkeypatch.setattr(prompt_files, "classes_of", lambda labels: looked.append(1) or classes_of(labels))
    as_csv(prompts)
    as_jsonl(prompts)
    assert len(looked) == 2


def test_white_space_that_matters_can_be_seen() -> None:
    assert visible(" two words\n\tthen ") == "␣two words↵⇥then␣"
    assert visible("   ") == "␣␣␣"
    assert visible("") == ""
