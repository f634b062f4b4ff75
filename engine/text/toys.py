"""The data of a toy: sequences of tokens as it was trained on, with the features that were planted in them.

It is a corpus of the session, ``toy:RUN``, stored with the run's model: ``tokens`` (sequences, length) int32,
``counted`` (sequences, length) bool, ``features`` (sequences, length, features), whose names are an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.text.errors import TextError

Array: TypeAlias = npt.NDArray[Any]
LARGEST = 64_000_000  # bytes of features that are kept


@dataclass(frozen=True)
class ToyData:
    """A toy's data.

    Attributes:
        tokens: (sequences, length) token ids; each sequence is one context, BOS included where the toy has one.
        counted: (sequences, length) bool, positions whose activations are data (not padding); None for all.
        features: (sequences, length, features) values of the planted features; None where there are none.
            A feature is active where its value is not 0.
        names: one per feature.
        next_token: whether the toy predicts each token from those before, as a language model does, so that its
            cross entropy on these tokens means something.
    """

    tokens: Array
    counted: Array | None = None
    features: Array | None = None
    names: tuple[str, ...] = ()
    next_token: bool = False

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.tokens.dtype.kind not in "iu":
            raise TextError(f"A toy's tokens are whole numbers (sequences, length), not {self.tokens.shape}.")
        if self.counted is not None and self.counted.shape != self.tokens.shape:
            raise TextError(f"A toy has {self.tokens.shape} tokens but {self.counted.shape} marks of what counts.")
        if self.features is not None and self.features.shape != (*self.tokens.shape, len(self.names)):
            raise TextError(
                f"A toy has {self.tokens.shape} tokens, {len(self.names)} names of features and {self.features.shape} "
                "feature values, which do not fit each other."
            )

    def store(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Attributes and arrays of the corpus; `read` takes them."""
        arrays: dict[str, Array] = {"tokens": self.tokens.astype(np.int32)}
        if self.counted is not None:
            arrays["counted"] = self.counted.astype(bool)
        if self.features is not None:
            arrays["features"] = self.features
        return {"features": list(self.names), "next_token": self.next_token}, arrays


def read(attributes: Mapping[str, Any], arrays: Mapping[str, Array]) -> ToyData:
    """The data that `ToyData.store` stored. Raises `TextError` where its parts do not fit each other."""
    if "tokens" not in arrays:
        raise TextError("This corpus has no tokens of a toy; choose the corpus of a run that trained one.")
    names = attributes.get("features") or ()
    next_token = attributes.get("next_token") is True
    return ToyData(arrays["tokens"], arrays.get("counted"), arrays.get("features"), tuple(map(str, names)), next_token)


def find(run: str, work: Path | None) -> tuple[dict[str, Any], ToyData]:
    """Attributes and data of the toy that ``run`` trained, from the session whose work folder is ``work``.

    Raises:
        TextError: there is no session, or it has no such data.
    """
    if work is None:
        raise TextError(f"toy:{run} is a text of a session, and no session is open; give one with --session.")
    from engine.session import NotInSession, find_thing

    try:
        attributes, arrays = find_thing(work, "corpora", run)
    except NotInSession:
        raise TextError(f"This session has no data of a toy {run}; train the toy first, or choose another.") from None
    return dict(attributes), read(attributes, {name: np.asarray(array) for name, array in arrays.items()})
