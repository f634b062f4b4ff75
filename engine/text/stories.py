"""The story grammar: a tiny language whose probabilities and latent variables are known exactly.

One story has 39 or 40 words: "one DAY NAME went to the PLACE . PRON felt MOOD . NAME saw a ANIMAL
with a COLOUR OBJECT ." then "the ANIMAL wanted the COLOUR OBJECT ." (70 %) or "PRON took the
COLOUR OBJECT ." (30 %), then "at the PLACE the ANIMAL sang|wept and NAME went home smiling|crying ."
Eight positions are drawn; every other one follows from them, so the entropy of each position, and
with it the loss that no model can beat, is known. After the idea of Eldan & Li 2023
("TinyStories"); grammar and words are our own.

This module imports neither torch nor a tokenizer: the window may read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

START, END = "<start>", "<end>"

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
NAMES = ("anna", "clara", "emma", "lucy", "nora", "ben", "david", "jack", "oscar", "tom")
GENDERS = ("she", "he")  # the first five names take "she"
PLACES = ("park", "beach", "forest", "farm")
SENTIMENTS = ("glad", "sad")
MOODS = (("happy", "cheerful"), ("sad", "gloomy"))
ANIMALS = (
    ("dog", "squirrel", "pigeon"),
    ("crab", "seagull", "turtle"),
    ("fox", "deer", "wolf"),
    ("cow", "hen", "goat"),
)
ANIMAL_WEIGHTS = (0.6, 0.3, 0.1)
COLOURS = ("red", "blue", "green", "yellow")
OBJECTS = ("ball", "kite", "hat", "bell", "cup", "drum")
BRANCHES = ("wanted", "took")
BRANCH_WEIGHTS = (0.7, 0.3)
VOICES = ("sang", "wept")
FACES = ("smiling", "crying")
PLAIN = ("one", "went", "to", "the", ".", "felt", "saw", "a", "with", "wanted", "took", "at", "and", "home")

VOCABULARY: tuple[str, ...] = (
    START,
    END,
    *PLAIN,
    *GENDERS,
    *DAYS,
    *NAMES,
    *PLACES,
    *(word for pair in MOODS for word in pair),
    *(word for kinds in ANIMALS for word in kinds),
    *COLOURS,
    *OBJECTS,
    *VOICES,
    *FACES,
)
WORD_IDS = {word: number for number, word in enumerate(VOCABULARY)}

# Every draw: how many values, and their probabilities where they are not uniform. The order makes a story's code.
_DRAWS: dict[str, tuple[int, tuple[float, ...] | None]] = {
    "day": (len(DAYS), None),
    "name": (len(NAMES), None),
    "place": (len(PLACES), None),
    "sentiment": (len(SENTIMENTS), None),
    "mood": (2, None),
    "animal": (len(ANIMAL_WEIGHTS), ANIMAL_WEIGHTS),
    "colour": (len(COLOURS), None),
    "object": (len(OBJECTS), None),
    "branch": (len(BRANCHES), BRANCH_WEIGHTS),
}
COUNT = math.prod(size for size, _ in _DRAWS.values())  # distinct stories
BLOCK = 1024  # stories drawn at once; story i depends on stream, seed and i alone

_OPENING = "one DAY NAME went to the PLACE .1 PRONOUN felt MOOD .2 NAME2 saw a ANIMAL with a2 COLOUR OBJECT .3"
_MIDDLE = ("BRANCH ANIMAL2 wanted the2 COLOUR2 OBJECT2 .4", "BRANCH took the2 COLOUR2 OBJECT2 .4")
_CLOSING = "at the3 PLACE2 the4 ANIMAL3 VOICE and NAME3 went2 home FACE .5 END"
_FORMS = tuple(tuple(f"{_OPENING} {middle} {_CLOSING}".split()) for middle in _MIDDLE)

SLOTS: tuple[str, ...] = tuple(dict.fromkeys(f"{_OPENING} {_MIDDLE[0]} {_MIDDLE[1]} {_CLOSING}".split()))
"""Grammar positions, upper case where a word of a class stands, numbered where they come again."""

# From which slot on a reader of the story can know each latent variable.
_REVEALED = {
    "name": "NAME",
    "gender": "NAME",
    "place": "PLACE",
    "sentiment": "MOOD",
    "animal": "ANIMAL",
    "colour": "COLOUR",
    "object": "OBJECT",
    "branch": "BRANCH",
}
LATENTS: dict[str, tuple[str, ...]] = {
    "name": NAMES,
    "gender": GENDERS,
    "place": PLACES,
    "sentiment": SENTIMENTS,
    "animal": tuple(word for kinds in ANIMALS for word in kinds),
    "colour": COLOURS,
    "object": OBJECTS,
    "branch": BRANCHES,
    "slot": SLOTS,
}
"""The ground-truth latent variables and the names of their values, in the order of `Story.latents`."""


def _entropy(weights: tuple[float, ...]) -> float:
    return -sum(weight * math.log(weight) for weight in weights)


def slot_floors() -> dict[str, float]:
    """Entropy in nats of each slot given everything before it in its story; 0 where it is determined."""
    drawn = {name: _entropy(weights) if weights else math.log(size) for name, (size, weights) in _DRAWS.items()}
    floors = dict.fromkeys(SLOTS, 0.0)
    for name in ("day", "name", "place", "animal", "colour", "object", "branch"):
        floors[name.upper()] = drawn[name]
    floors["MOOD"] = drawn["sentiment"] + drawn["mood"]  # one word shows both
    return floors


def slot_frequency() -> dict[str, float]:
    """How often each slot occurs in a story: 1, or its branch's probability."""
    return {slot: sum(w for form, w in zip(_FORMS, BRANCH_WEIGHTS, strict=True) if slot in form) for slot in SLOTS}


