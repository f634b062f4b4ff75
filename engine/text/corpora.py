"""`Corpus`: a text that can be read from its beginning any number of times, a piece at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.text import python_docs, reading, stories, toys
from engine.text.errors import TextError
from engine.text.references import Kind, TextReference, parse
from engine.text.toys import ToyData

HASHED_WHOLE = 64 << 20  # bytes up to which a file's whole content is hashed


@dataclass(frozen=True)
class Corpus:
    """An opened text.

    Attributes:
        reference: how it is named, with the chosen column.
        title: for people.
        kind: what sort of text.
        endless: it has no end; each context then begins with the beginning of a document.
        source: gives the documents anew, each as an iterator of its chunks of characters.
        facts: what is known without reading it (characters, documents, sha256, bytes, column).
        fingerprint: changes when the text changes; tokens are cached under it.
        toy: the tokens of a toy's data, which need no tokenizer; None for a text.
    """

    reference: str
    title: str
    kind: Kind
    source: Callable[[], Iterator[Iterator[str]]]
    fingerprint: str
    endless: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    toy: ToyData | None = None

    def documents(self) -> Iterator[str]:
        """The documents in order. A .txt file is one document, too long to hold: it comes in its pieces."""
        for document in self.source():
            if self.kind == "txt":
                yield from reading.split(document)
            else:
                yield "".join(document)

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """The text in pieces of at most `reading.PIECE` characters, each with whether it begins a document."""
        for document in self.source():
            starts = True
            for piece in reading.split(document):
                yield piece, starts
                starts = False

    def describe(self) -> dict[str, Any]:
        """Plain facts for a run's record and the session: reference, title, kind and `facts`."""
        return {"reference": self.reference, "title": self.title, "kind": self.kind, **self.facts}


def open_corpus(reference: str, *, column: str | None = None, work: Path | None = None) -> Corpus:
    """Open the text named ``reference`` (see `engine.text.references`).

    Args:
        reference: the name; a column behind ``#`` may be part of it.
        column: the column to read, before the one in the reference.
        work: the session's work folder, where ``toy:RUN`` is looked up.

    Raises:
        TextError: it is not there, empty, damaged, or the column is not in it.
    """
    parsed = parse(reference)
    wanted = column or parsed.column
    if parsed.kind == "stories":
        return _stories(parsed.seed)
    if parsed.kind == "python-docs":
        return _python_docs()
    if parsed.kind == "dataset":
        return _dataset(parsed, wanted)
    if parsed.kind == "toy":
        return _toy(parsed.value, work)
    path = parsed.path
    reading.check_file(path)
    if parsed.kind == "txt":
        if wanted:
            raise TextError(f"{path.name} is plain text and has no column “{wanted}”; leave the column out.")
        next(reading.read_text(path), "")  # what is wrong at its beginning is said at once
        return _file(path, "txt", "", lambda: iter((reading.read_text(path),)))
    if parsed.kind == "parquet":
        chosen = reading.parquet_column(path, wanted)
        return _file(path, "parquet", chosen, lambda: _each(reading.read_parquet(path, chosen)))
    chosen = reading.jsonl_column(path, wanted)
    return _file(path, "jsonl", chosen, lambda: _each(reading.read_jsonl(path, chosen)))


def _each(documents: Iterator[str]) -> Iterator[Iterator[str]]:
    for document in documents:
        yield iter((document,))


def _stories(seed: int) -> Corpus:
    # Seed and words decide the text, so that they are its fingerprint.
    words = hashlib.sha256(json.dumps([stories.VOCABULARY, next(stories.generate(seed)).text]).encode()).hexdigest()
    facts = {"entropy_floor": stories.floor(), "sha256": words, "seed": seed}
    reference = f"stories#{seed}" if seed else "stories"
    return Corpus(
        reference,
        "Stories",
        "stories",
        lambda: _each(story.text for story in stories.generate(seed)),
        f"stories {seed} {words}",
        endless=True,
        facts=facts,
    )


