"""Prompt sets as JSON lines and as CSV: reading with sentences that name line and column, and writing without loss.

Both have a row a line and the columns prompt, positive, negative, suffix and label, of which a file may leave out
those that it does not need; every other column is a factor. The column ``cyclic label`` stands for ``label`` in a set
whose last class is followed by its first (hours, sums modulo p); days and months need no such mark.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from engine.text.errors import TextError
from engine.text.prompt_sets import COLUMNS, PromptRow, PromptSet

CYCLIC = "cyclic label"
SUFFIXES = (".csv", ".jsonl", ".ndjson")
MOST_ROWS = 20_000
MOST_BYTES = 64 << 20
_LONGEST_CELL = 1 << 20  # characters
_DELIMITERS = ",;\t"
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)

Cells: TypeAlias = Mapping[str, str]


def classes_of(labels: Iterable[str]) -> tuple[tuple[str, ...], bool]:
    """The classes among ``labels`` in their order, and whether they are a cycle by themselves.

    Numbers go by value, days from Monday, months from January, others as they first come. All seven days or all
    twelve months are a cycle.
    """
    found = tuple(dict.fromkeys(label for label in labels if label))
    lowered = [label.strip().lower() for label in found]
    for cycle in (_DAYS, _MONTHS):
        if found and len(set(lowered)) == len(found) and set(lowered) <= set(cycle):
            return tuple(sorted(found, key=lambda label: cycle.index(label.strip().lower()))), len(found) == len(cycle)
    try:
        values = {label: float(label) for label in found}
    except ValueError:
        return found, False
    if any(value != value for value in values.values()):  # "nan" has no place among numbers
        return found, False
    return tuple(sorted(found, key=lambda label: values[label])), False


def make_set(
    rows: Iterable[PromptRow], *, name: str, reference: str, cyclic: bool | None = None, note: str = ""
) -> PromptSet:
    """A set of ``rows`` with its classes in order. ``cyclic`` None: as the labels say by themselves."""
    kept = tuple(rows)
    classes, cycle = classes_of(row.label for row in kept)
    return PromptSet(name, reference, kept, classes, bool(classes) and (cycle if cyclic is None else cyclic), note)


def as_jsonl(prompts: PromptSet) -> str:
    """The rows as JSON lines, each ended by a line feed. `read_jsonl` gives rows, classes and cycle back."""
    lines, label = [], _label_column(prompts)
    for row in prompts.rows:
        cells = {name: value for name, value in _cells(row, label).items() if value}
        lines.append(json.dumps(cells | {"factors": dict(row.factors)} if row.factors else cells, ensure_ascii=False))
    return "".join(line + "\n" for line in lines)


def as_csv(prompts: PromptSet) -> str:
    """The rows as CSV with a header, lines ended as RFC 4180 has it. `read_csv` gives rows, classes and cycle back."""
    text = io.StringIO(newline="")
    factors, label = prompts.factors, _label_column(prompts)
    names = (*COLUMNS[:-1], label, *factors)
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    for row in prompts.rows:
        writer.writerow(_cells(row, label) | {name: row.factors.get(name, "") for name in factors})
    return text.getvalue()


def read_jsonl(text: str, *, where: str, name: str, reference: str) -> PromptSet:
    """The set that JSON lines hold. ``where`` begins the sentences: the file's name, or "The rows".

    Raises:
        TextError: a line is no object, a value no text, a column missing, or the set has no rows or too many.
    """
    rows: list[PromptRow] = []
    cyclic = False
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        place = f"{where}, line {number}"
        cells = _object(line, place)
        cyclic = cyclic or CYCLIC in cells
        rows.append(_row(cells, place))
        _check_count(len(rows), where)
    return _checked(rows, where, name, reference, cyclic)


def read_csv(text: str, *, where: str, name: str, reference: str) -> PromptSet:
    """The set that CSV with a header holds; commas, semicolons or tabs separate the cells.

    Raises:
        TextError: there is no header, a column comes twice or is missing, a line has too many cells, or the set has
            no rows or too many.
    """
    text = text.removeprefix("\ufeff")
    rows: list[PromptRow] = []
    header: list[str] = []
    for number, cells in _records(text, _delimiter(text), where):
        place = f"{where}, line {number}"
        if not header:
            header = _header(cells, place)
            continue
        if len(cells) > len(header):
            raise TextError(
                f"{place}, has {len(cells)} cells for {len(header)} columns; put quotes around a cell that holds "
                "the separator."
            )
        if any(cells):  # a row of empty cells is what table programs leave at the end
            rows.append(_row(dict(zip(header, cells, strict=False)), place))
            _check_count(len(rows), where)
    return _checked(rows, where, name, reference, CYCLIC in header)


def read_file(path: Path) -> PromptSet:
    """The prompt set in a .csv, .jsonl or .ndjson file.

    Raises:
        TextError: it is not there, not UTF-8, too large, or not such a set; the sentence names line and column.
    """
    where = path.name
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise TextError(f"{where} has {size:,} bytes; a prompt set has at most {MOST_BYTES:,}.")
        data = path.read_bytes()
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise TextError(f"{path} could not be read ({reason}); check the path.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise TextError(f"{where}, line {line}, is not UTF-8; save the file in that encoding.") from None
    read = read_csv if path.suffix.lower() == ".csv" else read_jsonl
    return read(text, where=where, name=path.stem, reference=str(path))


def problems_of(row: PromptRow) -> dict[str, str]:
    """What is wrong with a row, by column, in words that follow the column's name; {} for nothing."""
    found = {}
    if bool(row.positive) != bool(row.negative):
        empty = "negative" if row.positive else "positive"
        found[empty] = "is empty; a pair has both completions"
    elif row.positive and row.positive == row.negative:
        found["negative"] = "is the same as positive; they have to differ"
    elif not row.positive and not row.label:
        found["positive"] = "is empty; a row has two completions, or a label"
    if not row.prompt and not row.positive:
        found["prompt"] = "is empty; a row without completions has a prompt"
    return found


