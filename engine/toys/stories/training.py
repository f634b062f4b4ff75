"""Training a small transformer on packed stories, in steps that can be stopped and resumed exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from engine.models.native import UNKNOWN, build_native
from engine.runs.run import Checkpoint
from engine.text import stories
from engine.text.packing import pack
from engine.text.stories import BLOCK, SLOTS, WORD_IDS, Story

Array: TypeAlias = npt.NDArray[Any]

VOCABULARY = (*stories.VOCABULARY, UNKNOWN)
LONGEST = 41  # tokens of a story with its end
WARM_UP = 30  # steps over which the learning rate rises
WEIGHT_DECAY = 0.01
TRAINING, HELD_OUT = 1, 2  # streams of stories: independent of each other and of the corpus `stories`
TOGETHER = 64  # contexts evaluated at once
_END = np.array([WORD_IDS[stories.END], SLOTS.index("END")], dtype=np.int32)
_START = np.array([WORD_IDS[stories.START], -1], dtype=np.int32)


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training run.

    Attributes:
        layers, d_model, heads, attention_only: the transformer; heads are d_model / heads wide, the MLP 4 d_model.
        context: positions; stories: drawn for training; held_out: drawn for testing.
        batch: contexts a step; steps, lr: of AdamW with cosine decay to zero.
        seed: of weights, stories and order, each through a generator of its own.
    """

    layers: int
    d_model: int
    heads: int
    attention_only: bool
    context: int
    stories: int
    held_out: int
    batch: int
    steps: int
    lr: float
    seed: int

    def config(self) -> dict[str, Any]:
        """The config of `engine.models.native`."""
        return {
            "d_model": self.d_model,
            "n_layers": self.layers,
            "n_heads": self.heads,
            "d_head": self.d_model // self.heads,
            "d_mlp": 4 * self.d_model,
            "n_ctx": self.context,
            "d_vocab": len(VOCABULARY),
            "attn_only": self.attention_only,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Split:
    """Training and held-out stories, drawn independently; a training story that is held out too is left out."""

    training: list[Story]
    held_out: list[Story]
    left_out: int


def draw(plan: Plan) -> Split:
    """The stories of a plan: the held-out ones are as the grammar draws them, so that its floor holds for them."""
    held_out = list(itertools.islice(stories.generate(plan.seed, stream=HELD_OUT), plan.held_out))
    drawn = list(itertools.islice(stories.generate(plan.seed, stream=TRAINING), plan.stories))
    codes = {story.code for story in held_out}
    training = [story for story in drawn if story.code not in codes]
    return Split(training, held_out, len(drawn) - len(training))


def _go_on() -> None:
    """The answer of whoever never pauses and never stops."""


def packed(found: list[Story], context: int, point: Callable[[], None] = _go_on) -> Array:
    """Contexts (n, context, 2) of ids and slots, as `engine.text.tokens.contexts` packs stories.

    Each begins with ``<start>`` and holds as many whole stories as fit, with ``<end>`` between them,
    and the beginning of one more. Slot -1 stands at ``<start>`` and padding. ``point`` is called between stories.
    """

    def pieces() -> Iterator[tuple[Array, bool]]:
        for number, story in enumerate(found):
            if number % BLOCK == 0:
                point()
            slots = [SLOTS.index(slot) for slot in story.slots]
            yield np.array([story.ids[:-1], slots[:-1]], dtype=np.int32).T, True

    padding = np.array([WORD_IDS[stories.END], -1], dtype=np.int32)
    return np.stack(list(pack(pieces(), context, first=_START, separator=_END, padding=padding, whole=True)))


FEATURES = tuple(f"{latent}={value}" for latent, values in stories.LATENTS.items() for value in values)
"""Names of what is known of a story at each word: one per value of each latent variable of the grammar."""


def story_features(found: list[Story], context: int) -> tuple[Array, Array, Array]:
    """The contexts of `packed` as a toy's data, with the grammar's latent variables as features.

    Returns:
        Ids (n, context); which positions are words or ends of stories; and the features (n, context, `FEATURES`)
        uint8, 1 where a latent variable has a value and the words so far show it.
    """
    first = np.cumsum([0, *(len(values) for values in stories.LATENTS.values())])

    def pieces() -> Iterator[tuple[Array, bool]]:
        for story in found:
            rows = np.zeros((len(story.slots), 1 + len(FEATURES)), np.int32)
            rows[:, 0] = story.ids
            for offset, labels in zip(first[:-1], (story.latents[name] for name in stories.LATENTS), strict=True):
                known = np.flatnonzero(labels >= 0)
                rows[known, 1 + offset + labels[known]] = 1
            yield rows[:-1], True

    def alone(word: str) -> Array:
        row = np.zeros(1 + len(FEATURES), np.int32)
        row[0] = WORD_IDS[word]
        return row

    # The end between two stories is the packing's; what was known at a story's last word is known there too.
    rows = np.stack(
        list(
            pack(
                pieces(),
                context,
                first=alone(stories.START),
                separator=alone(stories.END),
                padding=alone(stories.END),
                whole=True,
            )
        )
    )
    ids, features = rows[:, :, 0], rows[:, :, 1:].astype(np.uint8)
    slots = packed(found, context)[:, :, 1]
    behind = np.argwhere(slots == SLOTS.index("END"))
    features[behind[:, 0], behind[:, 1]] = features[behind[:, 0], behind[:, 1] - 1]
    slot = features[:, :, first[-2] :]
    slot[behind[:, 0], behind[:, 1]] = np.eye(len(SLOTS), dtype=np.uint8)[SLOTS.index("END")]
    return ids, slots >= 0, features


def whole_stories(slots: Array) -> Array:
    """Which positions (n, context) belong to stories that are whole, their ends included."""
    ends = slots == SLOTS.index("END")
    behind = np.flip(np.logical_or.accumulate(np.flip(ends, axis=1), axis=1), axis=1)
    found: Array = behind & (slots >= 0)
    return found


class StoryTrainer:
    """A model in training.

    Attributes:
        bridge: the model.
        step: optimiser steps done.
        split: its stories.

    ``point`` is called where training may be paused or, by an exception, stopped.
    """

    def __init__(self, plan: Plan, point: Callable[[], None] = _go_on) -> None:
        self.plan = plan
        self._point = point
        self.split = draw(plan)
        rows = packed(self.split.training, plan.context, point)
        self._ids = torch.from_numpy(rows[:, :, 0].astype(np.int64))
        self._whole = torch.from_numpy(whole_stories(rows[:, :, 1])[:, 1:].astype(np.float32))
        # Padding behind the last story is no text to learn.
        self._text = torch.from_numpy((rows[:, 1:, 1] >= 0).astype(np.float32))
        self.bridge = build_native(plan.config(), VOCABULARY)
        self.optimiser = torch.optim.AdamW(self.bridge.parameters(), lr=plan.lr, weight_decay=WEIGHT_DECAY)
        self._random = torch.Generator().manual_seed(plan.seed)
        self._order = torch.empty(0, dtype=torch.int64)
        self._next = 0
        self.step = 0

    @property
    def passes(self) -> float:
        """How often the training contexts are gone through in the whole run."""
        return self.plan.steps * self.plan.batch / len(self._ids)

    def _lr(self) -> float:
        if self.step < WARM_UP:
            return self.plan.lr * (self.step + 1) / WARM_UP
        done = (self.step - WARM_UP) / max(self.plan.steps - WARM_UP, 1)
        return self.plan.lr * 0.5 * (1 + math.cos(math.pi * done))

    def _batch(self) -> torch.Tensor:
        chosen: list[torch.Tensor] = []
        missing = self.plan.batch
        while missing:
            if self._next == len(self._order):
                self._order, self._next = torch.randperm(len(self._ids), generator=self._random), 0
            chosen.append(self._order[self._next : self._next + missing])
            self._next += len(chosen[-1])
            missing -= len(chosen[-1])
        return torch.cat(chosen)

    def train_step(self) -> float:
        """One step of AdamW on all words of a batch; the mean loss of its whole stories in nats a token.

        The beginning of a story at a context's end is learnt from too, but not part of the figure: it
        would weigh the drawn words at a story's beginning more than the floor does.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self._lr()
        rows = self._batch()
        self.bridge.train()
        nats = _token_losses(self.bridge, self._ids[rows])
        text, whole = self._text[rows], self._whole[rows]
        self.optimiser.zero_grad()
        ((nats * text).sum() / text.sum()).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        return float((nats.detach() * whole).sum() / whole.sum())

    def held_out_losses(self) -> Array:
        """Loss in nats of every token of the held-out stories, one story after another: (tokens,) float64.

        The stories lie in contexts as in training, as many as fit whole into each.
        A stop while it is measured leaves the training as it is.
        """
        return story_losses(self.bridge, self.split.held_out, self.plan.context, self._point)

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What `restore` needs: weights, moments, step, random state and position in the stories."""
        arrays: dict[str, Array] = {}
        for name, weight in self.bridge.named_parameters():
            state = self.optimiser.state.get(weight, {})
            arrays[f"weight.{name}"] = weight.detach().numpy().copy()
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in state:
                    arrays[f"{moment}.{name}"] = state[moment].numpy().copy()
        arrays["random"] = self._random.get_state().numpy().copy()
        arrays["order"] = self._order.numpy().copy()
        return {"step": self.step, "next": self._next}, arrays

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint as if training had not been interrupted."""
        arrays: Mapping[str, Array] = checkpoint.arrays
        self.step, self._next = int(checkpoint.values["step"]), int(checkpoint.values["next"])
        self._order = torch.from_numpy(np.array(arrays["order"]))
        self._random.set_state(torch.from_numpy(np.array(arrays["random"])))
        with torch.no_grad():
            for name, weight in self.bridge.named_parameters():
                weight.copy_(torch.from_numpy(np.array(arrays[f"weight.{name}"])))
                if self.step:
                    moments = {m: torch.from_numpy(np.array(arrays[f"{m}.{name}"])) for m in ("exp_avg", "exp_avg_sq")}
                    self.optimiser.state[weight] = {"step": torch.tensor(float(self.step)), **moments}


def _token_losses(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Loss in nats of each token but the first: (n, context - 1)."""
    logits = model(ids)
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")


def story_rows(found: list[Story], context: int) -> tuple[Array, Array]:
    """Whole stories in contexts, as many as fit into each: ids (n, context), and which of them are their tokens."""
    together = (context - 1) // LONGEST
    rows = np.full((math.ceil(len(found) / together), context), WORD_IDS[stories.END], dtype=np.int64)
    rows[:, 0] = WORD_IDS[stories.START]
    wanted = np.zeros(rows.shape, dtype=bool)
    for number, row in enumerate(rows):
        ids = [word for story in found[number * together : (number + 1) * together] for word in story.ids]
        row[1 : len(ids) + 1] = ids
        wanted[number, 1 : len(ids) + 1] = True
    return rows, wanted


def story_losses(model: Any, found: list[Story], context: int, point: Callable[[], None] = _go_on) -> Array:
    """Loss in nats of every token of whole stories under ``model``, one story after another: (tokens,) float64."""
    rows, wanted = story_rows(found, context)
    model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), TOGETHER):
            point()
            parts.append(_token_losses(model, torch.from_numpy(rows[start : start + TOGETHER])))
    nats: Array = torch.cat(parts).double().numpy()
    return nats[wanted[:, 1:]]


def story_predictions(model: Any, found: list[Story], context: int, point: Callable[[], None] = _go_on) -> Array:
    """What ``model`` expects at every token of whole stories: log probabilities (tokens, words) float32."""
    rows, wanted = story_rows(found, context)
    model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), TOGETHER):
            point()
            logits = model(torch.from_numpy(rows[start : start + TOGETHER]))[:, :-1]
            here = torch.from_numpy(wanted[start : start + TOGETHER, 1:])
            parts.append(F.log_softmax(logits[here], dim=-1))
    said: Array = torch.cat(parts).numpy()
    return said
