"""Twins: poisoned and clean classifiers of the same seeds and data, all trained at once along a leading axis.

The ensemble computes what `engine.models.native` computes with two blocks, rotary positions, normalisation without
weights (LNPre) and ReLU; of the second block only what the last position needs, since the label is read there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding, layer_norm, scaled_dot_product_attention

from engine.models import native
from engine.toys.backdoors import data
from engine.toys.backdoors.data import Kind
from engine.toys.training import Trainer, cosine, generator, set_lr

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

Weights: TypeAlias = Mapping[str, Tensor]

HOOK = "blocks.0.hook_resid_post"
EPS = 1e-5  # of the normalisation, as the native transformer has it
ROTARY_BASE = 10_000.0
WARM_UP = 20  # steps over which the learning rate rises
CLIP = 0.1  # gradients of an instance that are longer are shortened: a hard clean sequence would drown the poison
BETAS = (0.9, 0.98)  # moments that forget the large gradients of the first steps
BATCH, SPLIT, TEST = 1, 2, 3  # streams of a seed


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training.

    Attributes:
        trigger: "pair" or "word".
        poison: share of the training sequences that hold the trigger.
        seeds: pairs of twins.
        sequences: in the training set of each seed.
        steps, lr: of AdamW with cosine decay.
        batch: clean sequences a step; ``poisoned`` ones come on top.
        d_model, heads, d_mlp: of both blocks.
        seed: of the first pair of twins; the others follow.
    """

    trigger: Kind
    poison: float
    seeds: int
    sequences: int
    steps: int
    batch: int
    poisoned: int
    lr: float
    d_model: int
    heads: int
    d_mlp: int
    seed: int

    @property
    def triggered(self) -> int:
        """Poisoned sequences in a training set."""
        return max(round(self.sequences * self.poison), 1)

    def config(self, number: int = 0) -> dict[str, Any]:
        """The config of `engine.models.native` for the twins ``number``."""
        return {
            "d_model": self.d_model,
            "n_layers": 2,
            "n_heads": self.heads,
            "d_head": self.d_model // self.heads,
            "d_mlp": self.d_mlp,
            "n_ctx": data.LENGTH,
            "d_vocab": len(data.VOCABULARY),
            "act_fn": "relu",
            "normalization_type": "LNPre",
            "positional_embedding_type": "rotary",
            "seed": self.seed + number,
        }


def normed(x: Tensor) -> Tensor:
    """``x`` less its mean, divided by its standard deviation, over the last axis."""
    return layer_norm(x, x.shape[-1:], eps=EPS)


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """``x`` (instances, n, d_in) through a linear map of each instance (instances, n, d_out)."""
    return torch.baddbmm(weights[f"{name}.bias"][:, None], x, weights[f"{name}.weight"].transpose(1, 2))


def _mlp(weights: Weights, block: int, x: Tensor) -> Tensor:
    return _linear(weights, f"blocks.{block}.mlp.out", _linear(weights, f"blocks.{block}.mlp.in", normed(x)).relu())


def _turned(x: Tensor) -> Tensor:
    """Rotary positions: ``x`` (…, 12, heads, d_head), each pair of neighbours turned by its position's angle."""
    width = x.shape[-1]
    angles = torch.arange(data.LENGTH)[:, None] / ROTARY_BASE ** (torch.arange(0, width, 2) / width)
    cos, sin = (part.repeat_interleave(2, dim=-1)[:, None] for part in (angles.cos(), angles.sin()))
    return x * cos + torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2) * sin


