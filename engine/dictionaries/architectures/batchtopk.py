"""BatchTopK (Bussmann et al. 2024, arXiv 2412.06410).

    z = the k · n largest positive entries of x̃ @ encoderᵀ + b_enc over the n activations of a batch

so that an activation takes as many latents as it needs and k on average. A dictionary in use cannot look at a
batch: it keeps the pre-activations above one threshold, the running mean of the smallest ones kept in training.
The mean starts at the first batch's value as it is, so early estimates are not drawn towards zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.dictionaries.architectures.topk import TopK
from engine.dictionaries.choices import Choices
from engine.dictionaries.sparse import Latents
from engine.dictionaries.weights import Moments, Weights

RATE = 0.01  # weight of the newest batch in the threshold's running mean
UNKNOWN = -1.0  # what a saved dictionary holds whose threshold was never estimated


class BatchTopK(TopK):
    """k active latents an activation on average over a batch.

    Attributes:
        threshold: running mean of the smallest pre-activation kept, in scaled units; None before the first batch.
    """

    activation = "batchtopk"

    def __init__(self, choices: Choices, moments: Moments) -> None:
        super().__init__(choices, moments)
        self.threshold: float | None = None
        self._least: float | None = None

    def _select(self, read: Tensor, encoder: Tensor, bias: Tensor) -> Latents:
        latents, least = self._encode.batchtopk(read, encoder, bias, self.choices.k * len(read))
        self._least = least if len(latents.values) else None
        return latents

    def after(self, weights: Weights) -> None:
        """Move the threshold towards the smallest value that the last batch kept."""
        if self._least is None:
            return
        self.threshold = (
            self._least if self.threshold is None else self.threshold + RATE * (self._least - self.threshold)
        )

    @torch.no_grad()
    def calibrate(self, weights: Weights, batches: Iterable[Tensor]) -> None:
        """Set the threshold to the mean of the smallest value kept, over ``batches`` with the final weights.

        The running mean lags behind weights that still move: at the end of a short run it kept half of k.
        """
        kept = []
        for x in batches:
            self.encode(weights, x)
            if self._least is not None:
                kept.append(self._least)
        if kept:
            self.threshold = sum(kept) / len(kept)

    def live(self, weights: Weights) -> dict[str, float]:
        """The threshold, in scaled units."""
        return {} if self.threshold is None else {"threshold": self.threshold}

    def state(self) -> dict[str, Any]:
        """The threshold."""
        return {"threshold": None if self.threshold is None else self.threshold.hex()}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        found = values["threshold"]
        self.threshold = None if found is None else float.fromhex(found)

    def thresholds(self, weights: Weights) -> Tensor:
        """The threshold for every latent (F,); negative before the first batch."""
        return torch.full((self.choices.width,), UNKNOWN if self.threshold is None else self.threshold)

    def _lengthened(self, lengths: Tensor) -> Tensor:
        """The threshold compares contributions already."""
        return torch.ones_like(lengths)
