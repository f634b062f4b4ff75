"""A small transformer trained on a hidden Markov process, and its residual streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.native import END, START, UNKNOWN, build_native, native_attributes
from engine.models.native import weights as weights_of
from engine.toys.beliefs.hidden_markov import Process
from engine.toys.training import Trainer, cosine, generator, set_lr

Array: TypeAlias = npt.NDArray[Any]
TRAINING, HELD_OUT = 1, 2  # streams of sequences
EPS = 1e-5
TOGETHER = 500  # sequences evaluated at once


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training.

    Attributes:
        layers, d_model, heads, d_head, d_mlp: of the transformer, which has LayerNorm and ReLU.
        context: tokens it reads; each predicts the next.
        batch: sequences a step, drawn anew each time; steps, lr: of Adam with cosine decay to 0.
        held_out: sequences it is measured on.
    """

    layers: int
    d_model: int
    heads: int
    d_head: int
    d_mlp: int
    context: int
    batch: int
    steps: int
    lr: float
    held_out: int
    seed: int

    def config(self, tokens: int) -> dict[str, Any]:
        """The config of `engine.models.native`."""
        return {
            "d_model": self.d_model, "n_layers": self.layers, "n_heads": self.heads, "d_head": self.d_head,
            "d_mlp": self.d_mlp, "n_ctx": self.context, "d_vocab": tokens + 3, "act_fn": "relu",
            "normalization_type": "LN", "seed": generator(self.seed, 0).initial_seed() % 2**62,
        }  # fmt: skip


def vocabulary(process: Process) -> list[str]:
    """The process's tokens first, so that ids are those of the process, and the special tokens."""
    return [*process.tokens, START, END, UNKNOWN]


def forward(weights: Mapping[str, Tensor], tokens: Tensor, heads: int) -> tuple[Tensor, list[Tensor]]:
    """Logits (n, context, vocabulary) and residual streams: after the embedding and after each block, (n, context, width).

    The same function as a native transformer with these weights (LayerNorm, ReLU).
    """
    n, length = tokens.shape
    stream = F.embedding(tokens, weights["embed.weight"]) + weights["pos_embed.weight"][:length]
    streams, width = [stream], stream.shape[-1]

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"], EPS)

    block = 0
    while f"blocks.{block}.ln1.weight" in weights:
        here = f"blocks.{block}"
        x = norm(f"{here}.ln1", stream)
        query, key, value = (
            linear(f"{here}.attn.{name}", x).view(n, length, heads, -1).transpose(1, 2) for name in "qkv"
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + linear(f"{here}.attn.o", mixed.transpose(1, 2).reshape(n, length, -1))
        stream = stream + linear(f"{here}.mlp.out", F.relu(linear(f"{here}.mlp.in", norm(f"{here}.ln2", stream))))
        streams.append(stream)
        block += 1
    return F.linear(norm("ln_final", stream), weights["unembed.weight"]), streams


@dataclass(frozen=True)
class Outputs:
    """What a network does on sequences.

    Attributes:
        law: (n, context, tokens) float64, its probabilities of the process's tokens.
        streams: (layers + 1, n, context, width) float32.
    """

    law: Array
    streams: Array


def outputs(weights: Mapping[str, Tensor], tokens: Array, heads: int, count: int) -> Outputs:
    """Run a network on ``tokens`` (n, context); ``count`` tokens of its vocabulary are the process's."""
    laws, streams = [], []
    with torch.no_grad():
        for some in torch.split(torch.from_numpy(tokens), TOGETHER):
            logits, found = forward(weights, some, heads)
            laws.append(logits.double().softmax(-1)[..., :count].numpy())
            streams.append(torch.stack(found).numpy())
    return Outputs(np.concatenate(laws), np.concatenate(streams, axis=1))


class BeliefTrainer(Trainer):
    """A transformer in training on fresh sequences of a process.

    Attributes:
        untrained: copies of the weights it began with.
        history: (times, columns) float64, for whoever measures; part of the checkpoint.
    """

    def __init__(self, plan: Plan, process: Process, times: int, columns: int) -> None:
        self.plan, self.process = plan, process
        config = plan.config(len(process.tokens))
        arrays = weights_of(build_native(config, vocabulary(process)))
        self.untrained = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self.history = torch.full((times, columns), torch.nan, dtype=torch.float64)
        weights = {name: tensor.clone().requires_grad_() for name, tensor in self.untrained.items()}
        optimiser = torch.optim.Adam(weights.values(), lr=plan.lr, fused=True)
        super().__init__(weights, optimiser, extra={"history": self.history})

    def train_step(self) -> float:
        """One step of Adam on a fresh batch; the mean loss before it in nats a token."""
        plan = self.plan
        # A generator of each step's own: it needs no place in the checkpoint.
        random = np.random.default_rng([plan.seed, TRAINING, self.step])
        drawn, _ = self.process.sample(plan.batch, plan.context + 1, random)
        tokens = torch.from_numpy(drawn)
        assert self.optimiser is not None
        set_lr(self.optimiser, cosine(plan.lr, self.step, plan.steps))
        logits, _ = forward(self.weights, tokens[:, :-1], plan.heads)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

    def held_out(self) -> Array:
        """The sequences to measure on, (n, context)."""
        random = np.random.default_rng([self.plan.seed, HELD_OUT])
        return self.process.sample(self.plan.held_out, self.plan.context, random)[0]

    def outputs(self, tokens: Array, *, untrained: bool = False) -> Outputs:
        """What the network, or the one it began as, does on ``tokens``."""
        weights = self.untrained if untrained else self.weights
        return outputs(weights, tokens, self.plan.heads, len(self.process.tokens))

    def native(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Attributes and arrays of the network as a native transformer."""
        config = self.plan.config(len(self.process.tokens))
        arrays = {name: tensor.detach().numpy().copy() for name, tensor in self.weights.items()}
        return native_attributes(config, vocabulary(self.process)), arrays
