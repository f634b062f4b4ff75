"""The built-in prompt sets: the same each time, balanced, single tokens, and such that models answer them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.text.prompt_files import problems_of
from engine.text.prompts import BUILT_IN, open_prompts
from engine.text.stories import (
    ANIMALS,
    BRANCHES,
    COLOURS,
    COUNT,
    DAYS,
    MOODS,
    NAMES,
    OBJECTS,
    PLACES,
    VOCABULARY,
    Story,
    from_code,
)

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.text.prompt_sets import PromptRow, PromptSet

SIZES = {
    "sentiment": 84,
    "gender": 120,
    "digits": 62,
    "days": 42,
    "story-sentiment": 120,
    "story-gender": 60,
    "story-objects": 180,
}
ENGLISH = ("sentiment", "gender", "digits", "days")
STORIES = ("story-sentiment", "story-gender")
DRAWN = {
    "DAY": ("day", DAYS),
    "NAME": ("name", NAMES),
    "PLACE": ("place", PLACES),
    "COLOUR": ("colour", COLOURS),
    "OBJECT": ("object", OBJECTS),
}


def test_all_sets_are_there_in_their_sizes() -> None:
    assert {name: len(open_prompts(name).rows) for name in BUILT_IN} == SIZES


@pytest.mark.parametrize("name", [*SIZES, "sums#11"])
def test_rows_are_pairs_that_differ_and_say_where_they_come_from(name: str) -> None:
    prompts = open_prompts(name)
    assert prompts == open_prompts(name)
    assert prompts.reference == name
    assert prompts.note.endswith(".")
    assert not any(problems_of(row) for row in prompts.rows)
    assert all(set(row.factors) == set(prompts.factors) for row in prompts.rows)
    assert len({(row.prompt, row.positive, row.negative) for row in prompts.rows}) == len(prompts.rows)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("sentiment", ["subject", "words"]),
        ("gender", ["stereotype", "person"]),
        ("days", ["day"]),
        ("story-sentiment", ["name"]),
    ],
)
def test_factors_are_balanced_over_templates(name: str, factors: list[str]) -> None:
    rows = open_prompts(name).rows
    for factor in factors:
        for template in {row.factors["template"] for row in rows}:
            counts = Counter(row.factors[factor] for row in rows if row.factors["template"] == template)
            assert len(set(counts.values())) == 1, (factor, template, counts)


@pytest.mark.parametrize("name", ["days", "digits", "sums#7"])
def test_the_label_is_the_positive_and_the_negative_is_another_class(name: str) -> None:
    prompts = open_prompts(name)
    for row in prompts.rows:
        assert row.label == row.positive.strip()
        assert row.negative.strip() in prompts.classes
        assert row.label not in row.negative
    assert prompts.cyclic == (name != "digits")
    assert prompts.classes[0] in ("Monday", "0")


def test_objects_are_stories_that_differ_in_the_object_alone() -> None:
    prompts = open_prompts("story-objects")
    assert prompts.classes == OBJECTS
    for row in prompts.rows:
        assert row.label == row.positive.strip() != row.negative.strip()
        assert _grammatical((row.prompt + row.positive + row.suffix).split())
        assert not _grammatical((row.prompt + row.negative).split())
    by_story: dict[str, set[str]] = {}
    for row in prompts.rows:
        by_story.setdefault(row.factors["story"], set()).add(row.prompt.replace(f" {row.label} ", " … "))
    assert len(by_story) == 30
    assert all(len(told) == 1 for told in by_story.values())


def test_sums_are_all_pairs_in_order() -> None:
    prompts = open_prompts("sums#7")
    for number, row in enumerate(prompts.rows):
        a, b = divmod(number, 7)
        assert (row.prompt, int(row.label)) == (f"{a} {b} =", (a + b) % 7)
    assert len(open_prompts("sums").rows) == 53**2


@pytest.mark.parametrize("name", STORIES)
def test_open_prompts_continue_to_beginnings_of_stories_with_either_completion(name: str) -> None:
    """Templates that leave a draw open: prompt, completion and suffix begin some story of the grammar, word by word."""
    open_rows = [row for row in open_prompts(name).rows if "open" in (row.factors.get("mood"), row.factors["name"])]
    assert len(open_rows) in (20, 40)
    for row in open_rows:
        assert row.positive.strip() in VOCABULARY
        for completion in (row.positive, row.negative):
            words = (row.prompt + completion + row.suffix).split()
            assert _grammatical(words), words


@pytest.mark.parametrize("name", STORIES)
def test_the_completion_that_the_prompt_asks_for_is_grammatical_and_the_other_is_not(name: str) -> None:
    for row in open_prompts(name).rows:
        asked = row.factors.get("mood", row.factors["name"])
        if asked == "open" or row.factors["template"] in ("mood", "name"):
            continue
        first = asked in ("glad", "she")
        right, wrong = (row.positive, row.negative) if first else (row.negative, row.positive)
        assert _grammatical((row.prompt + right).split())
        assert not _grammatical((row.prompt + wrong).split())


def _grammatical(words: list[str]) -> bool:
    """Whether some story of the grammar begins so: read its choices off the words, tell the story, and compare."""
    for branch in range(len(BRANCHES)):
        found = dict.fromkeys(from_code(0).choices, 0) | {"branch": branch}
        slots = Story(found).slots
        for slot, word in zip(slots, words, strict=False):
            if slot in DRAWN:
                name, values = DRAWN[slot]
                found[name] = values.index(word) if word in values else -1
            elif slot == "MOOD":
                found["sentiment"] = next((i for i, pair in enumerate(MOODS) if word in pair), -1)
                found["mood"] = MOODS[found["sentiment"]].index(word) if found["sentiment"] >= 0 else -1
            elif slot == "ANIMAL":
                kinds = ANIMALS[found["place"]]
                found["animal"] = kinds.index(word) if word in kinds else -1
            if min(found.values()) < 0:
                break
        if min(found.values()) >= 0 and list(Story(found).words[: len(words)]) == words:
            return True
    return False


def test_the_check_of_the_grammar_takes_stories_and_nothing_else() -> None:
    words = list(from_code(123_456 % COUNT).words)
    assert all(_grammatical(words[:length]) for length in range(len(words) + 1))
    for place in range(len(words)):
        assert not _grammatical([*words[:place], "<start>", *words[place + 1 :]])


@pytest.mark.parametrize("name", STORIES)
def test_the_demo_model_answers_as_the_grammar_does(name: str) -> None:
    from engine.models.opening import open_model

    model = open_model("demo", device="cpu")
    prompts = open_prompts(name)
    assert not any(model.tokenizer.unk_token_id in _whole(model, row) for row in prompts.rows)
    margins, mass = _margins(model, prompts)
    asked = np.array([row.factors.get("mood", row.factors["name"]) for row in prompts.rows])
    template = np.array([row.factors["template"] for row in prompts.rows])
    is_open = (asked == "open") | (template == "name")
    assert np.abs(margins[is_open]).mean() < 0.2  # either is as likely in the grammar
    assert margins[~is_open & np.isin(asked, ["glad", "she"])].min() > 3
    assert margins[~is_open & np.isin(asked, ["sad", "he"])].max() < -3
    assert mass[template == "voice"].min() > 0.98 if name == "story-sentiment" else mass.min() > 0.15


@pytest.mark.parametrize("name", ENGLISH)
def test_every_completion_is_one_token_of_smollm2_behind_the_prompt(smollm2: OpenModel, name: str) -> None:
    for row in open_prompts(name).rows:
        prompt = smollm2.encode(row.prompt)
        for completion in (row.positive, row.negative):
            whole = smollm2.encode(row.prompt + completion)
            assert whole[:-1] == prompt, row
        assert row.suffix  # activations are not read on the answer


@pytest.mark.parametrize(("name", "least"), [("digits", 0.9), ("days", 0.75)])
def test_smollm2_gives_the_right_answers(smollm2: OpenModel, name: str, least: float) -> None:
    prompts = _some(name, 2)
    wanted = np.array([_first(smollm2, row, row.positive) for row in prompts.rows])
    assert np.mean(_scores(smollm2, prompts).argmax(1) == wanted) >= least


def test_smollm2_prefers_the_pronoun_that_a_name_asks_for(smollm2: OpenModel) -> None:
    prompts = _some("gender", 3)
    margins, _ = _margins(smollm2, prompts)
    stereotype = np.array([row.factors["stereotype"] for row in prompts.rows])
    she, he, either = (margins[stereotype == kind].mean() for kind in ("she", "he", "open"))
    assert she > either > he
    assert he < -0.5


def _some(name: str, every: int) -> PromptSet:
    """Every so many-th row: the whole set takes a real model half a minute."""
    prompts = open_prompts(name)
    return replace(prompts, rows=prompts.rows[::every])


def _whole(model: OpenModel, row: PromptRow) -> list[int]:
    return model.encode(row.prompt + row.positive + row.suffix) + model.encode(row.negative)


def _scores(model: OpenModel, prompts: PromptSet) -> np.ndarray:
    """Log-probabilities of what comes behind each prompt, (rows, vocabulary). Padding at the right changes nothing."""
    import torch

    from engine.models.editing import edited_logits

    ids = [model.encode(row.prompt) for row in prompts.rows]
    padded = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)] = torch.tensor(tokens)
    found = []
    for part, lengths in zip(padded.split(32), torch.tensor([len(tokens) for tokens in ids]).split(32), strict=True):
        logits = edited_logits(model, part, [])
        found.append(torch.log_softmax(logits[torch.arange(len(part)), lengths - 1].double(), -1))
    return torch.cat(found).numpy()


def _margins(model: OpenModel, prompts: PromptSet) -> tuple[np.ndarray, np.ndarray]:
    """log p(positive) - log p(negative) of the first tokens, and their probability together, (rows,) each."""
    scores = _scores(model, prompts)
    tokens = np.array([[_first(model, row, text) for text in (row.positive, row.negative)] for row in prompts.rows])
    found = np.take_along_axis(scores, tokens, axis=1)
    return found[:, 0] - found[:, 1], np.exp(found).sum(1)


def _first(model: OpenModel, row: PromptRow, completion: str) -> int:
    """The first token of a completion behind its prompt."""
    return model.encode(row.prompt + completion)[len(model.encode(row.prompt))]
