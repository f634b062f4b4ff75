"""The auxiliary loss that revives dead latents (Gao et al. 2024, arXiv 2406.04093, section A.2).

Of the latents that have not fired for long, the D/2 with the largest pre-activations reconstruct the error of
the others, which counts as a constant; their error is divided by that error's size. It is taken on every eighth
activation of the batch while D/2 or fewer are dead, on fewer (down to every 32nd) the more there are to choose
from: an unbiased estimate at a bounded price.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.dictionaries.architectures.base import Part
from engine.dictionaries.architectures.codes import Code, Dense, Sparse
from engine.dictionaries.sparse import Latents, product, squared_sum, topk
from engine.dictionaries.weights import Weights

EVERY = 8
SPARSER = 4  # at most so many times sparser
FEW = 4  # up to so many dead latents for each one chosen, dense products are faster


def revive(weights: Weights, read: Tensor, error: Tensor, dead: Tensor, weight: float) -> tuple[Part, Tensor]:
    """The auxiliary loss of the ``dead`` latents (m,).

    Args:
        weights: read only.
        read: (n, D_in) what the encoder reads.
        error: (n, D_out) reconstruction − target of the whole dictionary.
        dead: (m,) int64, not empty.
        weight: factor on the loss.

    Returns:
        What it adds to the gradients, and the weighted loss (float64 scalar).
    """
    count = min(max(error.shape[1] // 2, 1), len(dead))
    every = EVERY * min(math.ceil(len(dead) / count), SPARSER)
    read, error = read[::every], error[::every]
    decoder = weights.decoder[dead]
    pre = product(read, weights.encoder[dead], weights.b_enc[dead])
    code = _largest(pre, count)
    values = code.values.relu()
    missed = code.decode(decoder, values) + error
    size = squared_sum(error).clamp_min(torch.finfo(torch.float32).tiny)
    by_output = missed * (weight * 2 / size)
    by_pre = code.slopes(decoder, by_output) * (values > 0)
    return Part(code, values, by_pre, by_output, read, dead), weight * squared_sum(missed) / size


def _largest(pre: Tensor, count: int) -> Code:
    """The ``count`` largest entries of each row of ``pre`` (n, m); of a table the others are set to zero."""
    n, width = pre.shape
    if count == width:
        return Dense(pre)
    if width <= FEW * count:
        return Dense(torch.where(pre >= pre.kthvalue(width - count + 1, dim=1, keepdim=True).values, pre, 0.0))
    values, places = topk(pre, count)
    offsets = torch.arange(0, n * count + 1, count, device=pre.device)
    return Sparse(Latents(values.flatten(), places.flatten(), offsets, width))
