"""Transformers that learn families of near-identical features: [context, token] → next token.

    P(y | c, t) = softmax(β (g_t + ε d_{t,c}))         g, d Gaussian over the outputs

Several worlds (values of ε, and a control without families) are learned at once, each by a transformer of its own with
one block, two positions and no norm; only the last position is computed. The loss is the exact expectation over the
next token on all cells, so its floor, the mean conditional entropy, is exact too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.models.native import SPECIAL, load_native, native_attributes
from engine.toys.training import Trainer, cosine, generator, set_lr

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

HEADS = 4


@dataclass(frozen=True)
class World:
    """What one transformer learns.

    Attributes:
        name: for figures.
        epsilon: size of the contexts' part.
        laws: (contexts, tokens, outputs) P(y | c, t).
        own: (contexts, tokens, outputs) logits β (g_t + ε d_{t,c}) behind them.
    """

    name: str
    epsilon: float
    laws: Tensor
    own: Tensor

    @property
    def contexts(self) -> int:
        return int(self.laws.shape[0])

    @property
    def tokens(self) -> int:
        return int(self.laws.shape[1])

    @property
    def floor(self) -> float:
        """Mean conditional entropy of the next token, in nats."""
        law = self.laws.double()
        return float(-torch.xlogy(law, law).sum(dim=2).mean())  # 0 log 0 is 0


def families(
    tokens: int, contexts: int, outputs: int, beta: float, epsilons: Sequence[float], source: torch.Generator
) -> list[World]:
    """A world for each ε with the same g and d, then the control in which each cell has a law of its own.

    The control's logits are Gaussian with the variance of those of ε = 0: there is no common g_t.
    """
    g = torch.randn(tokens, outputs, generator=source)
    d = torch.randn(contexts, tokens, outputs, generator=source)
    alone = torch.randn(contexts, tokens, outputs, generator=source)
    found = []
    for epsilon in epsilons:
        own = beta * (g + epsilon * d)
        found.append(World(f"ε = {epsilon:g}", epsilon, own.softmax(dim=2), own))
    own = beta * alone
    found.append(World("control: independent cells", float("nan"), own.softmax(dim=2), own))
    return found


def circle(tokens: int, angles: int, outputs: int, beta: float, epsilon: float, source: torch.Generator) -> World:
    """Contexts are angles θ: d_{t,θ} = cos θ d¹_t + sin θ d²_t. Nothing is discrete about them."""
    g = torch.randn(tokens, outputs, generator=source)
    d = torch.randn(2, tokens, outputs, generator=source)
    theta = 2 * torch.pi * torch.arange(angles) / angles
    turned = theta.cos()[:, None, None] * d[0] + theta.sin()[:, None, None] * d[1]
    own = beta * (g + epsilon * turned)
    return World("circle of contexts", epsilon, own.softmax(dim=2), own)


def vocabulary(contexts: int, tokens: int, outputs: int) -> list[str]:
    """Contexts c0…, tokens t0…, outputs y0…, and the special words behind them."""
    return [
        *(f"c{number}" for number in range(contexts)),
        *(f"t{number}" for number in range(tokens)),
        *(f"y{number}" for number in range(outputs)),
        *SPECIAL,
    ]


class Ensemble:
    """Transformers of one shape, one for each of ``worlds``; weights are native ones with an instance axis in front."""

    def __init__(self, worlds: Sequence[World], d_model: int, d_mlp: int, source: torch.Generator) -> None:
        self.worlds = list(worlds)
        first = worlds[0]
        self.contexts, self.tokens, self.outputs = first.laws.shape
        self.d_model, self.d_mlp = d_model, d_mlp
        words = self.contexts + self.tokens + self.outputs + len(SPECIAL)
        shapes: dict[str, tuple[int, ...]] = {"embed.weight": (words, d_model), "pos_embed.weight": (3, d_model)}
        shapes |= {f"blocks.0.attn.{part}.weight": (d_model, d_model) for part in "qkvo"}
        shapes |= {"blocks.0.mlp.in.weight": (d_mlp, d_model), "blocks.0.mlp.in.bias": (d_mlp,)}
        shapes |= {"blocks.0.mlp.out.weight": (d_model, d_mlp), "blocks.0.mlp.out.bias": (d_model,)}
        shapes |= {"unembed.weight": (words, d_model)}
        count = len(worlds)
        self.weights = {
            name: (
                torch.zeros(count, *shape)
                if name.endswith("bias")
                else torch.randn(count, *shape, generator=source) * (shape[-1] ** -0.5)
            )
            for name, shape in shapes.items()
        }
        self.laws = torch.stack([world.laws.flatten(0, 1) for world in worlds])  # (I, contexts · tokens, outputs)

    def residual(self) -> Tensor:
        """Residual stream behind the block at the last position of all cells: (I, contexts, tokens, d_model)."""
        w = self.weights
        embed, place = w["embed.weight"], w["pos_embed.weight"]
        before = embed[:, : self.contexts] + place[:, :1]
        here = embed[:, self.contexts : self.contexts + self.tokens] + place[:, 1:2]

        def heads(x: Tensor, name: str) -> Tensor:  # (I, rows, HEADS, d_head)
            found: Tensor = x @ w[f"blocks.0.attn.{name}.weight"].mT
            return found.reshape(*found.shape[:2], HEADS, -1)

        query = heads(here, "q")
        to_context = torch.einsum("ithd,ichd->icth", query, heads(before, "k"))
        to_itself = (query * heads(here, "k")).sum(dim=3)[:, None]
        # A softmax over two scores is a sigmoid of their difference.
        share = ((to_context - to_itself) / query.shape[3] ** 0.5).sigmoid()[..., None]
        mixed = share * heads(before, "v")[:, :, None] + (1 - share) * heads(here, "v")[:, None]
        x = here[:, None] + torch.einsum("ictd,ied->icte", mixed.flatten(3), w["blocks.0.attn.o.weight"])
        flat = x.flatten(1, 2)
        inner = torch.baddbmm(w["blocks.0.mlp.in.bias"][:, None], flat, w["blocks.0.mlp.in.weight"].mT).relu()
        out = torch.baddbmm(w["blocks.0.mlp.out.bias"][:, None], inner, w["blocks.0.mlp.out.weight"].mT)
        return (flat + out).reshape(-1, self.contexts, self.tokens, self.d_model)

    def losses(self) -> Tensor:
        """Exact expected cross-entropy of each transformer over all cells: (I,) nats."""
        # All words compete, also those that never follow: the native model has them in its softmax.
        logits = self.residual().flatten(1, 2) @ self.weights["unembed.weight"].mT
        start = self.contexts + self.tokens
        outputs = logits.log_softmax(dim=2)[:, :, start : start + self.outputs]
        return -(self.laws * outputs).sum(dim=2).mean(dim=1)

    def unembedding(self, instance: int) -> Tensor:
        """(outputs, d_model)."""
        start = self.contexts + self.tokens
        return self.weights["unembed.weight"][instance, start : start + self.outputs].detach()

    @torch.no_grad()
    def model(self, instance: int) -> TransformerBridge:
        """One of them as a native transformer; its context has room for the next token."""
        config = {
            "d_model": self.d_model,
            "d_head": self.d_model // HEADS,
            "d_mlp": self.d_mlp,
            "n_layers": 1,
            "n_heads": HEADS,
            "n_ctx": 3,
            "d_vocab": self.weights["embed.weight"].shape[1],
            "act_fn": "relu",
            "normalization_type": None,
        }
        attributes = native_attributes(config, vocabulary(self.contexts, self.tokens, self.outputs))
        arrays = {name: tensor[instance].detach().numpy() for name, tensor in self.weights.items()}
        for part in "qkvo":
            arrays[f"blocks.0.attn.{part}.bias"] = torch.zeros(self.d_model).numpy()
        return load_native(attributes, arrays)


class FamilyTrainer(Trainer):
    """Adam on all cells at once, for two ensembles: discrete worlds and the circle."""

    def __init__(self, ensembles: Sequence[Ensemble], steps: int, lr: float) -> None:
        self.ensembles, self.steps, self.lr = list(ensembles), steps, lr
        weights = {
            f"{number}.{name}": tensor.requires_grad_()
            for number, one in enumerate(ensembles)
            for name, tensor in one.weights.items()
        }
        super().__init__(weights, torch.optim.Adam(weights.values(), lr=lr))

    def train_step(self) -> float:
        """One step; the mean over all transformers of their excess over the floor before it, in nats."""
        assert self.optimiser is not None
        set_lr(self.optimiser, cosine(self.lr, self.step, self.steps))
        losses = torch.cat([one.losses() for one in self.ensembles])
        self.optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        return float(losses.detach().mean()) - self.floor

    @property
    def worlds(self) -> list[World]:
        """Of all transformers, in order."""
        return [world for one in self.ensembles for world in one.worlds]

    @property
    def floor(self) -> float:
        """Mean of the floors."""
        return sum(world.floor for world in self.worlds) / len(self.worlds)

    @torch.no_grad()
    def excesses(self) -> list[float]:
        """Loss above the floor of each transformer, in nats."""
        losses = torch.cat([one.losses() for one in self.ensembles]).tolist()
        return [loss - world.floor for loss, world in zip(losses, self.worlds, strict=True)]

    @torch.no_grad()
    def activations(self) -> list[Tensor]:
        """Of each transformer the residual stream of all cells, token after token: (tokens · contexts, d_model)."""
        return [x.transpose(0, 1).flatten(0, 1).clone() for one in self.ensembles for x in one.residual()]

    def unembeddings(self) -> list[Tensor]:
        """(outputs, d_model) of each transformer."""
        return [one.unembedding(number) for one in self.ensembles for number in range(len(one.worlds))]


def make(
    tokens: int,
    contexts: int,
    angles: int,
    epsilons: Sequence[float],
    circle_epsilon: float,
    *,
    outputs: int,
    beta: float,
    d_model: int,
    d_mlp: int,
    steps: int,
    lr: float,
    seed: int,
) -> FamilyTrainer:
    """Worlds and fresh transformers."""
    discrete = families(tokens, contexts, outputs, beta, epsilons, generator(seed, 1))
    round_world = circle(tokens, angles, outputs, beta, circle_epsilon, generator(seed, 2))
    ensembles = [
        Ensemble(discrete, d_model, d_mlp, generator(seed, 0)),
        Ensemble([round_world], d_model, d_mlp, generator(seed, 3)),
    ]
    return FamilyTrainer(ensembles, steps, lr)
