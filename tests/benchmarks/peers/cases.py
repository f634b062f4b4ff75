"""What is compared: the cases, and the activations and starting weights that every library gets. Needs torch only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

K = 32
ACTIVE = 0.004  # share of the latents active where no k fixes it: L0 = 37 of 9,216
LR = 1e-4


@dataclass(frozen=True)
class Case:
    """One architecture and size.

    Attributes:
        architecture: topk, batchtopk, relu or jumprelu.
        d: entries of an activation.
        width: latents.
        batch: activations a step.
        goals: for each library, the first acceptable and the aimed ratio of our speed to its; zeros where none is set.
    """

    architecture: str
    d: int
    width: int
    batch: int
    goals: dict[str, tuple[float, float]]

    @property
    def name(self) -> str:
        """As it is typed and printed."""
        return f"{self.architecture}-{self.d}x{self.width // self.d}-{self.batch}"


CASES = (
    Case("topk", 576, 9_216, 4_096, {"saelens": (7.5, 10), "sparsify": (1.9, 2.5), "dictionary_learning": (0, 0)}),
    Case("topk", 768, 12_288, 1_024, {"saelens": (4.5, 6), "sparsify": (1.7, 2.2), "dictionary_learning": (0, 0)}),
    Case("batchtopk", 576, 9_216, 4_096, {"saelens": (8, 10), "dictionary_learning": (0, 0)}),
    Case("relu", 576, 9_216, 4_096, {"saelens": (4.5, 6), "dictionary_learning": (0, 0)}),
    Case("jumprelu", 576, 9_216, 4_096, {"saelens": (3, 5), "dictionary_learning": (0, 0)}),
)


def activations(d: int, count: int, generator: torch.Generator) -> Tensor:
    """Sums of about 20 of 4·d random directions with exponential sizes, plus a little noise: (count, d)."""
    atoms = torch.nn.functional.normalize(torch.randn(4 * d, d, generator=generator), dim=1)
    active = torch.rand(count, 4 * d, generator=generator) < 20 / (4 * d)
    size = -torch.log1p(-torch.rand(count, 4 * d, generator=generator))
    return (active * size) @ atoms + 0.05 * torch.randn(count, d, generator=generator)


@dataclass(frozen=True)
class Start:
    """Where all libraries begin.

    Attributes:
        x: (batches · batch, d), batches that take turns.
        atoms: (width, d) of unit length; the encoder starts as their transpose.
        b_dec: (d,) the activations' mean.
        level: the pre-activation that a share `ACTIVE` of all exceeds; ReLU begins with b_enc = −level, JumpReLU
            with thresholds of it, so that both work at a trained dictionary's sparsity from the first step.
    """

    x: Tensor
    atoms: Tensor
    b_dec: Tensor
    level: float


def start(case: Case, batches: int = 2) -> Start:
    """The same tensors in every process: torch's generators give the same on every machine."""
    generator = torch.Generator().manual_seed(0)
    x = activations(case.d, batches * case.batch, generator)
    atoms = torch.nn.functional.normalize(torch.randn(case.width, case.d, generator=generator), dim=1)
    b_dec = x.mean(dim=0)
    pre = ((x[:512] - b_dec) @ atoms.T).flatten()
    level = pre.kthvalue(round((1 - ACTIVE) * len(pre))).values
    return Start(x, atoms, b_dec, float(level))
