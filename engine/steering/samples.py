"""What a sweep measures on: held-out rows of a prompt set with the completions that are compared, and their factors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engine.steering.errors import SteeringError
from engine.text.prompt_sets import PromptRow, PromptSet

FEWEST = 4  # samples of which anything is said


@dataclass(frozen=True)
class Samples:
    """Rows that are asked about.

    Attributes:
        rows: their numbers in the set.
        prompts: (samples,) texts.
        answers: (samples,) completions of each: the positive one first, then the negative one; where a label is moved,
            the target's answer, the row's own, and those of all other classes.
        factors: values (samples,) by factor.
        targeted: whether a label is moved, so that success is the likeliest answer.
    """

    rows: tuple[int, ...]
    prompts: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    factors: dict[str, tuple[str, ...]]
    targeted: bool

    def __len__(self) -> int:
        return len(self.rows)


def choose(
    prompts: PromptSet,
    rows: Sequence[int],
    *,
    factors: Sequence[str],
    most: int,
    random: np.random.Generator,
    targeted: bool = False,
    target: str = "",
) -> Samples:
    """Samples from ``rows``, at most so many, drawn at random and in the order of the set.

    Args:
        factors: whose values are taken down.
        targeted: compare the answer of the class to which a label is moved with the row's own; else both completions.
        target: that class; "" for the next one.

    Raises:
        SteeringError: fewer than four rows can be asked, a factor or the target does not exist.
    """
    known = prompts.factors
    for name in factors:
        if name not in known:
            raise SteeringError(
                f"The prompt set {prompts.name} has no factor “{name}”; declare one of {', '.join(known)}."
                if known
                else f"The prompt set {prompts.name} has no factors, so “{name}” cannot be declared; leave it empty."
            )
    asked = _targeted(prompts, rows, target) if targeted else _paired(prompts, rows)
    if len(asked) < FEWEST:
        needed = "a label and a completion" if targeted else "a positive and a negative completion"
        raise SteeringError(
            f"{len(asked)} held-out rows of {prompts.name} have {needed}, which is too few for a distribution; half of "
            f"the rows are held out, so give the set at least {2 * FEWEST} of them."
        )
    if len(asked) > most:
        asked = [asked[place] for place in np.sort(random.choice(len(asked), most, replace=False))]
    chosen = [prompts.rows[row] for row, _ in asked]
    return Samples(
        tuple(row for row, _ in asked),
        tuple(row.prompt for row in chosen),
        tuple(answers for _, answers in asked),
        {name: tuple(row.factors.get(name, "") for row in chosen) for name in factors},
        targeted,
    )


def _paired(prompts: PromptSet, rows: Sequence[int]) -> list[tuple[int, tuple[str, ...]]]:
    chosen = [(row, prompts.rows[row]) for row in rows]
    return [(number, (row.positive, row.negative)) for number, row in chosen if row.positive and row.negative]


def _targeted(prompts: PromptSet, rows: Sequence[int], target: str) -> list[tuple[int, tuple[str, ...]]]:
    """Each row with the answer of the class to go to, its own, and all others; rows that are there already left out."""
    answers = class_answers(prompts)
    if target and target not in prompts.classes:
        raise SteeringError(
            f"“{target}” is no label of the prompt set {prompts.name}; choose one of {', '.join(prompts.classes[:12])}."
        )
    found = []
    for number in rows:
        own = prompts.rows[number].label
        goal = target or following(prompts, own)
        if own in answers and goal in answers and goal != own:
            others = [text for label, text in answers.items() if label not in (own, goal)]
            found.append((number, (answers[goal], answers[own], *others)))
    return found


def class_answers(prompts: PromptSet) -> dict[str, str]:
    """The completion that stands for each class, in their order: the positive one that most of its rows have.

    Raises:
        SteeringError: the set has fewer than two classes with a positive completion.
    """
    counts: dict[str, Counter[str]] = {label: Counter() for label in prompts.classes}
    for row in prompts.rows:
        if row.label and row.positive:
            counts[row.label][row.positive] += 1
    found = {label: count.most_common(1)[0][0] for label, count in counts.items() if count}
    if len(found) < 2:
        raise SteeringError(
            f"The prompt set {prompts.name} has no two labels with a positive completion, which name the answers to steer "
            "between; add them, or choose a method that goes by pairs."
        )
    return found


def following(prompts: PromptSet, label: str) -> str:
    """The class after ``label``; "" behind the last one of classes that do not go round, and for no class."""
    if label not in prompts.classes:
        return ""
    place = prompts.classes.index(label) + 1
    return prompts.classes[place % len(prompts.classes)] if prompts.cyclic or place < len(prompts.classes) else ""


def swapped(prompts: PromptSet, random: np.random.Generator) -> PromptSet:
    """The control: each row's completions have changed places by the toss of a coin, alike in rows of the same text."""
    coins: dict[tuple[str, ...], bool] = {}
    rows = []
    for row in prompts.rows:
        text = (row.prompt, row.positive, row.negative, row.suffix)
        swap = coins.setdefault(text, bool(random.integers(2)))
        rows.append(replace(row, positive=row.negative, negative=row.positive) if swap else row)
    return replace(prompts, rows=tuple(rows), name=f"{prompts.name}, completions swapped at random")


def shuffled(prompts: PromptSet, rows: Sequence[int], random: np.random.Generator) -> PromptSet:
    """The control for labels: ``rows`` alone, their labels permuted."""
    chosen = [prompts.rows[row] for row in rows]
    order: npt.NDArray[np.int64] = random.permutation(len(chosen))
    mixed = tuple(replace(row, label=chosen[place].label) for row, place in zip(chosen, order, strict=True))
    return replace(prompts, rows=mixed, name=f"{prompts.name}, labels shuffled")


def subset(prompts: PromptSet, factor: str, values: Sequence[str], name: str) -> tuple[PromptSet, tuple[int, ...]]:
    """The rows whose ``factor`` has one of ``values`` as a set of its own, and their numbers in the whole."""
    numbers = tuple(number for number, row in enumerate(prompts.rows) if row.factors.get(factor, "") in values)
    rows: tuple[PromptRow, ...] = tuple(prompts.rows[number] for number in numbers)
    return replace(prompts, rows=rows, name=name), numbers


def values_of(prompts: PromptSet, factor: str) -> tuple[str, ...]:
    """The values of ``factor`` in the order in which they first come; rows without one have ""."""
    return tuple(dict.fromkeys(row.factors.get(factor, "") for row in prompts.rows))
