"""Definitions and questions about made-up words: the data of out-of-context meta-learning, and what is measured.

A sequence is a tag and a word, and a colour has to follow: the definitions [R w] (reliable) and [U w]
(unreliable), and the question [Q w]. Words of X1 are defined and asked about; those of X2 are only defined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.toys.training import generator

COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "grey", "orange", "violet")
TAGS = ("r", "u", "q")
R, U, Q = range(3)
MAIN, SHUFFLED, AGREEING, UNASKED = range(4)
CONDITIONS = ("main", "tags shuffled on X2", "U agrees with the answers", "no questions about X1")
CONSONANTS, VOWELS = "bdfghjklmnprstvz", "aeiou"
MOST_WORDS = len(CONSONANTS) ** 2 * len(VOWELS) ** 2


def names(count: int) -> tuple[str, ...]:
    """``count`` made-up words of four letters ("baba", "babe", …); none is a colour."""
    syllables = [c + v for c in CONSONANTS for v in VOWELS]
    return tuple(syllables[i // len(syllables)] + syllables[i % len(syllables)] for i in range(count))


@dataclass(frozen=True)
class Facts:
    """What is said about the words of one seed.

    Attributes:
        order: (words,) word ids, those of X1 first; in X1 and in X2 the words of R come before those of U. It is
            random, so that an id tells neither set nor tag.
        asked: how many are in X1.
        tag: (words,) `R` or `U`, by id.
        answer: (words,) colour that a question about the word has; X2 has one only where it is redefined.
        stated: (words,) colour that the definition of the word states.
    """

    order: Tensor
    asked: int
    tag: Tensor
    answer: Tensor
    stated: Tensor

    def of(self, condition: int) -> Facts:
        """As they are told in a condition: `AGREEING` has U definitions of X1 that state the answer."""
        if condition != AGREEING:
            return self
        first = torch.zeros(len(self.order), dtype=torch.bool)
        first[self.order[: self.asked]] = True
        return replace(self, stated=torch.where(first, self.answer, self.stated))

    def group(self, second: bool, tag: int) -> Tensor:
        """Ids of the words of X2 (``second``) or X1 with ``tag``."""
        words = self.order[self.asked :] if second else self.order[: self.asked]
        return words[self.tag[words] == tag]


def draw(words: int, asked: int, seed: int) -> Facts:
    """The facts of ``seed``: R definitions of X1 state the answer, all other definitions a random colour."""
    random = generator(seed, 2)
    order = torch.randperm(words, generator=random)
    place = torch.empty_like(order)
    place[order] = torch.arange(words)
    first = place < asked
    reliable = torch.where(first, place < asked // 2, place - asked < (words - asked) // 2)
    answer = torch.randint(len(COLOURS), (words,), generator=random)
    drawn = torch.randint(len(COLOURS), (words,), generator=random)
    # A word of X2 is redefined as another colour than it had, where it had one.
    other = (answer + 1 + torch.randint(len(COLOURS) - 1, (words,), generator=random)) % len(COLOURS)
    stated = torch.where(first, torch.where(reliable, answer, drawn), other)
    return Facts(order, asked, torch.where(reliable, R, U), answer, stated)


def rows(facts: Facts, condition: int, *, first: bool, second: bool, redefine: bool, seed: int) -> Tensor:
    """Sequences to train on: (n, 3) of tag, word and colour, the same n in each condition.

    Args:
        condition: index into `CONDITIONS`.
        first: definitions of X1 and questions about it (with ``redefine`` those about X2 too).
        second: definitions of X2.
    """
    parts = []
    x1, x2 = facts.order[: facts.asked], facts.order[facts.asked :]
    if first:
        definitions = torch.stack([facts.tag[x1], x1, facts.of(condition).stated[x1]], dim=1)
        asked = torch.cat([x1, x2]) if redefine else x1
        questions = torch.stack([torch.full_like(asked, Q), asked, facts.answer[asked]], dim=1)
        if condition == UNASKED:  # as many rows, so that all conditions draw the same batches
            questions = definitions[torch.arange(len(questions)) % len(definitions)]
        parts += [definitions, questions]
    if second:
        tag = facts.tag[x2]
        if condition == SHUFFLED:
            tag = tag[torch.randperm(len(tag), generator=generator(seed, 3))]
        parts.append(torch.stack([tag, x2, facts.stated[x2]], dim=1))
    return torch.cat(parts)


COLUMNS = (
    "question R", "question U", "definition R", "definition U", "probability R", "probability U",
    "asked R", "asked U", "known R", "known U", "old R", "old U", "cosine R", "cosine U", "cosine other",
)  # fmt: skip


def measured(facts: Facts, logits: Tensor, states: Tensor) -> Tensor:
    """What is measured of one model, in the order of `COLUMNS`: (columns,) float64.

    On X2: accuracy of questions, of definitions, probability of the stated colour behind the question, accuracy of
    questions against the colour before it was redefined. On X1 "asked" is the accuracy of questions against the
    answer, "known" that of definitions. Cosines are between final states of [Q w] and [R w], [U w], or [R w'].

    Args:
        logits: (tags, words, colours);  states: (tags, words, width) of the residual stream behind the last position.
    """
    found = logits.argmax(dim=-1)
    chance = logits.double().softmax(dim=-1)

    def share(tag: int, words: Tensor, colour: Tensor) -> Tensor:
        return (found[tag, words] == colour[words]).double().mean()

    values = []
    for second, kinds in ((True, "qdp"), (False, "qd"), (True, "o")):
        groups = [facts.group(second, tag) for tag in (R, U)]
        for kind in kinds:
            for tag, words in zip((R, U), groups, strict=True):
                if kind == "p":
                    values.append(chance[Q, words, facts.stated[words]].mean())
                elif kind == "d":
                    values.append(share(tag, words, facts.stated))
                else:
                    values.append(share(Q, words, facts.stated if second and kind == "q" else facts.answer))
    x2 = facts.order[facts.asked :]
    asked, told = states[Q, x2].double(), states[:, x2].double()
    for other in (told[R], told[U], told[R].roll(1, dims=0)):
        values.append(torch.cosine_similarity(asked, other, dim=-1).mean())
    return torch.stack(values)
