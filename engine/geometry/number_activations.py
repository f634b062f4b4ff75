"""Activations of numbers in a model: which numbers it has, prompts with them, one set of points for each hook point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry.errors import GeometryError
from engine.geometry.helix import Points
from engine.geometry.number_reading import Prefixes, read_prefixes
from engine.models.network import NetworkBridge
from engine.models.references import parse
from engine.models.toys import stored
from engine.text.errors import TextError
from engine.text.numbers import NumberPrompts, Place, check_template, number_prompts, number_tokens, whole_hundreds

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
Numbers: TypeAlias = Literal["auto", "single tokens", "digits in several tokens"]
LARGEST_SINGLE, LARGEST_SEVERAL = 299, 99
FEWEST = 4  # numbers of a toy, below which what it was kept with says nothing of operands
ENOUGH = 20  # numbers of one token from which on those of several tokens are not needed


@dataclass(frozen=True)
class Chosen:
    """The prompts of a model's numbers, and what is to be said of them.

    Attributes:
        prompts: what is run.
        single: whether each number is one token.
        available: how many of the numbers that were asked for are one token.
        asked: how many were asked for.
        template: as it was used.
    """

    prompts: NumberPrompts
    single: bool
    available: int
    asked: int
    template: str

    @property
    def dropped(self) -> int:
        """How many of the numbers that were asked for are not looked at."""
        return self.asked - len(np.unique(self.prompts.values))

    @property
    def alike(self) -> Array:
        """The numbers from 1 on that take the most common number of tokens, in order."""
        parts = dict(zip(self.prompts.values.tolist(), self.prompts.parts.tolist(), strict=True))
        values = np.array(sorted(value for value in parts if value >= 1), dtype=np.int64)
        taken = np.array([parts[value] for value in values.tolist()], dtype=np.int64)
        return np.asarray(values[taken == np.bincount(taken).argmax()] if len(taken) else values)

    @property
    def sentence(self) -> str:
        """Which numbers, in words."""
        values = np.unique(self.prompts.values)
        range_ = f"{len(values)} numbers from {values[0]} to {values[-1]}"
        if self.single:
            dropped = self.asked - self.available
            found = (
                f"{range_}, each one token; {dropped} of the {self.asked} looked at are not one token and were dropped."
            )
            if self.available > len(values):
                found += f" {self.available - len(values)} more were left out, so that whole periods fit."
            return found
        parts = self.prompts.parts
        tokens = f"{parts.min()}" if parts.min() == parts.max() else f"{parts.min()} to {parts.max()}"
        return (
            f"{range_}, written in {tokens} tokens each and read at the last one; only {self.available} of the "
            f"{self.asked} numbers looked at are single tokens of this vocabulary."
        )


def choose(
    model: OpenModel,
    random: np.random.Generator,
    *,
    numbers: Numbers = "auto",
    largest: int | None = None,
    template: str = "",
    place: Place = "number",
    others: int = 10,
    prepend_bos: bool = True,
) -> Chosen:
    """Prompts of the numbers that ``model`` has.

    Args:
        random: draws the other numbers b of a template that has {b}, ``others`` for each number a, from all those of a.
        numbers: "auto" takes single tokens where there are at least 20 of them.
        largest: largest number; None takes 299 (99 for several tokens), cut to a whole number of hundreds.
        template: "" is the number alone.

    Raises:
        GeometryError: the model reads no text, or has no numbers as asked for.
        TextError: the template is wrong.
    """
    if isinstance(model.bridge, NetworkBridge):
        raise GeometryError(
            f"{model.facts.title} is a network that reads no text, so it has no numbers; choose another."
        )
    asked = LARGEST_SINGLE if largest is None else largest
    found = number_tokens(model.tokenizer, asked)
    single = numbers == "single tokens" or (numbers == "auto" and (len(found.values) >= ENOUGH or not found.dropped))
    if single and not len(found.values):
        raise GeometryError(
            f"None of the numbers 0 to {asked} is one token of {model.facts.title}; take numbers=digits in several "
            "tokens, or another model."
        )
    if single:
        values = whole_hundreds(found.values) if largest is None else found.values
    else:
        values = np.arange((LARGEST_SEVERAL if largest is None else largest) + 1)
    written = template or (" {a}" if single and found.spaced else "{a}")
    pairs = [(int(a), -1) for a in values]
    if check_template(written):
        count = min(others, len(values))
        pairs = [(int(a), int(b)) for a in values for b in np.sort(random.choice(values, count, replace=False))]
    bos = model.bos if prepend_bos else None
    try:
        prompts = number_prompts(model.tokenizer, pairs, written, bos=bos, place=place, single=single)
    except TextError:
        if len(found.values):
            raise
        raise GeometryError(
            f"{model.facts.title} has no numbers in its vocabulary: none of 0 to {asked}, in digits or as words; "
            "choose another model, such as smollm2."
        ) from None
    return Chosen(prompts, single, len(found.values), asked + 1, written)


def operands(model: OpenModel, work: Path | None) -> int | None:
    """The largest number that a toy of sums was trained to add; larger ones are its answers only. None for other models."""
    reference = parse(model.reference)
    if reference.kind != "toy":
        return None
    count = stored(reference, work)[0].get("numbers")
    return count - 1 if isinstance(count, int) and count >= FEWEST else None


def read(model: OpenModel, prompts: NumberPrompts, hooks: Sequence[str], run: Run) -> Iterator[tuple[str, Points]]:
    """Points of the numbers at each of ``hooks``, in their order; a row for each prompt that differs up to where it is read.

    Raises:
        ModelError: there is no such hook point, it has no vector per token, or the prompts are too long.
    """
    different = Prefixes.of(prompts.ids, prompts.positions)
    for hook, x in read_prefixes(model, different, hooks, run):
        yield hook, Points(prompts.values[different.first], x)
