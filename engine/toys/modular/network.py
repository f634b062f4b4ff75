"""The one-layer transformer of modular addition, computed exactly but only where it counts.

A context is [a, b, "="] and only the logits at "=" are read, so queries, MLP and unembedding of other positions
never reach the loss and are left out; keys, values and what a head writes are computed once per number and position.
There are no layer norms, no biases in attention, and the unembedding has one column per number (Nanda et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models.native import SPECIAL, build_native
from engine.toys.training import generator

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

Array: TypeAlias = npt.NDArray[Any]
EQUALS = "="
OTHER_WORDS = -100.0  # logit of the words that are no numbers, in the native model
SHUT = 1e4  # how far below the others the score of "=" is in a uniform head: its softmax is exactly 0 there


@dataclass(frozen=True)
class Shape:
    """Sizes of the network.

    Attributes:
        p: the modulus; numbers are 0 … p - 1.
        d_model, heads, d_mlp: widths of the residual stream and the MLP, and the heads that share d_model.
        uniform: share β of uniform attention: each head attends (1 - β) as it has learned and β as ½, ½, 0.
    """

    p: int
    d_model: int
    heads: int
    d_mlp: int
    uniform: float = 0.0

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each weight; matrices take rows, as in ``x @ W``."""
        p, d, m = self.p, self.d_model, self.d_mlp
        return {
            "embed": (p + 1, d),  # the last row is "="
            "pos": (3, d),
            "q": (d, d),
            "k": (d, d),
            "v": (d, d),
            "o": (d, d),
            "in": (d, m),
            "b_in": (m,),
            "out": (m, d),
            "b_out": (d,),
            "unembed": (d, p),
        }

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        return sum(math.prod(shape) for shape in self.weights().values())


def initial(shape: Shape, seed: int) -> Tensor:
    """Initial weights as one vector (parameters,): normal with variance 1 / d_model, biases 0."""
    source, parts = generator(seed, 0), []
    for name, size in shape.weights().items():
        spread = 0.0 if name.startswith("b_") else shape.d_model**-0.5
        parts.append(torch.randn(math.prod(size), generator=source) * spread)
    return torch.cat(parts)


def unpack(shape: Shape, theta: Tensor) -> dict[str, Tensor]:
    """Weights by name, (instances, …), as views of ``theta`` (instances, parameters)."""
    shapes = shape.weights()
    parts = torch.split(theta, [math.prod(size) for size in shapes.values()], dim=1)
    return {name: part.reshape(-1, *size) for (name, size), part in zip(shapes.items(), parts, strict=True)}


def sums(p: int) -> Tensor:
    """(a + b) mod p of all pairs, (p²,); pair (a, b) is row a · p + b."""
    numbers = torch.arange(p)
    return ((numbers[:, None] + numbers) % p).flatten()


@dataclass(frozen=True)
class Passed:
    """What one pass gives at "=".

    Attributes:
        middle: (instances, rows, d_model) residual stream before the MLP.
        hidden: (instances, rows, d_mlp) neurons after ReLU.
        final: (instances, rows, d_model) residual stream after the MLP.
        logits: (instances, rows, p).
    """

    middle: Tensor
    hidden: Tensor
    final: Tensor
    logits: Tensor


def over_pairs(shape: Shape, theta: Tensor, rows: Tensor | None = None, kept_heads: Tensor | None = None) -> Passed:
    """The pass over all pairs, or over ``rows`` (instances · n,) counted through the instances.

    Args:
        theta: (instances, parameters), as `initial` gives them.
        kept_heads: (heads,) bool, those that write; None for all.
    """
    p, d, heads, width = shape.p, shape.d_model, shape.heads, shape.d_model // shape.heads
    w = unpack(shape, theta)
    count = len(theta)
    numbers, position = w["embed"][:, :p], w["pos"]
    last = w["embed"][:, p:] + position[:, 2:]
    x = torch.cat([numbers + position[:, :1], numbers + position[:, 1:2], last], dim=1)
    query = (last @ w["q"]).reshape(count, heads, width, 1) / width**0.5
    scores = ((x @ w["k"]).reshape(count, -1, heads, width).transpose(1, 2) @ query).squeeze(-1).transpose(1, 2)
    first, second, third = scores.split([p, p, 1], dim=1)
    spread = (count, p, p, heads)
    stacked = torch.stack(
        [first[:, :, None].expand(spread), second[:, None].expand(spread), third[:, None].expand(spread)]
    )
    pattern = blended(stacked.softmax(0), shape.uniform)
    values = (x @ w["v"]).reshape(count, -1, heads, width).transpose(1, 2)
    written = (values @ w["o"].reshape(count, heads, width, d)).transpose(1, 2)
    if kept_heads is not None:
        written = written * kept_heads[:, None]
    middle = pattern[0] @ written[:, :p] + (pattern[1].transpose(1, 2) @ written[:, p : 2 * p]).transpose(1, 2)
    middle = (middle + pattern[2] @ written[:, 2 * p :] + last[:, None]).reshape(count * p * p, d)
    if rows is not None:
        middle = middle.index_select(0, rows)
    return _rest(w, middle.reshape(count, -1, d))


