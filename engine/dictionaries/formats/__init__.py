"""Files of other programs, read into the neutral form and written from it.

Each format is one module; facts and traps of each are in its comments. Nothing of a file is executed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine import files
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary
from engine.dictionaries.formats import circuit_tracer, dictionary_learning, gemma_scope, saelens, sparsify
from engine.dictionaries.formats.found import Found
from engine.dictionaries.formats.hub import downloaded
from engine.dictionaries.references import FORMS, Held, held, looks_like_dictionary, parse
from engine.models import memory

if TYPE_CHECKING:
    from engine.runs.run import Run

__all__ = ["FORMATS", "READERS", "Found", "looks_like_dictionary", "open_dictionary", "write"]

READERS: dict[str, Callable[[Path], Found]] = {
    "saelens": saelens.read,
    "dictionary_learning": dictionary_learning.read,
    "sparsify": sparsify.read,
    "gemma-scope": gemma_scope.read,
    "gemma-scope-2": gemma_scope.read_second,
    "circuit-tracer": circuit_tracer.read,
}
# Formats that can be written, and what makes their files.
FORMATS: dict[str, Callable[[Dictionary], dict[str, bytes]]] = {
    "saelens": saelens.files_of,
    "dictionary_learning": dictionary_learning.files_of,
    "sparsify": sparsify.files_of,
}


def open_dictionary(reference: str | Path, *, run: Run | None = None) -> list[Found]:
    """The dictionaries at ``reference``: a folder that holds one or several, a file, or ``org/name[:folder]``.

    All of them or none: where one cannot be read, nothing is opened.

    Raises:
        DictionaryError: there is none, or a file is damaged, incomplete, of an unknown kind or would run code.
        ModelError: they do not fit into memory, or the hub cannot be reached.
    """
    parsed = parse(str(reference))
    place = Path(parsed.value) if parsed.kind == "path" else downloaded(parsed, run)
    if not place.exists():
        raise DictionaryError(f"There is nothing at {place}; check the path.")
    holds = held(place)
    if not holds:
        raise DictionaryError(
            f"{place} holds no dictionary that Superscope knows; it reads {', '.join(READERS)} from {FORMS}."
        )
    if len(holds) > 1:
        total = sum(one.file.stat().st_size for one in holds)
        memory.require(2 * total, "cpu", what=f"Opening the {len(holds)} dictionaries in {place}")
    return [_read(one, run) for one in (holds if run is None else run.track(holds, unit="dictionaries"))]


def write(dictionary: Dictionary, folder: Path, format: str) -> None:
    """Write ``dictionary`` as a new ``folder``, which appears whole or not at all.

    Raises:
        DictionaryError: the format is unknown or has no such dictionary, or there is something at ``folder``.
        DiskError: the disk is full or read-only.
    """
    if format not in FORMATS:
        raise DictionaryError(f"“{format}” is no format that can be written; choose {', '.join(FORMATS)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DictionaryError(f"There is something at {folder} already; choose a new or empty folder.")
    contents = FORMATS[format](dictionary)
    with files.replacing_folder(folder) as place:
        for name, content in contents.items():
            files.write_bytes(place / name, content)


def _read(one: Held, run: Run | None) -> Found:
    if run is not None:
        run.point()
    return READERS[one.format](one.file)
