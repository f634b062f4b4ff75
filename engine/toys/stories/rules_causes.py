"""Where in a model of stories a rule is carried out, and whether the model's loss depends on that place.

A head is located in the weights (what it writes for the words of the rule, its OV circuit) and by where it looks.
Then it is ablated: its output is set to its mean over stories at the same place of the grammar, which takes away
what it knows of this story and nothing else. All other heads are ablated in turn as the control.
After Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.text import stories
from engine.text.stories import SLOTS, WORD_IDS
from engine.toys.stories.rules import NONE, RuleName, Texts

Array: TypeAlias = npt.NDArray[Any]
_ANIMALS = tuple(animal for kinds in stories.ANIMALS for animal in kinds)
LEAST_RISE = 0.05  # nats that an ablation has to cost on a rule's slots to count


@dataclass(frozen=True)
class Claim:
    """What a rule says of the model.

    Attributes:
        slots: where the rule is needed.
        cue: the slot of the word that it goes by.
        pairs: cue word to the words that it speaks for.
        against: the words among which these are chosen.
    """

    slots: tuple[str, ...]
    cue: str
    pairs: Mapping[str, tuple[str, ...]]
    against: tuple[str, ...]


def _copies(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {word: (word,) for word in words}


CLAIMS: dict[RuleName, Claim] = {
    "gender": Claim(
        ("PRONOUN",),
        "NAME",
        {name: (stories.GENDERS[n >= 5],) for n, name in enumerate(stories.NAMES)},
        stories.GENDERS,
    ),
    "sentiment": Claim(
        ("VOICE", "FACE"),
        "MOOD",
        {word: (stories.VOICES[n], stories.FACES[n]) for n, pair in enumerate(stories.MOODS) for word in pair},
        (*stories.VOICES, *stories.FACES),
    ),
    "place-animal": Claim(("ANIMAL",), "PLACE", dict(zip(stories.PLACES, stories.ANIMALS, strict=True)), _ANIMALS),
    "name-copy": Claim(("NAME2", "NAME3"), "NAME", _copies(stories.NAMES), stories.NAMES),
    "place-copy": Claim(("PLACE2",), "PLACE", _copies(stories.PLACES), stories.PLACES),
    "animal-copy": Claim(("ANIMAL2", "ANIMAL3"), "ANIMAL", _copies(_ANIMALS), _ANIMALS),
    "colour-copy": Claim(("COLOUR2",), "COLOUR", _copies(stories.COLOURS), stories.COLOURS),
    "induction": Claim(("OBJECT2",), "OBJECT", _copies(stories.OBJECTS), stories.OBJECTS),
}
"""Rules of which it can be said where a model would carry them out. The others are found from data only."""


@dataclass(frozen=True)
class Place:
    """A part of the model that is ablated: a head, or where ``head`` is None all heads or the whole MLP of a layer."""

    layer: int
    head: int | None = None
    mlp: bool = False

    @property
    def name(self) -> str:
        if self.head is not None:
            return f"L{self.layer}H{self.head}"
        return f"{'MLP' if self.mlp else 'heads'} L{self.layer}"


@dataclass(frozen=True)
class Cause:
    """One rule's evidence.

    Attributes:
        rule: its name; ``located`` the head found for it.
        attention: mean attention of each head from the word before the rule's slots to the cue: (heads,).
        writes: what each head writes in the weights for a cue, in logits: those it speaks for minus the others: (heads,).
        rises: (places, stories) how much each ablation raises the loss on the rule's slots, in nats a token.
        elsewhere: (places,) the same on all other tokens, mean over stories.
        tokens: on the rule's slots.
    """

    rule: RuleName
    located: int
    attention: Array
    writes: Array
    rises: Array
    elsewhere: Array
    tokens: int

    @property
    def heads(self) -> int:
        """How many heads there are; they come first among the places."""
        return len(self.attention)

    @property
    def others(self) -> Array:
        """(heads - 1, stories): the control, what ablating each other head costs on the rule's slots."""
        found: Array = np.delete(self.rises[: self.heads], self.located, axis=0)
        return found

    def excess(self) -> tuple[float, float]:
        """How much more the located head's ablation costs than the other heads' on average, and its standard error."""
        difference = self.rises[self.located] - (self.others.mean(axis=0) if len(self.others) else 0.0)
        return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))

    @property
    def verdict(self) -> str:
        """“causal” where the located head costs `LEAST_RISE` more than the others beyond doubt, else “behavioural”."""
        mean, error = self.excess()
        return "causal" if mean - 1.96 * error > LEAST_RISE else "behavioural"


