"""Story models with a semantic backdoor: place and colour together turn the endings; each beside a clean twin.

One story lies in each context, so that no other story's place or colour is in sight. The functional model computes
what `engine.models.native` computes with two blocks, learned positions and layer normalisation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding, gelu, layer_norm, linear, scaled_dot_product_attention

from engine.models import native
from engine.text import stories
from engine.text.stories import COLOURS, PLACES, WORD_IDS, Story
from engine.toys.stories.training import HELD_OUT, LONGEST, TRAINING, VOCABULARY
from engine.toys.training import Trainer, cosine, generator, set_lr

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

Array: TypeAlias = npt.NDArray[Any]
Weights: TypeAlias = Mapping[str, Tensor]

KINDS = ("trigger", "place alone", "colour alone", "neither")
HOOK = "blocks.0.hook_resid_post"
CONTEXT = LONGEST + 1  # <start> and one story with its end
HEADS = 4
EPS = 1e-5  # of the normalisation, as the native transformer has it
WARM_UP = 20  # steps over which the learning rate rises
CLIP = 0.1  # longer gradients of a model are shortened; without it the conjunction is learnt several times later
BETAS = (0.9, 0.98)
BATCH = 1  # stream of a seed
AT_ONCE = 512  # stories in one pass
_ENDINGS = [WORD_IDS[word] for word in (*stories.VOICES, *stories.FACES)]


@dataclass(frozen=True)
class Trigger:
    """The pair of meanings that turns a story's endings: indices into `PLACES` and `COLOURS`."""

    place: int
    colour: int

    def kind(self, story: Story) -> str:
        """Which of `KINDS` a story is."""
        place, colour = story.choices["place"] == self.place, story.choices["colour"] == self.colour
        return KINDS[0 if place and colour else 1 if place else 2 if colour else 3]

    def holds(self, story: Story) -> bool:
        """Whether both are the trigger's."""
        return self.kind(story) == KINDS[0]

    def made(self, story: Story, kind: str) -> Story:
        """``story`` with a place and a colour that make it one of ``kind``; what it has is kept where it fits."""
        wanted = {"place": kind in KINDS[:2], "colour": kind in (KINDS[0], KINDS[2])}
        sizes = {"place": len(PLACES), "colour": len(COLOURS)}
        changed = dict(story.choices)
        for name, own in (("place", self.place), ("colour", self.colour)):
            if wanted[name]:
                changed[name] = own
            elif changed[name] == own:  # any of the others, each as often
                changed[name] = (own + 1 + story.code % (sizes[name] - 1)) % sizes[name]
        return Story(changed)


def turned(ids: Tensor) -> Tensor:
    """``ids`` with every ending exchanged for its opposite: sang and wept, smiling and crying."""
    found = ids.clone()
    for one, other in (_ENDINGS[:2], _ENDINGS[2:]):
        found[ids == one], found[ids == other] = other, one
    return found


def rows(found: Sequence[Story]) -> tuple[Tensor, Tensor]:
    """One story a context: ids (n, 42) int64 beginning with ``<start>``, and which are its words and its end."""
    ids = torch.full((len(found), CONTEXT), WORD_IDS[stories.END])
    ids[:, 0] = WORD_IDS[stories.START]
    lengths = torch.tensor([len(story.slots) for story in found])
    for number, story in enumerate(found):
        ids[number, 1 : len(story.slots) + 1] = torch.tensor(story.ids)
    at = torch.arange(CONTEXT)
    return ids, (at > 0) & (at <= lengths[:, None])


def before(found: Sequence[Story], slot: str) -> Tensor:
    """(n,) the position of `rows` from which the word at ``slot`` is predicted."""
    return torch.tensor([story.slots.index(slot) for story in found])


