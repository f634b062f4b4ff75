"""The families of densities that active latents may follow, in words and formulas. Free of torch and scipy."""

from __future__ import annotations

from dataclasses import dataclass

from engine.dictionaries.choices import Penalty


@dataclass(frozen=True)
class Density:
    """A family of densities on a > 0 with a scale s; −log of it is a penalty.

    Attributes:
        label: its name.
        parameters: what is fitted.
        density: the formula.
        penalty: −log density up to a constant.
        trains: the penalty of ``train-dictionary`` it stands for, None where there is none.
        remark: what it does to latents.
    """

    label: str
    parameters: tuple[str, ...]
    density: str
    penalty: str
    trains: Penalty | None
    remark: str


DENSITIES: dict[str, Density] = {
    "exponential": Density(
        "Exponential", ("s",), "exp(−a/s) / s", "a/s", "l1", "Pulls on every latent alike, so all of them shrink"
    ),
    "half_normal": Density(
        "Half normal", ("s",), "√(2/π) exp(−a²/2s²) / s", "a²/2s²", None, "No sparsity: the slope is 0 at 0"
    ),
    "gamma": Density(
        "Gamma",
        ("k", "s"),
        "a^(k−1) exp(−a/s) / (Γ(k) s^k)",
        "a/s − (k − 1) log a",
        None,
        "For k < 1 without bound at 0; exponential for k = 1",
    ),
    "log_normal": Density(
        "Log normal",
        ("μ", "σ"),
        "exp(−(log a − μ)²/2σ²) / (a σ √2π)",
        "log a + (log a − μ)²/2σ²",
        None,
        "Small activations are unlikely, as behind a threshold",
    ),
    "weibull": Density(
        "Weibull",
        ("k", "s"),
        "(k/s) (a/s)^(k−1) exp(−(a/s)^k)",
        "(a/s)^k − (k − 1) log a",
        None,
        "A stretched exponential for k < 1; exponential for k = 1",
    ),
    "generalised_normal": Density(
        "Generalised normal",
        ("p", "s"),
        "p exp(−(a/s)^p) / (s Γ(1/p))",
        "(a/s)^p",
        "lp",
        "For p < 1 the slope is without bound at 0 and large latents hardly shrink; not convex",
    ),
    "half_cauchy": Density(
        "Half Cauchy",
        ("s",),
        "2 / (π s (1 + (a/s)²))",
        "log(1 + (a/s)²)",
        "log-square",
        "Large latents hardly shrink, small ones are not pushed to 0; not convex",
    ),
    "lomax": Density(
        "Lomax (Pareto II)",
        ("κ", "s"),
        "(κ/s) (1 + a/s)^−(κ+1)",
        "(κ + 1) log(1 + a/s)",
        "log",
        "A mixture of exponentials; improper unless the coefficient exceeds 1; not convex",
    ),
}