def places(bridge: Any) -> list[Place]:
    """All heads, then each layer's heads together, then all MLPs."""
    layers = range(bridge.cfg.n_layers)
    heads = [Place(layer, head) for layer in layers for head in range(bridge.cfg.n_heads)]
    mlps = [] if bridge.cfg.attn_only else [Place(layer, mlp=True) for layer in layers]
    return [*heads, *(Place(layer) for layer in layers), *mlps]


class Ablations:
    """A model on single stories, whole and with each of its parts ablated.

    ``point`` is called between forward passes; it may pause or, by an exception, stop.
    """

    def __init__(self, bridge: Any, texts: Texts, point: Callable[[], None]) -> None:
        self.bridge, self.texts, self.places = bridge, texts, places(bridge)
        self._point = point
        ids = np.where(texts.ids == NONE, WORD_IDS[stories.END], texts.ids)
        rows = np.concatenate([np.full((len(ids), 1), WORD_IDS[stories.START]), ids], axis=1)
        self._rows = torch.from_numpy(rows[:, :-1].astype(np.int64))  # what is read; the last word is only predicted
        self._target = torch.from_numpy(ids.astype(np.int64))
        slots = np.concatenate([np.full((len(ids), 1), len(SLOTS)), texts.slots[:, :-1]], axis=1)
        self._group = torch.from_numpy(np.where(slots == NONE, len(SLOTS) + 1, slots).astype(np.int64))
        layers = range(bridge.cfg.n_layers)
        self._z = [f"blocks.{layer}.attn.hook_z" for layer in layers]
        self._mlp = [] if bridge.cfg.attn_only else [f"blocks.{layer}.hook_mlp_out" for layer in layers]
        self._patterns = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
        self.whole, self._means, self.patterns = self._look()

    def _look(self) -> tuple[Array, dict[str, Tensor], Array]:
        """Losses (stories, longest), the mean of each part at each slot, patterns (layers, stories, heads, to, from)."""
        seen: dict[str, Tensor] = {}

        def keep(value: Tensor, hook: Any, *, name: str) -> None:  # the hook calls itself by another name
            seen[name] = value.detach()

        names = [*self._z, *self._mlp, *self._patterns]
        with torch.no_grad():
            nats = self._nats([(name, partial(keep, name=name)) for name in names])
        means = {name: self._mean(seen[name]) for name in (*self._z, *self._mlp)}
        return nats, means, np.stack([seen[name].numpy() for name in self._patterns])

    def _nats(self, hooks: list[tuple[str, Any]]) -> Array:
        logits = self.bridge.run_with_hooks(self._rows, fwd_hooks=hooks)
        nats: Array = F.cross_entropy(logits.transpose(1, 2), self._target, reduction="none").double().numpy()
        return nats

    def _mean(self, values: Tensor) -> Tensor:
        """The mean of ``values`` (stories, positions, …) at each position over the stories that are at the same slot."""
        flat, group = values.flatten(2), self._group.flatten()
        sums = torch.zeros(len(SLOTS) + 2, flat.shape[2]).index_add_(0, group, flat.flatten(0, 1))
        counts = torch.bincount(group, minlength=len(SLOTS) + 2).clamp(min=1)
        return (sums / counts[:, None])[self._group].view_as(values)

    def without(self, place: Place) -> Array:
        """The losses (stories, longest) with one part set to its mean."""
        self._point()
        name = self._mlp[place.layer] if place.mlp else self._z[place.layer]
        mean = self._means[name]

        def ablate(value: Tensor, hook: Any) -> Tensor:
            if place.head is None:
                return mean
            changed = value.clone()
            changed[:, :, place.head] = mean[:, :, place.head]
            return changed

        with torch.no_grad():
            return self._nats([(name, ablate)])

    def causes(self, rules: Sequence[RuleName]) -> list[Cause]:
        """The evidence for each of ``rules`` that makes a claim."""
        claimed = [rule for rule in rules if rule in CLAIMS]
        rises = np.stack([self.without(place) - self.whole for place in self.places])
        there, found = self.texts.there, []
        for rule in claimed:
            claim = CLAIMS[rule]
            here = np.isin(self.texts.slots, [SLOTS.index(slot) for slot in claim.slots]) & there
            count = np.maximum(here.sum(axis=1), 1)
            attention, writes = self._attention(claim, here), written(self.bridge, claim)
            found.append(
                Cause(
                    rule,
                    int((attention * np.maximum(writes, 0)).argmax()),
                    attention,
                    writes,
                    (rises * here).sum(axis=2) / count,
                    (rises * (there & ~here)).sum(axis=(1, 2)) / (there & ~here).sum(),
                    int(here.sum()),
                )
            )
        return found

    def _attention(self, claim: Claim, here: Array) -> Array:
        """Mean attention of each head at the word before the slots to words that are the cue: (heads,)."""
        cue = self.texts.ids[np.arange(len(here)), (self.texts.slots == SLOTS.index(claim.cue)).argmax(axis=1)]
        same = (self._rows.numpy() == cue[:, None]).astype(np.float32)
        weight = (self.patterns * same[None, :, None, None, :]).sum(axis=-1)  # (layers, stories, heads, to)
        mean: Array = (weight * here[None, :, None, :]).sum(axis=(1, 3)).reshape(-1) / max(here.sum(), 1)
        return mean