def over_embeddings(shape: Shape, theta: Tensor, pairs: Tensor) -> Tensor:
    """Logits (n, p) of one instance, ``theta`` (1, parameters), for embeddings (n, 2, d_model) of a and b."""
    return from_middle(shape, theta, before_mlp(shape, theta, pairs)).logits[0]


def before_mlp(shape: Shape, theta: Tensor, pairs: Tensor) -> Tensor:
    """The residual stream before the MLP, (n, d_model), of one instance, for embeddings (n, 2, d_model) of a and b."""
    d, heads, width = shape.d_model, shape.heads, shape.d_model // shape.heads
    w = unpack(shape, theta)
    last = (w["embed"][:, shape.p] + w["pos"][:, 2]).expand(len(pairs), -1)
    x = torch.cat([pairs + w["pos"][:, :2], last[:, None]], dim=1)
    query = (last[:1] @ w["q"][0]).reshape(heads, width) / width**0.5
    scores = torch.einsum("nthe,he->tnh", (x @ w["k"][0]).reshape(-1, 3, heads, width), query)
    pattern = blended(scores.softmax(0), shape.uniform)
    mixed = torch.einsum("tnh,nthe->nhe", pattern, (x @ w["v"][0]).reshape(-1, 3, heads, width))
    return last + mixed.reshape(-1, d) @ w["o"][0]


def from_middle(shape: Shape, theta: Tensor, middle: Tensor) -> Passed:
    """What follows from a residual stream before the MLP, (n, d_model), in one instance, ``theta`` (1, parameters)."""
    return _rest(unpack(shape, theta), middle[None])


def blended(pattern: Tensor, uniform: float) -> Tensor:
    """Attention (3, …) to a, b and "=", of which the share ``uniform`` is ½, ½, 0."""
    if uniform == 0:
        return pattern
    half = torch.tensor([0.5, 0.5, 0.0]).reshape(3, *[1] * (pattern.ndim - 1))
    return (1 - uniform) * pattern + uniform * half


def _rest(w: dict[str, Tensor], middle: Tensor) -> Passed:
    hidden = torch.baddbmm(w["b_in"][:, None], middle, w["in"]).relu()
    final = torch.baddbmm(w["b_out"][:, None] + middle, hidden, w["out"])
    return Passed(middle, hidden, final, final @ w["unembed"])


def vocabulary(p: int) -> list[str]:
    """Words of the native model: the numbers, "=" and the special tokens."""
    return [*map(str, range(p)), EQUALS, *SPECIAL]


def contexts(p: int) -> Array:
    """All contexts [a, b, "="], (p², 3) int32."""
    a, b = np.divmod(np.arange(p * p), p)
    return np.stack([a, b, np.full(p * p, p)], axis=1).astype(np.int32)


