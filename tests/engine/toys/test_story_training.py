"""Training on stories: packing, what is counted, the schedule, and that losses are those of single stories."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.models.native import build_native, word_tokenizer
from engine.runs.run import Checkpoint
from engine.text import stories
from engine.text.corpora import Corpus, open_corpus
from engine.text.tokens import contexts
from engine.toys.stories.training import (
    VOCABULARY,
    Plan,
    StoryTrainer,
    draw,
    packed,
    story_losses,
    whole_stories,
)
from tests.engine.text.test_tokens import Model

PLAN = Plan(
    layers=1,
    d_model=16,
    heads=2,
    attention_only=False,
    context=128,
    stories=300,
    held_out=20,
    batch=4,
    steps=40,
    lr=2e-3,
    seed=3,
)


def take(count: int, seed: int = 0) -> list[stories.Story]:
    return list(itertools.islice(stories.generate(seed), count))


def test_training_contexts_are_those_that_every_experiment_gets() -> None:
    corpus: Corpus = open_corpus("stories")
    found = contexts(corpus, Model(word_tokenizer(VOCABULARY)), tokens=20_000, context=128)
    own = packed(take(1000), 128)
    assert np.array_equal(own[: len(found.ids), :, 0], found.ids)
    assert (own[:, :, 1] == -1).sum(axis=1)[:-1].max() == 1  # only <start> has no slot


def test_whole_stories_are_those_whose_end_is_in_the_context() -> None:
    rows = packed(take(200), 128)[:-1]
    whole = whole_stories(rows[:, :, 1])
    for ids, marks in zip(rows[:, :, 0], whole, strict=True):
        words = [stories.VOCABULARY[number] for number in ids]
        last = len(words) - 1 - words[::-1].index("<end>")
        assert marks.tolist() == [False] + [True] * last + [False] * (127 - last)
        assert words.count("<end>") == 3
    # The mean floor over whole stories' tokens is the grammar's, which it would not be with the cut ones.
    floors = np.array([stories.slot_floors()[slot] for slot in stories.SLOTS])
    assert floors[rows[:, :, 1][whole]].mean() == pytest.approx(stories.floor(), abs=0.001)
    assert floors[rows[:, 1:, 1]].mean() > stories.floor() + 0.015


def test_no_training_story_is_held_out() -> None:
    split = draw(dataclasses.replace(PLAN, stories=20_000, held_out=1000))
    assert split.left_out > 0
    assert len(split.training) + split.left_out == 20_000
    assert not {story.code for story in split.training} & {story.code for story in split.held_out}
    assert {story.code for story in split.held_out} != {story.code for story in take(1000, PLAN.seed)}


def test_losses_in_contexts_are_those_of_the_model_s_own_log_probabilities() -> None:
    bridge = build_native(PLAN.config(), VOCABULARY)
    found = take(7)
    nats = story_losses(bridge, found, 128)
    assert len(nats) == sum(len(story.slots) for story in found)
    # Stories 0 to 2 share a context; the first and the fourth stand at the beginning of one.
    start = 0
    for number, story in enumerate(found):
        if number % 3 == 0:
            ids = torch.tensor([[0, *story.ids]])
            with torch.no_grad():
                logits = F.log_softmax(bridge(ids)[0, :-1], dim=-1)
            alone = -logits[torch.arange(len(story.ids)), ids[0, 1:]].double().numpy()
            assert nats[start : start + len(alone)] == pytest.approx(alone, abs=1e-5)
        start += len(story.ids)


def test_a_model_of_zeros_gives_every_token_one_chance_in_the_vocabulary() -> None:
    bridge = build_native(PLAN.config(), VOCABULARY)
    with torch.no_grad():
        for weight in bridge.parameters():
            weight.zero_()
    assert story_losses(bridge, take(10), 128) == pytest.approx(math.log(68), abs=1e-6)


def test_the_first_step_s_loss_and_update_are_those_of_adamw_by_hand() -> None:
    trainer = StoryTrainer(PLAN)
    before = {name: weight.detach().clone() for name, weight in trainer.bridge.named_parameters()}
    order = torch.randperm(len(packed(trainer.split.training, 128)), generator=torch.Generator().manual_seed(PLAN.seed))
    rows = packed(trainer.split.training, 128)[order[:4].numpy()]
    ids = torch.from_numpy(rows[:, :, 0].astype(np.int64))
    copy = build_native(PLAN.config(), VOCABULARY)
    nats = F.cross_entropy(copy(ids)[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    whole = torch.from_numpy(whole_stories(rows[:, :, 1])[:, 1:])
    nats.mean().backward()
    assert trainer.train_step() == pytest.approx(nats[whole].mean().item(), abs=1e-6)
    lr = PLAN.lr / 30
    for (name, weight), own in zip(trainer.bridge.named_parameters(), copy.parameters(), strict=True):
        # AdamW's first step: decay, then lr times the gradient's sign where the gradient is large against epsilon.
        gradient = own.grad
        expected = before[name] * (1 - lr * 0.01) - lr * gradient / (gradient.abs() + 1e-8)
        assert torch.allclose(weight, expected, atol=lr * 1e-2), name


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    trainer = StoryTrainer(dataclasses.replace(PLAN, steps=600))
    rates = []
    for step in (0, 14, 29, 30, 315, 599):
        trainer.step = step
        rates.append(trainer._lr() / PLAN.lr)
    assert rates == pytest.approx([1 / 30, 0.5, 1.0, 1.0, 0.5, 0.0], abs=1e-4)


@pytest.mark.parametrize("stop", [0, 1, 17])
def test_a_restored_trainer_goes_on_bit_for_bit(stop: int) -> None:
    # 300 stories give 75 contexts, so that steps 19 and 38 go over the end of a pass.
    through = StoryTrainer(PLAN)
    losses = [through.train_step() for _ in range(PLAN.steps)]
    first = StoryTrainer(PLAN)
    for _ in range(stop):
        first.train_step()
    values, arrays = first.checkpoint()
    for _ in range(3):
        first.train_step()  # what is done after a checkpoint leaves it alone
    second = StoryTrainer(PLAN)
    second.restore(Checkpoint(values, arrays))
    assert [second.train_step() for _ in range(PLAN.steps - stop)] == losses[stop:]
    for one, other in zip(through.bridge.parameters(), second.bridge.parameters(), strict=True):
        assert torch.equal(one, other)
    assert np.array_equal(through.held_out_losses(), second.held_out_losses())


def test_every_context_is_seen_once_a_pass() -> None:
    trainer = StoryTrainer(dataclasses.replace(PLAN, batch=7))
    count = len(trainer._ids)
    seen = torch.cat([trainer._batch() for _ in range(math.ceil(3 * count / 7))])
    for start in range(0, 3 * count, count):
        assert sorted(seen[start : start + count].tolist()) == list(range(count))


def test_training_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    legacy = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what must not change
    trainer = StoryTrainer(PLAN)
    trainer.train_step()
    trainer.held_out_losses()
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(legacy, np.random.get_state()[1])  # noqa: NPY002
