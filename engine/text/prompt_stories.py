"""The built-in sets in the words of the story grammar, for the demo model and the toys that learn it.

Each prompt is the beginning of a story as the grammar makes it (`engine.text.stories`); pairs in which both
completions are grammatical leave a draw open, the others ask for what follows from the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.text.prompt_sets import PromptRow
from engine.text.stories import (
    ANIMALS,
    BRANCHES,
    COLOURS,
    DAYS,
    FACES,
    GENDERS,
    MOODS,
    NAMES,
    OBJECTS,
    PLACES,
    SENTIMENTS,
    VOICES,
    Story,
)

_VARIANTS = 2  # stories with each name and template
_TOLD = 3  # stories with each name, told with every object


def sentiment() -> Iterator[PromptRow]:
    """Glad against sad: 120 pairs.

    Template mood: what is felt is open, and the suffix leads to where the voice is said. Templates voice and face:
    the mood stands in the prompt (factor mood: glad or sad), so that the stories ask for one of the completions.
    """
    for number in range(len(NAMES) * _VARIANTS):
        for mood, (good, bad) in enumerate(zip(*MOODS, strict=True)):
            story = _story(number, mood=mood)
            prompt, rest = _split(story, "MOOD")
            suffix = " ".join(rest[1 : _at(story, "VOICE") - len(prompt)])
            factors = _factors(story, template="mood", mood="open")
            yield PromptRow(" ".join(prompt), f" {good}", f" {bad}", f" {suffix}", factors=factors)
        for template, slot, (good, bad), following in (("voice", "VOICE", VOICES, 4), ("face", "FACE", FACES, 1)):
            for felt, feeling in enumerate(SENTIMENTS):
                story = _story(number, sentiment=felt)
                prompt, rest = _split(story, slot)
                factors = _factors(story, template=template, mood=feeling)
                suffix = " ".join(rest[1 : 1 + following])  # ends before the next word that shows the mood
                yield PromptRow(" ".join(prompt), f" {good}", f" {bad}", f" {suffix}", factors=factors)


def gender() -> Iterator[PromptRow]:
    """She against he: 60 pairs.

    Template name: the name is open, and the suffix leads to where the pronoun is said. Templates pronoun and branch:
    the name stands in the prompt (factor name), so that the stories ask for one of the pronouns.
    """
    half = len(NAMES) // 2
    for number in range(half * 4):
        story = _story(number, name=number % half)
        prompt, rest = _split(story, "NAME")
        other = NAMES[half + (number + number // half) % half]
        suffix = " ".join(rest[1 : _at(story, "PRONOUN") - len(prompt)])
        factors = _factors(story, template="name", name="open")
        yield PromptRow(" ".join(prompt), f" {rest[0]}", f" {other}", f" {suffix}", factors=factors)
    for template, slot, following in (("pronoun", "PRONOUN", 1), ("branch", "BRANCH", 5)):
        for number in range(len(NAMES) * _VARIANTS):
            story = _story(number, branch=BRANCHES.index("took"))
            prompt, rest = _split(story, slot)
            good, bad = GENDERS
            suffix = " ".join(rest[1 : 1 + following])
            factors = _factors(story, template=template, name=good if story.gender == 0 else bad)
            yield PromptRow(" ".join(prompt), f" {good}", f" {bad}", f" {suffix}", factors=factors)


def objects() -> Iterator[PromptRow]:
    """Which object was seen: 180 rows, 30 stories told with each of the six.

    The label is the object, which the prompt names once and which has to come again; rows of one story (factor story)
    differ in nothing else. Templates wanted and took are the two ways in which the story goes on.
    """
    for number in range(len(NAMES) * _TOLD):
        branch = (number + number // len(NAMES)) % len(BRANCHES)
        for thing, label in enumerate(OBJECTS):
            story = _story(number, branch=branch, object=thing)
            prompt, rest = _split(story, "OBJECT2")
            other = OBJECTS[(thing + 1) % len(OBJECTS)]
            factors = {"template": BRANCHES[branch], "place": PLACES[story.choices["place"]], "story": str(number + 1)}
            yield PromptRow(" ".join(prompt), f" {label}", f" {other}", f" {' '.join(rest[1:4])}", label, factors)


def _story(number: int, **chosen: int) -> Story:
    """Story ``number``: all draws but those ``chosen`` follow from it, in steps that share no period."""
    name = number % len(NAMES)
    turn = number // len(NAMES)
    drawn = {
        "day": number % len(DAYS) if turn == 0 else (2 * number + 1) % len(DAYS),
        "name": name,
        "place": (number + turn) % len(PLACES),
        "sentiment": 0,
        "mood": (number // 2) % 2,
        "animal": (number // 3) % len(ANIMALS[0]),
        "colour": (number + 2 * turn + number // 4) % len(COLOURS),
        "object": (number + turn) % len(OBJECTS),
        "branch": 0,
    }
    return Story(drawn | chosen)


def _at(story: Story, slot: str) -> int:
    return story.slots.index(slot)


def _split(story: Story, slot: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words before ``slot``, and those from it on."""
    place = _at(story, slot)
    return story.words[:place], story.words[place:]


def _factors(story: Story, **factors: str) -> dict[str, str]:
    place = PLACES[story.choices["place"]]
    pronoun = GENDERS[story.gender]
    return factors | ({"place": place} if factors.get("name") else {"name": pronoun, "place": place})
