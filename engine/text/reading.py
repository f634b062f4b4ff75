"""Reading text files piece by piece: memory stays bounded whatever the file's size or line length."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.text.errors import TextError

CHUNK = 1 << 20  # bytes read at once
PIECE = 20_000  # characters in a piece at most
LONGEST_LINE = 64 << 20  # bytes of one line of a .jsonl file


def check_file(path: Path) -> None:
    """Look whether ``path`` is a readable file that is not empty.

    Raises:
        TextError: it is not.
    """
    try:
        if path.is_dir():
            raise TextError(f"{path} is a folder; choose one text file in it.")
        with open(path, "rb") as file:
            if not file.read(1):
                raise TextError(f"{path.name} is empty (zero bytes); choose a file with text.")
    except FileNotFoundError:
        raise TextError(f"There is no file {path}; check the path.") from None
    except OSError as problem:
        raise TextError(f"{path} cannot be read ({problem.strerror}); check its permissions.") from problem


def read_text(path: Path) -> Iterator[str]:
    """The file's characters in chunks, line ends as ``\\n``, without a byte order mark.

    Raises:
        TextError: it is not UTF-8 (offset and line of the byte are said) or holds zero bytes.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    offset = lines = 0
    with open(path, "rb") as file:
        while True:
            chunk = file.read(CHUNK)
            if offset == 0 and chunk[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise TextError(f"{path.name} is in UTF-16; {_conversion(path, 'utf-16')}")
            if b"\0" in chunk:
                where = offset + chunk.index(b"\0")
                raise TextError(
                    f"{path.name} is no text: it holds a zero byte at offset {where:,}; choose a text file."
                )
            offset += len(chunk)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as problem:
                # The decoder may have kept the start of a character from the chunk before: count from the end.
                where = offset - len(problem.object) + problem.start
                line = lines + problem.object.count(b"\n", 0, problem.start) + 1
                raise TextError(
                    f"{path.name} is not in UTF-8: byte 0x{problem.object[problem.start]:02X} at offset {where:,} "
                    f"(line {line:,}); {_conversion(path, 'latin1')}"
                ) from None
            lines += chunk.count(b"\n")
            if text:
                yield text
            if not chunk:
                return


def _conversion(path: Path, encoding: str) -> str:
    return (
        f"convert it first, for example with: iconv -f {encoding} -t utf-8 {path.name} > {path.stem}-utf8{path.suffix}"
    )


def split(chunks: Iterable[str], size: int = PIECE) -> Iterator[str]:
    """The same characters in pieces of at most ``size``.

    A piece ends before the last blank line in reach, else before the last line end, else before the last
    space; words without any are cut. Cutting before white space and not after it leaves the tokens
    of byte-pair tokenizers, which keep a space with the word behind it, as they are.
    """
    kept = ""
    for chunk in chunks:
        kept += chunk
        start = 0
        while len(kept) - start > size:
            end = _cut(kept, start, size)
            yield kept[start:end]
            start = end
        kept = kept[start:]
    if kept:
        yield kept


def _cut(text: str, start: int, size: int) -> int:
    for mark in ("\n\n", "\n", " "):
        end = text.rfind(mark, start, start + size + len(mark))
        while end > start and text[end - 1].isspace():
            end -= 1
        if end > start:
            return end
    return start + size


def choose_column(source: str, columns: Mapping[str, bool | None], wanted: str) -> str:
    """The column to read: ``wanted``, else “text”, else the only one that holds text.

    Args:
        source: what has the columns, for the sentence.
        columns: each column's name and whether it holds text; None where the row looked at says nothing.
        wanted: the person's choice, or "".

    Raises:
        TextError: there is no such column, or none or several could be meant; the columns are listed.
    """
    listed = ", ".join(columns) or "none"
    possible = [name for name, is_text in columns.items() if is_text is not False]
    if wanted:
        if wanted not in columns:
            raise TextError(f"{source} has no column “{wanted}”; its columns are: {listed}.")
        if wanted not in possible:
            raise TextError(f"The column “{wanted}” of {source} holds no text; its columns are: {listed}.")
        return wanted
    if "text" in possible:
        return "text"
    texts = [name for name in possible if columns[name]] or possible
    if len(texts) == 1:
        return texts[0]
    how = "several columns with text" if texts else "no column with text"
    raise TextError(f"{source} has {how} (its columns are: {listed}); choose one behind a #, as in {source}#column.")


def text_columns(row: Mapping[str, Any]) -> dict[str, bool | None]:
    """For `choose_column`: which of a row's values are text; null may be."""
    return {name: None if value is None else isinstance(value, str) for name, value in row.items()}


def jsonl_column(path: Path, wanted: str) -> str:
    """The column to read from a .jsonl file, by `choose_column` from its first line.

    Raises:
        TextError: the first line is no JSON object, or the column is not there.
    """
    for _, row in _rows(path):
        return choose_column(path.name, text_columns(row), wanted)
    raise TextError(f"{path.name} holds no lines with text; choose another file.")


def read_jsonl(path: Path, column: str) -> Iterator[str]:
    """The text of each line's ``column``; null and blank lines are passed over.

    Raises:
        TextError: a line is too long, not UTF-8, not a JSON object or lacks the column; its number is said.
    """
    for number, row in _rows(path):
        if column not in row:
            choose_column(f"Line {number:,} of {path.name}", dict.fromkeys(row, True), column)
        value = row[column]
        if value is None:
            continue
        if not isinstance(value, str):
            raise TextError(f"Line {number:,} of {path.name} has no text in “{column}”; choose another column.")
        yield value


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    with open(path, "rb") as file:
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                size = LONGEST_LINE >> 20
                raise TextError(
                    f"Line {number:,} of {path.name} is longer than {size} MB; split it into several lines."
                )
            if line.strip():
                yield number, _parse_line(path, number, line)


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as problem:
        raise TextError(
            f"Line {number:,} of {path.name} is not in UTF-8 (byte 0x{line[problem.start]:02X}); "
            f"{_conversion(path, 'latin1')}"
        ) from None
    except (ValueError, RecursionError) as problem:
        reason = getattr(problem, "msg", "it is nested too deeply")
        raise TextError(f"Line {number:,} of {path.name} is not JSON ({reason}); mend or remove the line.") from None
    if not isinstance(row, dict):
        raise TextError(f"Line {number:,} of {path.name} is no JSON object; every line needs the form {{“text”: …}}.")
    return row


def parquet_column(path: Path, wanted: str) -> str:
    """The column to read from a Parquet file, by `choose_column`.

    Raises:
        TextError: the file is damaged or no Parquet, or the column is not there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as problem:
        raise TextError(f"{path.name} is no whole Parquet file ({_first_line(problem)}); fetch it again.") from None
    columns: dict[str, bool | None] = {}
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        columns[field.name] = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return choose_column(path.name, columns, wanted)


def read_parquet(path: Path, column: str) -> Iterator[str]:
    """The text of each row's ``column``; null is passed over.

    Raises:
        TextError: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=CHUNK) as table:
            for batch in table.iter_batches(batch_size=64, columns=[column]):
                yield from (value for value in batch.column(0).to_pylist() if value is not None)
    except (pa.ArrowException, OSError) as problem:
        raise TextError(f"{path.name} is damaged ({_first_line(problem)}); fetch it again.") from None


def _first_line(problem: BaseException) -> str:
    return (str(problem) or type(problem).__name__).splitlines()[0][:200].rstrip(".")
