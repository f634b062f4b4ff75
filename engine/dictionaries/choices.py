"""What a person chooses of a dictionary's architecture: plain values, free of torch, checked by the form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Architecture: TypeAlias = Literal[
    "topk", "batchtopk", "matryoshka", "jumprelu", "relu", "gated", "transcoder", "skip-transcoder"
]
Sparsity: TypeAlias = Literal["topk", "batchtopk", "jumprelu", "relu"]
Penalty: TypeAlias = Literal["l1", "lp", "log-square", "log", "tanh", "product"]
L0Loss: TypeAlias = Literal["quadratic", "step", "tanh"]
Atoms: TypeAlias = Literal["auto", "unit", "free"]


@dataclass(frozen=True)
class Choices:
    """An architecture and its hyperparameters.

    Attributes:
        architecture: the family.
        width: latents.
        k: active latents per activation: exact for topk, on average for batchtopk and matryoshka, aimed at by
            jumprelu's quadratic loss; relu and gated do without.
        sparsity: what makes a transcoder's latents sparse.
        penalty: sparsity penalty of relu and gated (gated: on its gate); ``engine.dictionaries.penalties``.
        coefficient: weight of the penalty, or of jumprelu's L0 loss, once its warm-up is over.
        penalty_p: exponent of ``lp``.
        penalty_scale: the size s in units of which a penalty sees latents.
        warm_up_penalty: share of the steps over which the coefficient rises from zero.
        l0_loss: jumprelu's: ``quadratic`` (L0 / k − 1)², ``step`` L0, ``tanh`` a smooth L0 weighted by atoms.
        bandwidth: width of the window through which jumprelu's thresholds get gradients, in units of the target's
            standard deviation per dimension.
        threshold: jumprelu's thresholds at the start, in the same units.
        levels: nested prefixes of matryoshka; each is twice as wide as the one before.
        atoms: ``unit`` keeps atoms at length one, ``free`` lets them grow and weighs latents by their length,
            ``auto`` is what the architecture's paper does.
        tied: the encoder starts as the decoder's transpose; else at random directions of its own.
        aux: weight of the auxiliary loss that revives dead latents (topk, batchtopk, matryoshka and transcoders of
            these) or pulls them up to their thresholds (jumprelu); 0 leaves it out.
    """

    architecture: Architecture
    width: int
    k: int
    sparsity: Sparsity = "topk"
    penalty: Penalty = "l1"
    coefficient: float = 1.0
    penalty_p: float = 0.5
    penalty_scale: float = 1.0
    warm_up_penalty: float = 0.2
    l0_loss: L0Loss = "quadratic"
    bandwidth: float = 0.05
    threshold: float = 0.01
    levels: int = 4
    atoms: Atoms = "auto"
    tied: bool = True
    aux: float = 1 / 32

    @property
    def family(self) -> str:
        """What computes the latents: the architecture, or a transcoder's sparsity."""
        return self.sparsity if self.transcodes else self.architecture

    @property
    def transcodes(self) -> bool:
        """It reads one hook point and reconstructs another."""
        return self.architecture in ("transcoder", "skip-transcoder")
