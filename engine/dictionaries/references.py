"""Dictionary references: the strings by which a person names dictionaries of other programs, and what a path holds.

Free of torch, so that the window can tell what was dropped on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from engine.dictionaries.errors import DictionaryError
from engine.places import resources
from engine.session.layout import slug

FORMS = "a folder, a file in it, or org/name[:folder] at the Hugging Face hub"
MOST = 256  # dictionaries in one folder; more is a mistake, or a whole release
DEEP = 5  # folders below the one that was named
BROAD = 2_000  # folders looked into, so that a home folder takes no longer than a moment
Format: TypeAlias = Literal[
    "saelens", "dictionary_learning", "sparsify", "gemma-scope", "gemma-scope-2", "circuit-tracer"
]

_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_LAYER = re.compile(r"layer_(\d+)\.safetensors")
_CHECKPOINT = re.compile(r"ae_\d+\.pt")
_CLT = re.compile(r"W_(enc|dec)_\d+\.safetensors")
# The file with the weights, by which each format is told apart.
_MARKS: dict[str, Format] = {
    "sae_weights.safetensors": "saelens",
    "ae.pt": "dictionary_learning",
    "sae.safetensors": "sparsify",
    "params.npz": "gemma-scope",
    "params.safetensors": "gemma-scope-2",
}


DEMO = "demo"


def demo_dictionary() -> Path:
    """The folder of the dictionary that ships: the demo session's, in SAELens' format."""
    return resources() / "demo" / "dictionary"


@dataclass(frozen=True)
class Reference:
    """A parsed reference. ``value`` is a path, or the hub's ``org/name``; ``folder`` lies within the latter.

    ``name`` is what a person calls it where that is a word of its own.
    """

    kind: Literal["path", "hub"]
    value: str
    folder: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """The reference as a person writes it; `parse` reads it back."""
        if self.name:
            return self.name
        return f"{self.value}:{self.folder}" if self.folder else self.value

    @property
    def id(self) -> str:
        """An id in a session's section "dictionaries", the same for the same reference."""
        if self.kind == "hub" or self.name:
            return slug(self.text)
        path = os.path.abspath(self.value)
        return f"{slug(Path(path).name)[:80]}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def parse(reference: str) -> Reference:
    """Read a reference without opening anything.

    Raises:
        DictionaryError: it has none of the forms, or leads outside of the repository it names.
    """
    text = reference.strip()
    if text == DEMO:
        return Reference("path", str(demo_dictionary()), name=DEMO)
    expanded = os.path.expanduser(text)
    if text and (os.path.exists(expanded) or text.startswith((".", "~")) or os.path.isabs(expanded) or "\\" in text):
        return Reference("path", expanded)
    name, _, folder = text.partition(":")
    if not _HUB.fullmatch(name):
        raise DictionaryError(f"“{reference}” is no reference of a dictionary; name {FORMS}.")
    folder = folder.strip("/")
    inside(name, folder)
    return Reference("hub", name, folder)


def inside(place: str, name: str) -> str:
    """``name``, a relative path below ``place``.

    Raises:
        DictionaryError: it is absolute or leads out of ``place``.
    """
    if os.path.isabs(name) or ":" in name or "\\" in name or ".." in name.split("/"):
        raise DictionaryError(f"{place} points outside of itself (“{name}”), so it is not opened.")
    return name


@dataclass(frozen=True)
class Held:
    """A dictionary that a folder holds: its format, and the file with its weights."""

    format: Format
    file: Path


def held(path: Path) -> list[Held]:
    """The dictionaries at ``path``, told by the names of files alone: a file is one, a folder may hold many.

    Raises:
        DictionaryError: there are more than `MOST`, or they are of a kind that nothing here can read.
    """
    found: list[Held] = []
    for one in _walk(path):
        found.append(one)
        if len(found) > MOST:
            raise DictionaryError(f"{path} holds more than {MOST} dictionaries; open one of its folders.")
    return found


def _walk(path: Path) -> Iterator[Held]:
    if path.is_file():
        format = _format_of(path)
        if format is not None:
            yield Held(format, path)
        return
    for visited, (folder, folders, files) in enumerate(os.walk(path)):
        below = Path(folder)
        # Those of dictionary_learning's ``checkpoints`` are earlier states of the ae.pt beside them.
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "checkpoints")
        if len(below.relative_to(path).parts) >= DEEP or visited > BROAD:
            folders.clear()
        here = [Held(format, below / name) for name in files if (format := _format_of(below / name)) is not None]
        yield from sorted(here, key=lambda one: _number(one.file.name))
        if not here and any(_CLT.fullmatch(name) for name in files):
            raise DictionaryError(
                f"{below} holds a cross-layer transcoder, which Superscope cannot compute yet; "
                "choose transcoders of single layers."
            )


def looks_like_dictionary(path: Path) -> bool:
    """Whether there is a dictionary of a known format at ``path``, by the names of files; nothing is opened."""
    with contextlib.suppress(OSError):
        try:
            return not is_model(path) and next(_walk(path), None) is not None
        except DictionaryError:  # there is one, and opening it says what is wrong
            return True
    return False


def _format_of(file: Path) -> Format | None:
    if file.name in _MARKS:
        return _MARKS[file.name]
    if _CHECKPOINT.fullmatch(file.name):
        return "dictionary_learning"
    # A shard of a language model may be called alike, so the config has to be a circuit-tracer's.
    if _LAYER.fullmatch(file.name) and not is_model(file.parent):
        return "circuit-tracer"
    return None


def is_model(folder: Path) -> bool:
    """Whether ``folder`` is that of a language model, whose files may be called alike."""
    with contextlib.suppress(OSError, ValueError):
        found: Any = json.loads((folder / "config.json").read_bytes())
        return isinstance(found, dict) and "model_type" in found
    return False


def _number(name: str) -> tuple[int, str]:
    match = _LAYER.fullmatch(name)
    return (int(match[1]) if match else 0, name)
