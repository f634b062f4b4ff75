"""Text references: the strings by which a corpus is named. Free of torch, so that forms can check them.

=====================  ==================================================================
``stories``            the story grammar; ``stories#7`` draws with seed 7
``python-docs``        the prose about the language in Python's own standard library
``PATH.txt``           plain text in UTF-8 (``.text`` and ``.md`` too)
``PATH.jsonl``         a JSON object a line; ``PATH.jsonl#column`` chooses the column
``PATH.parquet``       a Parquet table; ``PATH.parquet#column`` chooses the column
``org/name``           a Hugging Face dataset; ``org/name:config#column`` chooses both
``toy:RUN``            the data of a toy model that was trained in this session
=====================  ==================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from engine.text.errors import TextError

Kind: TypeAlias = Literal["stories", "python-docs", "txt", "jsonl", "parquet", "dataset", "toy"]

BUILT_IN = ("stories", "python-docs")
SUFFIXES: dict[str, Kind] = {
    ".txt": "txt",
    ".text": "txt",
    ".md": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
FILE_PATTERNS = tuple(f"*{suffix}" for suffix in SUFFIXES)
_RUN = re.compile(r"[a-z0-9][a-z0-9-]{0,119}")
_DATASET = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(:(?P<config>[\w.-]+))?$")


@dataclass(frozen=True)
class TextReference:
    """A parsed reference.

    Attributes:
        kind: what sort of text it is.
        value: the path, the dataset's name, or the built-in name.
        column: the column chosen behind ``#``, or "".
        config: a dataset's configuration, or "".
        seed: the seed of generated text.
    """

    kind: Kind
    value: str
    column: str = ""
    config: str = ""
    seed: int = 0

    @property
    def path(self) -> Path:
        """The file of a file reference, ``~`` resolved."""
        return Path(self.value).expanduser()


def parse(reference: str) -> TextReference:
    """Read a text reference; no file is opened.

    Raises:
        TextError: it is none of the known forms.
    """
    whole = reference.strip()
    if whole.startswith("toy:"):
        if not _RUN.fullmatch(whole[4:]):
            raise TextError(f"“{whole}” names no run; write toy: and a run's id, as in toy:modular-addition-1.")
        return TextReference("toy", whole[4:])
    if whole.startswith("prompts:"):
        raise TextError(f"{whole} is a prompt set and no text; choose it where prompts are asked for.")
    kind = SUFFIXES.get(Path(whole).suffix.lower())
    if kind is not None:
        return TextReference(kind, whole)
    base, _, chosen = whole.rpartition("#") if "#" in whole else (whole, "", "")
    if base == "stories":
        if chosen and not (chosen.isascii() and chosen.isdigit() and int(chosen) < 2**63):
            raise TextError(f"“{chosen}” is no seed of the stories; write a whole number, as in stories#7.")
        return TextReference("stories", base, seed=int(chosen or 0))
    if base == "python-docs" and not chosen:
        return TextReference("python-docs", base)
    kind = SUFFIXES.get(Path(base).suffix.lower())
    if kind in ("jsonl", "parquet"):
        return TextReference(kind, base, column=chosen)
    dataset = _DATASET.match(base)
    if dataset:
        return TextReference("dataset", dataset["name"], column=chosen, config=dataset["config"] or "")
    raise TextError(
        f"“{whole}” is no text that can be opened; give stories, python-docs, a .txt, .jsonl or .parquet file, "
        "a Hugging Face dataset as org/name, or the data of a toy as toy:RUN."
    )
