"""Transcoders: an MLP's input in, its output out (Dunefsky et al. 2024, arXiv 2406.11944), and skip transcoders.

    z = act(x @ encoderᵀ + b_enc),   ŷ = z @ decoder + b_dec [+ x @ skip]      (skip: Paulo et al. 2025, 2501.18823)

The latents are those of any family of ``Choices.sparsity``; nothing is subtracted from the input, whose space is
another than that of b_dec. Weights begin as in sparsify: atoms and skip at zero, b_dec at the mean target, encoder
rows at random unit directions, and their bias such that pre-activations are zero at the mean input. Atoms are free,
since they begin at zero; where they are asked to be unit they begin at random directions.
"""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from engine.dictionaries.choices import Choices
from engine.dictionaries.weights import Moments, Weights


def initial(choices: Choices, moments: Moments, d_in: int, d_out: int, generator: torch.Generator) -> Weights:
    """Weights of a transcoder to begin with; the generator is on the CPU."""
    device = moments.mean_in.device
    encoder = normalize(torch.randn(choices.width, d_in, generator=generator), dim=1).to(device)
    decoder = torch.zeros(choices.width, d_out, device=device)
    if choices.atoms == "unit":
        decoder = normalize(torch.randn(choices.width, d_out, generator=generator), dim=1).to(device)
    weights = Weights(encoder, decoder, -(encoder @ moments.mean_in), moments.mean_out.clone())
    if choices.architecture == "skip-transcoder":
        weights.skip = torch.zeros(d_in, d_out, device=device)
    return weights
