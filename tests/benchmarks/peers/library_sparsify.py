"""sparsify's coder with the body of its training loop (`Trainer.fit`), which itself needs a language model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sparsify import SparseCoder
from sparsify.config import SparseCoderConfig
from torch import Tensor

from tests.benchmarks.peers.cases import LR, Case, K, Start


def trainer(case: Case, begin: Start) -> Callable[[Tensor], Callable[[], int]]:
    """A step on (batch, d), which gives what counts the active entries."""
    coder = SparseCoder(case.d, SparseCoderConfig(num_latents=case.width, k=K))
    with torch.no_grad():
        coder.encoder.weight.copy_(begin.atoms)
        coder.W_dec.copy_(begin.atoms)
        coder.b_dec.copy_(begin.b_dec)
    optimiser = torch.optim.Adam(coder.parameters(), lr=LR)
    silent = torch.zeros(case.width, dtype=torch.long)
    fired = torch.zeros(case.width, dtype=torch.bool)

    def step(x: Tensor) -> Callable[[], int]:
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, y=x, dead_mask=None, total_variance=(x - x.mean(0)).pow(2).sum())
        fired[out.latent_indices.flatten()] = True
        float(out.fvu.detach())
        out.fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        silent.add_(len(x))
        silent[fired] = 0
        fired.zero_()
        return lambda: int(out.latent_acts.count_nonzero())

    return step
