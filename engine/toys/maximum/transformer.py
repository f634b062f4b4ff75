"""A one-layer attention-only transformer that finds the largest of K numbers: weights, training, circuits.

Everything is read at the last position, where the answer is predicted:

    scores[i]  = (E[q] + P[K−1]) W_Q W_Kᵀ (E[t_i] + P[i])ᵀ / √d
    logits     = (E[q] + P[K−1]) U + Σ_i softmax(scores)[i] · (E[t_i] + P[i]) W_V W_O U

with q = t_{K−1}. Both sums fall into a part of the token and a part of the position (`Circuits`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from engine.models.native import SPECIAL, build_native, weights
from engine.toys.training import Trainer, generator, set_lr

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

Array: TypeAlias = npt.NDArray[Any]
NEAR = 3  # the other numbers of a near tie lie so far below the largest at most
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Plan:
    """What to train: numbers 0 … ``numbers`` − 1, ``k`` of them in a sequence."""

    numbers: int
    k: int
    d_model: int
    steps: int
    batch: int
    lr: float
    seed: int


def vocabulary(numbers: int) -> list[str]:
    """The numbers, each its own id, and the special words behind them."""
    return [*(str(number) for number in range(numbers)), *SPECIAL]


def build(plan: Plan) -> TransformerBridge:
    """The untrained transformer; its context has room for the answer."""
    config = {
        "d_model": plan.d_model,
        "d_head": plan.d_model,
        "n_layers": 1,
        "n_heads": 1,
        "n_ctx": plan.k + 1,
        "d_vocab": plan.numbers + len(SPECIAL),
        "normalization_type": None,
        "attn_only": True,
        "seed": plan.seed,
    }
    return build_native(config, vocabulary(plan.numbers))


def uniform(plan: Plan, count: int, source: torch.Generator) -> Tensor:
    """Sequences (count, k) of numbers drawn alike: the largest is mostly large."""
    return torch.randint(plan.numbers, (count, plan.k), generator=source)


def near_ties(plan: Plan, count: int, source: torch.Generator) -> Tensor:
    """Sequences (count, k) whose largest number is drawn alike and whose others lie within `NEAR` below it."""
    largest = torch.randint(plan.numbers, (count, 1), generator=source)
    return _below(plan, largest, (largest - NEAR).clamp_min(0), source)


def even(plan: Plan, count: int, source: torch.Generator) -> Tensor:
    """Sequences (count, k) in which each number is the largest equally often, the others alike below it."""
    largest = (torch.arange(count) % plan.numbers)[:, None]
    return _below(plan, largest, torch.zeros_like(largest), source)


def _below(plan: Plan, largest: Tensor, least: Tensor, source: torch.Generator) -> Tensor:
    drawn = torch.rand(len(largest), plan.k, generator=source)
    found = least + (drawn * (largest - least + 1)).long()
    place = torch.randint(plan.k, (len(largest), 1), generator=source)
    return found.scatter(1, place, largest)


def forward(w: dict[str, Tensor], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, vocabulary) and attention (n, k) of the last position of ``tokens`` (n, k)."""
    k = tokens.shape[1]
    x = w["embed.weight"][tokens] + w["pos_embed.weight"][:k]
    last = x[:, -1]
    query = last @ w["blocks.0.attn.q.weight"].T
    # What the query asks of a residual vector, so that keys and values are not computed for all positions.
    asked = query @ w["blocks.0.attn.k.weight"]
    attention = (torch.einsum("nid,nd->ni", x, asked) / query.shape[1] ** 0.5).softmax(dim=1)
    seen = torch.einsum("ni,nid->nd", attention, x)
    out = seen @ w["blocks.0.attn.v.weight"].T @ w["blocks.0.attn.o.weight"].T
    return (last + out) @ w["unembed.weight"].T, attention


