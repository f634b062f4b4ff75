"""A model that adds by construction: a stands in one dimension, attention averages, c has the logit 2cs - c² for the sum s."""

from __future__ import annotations

import numpy as np
import torch

from engine.models.facts import facts_of
from engine.models.native import SPECIAL, build_native
from engine.models.opening import OpenModel
from engine.models.references import parse

NUMBERS = 30
WIDTH = 8  # 0: the number, 1: one at "=", 2: the sum, then five that differ between numbers and reach nothing
TEMPLATE = "{a} + {b} ="


def adding_model() -> OpenModel:
    """Numbers 0 to 29; patching a with v changes the logit of c by exactly 2c(v - a)."""
    sums = 2 * NUMBERS - 1
    words = [*map(str, range(sums)), "+", "=", *SPECIAL]
    bridge = build_native(
        {
            "d_model": WIDTH, "n_layers": 1, "n_heads": 1, "d_head": 1, "n_ctx": 4, "d_vocab": len(words),
            "attn_only": True, "normalization_type": None,
        },
        words,
    )  # fmt: skip
    with torch.no_grad():
        w = {name.replace("._original_component", ""): one for name, one in bridge.original_model.named_parameters()}
        for one in w.values():
            one.zero_()
        w["tok_embed.weight"][:sums, 0] = torch.arange(sums)
        w["tok_embed.weight"][:sums, 3:] = 12 * torch.randn(sums, WIDTH - 3, generator=torch.Generator().manual_seed(1))
        w["tok_embed.weight"][words.index("="), 1] = 1
        w["layers.0.attn.v.weight"][0, 0] = 1
        w["layers.0.attn.o.weight"][2, 0] = 4  # four positions, all attended alike
        w["head.weight"][:sums, 2] = 2.0 * torch.arange(sums)
        w["head.weight"][:sums, 1] = -(torch.arange(sums) ** 2.0)
        w["head.weight"][sums:, 1] = -1
    bridge.eval()
    bridge.tokenizer.bos_token = None
    facts = facts_of(bridge, parse("demo"), device="cpu", dtype="float32", source="", source_hash="")
    return OpenModel("adding", bridge, bridge.tokenizer, facts)


def log_probability(answer: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Of ``answer`` (rows,) at "=" where the sum is taken for ``s`` (rows,), among all words."""
    c = np.arange(2 * NUMBERS - 1)
    others = np.full((len(s), len(SPECIAL) + 2), -1.0)
    logits = np.concatenate([2 * np.outer(s, c) - c**2, others], axis=1)
    top = logits.max(axis=1)
    total = np.exp(logits - top[:, None]).sum(axis=1)
    return np.asarray(2 * s * answer - answer**2 - top - np.log(total))
