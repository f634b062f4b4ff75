"""What the parts of a network for modular addition contribute, and whether others stand in for an ablated one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.toys.modular.analysis import SINGLE, neuron_frequencies
from engine.toys.modular.network import Shape, over_pairs, sums, unpack
from engine.toys.modular.training import Split

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Ablation:
    """One part set to zero, means over all pairs of the right logit less the mean logit.

    Attributes:
        size: heads or neurons that were set to zero.
        direct: what the part itself writes into the right logit.
        drop: what is lost when it is set to zero.
        test_accuracy: of the test pairs without it.
    """

    size: int
    direct: float
    drop: float
    test_accuracy: float

    @property
    def compensation(self) -> float:
        """Sum of the changes in the other parts' direct contributions: above 0 they stand in, below 0 they relied on it."""
        return self.direct - self.drop


def clusters(hidden: Tensor, keys: list[int], rng: np.random.Generator) -> dict[str, Array]:
    """Neurons of each key frequency, all others, and as a control as many random ones as the largest cluster has."""
    frequency, share = neuron_frequencies(hidden)
    pure = np.nan_to_num(share) > SINGLE
    found = {f"neurons of k = {k}": np.flatnonzero(pure & (frequency == k)) for k in keys}
    known = np.concatenate(list(found.values()))
    found["other neurons"] = np.setdiff1d(np.arange(len(share)), known)
    largest = max(len(neurons) for neurons in found.values())
    found["random neurons (control)"] = rng.permutation(len(share))[:largest]
    return found


@torch.no_grad()
def ablations(shape: Shape, theta: Tensor, groups: Mapping[str, Array], part: Split) -> dict[str, Ablation]:
    """Set each head and each group of neurons of a checkpoint ``theta`` (parameters,) to zero, one at a time."""
    weights = unpack(shape, theta[None])
    whole = over_pairs(shape, theta[None])
    hidden, logits, right = whole.hidden[0], whole.logits[0], sums(shape.p)
    after_attention = _after_attention(whole.final[0], hidden, weights)

    def lead(values: Tensor) -> float:
        return float((values.gather(1, right[:, None])[:, 0] - values.mean(1)).double().mean())

    def ablation(size: int, direct: Tensor, without: Tensor) -> Ablation:
        hit = without.argmax(1) == right
        return Ablation(size, lead(direct), lead(logits - without), float(hit[part.test].double().mean()))

    found = {}
    for head in range(shape.heads):
        others = torch.arange(shape.heads) != head
        passed = over_pairs(shape, theta[None], kept_heads=others)
        written = after_attention - _after_attention(passed.final[0], passed.hidden[0], weights)
        found[f"head {head}"] = ablation(1, written @ weights["unembed"][0], passed.logits[0])
    for name, neurons in groups.items():
        chosen = torch.from_numpy(neurons)
        direct = hidden[:, chosen] @ weights["out"][0, chosen] @ weights["unembed"][0]
        found[name] = ablation(len(neurons), direct, logits - direct)
    return found


def _after_attention(final: Tensor, hidden: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """The residual stream before the MLP wrote into it."""
    return final - hidden @ weights["out"][0] - weights["b_out"][0]
