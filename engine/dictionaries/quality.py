"""All numbers about reconstructions and latents from one pass: honest ones, and the peers' legacy variants."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.metrics import Fit, wide
from engine.dictionaries.sparse import Latents

Array: TypeAlias = npt.NDArray[Any]


class Quality:
    """Streaming sums of everything in ``engine.dictionaries.measures`` that needs no model.

    Args:
        origin: (D,) any point near the mean of what is reconstructed; sums are gathered about it.
        width: latents.
        dead_after: activations of silence after which a latent counts as dead; without it nothing is said of that.

    Attributes:
        fit: squared error against variance.
        active: (width,) int64, activations on which each latent was active.
    """

    def __init__(self, origin: Tensor, width: int, dead_after: int | None = None) -> None:
        self.fit = Fit(origin)
        self.active = torch.zeros(width, dtype=torch.int64, device=origin.device)
        self._dead_after = dead_after
        self._last = torch.zeros_like(self.active)  # number of the last activation on which it was active, from 1
        self._sums = {"xx": 0.0, "xy": 0.0, "yy": 0.0, "l1": 0.0, "cosine": 0.0, "ratio": 0.0, "nonzero": 0.0}
        self._legacy = _Legacy()

    @property
    def count(self) -> int:
        """Activations taken in."""
        return self.fit.variation.count

    @property
    def density(self) -> Array:
        """Share of activations on which each latent was active (width,) float64."""
        return np.asarray(self.active.cpu().numpy() / max(self.count, 1))

    @torch.no_grad()
    def add(self, x: Tensor, reconstruction: Tensor, latents: Latents) -> None:
        """Take in one batch.

        Args:
            x: (n, D) what is reconstructed: the input of an autoencoder, the true output for a transcoder.
            reconstruction: (n, D).
            latents: of these n activations, positive entries only.
        """
        if len(x) == 0:
            return
        before = self.count
        self.fit.add(x, reconstruction)
        self.active += torch.bincount(latents.indices, minlength=len(self.active))
        if self._dead_after is not None:
            self._last.scatter_reduce_(0, latents.indices, before + 1 + latents.rows, "amax")
        true, rebuilt = wide(x), wide(reconstruction)
        xx, xy, yy = true.square().sum(dim=1), (true * rebuilt).sum(dim=1), rebuilt.square().sum(dim=1)
        nonzero = xx > 0
        both = (xx * yy).sqrt()
        found = {
            "xx": xx, "xy": xy, "yy": yy, "l1": wide(latents.values).abs(), "nonzero": nonzero,
            "cosine": torch.where(both > 0, xy / both, 0.0), "ratio": (yy[nonzero] / xx[nonzero]).sqrt(),
        }  # fmt: skip
        for name, values in found.items():
            self._sums[name] += float(values.sum())
        self._legacy.add(true, rebuilt)

    def values(self) -> dict[str, float]:
        """Every number by its name in ``MEASURES``; NaN where nothing was taken in or nothing varies."""
        count, sums = self.count, self._sums
        l0 = _ratio(float(self.active.sum()), count)
        found = {
            "fvu": self.fit.fvu,
            "explained_variance": 1 - self.fit.fvu,
            "mse": _ratio(self.fit.squared_error, count),
            "l0": l0,
            "l1": _ratio(sums["l1"], count),
            "density": l0 / len(self.active),
            "never_active": float((self.active == 0).double().mean()),
            "cosine": _ratio(sums["cosine"], count),
            "l2_ratio": _ratio(sums["ratio"], sums["nonzero"]),
            "reconstruction_bias": _ratio(sums["yy"], sums["xy"]),
            "shrinkage": _ratio(sums["xy"], sums["xx"]),
        }
        if self._dead_after is not None:
            found["dead"] = float((count - self._last >= self._dead_after).double().mean())
        return found | self._legacy.values(self.fit.squared_error, sums["xx"], count)


class _Legacy:
    """Sums by batch, as the peers form them."""

    def __init__(self) -> None:
        self._batches = 0
        self._by_activation = 0.0  # Σ_t 1 − ‖e‖² / ‖x − batch mean‖²
        self._centred = 0.0
        self._fvu = 0.0
        self._mse = 0.0
        self._mean_square = 0.0  # Σ over batches of the mean of x² over activations and dimensions

    def add(self, x: Tensor, reconstruction: Tensor) -> None:
        error = x - reconstruction
        from_mean = x - x.mean(dim=0)
        errors, distances = error.square().sum(dim=1), from_mean.square().sum(dim=1)
        total = float(distances.sum())
        centred = float((error - error.mean(dim=0)).square().sum())
        self._batches += 1
        self._by_activation += float((1 - errors / distances).sum())
        self._centred += 1 - _ratio(centred, total)
        self._fvu += _ratio(float(errors.sum()), total)
        self._mse += float(errors.mean())
        self._mean_square += float(x.square().mean())

    def values(self, squared_error: float, squares: float, count: int) -> dict[str, float]:
        """By name; ``squared_error`` Σ‖e‖² and ``squares`` Σ‖x‖² over ``count`` activations."""
        batches = self._batches
        about_zero = _ratio(squares, count) - _ratio(self._mean_square, batches) ** 2
        return {
            "explained_variance_legacy": _ratio(self._by_activation, count),
            "explained_variance_saebench": 1 - _ratio(_ratio(squared_error, count), about_zero),
            "explained_variance_centred": _ratio(self._centred, batches),
            "fvu_sparsify": _ratio(self._fvu, batches),
            "mse_saebench": _ratio(self._mse, count),
        }


def _ratio(above: float, below: float) -> float:
    return above / below if below != 0 else math.nan
