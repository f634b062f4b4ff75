"""Understanding a story model: rules by brute force, scores by definition, and a test by ablation on a known cause."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Bars, Heatmap, Table, TokenStrip
from engine.models.native import build_native, load_demo
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text import stories
from engine.text.stories import SLOTS, WORD_IDS
from engine.toys.stories import rules
from engine.toys.stories.ngrams import NGrams, losses, probabilities
from engine.toys.stories.rules_causes import CLAIMS, Ablations, written
from engine.toys.stories.rules_circuits import Circuits, mixed
from engine.toys.stories.rules_scores import Bootstrap, drawn, floor_nats, score, scored, scored_model
from engine.toys.stories.training import VOCABULARY, story_losses, story_predictions
from tests.engine.toys.running import quick, start

NAME = "story-understanding"
WORDS = len(VOCABULARY)


def take(count: int, seed: int = 0, stream: int = 0) -> rules.Texts:
    return rules.Texts.of(list(itertools.islice(stories.generate(seed, stream=stream), count)))


TRAINING, HELD_OUT = take(500, stream=1), take(60, stream=2)


def base() -> np.ndarray:
    *_, third = NGrams(TRAINING.words(), WORDS, 0, 3).distributions(HELD_OUT.words())
    return third


def at(slot: str) -> np.ndarray:
    """Which tokens of the held-out stories stand at ``slot``."""
    return HELD_OUT.slots[HELD_OUT.there] == SLOTS.index(slot)


def nats(prediction: np.ndarray) -> np.ndarray:
    target = HELD_OUT.ids[HELD_OUT.there]
    return -np.log(prediction[np.arange(len(target)), target].astype(float))


def test_sparse_n_grams_are_the_dense_ones() -> None:
    dense = losses(probabilities(TRAINING.words(), WORDS, 0), HELD_OUT.words(), 0)
    found = list(NGrams(TRAINING.words(), WORDS, 0, 6).distributions(HELD_OUT.words()))
    assert len(found) == 6
    for order in range(3):
        assert nats(found[order]) == pytest.approx(dense[order], abs=1e-5)
    assert all(np.allclose(one.sum(axis=1), 1, atol=1e-5) for one in found)
    # A longer history knows more of this language.
    assert all(np.diff([nats(one).mean() for one in found[:5]]) < 0)


def test_every_rule_gives_probabilities_and_none_makes_a_word_impossible() -> None:
    now = base()
    for rule in rules.library():
        rule.fit(TRAINING, WORDS)
        now = rule.apply(now, HELD_OUT)
        assert np.allclose(now.sum(axis=1), 1, atol=1e-4), rule.name
        assert (now >= 0).all()
        assert np.isfinite(nats(now)).all(), rule.name


def test_a_rule_sees_only_the_words_before() -> None:
    """Changing the last words of a story changes no prediction before them."""
    story = HELD_OUT.stories[0]
    other = stories.Story({**story.choices, "branch": 1 - story.choices["branch"]})
    one, two = rules.Texts.of([story]), rules.Texts.of([other])
    common = story.slots.index("BRANCH") + 1
    for rule in rules.library():
        rule.fit(TRAINING, WORDS)
        flat = [np.full((len(text.story), WORDS), 1 / WORDS, np.float32) for text in (one, two)]
        first, second = rule.apply(flat[0], one), rule.apply(flat[1], two)
        assert np.array_equal(first[:common], second[:common]), rule.name


def test_the_skip_context_is_the_one_of_least_entropy_by_brute_force() -> None:
    training, held_out = take(150, stream=1), take(3, stream=2)
    flat = np.full((len(held_out.story), WORDS), 1 / WORDS, np.float32)
    rule = rules.Skip()
    rule.fit(training, WORDS)
    found = rule.apply(flat, held_out)
    tables: dict[tuple[int, int, int], Counter[int]] = {}
    for text in training.words():
        padded = [0, 0, *text]
        for place, word in enumerate(text):
            for context in set(text[:place]):
                tables.setdefault((padded[place], padded[place + 1], context), Counter())[word] += 1
    number = 0
    for text in held_out.words():
        padded = [0, 0, *text]
        for place in range(len(text)):
            seen = [tables.get((padded[place], padded[place + 1], c), Counter()) for c in sorted(set(text[:place]))]
            seen = [table for table in seen if table.total() >= 10]
            entropies = [-sum(n / t.total() * math.log(n / t.total()) for n in t.values()) for t in seen]
            if entropies:
                best = min(entropies)
                allowed = [t for t, e in zip(seen, entropies, strict=True) if e < best + 1e-9]
                expected = [
                    np.array([(t[w] + len(t) / WORDS) / (t.total() + len(t)) for w in range(WORDS)]) for t in allowed
                ]
                assert any(np.allclose(found[number], one, atol=1e-5) for one in expected)
            else:
                assert np.array_equal(found[number], flat[number])
            number += 1


def test_induction_says_what_followed_last_time_and_only_where_that_is_reliable() -> None:
    said = rules.Induction._said(HELD_OUT, WORDS)
    for row, text in enumerate(HELD_OUT.words()[:5]):
        for place in range(1, len(text)):
            earlier = [j for j in range(place - 1) if text[j] == text[place - 1]]
            assert said[row, place] == (text[earlier[-1] + 1] if earlier else rules.NONE)
    rule = rules.Induction()
    rule.fit(TRAINING, WORDS)
    weight = dict(zip(VOCABULARY, rule._weight, strict=True))
    assert min(weight[colour] for colour in stories.COLOURS) > 0.95  # the object that followed, follows again
    assert weight["the"] == weight["."] == 0
    better = rule.apply(base(), HELD_OUT)
    assert nats(better)[at("OBJECT2")].mean() < 0.1 < 1.5 < nats(base())[at("OBJECT2")].mean()
    others = ~at("OBJECT2") & ~at(".4")  # behind colours and objects it is reliable, nowhere else
    assert np.array_equal(better[others], base()[others])


@pytest.mark.parametrize(
    ("name", "slot", "entropy"),
    [
        ("gender", "PRONOUN", 0.0), ("sentiment", "FACE", 0.0), ("place-animal", "ANIMAL", 0.898),
        ("name-copy", "NAME3", 0.0), ("place-copy", "PLACE2", 0.0), ("colour-copy", "COLOUR2", 0.0),
    ],
)  # fmt: skip
def test_an_agreement_brings_its_slots_to_their_entropy(name: str, slot: str, entropy: float) -> None:
    rule = next(rule for rule in rules.library() if rule.name == name)
    rule.fit(TRAINING, WORDS)
    found = nats(rule.apply(base(), HELD_OUT))[at(slot)]
    own_floor = floor_nats(HELD_OUT)[at(slot)].mean()
    assert own_floor == pytest.approx(entropy, abs=0.15)
    assert found.mean() - own_floor < 0.06
    assert nats(base())[at(slot)].mean() - found.mean() > 0.5


def test_the_score_of_the_base_is_0_and_of_the_model_1_exactly() -> None:
    said = np.log(base())
    model, first = scored_model(said, HELD_OUT), scored("base", np.full_like(said, 1 / WORDS), said, HELD_OUT)
    assert score(first.loss, first.loss, model.loss) == 0
    assert score(first.loss, model.loss, model.loss) == 1
    same = Bootstrap(HELD_OUT, 0)
    assert same.score(first, first, model).high == same.score(first, first, model).low == 0
    assert same.score(first, model, model).low == pytest.approx(1, abs=1e-12)


def test_a_model_that_is_no_better_than_the_base_has_no_score(tmp_path: Path) -> None:
    assert np.isnan(score(0.8, 0.3, 0.9))
    assert np.isnan(score(0.8, 0.3, 0.8))
    start("tiny-language-model", tmp_path, size="quick", steps=2)
    recording = start(NAME, tmp_path, size="quick", model="toy:tiny-language-model-1", held_out=50, rules=["gender"])
    assert recording.record().facts["score"] is None
    assert any("a model that is no better than the base has no score" in line["text"] for line in recording.log())
    ladder = recording.figure("ladder")
    assert isinstance(ladder, Bars)
    assert not any("nan" in label for label in ladder.label)


def test_faithfulness_of_the_model_to_itself_and_of_a_known_divergence() -> None:
    said = np.log(base())
    itself = scored("itself", base(), said, HELD_OUT)
    assert itself.kl.max() < 1e-5
    assert itself.agrees.all()
    half = 0.5 * base() + 0.5 / WORDS
    expected = (base().astype(float) * np.log(base().astype(float) / half)).sum(axis=1)
    assert scored("half", half, said, HELD_OUT).kl == pytest.approx(np.maximum(expected, 0), abs=1e-5)


def test_the_bootstrap_s_interval_is_that_of_the_mean_over_stories() -> None:
    values = np.random.default_rng(0).standard_normal(len(HELD_OUT.story))
    found = Bootstrap(HELD_OUT, 0).mean(values)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 3.92 == pytest.approx(values.std() / math.sqrt(len(values)), rel=0.25)


def test_the_floor_of_drawn_stories_is_the_tabulated_entropy_of_their_slots() -> None:
    texts = take(4_000, stream=5)
    here = texts.slots[texts.there]
    floors = stories.slot_floors()
    for number, slot in enumerate(SLOTS):
        measured = floor_nats(texts)[here == number].mean()
        assert measured == pytest.approx(floors[slot], rel=0.02), slot
    assert floor_nats(texts).mean() == pytest.approx(stories.floor(), rel=0.02)
    assert drawn(texts).mean() == pytest.approx(8 / 40.7, abs=0.001)


def test_predictions_of_the_model_are_those_whose_losses_are_measured() -> None:
    demo = load_demo()
    said = story_predictions(demo, list(HELD_OUT.stories), 128)
    assert scored_model(said, HELD_OUT).nats == pytest.approx(story_losses(demo, list(HELD_OUT.stories), 128), abs=1e-5)


def test_ablating_a_head_is_setting_it_to_its_mean_at_the_slot() -> None:
    demo, texts = load_demo(), take(20, stream=2)
    ablations = Ablations(demo, texts, lambda: None)
    nats_of = [story_losses(demo, [story], 128) for story in texts.stories]
    assert ablations.whole[texts.there] == pytest.approx(np.concatenate(nats_of), abs=1e-4)
    # A head whose output does not depend on the story changes nothing: the first word always reads <start>.
    rises = ablations.without(ablations.places[0]) - ablations.whole
    assert rises[:, 0] == pytest.approx(0, abs=1e-5)
    assert np.abs(rises).max() > 1e-3


def test_a_head_that_writes_its_own_word_is_found_in_the_weights() -> None:
    config = {
        "d_model": 70,
        "n_layers": 1,
        "n_heads": 2,
        "d_head": 35,
        "n_ctx": 64,
        "d_vocab": WORDS,
        "attn_only": True,
    }
    bridge = build_native({**config, "normalization_type": None}, VOCABULARY)
    with torch.no_grad():
        for weight in bridge.parameters():
            weight.zero_()
        eye = torch.eye(WORDS, 70)
        bridge.embed.weight.copy_(eye)
        bridge.unembed.weight.copy_(eye)
        block = bridge.blocks[0].attn
        block.v.weight[35:].copy_(torch.eye(35, 70))  # head 1 reads words 0 to 34 and writes them again
        block.o.weight[:, 35:].copy_(torch.eye(70, 35))
    names = [WORD_IDS[name] for name in stories.NAMES]
    assert max(names) < 35
    assert written(bridge, CLAIMS["name-copy"]) == pytest.approx([0, 1], abs=1e-6)


def test_skip_trigram_tables_without_positions_are_the_model_itself() -> None:
    config = {
        "d_model": 24,
        "n_layers": 1,
        "n_heads": 2,
        "d_head": 12,
        "n_ctx": 64,
        "d_vocab": WORDS,
        "attn_only": True,
    }
    bridge = build_native({**config, "seed": 3}, VOCABULARY)
    with torch.no_grad():
        bridge.pos_embed.weight.zero_()
        for weight in (bridge.embed.weight, bridge.unembed.weight):
            weight.mul_(20)
    texts = take(4)
    alone = [story_predictions(bridge, [story], 64) for story in texts.stories]
    found = Circuits.of(bridge).predicted(texts)
    assert np.log(found) == pytest.approx(np.concatenate(alone), abs=1e-3)
    assert mixed(found, np.full_like(found, 1e-30), texts) == pytest.approx(0.95)
    assert len(Circuits.of(bridge).skip_trigrams(10)) == 10


def columns(table: Any) -> dict[str, np.ndarray]:
    assert isinstance(table, Table)
    return dict(zip((axis.label for axis in table.axes), table.columns, strict=True))


def test_a_quick_run_explains_the_demo_model(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path)
    table = columns(recording.figure("scores"))
    by_name = dict(zip(table["Prediction"].tolist(), table["Score"].tolist(), strict=True))
    assert by_name["3-gram"] == 0
    assert by_name["model"] == 1
    assert by_name["2-gram"] < 0 < by_name["6-gram"] < by_name["3-gram + skip"] < by_name["+ slip"]
    assert by_name["+ slip"] > 0.95
    final = dict(zip(table["Prediction"].tolist(), table["Coverage"].tolist(), strict=True))
    assert final["+ slip"] > 0.85
    assert final["model"] == 1
    assert recording.metric("score")[-1, 1] == by_name["+ slip"]
    assert (table["score low"] <= table["Score"] + 1e-12).all()
    assert (table["score high"] >= table["Score"] - 1e-12).all()

    evidence = columns(recording.figure("evidence"))
    heads = dict(zip(evidence["Rule"].tolist(), evidence["Head"].tolist(), strict=True))
    verdicts = dict(zip(evidence["Rule"].tolist(), evidence["Evidence"].tolist(), strict=True))
    assert (heads["induction"], verdicts["induction"]) == ("L1H2", "causal")
    assert verdicts["gender"] == "behavioural"  # no single head is needed
    worth = columns(recording.figure("rules"))
    assert worth["Evidence"][worth["Rule"].tolist().index("sentence")] == "behavioural"
    assert (worth["Loss if left out"][:-1] > 0).all()
    assert worth["KL if left out"][-1] > 0.02  # without a slip the rules are too sure

    slots = columns(recording.figure("slots"))
    assert slots["Tokens"].sum() == sum(len(story.slots) for story in take(200, stream=2).stories)
    weights = slots["Tokens"] / slots["Tokens"].sum()
    assert (weights * slots["H"]).sum() == pytest.approx(recording.metric("rules_loss")[-1, 1], abs=1e-6)
    assert (weights * slots["Floor"]).sum() == pytest.approx(recording.metric("floor")[-1, 1], abs=1e-6)
    assert isinstance(recording.figure("story"), TokenStrip)
    assert isinstance(recording.figure("ladder"), Bars)
    map_ = recording.figure("ablations")
    assert isinstance(map_, Heatmap)
    assert map_.values.shape == (8, 12)


def test_an_attention_only_model_of_the_session_has_skip_trigrams(tmp_path: Path) -> None:
    start(
        "tiny-language-model", tmp_path, size="quick", attention_only=True, layers=1, d_model=16, heads=2, steps=5,
        stories=200,
    )  # fmt: skip
    recording = start(
        NAME,
        tmp_path,
        size="quick",
        model="toy:tiny-language-model-1",
        stories=200,
        held_out=50,
        rules=["gender", "skip"],
    )
    assert isinstance(recording.figure("skip-trigrams"), Table)
    assert "weight tables" in columns(recording.figure("scores"))["Prediction"]
    map_ = recording.figure("ablations")
    assert isinstance(map_, Heatmap)
    assert map_.x.tolist() == ["L0H0", "L0H1", "heads L0"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rules": []}, "rules="),
        ({"rules": ["gender", "gender"]}, "each rule may be named once"),
        ({"rules": ["grammar"]}, "rules"),
        ({"held_out": 3}, "held_out=3"),
    ],
)
def test_parameters_out_of_bounds_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find(NAME).parameters, values)
    assert said in str(problem.value)


def test_the_cost_is_known_before_the_start() -> None:
    from engine.toys.costs import _costs

    found = _costs[NAME](check(find(NAME).parameters, {}))
    assert 0.5 < found.seconds < 120
    assert found.memory > 10_000_000
