"""The figures of ``feature-splitting``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Graph, Heatmap, Lines, Table
from engine.toys.small_dictionaries import Bench, Small, split_edges
from engine.toys.splitting.families import NAMES, Measured, Planted, World, active, derived

Array: TypeAlias = npt.NDArray[Any]
Row: TypeAlias = tuple[str, Small, Array]  # of a map: head of the names, dictionary, latents in order
SHARE = Axis("Unexplained share of ‖x‖²", "share")
DRAWN_TOKENS = 2  # families in the graph
MAPPED_TOKENS = 4  # and in the maps
GRID = 60  # points of a derived line


@dataclass(frozen=True)
class Series:
    """The dictionaries of one line: a world, k, and their numbers in the bench by rising width."""

    world: World
    k: int
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{NAMES[self.world]}, k = {self.k}"


def fvu_lines(series: Sequence[Series], found: Sequence[Measured], planted: Planted) -> Lines:
    """Unexplained share against living latents, with the lines that theory draws."""
    tokens, contexts = planted.tokens, planted.contexts
    alive = np.geomspace(tokens, tokens * contexts, GRID)
    curves = [
        (alive, np.array([derived(planted.rho, contexts, n / tokens) for n in alive])),
        (alive, 1 - alive / (tokens * contexts)),
    ]
    curves += [
        (np.array([found[n].alive for n in one.numbers]), np.array([found[n].fvu for n in one.numbers]))
        for one in series
    ]
    x, y = _padded(curves)
    return Lines(
        title="What is left unexplained, by living latents",
        note=f"{tokens} tokens in {contexts} contexts each, ρ = {planted.rho:g}; one point a dictionary, widths rising along "
        "a line, all cells weighed alike. Derived for k = 1: ρ² (1 − M/C) / (1 + ρ²) with M living latents a token, if "
        "every token has one; above it some token has none. Controls: identical contexts (ρ = 0) have nothing to "
        "split, so no more latents than tokens live; independent cells have no common part.",
        x_axis=Axis("Living latents", "", "log"),
        y_axis=SHARE,
        series=("derived, families", "derived, independent cells", *(one.name for one in series)),
        x=x,
        y=y,
    )


def cells_lines(series: Sequence[Series], found: Sequence[Measured], widths: Sequence[int], planted: Planted) -> Lines:
    """Cells on which a living latent is active against width, with its spread over latents."""
    tokens, contexts = planted.tokens, planted.contexts
    grid = np.geomspace(min(widths), max(widths), GRID)
    curves = [(grid, np.clip(tokens * contexts / grid, 1, contexts))]
    bands = [np.zeros(GRID)]
    for one in series:
        curves.append((np.array([widths[n] for n in one.numbers]), np.array([found[n].cells for n in one.numbers])))
        bands.append(np.array([found[n].cells_sd for n in one.numbers]))
    x, y = _padded(curves)
    spread = _padded([(band, band) for band in bands])[1]
    return Lines(
        title="Cells for each living latent, by width",
        note=f"Mean over the living latents of a dictionary; the band is one standard deviation over them. A latent for a "
        f"token has {contexts} cells, one for a single cell 1; one for a context that all tokens share has {tokens}. "
        "Even splitting: T·C / width. The control with identical contexts stays at one latent a token.",
        x_axis=Axis("Width", "latents", "log"),
        y_axis=Axis("Cells for each living latent", "cells"),
        series=("even splitting", *(one.name for one in series)),
        x=x,
        y=y,
        low=np.maximum(y - spread, 0),
        high=y + spread,
    )


def cell_names(planted: Planted) -> tuple[str, ...]:
    """t0c0, t0c1, …"""
    return tuple(f"t{t}c{c}" for t in range(planted.tokens) for c in range(planted.contexts))


def drawn_cells(planted: Planted, tokens: int = MAPPED_TOKENS) -> int:
    """Cells of the first tokens, which the maps show."""
    return min(tokens, planted.tokens) * planted.contexts


def row_order(one: Small, cells: int) -> Array:
    """Latents whose atom is nearest to one of the first ``cells`` now, by that cell.

    Taken at the start, the rows of a movie stay put.
    """
    nearest = (one.atoms @ one.x.T).argmax(dim=1)
    order = nearest.argsort(stable=True)
    found: Array = order[nearest[order] < cells].numpy()
    return found


def firing_map(title: str, rows: Sequence[Row], planted: Planted, tokens: int = MAPPED_TOKENS) -> Heatmap:
    """Activity of latents on the cells of the first tokens; several dictionaries one below the other."""
    cells = drawn_cells(planted, tokens)
    values = np.concatenate([one.codes().numpy().T[order, :cells] for _, one, order in rows])
    labels = np.concatenate([[f"{head}{latent}" for latent in order] for head, _, order in rows])
    return Heatmap(
        title=title,
        note="Each row is a latent, in the order of the cells that they began at; each column a cell of the first tokens. "
        "A bar over all contexts of a token is a latent for the token; a single square is a latent for one cell. "
        "Activity is in units of the activations' root mean square length; the lower half is the control with "
        "identical contexts, in which a row is either a whole bar or dead."
        if len(rows) > 1
        else "Each row is a latent, each column a cell of the first tokens; with two active latents one bar for the token "
        "and one square for the cell would be the parent and its child.",
        x_axis=Axis("Cell"),
        y_axis=Axis("Latent"),
        value_axis=Axis("Activity"),
        values=values.astype(np.float16),
        x=np.array(cell_names(planted)[:cells]),
        y=labels,
        levels=(0.0, 1.2),
    )


@dataclass(frozen=True)
class Description:
    """What an activation costs to describe.

    Attributes:
        value_bits: for an active value, and for each number of an atom.
        activations: over which the dictionary's own cost is shared out.
        d: numbers in an atom.
    """

    value_bits: int
    activations: int
    d: int

    def bits(self, index_bits: float, l0: float, alive: int) -> float:
        """Σ H(p), active values and the share of the dictionary, in bits an activation."""
        return index_bits + self.value_bits * (l0 + alive * self.d / self.activations)


def bits_lines(
    series: Sequence[Series], found: Sequence[Measured], hands: Mapping[str, tuple[float, float]], how: Description
) -> Lines:
    """Unexplained share against description length; ``hands`` are (bits, share) of atoms set by hand, by name."""
    curves = []
    for one in series:
        bits = np.array([how.bits(found[n].bits, found[n].l0, found[n].alive) for n in one.numbers])
        order = np.argsort(bits)
        curves.append((bits[order], np.array([found[n].fvu for n in one.numbers])[order]))
    curves += [(np.array([bits]), np.array([share])) for bits, share in hands.values()]
    x, y = _padded(curves)
    return Lines(
        title="What is left unexplained, by description length",
        note=f"Bits for one activation: Σ H(p) over the latents' rates p, which says who is active; {how.value_bits} bits for "
        f"each active value; and {how.value_bits} bits for each number of the living atoms, shared out over "
        f"{how.activations:,} activations. One point a dictionary. The lowest and leftmost line is the cheapest description. "
        "By hand: u_t and all v with k = 2, which leaves nothing.",
        x_axis=Axis("Description length", "bits/activation"),
        y_axis=SHARE,
        series=(*(one.name for one in series), *hands),
        x=x,
        y=y,
    )


def tree(levels: Sequence[tuple[int, Small]], planted: Planted) -> Graph:
    """Which latents of a wider dictionary share out the cells of a narrower one's, for the first tokens."""
    columns = min(DRAWN_TOKENS, planted.tokens) * planted.contexts
    nodes: list[str] = []
    places: list[tuple[float, float]] = []
    edges: list[Array] = []
    weights: list[Array] = []
    before: tuple[Any, Array] | None = None
    for height, (width, one) in enumerate(levels):
        nodes.append(f"width {width}")
        places.append((-3.0, -2.0 * height))
        on = active(one.codes())
        cells = on[:columns]
        kept = cells.any(dim=0).nonzero().flatten()
        index = np.full(on.shape[1], -1)
        index[kept.numpy()] = len(nodes) + np.arange(len(kept))
        for latent in kept.tolist():
            where = cells[:, latent].nonzero().flatten().numpy()
            nodes.append(_cells(where, planted))
            # Up and down by turns where they are many, so that names of neighbours do not run into each other.
            lower = 0.35 * (len(nodes) % 3) if len(kept) > columns // 3 else 0.0
            places.append((float(where.mean()), -2.0 * height - lower))
        if before is not None:
            found, strength = split_edges(before[0], on)
            named = np.stack((before[1][found[:, 0]], index[found[:, 1]]), axis=1)
            inside = (named >= 0).all(axis=1)
            edges.append(named[inside])
            weights.append(strength[inside])
        before = (on, index)
    return Graph(
        title="How families split as the dictionary widens",
        note=f"k = 1, the first {min(DRAWN_TOKENS, planted.tokens)} tokens. Each node is a living latent, named by its cells (t "
        "alone: all contexts of the token), placed over the mean of its cells; widths rise downwards. Edges: P(narrow "
        "latent active | wide latent active), all cells weighed alike; below 0.2 they are left out. Each "
        "width is trained by itself, so a wider dictionary may cut across a narrower one's groups.",
        weight_axis=Axis("P(parent active | child active)", "share"),
        nodes=np.array(nodes),
        position=np.array(places, dtype=np.float64).reshape(-1, 2),
        edges=np.concatenate([*edges, np.empty((0, 2), np.int64)]).astype(np.int64),
        weight=np.concatenate([*weights, np.empty(0)]),
    )


