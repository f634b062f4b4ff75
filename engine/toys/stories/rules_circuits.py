"""Skip-trigrams: what an attention-only model says when only its tables over words are kept.

The direct path ``E U`` is a table of word pairs; each head has a table of where it looks, ``E W_QK E^T``, and one of
what it writes for what it finds there, ``E W_OV U``. Together they say “… source … last word → next word”. Positions and
the layers' composition are left out, so that what is missing from this prediction is what those do.
Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from engine.text import stories
from engine.text.stories import WORD_IDS
from engine.toys.stories.rules import NONE, Texts

Array: TypeAlias = npt.NDArray[Any]
SHARES = np.linspace(0.0, 0.95, 20)  # of the tables in the mixture, from which training stories choose


@dataclass(frozen=True)
class Circuits:
    """The tables of an attention-only model.

    Attributes:
        names: of the heads.
        looks: (heads, words, words) scores of a last word (row) for a source (column): E W_QK E^T.
        writes: (heads, words, d_model) what a head adds for a source: E W_OV.
    """

    bridge: Any
    names: tuple[str, ...]
    looks: Array
    writes: Array

    @classmethod
    @torch.no_grad()
    def of(cls, bridge: Any) -> Circuits:
        """The tables of ``bridge``."""
        heads, width = bridge.cfg.n_heads, bridge.cfg.d_head
        embedding = bridge.embed.weight.detach()
        looks, writes, names = [], [], []
        for layer, block in enumerate(bridge.blocks):
            normal = block.ln1(embedding[None])[0]
            parts = []
            for part in (block.attn.q, block.attn.k, block.attn.v):
                made = normal @ part.weight.T + (part.bias if part.bias is not None else 0)
                parts.append(made.view(-1, heads, width).transpose(0, 1))
            query, key, value = parts
            looks.append(query @ key.transpose(1, 2) / width**0.5)
            writes.append(torch.einsum("hwk,dhk->hwd", value, block.attn.o.weight.view(-1, heads, width)))
            names += [f"L{layer}H{head}" for head in range(heads)]
        return cls(bridge, tuple(names), torch.cat(looks).numpy(), torch.cat(writes).numpy())

    @torch.no_grad()
    def predicted(self, texts: Texts) -> Array:
        """What the tables expect at each token: (tokens, words) float32."""
        start = np.full((len(texts.ids), 1), WORD_IDS[stories.START])
        read = np.concatenate([start, texts.ids[:, :-1]], axis=1)
        read = np.where(read == NONE, WORD_IDS[stories.END], read)
        residual = self.bridge.embed.weight.detach()[torch.from_numpy(read)]
        later = np.triu(np.ones((read.shape[1], read.shape[1]), bool), 1)
        for looks, writes in zip(self.looks, self.writes, strict=True):
            scores = np.where(later, -np.inf, looks[read[:, :, None], read[:, None, :]])
            pattern = torch.softmax(torch.from_numpy(scores.astype(np.float32)), dim=-1)
            residual = residual + pattern @ torch.from_numpy(writes[read])
        logits = self.bridge.unembed(self.bridge.ln_final(residual))
        said: Array = torch.softmax(logits, dim=-1).numpy()
        return said[texts.there]

    def skip_trigrams(self, count: int) -> list[tuple[str, str, str, str, float, float]]:
        """The strongest (head, source, last word, next word, looks, writes), by the product of the last two."""
        words = stories.VOCABULARY
        n = len(words)
        gain = getattr(self.bridge.ln_final, "weight", None)  # there is none without a normalisation
        scale = gain.detach().numpy() if gain is not None else 1.0
        unembed = self.bridge.unembed.weight.detach().numpy()[:n]
        found = []
        for head, name in enumerate(self.names):
            looks = self.looks[head, :n, :n] - self.looks[head, :n, :n].mean(axis=1, keepdims=True)
            writes = (self.writes[head, :n] * scale) @ unembed.T
            writes = writes - writes.mean(axis=1, keepdims=True)
            # For each source the last word that looks for it most, and the next word that it speaks for most.
            last, following = looks.argmax(axis=0), writes.argmax(axis=1)
            for source in range(n):
                look, write = float(looks[last[source], source]), float(writes[source, following[source]])
                if look > 0:
                    found.append((name, words[source], words[last[source]], words[following[source]], look, write))
        return sorted(found, key=lambda row: -row[4] * row[5])[:count]


def mixed(tables: Array, base: Array, texts: Texts) -> float:
    """The share of ``tables`` beside ``base`` at which the two together predict ``texts`` best."""
    target = texts.ids[texts.there]
    every = np.arange(len(target))
    one, other = tables[every, target].astype(np.float64), base[every, target].astype(np.float64)
    losses = [-np.log(share * one + (1 - share) * other).mean() for share in SHARES]
    return float(SHARES[int(np.argmin(losses))])
