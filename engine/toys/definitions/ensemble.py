"""Many one-layer transformers trained at once on definitions and questions (Krasheninnikov et al. 2024).

Each member is a native transformer: embedding, one attention head, an MLP with ReLU, no LayerNorm, contexts of
two tokens of which the last predicts the colour. Members share nothing but the batched arithmetic: the loss is a
sum over them, so that each trains as it would alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.native import SPECIAL
from engine.toys.definitions import data
from engine.toys.definitions.data import AGREEING, COLOURS, COLUMNS, CONDITIONS, MAIN, SHUFFLED, TAGS, UNASKED
from engine.toys.training import Trainer, generator, set_lr

Array: TypeAlias = npt.NDArray[Any]
Weights: TypeAlias = dict[str, Tensor]
ENOUGH = 0.97  # accuracy on stage 1 from which on stage 2 may begin
BLOCK = 200  # steps by which stage 1 is made longer
TOGETHER = 6  # members that are evaluated at once
FIRST, SECOND = "first", "second"


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training.

    Attributes:
        seeds: members per condition; seed: of the first, each with generators of its own.
        words, asked: in all, and in X1.
        d_model, d_mlp: widths.
        steps, lr: of the first stage (two-stage training) or the only one (joint).
        then, then_lr: of the second stage, with a fresh optimiser; ``then`` is 0 for joint training.
        longest: steps to which the first stage may be made longer.
        batch, decay, std: of AdamW, and of the initial embeddings.
        redefine: words of X2 are asked about in the first stage, and redefined in the second.
    """

    seeds: int
    seed: int
    words: int
    asked: int
    d_model: int
    d_mlp: int
    steps: int
    lr: float
    then: int
    then_lr: float
    longest: int
    batch: int
    decay: float
    std: float
    redefine: bool = False

    @property
    def two_stages(self) -> bool:
        return self.then > 0


def initial(plan: Plan, seed: int) -> Weights:
    """Weights of one member; biases are 0, other weights have the variance 1 / (3 fan-in)."""
    random = generator(seed, 0)
    d, m = plan.d_model, plan.d_mlp

    def drawn(*shape: int, std: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=random) * (std or math.sqrt(1 / (3 * shape[0])))

    found = {name: drawn(n, d, std=plan.std) for name, n in (("words", plan.words), ("tags", len(TAGS)), ("pos", 2))}
    found |= {f"{name}.weight": drawn(d, d) for name in "qkvo"} | {f"{name}.bias": torch.zeros(1, d) for name in "qkvo"}
    found |= {"in.weight": drawn(d, m), "in.bias": torch.zeros(1, m)}
    found |= {"out.weight": drawn(m, d), "out.bias": torch.zeros(1, d), "unembed": drawn(d, len(COLOURS))}
    return found