def floor() -> float:
    """Nats per predicted token that no model can go below: entropy of a story over its mean length.

    The predicted tokens of a story are its words and the ``<end>`` behind them: 41 or 40.
    """
    frequency = slot_frequency()
    entropy = sum(frequency[slot] * nats for slot, nats in slot_floors().items())
    return entropy / sum(frequency.values())


@dataclass(frozen=True)
class Story:
    """One story. ``choices`` holds the index of each draw's value, by name, in the order of drawing.

    Attributes:
        words: the 39 or 40 words, without ``<start>`` and ``<end>``.
        slots: the grammar position of each word and of the ``<end>`` behind them: one longer than words.
    """

    choices: dict[str, int]

    @property
    def slots(self) -> tuple[str, ...]:
        return _FORMS[self.choices["branch"]]

    @cached_property
    def words(self) -> tuple[str, ...]:
        filled = self._fillings()
        return tuple(filled.get(slot.rstrip("2345"), slot.rstrip("12345")) for slot in self.slots[:-1])

    def _fillings(self) -> dict[str, str]:
        c = self.choices
        pronoun, animal = GENDERS[self.gender], ANIMALS[c["place"]][c["animal"]]
        return {
            "DAY": DAYS[c["day"]],
            "NAME": NAMES[c["name"]],
            "PLACE": PLACES[c["place"]],
            "PRONOUN": pronoun,
            "MOOD": MOODS[c["sentiment"]][c["mood"]],
            "ANIMAL": animal,
            "COLOUR": COLOURS[c["colour"]],
            "OBJECT": OBJECTS[c["object"]],
            "BRANCH": ("the", pronoun)[c["branch"]],
            "VOICE": VOICES[c["sentiment"]],
            "FACE": FACES[c["sentiment"]],
        }

    @property
    def gender(self) -> int:
        """Index into `GENDERS`."""
        return int(self.choices["name"] >= len(NAMES) // 2)

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(self.words)

    @property
    def ids(self) -> list[int]:
        """Ids of the words and of ``<end>`` in `VOCABULARY`: 40 or 41 numbers."""
        return [WORD_IDS[word] for word in self.words] + [WORD_IDS[END]]

    @property
    def code(self) -> int:
        """A number below `COUNT` that names this story; `from_code` reads it."""
        number = 0
        for name, (size, _) in _DRAWS.items():
            number = number * size + self.choices[name]
        return number

    @property
    def log_probabilities(self) -> Array:
        """Natural log of each word's probability given the words before it, and of the end's: (words + 1,)."""
        found = dict.fromkeys(self.slots, 0.0)
        for name, (size, weights) in _DRAWS.items():
            slot = "MOOD" if name == "sentiment" else name.upper()
            found[slot] += math.log(weights[self.choices[name]] if weights else 1 / size)
        return np.array([found[slot] for slot in self.slots])

    @property
    def latents(self) -> dict[str, Array]:
        """Each latent's value at each word and the end, as an index into `LATENTS`: int (words + 1,).

        It is -1 where the words so far do not yet show it, so that a probe is asked only what can be known.
        """
        values = {name: self.choices[name] for name in ("name", "place", "sentiment", "colour", "object", "branch")}
        values["gender"] = self.gender
        values["animal"] = self.choices["place"] * len(ANIMAL_WEIGHTS) + self.choices["animal"]
        found: dict[str, Array] = {}
        for name, slot in _REVEALED.items():
            labels = np.full(len(self.slots), -1)
            labels[self.slots.index(slot) :] = values[name]
            found[name] = labels
        found["slot"] = np.array([SLOTS.index(slot) for slot in self.slots])
        return found


def from_code(code: int) -> Story:
    """The story that `Story.code` names."""
    choices: dict[str, int] = {}
    for name, (size, _) in reversed(_DRAWS.items()):
        code, choices[name] = divmod(code, size)
    return Story(dict(reversed(choices.items())))


def generate(seed: int, start: int = 0, *, stream: int = 0) -> Iterator[Story]:
    """Stories without end, drawn independently from the grammar, from number ``start`` of this seed on.

    ``stream`` gives independent stories of the same seed: 0 is the corpus ``stories``, training and
    held-out stories of the toy model are others.
    """
    block, skip = divmod(start, BLOCK)
    while True:
        random = np.random.default_rng([stream, seed, block])
        drawn = {name: random.choice(size, size=BLOCK, p=weights) for name, (size, weights) in _DRAWS.items()}
        rows = zip(*(values.tolist() for values in drawn.values()), strict=True)
        for number, row in enumerate(rows):
            if number >= skip:
                yield Story(dict(zip(drawn, row, strict=True)))
        block, skip = block + 1, 0