class MaxTrainer(Trainer):
    """AdamW with a learning rate that falls straight to zero; half of each batch are near ties."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.bridge = build(plan)
        found = {name: torch.from_numpy(array) for name, array in weights(self.bridge).items()}
        self.all = found
        trained = {name: tensor.requires_grad_() for name, tensor in found.items() if not name.endswith("bias")}
        optimiser = torch.optim.AdamW(trained.values(), lr=plan.lr, weight_decay=WEIGHT_DECAY)
        super().__init__(trained, optimiser, {"data": generator(plan.seed, 1)})

    def train_step(self) -> float:
        """One step; the batch's mean cross-entropy before it."""
        plan, source = self.plan, self.generators["data"]
        half = plan.batch // 2
        tokens = torch.cat((uniform(plan, plan.batch - half, source), near_ties(plan, half, source)))
        assert self.optimiser is not None
        set_lr(self.optimiser, plan.lr * (1 - self.step / plan.steps))
        logits, _ = forward(self.weights, tokens)
        loss = cross_entropy(logits, tokens.amax(dim=1))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

    @property
    def now(self) -> dict[str, Tensor]:
        """The weights without gradients, shared with the trainer."""
        return {name: tensor.detach() for name, tensor in self.all.items()}

    @torch.no_grad()
    def model(self) -> TransformerBridge:
        """The transformer with the weights as they are now."""
        from engine.models.native import load_native, native_attributes

        config = {"d_model": self.plan.d_model, "d_head": self.plan.d_model, "n_layers": 1, "n_heads": 1}
        config |= {"n_ctx": self.plan.k + 1, "d_vocab": self.plan.numbers + len(SPECIAL), "attn_only": True}
        attributes = native_attributes(
            {**config, "normalization_type": None, "seed": self.plan.seed}, vocabulary(self.plan.numbers)
        )
        return load_native(attributes, {name: tensor.numpy() for name, tensor in self.now.items()})


@dataclass(frozen=True)
class Circuits:
    """The transformer as tables over numbers, float64: nothing else acts at the last position.

    Attributes:
        scores: (q, t) attention score of the token t for the query q, its position left out (EQKE / √d).
        score_places: (q, i) what the position i adds.
        writes: (t, y) logits that the token t writes where it is attended to (EVOU).
        write_places: (i, y) what the position i adds.
        direct: (q, y) logits of the query's own residual stream.
    """

    scores: Array
    score_places: Array
    writes: Array
    write_places: Array
    direct: Array

    @property
    def numbers(self) -> int:
        return len(self.scores)

    @property
    def k(self) -> int:
        return int(self.score_places.shape[1])


def circuits(w: dict[str, Tensor], numbers: int, k: int) -> Circuits:
    """The tables of weights ``w``, and only the outputs that are numbers."""
    d = {name: tensor.double().numpy() for name, tensor in w.items()}
    embed, places = d["embed.weight"][:numbers], d["pos_embed.weight"][:k]
    unembed = d["unembed.weight"][:numbers].T
    asked = (embed + places[-1]) @ d["blocks.0.attn.q.weight"].T @ d["blocks.0.attn.k.weight"]
    asked /= len(d["blocks.0.attn.q.weight"]) ** 0.5
    written = d["blocks.0.attn.v.weight"].T @ d["blocks.0.attn.o.weight"].T @ unembed
    return Circuits(
        scores=asked @ embed.T,
        score_places=asked @ places.T,
        writes=embed @ written,
        write_places=places @ written,
        direct=(embed + places[-1]) @ unembed,
    )


@dataclass(frozen=True)
class SizeDirection:
    """The singular value decomposition of the score table without its row means.

    Attributes:
        shares: squared singular values over their sum.
        ratio: the first singular value over the second.
        right: (t,) the first right singular vector, rising with the number.
        correlation: of ``right`` with the number, never negative.
        rising: share of neighbouring numbers of which the larger has the larger entry.
        rest: (q, t) what is left of the table without its row means and its first component.
        rank_one: (q, t) that component.
    """

    shares: Array
    ratio: float
    right: Array
    correlation: float
    rising: float
    rest: Array
    rank_one: Array


def size_direction(scores: Array) -> SizeDirection:
    """Take ``scores`` (q, t) apart; a softmax does not see row means."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    first = right[0]
    correlation = float(np.corrcoef(first, np.arange(len(first)))[0, 1])
    sign = -1.0 if correlation < 0 else 1.0
    component = values[0] * np.outer(left[:, 0], first)
    return SizeDirection(
        shares=values**2 / np.sum(values**2),
        ratio=float(values[0] / max(values[1], 1e-300)),
        right=sign * first,
        correlation=abs(correlation),
        rising=float((np.diff(sign * first) > 0).mean()),
        rest=centred - component,
        rank_one=component,
    )
