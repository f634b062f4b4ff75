"""The prompt sets that are built in: made from templates, the same each time, with their factors declared.

In the sets with labels ``positive`` is the right completion, which the label names, and ``negative`` is that of the
next class. No completion of theirs is read on: ``suffix`` continues each text, so that activations can be read behind
the answer and not on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from engine.text import prompt_stories, prompt_wording
from engine.text.errors import TextError
from engine.text.prompt_files import MOST_ROWS, make_set
from engine.text.prompt_sets import PromptRow, PromptSet

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DIGITS = tuple("0123456789")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DEFAULT_MODULUS = 53
LARGEST_MODULUS = int(MOST_ROWS**0.5)

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "sentiment": "Sentiment",
        "gender": "Gender",
        "digits": "Digits",
        "days": "Days of the week",
        "story-sentiment": "Sentiment in stories",
        "story-gender": "Gender in stories",
        "story-objects": "Objects in stories",
    }
)
_NOTES = {
    "sentiment": "Praise against blame of twelve subjects, in six templates and with six pairs of words.",
    "gender": "She against he after occupations and names; stereotype says whom English text expects.",
    "digits": "The label is the digit that comes next; nine is not followed by zero. Prompts end with a space, because "
    "tokenizers that split numbers into digits take it as a token of its own.",
    "days": "The label is the day that comes next; Sunday is followed by Monday.",
    "story-sentiment": "In the words of the story grammar: the mood that is open, and the voice and face that follow "
    "from a mood in the prompt.",
    "story-gender": "In the words of the story grammar: a name that is open, and the pronoun that follows from a name "
    "in the prompt.",
    "story-objects": "In the words of the story grammar: the label is the object that the prompt names, which comes "
    "again; rows of one story differ in it alone.",
}
# Prompts with an example of what is asked for: a small model that is asked without one says a day, but not the next.
_DAY_TEMPLATES = {
    "tomorrow": "Yesterday was {one}, today is {day}, and tomorrow is",
    "sequence": "{three}, {two}, {one}, {day},",
    "followed": "{two} is followed by {one}. {one} is followed by {day}. {day} is followed by",
    "after": "After {two} comes {one}. After {one} comes {day}. After {day} comes",
    "list": "Day: {one}, next day: {day}\nDay: {day}, next day:",
    "today": "If yesterday was {day}, then today is",
}


def build(name: str) -> PromptSet:
    """The built-in set ``name``. Raises `TextError` where there is none of that name."""
    makers: dict[str, Callable[[], Iterator[PromptRow]]] = {
        "sentiment": prompt_wording.sentiment,
        "gender": prompt_wording.gender,
        "digits": _digits,
        "days": _days,
        "story-sentiment": prompt_stories.sentiment,
        "story-gender": prompt_stories.gender,
        "story-objects": prompt_stories.objects,
    }
    if name not in makers:
        raise TextError(f"There is no prompt set “{name}”; choose {', '.join(makers)}.")
    return make_set(makers[name](), name=TITLES[name], reference=name, note=_NOTES[name])


def modulus(reference: str) -> int:
    """P of ``sums#P``; ``sums`` alone is modulo 53. Raises `TextError` where P is none."""
    _, mark, chosen = reference.partition("#")
    if not mark:
        return DEFAULT_MODULUS
    if not (chosen.isascii() and chosen.isdigit() and len(chosen) < 9 and 2 <= int(chosen) <= LARGEST_MODULUS):
        raise TextError(
            f"“{chosen}” is no modulus for a set of sums; write a whole number from 2 to {LARGEST_MODULUS}, as in "
            f"sums#{DEFAULT_MODULUS}."
        )
    return int(chosen)


def sums(p: int) -> PromptSet:
    """All p² sums modulo ``p``, row a · p + b, in the words of the toy modular-addition: ``a b =``."""
    rows = (
        PromptRow(
            f"{a} {b} =",
            f" {(a + b) % p}",
            f" {(a + b + 1) % p}",
            label=str((a + b) % p),
            factors={"a": str(a), "b": str(b)},
        )
        for a in range(p)
        for b in range(p)
    )
    return make_set(
        rows,
        name=f"Sums modulo {p}",
        reference=f"sums#{p}",
        cyclic=True,
        note=f"All {p * p:,} sums in the words of a modular-addition toy with p = {p}; read them at the prompt's last "
        "token, behind which that toy has no room.",
    )


def _digits() -> Iterator[PromptRow]:
    for template, prompts in _digit_prompts().items():
        for prompt, answer in prompts:
            other = answer + 1 if answer < 9 else 8
            yield PromptRow(prompt, str(answer), str(other), "\n", str(answer), {"template": template})


def _digit_prompts() -> dict[str, list[tuple[str, int]]]:
    """Prompts by template, each with the digit that comes next."""

    def listed(numbers: range) -> str:
        return "".join(f"{number}, " for number in numbers)

    examples = [((n + 3) % 10, (n + 7) % 10, n) for n in range(10)]
    return {
        "up": [(listed(range(n - 3, n)), n) for n in range(3, 10)],
        "down": [(listed(range(n + 4, n, -1)), n) for n in range(10)],
        "after": [
            (f"After {n - 3} comes {n - 2}. After {n - 2} comes {n - 1}. After {n - 1} comes ", n) for n in range(3, 10)
        ],
        "plus one": [(f"{n - 2} + 1 = {n - 1}, {n - 1} + 1 = ", n) for n in range(2, 10)],
        "sum": [(f"1 + 2 = 3, 2 + 2 = 4, {n // 2} + {n - n // 2} = ", n) for n in range(10)],
        "word": [(f"{_NUMBERS[a]} = {a}, {_NUMBERS[b]} = {b}, {_NUMBERS[n]} = ", n) for a, b, n in examples],
        "count": [(f"There are {_NUMBERS[a]} ({a}) birds and {_NUMBERS[n]} (", n) for a, _, n in examples],
    }


def _days() -> Iterator[PromptRow]:
    for template, words in _DAY_TEMPLATES.items():
        for number, day in enumerate(DAYS):
            answer, other = DAYS[(number + 1) % 7], DAYS[(number + 2) % 7]
            before = {name: DAYS[(number - back) % 7] for back, name in enumerate(("day", "one", "two", "three"))}
            factors = {"template": template, "day": day}
            yield PromptRow(words.format(**before), f" {answer}", f" {other}", ".", answer, factors)