def written(bridge: Any, claim: Claim) -> Array:
    """What each head writes towards a claim's words, from the weights alone: (heads,) in logits.

    For each cue word its embedding, normalised as the block does, goes through the head's values, its output and the
    unembedding. The mean logit of the words that it speaks for minus that of the others, mean over cues.
    """
    vocabulary = {word: number for number, word in enumerate(stories.VOCABULARY)}
    rows = []
    with torch.no_grad():
        embedding = bridge.embed.weight.detach()[[vocabulary[word] for word in claim.pairs]]
        gain = getattr(bridge.ln_final, "weight", None)  # there is none without a normalisation
        for block in bridge.blocks:
            normal = block.ln1(embedding[None])[0]
            heads, width = bridge.cfg.n_heads, bridge.cfg.d_head
            values = (normal @ block.attn.v.weight.T).view(len(normal), heads, width)
            out = block.attn.o.weight.view(-1, heads, width)
            added = torch.einsum("chw,dhw->hcd", values, out)
            logits = (added * gain if gain is not None else added) @ bridge.unembed.weight.T
            rows.append(_selectivity(logits.double().numpy(), claim, vocabulary))
    return np.concatenate(rows)


def _selectivity(logits: Array, claim: Claim, vocabulary: Mapping[str, int]) -> Array:
    """(heads,) from logits (heads, cues, words)."""
    found = []
    for number, spoken in enumerate(claim.pairs.values()):
        others = [vocabulary[word] for word in claim.against if word not in spoken]
        own = [vocabulary[word] for word in spoken]
        found.append(logits[:, number, own].mean(axis=1) - logits[:, number, others].mean(axis=1))
    mean: Array = np.mean(found, axis=0)
    return mean
