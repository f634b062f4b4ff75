"""Prompt references: the strings by which a prompt set is named. Free of torch, so that the window may read them.

===================  ====================================================================
``sentiment`` …      a set built in (see `engine.text.prompt_templates`)
``sums#P``           all sums modulo P in the words of the toy modular-addition
``PATH.csv``         CSV with a header, in UTF-8
``PATH.jsonl``       a JSON object a line (``.ndjson`` too)
``prompts:ID``       a set kept in this session
``{"prompt": …}``    the rows themselves as JSON lines
===================  ====================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.text import prompt_templates
from engine.text.errors import TextError
from engine.text.prompt_files import SUFFIXES, as_csv, as_jsonl, make_set, read_file, read_jsonl
from engine.text.prompt_sets import PromptSet

__all__ = ["BUILT_IN", "as_csv", "as_jsonl", "make_set", "open_prompts"]

Kind: TypeAlias = Literal["built-in", "sums", "file", "kept", "rows"]

BUILT_IN: Mapping[str, str] = prompt_templates.TITLES
"""What each built-in set is called, by its reference."""

KEPT = "prompts:"
FILE_PATTERNS = tuple(f"*{suffix}" for suffix in SUFFIXES)
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,119}")


_MARKS = str.maketrans({"\n": "↵", "\t": "⇥", "\r": "↵"})


def visible(text: str) -> str:
    """``text`` with its spaces at either end as ␣, line feeds as ↵ and tabs as ⇥, for people to see."""
    inner = text.strip(" ")
    if not inner:
        return "␣" * len(text)
    before, after = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    return "␣" * before + inner.translate(_MARKS) + "␣" * after


def is_rows(reference: str) -> bool:
    """Whether ``reference`` is the rows themselves."""
    return reference.lstrip().startswith("{")


def check(reference: str) -> Kind:
    """What kind of reference this is; no file is opened.

    Raises:
        TextError: it is none of the known forms.
    """
    if is_rows(reference):
        return "rows"
    whole = reference.strip()
    if whole in BUILT_IN:
        return "built-in"
    if whole == "sums" or whole.startswith("sums#"):
        prompt_templates.modulus(whole)
        return "sums"
    if whole.startswith(KEPT):
        if not _ID.fullmatch(whole[len(KEPT) :]):
            raise TextError(f"“{whole}” names no prompt set; write prompts: and its id, as in prompts:prompt-set-1.")
        return "kept"
    if Path(whole).suffix.lower() in SUFFIXES:
        return "file"
    raise TextError(
        f"“{whole}” is no prompt set; give {', '.join(BUILT_IN)}, sums#P, a .csv or .jsonl file, prompts:ID of this "
        "session, or rows as JSON lines."
    )


def open_prompts(reference: str, *, work: Path | None = None) -> PromptSet:
    """Open the prompt set named ``reference``.

    Args:
        reference: see the table above.
        work: the session's work folder, where ``prompts:ID`` is looked up.

    Raises:
        TextError: it is not there, or is no prompt set; of a file the sentence names line and column.
    """
    kind, whole = check(reference), reference.strip()
    if kind == "rows":
        return read_jsonl(reference, where="The rows", name="Edited rows", reference=reference)
    if kind == "file":
        return read_file(Path(whole).expanduser())
    if kind == "kept":
        return _kept(whole, work)
    return prompt_templates.sums(prompt_templates.modulus(whole)) if kind == "sums" else prompt_templates.build(whole)


def store(prompts: PromptSet, title: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Attributes and arrays of ``prompts`` as a thing in the section ``corpora``: ``rows`` is JSON lines, UTF-8."""
    attributes = {
        "kind": "prompts",
        "title": title,
        "rows": len(prompts.rows),
        "classes": len(prompts.classes),
        "cyclic": prompts.cyclic,
        "factors": list(prompts.factors),
        "note": prompts.note,
    }
    # Bytes, not an attribute: an attribute of the session file has at most 64 KB.
    return attributes, {"rows": np.frombuffer(as_jsonl(prompts).encode(), np.uint8)}


def _kept(reference: str, work: Path | None) -> PromptSet:
    if work is None:
        raise TextError(f"{reference} is a prompt set of a session, and no session is open; give one with --session.")
    from engine.session.errors import NotInSession
    from engine.session.finding import find_thing

    id = reference[len(KEPT) :]
    try:
        attributes, arrays = find_thing(work, "corpora", id)
    except NotInSession:
        raise TextError(f"There is no prompt set {id} in this session; keep it first.") from None
    if attributes.get("kind") != "prompts" or "rows" not in arrays:
        raise TextError(f"{id} is a text and no prompt set; choose a set that was kept in this session.")
    try:
        text = np.asarray(arrays["rows"], np.uint8).tobytes().decode()
    except UnicodeDecodeError:
        raise TextError(f"The prompt set {id} is damaged; keep it again.") from None
    name = str(attributes.get("title") or id)
    found = read_jsonl(text, where=f"The prompt set {id}", name=name, reference=reference)
    return make_set(
        found.rows, name=name, reference=reference, cyclic=found.cyclic, note=str(attributes.get("note") or "")
    )
