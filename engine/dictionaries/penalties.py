"""Sparsity penalties, each as minus the logarithm of the prior on latents that it stands for. Free of torch.

A penalty sees latents a ≥ 0 in units of a size s. `Penalty` says in words what it believes of latents;
`values` and `slopes` compute it and its derivative on torch tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from engine.dictionaries.choices import Penalty as Name

if TYPE_CHECKING:
    from torch import Tensor

SMOOTH = 1e-3  # (a/s + SMOOTH)^p: the power's slope is infinite at zero
LARGEST = 30.0  # exponent above which the product goes on as a straight line in it


@dataclass(frozen=True)
class Penalty:
    """What a penalty is and believes.

    Attributes:
        label: its name in a form.
        formula: of one latent a in units of s; of the whole code for ``product``.
        prior: the prior on latents of which it is minus the logarithm, in words and as a density.
        cites: where it comes from.
    """

    label: str
    formula: str
    prior: str
    cites: str


PENALTIES: dict[Name, Penalty] = {
    "l1": Penalty(
        "L1",
        "a/s",
        "exponential (Laplace), density e^(−a/s)/s: every unit of size costs the same, so latents shrink",
        "Olshausen & Field 1996; Bricken et al. 2023",
    ),
    "lp": Penalty(
        "Lp, p < 1",
        f"(a/s + ε)^p − ε^p, ε = {SMOOTH:g}",
        "generalised normal, density p/(s Γ(1/p)) e^(−(a/s)^p): many tiny latents and a heavy tail of large ones",
        "Olshausen & Field 1996",
    ),
    "log-square": Penalty(
        "log(1 + a²)",
        "log(1 + (a/s)²)",
        "half Cauchy, density 2/(π s (1 + (a/s)²)): large latents are hardly rarer than middling ones; a coefficient "
        "of (ν + 1)/2 makes it Student's t with ν degrees of freedom",
        "Olshausen & Field 1996",
    ),
    "log": Penalty(
        "log(1 + |a|)",
        "log(1 + a/s)",
        "Lomax (Pareto II), density (κ/s)(1 + a/s)^−(κ+1) at coefficient κ + 1: a power law; improper at a coefficient "
        "of 1 or less",
        "Candès, Wakin & Boyd 2008",
    ),
    "tanh": Penalty(
        "tanh",
        "tanh(a/s)",
        "bounded, so improper: approaches a count of active latents (L0) and leaves large ones alone",
        "Anthropic circuits updates 2025; Rajamanoharan et al. 2024",
    ),
    "product": Penalty(
        "product",
        f"Π (1 + a/s) − 1 over the code, straight beyond e^{LARGEST:g}",
        "does not factorise, density ∝ exp(−λ Π (1 + a/s)): the price of a latent multiplies with the others', so few "
        "are active together",
        "Bushnaq 2024 (Apollo Research list)",
    ),
}
assert set(PENALTIES) == set(get_args(Name))


def values(name: Name, a: Tensor, scale: float, p: float) -> Tensor:
    """The penalty of each of ``a`` ≥ 0 (any shape); of ``product`` its logarithms log(1 + a/s), to be summed."""
    u = a / scale
    if name == "l1":
        return u
    if name == "lp":
        return (u + SMOOTH).pow(p).sub(float(SMOOTH**p))
    if name == "log-square":
        return u.square().log1p()
    if name == "tanh":
        return u.tanh()
    return u.log1p()


def slopes(name: Name, a: Tensor, scale: float, p: float) -> Tensor:
    """Derivative of `values` by each of ``a`` ≥ 0, from the right at zero."""
    u = a / scale
    if name == "l1":
        return u.new_full(u.shape, 1 / scale)
    if name == "lp":
        return (u + SMOOTH).pow(p - 1) * (p / scale)
    if name == "log-square":
        return (2 / scale) * u / (1 + u.square())
    if name == "tanh":
        return (1 - u.tanh().square()) / scale
    return 1 / (scale + a)


def product(exponents: Tensor) -> tuple[Tensor, Tensor]:
    """Π (1 + a/s) − 1 of each activation from ``exponents`` (n,) = Σ log(1 + a/s), and its derivative by them.

    Beyond an exponent of 30 both go on along the tangent, so that a code which is not sparse yet gives neither
    infinity nor a derivative of zero.
    """
    power = exponents.clamp(max=LARGEST).exp()
    return power * (1 + (exponents - LARGEST).clamp(min=0)) - 1, power
