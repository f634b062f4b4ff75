"""A small transformer that answers "a + b =": its pass at the last position, and the same as a native transformer.

A number is one token, in the question as in the answer. Blocks have layer norms without weights and no biases in attention.
Only the answer is predicted, so the last block computes the query, MLP and unembedding of "=" alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.native import SPECIAL, build_native

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

Array: TypeAlias = npt.NDArray[Any]
PLUS, EQUALS = "+", "="
LENGTH = 4  # tokens of a question
TOGETHER = 2_048  # questions answered at once where nothing is trained


@dataclass(frozen=True)
class SumShape:
    """Sizes of the network: numbers 0 … ``numbers`` - 1 are added, by ``layers`` blocks of ``heads`` heads."""

    numbers: int
    layers: int
    d_model: int
    heads: int
    d_mlp: int

    @property
    def sums(self) -> int:
        """How many different answers there are: 0 … 2 · numbers - 2."""
        return 2 * self.numbers - 1

    @property
    def words(self) -> list[str]:
        """The vocabulary: the numbers up to the largest sum, "+", "=" and the special tokens; a number's id is itself."""
        return [*map(str, range(self.sums)), PLUS, EQUALS, *SPECIAL]

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each weight; matrices take rows, as in ``x @ W``."""
        d, m = self.d_model, self.d_mlp
        found: dict[str, tuple[int, ...]] = {"embed": (self.sums + 2, d), "pos": (LENGTH, d)}
        for layer in range(self.layers):
            block = {
                "q": (d, d), "k": (d, d), "v": (d, d), "o": (d, d), "in": (d, m), "b_in": (m,), "out": (m, d), "b_out": (d,)
            }  # fmt: skip
            found |= {f"{name}.{layer}": shape for name, shape in block.items()}
        return found | {"unembed": (d, self.sums)}

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        return sum(math.prod(shape) for shape in self.weights().values())

    def initial(self, source: torch.Generator) -> dict[str, Tensor]:
        """Initial weights by name: normal with variance 1 / (rows of the matrix), embeddings 1 / d_model, biases 0."""
        found = {}
        for name, shape in self.weights().items():
            spread = (
                0.0 if name.startswith("b_") else shape[0] ** -0.5 if name.startswith("out") else self.d_model**-0.5
            )
            found[name] = torch.randn(shape, generator=source) * spread
        return found


def questions(numbers: int) -> Array:
    """Token ids (numbers², 4) of all questions; the pair (a, b) is row a · numbers + b."""
    a, b = np.divmod(np.arange(numbers**2), numbers)
    plus = 2 * numbers - 1
    return np.stack([a, np.full_like(a, plus), b, np.full_like(a, plus + 1)], axis=1).astype(np.int64)


def answers(numbers: int) -> Array:
    """a + b of all pairs, (numbers²,)."""
    a, b = np.divmod(np.arange(numbers**2), numbers)
    return np.asarray(a + b)


def final(shape: SumShape, w: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Residual stream after the last block at "=", (rows, d_model), for questions ``ids`` (rows, 4)."""
    heads, width = shape.heads, shape.d_model // shape.heads
    x = w["embed"][ids] + w["pos"]
    unseen = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)

    def split(values: Tensor) -> Tensor:
        return values.reshape(len(ids), -1, heads, width).transpose(1, 2)

    for layer in range(shape.layers):
        last = layer == shape.layers - 1
        y = _normed(x)
        query, key, value = (
            split(part @ w[f"{n}.{layer}"]) for n, part in (("q", y[:, -1:] if last else y), ("k", y), ("v", y))
        )
        scores = query @ key.transpose(-1, -2) / width**0.5
        if not last:
            scores = scores.masked_fill(unseen, -math.inf)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(len(ids), -1, shape.d_model)
        x = (x[:, -1:] if last else x) + mixed @ w[f"o.{layer}"]
        hidden = (_normed(x) @ w[f"in.{layer}"] + w[f"b_in.{layer}"]).relu()
        x = x + hidden @ w[f"out.{layer}"] + w[f"b_out.{layer}"]
    return x[:, -1]


def logits(shape: SumShape, w: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Logits (rows, sums) of the answers 0 … sums - 1 to ``ids`` (rows, 4)."""
    return _normed(final(shape, w, ids)) @ w["unembed"]


@torch.no_grad()
def all_logits(shape: SumShape, w: dict[str, Tensor], ids: Tensor) -> Tensor:
    """`logits` of many questions, some at a time and without a gradient."""
    return torch.cat([logits(shape, w, part) for part in torch.split(ids, TOGETHER)])


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def native(shape: SumShape, w: dict[str, Tensor]) -> TransformerBridge:
    """The network as a native transformer with the same logits of numbers at "="; those of other words are 0."""
    words = shape.words
    bridge = build_native(
        {
            "d_model": shape.d_model, "n_layers": shape.layers, "n_heads": shape.heads,
            "d_head": shape.d_model // shape.heads, "d_mlp": shape.d_mlp, "n_ctx": LENGTH, "d_vocab": len(words),
            "act_fn": "relu", "normalization_type": "LN",
        },
        words,
    )  # fmt: skip
    placed = {"tok_embed.weight": w["embed"], "pos.weight": w["pos"], "head.weight": w["unembed"].T}
    for layer in range(shape.layers):
        block = f"layers.{layer}."
        placed |= {f"{block}attn.{name}.weight": w[f"{name}.{layer}"].T for name in "qkvo"}
        placed |= {f"{block}mlp.fc_{name}.weight": w[f"{name}.{layer}"].T for name in ("in", "out")}
        placed |= {f"{block}mlp.fc_{name}.bias": w[f"b_{name}.{layer}"] for name in ("in", "out")}
    with torch.no_grad():
        for name, weight in bridge.original_model.named_parameters():
            short = name.replace("._original_component", "")
            part = placed.get(short)
            weight.fill_(1.0 if ".ln" in f".{short}" and short.endswith("weight") else 0.0)
            if part is not None:
                weight[tuple(slice(size) for size in part.shape)] = part.detach()
    bridge.eval()
    return bridge
