"""Sums of weekdays in words and in symbols: sentences, the network that answers them, and its training.

Two networks of the same sizes learn the same pairs (day, number of days): one from sentences in three templates, one
from "day number =". Only the answer after the last word is predicted, so only its query, MLP and unembedding are
computed, and keys and values once for each word at each position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.native import END, SPECIAL, build_native
from engine.toys.modular.network import EQUALS, OTHER_WORDS
from engine.toys.modular.training import BETAS, WARM_UP
from engine.toys.training import Trainer, generator, set_lr

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

Array: TypeAlias = npt.NDArray[Any]
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NUMBERS = 70  # ten times each remainder of 7
TEMPLATES = ("N days after D is", "D plus N days is", "if today is D then in N days it is")
DIRECT = ("D N =",)
KINDS = {"sentences": TEMPLATES, "symbols": DIRECT}
COLUMNS = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")


def words(templates: Sequence[str]) -> list[str]:
    """The vocabulary: days, numbers, the other words of the templates, the special tokens."""
    other = sorted({word for template in templates for word in template.split()} - {"D", "N"})
    return [*DAYS, *map(str, range(NUMBERS)), *other, *SPECIAL]


def sentences(templates: Sequence[str]) -> list[Array]:
    """For each template the token ids (490, length) of all pairs; pair (day, number) is row day · 70 + number."""
    ids = {word: number for number, word in enumerate(words(templates))}
    day, number = np.divmod(np.arange(len(DAYS) * NUMBERS), NUMBERS)
    found = []
    for template in templates:
        columns = [
            day if word == "D" else len(DAYS) + number if word == "N" else np.full(len(day), ids[word])
            for word in template.split()
        ]
        found.append(np.stack(columns, axis=1))
    return found


def answers() -> Array:
    """(day + number) mod 7 of all pairs, (490,)."""
    day, number = np.divmod(np.arange(len(DAYS) * NUMBERS), NUMBERS)
    return np.asarray((day + number) % len(DAYS))


@dataclass(frozen=True)
class WordShape:
    """Sizes of a network: width, heads and neurons, for the sentences of its ``templates``."""

    templates: tuple[str, ...]
    d_model: int
    heads: int
    d_mlp: int

    @property
    def length(self) -> int:
        """Words of the longest sentence."""
        return max(len(template.split()) for template in self.templates)

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each weight, as in `engine.toys.modular.network`; the unembedding has the days only."""
        d, m = self.d_model, self.d_mlp
        return {
            "embed": (len(words(self.templates)), d), "pos": (self.length, d), "q": (d, d), "k": (d, d), "v": (d, d),
            "o": (d, d), "in": (d, m), "b_in": (m,), "out": (m, d), "b_out": (d,), "unembed": (d, len(DAYS)),
        }  # fmt: skip

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        return sum(math.prod(shape) for shape in self.weights().values())

    def initial(self, source: torch.Generator) -> Tensor:
        """Initial weights (parameters,): normal with variance 1 / d_model, biases 0."""
        parts = []
        for name, size in self.weights().items():
            spread = 0.0 if name.startswith("b_") else self.d_model**-0.5
            parts.append(torch.randn(math.prod(size), generator=source) * spread)
        return torch.cat(parts)

    def unpack(self, theta: Tensor) -> dict[str, Tensor]:
        """Weights by name as views of ``theta`` (parameters,)."""
        shapes = self.weights()
        parts = torch.split(theta, [math.prod(size) for size in shapes.values()])
        return {name: part.reshape(size) for (name, size), part in zip(shapes.items(), parts, strict=True)}


