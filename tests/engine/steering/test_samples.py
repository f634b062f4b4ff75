"""What a sweep asks: completions of pairs, answers of classes, controls that keep to their rows."""

from __future__ import annotations

import numpy as np
import pytest

from engine.steering.errors import SteeringError
from engine.steering.samples import choose, class_answers, following, shuffled, subset, swapped, values_of
from engine.text.prompt_sets import PromptRow, PromptSet

PAIRS = PromptSet(
    "Pairs",
    "pairs",
    tuple(
        PromptRow(f"p{n}", f" good{n}", f" bad{n}", factors={"template": "ab"[n % 2], "name": str(n)})
        for n in range(12)
    ),
)
DAYS = ("Monday", "Tuesday", "Wednesday")
LABELS = PromptSet(
    "Days",
    "days",
    tuple(PromptRow(f"q{n}", f" {DAYS[n % 3]}", f" {DAYS[(n + 1) % 3]}", label=DAYS[n % 3]) for n in range(9)),
    classes=DAYS,
    cyclic=True,
)


def test_pairs_are_asked_with_their_own_completions_in_the_order_of_the_set():
    found = choose(PAIRS, range(12), factors=["template"], most=5, random=np.random.default_rng(0))
    assert len(found) == 5
    assert list(found.rows) == sorted(set(found.rows))
    for row, prompt, answers, template in zip(
        found.rows, found.prompts, found.answers, found.factors["template"], strict=True
    ):
        assert (prompt, answers, template) == (f"p{row}", (f" good{row}", f" bad{row}"), "ab"[row % 2])


def test_a_label_is_moved_to_the_next_class_or_to_the_one_named():
    random = np.random.default_rng(0)
    found = choose(LABELS, range(9), factors=[], most=99, random=random, targeted=True)
    assert found.answers[0] == (" Tuesday", " Monday", " Wednesday")
    assert found.answers[2] == (" Monday", " Wednesday", " Tuesday")
    named = choose(LABELS, range(9), factors=[], most=99, random=random, targeted=True, target="Tuesday")
    assert named.rows == (0, 2, 3, 5, 6, 8)  # those that are there already have nowhere to go
    assert {answers[0] for answers in named.answers} == {" Tuesday"}


def test_behind_the_last_class_of_a_line_nothing_follows():
    line = PromptSet("Line", "line", LABELS.rows, DAYS, cyclic=False)
    assert [following(line, day) for day in (*DAYS, "")] == ["Tuesday", "Wednesday", "", ""]
    assert [following(LABELS, day) for day in DAYS] == ["Tuesday", "Wednesday", "Monday"]
    assert class_answers(LABELS) == {day: f" {day}" for day in DAYS}


def test_swapped_completions_change_nothing_else_and_rows_of_one_text_stay_alike():
    twice = PromptSet("Twice", "twice", (*PAIRS.rows, *PAIRS.rows))
    found = swapped(twice, np.random.default_rng(1))
    swaps = [row.positive.startswith(" bad") for row in found.rows]
    assert swaps[:12] == swaps[12:]
    assert 0 < sum(swaps[:12]) < 12
    for before, after in zip(twice.rows, found.rows, strict=True):
        assert {before.positive, before.negative} == {after.positive, after.negative}
        assert (before.prompt, before.factors) == (after.prompt, after.factors)


def test_shuffled_labels_are_those_of_the_rows_that_were_given():
    found = shuffled(LABELS, (0, 1, 3, 4, 6, 7), np.random.default_rng(0))
    assert [row.prompt for row in found.rows] == ["q0", "q1", "q3", "q4", "q6", "q7"]
    assert sorted(row.label for row in found.rows) == ["Monday"] * 3 + ["Tuesday"] * 3
    assert [row.label for row in found.rows] != ["Monday", "Tuesday"] * 3


def test_a_subset_knows_its_rows_in_the_whole():
    found, numbers = subset(PAIRS, "template", ["b"], "Half")
    assert numbers == (1, 3, 5, 7, 9, 11)
    assert [row.prompt for row in found.rows] == [f"p{n}" for n in numbers]
    assert values_of(PAIRS, "template") == ("a", "b")


def test_what_cannot_be_asked_is_refused():
    random = np.random.default_rng(0)
    with pytest.raises(SteeringError, match="3 held-out rows"):
        choose(PAIRS, range(3), factors=[], most=9, random=random)
    with pytest.raises(SteeringError, match="no factor “mood”; declare one of template, name"):
        choose(PAIRS, range(9), factors=["mood"], most=9, random=random)
    with pytest.raises(SteeringError, match="“Sunday” is no label"):
        choose(LABELS, range(9), factors=[], most=9, random=random, targeted=True, target="Sunday")
    with pytest.raises(SteeringError, match="no two labels"):
        choose(PAIRS, range(9), factors=[], most=9, random=random, targeted=True)
