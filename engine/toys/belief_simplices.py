"""The experiment `belief-simplices`: do dictionaries find the corners of a simplex, or tile it?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.errors import ToyError
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.beliefs.simplices import Found, Simplex
    from engine.toys.small_dictionaries import Bench, Small

Array: TypeAlias = npt.NDArray[Any]
BATCH = 256
FIRST = 3  # position from which on beliefs of the default data are taken: before, there are only a few
LENGTH = 10
KEPT = 1_024  # samples of the default data that are kept as a toy
D_MODEL = 64
WATCHED = 1_000  # held-out samples that are measured during training
SHAPES = 16  # corners at most


@dataclass(frozen=True)
class _Size:
    samples: int
    widths: tuple[int, ...]
    ks: tuple[int, ...]
    steps: int


_SIZES = {
    "quick": _Size(1_000, (8, 16), (2,), 40),
    "demo": _Size(6_000, (8, 32, 128), (1, 2, 4), 250),
    "paper": _Size(100_000, (8, 16, 32, 64, 128, 512), (1, 2, 3, 4, 6), 10_000),
}
_Width: TypeAlias = Annotated[int, Field(ge=2, le=16_384)]
_Active: TypeAlias = Annotated[int, Field(ge=1, le=64)]


class BeliefSimplices(Parameters):
    """Parameters of `belief-simplices`; those left empty come from ``size``."""

    size: Size = "demo"
    model: str = Field(
        "",
        description="A toy:RUN whose text holds beliefs or other weights; empty: exact beliefs of Mess3 with noise",
        json_schema_extra={"widget": "model"},
    )
    text: str = Field("", description="Its text; empty: the one of the same run", json_schema_extra={"widget": "text"})
    hook: str = Field(
        "", description="Hook point of the model; empty: its last residual stream", json_schema_extra={"widget": "hook"}
    )
    corners: str = Field(
        "", description="Names of the text's features that are the corners, with commas between; empty: all of them"
    )
    noise: float = Field(
        0.1, ge=0, le=10, description="Noise on exact beliefs: its length over that of the beliefs' deviations"
    )
    widths: list[_Width] | None = Field(None, min_length=1, max_length=8, description="Widths; empty: by size")
    ks: list[_Active] | None = Field(
        None, min_length=1, max_length=6, description="Active latents for each activation; empty: by size"
    )
    steps: Steps | None = Field(None, description="Optimiser steps of each dictionary; empty: by size")
    lr: LearningRate = 5e-3
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _a_text_needs_its_model(self) -> BeliefSimplices:
        if self.model and not self.model.startswith("toy:"):
            raise ValueError(f"model={self.model!r} has no weights of a simplex; name a toy:RUN or leave it empty")
        if not self.model and (self.text or self.hook or self.corners):
            raise ValueError("text, hook and corners are those of a model; name a model=toy:RUN as well")
        return self


METRICS = {
    "fvu": Metric("FVU", "share", "Mean over all dictionaries of the unexplained variance of a batch", "log"),
    "auroc": Metric(
        "AUROC of the corners",
        "",
        "Best latent for each corner, mean over corners, narrowest dictionary",
        group="auroc",
    ),
    "auroc_control": Metric("AUROC, Gaussian control", "", "The same on the control", group="auroc"),
    "local": Metric(
        "Spread of a latent",
        "share",
        "Variance of the weights where it is active over that of all, widest",
        group="local",
    ),
    "local_control": Metric("Spread, Gaussian control", "share", "The same on the control", group="local"),
}


@experiment(
    "belief-simplices",
    title="Simplices in dictionaries",
    area="Toy models",
    cites="Shai et al. 2024, Transformers Represent Belief State Geometry in their Residual Stream; "
    "Park et al. 2024, The Geometry of Categorical and Hierarchical Concepts",
    resumable=True,
    estimate="toy-estimate",
    metrics=METRICS,
)
def belief_simplices(p: BeliefSimplices, run: Run) -> None:
    """Train TopK dictionaries on activations that lie in a simplex: do latents stand for its corners, or tile it?

    An observer of a hidden Markov process has beliefs, weights over its states that add up to 1, and a transformer
    trained on the process holds them in a plane of its residual stream. Nothing in that plane is sparse. Without a model the
    data are the exact beliefs of Mess3 (three states) along three orthonormal directions in 64 dimensions, with noise; with
    `model=toy:RUN`, whose text holds the weights, they are its activations at `hook`.

    **How to read it.** *strongest*: dots are samples in the triangle, coloured by the latent that is the strongest. *local*
    and *area*: how far a latent reaches; both fall with the width and rise with k. *auroc*: whether some latent
    tells each corner from the rest. *barycentric* and *corners*: whether the corners found are those of the simplex. *maps*:
    where single latents are active.

    **What to expect** (measured at demo size). With k = 1 a latent is a **sector** of the triangle, seen from the mean: the
    length of a latent says how far out, its atom in which direction; the best one for a corner has an AUROC of .89 to .91. With
    k = 2 or 4 and 32 or more latents there *is* a latent for each corner (AUROC .98 to 1), since beliefs crowd near the
    corners. Wide dictionaries do not tile finely: of 128 latents 3 to 9 live (control: 14 to 27). Mean
    reconstructions give the corners at any width (R² above .99), because they are means of the data.

    **Control.** The same dictionaries on Gaussian data of the same mean and covariance, whose weights are read with the
    true data's affine probe: sectors as well, with an AUROC of .62 to .68 at k = 1 and .81 to .95 above. Sectors, and an
    AUROC of .9, are what a dictionary makes of *any* plane; only what exceeds the control says something of corners.

    **Traps.** An affine probe finds any plane, and barycentric R² near 1 follows from that alone where the corners are means of
    the data. With two corners P2 is not testable. Samples seldom reach the true corners, so means lie inside.
    """
    from engine.toys.beliefs import simplices_figures as figures
    from engine.toys.beliefs.simplices import gaussian_twin, judge
    from engine.toys.training import log_steps, train

    simplex = _read(p, run) if p.model else _exact(p)
    simplices = {"simplex": simplex, "control": gaussian_twin(simplex, np.random.default_rng([p.seed, 5]))}
    bench = _bench(p, simplices)
    steps, widths = p.steps or _SIZES[p.size].steps, _widths(p)
    where = {(one.job.data, one.job.width, one.job.k): one for one in bench.small}
    least, middle = _ks(p)[0], widths[len(widths) // 2]
    few = {
        name: replace(one, held_x=one.held_x[:WATCHED], held_weights=one.held_weights[:WATCHED])
        for name, one in simplices.items()
    }
    shown = [where[name, middle, least] for name in few]

    def measure(step: int) -> None:
        measured: dict[str, float] = {}
        for name, end in (("simplex", ""), ("control", "_control")):
            measured[f"auroc{end}"] = float(judge(where[name, widths[0], least], few[name]).auroc.mean())
            measured[f"local{end}"] = judge(where[name, widths[-1], least], few[name]).local
        run.log(step, **measured)
        run.show("strongest", figures.strongest_scatter(list(few.values()), shown), step=step)

    train(
        run, bench, steps, measure=measure, at=log_steps(steps, max(FRAMES[p.size] // 3, 4)), lr=p.lr, metric="fvu",
        stage="Training dictionaries",
    )  # fmt: skip
    found = [(one, judge(one, simplices[one.job.data])) for one in bench.small]
    dead = sum(not measured.alive for _, measured in found)
    if dead:
        run.say(
            f"{dead} of {len(found)} dictionaries have no living latent, so there is nothing to read off them; choose a "
            f"learning rate below {p.lr:g}.",
            "warning",
        )
    _show(found, simplices, where, p, run)
    run.keep("held_weights", simplex.held_weights.astype(np.float32), columns=list(simplex.corners))
    if not p.model:
        _keep(simplex, p, run)


def _show(
    found: list[tuple[Small, Found]],
    simplices: dict[str, Simplex],
    where: dict[tuple[str, int, int], Small],
    p: BeliefSimplices,
    run: Run,
) -> None:
    from engine.toys.beliefs import simplices_figures as figures

    widths, least = _widths(p), _ks(p)[0]
    for name, label, pick in figures.LINES:
        groups: dict[str, list[tuple[int, float]]] = {}
        for one, measured in found:
            groups.setdefault(f"{one.job.label}, k = {one.job.k}", []).append((one.job.width, pick(measured)))
        run.show(name, figures.width_lines(name, label, groups))
    simplex = simplices["simplex"]
    labelled = [
        (("" if o.job.data == "simplex" else f"{figures.CONTROL}, ") + f"{o.job.width} wide, k = {o.job.k}", m)
        for o, m in found
        if o.job.k == least
    ]
    run.show("corners", figures.corners_scatter(labelled, simplex))
    rows = [
        (f"{head}{width}:", where[name, width, least], simplices[name])
        for head, name in (("", "simplex"), ("Gauss ", "control"))
        for width in sorted({widths[0], widths[-1]})
    ]
    run.show("maps", figures.firing_images(rows))
    run.show("dictionaries", figures.table(found, simplices))


def _widths(p: BeliefSimplices) -> list[int]:
    return sorted(set(p.widths or _SIZES[p.size].widths))


def _ks(p: BeliefSimplices) -> list[int]:
    return sorted(set(p.ks or _SIZES[p.size].ks))


def _bench(p: BeliefSimplices, simplices: dict[str, Simplex]) -> Bench:
    import torch

    from engine.toys.small_dictionaries import Bench, Job

    jobs = []
    for name, simplex in simplices.items():
        x = torch.from_numpy(simplex.x)
        jobs += [
            Job(name, x, width, k, centre=x.mean(dim=0), bias=True, label=simplex.name)
            for k in _ks(p)
            for width in _widths(p)
        ]
    return Bench(jobs, steps=p.steps or _SIZES[p.size].steps, lr=p.lr, batch=BATCH, seed=p.seed)


def _exact(p: BeliefSimplices) -> Simplex:
    """Exact beliefs of Mess3 along orthonormal directions, with noise."""
    from engine.toys.beliefs.hidden_markov import mess3
    from engine.toys.beliefs.simplices import Simplex

    process, random = mess3(), np.random.default_rng([p.seed, 1])
    halves = []
    for _ in range(2):
        sequences = -(-_SIZES[p.size].samples // (LENGTH - FIRST))
        tokens, _ = process.sample(sequences, LENGTH, random)
        halves.append(process.beliefs(tokens)[:, FIRST:].reshape(-1, len(process.states)))
    directions = _directions(p)
    spread = np.sqrt(halves[0].var(axis=0).sum() / D_MODEL)
    x = [
        (half @ directions + p.noise * spread * random.standard_normal((len(half), D_MODEL))).astype(np.float32)
        for half in halves
    ]
    return Simplex("beliefs of Mess3", x[0], halves[0], x[1], halves[1], process.states)


def _directions(p: BeliefSimplices) -> Array:
    random = np.random.default_rng([p.seed, 2])
    found: Array = np.linalg.qr(random.standard_normal((D_MODEL, 3)))[0].T
    return found


def _read(p: BeliefSimplices, run: Run) -> Simplex:
    """Activations of a toy and the weights in its text; every second sequence is held out.

    Equal histories have equal activations, which would lie in both halves: each is taken once.
    """
    from engine.models.capture import capture
    from engine.models.network import NetworkBridge
    from engine.models.opening import open_model
    from engine.text import toys
    from engine.toys.beliefs.simplices import Simplex

    run.stage(f"Opening {p.model}")
    model = open_model(p.model, device="cpu", run=run, work=run.work)
    reference = p.text or p.model
    if not reference.startswith("toy:"):
        raise ToyError(f"text={reference} holds no weights of a simplex; name the text toy:RUN of a toy.")
    _, data = toys.find(reference.removeprefix("toy:"), run.work)
    if data.features is None:
        raise ToyError(f"The text {reference} has no features; choose that of a toy with beliefs or planted features.")
    names = [name.strip() for name in p.corners.split(",")] if p.corners else list(data.names)
    unknown = [name for name in names if name not in data.names]
    if unknown:
        raise ToyError(f"corners={unknown[0]} is no feature of {reference}; it has: {', '.join(data.names[:SHAPES])}.")
    if not 2 <= len(names) <= SHAPES:
        raise ToyError(f"A simplex has 2 to {SHAPES} corners, not {len(names)}; name those to look at in corners.")
    hook = p.hook or f"blocks.{model.facts.layers - 1}.hook_resid_post"
    counted = np.ones(data.tokens.shape, bool) if data.counted is None else data.counted
    values = data.features[:, :, [data.names.index(name) for name in names]].astype(np.float64)
    if not (values >= 0).all():
        raise ToyError(
            f"The text {reference} has features below 0, which are no weights of a simplex; name others in corners."
        )
    if len(values) < 2:
        raise ToyError(f"The text {reference} has one sequence, and half of them are held out; choose a longer one.")
    counted = counted & (
        np.abs(values).sum(axis=2) > 0
    )  # where no corner has any weight there is no place in the simplex
    counted = counted & _first_seen(data.tokens, alone=isinstance(model.bridge, NetworkBridge))
    halves: list[list[tuple[Array, Array]]] = [[], []]
    for rows, activations in capture(model, data.tokens, [hook], batch=64, run=run):
        part = activations[hook].cpu().numpy()
        for number in range(rows.start, rows.stop):
            kept = counted[number]
            halves[number % 2].append((part[number - rows.start][kept], values[number][kept]))
    (x, w), (held_x, held_w) = (tuple(np.concatenate(parts) for parts in zip(*half, strict=True)) for half in halves)
    if min(len(x), len(held_x)) < 100:
        raise ToyError(
            f"The text {reference} has {len(x) + len(held_x)} activations with weights; at least 200 are needed."
        )
    totals = (part / part.sum(axis=1, keepdims=True) for part in (w, held_w))
    return Simplex(f"{p.model} at {hook}", x, next(totals), held_x, next(totals), tuple(names))


def _first_seen(tokens: Array, *, alone: bool) -> Array:
    """(sequences, length) bool: the first place of each history, the tokens up to there; ``alone``: of each token."""
    seen: set[bytes] = set()
    first = np.zeros(tokens.shape, bool)
    for number, row in enumerate(np.ascontiguousarray(tokens)):
        for at in range(len(row)):
            history = row[at if alone else 0 : at + 1].tobytes()
            first[number, at] = history not in seen
            seen.add(history)
    return first


def _keep(simplex: Simplex, p: BeliefSimplices, run: Run) -> None:
    """The exact beliefs as samples of a toy network that writes them along their directions, with the noise."""
    from engine.models.network import Network, Stage
    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy

    weights = simplex.held_weights[:KEPT].astype(np.float32)
    directions = _directions(p).astype(np.float32)
    noise = simplex.held_x[: len(weights)] - weights @ directions
    names = (*(f"belief {name}" for name in simplex.corners), *(f"noise {number}" for number in range(D_MODEL)))
    table = np.concatenate((weights, noise), axis=1)
    model = Network(
        [Stage(name="x", weight="directions")],
        {"directions": np.concatenate((directions, np.eye(D_MODEL)))},
        table,
        names,
    )
    tokens = np.arange(len(table) // 16 * 16).reshape(-1, 16)
    beliefs = names[: len(simplex.corners)]
    keep_toy(
        run,
        model,
        ToyData(tokens, features=weights[tokens].astype(np.float16), names=beliefs),
        title="Exact beliefs of Mess3",
        planted={"blocks.0.hook_x": (beliefs, directions)},
    )


@cost("belief-simplices")
def _cost(p: BeliefSimplices) -> Cost:
    from engine.models.memory import available
    from engine.toys.beliefs.simplices import gaussian_twin
    from engine.toys.small_dictionaries import bytes_of

    shapes = [(_SIZES[p.size].samples, D_MODEL, width) for _ in range(2) for _ in _ks(p) for width in _widths(p)]
    if bytes_of(shapes) > available():
        return Cost(0.0, bytes_of(shapes))
    few = p.model_copy(update={"size": "quick", "widths": _widths(p), "ks": _ks(p)})
    simplex = _exact(few)  # a step costs the same on fewer samples, and a model's activations are about as wide
    bench = _bench(few, {"simplex": simplex, "control": gaussian_twin(simplex, np.random.default_rng(0))})
    steps = p.steps or _SIZES[p.size].steps
    return Cost(1.5 * timed(bench.train_step, steps, measured=5), bytes_of(shapes))