def native(shape: Shape, theta: Tensor) -> TransformerBridge:
    """The network ``theta`` (parameters,) as a native transformer, whose logits of numbers at "=" are the same.

    Its residual stream has one dimension more, which is 1 at position 2 and 0 elsewhere. It gives words that are
    no numbers the logit -100, and shuts "=" out of uniform attention. Where attention is partly uniform the
    model has twice the heads: those that were learned, whose output is scaled by 1 - β, and as many
    uniform ones with the same values, scaled by β.
    """
    p, d, heads = shape.p, shape.d_model, shape.heads
    width, words = d // heads, vocabulary(p)
    groups = [share for share in (1 - shape.uniform, shape.uniform) if share > 0]
    total = d * len(groups)
    w = {name: part[0].detach() for name, part in unpack(shape, theta[None]).items()}
    bridge = build_native(
        {
            "d_model": d + 1,
            "n_layers": 1,
            "n_heads": heads * len(groups),
            "d_head": width,
            "d_mlp": shape.d_mlp,
            "n_ctx": 3,
            "d_vocab": len(words),
            "act_fn": "relu",
            "normalization_type": None,
        },
        words,
    )
    model: Any = bridge.original_model
    filled = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    by_name = {name.replace("._original_component", ""): weight for name, weight in filled.items()}
    block = "layers.0."
    by_name["tok_embed.weight"][: p + 1, :d] = w["embed"]
    by_name["pos.weight"][:, :d] = w["pos"]
    by_name["pos.weight"][2, d] = 1
    for number, share in enumerate(groups):
        part = slice(number * d, number * d + d)
        by_name[block + "attn.v.weight"][part, :d] = w["v"].T
        by_name[block + "attn.o.weight"][:d, part] = share * w["o"].T
        if number == 0 and shape.uniform < 1:
            by_name[block + "attn.q.weight"][part, :d] = w["q"].T
            by_name[block + "attn.k.weight"][part, :d] = w["k"].T
        else:  # the same score for a and b, and one far below for "="
            by_name[block + "attn.q.bias"][part] = 1
            by_name[block + "attn.k.weight"][part, d] = -SHUT
    assert by_name[block + "attn.q.bias"].shape == (total,)
    by_name[block + "mlp.fc_in.weight"][:, :d] = w["in"].T
    by_name[block + "mlp.fc_in.bias"][:] = w["b_in"]
    by_name[block + "mlp.fc_out.weight"][:d] = w["out"].T
    by_name[block + "mlp.fc_out.bias"][:d] = w["b_out"]
    by_name["head.weight"][:p, :d] = w["unembed"].T
    by_name["head.weight"][p:, d] = OTHER_WORDS
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(filled[name])
    bridge.eval()
    return bridge


def from_native(bridge: TransformerBridge) -> tuple[Shape, Tensor]:
    """The network that `native` has made ``bridge`` from: its shape and its weights (parameters,)."""
    model: Any = bridge.original_model
    by_name = {
        name.replace("._original_component", ""): weight.detach().float().cpu()
        for name, weight in model.named_parameters()
    }
    block = "layers.0."
    numbers, d = by_name["tok_embed.weight"].shape[0] - len(SPECIAL), by_name["tok_embed.weight"].shape[1] - 1
    out, total = by_name[block + "attn.o.weight"][:d], by_name[block + "attn.v.weight"].shape[0]
    shut = bool((by_name[block + "attn.k.weight"][:, d] == -SHUT).any())
    uniform = 0.0 if not shut else 1.0 if total == d else float(out[:, d:].norm() / (out[:, :d] + out[:, d:]).norm())
    output = out if total == d else out[:, :d] + out[:, d:]
    own = slice(0, d)
    # A network that attends uniformly alone has no scores; zeros serve, for they are blended away.
    scores = [by_name[block + f"attn.{name}.weight"][own, :d].T * (uniform < 1) for name in "qk"]
    parts = [
        by_name["tok_embed.weight"][:numbers, :d],
        by_name["pos.weight"][:, :d],
        *scores,
        by_name[block + "attn.v.weight"][own, :d].T,
        output.T,
        by_name[block + "mlp.fc_in.weight"][:, :d].T,
        by_name[block + "mlp.fc_in.bias"],
        by_name[block + "mlp.fc_out.weight"][:d].T,
        by_name[block + "mlp.fc_out.bias"][:d],
        by_name["head.weight"][: numbers - 1, :d].T,
    ]
    heads = int(bridge.cfg.n_heads) // (total // d)
    shape = Shape(numbers - 1, d, heads, by_name[block + "mlp.fc_in.bias"].shape[0], uniform)
    return shape, torch.cat([part.reshape(-1) for part in parts])