def _toy(run: str, work: Path | None) -> Corpus:
    attributes, data = toys.find(run, work)
    digest = hashlib.sha256(data.tokens.tobytes()).hexdigest()
    facts = {"sequences": len(data.tokens), "length": data.tokens.shape[1], "sha256": digest}
    title = str(attributes.get("title") or f"Data of {run}")
    return Corpus(f"toy:{run}", title, "toy", lambda: iter(()), f"toy {digest}", facts=facts, toy=data)


def _python_docs() -> Corpus:
    documents = list(python_docs.documents())
    digest = hashlib.sha256("".join(documents).encode()).hexdigest()
    facts = {"documents": len(documents), "characters": sum(map(len, documents)), "sha256": digest}
    return Corpus(
        "python-docs",
        "Python documentation",
        "python-docs",
        lambda: _each(python_docs.documents()),
        f"python-docs {digest}",
        facts=facts,
    )


def _file(path: Path, kind: Kind, column: str, source: Callable[[], Iterator[Iterator[str]]]) -> Corpus:
    size = path.stat().st_size
    digest = hashlib.sha256()
    facts: dict[str, Any] = {"bytes": size}
    with open(path, "rb") as file:
        if size <= HASHED_WHOLE:
            while chunk := file.read(reading.CHUNK):
                digest.update(chunk)
            facts["sha256"] = digest.hexdigest()
        else:
            # Reading 100 GB to take the first 100,000 tokens would be absurd: both ends, size and time decide.
            digest.update(file.read(reading.CHUNK))
            file.seek(-reading.CHUNK, 2)
            digest.update(file.read() + f"{size} {path.stat().st_mtime_ns}".encode())
            facts["sha256_of_both_ends"] = digest.hexdigest()
    if column:
        facts["column"] = column
    reference = f"{path}#{column}" if column else str(path)
    return Corpus(reference, path.name, kind, source, f"{kind} {column} {digest.hexdigest()}", facts=facts)


def _dataset(parsed: TextReference, wanted: str) -> Corpus:
    name = parsed.value
    table, first, revision = _open_dataset(parsed)
    column = reading.choose_column(name, reading.text_columns(first), wanted)

    def source() -> Iterator[Iterator[str]]:
        try:
            for row in table:
                if row[column] is not None:
                    yield iter((row[column],))
        except OSError as problem:
            raise TextError(
                f"The dataset {name} broke off ({_cause(problem)}); check the network and resume."
            ) from None

    config = f":{parsed.config}" if parsed.config else ""
    facts = {"revision": revision, "split": "train", "column": column}
    reference = f"{name}{config}#{column}"
    return Corpus(reference, name, "dataset", source, f"dataset {reference} {revision}", facts=facts)


def _open_dataset(parsed: TextReference) -> tuple[Any, dict[str, Any], str]:
    """A hub dataset's training split as a stream of rows, its first row, and the commit. No code of it runs."""
    name = parsed.value
    # One question with a short limit first: the datasets library alone would try for 24 seconds without a network.
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            revision = str(HfApi().dataset_info(name, timeout=10).sha)
        except RepositoryNotFoundError:
            raise TextError(f"There is no public dataset {name} on the Hugging Face hub; check the name.") from None
        from datasets import load_dataset

        table = load_dataset(name, parsed.config or None, split="train", streaming=True, revision=revision)
        first = next(iter(table), None)
        if first is None:
            raise TextError(f"The dataset {name} holds no rows; choose another.")
    except TextError:
        raise
    except Exception as problem:  # the hub's libraries raise a dozen kinds: all mean that there are no rows
        raise TextError(
            f"The dataset {name} could not be opened ({_cause(problem)}); check the name and the network, "
            "or choose a file instead."
        ) from problem
    return table, dict(first), revision


def _cause(problem: BaseException) -> str:
    return (str(problem) or type(problem).__name__).splitlines()[0][:160].rstrip(".")
