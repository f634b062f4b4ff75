"""Feature splitting without a model: planted families of near-identical features, what theory says, what is measured.

    x = u_t + ρ v_{t,c}      tokens t, contexts c, all directions orthonormal, cells (t, c) equally likely

A dictionary with one active latent and M latents for each token, whose latents share the token's contexts among
them, is best where each atom points along the mean of its cells. A group of s cells then leaves (s − 1) ρ², so

    FVU = ρ² (1 − M / C) / (1 + ρ²)        1 ≤ M ≤ C, in units of E ‖x‖² = 1 + ρ²

whatever the sizes of the groups. Two active latents, one for the token and one for the cell, need C + 1 latents a token
for what one active latent does with C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from engine.toys.small_dictionaries import Small

World: TypeAlias = Literal["family", "shared", "identical", "independent"]
ACTIVE = 0.05  # in units of the activations' root mean square length: less is not called active
NAMES: dict[World, str] = {
    "family": "families",
    "shared": "shared contexts",
    "identical": "control: identical contexts",
    "independent": "control: independent cells",
}


@dataclass(frozen=True)
class Planted:
    """Activations of all cells and what they are made of.

    Attributes:
        world: ``family`` as above; ``shared``: one v_c for all tokens, so that contexts are features of their own;
            ``identical``: ρ = 0, nothing to split; ``independent``: cells without a common part.
        tokens, contexts: T and C.
        rho: length of the contexts' part.
        parents: (T, d) u_t, orthonormal.
        children: (T, C, d) v_{t,c}, unit length.
        cells: (T · C, d), token after token.
    """

    world: World
    tokens: int
    contexts: int
    rho: float
    parents: Tensor
    children: Tensor
    cells: Tensor

    @property
    def squares(self) -> float:
        """E ‖x‖²."""
        return 1 + self.rho**2


def plant(world: World, tokens: int, contexts: int, rho: float, d: int, source: torch.Generator) -> Planted:
    """Draw the directions of ``world`` in ``d`` ≥ T (C + 1) dimensions."""
    drawn = torch.randn(d, d, generator=source, dtype=torch.float64)[:, : tokens * (contexts + 1)]
    basis = torch.linalg.qr(drawn)[0].T.float()
    parents = basis[:tokens]
    children = basis[tokens : tokens * (contexts + 1)].reshape(tokens, contexts, d)
    if world == "shared":
        children = children[:1].expand(tokens, -1, -1)
    rho = 0.0 if world == "identical" else rho
    if world == "independent":
        cells = children * (1 + rho**2) ** 0.5
    else:
        cells = parents[:, None] + rho * children
    return Planted(world, tokens, contexts, rho, parents, children, cells.reshape(-1, d).clone())


def derived(rho: float, contexts: int, per_token: float) -> float:
    """FVU of the best dictionary with one active latent and ``per_token`` latents for each token."""
    return rho**2 * max(1 - per_token / contexts, 0.0) / (1 + rho**2)


def derived_for(planted: Planted, alive: int, uncovered: int) -> float:
    """The same with ``uncovered`` tokens that no latent serves and ``alive`` latents for the others.

    Cells without a common part leave everything but one cell a latent.
    """
    cells = planted.tokens * planted.contexts
    if planted.world == "independent":
        return max(1 - alive / cells, 0.0)
    left = planted.rho**2 * max(planted.tokens - uncovered - alive / planted.contexts, 0.0)
    return (left + uncovered * planted.squares) / (planted.tokens * planted.squares)


def grouped_atoms(planted: Planted, per_token: int) -> Tensor:
    """Atoms set by hand: ``per_token`` for each token, along the means of about equally large groups of its cells."""
    cells = planted.cells.reshape(planted.tokens, planted.contexts, -1)
    means = [group.mean(dim=1) for group in cells.tensor_split(per_token, dim=1)]
    return normalize(torch.stack(means, dim=1).flatten(0, 1), dim=1)


def parent_and_child_atoms(planted: Planted) -> Tensor:
    """Atoms set by hand: u_t and all different v, with which two active latents leave nothing."""
    children = planted.children[:1] if planted.world == "shared" else planted.children
    return torch.cat((planted.parents, children.flatten(0, 1)))


def topk_codes(x: Tensor, atoms: Tensor, k: int) -> Tensor:
    """Latents (n, F) where the k largest products with ``atoms`` (F, d) are active."""
    pre = x @ atoms.T
    values, places = pre.topk(k, dim=1)
    return torch.zeros_like(pre).scatter(1, places, values.relu())


def topk_fvu(x: Tensor, atoms: Tensor, k: int) -> float:
    """Unexplained share of Σ ‖x‖² with the latents of `topk_codes`."""
    error = topk_codes(x, atoms, k) @ atoms - x
    return float(error.double().square().sum() / x.double().square().sum())


def by_hand(planted: Planted) -> tuple[float, float, float, int]:
    """Unexplained share, bits of the index, L0 and number of `parent_and_child_atoms` with two active latents."""
    atoms = parent_and_child_atoms(planted)
    on = topk_codes(planted.cells, atoms, 2) > ACTIVE
    bits, l0 = float(entropy(on.double().mean(dim=0))), float(on.sum(dim=1).float().mean())
    return topk_fvu(planted.cells, atoms, 2), bits, l0, len(atoms)


@dataclass(frozen=True)
class Measured:
    """What a dictionary has made of the cells. Means go over living latents, or over tokens where it says so.

    Attributes:
        fvu: unexplained share of Σ ‖x‖².
        alive: latents that are active on any cell.
        uncovered: tokens of which more than half is left unexplained.
        formula: `derived_for` so many living latents and uncovered tokens.
        cells, cells_sd: cells on which a latent is active, and the standard deviation over latents.
        per_latent: tokens on which a latent is active.
        purity: share of a latent's cells that belong to its main token.
        parent: largest cosine of an atom with u_t, mean over tokens.
        absorbed: share of cells on which the atom nearest to u_t is off, though the token is there.
        family: mean cosine of the atoms of two latents with the same main token.
        strangers: the same of latents with different main tokens.
        bits: Σ_j H(p_j), what it costs to say which latents are active, each by itself with its rate p_j.
        l0: active latents on a cell.
    """

    fvu: float
    alive: int
    uncovered: int
    formula: float
    cells: float
    cells_sd: float
    per_latent: float
    purity: float
    parent: float
    absorbed: float
    family: float
    strangers: float
    bits: float
    l0: float


def active(codes: Tensor) -> Tensor:
    """Where latents (n, F) of activations of root mean square length 1 count as active."""
    return codes > ACTIVE


def measure(one: Small, planted: Planted) -> Measured:
    """Compare the dictionary ``one``, trained on the cells of ``planted``, with what was planted."""
    codes = one.codes()
    on = active(codes)
    by_token = on.reshape(planted.tokens, planted.contexts, -1)
    living = on.any(dim=0)
    error = (one.rebuilt() - planted.cells).square().sum(dim=1).reshape(planted.tokens, -1).mean(dim=1)
    uncovered = int((error > planted.squares / 2).sum())
    counts = by_token.sum(dim=1)[:, living].float()  # (tokens, living)
    total = counts.sum(dim=0).clamp_min(1)
    towards = normalize(planted.parents, dim=1) @ one.atoms.T
    nearest = towards.argmax(dim=1)
    off = ~by_token.gather(2, nearest[:, None, None].expand(-1, planted.contexts, 1))
    alive = int(living.sum())
    inside, outside = family_cosines(one.atoms[living], counts.argmax(dim=0))
    rate = on.double().mean(dim=0)
    return Measured(
        fvu=one.fvu(codes),
        alive=alive,
        uncovered=uncovered,
        formula=derived_for(planted, alive, uncovered),
        cells=float(total.mean()),
        cells_sd=float(total.std(correction=0)),
        per_latent=float((counts > 0).float().sum(dim=0).mean()),
        purity=float((counts.amax(dim=0) / total).mean()),
        parent=float(towards.amax(dim=1).mean()),
        absorbed=float(off.float().mean()),
        family=inside,
        strangers=outside,
        bits=float(entropy(rate)),
        l0=float(on.float().sum(dim=1).mean()),
    )


def family_cosines(atoms: Tensor, tokens: Tensor) -> tuple[float, float]:
    """Mean cosine of ``atoms`` (n, d) of latents with the same main token (n,), and with different ones; NaN for none."""
    cosines = normalize(atoms, dim=1) @ normalize(atoms, dim=1).T
    same = tokens[:, None] == tokens
    others = ~torch.eye(len(atoms), dtype=torch.bool)
    return float(cosines[same & others].mean()), float(cosines[~same].mean())


def entropy(rates: Tensor) -> Tensor:
    """Σ H(p) in bits of independent events with probabilities ``rates``."""
    inside = rates.clamp(1e-12, 1 - 1e-12)
    each = -(inside * inside.log2() + (1 - inside) * (1 - inside).log2())
    return torch.where((rates > 0) & (rates < 1), each, 0.0).sum()
