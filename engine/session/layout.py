"""Layout version 1 of a session file: the names that other people's scripts rely on."""

from __future__ import annotations

import re

from engine.runs.recording import ID as ID
from engine.session.errors import SessionError

FORMAT = "superscope-session"
VERSION = 1
SECTIONS = ("models", "corpora", "activations", "dictionaries")
SECTION_NAMES = {
    "models": "model",
    "corpora": "text",
    "activations": "activation store",
    "dictionaries": "dictionary",
    "runs": "run",
}
WEIGHTS = "weights"  # where a model's arrays lie


def check_id(id: str) -> str:
    """Return ``id`` if it is a valid id (``[a-z0-9-]``).

    Raises:
        SessionError: it is not.
    """
    if not ID.fullmatch(id):
        raise SessionError(f"“{id}” is not an id of this session; ids consist of a–z, 0–9 and hyphens.")
    return id


def slug(text: str) -> str:
    """``text`` as an id: lower case, everything else than ``[a-z0-9]`` a hyphen."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:100] or "thing"