def _cells(where: Array, planted: Planted) -> str:
    by_token: dict[int, list[int]] = {}
    for cell in where.tolist():
        by_token.setdefault(cell // planted.contexts, []).append(cell % planted.contexts)
    parts = []
    for token, contexts in by_token.items():
        whole = len(contexts) == planted.contexts
        parts.append(f"t{token}" if whole else f"c{','.join(map(str, contexts))}")
    return " ".join(parts)


def table(
    bench: Bench,
    found: Sequence[Measured],
    chance: Mapping[int, float],
    extra: Mapping[str, Sequence[float]] | None = None,
    note: str = "",
) -> Table:
    """All dictionaries with all that is measured of them."""
    columns: dict[str, list[Any]] = {}
    for one, measured in zip(bench.small, found, strict=True):
        derived_here = measured.formula if one.job.k == 1 and one.job.data != "shared" else np.nan
        row: dict[str, Any] = {
            "Data": one.job.label,
            "Width": one.job.width,
            "k": one.job.k,
            "Living latents": measured.alive,
            "Tokens without a latent": measured.uncovered,
            "Unexplained": measured.fvu,
            "Derived": derived_here,
            "Difference": measured.fvu - derived_here,
            "Cells for a latent": measured.cells,
            "Tokens for a latent": measured.per_latent,
            "Purity": measured.purity,
            "Parent recovery": measured.parent,
            "Parent recovery, random atoms": chance[one.job.width],
            "Absorption": measured.absorbed,
            "Cosine in a family": measured.family,
            "Cosine between families": measured.strangers,
            "Index bits": measured.bits,
            "L0": measured.l0,
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    units = {
        "Unexplained": "share",
        "Derived": "share",
        "Difference": "share",
        "Purity": "share",
        "Absorption": "share",
    }
    units |= {"Parent recovery": "cosine", "Parent recovery, random atoms": "cosine", "Index bits": "bits"}
    return Table(
        title="All dictionaries",
        note="Unexplained: share of Σ ‖x‖² over all cells. Derived: theory for so many living latents and tokens without one "
        "(k = 1 only). Means over living latents: cells and tokens on which a latent is active, purity (share of its cells "
        "in its main token). Parent recovery: largest cosine with u_t, mean over tokens, beside as many random atoms. "
        "Absorption: share of cells on which the atom nearest to u_t is off." + note,
        axes=tuple(Axis(name, units.get(name, "")) for name in columns),
        columns=tuple(np.asarray(column) for column in columns.values()),
    )


def _padded(curves: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    length = max(len(x) for x, _ in curves)
    x, y = np.full((len(curves), length), np.nan), np.full((len(curves), length), np.nan)
    for number, (one, other) in enumerate(curves):
        x[number, : len(one)], y[number, : len(one)] = one, other
    return x, y
