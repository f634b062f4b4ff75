"""The experiment `feature-splitting`: what wider dictionaries make of near-identical features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.small_dictionaries import Bench, Job
    from engine.toys.splitting.families import Planted, World
    from engine.toys.splitting.figures import Series

BATCH = 512  # a table of cells that is no larger is one batch
POSITIONS = 1_024  # of the toy's data
CONTEXT = 16
DESCRIBED = 2_048  # activations over which a dictionary's own description is shared out
KS = (1, 2, 4)


@dataclass(frozen=True)
class _Size:
    tokens: int
    contexts: int
    widths: tuple[int, ...]
    steps: int


_SIZES = {
    "quick": _Size(4, 4, (4, 8, 16), 60),
    "demo": _Size(8, 8, (8, 16, 32, 64, 128), 300),
    "paper": _Size(32, 16, (32, 64, 128, 256, 512, 1_024), 3_000),
}
_Width: TypeAlias = Annotated[int, Field(ge=1, le=16_384)]


class FeatureSplitting(Parameters):
    """Parameters of `feature-splitting`; those left empty come from ``size``."""

    size: Size = "demo"
    tokens: int | None = Field(None, ge=2, le=256, description="Tokens: families of features; empty: by size")
    contexts: int | None = Field(None, ge=2, le=64, description="Contexts of each token; empty: by size")
    rho: float = Field(0.5, ge=0.01, le=1, description="Length of the part that tells a token's contexts apart")
    d_model: int | None = Field(
        None, ge=6, le=4_096, description="Dimensions of the activations; empty: a third more than directions"
    )
    widths: list[_Width] | None = Field(None, min_length=1, max_length=8, description="Widths; empty: by size")
    start: Literal["rows", "random"] = Field(
        "rows", description="Where atoms begin: at activations, or at random, where many latents die"
    )
    steps: Steps | None = Field(None, description="Optimiser steps of each dictionary; empty: by size")
    lr: LearningRate = 7e-3
    value_bits: int = Field(
        8,
        ge=0,
        le=32,
        description="Bits for an active value in the description length",
        json_schema_extra={"unit": "bits"},
    )
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _directions_fit(self) -> FeatureSplitting:
        tokens, contexts, d = _shape(self)
        if tokens * (contexts + 1) > d:
            raise ValueError(
                f"d_model={d} cannot hold {tokens} tokens and {tokens * contexts} cells at right angles; "
                f"choose at least {tokens * (contexts + 1)}"
            )
        if d > 4_096:
            raise ValueError(f"tokens={tokens} and contexts={contexts} need d_model={d}, more than 4096; choose fewer")
        return self


def _shape(p: FeatureSplitting) -> tuple[int, int, int]:
    size = _SIZES[p.size]
    tokens, contexts = p.tokens or size.tokens, p.contexts or size.contexts
    return tokens, contexts, p.d_model or tokens * (contexts + 1) * 4 // 3


METRICS = {
    "fvu": Metric(
        "Unexplained share", "share", "Mean over all dictionaries of Σ ‖x̂ − x‖² / Σ ‖x‖² on the batch", "log"
    ),
    "deviation": Metric(
        "Deviation from theory",
        "share",
        "Largest |unexplained share − derived share at as many living latents| of the families' dictionaries with k = 1 "
        "in which every token has a latent",
        "log",
    ),
    "living": Metric(
        "Living latents", "latents", "Latents active on any cell, families, widest dictionary, k = 1", group="living"
    ),
    "living_identical": Metric(
        "Living latents, identical contexts", "latents", "The same where ρ = 0: the control", group="living"
    ),
}


@experiment(
    "feature-splitting",
    title="Feature splitting",
    area="Toy models",
    cites="Bricken et al. 2023, Towards Monosemanticity; Chanin et al. 2024, A is for Absorption; "
    "Ayonrinde et al. 2024, Interpretability as Compression",
    resumable=True,
    estimate="toy-estimate",
    metrics=METRICS,
)
def feature_splitting(p: FeatureSplitting, run: Run) -> None:
    """Train dictionaries of rising width on families of near-identical features whose directions are known.

    An activation is x = u_t + ρ v_{t,c}: what a token t is, and a little of the context c it stands in, all at right
    angles. There is no model. One latent for a token explains 1 / (1 + ρ²) of ‖x‖²; a wider dictionary splits the
    token's latent into groups of contexts. For k = 1 active latent theory gives what is left: **ρ² (1 − M/C) / (1 + ρ²)**
    with M living latents for each token.

    **How to read it.** *fvu*: each point is a dictionary, over the number of its living latents; those with k = 1 lie on the
    derived line (within .01; a token without a latent lifts a point off it, so these are counted first in
    *dictionaries*). *firing*: latents against cells; bars break up into squares as the width grows. *cells*: a
    latent's cells fall as T·C / width, so splitting is linear in the living width, not a jump. *tree* shows which
    latents share out a narrower one's cells. *bits*: at equal description length, dictionary included, k = 1 with one
    latent a cell beats k = 2 with parent and child: **splitting is the cheaper code** for families, though u_t is a
    real common direction. Parent recovery falls from .98 to the .89 of a single cell: no latent for the token is left.
    *firing-two*: with k = 2 one latent of a token fires on nearly all its cells, and the others on one each. That
    parent is no u_t either: it is one cell's own atom, off the cells it has **absorbed**.

    **Controls.** *Identical contexts* (ρ = 0) must not split: no more latents than tokens live, whatever the width.
    *Independent cells* have no common part: what is left falls as 1 − living / cells. *Shared contexts*
    (x = u_t + ρ v_c) are the counterexample: there u_t and v_c, T + C latents with k = 2, leave nothing and are the cheaper
    description; training at that width leaves .06 all the same.

    **Traps.** A width of T leaves a token without a latent when two atoms begin at the same token; k = 2 at width T + T·C
    could leave nothing with parents and children, and training finds it only nearly; b_dec is kept at zero, since as a
    token's atom of its own it would win ρ²/(1 + ρ²)/(T·C) and blur the line; atoms that begin at random leave
    most latents dead, which the line takes into account and a plot over the width would not.

    The planted activations are added as the model `toy:RUN` with u and v as planted directions at
    `blocks.0.hook_x`, and a text of cells, so that any dictionary can be trained and scored on them.
    """
    from engine.toys.splitting import families as splitting
    from engine.toys.splitting import figures
    from engine.toys.training import log_steps, train

    worlds = _worlds(p)
    bench, series = _bench(p, worlds)
    planted = worlds["family"]
    steps = _steps(p)
    widths = [one.job.width for one in bench.small]
    where = {(one.job.data, one.job.width, one.job.k): number for number, one in enumerate(bench.small)}
    shown = _widths(p)[len(_widths(p)) // 2]
    split = [("ρ: ", bench.small[where["family", shown, 1]]), ("ρ = 0: ", bench.small[where["identical", shown, 1]])]
    drawn = figures.drawn_cells(planted)
    rows = [(head, one, figures.row_order(one, drawn)) for head, one in split]
    both = bench.small[where["family", _both(p), 2]]
    both_rows = [("", both, figures.row_order(both, drawn))]

    def measured() -> list[splitting.Measured]:
        return [splitting.measure(one, worlds[_world(one.job.data)]) for one in bench.small]

    def measure(step: int) -> None:
        found = measured()
        ones = [found[n] for one in series if one.world == "family" and one.k == 1 for n in one.numbers]
        off = [abs(one.fvu - one.formula) for one in ones if one.uncovered == 0]
        control = found[where["identical", max(_widths(p)), 1]]
        run.log(step, living=ones[-1].alive, living_identical=control.alive)
        if off:
            run.log(step, deviation=max(off))
        run.show("fvu", figures.fvu_lines(series, found, planted), step=step)
        run.show(
            "firing", figures.firing_map(f"Which latents fire where, width {shown}, k = 1", rows, planted), step=step
        )
        title = f"Which latents fire where, width {_both(p)}, k = 2"
        run.show("firing-two", figures.firing_map(title, both_rows, planted), step=step)

    train(run, bench, steps, measure=measure, at=log_steps(steps, FRAMES[p.size]), lr=p.lr, metric="fvu")
    found = measured()
    few = [one for one in series if one.k < 4]
    run.show("cells", figures.cells_lines(few, found, widths, planted))
    how = figures.Description(p.value_bits, DESCRIBED, planted.cells.shape[1])
    hands = {}
    for world in ("family", "shared"):
        fvu, bits, l0, atoms = splitting.by_hand(worlds[world])
        hands[f"{splitting.NAMES[world]}, k = 2, by hand"] = (how.bits(bits, l0, atoms), fvu)
    run.show("bits", figures.bits_lines(series, found, hands, how))
    cells = len(planted.cells)
    levels = [(width, bench.small[where["family", width, 1]]) for width in _widths(p) if width <= cells]
    run.show("tree", figures.tree(levels, planted))
    chance = {width: _chance(planted, width, p.seed) for width in sorted(set(widths))}
    run.show("dictionaries", figures.table(bench, found, chance))
    for k in KS:
        run.keep(f"atoms-k{k}", bench.small[where["family", shown, k]].atoms.numpy(), width=shown, data="families")
    _keep(planted, p, run)


def _steps(p: FeatureSplitting) -> int:
    return p.steps or _SIZES[p.size].steps


def _widths(p: FeatureSplitting) -> list[int]:
    return sorted(set(p.widths or _SIZES[p.size].widths))


def _both(p: FeatureSplitting) -> int:
    """The width at which k = 2 has a parent and its children: T + T·C."""
    tokens, contexts, _ = _shape(p)
    return tokens * (contexts + 1)


def _world(data: str) -> World:
    found: Any = data
    return found  # type: ignore[no-any-return]


def _worlds(p: FeatureSplitting) -> dict[World, Planted]:
    from engine.toys.small_dictionaries import demand_memory
    from engine.toys.splitting import families as splitting
    from engine.toys.training import generator

    tokens, contexts, d = _shape(p)
    demand_memory((tokens * contexts, d, width) for width in _widths(p) for _ in range(len(KS) + 3))
    names: tuple[World, ...] = ("family", "shared", "identical", "independent")
    return {name: splitting.plant(name, tokens, contexts, p.rho, d, generator(p.seed, 1)) for name in names}


def _bench(p: FeatureSplitting, worlds: dict[World, Planted]) -> tuple[Bench, list[Series]]:
    from engine.toys.small_dictionaries import Bench, Job
    from engine.toys.splitting import figures
    from engine.toys.splitting.families import NAMES

    wanted: list[tuple[World, int]] = [("family", k) for k in KS]
    wanted += [("shared", 2), ("identical", 1), ("independent", 1)]
    jobs: list[Job] = []
    series = []
    for world, k in wanted:
        extra = [_both(p)] if (world, k) == ("family", 2) else []
        widths = sorted({*_widths(p), *extra})
        numbers = tuple(range(len(jobs), len(jobs) + len(widths)))
        series.append(figures.Series(world, k, numbers))
        cells = worlds[world].cells
        jobs += [Job(world, cells, width, k, p.start, label=NAMES[world]) for width in widths]
    return Bench(jobs, steps=_steps(p), lr=p.lr, batch=BATCH, seed=p.seed), series


def _chance(planted: Planted, width: int, seed: int) -> float:
    """Parent recovery of as many random atoms."""
    import torch

    from engine.toys.small_dictionaries import largest_cosine
    from engine.toys.training import generator

    atoms = torch.randn(width, planted.cells.shape[1], generator=generator(seed, 3))
    return float(largest_cosine(atoms, planted.parents).mean())


def _keep(planted: Planted, p: FeatureSplitting, run: Run) -> None:
    """The cells as samples of a toy network whose only layer writes u_t + ρ v_{t,c}."""
    import numpy as np

    from engine.models.network import Network, Stage
    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy
    from engine.toys.splitting.figures import cell_names

    tokens, contexts = planted.tokens, planted.contexts
    names = (*(f"t{t}" for t in range(tokens)), *cell_names(planted))
    directions = np.concatenate((planted.parents.numpy(), planted.children.flatten(0, 1).numpy()))
    table = np.zeros((tokens * contexts, len(names)), np.float32)
    cells = np.arange(len(table))
    table[cells, cells // contexts] = 1
    table[cells, tokens + cells] = planted.rho
    drawn = np.random.default_rng([p.seed, 2]).integers(len(table), size=(POSITIONS // CONTEXT, CONTEXT))
    model = Network([Stage(name="x", weight="directions")], {"directions": directions}, table, names)
    keep_toy(
        run,
        model,
        ToyData(drawn, features=table[drawn].astype(np.float16), names=names),
        title=f"Feature splitting, {tokens} tokens in {contexts} contexts, ρ = {p.rho:g}",
        planted={"blocks.0.hook_x": (names, directions)},
    )


@cost("feature-splitting")
def _cost(p: FeatureSplitting) -> Cost:
    from engine.toys.small_dictionaries import bytes_of

    bench, _ = _bench(p, _worlds(p))
    shapes = [(*one.x.shape, one.job.width) for one in bench.small]
    return Cost(timed(bench.train_step, _steps(p), measured=5), bytes_of(shapes))