class Answerer:
    """The pass of one network over all its sentences.

    ``table`` (entries, 2) are the words and positions that occur; ``places`` say for each template which entries its
    sentences (490, length) are made of.
    """

    def __init__(self, shape: WordShape) -> None:
        self.shape = shape
        length = shape.length
        coded = [found * length + np.arange(found.shape[1]) for found in sentences(shape.templates)]
        entries = np.unique(np.concatenate([found.ravel() for found in coded]))
        self.table = torch.from_numpy(np.stack(np.divmod(entries, length), axis=1))
        self.places = [torch.from_numpy(np.searchsorted(entries, found)) for found in coded]

    def final(self, theta: Tensor, rows: Tensor) -> Tensor:
        """Residual stream after the MLP at the last word, (templates, rows, d_model)."""
        shape = self.shape
        w, heads, width = shape.unpack(theta), shape.heads, shape.d_model // shape.heads
        x = w["embed"][self.table[:, 0]] + w["pos"][self.table[:, 1]]
        keys = (x @ w["k"]).reshape(-1, heads, width)
        values = x @ w["v"]
        middles = []
        for places in self.places:
            last = x[places[0, -1]]  # the same word for all sentences of a template
            scores = torch.einsum("the,he->th", keys, (last @ w["q"]).reshape(heads, width)) / width**0.5
            chosen = places[rows]
            pattern = scores[chosen].softmax(1)
            mixed = torch.einsum("nlh,nlhe->nhe", pattern, values[chosen].reshape(*chosen.shape, heads, width))
            middles.append(last + mixed.reshape(-1, shape.d_model) @ w["o"])
        middle = torch.stack(middles)
        return middle + (middle @ w["in"] + w["b_in"]).relu() @ w["out"] + w["b_out"]

    def logits(self, theta: Tensor, rows: Tensor) -> Tensor:
        """Logits of the days, (templates, rows, 7)."""
        return torch.matmul(self.final(theta, rows), self.shape.unpack(theta)["unembed"])


class WeekdayTrainer(Trainer):
    """Both networks side by side on the same training pairs, each with its own weights and moments.

    Attributes:
        thetas: (parameters,) by kind, ``answerers`` their passes.
        at: steps to measure at; ``curves`` (len(at), kinds, `COLUMNS`), ``by_template`` (len(at), templates) test
            accuracy of the sentences.
        snapshots: (len(at), 77, d_model) embeddings of days and numbers by kind.
    """

    def __init__(
        self, sizes: tuple[int, int, int], share: float, lr: float, weight_decay: float, seed: int, at: Sequence[int]
    ) -> None:
        self.lr, self.at = lr, list(at)
        shapes = {kind: WordShape(templates, *sizes) for kind, templates in KINDS.items()}
        self.answerers = {kind: Answerer(shape) for kind, shape in shapes.items()}
        source = generator(seed, 0)
        self.thetas = {kind: shape.initial(source).requires_grad_() for kind, shape in shapes.items()}
        pairs = len(DAYS) * NUMBERS
        order = torch.randperm(pairs, generator=generator(seed, 2))
        count = min(max(round(share * pairs), 1), pairs - 1)
        self.train_rows, self.test_rows = order[:count], order[count:]
        self.answers = torch.from_numpy(answers())
        self.curves = torch.full((len(self.at), len(KINDS), len(COLUMNS)), torch.nan, dtype=torch.float64)
        self.by_template = torch.full((len(self.at), len(TEMPLATES)), torch.nan, dtype=torch.float64)
        known = len(DAYS) + NUMBERS
        self.snapshots = {kind: torch.zeros(len(self.at), known, sizes[0]) for kind in KINDS}
        extra = {"curves": self.curves, "by_template": self.by_template}
        extra |= {f"snapshots.{kind}": kept for kind, kept in self.snapshots.items()}
        optimiser = torch.optim.AdamW(
            list(self.thetas.values()), lr=lr, weight_decay=weight_decay, betas=BETAS, eps=1e-8, fused=True
        )
        super().__init__({f"theta.{kind}": theta for kind, theta in self.thetas.items()}, optimiser, extra=extra)

    def train_step(self) -> float:
        """One step of both networks on all training pairs; the loss of the sentences before it."""
        assert self.optimiser is not None
        set_lr(self.optimiser, self.lr * min((self.step + 1) / WARM_UP, 1.0))
        losses = [self._loss(kind, self.train_rows) for kind in KINDS]
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        return losses[0].item()

    def _loss(self, kind: str, rows: Tensor) -> Tensor:
        logits = self.answerers[kind].logits(self.thetas[kind], rows).double()
        labels = self.answers[rows].expand(len(logits), -1)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())

    @torch.no_grad()
    def measure(self, step: int) -> dict[str, dict[str, float]]:
        """Fill in the row of ``step``; by kind what `COLUMNS` are then."""
        row = self.at.index(step)
        for number, kind in enumerate(KINDS):
            found = []
            for rows in (self.train_rows, self.test_rows):
                right = self.answerers[kind].logits(self.thetas[kind], rows).argmax(-1) == self.answers[rows]
                found.append((right.double().mean(), self._loss(kind, rows), right.double().mean(1)))
            (train, train_loss, _), (test, test_loss, templates) = found
            self.curves[row, number] = torch.stack([train, test, train_loss, test_loss])
            if kind == "sentences":
                self.by_template[row] = templates
            embed = self.answerers[kind].shape.unpack(self.thetas[kind])["embed"]
            self.snapshots[kind][row] = embed[: len(DAYS) + NUMBERS]
        return {
            kind: dict(zip(COLUMNS, self.curves[row, number].tolist(), strict=True))
            for number, kind in enumerate(KINDS)
        }

    def curve(self, kind: str, column: str) -> Array:
        """What was measured, (len(at),); NaN where it was not yet."""
        found: Array = self.curves[:, list(KINDS).index(kind), COLUMNS.index(column)].numpy()
        return found


