"""Rules of stories that a person can read, each a step from one prediction of the next word to a better one.

A prediction is a table of probabilities (tokens, words). All rules see the words before a token and nothing else;
their counts come from training stories. No rule makes a word impossible: each is mixed with what was predicted
before it, so that a mistake costs what its reliability says.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.text import stories
from engine.text.stories import SLOTS, WORD_IDS, Story
from engine.toys.stories.ngrams import interpolated

Array: TypeAlias = npt.NDArray[Any]
RuleName: TypeAlias = Literal[
    "sentence", "skip", "induction", "gender", "sentiment", "place-animal", "name-copy", "place-copy",
    "animal-copy", "colour-copy", "slip",
]  # fmt: skip
RELIABLE = 0.8  # of induction by the previous word, from which on it is used
LEAST = 10  # times that a skip context has to have been seen
SLIP = 0.002  # share of the 1-gram that is mixed in at the end
NONE = -1
TINY = 1e-30  # below every probability that is not 0


@dataclass(frozen=True)
class Texts:
    """Stories as arrays.

    Attributes:
        ids: (stories, longest) word ids with the end, padded with `NONE`.
        slots: (stories, longest) their grammar positions, padded likewise.
    """

    stories: Sequence[Story]
    ids: Array
    slots: Array

    @classmethod
    def of(cls, found: Sequence[Story]) -> Texts:
        """The arrays of ``found``."""
        longest = max(len(story.slots) for story in found)
        ids, slots = np.full((2, len(found), longest), NONE)
        for number, story in enumerate(found):
            ids[number, : len(story.slots)] = story.ids
            slots[number, : len(story.slots)] = [SLOTS.index(slot) for slot in story.slots]
        return cls(found, ids, slots)

    @property
    def there(self) -> Array:
        """(stories, longest) bool: what is no padding. Indexing with it gives tokens, one story after another."""
        found: Array = self.ids != NONE
        return found

    @property
    def story(self) -> Array:
        """The number of each token's story: (tokens,)."""
        return np.repeat(np.arange(len(self.ids)), self.there.sum(axis=1))

    def words(self) -> list[list[int]]:
        """The ids as `engine.toys.stories.ngrams` takes them."""
        return [story.ids for story in self.stories]

    def before(self, back: int) -> Array:
        """(stories, longest): the word ``back`` places before each, ``<start>`` where there is none."""
        found = np.full(self.ids.shape, WORD_IDS[stories.START])
        found[:, back:] = self.ids[:, :-back]
        return np.where(found == NONE, WORD_IDS[stories.END], found)

    def present(self, words: int) -> Iterator[tuple[int, Array]]:
        """At each place the words that stand before it: (stories, words) bool. It is changed after each."""
        seen = np.zeros((len(self.ids), words), bool)
        for place in range(self.ids.shape[1]):
            yield place, seen
            here = np.flatnonzero(self.ids[:, place] != NONE)
            seen[here, self.ids[here, place]] = True


class Rule:
    """One rule: `fit` counts, `apply` gives the prediction with it from the one without it.

    Attributes:
        name: of the rule.
        sentence: what it says, for people.
    """

    name: RuleName
    sentence: str

    @abstractmethod
    def fit(self, texts: Texts, words: int) -> None:
        """Count in training stories."""

    @abstractmethod
    def apply(self, now: Array, texts: Texts) -> Array:
        """(tokens, words) probabilities with the rule."""


class Sentence(Rule):
    """The next word from the last two and the number of full stops so far: where in the story one is."""

    name: RuleName = "sentence"
    sentence = "The last two words and the number of full stops so far decide the next"

    @staticmethod
    def _keys(texts: Texts, words: int) -> Array:
        stops = np.cumsum(texts.ids == WORD_IDS["."], axis=1) - (texts.ids == WORD_IDS["."])
        found: Array = ((stops * words + texts.before(2)) * words + texts.before(1))[texts.there]
        return found

    def fit(self, texts: Texts, words: int) -> None:
        self._words = words
        self._known, rows = np.unique(self._keys(texts, words), return_inverse=True)
        counts = np.bincount(rows * words + texts.ids[texts.there], minlength=len(self._known) * words)
        self._counts = counts.reshape(-1, words).astype(np.float32)

    def apply(self, now: Array, texts: Texts) -> Array:
        keys = self._keys(texts, self._words)
        rows = np.minimum(np.searchsorted(self._known, keys), len(self._known) - 1)
        seen = np.flatnonzero(self._known[rows] == keys)
        found = now.copy()
        found[seen] = interpolated(self._counts[rows[seen]], now[seen])
        return found


