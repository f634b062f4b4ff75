"""Model references: the strings by which a person names a model, and what of them is on this machine.

Free of torch, so that the window and the command line can read references.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from engine import files, places
from engine.models.errors import ModelError

Kind: TypeAlias = Literal["demo", "smollm2", "gguf", "folder", "hub", "toy"]
FORMS = "demo, smollm2, a .gguf file, a Hugging Face folder, org/name or toy:RUN"
SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
MARKER = "superscope.json"
_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_RUN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Reference:
    """A parsed reference. ``value`` is a path ("gguf", "folder"), a hub id, a run's id ("toy"), or the kind itself."""

    kind: Kind
    value: str

    @property
    def text(self) -> str:
        """The reference as a person writes it; `parse` reads it back."""
        return f"toy:{self.value}" if self.kind == "toy" else self.value

    @property
    def title(self) -> str:
        """A short name for lists."""
        if self.kind == "smollm2":
            return "SmolLM2-135M-Instruct"
        if self.kind == "demo":
            return "Demo model"
        return (Path(self.value).name or self.value) if self.kind in ("gguf", "folder") else self.value

    @property
    def id(self) -> str:
        """The id of this model in a session's section "models": ``[a-z0-9-]``, the same for the same reference."""
        if self.kind == "toy":
            return self.value
        if self.kind in ("gguf", "folder"):
            path = os.path.abspath(self.value)
            return f"{_dashed(Path(path).name)}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
        return _dashed(self.value)


@dataclass(frozen=True)
class Known:
    """One line of ``superscope models``: ``size`` in bytes on disk here, 0 when it is not here."""

    reference: str
    title: str
    here: bool
    size: int
    place: str
    note: str = ""


def parse(reference: str) -> Reference:
    """Read a reference without opening anything.

    Raises:
        ModelError: it has none of the forms.
    """
    text = reference.strip()
    if text in ("demo", "smollm2"):
        return Reference("demo" if text == "demo" else "smollm2", text)
    if text.startswith("toy:"):
        if not _RUN.fullmatch(text[4:]):
            raise ModelError(f"“{reference}” names no run; write toy: and a run's id, as in toy:tiny-language-model-1.")
        return Reference("toy", text[4:])
    expanded = os.path.expanduser(text)
    if expanded.lower().endswith(".gguf"):
        return Reference("gguf", expanded)
    if text and (os.path.isdir(expanded) or text.startswith((".", "~")) or os.path.isabs(expanded) or "\\" in text):
        return Reference("folder", expanded)
    if _HUB.fullmatch(text):
        return Reference("hub", text)
    raise ModelError(f"“{reference}” is no model reference; a model is one of {FORMS}.")


def slug(reference: str) -> str:
    """`Reference.id` of a reference as text. Raises `ModelError` as `parse` does."""
    return parse(reference).id


def models_folder() -> Path:
    """Where converted models are kept."""
    return places.cache() / "models"


def converted_folder(reference: Reference) -> Path:
    """Where the converted copy of a GGUF file or of ``smollm2`` lies, whether it exists or not."""
    return models_folder() / reference.id


def marker(folder: Path) -> dict[str, Any] | None:
    """What was written when the conversion in ``folder`` was complete; None where it is not."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / MARKER).read_bytes())
        return found if isinstance(found, dict) else None
    return None


def write_marker(folder: Path, values: dict[str, Any]) -> None:
    """Mark the conversion in ``folder`` as complete. Raises `DiskError`."""
    files.write_bytes(folder / MARKER, json.dumps(values, ensure_ascii=False, indent=1).encode("utf-8"))


def hub_cache() -> Path:
    """The folder in which Hugging Face's own tools keep downloaded repositories."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(home).expanduser() / "hub"


def hub_folder(name: str) -> Path:
    """Where the hub's model ``org/name`` is kept once it was downloaded."""
    return hub_cache() / f"models--{name.replace('/', '--')}"


def known() -> list[Known]:
    """The models that can be named without a path, and those that are on this machine already."""
    demo = places.resources() / "demo"
    found = [
        Known("demo", "Demo model", (demo / "model.json").is_file(), _size(demo), str(demo), "ships with Superscope")
    ]
    small = Reference("smollm2", "smollm2")
    here = marker(converted_folder(small)) is not None
    found.append(
        Known(
            "smollm2",
            small.title,
            here,
            _size(converted_folder(small)) if here else 0,
            str(converted_folder(small)),
            "" if here else "93 MB to fetch, 540 MB once converted",
        )
    )
    for folder in sorted(models_folder().glob("*")) if models_folder().is_dir() else []:
        values = marker(folder)
        if values is not None and values.get("kind") == "gguf":
            source = str(values.get("source", ""))
            note = "converted copy" if os.path.isfile(source) else "converted copy; the GGUF file itself is gone"
            found.append(Known(source, Path(source).name, True, _size(folder), str(folder), note))
    for folder in sorted(hub_cache().glob("models--*--*")) if hub_cache().is_dir() else []:
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        if any(folder.glob("snapshots/*/*.safetensors")):
            found.append(Known(name, name, True, _size(folder), str(folder), "in Hugging Face's own cache"))
    return found


def remove(reference: str) -> int:
    """Delete what this machine keeps of a model: a converted copy, or a download. A person's own files stay.

    Returns:
        The number of bytes that were freed.

    Raises:
        ModelError: there is nothing of this model that could be removed.
        DiskError: the files could not be deleted.
    """
    parsed = parse(reference)
    if parsed.kind == "demo":
        raise ModelError("The demo model is a part of Superscope and cannot be removed.")
    if parsed.kind == "toy":
        raise ModelError(f"{parsed.text} lives in its session; delete it there.")
    if parsed.kind == "folder":
        raise ModelError(f"{parsed.value} is opened where it lies, so Superscope keeps no copy that could be removed.")
    place = hub_folder(parsed.value) if parsed.kind == "hub" else converted_folder(parsed)
    if not place.is_dir():
        raise ModelError(f"Nothing of {parsed.text} is kept on this machine; `superscope models` lists what is.")
    freed = _size(place)
    try:
        shutil.rmtree(place)
    except OSError as problem:
        raise files.DiskError(
            f"{place} could not be deleted ({problem.strerror or problem}); close what uses it and try again."
        ) from problem
    return freed


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total


def _dashed(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "model"
