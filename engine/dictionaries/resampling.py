"""Drawing dead latents anew (Bricken et al. 2023, appendix “Neuron resampling”)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from engine.dictionaries.architectures.base import Architecture
from engine.dictionaries.weights import Weights

ENCODER = 0.2  # length of a new encoder row, in mean lengths of the live ones'


def redraw(
    architecture: Architecture,
    weights: Weights,
    x: Tensor,
    y: Tensor | None,
    dead: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Point the ``dead`` latents (m,) at activations of ``x`` (n, D_in) drawn with probability ∝ ‖error‖⁴.

    The encoder row becomes the direction of what the encoder read, 0.2 times as long as live ones on average, its
    bias zero. The atom of an autoencoder takes the same direction; a transcoder's takes the direction of the
    target's deviation from b_dec, and its bias is zero at the mean input. Free atoms are as long as live ones on
    average.

    Returns:
        (min(m, n),) int64 the latents drawn anew.
    """
    error = architecture.reconstruct(weights, x) - (x if y is None else y)
    chances = error.square().sum(dim=1).double().square().cpu()
    count = min(len(dead), int((chances > 0).sum()))
    if not count:
        return dead[:0]
    chosen = torch.multinomial(chances, count, replacement=False, generator=generator).to(x.device)
    rows = dead[:count]
    live = torch.ones(len(weights.encoder), dtype=torch.bool, device=x.device)
    live[dead] = False
    live = live if live.any() else ~live
    length = ENCODER * torch.linalg.vector_norm(weights.encoder[live], dim=1).mean()
    origin = weights.b_dec if architecture.centre else architecture.moments.mean_in
    encoder = normalize(x[chosen] - origin, dim=1) * length
    atoms = encoder if y is None else y[chosen] - weights.b_dec
    weights.encoder[rows] = encoder
    weights.decoder[rows] = normalize(atoms, dim=1) * (1.0 if architecture.unit else weights.lengths()[live].mean())
    weights.b_enc[rows] = 0.0 if architecture.centre else -(encoder @ origin)
    architecture.redrawn(weights, rows)
    return rows