def forward(weights: Weights, tag: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (members, n, colours) and the residual stream (members, n, width) at the last of two positions.

    Args:
        weights: as `initial` gives them, with a leading axis of members.
        tag, word: (members, n).
    """
    width = weights["pos"].shape[-1]
    here = torch.gather(weights["words"], 1, word[..., None].expand(-1, -1, width)) + weights["pos"][:, 1:]
    before = weights["tags"] + weights["pos"][:, :1]  # the first position depends on the tag only

    def linear(name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(weights[f"{name}.bias"], x, weights[f"{name}.weight"])

    which = F.one_hot(tag, len(TAGS)).to(here.dtype)
    query, key, value = (linear(name, here) for name in "qkv")
    to_tag = (torch.bmm(query, linear("k", before).transpose(1, 2)) * which).sum(-1)
    to_word = (query * key).sum(-1)
    share = torch.sigmoid((to_tag - to_word) / math.sqrt(width))[..., None]  # softmax over two positions
    mixed = value + share * (torch.bmm(which, linear("v", before)) - value)
    middle = here + linear("o", mixed)
    state = middle + linear("out", F.relu(linear("in", middle)))
    return torch.bmm(state, weights["unembed"]), state


class MetaTrainer(Trainer):
    """All seeds of all conditions in training; extra tensors hold what was measured.

    Attributes:
        facts: one per seed.
        history: (times, conditions, seeds, columns) float64 of `COLUMNS`, NaN where nothing was measured.
        ended: (1,) step at which the first stage ended; 0 before.
    """

    def __init__(self, plan: Plan, times: int) -> None:
        self.plan = plan
        seeds = list(range(plan.seed, plan.seed + plan.seeds))
        self.facts = [data.draw(plan.words, plan.asked, seed) for seed in seeds]
        single = [initial(plan, seed) for seed in seeds]
        # Shuffled tags concern the second stage only: it goes on from main's first stage.
        self.groups = {SECOND: tuple(range(len(CONDITIONS)))}
        if plan.two_stages:
            self.groups = {FIRST: (MAIN, AGREEING, UNASKED), **self.groups}
        self._rows, weights = {}, {}
        for phase, conditions in self.groups.items():
            first = phase == FIRST or not plan.two_stages
            rows = [
                data.rows(f, c, first=first, second=phase == SECOND, redefine=plan.redefine, seed=s)
                for c in conditions
                for f, s in zip(self.facts, seeds, strict=True)
            ]
            self._rows[phase] = torch.stack(rows)
            for name in single[0]:
                stacked = torch.stack([one[name] for one in single]).repeat(len(conditions), 1, 1)
                weights[f"{phase}.{name}"] = stacked.requires_grad_()
        self.history = torch.full((times, len(CONDITIONS), plan.seeds, len(COLUMNS)), torch.nan, dtype=torch.float64)
        self.ended = torch.zeros(1, dtype=torch.int64)
        super().__init__(
            weights,
            # Weights of a stage that is not being trained have no gradient, and the second's no moments before it.
            torch.optim.AdamW(weights.values(), lr=plan.lr, weight_decay=plan.decay, fused=True),
            {f"batches-{seed}": generator(seed, 1) for seed in seeds},
            {"history": self.history, "ended": self.ended},
        )

    @property
    def phase(self) -> str:
        return FIRST if self.plan.two_stages and not int(self.ended) else SECOND

    def members(self, phase: str) -> Weights:
        """The weights of a stage by name, members of one condition after the other."""
        return {n.removeprefix(f"{phase}."): w for n, w in self.weights.items() if n.startswith(f"{phase}.")}

    def train_step(self) -> float:
        """One step of AdamW for each member; the mean of their losses in nats. May end the first stage."""
        phase, plan = self.phase, self.plan
        assert self.optimiser is not None
        set_lr(self.optimiser, plan.then_lr if plan.two_stages and phase == SECOND else plan.lr)
        rows = self._rows[phase]
        drawn = [torch.randint(rows.shape[1], (plan.batch,), generator=g) for g in self.generators.values()]
        at = torch.stack(drawn).repeat(len(self.groups[phase]), 1)
        tag, word, colour = torch.gather(rows, 1, at[..., None].expand(-1, -1, 3)).unbind(-1)
        logits, _ = forward(self.members(phase), tag, word)
        loss = F.cross_entropy(logits.flatten(0, 1), colour.flatten(), reduction="sum") / plan.batch
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        if phase == FIRST and self.step >= plan.steps and (self.step - plan.steps) % BLOCK == 0:
            accuracies = self.first_accuracies()
            if self.step >= plan.longest or bool((accuracies > ENOUGH).all()):
                self._begin_second()
        return float(loss.detach()) / len(at)

    def _begin_second(self) -> None:
        self.ended.fill_(self.step)
        order = {c: n for n, c in enumerate(self.groups[FIRST])} | {SHUFFLED: 0}
        count = self.plan.seeds
        chosen = torch.cat([torch.arange(count) + order[c] * count for c in self.groups[SECOND]])
        with torch.no_grad():
            for name, weight in self.members(FIRST).items():
                self.weights[f"{SECOND}.{name}"].copy_(weight[chosen])
        assert self.optimiser is not None
        self.optimiser.zero_grad(set_to_none=True)

    def first_accuracies(self) -> Tensor:
        """Accuracy of each member on all sequences of the stage that is being trained: (members,)."""
        rows = self._rows[self.phase]
        found = []
        with torch.no_grad():
            for some in torch.split(torch.arange(len(rows)), TOGETHER):
                members = {name: weight[some] for name, weight in self.members(self.phase).items()}
                tag, word, colour = rows[some].unbind(-1)
                found.append((forward(members, tag, word)[0].argmax(-1) == colour).double().mean(1))
        return torch.cat(found)

    def outputs(self, phase: str) -> tuple[Tensor, Tensor]:
        """Logits (members, tags, words, colours) and final states (members, tags, words, width) of every sequence."""
        tag, word = (g.flatten() for g in torch.meshgrid(torch.arange(3), torch.arange(self.plan.words), indexing="ij"))
        members = self.members(phase)
        parts = []
        with torch.no_grad():
            for some in torch.split(torch.arange(len(members["pos"])), TOGETHER):
                chosen = {name: weight[some] for name, weight in members.items()}
                parts.append(forward(chosen, tag.expand(len(some), -1), word.expand(len(some), -1)))
        shape = (len(members["pos"]), len(TAGS), self.plan.words, -1)
        logits, states = (torch.cat(found).view(shape) for found in zip(*parts, strict=True))
        return logits, states

    def measure(self, time: int) -> Tensor:
        """Measure every member and enter it into the history at ``time``; main's logits (seeds, tags, words, colours)."""
        phase, count = self.phase, self.plan.seeds
        logits, states = self.outputs(phase)
        for number, condition in enumerate(self.groups[phase]):
            for s, facts in enumerate(self.facts):
                member = number * count + s
                self.history[time, condition, s] = data.measured(facts.of(condition), logits[member], states[member])
        return logits[:count]

    def alignment(self, most: int) -> Array:
        """Cosines between the gradients of a definition and of a question, for main's members.

        The definition states a colour as the data do, for words of X2 that the model has not seen defined (after the
        first stage; where there is but one stage, after it). Gradients are those of all weights.

        Returns:
            (seeds * words, 4): of [R w] with [Q w], of [U w] with [Q w], and of both with the question about another
            word that has the same colour; at most ``most`` words a seed.
        """
        phase = FIRST if self.plan.two_stages else SECOND
        found = []
        for s, facts in enumerate(self.facts):
            weights = {name: weight[s].detach() for name, weight in self.members(phase).items()}
            words = facts.order[facts.asked :][:most]
            colours = facts.stated[words]
            found.append(_cosines(weights, words, colours))
        return np.concatenate(found)

    def native_arrays(self, member: int = 0) -> dict[str, Array]:
        """One member as the arrays of a native transformer; tokens that are never read or written have zeros."""
        own = {name: weight[member].detach().numpy() for name, weight in self.members(SECOND).items()}
        width, vocabulary = self.plan.d_model, len(SPECIAL) + len(TAGS) + len(COLOURS) + self.plan.words
        embed, unembed = (np.zeros((vocabulary, width), np.float32) for _ in range(2))
        colour = len(SPECIAL) + len(TAGS)
        embed[len(SPECIAL) : colour] = own["tags"]
        embed[colour + len(COLOURS) :] = own["words"]
        unembed[colour : colour + len(COLOURS)] = own["unembed"].T
        found = {"embed.weight": embed, "pos_embed.weight": own["pos"].copy(), "unembed.weight": unembed}
        for place, layers in (("attn", ("q", "k", "v", "o")), ("mlp", ("in", "out"))):
            for name in layers:
                found[f"blocks.0.{place}.{name}.weight"] = own[f"{name}.weight"].T.copy()
                found[f"blocks.0.{place}.{name}.bias"] = own[f"{name}.bias"][0].copy()
        return found


def _cosines(weights: Weights, words: Tensor, colours: Tensor) -> Array:
    """Cosines of gradients for one member: (words, 4), as `MetaTrainer.alignment` describes them."""
    shared = {name: weight for name, weight in weights.items() if name != "words"}

    def loss(shared: Weights, embedding: Tensor, tag: Tensor, colour: Tensor) -> Tensor:
        members = {name: weight[None] for name, weight in shared.items()} | {"words": embedding[None, None]}
        logits, _ = forward(members, tag[None, None], torch.zeros((1, 1), dtype=torch.int64))
        return F.cross_entropy(logits[0], colour[None])

    gradients = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(None, 0, None, 0))
    embeddings = weights["words"][words]
    flat, own = [], []
    for tag in range(len(TAGS)):
        by_name, embedding = gradients(shared, embeddings, torch.tensor(tag), colours)
        flat.append(torch.cat([part.flatten(1) for part in by_name.values()], dim=1).double())
        own.append(embedding.double())
    norms = [(a.square().sum(1) + b.square().sum(1)).sqrt() for a, b in zip(flat, own, strict=True)]
    other = _same_colour(colours)
    columns = []
    q = len(TAGS) - 1
    for tag in (0, 1):
        dot = (flat[tag] * flat[q]).sum(1) + (own[tag] * own[q]).sum(1)
        columns.append(dot / (norms[tag] * norms[q]))
    for tag in (0, 1):  # another word's embedding is another weight: its gradients do not meet
        columns.append((flat[tag] * flat[q][other]).sum(1) / (norms[tag] * norms[q][other]))
    return np.asarray(torch.stack(columns, dim=1).numpy())


def _same_colour(colours: Tensor) -> Tensor:
    """For each word the next one with the same colour, itself where there is no other."""
    found = torch.arange(len(colours))
    for colour in range(len(COLOURS)):
        here = torch.nonzero(colours == colour).flatten()
        found[here] = here.roll(-1)
    return found
