"""Toy models by reference: the demo model that ships, and those trained in a session (``toy:RUN``)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.models.errors import ModelError
from engine.models.references import Reference

Array: TypeAlias = npt.NDArray[Any]


def stored(reference: Reference, work: Path | None) -> tuple[dict[str, Any], dict[str, Array]]:
    """Attributes and arrays of a toy model, as `engine.models.native.load_native` takes them.

    Args:
        reference: of kind "demo" or "toy".
        work: the session's work folder, for "toy".

    Raises:
        ModelError: there is no such model, or its files are damaged.
    """
    if reference.kind == "demo":
        from engine.models.native import demo_folder, read_native

        return read_native(demo_folder())
    if work is None:
        raise ModelError(f"{reference.text} is a model of a session, and no session is open; give one with --session.")
    from engine.session import NotInSession, find_thing

    try:
        attributes, arrays = find_thing(work, "models", reference.value)
    except NotInSession:
        raise ModelError(
            f"This session has no toy model {reference.value}; train one with tiny-language-model, or choose another."
        ) from None
    return dict(attributes), {name: np.asarray(array) for name, array in arrays.items()}


def content_hash(arrays: Mapping[str, Array]) -> str:
    """SHA-256 over names, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