class Skip(Rule):
    """The next word from the last two and the one word of the story so far that leaves the least doubt.

    For each token all words before it are tried as context; the one whose table (last two words, context) has the
    lowest entropy is used, if it was seen `LEAST` times and leaves less doubt than the prediction without it, with
    which it is interpolated.
    """

    name: RuleName = "skip"
    sentence = "The last two words and the one earlier word that leaves the least doubt decide the next"

    def fit(self, texts: Texts, words: int) -> None:
        self._words = words
        last = texts.before(2) * words + texts.before(1)
        keys, targets = [], []
        for place, seen in texts.present(words):
            rows, context = np.nonzero(seen & (texts.ids[:, place] != NONE)[:, None])
            keys.append(last[rows, place] * words + context)
            targets.append(texts.ids[rows, place])
        known, index = np.unique(np.concatenate(keys), return_inverse=True)
        pairs = np.bincount(index * words + np.concatenate(targets), minlength=len(known) * words)
        self._counts = pairs.reshape(-1, words).astype(np.float32)
        total = self._counts.sum(axis=1, keepdims=True)
        share = self._counts / total
        entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=1)
        self._rows = np.full(words**3, len(known))
        self._rows[known] = np.arange(len(known))
        self._entropy = np.append(np.where(total[:, 0] >= LEAST, entropy, np.inf), np.inf)

    def apply(self, now: Array, texts: Texts) -> Array:
        words = self._words
        last = texts.before(2) * words + texts.before(1)
        chosen = np.full(texts.ids.shape, len(self._counts))
        before = np.full(texts.ids.shape, np.inf)
        before[texts.there] = -(now * np.log(np.maximum(now, TINY))).sum(axis=1)
        for place, seen in texts.present(words):
            rows = self._rows[last[:, place, None] * words + np.arange(words)]
            doubt = np.where(seen, self._entropy[rows], np.inf)
            best = doubt.argmin(axis=1)[:, None]
            certain = np.take_along_axis(doubt, best, axis=1) < before[:, [place]]
            chosen[:, place] = np.where(certain, np.take_along_axis(rows, best, axis=1), len(self._counts))[:, 0]
        row = chosen[texts.there]
        used = np.flatnonzero(row < len(self._counts))
        found = now.copy()
        found[used] = interpolated(self._counts[row[used]], now[used])
        return found


class Induction(Rule):
    """What followed the last word when it stood there before, follows again; only behind words where that holds.

    The weight is the rule's reliability behind that word in training stories, and it is used above `RELIABLE` only.
    """

    name: RuleName = "induction"
    sentence = "What followed the last word earlier in the story follows again, where that is reliable"

    def fit(self, texts: Texts, words: int) -> None:
        said, before = self._said(texts, words), texts.before(1)
        tried = (said != NONE) & texts.there
        hits = np.bincount(before[tried & (said == texts.ids)], minlength=words)
        self._words = words
        self._weight = hits / np.maximum(np.bincount(before[tried], minlength=words) + 1, 1)  # one miss added
        self._weight[self._weight <= RELIABLE] = 0.0

    @staticmethod
    def _said(texts: Texts, words: int) -> Array:
        """The word that followed the previous one's last earlier place: (stories, longest), `NONE` for none."""
        follows = np.full((len(texts.ids), words), NONE)
        said, every = np.full(texts.ids.shape, NONE), np.arange(len(texts.ids))
        for place in range(1, texts.ids.shape[1]):
            last = texts.ids[:, place - 1]
            said[:, place] = np.where(last != NONE, follows[every, last], NONE)
            follows[every[last != NONE], last[last != NONE]] = texts.ids[last != NONE, place]
        return said

    def apply(self, now: Array, texts: Texts) -> Array:
        said = self._said(texts, self._words)[texts.there]
        weight = np.where(said != NONE, self._weight[texts.before(1)[texts.there]], 0.0).astype(now.dtype)
        found: Array = now * (1 - weight[:, None])
        found[np.arange(len(found)), said] += weight
        return found


