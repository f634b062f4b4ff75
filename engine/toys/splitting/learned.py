"""What dictionaries make of families that transformers have learned: `splitting.measure` on learned activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from engine.figures.kinds import Axis, Lines, Scatter, Table
from engine.toys.small_dictionaries import Bench, Small
from engine.toys.splitting.families import Measured, Planted, active, family_cosines
from engine.toys.splitting.network import FamilyTrainer, World

Array: TypeAlias = npt.NDArray[Any]
GRID = 24  # points of the derived line


@dataclass(frozen=True)
class Learned:
    """Activations of one transformer as if they had been planted.

    Attributes:
        world: what it learned.
        planted: its cells less their mean, scaled so that the share of the variance within tokens is that of ρ.
        within: that share.
        unembed: (outputs, d) from the residual stream to logits.
    """

    world: World
    planted: Planted
    within: float
    unembed: Tensor


def learned(world: World, cells: Tensor, unembed: Tensor) -> Learned:
    """Take the residual stream of ``cells`` (tokens · contexts, d) apart into tokens and what contexts add.

    With orthogonal contexts a share W of the variance within tokens belongs to ρ² = W / (1 − 1/C − W).
    """
    tokens, contexts = world.tokens, world.contexts
    x = cells - cells.mean(dim=0)
    grouped = x.reshape(tokens, contexts, -1)
    parents = grouped.mean(dim=1)
    within = float((grouped - parents[:, None]).double().square().sum() / x.double().square().sum())
    independent = not world.epsilon >= 0  # NaN marks the control
    rho = 1.0 if independent else (within / max(1 - 1 / contexts - within, 1e-6)) ** 0.5
    x = x * ((1 + rho**2) ** 0.5 / float(x.double().square().sum(dim=1).mean()) ** 0.5)
    kind: Any = "independent" if independent else "family"
    children = grouped - parents[:, None]
    return Learned(world, Planted(kind, tokens, contexts, rho, parents, children, x), within, unembed)


def logit_cosine(one: Small, found: Learned) -> float:
    """Mean cosine of the logit effects of two living latents with the same main token; effects less their mean."""
    on = active(one.codes())
    living = on.any(dim=0)
    tokens = on.reshape(found.planted.tokens, found.planted.contexts, -1).sum(dim=1)[:, living].argmax(dim=0)
    effects = one.atoms[living] @ found.unembed.T
    return family_cosines(normalize(effects - effects.mean(dim=1, keepdim=True), dim=1), tokens)[0]


def runs(one: Small, planted: Planted) -> float:
    """Unbroken stretches of neighbouring contexts, round the circle, on which a latent is active: mean over living ones.

    For a latent on all contexts of a token it is 1.
    """
    on = active(one.codes()).reshape(planted.tokens, planted.contexts, -1)
    begins = (on & ~on.roll(1, dims=1)).sum(dim=1) + on.all(dim=1)  # (tokens, latents)
    serves = on.any(dim=1)
    return float(begins[serves].float().mean())


def places(trainer: FamilyTrainer, number: int) -> tuple[Array, Array]:
    """Logits of all cells along the two largest principal components of the true ones: (cells, 2), and their tokens."""
    world = trainer.worlds[number]
    true = world.own.transpose(0, 1).flatten(0, 1).double()
    true = true - true.mean(dim=1, keepdim=True)
    axes = torch.linalg.svd(true - true.mean(dim=0), full_matrices=False)[2][:2]
    logits = (trainer.activations()[number] @ trainer.unembeddings()[number].T).double()
    logits = logits - logits.mean(dim=1, keepdim=True)
    points: Array = (logits @ axes.T).float().numpy()
    return points, np.repeat(np.arange(world.tokens), world.contexts)


def logits_scatter(trainer: FamilyTrainer, number: int) -> Scatter:
    """The families as they form."""
    points, tokens = places(trainer, number)
    world = trainer.worlds[number]
    return Scatter(
        title=f"Logits of all cells while the transformer learns, {world.name}",
        note=f"Each dot is one of {len(points)} cells: a token in a context, in the plane of the two "
        "largest principal components of the true logits. A family is one colour: it gathers first, and its contexts part later.",
        x_axis=Axis("Component 1", "logits"),
        y_axis=Axis("Component 2", "logits"),
        value_axis=Axis("Token"),
        points=points,
        value=tokens.astype(np.float32),
        label=np.array([f"t{t} c{c}" for t in range(world.tokens) for c in range(world.contexts)]),
    )


def fvu_lines(bench: Bench, found: list[Measured], of: list[int], worlds: list[Learned], main: int) -> Lines:
    """Unexplained variance against living latents, a line for each transformer and k."""
    names: dict[str, list[int]] = {}
    for number, one in enumerate(bench.small):
        names.setdefault(f"{one.job.label}, k = {one.job.k}", []).append(number)
    planted, within = worlds[main].planted, worlds[main].within
    grid, c = np.geomspace(planted.tokens, planted.tokens * planted.contexts, GRID), planted.contexts
    x, y = np.full((2, len(names) + 1, GRID), np.nan)
    x[0], y[0] = grid, within * np.clip(c - grid / planted.tokens, 0, None) / (c - 1)
    for row, numbers in enumerate(names.values(), start=1):
        x[row, : len(numbers)] = [found[n].alive for n in numbers]
        y[row, : len(numbers)] = [found[n].fvu for n in numbers]
    return Lines(
        title="Variance left unexplained, by living latents",
        note=f"One point a dictionary on the residual stream, widths rising along a line, all cells "
        f"alike. Derived: k = 1 on {worlds[main].world.name}, {within:.0%} of whose variance lies within tokens, if contexts "
        "were orthogonal; learned ones are packed into fewer dimensions, so that one atom serves several. Controls: ε = 0 "
        "has nothing to split; independent cells have no families.",
        x_axis=Axis("Living latents", "", "log"),
        y_axis=Axis("Unexplained variance", "share"),
        series=(f"derived, {worlds[main].world.name}", *names),
        x=x,
        y=y,
    )


def cosine_lines(rows: list[tuple[float, Measured, float]], control: tuple[Measured, float], width: int) -> Lines:
    """Cosines inside a family against ε: (ε, measured, cosine of logit effects)."""
    x = np.array([epsilon for epsilon, _, _ in rows])
    inside, outside = ([getattr(m, name) for _, m, _ in rows] for name in ("family", "strangers"))
    return Lines(
        title=f"How alike the latents of one family are, width {width}, k = 1",
        note="Mean over pairs of living latents with the same main token. With ε = 0 there is one latent for each "
        "token, and so no pair. Control: a transformer whose cells have no families, its latents paired in the same way.",
        x_axis=Axis("ε: size of the contexts' part"),
        y_axis=Axis("Cosine"),
        series=("atoms, one family", "logit effects, one family", "atoms, different families"),
        x=x,
        y=np.array([inside, [effect for _, _, effect in rows], outside], dtype=float),
        reference={
            name: value
            for name, value in (("control: atoms", control[0].family), ("control: logit effects", control[1]))
            if np.isfinite(value)
        },
    )


def arcs_lines(rows: dict[str, list[tuple[int, float]]]) -> Lines:
    """Stretches of neighbouring contexts for a latent, against width, by world."""
    return Lines(
        title="Tiles of the circle: unbroken stretches of contexts for a latent",
        note="Mean over living latents with k = 1: 1 where a latent's contexts are neighbours, as tiles of a circle are. "
        "Control: discrete contexts, whose order means nothing, so that a latent with several contexts has several stretches.",
        x_axis=Axis("Width", "latents", "log"),
        y_axis=Axis("Stretches for a latent"),
        series=tuple(rows),
        x=np.array([[width for width, _ in points] for points in rows.values()], dtype=float),
        y=np.array([[value for _, value in points] for points in rows.values()]),
    )


def models_table(trainer: FamilyTrainer, untrained: list[float], found: list[Learned]) -> Table:
    """The transformers beside what they were before training."""
    excesses = trainer.excesses()
    floors = [world.floor for world in trainer.worlds]
    return Table(
        title="What the transformers have learned",
        note="Loss: exact expected cross-entropy over all cells; the floor is the mean conditional entropy of the next token. "
        "Within tokens: share of the variance of the residual stream that contexts make. Control: before training.",
        axes=(
            Axis("World"),
            Axis("Floor", "nats"),
            Axis("Loss", "nats"),
            Axis("Above the floor", "nats"),
            Axis("Above the floor, untrained", "nats"),
            Axis("Variance within tokens", "share"),
        ),
        columns=(
            np.array([world.name for world in trainer.worlds]),
            np.array(floors),
            np.array(floors) + excesses,
            np.array(excesses),
            np.array(untrained),
            np.array([one.within for one in found]),
        ),
    )