def _label_column(prompts: PromptSet) -> str:
    """The name of the labels' column, which says that they are a cycle where they do not say it by themselves."""
    return CYCLIC if prompts.cyclic and not classes_of(row.label for row in prompts.rows)[1] else "label"


def _cells(row: PromptRow, label: str) -> dict[str, str]:
    return {
        "prompt": row.prompt,
        "positive": row.positive,
        "negative": row.negative,
        "suffix": row.suffix,
        label: row.label,
    }


def _delimiter(text: str) -> str:
    """What separates the cells: the first of comma, semicolon and tab by which the header names a known column."""
    for delimiter in _DELIMITERS:
        _, header = next(_records(text, delimiter, ""), (1, []))
        if {_column(name) for name in header} & {*COLUMNS, CYCLIC}:
            return delimiter
    return ","


def _records(text: str, delimiter: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Each record that is no empty line, with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(_LONGEST_CELL)  # the module keeps one limit for all readers
    begun = 1
    try:
        for cells in reader:
            if cells:
                yield begun, cells
            begun = reader.line_num + 1
    except csv.Error as problem:
        raise TextError(f"{where}, line {begun}, is not CSV ({problem}); check the quotes.") from None
    finally:
        csv.field_size_limit(limit)


def _header(cells: list[str], place: str) -> list[str]:
    names = [_column(cell) for cell in cells]
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise TextError(f"{place}, column {number}, has no name; the first line names the columns.")
        if names.count(name) > 1:
            raise TextError(f"{place}, has the column “{name}” twice; rename one of them.")
    _check_columns(names, place)
    return names


def _column(name: str) -> str:
    plain = name.strip().lower()
    return plain if plain in (*COLUMNS, CYCLIC) else name


def _check_columns(names: Iterable[str], place: str) -> None:
    given = set(names)
    if {"label", CYCLIC} <= given:
        raise TextError(f"{place}, has the columns “label” and “{CYCLIC}”; keep one of them.")
    if {"label", CYCLIC} & given and "prompt" in given and not {"positive", "negative"} & given:
        return
    missing = [name for name in ("positive", "negative") if name not in given]
    if missing:
        raise TextError(
            f"{place}, has no column “{missing[0]}”; a set has the columns prompt, positive and negative, or prompt "
            "and label."
        )


def _object(line: str, place: str) -> dict[str, str]:
    """The texts of one JSON line, factors flat among them."""
    try:
        found = json.loads(line, object_pairs_hook=lambda pairs: _unique(pairs, place))
    except json.JSONDecodeError as problem:
        raise TextError(
            f"{place}, is not JSON ({problem.msg.lower()} at character {problem.colno}); write one object a line."
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or brackets as deep
        raise TextError(f"{place}, is not JSON that can be read; write texts in quotes.") from None
    if not isinstance(found, dict):
        raise TextError(f'{place}, is no JSON object; write one object a line, as in {{"prompt": …}}.')
    factors = found.pop("factors", {})
    if not isinstance(factors, dict):
        raise TextError(f"{place}, column “factors”: {_short(factors)} is no object of factors and their values.")
    cells: dict[str, str] = {}
    for key, value in [*found.items(), *factors.items()]:
        name = _column(key)
        if not name.strip():
            raise TextError(f"{place}, has a value without a name; name the factor.")
        if name in cells or (key in factors and name in (*COLUMNS, CYCLIC)):
            raise TextError(f"{place}, has the column “{name}” twice; rename one of them.")
        cells[name] = _text(value, f"{place}, column “{name}”")
    return cells


def _unique(pairs: list[tuple[str, object]], place: str) -> dict[str, object]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise TextError(f"{place}, has “{name}” twice; rename one of them.")
    return dict(pairs)


def _text(value: object, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise TextError(f"{place}: half of a character stands alone; write it as a whole.")
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return json.dumps(value)
    raise TextError(f"{place}: {_short(value)} is no text; write it in quotes.")


def _short(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else shown[:57] + "…"


def _row(cells: Cells, place: str) -> PromptRow:
    factors = {name: value for name, value in cells.items() if name not in (*COLUMNS, CYCLIC) and value}
    known = {name: cells.get(name, "") for name in COLUMNS[:-1]}
    row = PromptRow(**known, label=cells.get(CYCLIC, "") or cells.get("label", ""), factors=factors)
    for column, words in problems_of(row).items():
        raise TextError(f"{place}, column “{column}”, {words}.")
    return row


def _check_count(count: int, where: str) -> None:
    if count > MOST_ROWS:
        raise TextError(f"{where} has more than {MOST_ROWS:,} rows; keep those that differ most.")


def _checked(rows: list[PromptRow], where: str, name: str, reference: str, cyclic: bool) -> PromptSet:
    if not rows:
        raise TextError(f"{where} has no rows; write at least one pair: prompt, positive, negative.")
    return make_set(rows, name=name, reference=reference, cyclic=True if cyclic else None)