class Agreement(Rule):
    """The latest word of one class decides among the words of another, or of its own (copying).

    Only how a class's probability is shared out among its words changes, never that of the class. The shares are
    counts behind each cue, interpolated with the shares before the rule. With ``first`` the rule is silent from the
    first word of its classes on.
    """

    def __init__(
        self, name: RuleName, sentence: str, cues: Sequence[str], *classes: Sequence[str], first: bool = False
    ) -> None:
        self.name, self.sentence, self._first = name, sentence, first
        self._cues = np.array([WORD_IDS[word] for word in cues])
        self._classes = [np.array([WORD_IDS[word] for word in one]) for one in classes]
        self._counts: list[Array] = []

    def _cue(self, texts: Texts) -> Array:
        """Number of the latest cue before each token, `NONE` where there is none: (tokens,)."""
        number = np.full(max(WORD_IDS.values()) + 1, NONE)
        number[self._cues] = np.arange(len(self._cues))
        now, found = np.full(len(texts.ids), NONE), np.full(texts.ids.shape, NONE)
        for place in range(texts.ids.shape[1]):
            found[:, place] = now
            here = np.where(texts.ids[:, place] != NONE, number[texts.ids[:, place]], NONE)
            now = np.where(here != NONE, here, now)
        if self._first:
            ours = np.isin(texts.ids, np.concatenate(self._classes))
            found[np.cumsum(ours, axis=1) - ours > 0] = NONE
        numbers: Array = found[texts.there]
        return numbers

    def fit(self, texts: Texts, words: int) -> None:
        cue, target = self._cue(texts), texts.ids[texts.there]
        self._counts = []
        for one in self._classes:
            counts = np.zeros((len(self._cues), len(one)), np.float32)
            for column, word in enumerate(one):
                here = cue[(target == word) & (cue != NONE)]
                counts[:, column] = np.bincount(here, minlength=len(self._cues))
            self._counts.append(counts)

    def apply(self, now: Array, texts: Texts) -> Array:
        cue = self._cue(texts)
        rows = np.flatnonzero(cue != NONE)
        found = now.copy()
        for one, counts in zip(self._classes, self._counts, strict=True):
            before = now[rows[:, None], one]
            mass = before.sum(axis=1, keepdims=True)
            found[rows[:, None], one] = mass * interpolated(counts[cue[rows]], before / mass)
        return found


class Slip(Rule):
    """A small share of the 1-gram: a trained model is never quite sure, and KL(model‖H) punishes an H that is."""

    name: RuleName = "slip"
    sentence = f"Any word may slip in: {SLIP:.1%} of the 1-gram"

    def fit(self, texts: Texts, words: int) -> None:
        counts = np.bincount(texts.ids[texts.there], minlength=words) + 1.0
        self._share = (counts / counts.sum()).astype(np.float32)

    def apply(self, now: Array, texts: Texts) -> Array:
        found: Array = (1 - SLIP) * now + SLIP * self._share
        return found


def library() -> list[Rule]:
    """All rules, in the order in which they are applied."""
    animals = tuple(animal for kinds in stories.ANIMALS for animal in kinds)
    moods = tuple(word for pair in stories.MOODS for word in pair)
    return [
        Sentence(),
        Skip(),
        Induction(),
        Agreement("gender", "She or he agrees with the name", stories.NAMES, stories.GENDERS),
        Agreement(
            "sentiment", "Sang or wept, smiling or crying agree with the mood", moods, stories.VOICES, stories.FACES
        ),
        Agreement(
            "place-animal", "Each place has its animals, some oftener than others", stories.PLACES, animals, first=True
        ),
        Agreement("name-copy", "The name is the one named before", stories.NAMES, stories.NAMES),
        Agreement("place-copy", "The place is the one named before", stories.PLACES, stories.PLACES),
        Agreement("animal-copy", "The animal is the one seen before", animals, animals),
        Agreement("colour-copy", "The colour is the one seen before", stories.COLOURS, stories.COLOURS),
        Slip(),
    ]


def predicted(base: Array, rules: Sequence[Rule], texts: Texts) -> Array:
    """The prediction of ``base`` with ``rules`` on it, in their order: (tokens, words)."""
    for rule in rules:
        base = rule.apply(base, texts)
    return base
