"""The architectures of dictionaries: one file per family, over the parts in ``base``."""

from __future__ import annotations

from engine.dictionaries.architectures.base import Architecture, Step
from engine.dictionaries.architectures.batchtopk import BatchTopK
from engine.dictionaries.architectures.gated import Gated
from engine.dictionaries.architectures.jumprelu import JumpReLU
from engine.dictionaries.architectures.matryoshka import Matryoshka
from engine.dictionaries.architectures.relu import ReLU
from engine.dictionaries.architectures.topk import TopK
from engine.dictionaries.choices import Choices
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.weights import Moments

__all__ = ["Architecture", "Moments", "Step", "make"]

FAMILIES: dict[str, type[Architecture]] = {
    "topk": TopK,
    "batchtopk": BatchTopK,
    "matryoshka": Matryoshka,
    "jumprelu": JumpReLU,
    "relu": ReLU,
    "gated": Gated,
}


def make(choices: Choices, moments: Moments) -> Architecture:
    """The architecture that ``choices`` ask for.

    Raises:
        DictionaryError: nobody knows it, or its numbers do not fit together.
    """
    family = FAMILIES.get(choices.family)
    if family is None:
        raise DictionaryError(
            f"The architecture “{choices.family}” is not known; choose one of {', '.join(sorted(FAMILIES))}."
        )
    if not 1 <= choices.k <= choices.width:
        raise DictionaryError(f"k = {choices.k:,} must lie between 1 and the width of {choices.width:,}.")
    if choices.family == "matryoshka" and choices.width >> (choices.levels - 1) < 1:
        raise DictionaryError(f"A width of {choices.width:,} cannot be halved into {choices.levels} prefixes.")
    return family(choices, moments)
