"""How good a dictionary is: sums in float64 that do not depend on how activations are cut into batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]


def wide(x: Tensor) -> Tensor:
    """``x`` in float64, on the CPU where its device has none (Apple's)."""
    return x.cpu().double() if x.device.type == "mps" else x.double()


class Variation:
    """Streaming mean and variance of activations, gathered about a fixed ``origin`` near the mean (D,).

    A large common offset then costs no digits; the mean itself is taken out at the end.
    """

    def __init__(self, origin: Tensor) -> None:
        self.count = 0
        self._origin = wide(origin.detach())
        self._sum = torch.zeros_like(self._origin)
        self._squares = 0.0

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Take in activations ``x`` (n, D)."""
        apart = wide(x) - self._origin
        self.count += len(x)
        self._sum += apart.sum(dim=0)
        self._squares += float(apart.square().sum())

    @property
    def mean(self) -> Tensor:
        """Mean activation (D,), float64."""
        return self._origin + self._sum / max(self.count, 1)

    @property
    def total(self) -> float:
        """Σ ‖x − mean‖² over all activations seen."""
        return max(self._squares - float(self._sum.square().sum()) / max(self.count, 1), 0.0)

    @property
    def per_activation(self) -> float:
        """Mean of ‖x − mean‖²."""
        return self.total / max(self.count, 1)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Values and arrays from which `restored` makes it again."""
        values = {"count": self.count, "squares": self._squares.hex()}
        return values, {"origin": self._origin.cpu().numpy(), "sum": self._sum.cpu().numpy()}

    @classmethod
    def restored(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Variation:
        """What `state` described, bit for bit."""
        found = cls(torch.from_numpy(np.array(arrays["origin"])))
        found.count, found._squares = int(values["count"]), float.fromhex(values["squares"])
        found._sum = torch.from_numpy(np.array(arrays["sum"]))
        return found


class Fit:
    """Squared error of reconstructions against the variance of what they reconstruct.

    Attributes:
        variation: of the activations seen.
        squared_error: Σ ‖x − x̂‖².
    """

    def __init__(self, origin: Tensor) -> None:
        self.variation = Variation(origin)
        self.squared_error = 0.0

    @torch.no_grad()
    def add(self, x: Tensor, reconstruction: Tensor) -> None:
        """Take in activations (n, D) and their reconstructions (n, D)."""
        self.variation.add(x)
        self.squared_error += float((wide(x) - wide(reconstruction)).square().sum())

    @property
    def fvu(self) -> float:
        """Σ ‖x − x̂‖² / Σ ‖x − mean‖², the mean over all activations seen; NaN where nothing varies."""
        total = self.variation.total
        return self.squared_error / total if total > 0 else float("nan")


@dataclass(frozen=True)
class Recovery:
    """How much of the model's prediction a dictionary keeps; sums over predicted tokens by context.

    Attributes:
        tokens: (contexts,) predicted tokens.
        clean, spliced, zero, mean: (contexts,) summed cross entropy in nats: of the model as it is, with the
            reconstruction in place, and with the activation replaced by zero or by the mean activation.
        kl: (contexts,) summed KL(clean ‖ spliced) in nats.
    """

    tokens: Floats
    clean: Floats
    spliced: Floats
    zero: Floats
    mean: Floats
    kl: Floats

    @property
    def ce_recovered(self) -> float:
        """(CE zero − CE spliced) / (CE zero − CE clean): against zero ablation, as the public benchmarks have it."""
        return self.values()["ce_recovered"]

    @property
    def ce_recovered_mean(self) -> float:
        """(CE mean − CE spliced) / (CE mean − CE clean): against mean ablation, the harder and fairer yardstick."""
        return self.values()["ce_recovered_mean"]

    def values(self) -> dict[str, float]:
        """The five means in nats/token and both shares recovered, by name, over all predicted tokens."""
        found = _shares({name: np.asarray(getattr(self, name).sum()) for name in _SUMS})
        return {name: float(value) for name, value in found.items()}

    def intervals(self, seed: int, resamples: int = 1_000) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals over contexts of each mean and of both shares recovered, by name."""
        count = len(self.tokens)
        draws = np.random.default_rng([seed, 5]).multinomial(count, np.full(count, 1 / count), size=resamples)
        found = _shares({name: draws @ getattr(self, name) for name in _SUMS})
        return {name: _interval(values) for name, values in found.items()}

    def deviations(self) -> dict[str, float]:
        """Standard deviation over contexts of each of `values` within one context, by name."""
        found = _shares({name: getattr(self, name) for name in _SUMS})
        if len(self.tokens) < 2:
            return dict.fromkeys(found, float("nan"))
        return {name: float(np.std(values, ddof=1)) for name, values in found.items()}


_SUMS = ("tokens", "clean", "spliced", "zero", "mean", "kl")


def _shares(sums: Mapping[str, Floats]) -> dict[str, Floats]:
    """Means per token and shares recovered from sums over tokens; NaN where ablation changes nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {name: sums[name] / sums["tokens"] for name in _SUMS if name != "tokens"}
        for name, ablated in (("ce_recovered", "zero"), ("ce_recovered_mean", "mean")):
            lost = sums[ablated] - sums["clean"]
            found[name] = np.where(lost == 0, np.nan, (sums[ablated] - sums["spliced"]) / lost)
    return found


def _interval(values: Floats) -> tuple[float, float]:
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def density_histogram(density: Array) -> tuple[Floats, Floats, int]:
    """Latents by the logarithm (base 10) of how often they are active.

    Args:
        density: (F,) share of activations on which each latent was active.

    Returns:
        Edges (bins + 1,), counts (bins,), and how many latents were never active and thus are in no bin.
    """
    alive = density[density > 0]
    if len(alive) == 0:
        return np.asarray([-1.0, 0.0]), np.zeros(1), len(density)
    logarithms = np.log10(alive)
    low = np.floor(logarithms.min() * 4) / 4
    edges = np.arange(low, 0.25, 0.25) if low < 0 else np.asarray([-0.25, 0.0])
    counts, _ = np.histogram(logarithms, bins=edges)
    return edges, counts.astype(np.float64), int(len(density) - len(alive))
