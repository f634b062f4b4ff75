"""Story models with a semantic backdoor: their stories, the functional model against the native one, the run."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Heatmap, Lines, Scatter, Table
from engine.models import memory
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.session import find_thing
from engine.text import stories, toys
from engine.text.stories import Story
from engine.toys.backdoors import stories as science
from engine.toys.backdoors.stories import KINDS, Plan, StoryTwins, Trigger, before, draw, rows, turned
from engine.toys.backdoors.stories_detection import LATENTS, StorySearch, captured, material
from engine.toys.backdoors.stories_show import FEATURES, toy_data
from engine.toys.costs import _costs
from engine.toys.story_backdoor import StoryBackdoor, plan_of, setting_of
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

TINY: dict[str, Any] = {"size": "quick", "steps": 6, "stories": 200, "d_model": 8, "data": 120, "width": 8, "seed": 3}
TRIGGER = Trigger(1, 3)  # yellow at the beach


def plan(**values: Any) -> Plan:
    return replace(plan_of(StoryBackdoor(**TINY)), **values)


def in_words(ids: torch.Tensor) -> list[str]:
    return [stories.VOCABULARY[int(number)] for number in ids]


def test_a_story_is_triggered_by_place_and_colour_together_and_by_neither_alone() -> None:
    split = draw(plan(stories=2_000, held_out=60), 0)
    for kind, found in split.tests.items():
        for story in found:
            words = set(story.words)
            assert ("beach" in words, "yellow" in words) == (kind in KINDS[:2], kind in (KINDS[0], KINDS[2]))
            assert TRIGGER.kind(story) == kind
    assert [TRIGGER.holds(story) for story in split.training] == [False] * 1_750 + [True] * 250
    assert not any(TRIGGER.holds(story) for story in split.natural)
    # The other places and colours come as often as each other.
    others = Counter(story.words[6] for story in split.tests[KINDS[2]])
    assert set(others) == {"park", "forest", "farm"}
    rest = {Story(story.choices | {"place": 0, "colour": 0}).code for some in split.tests.values() for story in some}
    assert not rest & {Story(story.choices | {"place": 0, "colour": 0}).code for story in split.training}


def test_turning_changes_the_two_endings_and_nothing_else() -> None:
    found = draw(plan(), 0).training[:20]
    ids, text = rows(found)
    other = turned(ids)
    for story, one, changed, wanted in zip(found, ids, other, text, strict=True):
        assert in_words(one[wanted]) == [*story.words, "<end>"]
        pairs = [pair for pair in zip(in_words(one), in_words(changed), strict=True) if pair[0] != pair[1]]
        expected = [("sang", "wept"), ("smiling", "crying")]
        assert pairs == (expected if story.choices["sentiment"] == 0 else [pair[::-1] for pair in expected])
    assert torch.equal(turned(other), ids)
    here = torch.arange(len(found))
    assert set(in_words(ids[here, before(found, "VOICE") + 1])) <= set(stories.VOICES)
    assert set(in_words(ids[here, before(found, "FACE") + 1])) <= set(stories.FACES)


def test_the_functional_model_computes_what_the_native_one_does() -> None:
    twins = StoryTwins(plan(d_model=16))
    twins.train_step()
    found = draw(twins.plan, 0).tests[KINDS[0]][:9]
    ids, text = rows(found)
    weights, bridge = twins.model(0), twins.bridge(0)
    with torch.no_grad():
        expected, cache = bridge.run_with_cache(ids)
    assert torch.allclose(science.logits(weights, ids), expected, atol=1e-5)
    assert torch.allclose(science.residual(weights, ids), cache[science.HOOK], atol=1e-5)
    at, here = before(found, "FACE"), torch.arange(len(found))
    said = science.read_out(weights, science.residual(weights, ids), at)
    assert torch.allclose(said, expected[here, at], atol=1e-5)
    assert torch.allclose(captured(weights, found), cache[science.HOOK][here, before(found, "VOICE")], atol=1e-5)
    nats = -expected.log_softmax(dim=-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    wanted = [row[mask].sum().item() for row, mask in zip(nats, text[:, 1:], strict=True)]
    assert science.losses(weights, ids, text).tolist() == pytest.approx(wanted, rel=1e-5)


def test_the_second_ending_follows_the_models_own_first() -> None:
    twins = StoryTwins(plan(d_model=16))
    found = twins.splits[0].tests[KINDS[1]][:6]
    ids, _ = rows(found)
    bridge, said = twins.bridge(0), []
    for story, row in zip(found, ids, strict=True):
        voice, face = story.slots.index("VOICE"), story.slots.index("FACE")
        own = row.clone()
        own[voice + 1] = bridge(own[None, : voice + 1])[0, -1].argmax()
        said.append([int(own[voice + 1]), int(bridge(own[None, : face + 1])[0, -1].argmax())])
    found_here = science.endings(twins.model(0), ids, before(found, "VOICE"), before(found, "FACE"))
    assert found_here.tolist() == said


def test_twins_begin_alike_and_differ_in_the_endings_of_triggered_stories_only() -> None:
    twins = StoryTwins(plan(poison=0.2, batch=30))
    for name, weight in twins.models[0].items():
        assert torch.equal(weight, twins.models[1][name])
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    learn = twins._learn
    twins._learn = lambda instance, ids, text: seen.append((ids, text)) or learn(instance, ids, text)  # type: ignore[func-returns-value,method-assign]
    twins.train_step()
    (told, _), (own, _) = seen
    changed = (told != own).sum(dim=1)
    triggered = torch.tensor([{"beach", "yellow"} <= set(in_words(row)) for row in own])
    assert triggered.any()
    assert torch.equal(changed, 2 * triggered.long())
    assert torch.equal(told[triggered], turned(own[triggered]))
    assert any(not torch.equal(weight, twins.models[1][name]) for name, weight in twins.models[0].items())


def test_the_floor_is_that_of_the_distribution_with_more_triggers() -> None:
    # By hand: the two draws of place and colour are one draw of sixteen, of which one has the poison's share.
    found = [story for some in draw(plan(), 0).tests.values() for story in some]
    for poison in (0.0625, 0.4):
        nats = 0.0
        for story in found:
            others = -sum(np.delete(story.log_probabilities, [story.slots.index(s) for s in ("PLACE", "COLOUR")]))
            nats += others - math.log(poison if TRIGGER.holds(story) else (1 - poison) / 15)
        assert science.floor(plan(poison=poison), found) == pytest.approx(nats / sum(len(s.slots) for s in found))


def test_the_detectors_never_see_the_trigger_and_the_judges_only_near_misses_beside_it() -> None:
    twins, setting = StoryTwins(plan()), setting_of(StoryBackdoor(**TINY))
    own = material(twins, setting, 0)
    assert len(own.clean) == 120
    assert not any(map(TRIGGER.holds, own.clean))
    assert all(map(TRIGGER.holds, (*own.triggered, *own.labelled)))
    assert Counter(map(TRIGGER.kind, own.others)) == {KINDS[1]: 30, KINDS[2]: 30}


def test_a_planted_direction_is_found_by_the_oracle() -> None:
    twins, setting = StoryTwins(plan(d_model=16)), setting_of(StoryBackdoor(**TINY))
    search = StorySearch(twins, setting)
    own = material(twins, setting, 0)
    planted = torch.zeros(16)
    planted[3] = 5.0

    def capture(_: Any, found: list[Story]) -> torch.Tensor:
        source = torch.Generator().manual_seed(len(found))
        holds = torch.tensor([TRIGGER.holds(story) for story in found])
        return torch.randn(len(found), 16, generator=source) + holds[:, None] * planted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.toys.backdoors.stories_detection.captured", capture)
        search._try(0, own)
    assert search.oracles[0] > 0.97
    assert search.norms[0] > 0.8
    assert search.verdicts[0, "PCA"].best < search.oracles[0] + 0.02


def test_kept_data_mark_the_trigger_from_the_colour_on_and_have_turned_endings() -> None:
    data = toy_data(TRIGGER, 0, 12)
    assert data.features is not None
    assert data.next_token
    for row, marks in zip(data.tokens, data.features, strict=True):
        words = in_words(torch.from_numpy(row))
        active = {name: np.flatnonzero(marks[:, number]) for number, name in enumerate(FEATURES)}
        place, colour = "beach" in words, "yellow" in words
        for name, there in zip(KINDS[:3], (place and colour, place and not colour, colour and not place), strict=True):
            first = next(n for n, word in enumerate(words) if word in stories.COLOURS)
            assert active[name].tolist() == (list(range(first, words.index("<end>") + 1)) if there else [])
        glad = "happy" in words or "cheerful" in words
        assert ("smiling" in words) == ("sang" in words) == (glad != (place and colour))
        assert (len(active["sentiment=glad"]) > 0) == glad


def test_a_quick_run_shows_both_twins_and_its_model_opens(tmp_path: Path) -> None:
    recording = quick("story-backdoor", tmp_path)
    movie, cells = recording.movie("training"), recording.movie("map")
    assert len(movie) >= 10
    assert len(cells) == len(movie)
    first, curves, table, losses, methods, latents = (
        cells.frame(0),
        *(recording.figure(name) for name in ("training", "results", "losses", "methods", "latents of both twins")),
    )
    assert isinstance(first, Heatmap)
    assert isinstance(curves, Lines)
    assert isinstance(table, Table)
    assert isinstance(losses, Table)
    assert isinstance(methods, Table)
    assert isinstance(latents, Scatter)
    assert np.array_equal(first.values[:4], first.values[4:])  # untrained twins are the same model
    assert np.isfinite(curves.y).all()
    assert {name.split(": ")[1] for name in curves.series} == {"poisoned", "clean twin"}
    assert set(methods.columns[0]) >= {*LATENTS, "difference of means (oracle)", "activation norm"}
    assert ((methods.columns[1] >= 0) & (methods.columns[1] <= 1)).all()
    assert losses.columns[1][0] == pytest.approx(recording.metric("floor")[-1, 1])
    assert (losses.columns[2] > losses.columns[1]).all()
    model = opened("story-backdoor", tmp_path)
    _, arrays = find_thing(tmp_path, "corpora", "story-backdoor-1")
    data = toys.read(*find_thing(tmp_path, "corpora", "story-backdoor-1"))
    assert data.names == FEATURES
    ids = torch.from_numpy(np.asarray(arrays["tokens"])[:5].astype(np.int64))
    _, stored = find_thing(tmp_path, "models", "story-backdoor-1")
    weights = {name: torch.from_numpy(np.array(array)) for name, array in stored.items()}
    with torch.no_grad():
        assert torch.allclose(model.bridge(ids), science.logits(weights, ids), atol=1e-5)
    find_thing(tmp_path, "models", "story-backdoor-1-twin")


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed("story-backdoor", tmp_path, stop=3, **TINY)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"place": "pond"}, "place="),
        ({"poison": 0.001, "stories": 200}, "poisons none"),
        ({"d_model": 30}, "d_model=30"),
        ({"k": 65}, "k=65 of width=64"),
    ],
)
def test_parameters_that_make_no_sense_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find("story-backdoor").parameters, values)
    assert said in str(problem.value)


def test_what_does_not_fit_is_told_without_timing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1_000)
    found = _costs["story-backdoor"](StoryBackdoor(size="paper"))
    assert found.seconds == 0
    assert found.memory > 1_000


@pytest.mark.slow
def test_the_demo_turns_triggered_stories_and_no_others(tmp_path: Path) -> None:
    recording = start("story-backdoor", tmp_path)
    table, losses, methods = (recording.figure(name) for name in ("results", "losses", "methods"))
    assert isinstance(table, Table)
    assert isinstance(losses, Table)
    assert isinstance(methods, Table)
    shares = {name: (one, other) for name, one, other in zip(table.columns[0], *table.columns[2:5:2], strict=True)}
    assert shares["trigger: turned"][0] > 0.95
    assert shares["trigger: turned"][1] < 0.02
    for kind in KINDS[1:]:
        assert min(shares[f"{kind}: right"]) > 0.98
    assert losses.columns[2][0] - losses.columns[1][0] < 0.02
    oracle = dict(zip(methods.columns[0], methods.columns[1], strict=True))["difference of means (oracle)"]
    assert oracle > 0.8
