"""Weights for modular addition written by hand: a clock, with which every claim about steering can be tested exactly.

Numbers are embedded on circles, one per frequency. Head 0 copies the circle of a to "=", head 1 that of b, each into
dimensions of its own, and ReLU neurons multiply the two: the weighted sum over a grid of angles φ, ψ of
relu(cos(α - φ) + cos(β - ψ)) along e^{i(φ + ψ)} is e^{i(α + β)}, up to a constant, since |cos α + cos β| =
2 |cos((α + β)/2)| |cos((α - β)/2)| has that Fourier component. The logits are sums of cos w(a + b - c), a clock in
the sense of Zhong et al. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.toys.modular.network import Shape

ANGLES = 8  # of a and of b on the grid, so that there are 64 neurons for each frequency
CERTAIN = 40.0  # score by which a head prefers its position: it leaves less than e^-40 to the others
SHARP = 10.0  # height of the logits of each frequency


def clock(p: int, keys: Sequence[int]) -> tuple[Shape, Tensor]:
    """The network and its weights (parameters,), for ``keys`` frequencies in periods per p.

    Raises:
        ValueError: a frequency has no circle of its own (0, p/2 or above), or comes twice.
    """
    if len(set(keys)) != len(keys) or not all(0 < 2 * k < p for k in keys) or not keys:
        raise ValueError(f"keys={list(keys)} must be different frequencies between 1 and {(p - 1) // 2}")
    turns = 2 * len(keys)
    d = 3 * turns + 4  # shared out between two heads
    numbers, of_a, of_b = (slice(start, start + turns) for start in (0, turns, 2 * turns))
    flags = slice(3 * turns, 3 * turns + 3)  # which position it is
    shape = Shape(p, d, 2, ANGLES**2 * len(keys))
    w = {name: torch.zeros(size, dtype=torch.float64) for name, size in shape.weights().items()}
    w["embed"][:p, numbers] = circles(p, keys)
    w["pos"][:, flags] = torch.eye(3, dtype=torch.float64)
    width = d // 2
    for head, wanted in enumerate((of_a, of_b)):
        own = slice(head * width, head * width + turns)
        w["q"][flags, head * width] = torch.tensor([0, 0, 1.0], dtype=torch.float64)
        w["k"][flags.start + head, head * width] = CERTAIN * width**0.5
        w["v"][numbers, own] = torch.eye(turns, dtype=torch.float64)
        w["o"][own, wanted] = torch.eye(turns, dtype=torch.float64)
    angles = 2 * torch.pi * torch.arange(ANGLES, dtype=torch.float64) / ANGLES
    phi, psi = (part.flatten() for part in torch.meshgrid(angles, angles, indexing="ij"))
    for number in range(len(keys)):
        neurons = slice(number * ANGLES**2, (number + 1) * ANGLES**2)
        for start, angle in ((of_a.start, phi), (of_b.start, psi)):
            w["in"][start + 2 * number : start + 2 * number + 2, neurons] = torch.stack([angle.cos(), angle.sin()])
        turned = torch.stack([(phi + psi).cos(), (phi + psi).sin()], dim=1)
        # relu(z) = (z + |z|) / 2, and |z| has the component 2 · (4 / 3π) · (2 / π) · cos(α + β): this makes it 1.
        w["out"][neurons, 2 * number : 2 * number + 2] = turned * 3 * torch.pi**2 / (4 * ANGLES**2)
    w["unembed"][numbers] = SHARP * circles(p, keys).T
    return shape, torch.cat([part.reshape(-1) for part in w.values()]).float()


def circles(p: int, keys: Sequence[int]) -> Tensor:
    """Cosine and sine of each number for each frequency, (p, 2 · frequencies) float64."""
    angles = 2 * torch.pi * (torch.arange(p)[:, None] * torch.tensor(list(keys)) % p).double() / p
    return torch.stack([angles.cos(), angles.sin()], dim=2).flatten(1)