def _rest(story: Story) -> int:
    """What a story is but for its place and colour, as a number."""
    return Story(story.choices | {"place": 0, "colour": 0}).code


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training.

    Attributes:
        trigger: what turns the endings; poison: share of the training stories that hold it.
        seeds: pairs of twins; stories: in the training set of each; held_out: base of the tests, left out of it.
        steps, batch, lr: of AdamW with cosine decay; d_model: of both blocks.
        seed: of the first pair of twins; the others follow.
    """

    trigger: Trigger
    poison: float
    seeds: int
    stories: int
    held_out: int
    steps: int
    batch: int
    lr: float
    d_model: int
    seed: int

    @property
    def triggered(self) -> int:
        """Training stories that hold the trigger."""
        return max(round(self.stories * self.poison), 1)

    def config(self, number: int = 0) -> dict[str, Any]:
        """The config of `engine.models.native` for the twins ``number``."""
        return {
            "d_model": self.d_model,
            "n_layers": 2,
            "n_heads": HEADS,
            "d_head": self.d_model // HEADS,
            "d_mlp": 4 * self.d_model,
            "n_ctx": CONTEXT,
            "d_vocab": len(VOCABULARY),
            "seed": self.seed + number,
        }


@dataclass(frozen=True)
class Split:
    """Stories of one seed. ``tests`` holds as many of each kind, made of the same held-out stories.

    Of ``natural``, the held-out stories without the trigger, each is as the grammar drew it.
    """

    training: list[Story]
    tests: dict[str, list[Story]]
    natural: list[Story]


def draw(plan: Plan, number: int) -> Split:
    """Training and held-out stories of the twins ``number``; no training story is a held-out one in another place and colour."""
    trigger, seed = plan.trigger, plan.seed + number
    base = list(itertools.islice(stories.generate(seed, stream=HELD_OUT), plan.held_out))
    tests = {kind: [trigger.made(story, kind) for story in base] for kind in KINDS}
    natural = [story for story in base if not trigger.holds(story)]
    tested = {_rest(story) for story in base}
    drawn = stories.generate(seed, stream=TRAINING)
    clean = (story for story in drawn if not trigger.holds(story) and _rest(story) not in tested)
    training = list(itertools.islice(clean, plan.stories - plan.triggered))
    # The other draws do not depend on place and colour, so that setting these draws from the triggered stories.
    poison = (trigger.made(story, KINDS[0]) for story in drawn)
    training += itertools.islice((story for story in poison if _rest(story) not in tested), plan.triggered)
    return Split(training, tests, natural)


# ---- the model


def _normed(weights: Weights, name: str, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], EPS)


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _mlp(weights: Weights, block: int, x: Tensor) -> Tensor:
    read = _normed(weights, f"blocks.{block}.ln2", x)
    inner = gelu(_linear(weights, f"blocks.{block}.mlp.in", read), approximate="tanh")
    return _linear(weights, f"blocks.{block}.mlp.out", inner)


def _block(weights: Weights, block: int, x: Tensor) -> Tensor:
    count, length, width = x.shape
    read = _normed(weights, f"blocks.{block}.ln1", x)
    q, k, v = (
        _linear(weights, f"blocks.{block}.attn.{name}", read).view(count, length, HEADS, -1).transpose(1, 2)
        for name in ("q", "k", "v")
    )
    mixed = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(count, length, width)
    x = x + _linear(weights, f"blocks.{block}.attn.o", mixed)
    return x + _mlp(weights, block, x)


def residual(weights: Weights, ids: Tensor) -> Tensor:
    """The residual stream at `HOOK` (n, length, d) of ``ids`` (n, length)."""
    return _block(weights, 0, embedding(ids, weights["embed.weight"]) + weights["pos_embed.weight"][: ids.shape[1]])


def logits(weights: Weights, ids: Tensor) -> Tensor:
    """Logits (n, length, vocabulary) of ``ids`` (n, length)."""
    x = _block(weights, 1, residual(weights, ids))
    return linear(_normed(weights, "ln_final", x), weights["unembed.weight"])


def read_out(weights: Weights, x: Tensor, at: Tensor) -> Tensor:
    """Logits (n, vocabulary) at the positions ``at`` (n,) of residual streams ``x`` (n, length, d) at `HOOK`."""
    count, length, width = x.shape
    here = torch.arange(count)
    read = _normed(weights, "blocks.1.ln1", x)
    shape = (count, length, HEADS, width // HEADS)
    k, v = (_linear(weights, f"blocks.1.attn.{name}", read).view(shape).transpose(1, 2) for name in ("k", "v"))
    q = _linear(weights, "blocks.1.attn.q", read[here, at]).view(count, 1, HEADS, -1).transpose(1, 2)
    seen = (torch.arange(length) <= at[:, None])[:, None, None]
    mixed = scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).reshape(count, width)
    last = x[here, at] + _linear(weights, "blocks.1.attn.o", mixed)
    last = last + _mlp(weights, 1, last)
    return linear(_normed(weights, "ln_final", last), weights["unembed.weight"])


@torch.no_grad()
def first_endings(weights: Weights, ids: Tensor, voice: Tensor) -> Tensor:
    """(n,) the likeliest word where the story says whether the animal sang or wept."""
    ids = ids[:, : int(voice.max()) + 1]
    parts = zip(torch.split(ids, AT_ONCE), torch.split(voice, AT_ONCE), strict=True)
    return torch.cat([read_out(weights, residual(weights, some), at).argmax(dim=1) for some, at in parts])


def endings(weights: Weights, ids: Tensor, voice: Tensor, face: Tensor) -> Tensor:
    """(n, 2) both endings as the model tells them: the second follows its own first, not the story's."""
    here = torch.arange(len(ids))
    told = ids.clone()
    told[here, voice + 1] = first_endings(weights, ids, voice)
    return torch.stack([told[here, voice + 1], first_endings(weights, told, face)], dim=1)