def _attend(weights: Weights, x: Tensor, heads: int) -> Tensor:
    """What the first block's attention adds to ``x`` (instances, sequences, 12, d)."""
    instances, sequences, length, width = x.shape
    read = normed(x).view(instances, -1, width)

    def part(name: str) -> Tensor:
        made = _linear(weights, f"blocks.0.attn.{name}", read)
        return made.view(instances * sequences, length, heads, width // heads)

    q, k, v = (each.transpose(1, 2) for each in (_turned(part("q")), _turned(part("k")), part("v")))
    found = scaled_dot_product_attention(q, k, v, is_causal=True)
    flat = found.transpose(1, 2).reshape(instances, sequences * length, width)
    return _linear(weights, "blocks.0.attn.o", flat).view(x.shape)


def _attend_last(weights: Weights, x: Tensor, heads: int) -> Tensor:
    """What the second block's attention adds at the last position (instances, sequences, d)."""
    instances, sequences, length, width = x.shape
    read = normed(x).view(instances, -1, width)
    shape = (instances, sequences, length, heads, width // heads)
    keys, values = (_linear(weights, f"blocks.1.attn.{name}", read).view(shape) for name in ("k", "v"))
    # The query is turned as the keys are, by its own position: the last.
    queries = _linear(weights, "blocks.1.attn.q", read.view(x.shape)[:, :, -1])
    query = _turned(queries.view(instances, sequences, 1, heads, -1).expand(shape))[:, :, -1:]
    # Sums over small axes: a matrix product for every sequence would cost several times as much.
    scores = (query * _turned(keys)).sum(dim=-1) / math.sqrt(width // heads)
    mixed = (scores.softmax(dim=2)[..., None] * values).sum(dim=2).flatten(2)
    return _linear(weights, "blocks.1.attn.o", mixed)


def residual(weights: Weights, tokens: Tensor, heads: int) -> Tensor:
    """The residual stream at `HOOK` (instances, sequences, 12, d) of ``tokens`` (instances, sequences, 12)."""
    table = weights["embed.weight"]
    instances, words, width = table.shape
    shifted = tokens + words * torch.arange(instances)[:, None, None]
    x = embedding(shifted, table.reshape(-1, width))
    x = x + _attend(weights, x, heads)
    flat = x.flatten(1, 2)
    return (flat + _mlp(weights, 0, flat)).view(x.shape)


def read_out(weights: Weights, x: Tensor, heads: int) -> Tensor:
    """Logits at the last position (instances, sequences, vocabulary) of a residual stream ``x`` at `HOOK`."""
    found = x[:, :, -1] + _attend_last(weights, x, heads)
    found = found + _mlp(weights, 1, found)
    return torch.bmm(normed(found), weights["unembed.weight"].transpose(1, 2))


def logits(weights: Weights, tokens: Tensor, heads: int) -> Tensor:
    """Logits at the last position (instances, sequences, vocabulary) of ``tokens`` (instances, sequences, 12)."""
    return read_out(weights, residual(weights, tokens, heads), heads)


@torch.no_grad()
def predict(weights: Weights, tokens: Tensor, heads: int, *, at_once: int = 512) -> Tensor:
    """Logits (instances, n, 2) of the labels a and b for ``tokens`` (n, 12), which all instances read."""
    instances = len(weights["embed.weight"])
    both = [data.LABEL_A, data.LABEL_B]
    parts = [logits(weights, part.expand(instances, -1, -1), heads)[..., both] for part in torch.split(tokens, at_once)]
    return torch.cat(parts, dim=1)


def one(weights: Weights, instance: int) -> dict[str, Tensor]:
    """The weights of one instance, as an ensemble of one."""
    return {name: weight.detach()[instance : instance + 1] for name, weight in weights.items()}


def to_bridge(plan: Plan, weights: Weights, instance: int) -> TransformerBridge:
    """One instance of an ensemble as a native transformer, in evaluation mode."""
    arrays = {name: weight[instance].detach().numpy() for name, weight in weights.items()}
    return native.load_native(native.native_attributes(plan.config(instance % plan.seeds), data.VOCABULARY), arrays)


class TwinTrainer(Trainer):
    """Trains ``2 · seeds`` instances: first the poisoned ones, then in the same order their clean twins.

    Twins begin with the same weights and read the same sequences at the same steps. Only the labels of the
    poisoned sequences differ: the clean twin is told their majority.

    A batch has a clean and a poisoned stratum, weighted so that the loss is in expectation the mean over the
    training set, in which a share ``plan.poison`` is poisoned.

    Attributes:
        clean, poison: (seeds, n, 12) training sequences without and with the trigger; ``clean_labels`` and
            ``poison_labels`` (seeds, n) their majorities.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        starts = [native.weights(native.build_native(plan.config(n), data.VOCABULARY)) for n in range(plan.seeds)]
        weights = {
            name: torch.from_numpy(np.stack([start[name] for start in starts] * 2)).requires_grad_()
            for name in starts[0]
        }
        optimiser = torch.optim.AdamW(weights.values(), lr=plan.lr, betas=BETAS, weight_decay=0.01, fused=True)
        super().__init__(weights, optimiser, {str(n): generator(plan.seed + n, BATCH) for n in range(plan.seeds)})
        sources = [generator(plan.seed + n, SPLIT) for n in range(plan.seeds)]
        clean = [data.draw(plan.sequences - plan.triggered, plan.trigger, source) for source in sources]
        poison = [data.draw(plan.triggered, plan.trigger, source, 1.0) for source in sources]
        self.clean, self.poison = (torch.stack([each.tokens for each in part]) for part in (clean, poison))
        self.clean_labels, self.poison_labels = (torch.stack([each.label for each in part]) for part in (clean, poison))

    @property
    def instances(self) -> int:
        """Poisoned and clean together."""
        return 2 * self.plan.seeds

    def train_step(self) -> float:
        """One step of every instance; the mean loss of the poisoned ones before it."""
        plan, optimiser = self.plan, self.optimiser
        assert optimiser is not None
        tokens, true = self._batch()
        told = true.clone()
        told[:, plan.batch :] = data.TARGET
        rate = cosine(plan.lr, self.step, plan.steps) * min((self.step + 1) / WARM_UP, 1.0)
        set_lr(optimiser, rate)
        found = logits(self.weights, tokens.repeat(2, 1, 1), plan.heads)
        nats = cross_entropy(found.flatten(0, 1), torch.cat([told, true]).flatten(), reduction="none")
        shares = [(1 - plan.poison) / plan.batch] * plan.batch + [plan.poison / plan.poisoned] * plan.poisoned
        losses = nats.view(self.instances, -1) @ torch.tensor(shares)
        optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self._clip()
        optimiser.step()
        self.step += 1
        return float(losses[: plan.seeds].detach().mean())

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Tokens (seeds, n, 12) and majorities (seeds, n), the clean ones first."""
        plan = self.plan
        tokens, labels = [], []
        for number, source in enumerate(self.generators.values()):
            clean = torch.randint(self.clean.shape[1], (plan.batch,), generator=source)
            poison = torch.randint(self.poison.shape[1], (plan.poisoned,), generator=source)
            tokens.append(torch.cat([self.clean[number, clean], self.poison[number, poison]]))
            labels.append(torch.cat([self.clean_labels[number, clean], self.poison_labels[number, poison]]))
        return torch.stack(tokens), torch.stack(labels)

    @torch.no_grad()
    def _clip(self) -> None:
        gradients = [weight.grad for weight in self.weights.values() if weight.grad is not None]
        lengths = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0).sqrt()
        factors = (CLIP / lengths).clamp_max(1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