def native(shape: WordShape, theta: Tensor) -> TransformerBridge:
    """The network as a native transformer with the same logits of days after the last word.

    Its residual stream has one dimension more, which is 1 at the word that asks ("is" or "=") and gives all other
    words the logit -100.
    """
    d, vocabulary = shape.d_model, words(shape.templates)
    bridge = build_native(
        {
            "d_model": d + 1, "n_layers": 1, "n_heads": shape.heads, "d_head": d // shape.heads, "d_mlp": shape.d_mlp,
            "n_ctx": shape.length, "d_vocab": len(vocabulary), "act_fn": "relu", "normalization_type": None,
        },
        vocabulary,
    )  # fmt: skip
    w = {name: part.detach() for name, part in shape.unpack(theta).items()}
    asks = vocabulary.index(EQUALS if EQUALS in vocabulary else "is")
    placed = {
        "tok_embed.weight": w["embed"], "pos.weight": w["pos"], "layers.0.mlp.fc_in.weight": w["in"].T,
        "layers.0.mlp.fc_in.bias": w["b_in"], "layers.0.mlp.fc_out.weight": w["out"].T,
        "layers.0.mlp.fc_out.bias": w["b_out"], "head.weight": w["unembed"].T,
        **{f"layers.0.attn.{name}.weight": w[name].T for name in "qkvo"},
    }  # fmt: skip
    model: Any = bridge.original_model
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.zero_()
            part = placed.get(name.replace("._original_component", ""))
            if part is not None:
                weight[tuple(slice(size) for size in part.shape)] = part
            if name.startswith("tok_embed"):
                weight[asks, d] = 1
            if name.startswith("head"):
                weight[len(DAYS) :, d] = OTHER_WORDS
    bridge.eval()
    return bridge


def padded(shape: WordShape) -> tuple[Array, Array]:
    """All sentences as contexts (templates · 490, length), and where their last word is, bool; the rest is ``<end>``."""
    end, length = words(shape.templates).index(END), shape.length
    tokens, asked = [], []
    for found in sentences(shape.templates):
        missing = length - found.shape[1]
        tokens.append(np.pad(found, ((0, 0), (0, missing)), constant_values=end))
        asked.append(np.broadcast_to(np.arange(length) == found.shape[1] - 1, tokens[-1].shape))
    return np.concatenate(tokens).astype(np.int32), np.concatenate(asked)
