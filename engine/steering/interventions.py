"""Interventions: what takes the place of activations, as a function of a strength."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from engine.dictionaries.form import Dictionary


class Intervention(Protocol):
    """Changes activations; at strength 0 it changes nothing, `LatentClamp` alone excepted.

    Called with ``x`` (n, width) float32 on any device; gives (n, width) float32 on the same device.
    """

    def __call__(self, x: Tensor, strength: float) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class AddVector:
    """x + strength · vector. ``vector`` (width,) float32."""

    vector: Tensor

    def __call__(self, x: Tensor, strength: float) -> Tensor:
        return x + strength * self.vector.to(x.device)


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x + strength · (A(x) − x) with A(x) = weight (x − centre) + bias: strength 1 is the whole map.

    Attributes:
        weight: (width, width) float32.
        bias: (width,) float32.
        centre: (width,) float32, taken from x first, so that a large common offset costs no digits; None for 0.
    """

    weight: Tensor
    bias: Tensor
    centre: Tensor | None = None

    def __call__(self, x: Tensor, strength: float) -> Tensor:
        inner = x if self.centre is None else x - self.centre.to(x.device)
        mapped = inner @ self.weight.to(x.device).T + self.bias.to(x.device)
        return x + strength * (mapped - x)


@dataclass(frozen=True, eq=False)
class Rotation:
    """Turns the component of x in each plane; what lies outside the planes is left as it is (Engels et al. 2024).

    The strength counts steps and may be a fraction: δ then −δ gives x again.

    Attributes:
        planes: (K, 2, width) float32, all 2 K directions orthonormal.
        angles: (K,) float64 on the CPU, radians that one step turns each plane by.
        centre: (width,) float32, the point that is turned about.
    """

    planes: Tensor
    angles: Tensor
    centre: Tensor

    def __call__(self, x: Tensor, strength: float) -> Tensor:
        return self.turned(x, torch.full((len(x),), strength, device=x.device))

    def coordinates(self, x: Tensor) -> Tensor:
        """Coordinates of ``x`` (n, width) in the planes, (n, K, 2)."""
        return torch.einsum("nd,kcd->nkc", x - self.centre.to(x.device), self.planes.to(x.device))

    def turned(self, x: Tensor, steps: Tensor) -> Tensor:
        """``x`` (n, width), each row turned by its own number of ``steps`` (n,)."""
        before = self.coordinates(x)
        # On the CPU, because not every device has the float64 in which many steps still are whole rounds.
        angles = steps.cpu().double()[:, None] * self.angles.double()
        cos, sin = angles.cos().to(x.device, x.dtype), angles.sin().to(x.device, x.dtype)
        first, second = before.unbind(-1)
        after = torch.stack([cos * first - sin * second, sin * first + cos * second], dim=-1)
        return x + torch.einsum("nkc,kcd->nd", after - before, self.planes.to(x.device))


@dataclass(frozen=True, eq=False)
class RotationTo:
    """Turns each activation from the class that it is nearest to, in the planes, towards one class.

    At strength 1 it makes the whole way, at ½ half of it.

    Attributes:
        rotation: the planes; a step goes from a class to the next.
        means: (classes, width) float32 class means.
        target: index of the class to go to.
        cyclic: the shorter way round is taken; else the way never passes the last class.
    """

    rotation: Rotation
    means: Tensor
    target: int
    cyclic: bool

    def __call__(self, x: Tensor, strength: float) -> Tensor:
        return self.rotation.turned(x, strength * self.steps(x))

    def steps(self, x: Tensor) -> Tensor:
        """Signed steps from each row of ``x`` (n, width) to the target, (n,) float32."""
        here = self.rotation.coordinates(x).flatten(1)
        classes = self.rotation.coordinates(self.means.to(x.device)).flatten(1)
        way = self.target - torch.cdist(here, classes).argmin(1)
        if self.cyclic:
            count = len(self.means)
            way = torch.remainder(way + count // 2, count) - count // 2
        return way.to(x.dtype)


@dataclass(frozen=True, eq=False)
class LatentAdd:
    """Adds strength · unit to one latent of a dictionary; what the dictionary leaves unexplained stays (x − x̂).

    Attributes:
        dictionary: reconstructs the activations that are steered.
        latent: which one.
        unit: what strength 1 adds to its activation.
    """

    dictionary: Dictionary
    latent: int
    unit: float

    def __call__(self, x: Tensor, strength: float) -> Tensor:
        return x + moved(self.dictionary, self.latent, x, x.new_full((len(x),), strength * self.unit))


@dataclass(frozen=True, eq=False)
class LatentClamp:
    """Sets one latent of a dictionary to strength · scale; what the dictionary leaves unexplained stays (x − x̂).

    Strength 0 sets the latent to 0, which ablates it: only where it was not active does that change nothing.

    Attributes:
        dictionary: reads and reconstructs the activations that are steered.
        latent: which one.
        scale: the activation that strength 1 stands for, such as the latent's largest.
    """

    dictionary: Dictionary
    latent: int
    scale: float

    def __call__(self, x: Tensor, strength: float) -> Tensor:
        change = strength * self.scale - activation(self.dictionary, self.latent, x)
        return x + moved(self.dictionary, self.latent, x, change)


@dataclass(frozen=True, eq=False)
class Ablation:
    """x − strength · ((x − mean) · u) u with u the unit vector of ``direction``: strength 1 is mean ablation.

    Attributes:
        direction: (width,) float32, of any length but 0.
        mean: (width,) float32; its own component along u is what is left at strength 1.
    """

    direction: Tensor
    mean: Tensor

    def __call__(self, x: Tensor, strength: float) -> Tensor:
        unit: Tensor = (self.direction / self.direction.norm()).to(x.device)
        return x - strength * ((x - self.mean.to(x.device)) @ unit)[:, None] * unit


def idle(intervention: Intervention, strength: float) -> bool:
    """Whether nothing changes at ``strength``, so that no hook need run: at 0, unless a latent is clamped."""
    return strength == 0 and not isinstance(intervention, LatentClamp)


def activation(dictionary: Dictionary, latent: int, x: Tensor) -> Tensor:
    """What ``latent`` holds of each row of ``x`` (n, width), (n,) float32; 0 where it is not active."""
    found = dictionary.encode(x)
    of_it = found.indices == latent
    held: Tensor = x.new_zeros(len(x)).index_add_(0, found.rows[of_it], found.values[of_it])
    return held


def moved(dictionary: Dictionary, latent: int, x: Tensor, change: Tensor) -> Tensor:
    """How a reconstruction of ``x`` (n, width) moves when ``latent`` changes by ``change`` (n,), (n, width)."""
    from engine.dictionaries.sparse import Latents

    if dictionary.config.normalise == "none":
        atom: Tensor = dictionary.W_dec[latent]
        return change[:, None] * atom
    n = len(x)
    # The normalisation scales an atom by the activation that it is decoded for.
    which = torch.full((n,), latent, device=x.device)
    offsets = torch.arange(n + 1, device=x.device)
    with_it = dictionary.decode(Latents(change, which, offsets, dictionary.config.width), x)
    without = dictionary.decode(Latents(torch.zeros_like(change), which, offsets, dictionary.config.width), x)
    return with_it - without