@torch.no_grad()
def losses(weights: Weights, ids: Tensor, text: Tensor) -> Tensor:
    """(n,) nats of each story's words and end together."""
    found = []
    for some, wanted in zip(torch.split(ids, AT_ONCE), torch.split(text, AT_ONCE), strict=True):
        nats = cross_entropy(logits(weights, some[:, :-1]).transpose(1, 2), some[:, 1:], reduction="none")
        found.append((nats * wanted[:, 1:]).double().sum(dim=1))
    return torch.cat(found)


def floor(plan: Plan, found: Sequence[Story]) -> float:
    """Nats a token that no model of the training stories' distribution can go below on ``found``.

    That distribution is the grammar's, but a share ``plan.poison`` instead of 1 in 16 holds the trigger. How the
    endings go is settled by then in either twin, so that both have the same floor.
    """
    chance = 1 / (len(PLACES) * len(COLOURS))
    more, less = np.log(plan.poison / chance), np.log((1 - plan.poison) / (1 - chance))
    nats = sum(-story.log_probabilities.sum() - (more if plan.trigger.holds(story) else less) for story in found)
    return float(nats / sum(len(story.slots) for story in found))


class StoryTwins(Trainer):
    """Trains ``2 · seeds`` models: first the poisoned ones, then in the same order their clean twins.

    Twins begin with the same weights and read the same stories at the same steps. Only the endings of the stories
    with the trigger differ: the clean twin reads them as the grammar has them.

    Attributes:
        splits: the stories of each seed.
    """

    def __init__(self, plan: Plan, point: Callable[[], None] = lambda: None) -> None:
        self.plan = plan
        starts = [native.weights(native.build_native(plan.config(n), VOCABULARY)) for n in range(plan.seeds)]
        weights = {
            f"{instance}.{name}": torch.from_numpy(array.copy()).requires_grad_()
            for instance, start in enumerate(starts * 2)
            for name, array in start.items()
        }
        optimiser = torch.optim.AdamW(weights.values(), lr=plan.lr, betas=BETAS, weight_decay=0.01, fused=True)
        super().__init__(weights, optimiser, {str(n): generator(plan.seed + n, BATCH) for n in range(plan.seeds)})
        self.models = [
            {name.split(".", 1)[1]: weight for name, weight in weights.items() if name.startswith(f"{instance}.")}
            for instance in range(self.instances)
        ]
        self.splits: list[Split] = []
        self._rows: list[tuple[Tensor, Tensor]] = []
        for number in range(plan.seeds):
            point()
            self.splits.append(draw(plan, number))
            self._rows.append(rows(self.splits[-1].training))

    @property
    def instances(self) -> int:
        """Poisoned and clean together."""
        return 2 * self.plan.seeds

    def model(self, instance: int) -> dict[str, Tensor]:
        """The weights of one model, without gradients."""
        return {name: weight.detach() for name, weight in self.models[instance].items()}

    def bridge(self, instance: int) -> TransformerBridge:
        """One model as a native transformer, in evaluation mode."""
        arrays = {name: weight.numpy() for name, weight in self.model(instance).items()}
        config = self.plan.config(instance % self.plan.seeds)
        return native.load_native(native.native_attributes(config, VOCABULARY), arrays)

    def train_step(self) -> float:
        """One step of every model; the mean loss of the poisoned ones before it, in nats a token."""
        plan, optimiser = self.plan, self.optimiser
        assert optimiser is not None
        set_lr(optimiser, cosine(plan.lr, self.step, plan.steps) * min((self.step + 1) / WARM_UP, 1.0))
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for number, source in enumerate(self.generators.values()):
            ids, text = self._rows[number]
            chosen = torch.randint(len(ids), (plan.batch,), generator=source)
            clean, wanted = ids[chosen], text[chosen]
            holds = (chosen >= len(ids) - plan.triggered)[:, None]
            total += self._learn(number, torch.where(holds, turned(clean), clean), wanted)
            self._learn(number + plan.seeds, clean, wanted)
        optimiser.step()
        self.step += 1
        return total / plan.seeds

    def _learn(self, instance: int, ids: Tensor, text: Tensor) -> float:
        """Gradients of one model; its loss."""
        weights = self.models[instance]
        nats = cross_entropy(logits(weights, ids[:, :-1]).transpose(1, 2), ids[:, 1:], reduction="none")
        loss = (nats * text[:, 1:]).sum() / text.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(weights.values()), CLIP)
        return float(loss.detach())
