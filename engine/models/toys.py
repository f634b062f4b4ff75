"""Toy models by reference: the demo model that ships, and those trained in a session (``toy:RUN``)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.models.errors import ModelError
from engine.models.references import Reference

Array: TypeAlias = npt.NDArray[Any]
Planted: TypeAlias = tuple[tuple[str, ...], Array]  # names, and directions (features, width)
BOS = "bos"  # attribute of a toy: whether its sequences begin with a BOS token
PLANTED = "planted."  # before a hook point's name: the directions of the features planted there
KEPT = 4  # toys of sessions whose arrays are kept: panels ask for the same one at each move of a slider

_kept: dict[tuple[str, str], tuple[Any, dict[str, Any], dict[str, Array]]] = {}
_guard = threading.Lock()


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
    from engine.session import NotInSession, find_thing, state_of

    key, state = (str(work), reference.value), state_of(work, "models")
    with _guard:
        kept = _kept.get(key)
    if kept is None or kept[0] != state:
        try:
            attributes, arrays = find_thing(work, "models", reference.value)
        except NotInSession:
            raise ModelError(
                f"This session has no toy model {reference.value}; train one under Toy models, or choose another."
            ) from None
        kept = state, dict(attributes), {name: np.asarray(array) for name, array in arrays.items()}
        with _guard:
            _kept[key] = kept
            while len(_kept) > KEPT:
                del _kept[next(iter(_kept))]
    return dict(kept[1]), dict(kept[2])


def load_toy(attributes: Mapping[str, Any], arrays: Mapping[str, Array], **place: Any) -> Any:
    """The toy as TransformerLens' bridge, or under its interface; ``place`` is device and dtype. Raises `ModelError`."""
    from engine.models import native, network

    if attributes.get("kind") == network.KIND:
        return network.load_network(attributes, arrays, **place)
    bridge = native.load_native(attributes, arrays, **place)
    if attributes.get(BOS) is False:
        bridge.tokenizer.bos_token = None
    return bridge


def network_weights(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of a toy that belong to its network: without what was planted in it."""
    return {name: array for name, array in arrays.items() if not name.startswith(PLANTED)}


def planted(attributes: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Planted]:
    """By hook point the names of the features planted in a toy and their directions (features, width) there.

    Raises:
        ModelError: names and directions do not fit each other.
    """
    names = attributes.get("planted")
    found = {}
    for hook, known in (names if isinstance(names, Mapping) else {}).items():
        directions = np.asarray(arrays.get(PLANTED + hook, np.empty((0, 0))), dtype=np.float32)
        if directions.ndim != 2 or len(directions) != len(known) or not np.isfinite(directions).all():
            raise ModelError(f"What was planted in this toy at {hook} is damaged; train the toy again.")
        found[str(hook)] = (tuple(str(name) for name in known), directions)
    return found


def content_hash(arrays: Mapping[str, Array]) -> str:
    """SHA-256 over names, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
