"""Memory that training takes, by part, from the shapes alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.dictionaries.architectures import make
from engine.dictionaries.buffer import AHEAD_BYTES, AHEAD_MOST
from engine.dictionaries.chunks import TOGETHER
from engine.dictionaries.sources import BLOCK
from engine.dictionaries.sparse import SLAB
from engine.dictionaries.training_parameters import TrainDictionary
from engine.dictionaries.weights import Moments, Weights
from engine.models import memory

FLOAT = 4  # bytes
ENTRY = 28  # bytes of an active latent: value, index, row, slope, and copies in two orders
COPIES = 8  # arrays of the size of a batch and its targets that live at once
SLACK = 1.1  # what allocators keep beside
# Families of which half of all latents are active at first: bytes an entry of (batch, latents) while they are.
DENSE = {"relu": 33, "gated": 42, "jumprelu": 30}


@dataclass(frozen=True)
class Requirements:
    """Bytes by part.

    Attributes:
        training: on the device where the dictionary is trained.
        data: in the machine's memory.
    """

    training: dict[str, int]
    data: dict[str, int]

    def on(self, device: torch.device | str) -> dict[str, int]:
        """Bytes needed by place; one place where the dictionary is trained on the CPU."""
        training, data = int(SLACK * sum(self.training.values())), sum(self.data.values())
        if torch.device(device).type == "cpu":
            return {"cpu": training + data}
        return {str(device): training, "cpu": data}

    def demand(self, device: torch.device | str, p: TrainDictionary, d_in: int) -> None:
        """Refuse what does not fit.

        Raises:
            ModelError: both numbers, and the way out.
        """
        what = f"Training {p.width:,} latents on {d_in:,} dimensions"
        for place, wanted in self.on(device).items():
            elsewhere = place == "cpu" and torch.device(device).type != "cpu"
            memory.require(
                wanted,
                place,
                what=f"A buffer of {p.buffer:,} activations with a checkpoint's copy" if elsewhere else what,
                way_out="choose a smaller width or a smaller buffer",
            )


def requirements(p: TrainDictionary, d_in: int, d_out: int, activations: int) -> Requirements:
    """What a run with ``p`` needs.

    Args:
        p: parameters of ``train-dictionary``.
        d_in, d_out: widths of input and target.
        activations: in the text, as far as is known; a buffer does not hold more.
    """
    weights = sum(tensor.numel() for tensor in shapes(p, d_in, d_out).tensors().values()) * FLOAT
    table = p.batch * p.width
    latents = 2 * FLOAT * min(SLAB, table) + ENTRY * p.batch * p.k
    row = (d_in + (d_out if p.hooks[0] != p.hooks[1] or p.activations_out else 0)) * FLOAT
    training = {
        "weights": weights,
        "gradients": weights,
        "moments": 2 * weights,
        "latents": DENSE[p.choices.family] * table if p.choices.family in DENSE else latents,
        "batch": COPIES * p.batch * (d_in + d_out) * FLOAT,
    }
    held = min(p.buffer, activations)
    ahead = AHEAD_MOST * TOGETHER * (BLOCK if p.activations else p.context) * row
    data = {
        "buffer": held * row,
        "captured ahead": min(AHEAD_BYTES, ahead, held * row) if p.overlap else 0,
        "checkpoint": 3 * weights + (held * row if held < activations else 0),
    }
    return Requirements(training, data)


def shapes(p: TrainDictionary, d_in: int, d_out: int) -> Weights:
    """The weights' shapes, as tensors without content."""
    moments = Moments(torch.empty(d_in, device="meta"), torch.empty(d_out, device="meta"), 1.0)
    return make(p.choices, moments).empty(d_in, d_out, "meta")
