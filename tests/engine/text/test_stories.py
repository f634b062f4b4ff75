"""The story grammar, against an independent reading of it and against brute force over all its stories."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from engine.text import stories

# The grammar as a reader would write it down, independent of how the generator fills its slots.
SHAPE = re.compile(
    r"one (?P<day>\w+) (?P<name>\w+) went to the (?P<place>\w+) \. (?P<pron>she|he) felt (?P<mood>\w+) \. "
    r"(?P=name) saw a (?P<animal>\w+) with a (?P<colour>\w+) (?P<object>\w+) \. "
    r"(?:the (?P=animal) wanted the|(?P<took>(?P=pron) took the)) (?P=colour) (?P=object) \. "
    r"at the (?P=place) the (?P=animal) (?P<voice>sang|wept) and (?P=name) went home (?P<face>smiling|crying) \."
)


def take(count: int, seed: int = 0) -> list[stories.Story]:
    return list(itertools.islice(stories.generate(seed), count))


def test_the_vocabulary_has_67_words_with_start_and_end() -> None:
    assert len(stories.VOCABULARY) == len(set(stories.VOCABULARY)) == 67
    assert stories.VOCABULARY[:2] == ("<start>", "<end>")
    used = {word for story in take(5000) for word in story.words}
    assert used == set(stories.VOCABULARY[2:])


def test_every_story_follows_the_grammar_and_agrees_with_itself() -> None:
    partners: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for story in take(5000):
        found = SHAPE.fullmatch(story.text)
        assert found, story.text
        assert len(story.words) == (39 if found["took"] else 40)
        assert (found["voice"], found["face"]) in {("sang", "smiling"), ("wept", "crying")}
        partners[found["name"]].add(found["pron"])
        partners[found["mood"]].add(found["voice"])
        partners[found["animal"]].add(found["place"])
        for part in ("day", "name", "place", "mood", "colour", "object"):
            counts[part][found[part]] += 1
        counts["took"][str(bool(found["took"]))] += 1
        counts[found["place"]][found["animal"]] += 1
    assert all(len(values) == 1 for values in partners.values())
    assert {part: len(values) for part, values in counts.items() if part in ("day", "name", "place", "mood")} == {
        "day": 5,
        "name": 10,
        "place": 4,
        "mood": 4,
    }
    genders = Counter(next(iter(partners[name])) for name in counts["name"])
    assert genders == {"she": 5, "he": 5}
    # Five standard errors of a share over 5,000 stories (1,250 a place).
    assert counts["took"]["True"] / 5000 == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 5000))
    for place in counts["place"]:
        shares = [count / counts[place].total() for _, count in counts[place].most_common()]
        assert shares == pytest.approx([0.6, 0.3, 0.1], abs=5 * math.sqrt(0.24 / 1100))


def test_the_floor_is_the_entropy_of_all_stories_over_their_length() -> None:
    total = entropy = length = 0.0
    texts = set()
    for code in range(stories.COUNT):
        story = stories.from_code(code)
        logarithm = float(story.log_probabilities.sum())
        probability = math.exp(logarithm)
        total += probability
        entropy -= probability * logarithm
        length += probability * (len(story.words) + 1)
        texts.add(story.words)
    assert len(texts) == stories.COUNT == 115_200
    assert total == pytest.approx(1.0, abs=1e-9)
    assert stories.floor() == pytest.approx(entropy / length, abs=1e-9)
    # The grammar's tabulated value; it was measured on 1,000 stories, whose standard error is .0005.
    assert stories.floor() == pytest.approx(0.2797, abs=0.001)


def test_each_slot_s_floor_is_its_entropy_given_the_words_before_it() -> None:
    continuations: dict[str, dict[tuple[str, ...], dict[str, float]]] = defaultdict(lambda: defaultdict(Counter))
    for code in range(stories.COUNT):
        story = stories.from_code(code)
        # Days multiply the prefixes and change nothing: the first stands for all.
        if story.choices["day"]:
            continue
        probability = math.exp(float(story.log_probabilities.sum())) * len(stories.DAYS)
        for position, slot in enumerate(story.slots):
            word = (*story.words, "<end>")[position]
            continuations[slot][story.words[:position]][word] += probability
    floors = stories.slot_floors()
    for slot, by_prefix in continuations.items():
        if slot == "DAY":
            continue
        entropy = mass = 0.0
        for words in by_prefix.values():
            whole = sum(words.values())
            mass += whole
            entropy -= sum(p * math.log(p / whole) for p in words.values())
        assert floors[slot] == pytest.approx(entropy / mass, abs=1e-9), slot
        assert stories.slot_frequency()[slot] == pytest.approx(mass, abs=1e-9), slot
    assert floors["DAY"] == pytest.approx(math.log(5))
    copies = {"NAME2", "NAME3", "PLACE2", "ANIMAL2", "ANIMAL3", "COLOUR2", "OBJECT2", "PRONOUN", "VOICE", "FACE", "END"}
    assert all(floors[slot] == 0 for slot in copies)


def test_sampled_log_probabilities_average_to_the_floor() -> None:
    sample = take(20_000, seed=3)
    nats = np.array([-story.log_probabilities.sum() for story in sample])
    lengths = np.array([len(story.slots) for story in sample])
    error = nats.std() / math.sqrt(len(sample)) / lengths.mean()
    assert nats.sum() / lengths.sum() == pytest.approx(stories.floor(), abs=4 * error)


def test_latents_name_what_the_words_say_from_where_they_say_it() -> None:
    for story in take(300, seed=5):
        words = (*story.words, "<end>")
        latents = story.latents
        assert set(latents) == {"name", "gender", "place", "sentiment", "animal", "colour", "object", "branch", "slot"}
        for name in ("name", "place", "animal", "colour", "object"):
            known = latents[name] >= 0
            value = stories.LATENTS[name][latents[name][-1]]
            assert words.index(value) == int(np.argmax(known)), name
            assert known[int(np.argmax(known)) :].all()
        assert stories.LATENTS["gender"][latents["gender"][-1]] == words[8]
        assert stories.LATENTS["branch"][latents["branch"][-1]] in words
        assert (stories.LATENTS["sentiment"][latents["sentiment"][-1]] == "glad") == ("smiling" in words)
        assert [stories.SLOTS[slot] for slot in latents["slot"]] == list(story.slots)


def test_the_same_seed_gives_the_same_stories_from_any_start() -> None:
    whole = [story.text for story in take(3000, seed=11)]
    assert whole[1500:] == [story.text for story in itertools.islice(stories.generate(11, 1500), 1500)]
    assert whole != [story.text for story in take(3000, seed=12)]
    assert whole != [story.text for story in itertools.islice(stories.generate(11, stream=1), 3000)]


def test_a_code_names_its_story() -> None:
    for story in take(200, seed=2):
        assert stories.from_code(story.code) == story


def test_the_window_may_import_stories_without_torch() -> None:
    code = "import sys, engine.text.stories, engine.text.references; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
