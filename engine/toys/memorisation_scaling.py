"""The experiment `memorisation-scaling`: how many random bits ReLU layers of several sizes store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.facts.ensemble import MemoryTrainer

Array: TypeAlias = npt.NDArray[Any]
LOADS = (0.3, 0.6, 1.0, 1.3, 1.6, 1.8, 2.0, 2.3, 2.8, 3.5)  # facts per parameter
RESAMPLES = 1_000
LARGEST = 400_000_000  # activations of all models in one step
BOOTSTRAP = 50  # stream of the run's seed
_Load: TypeAlias = Annotated[float, Field(gt=0, le=1_000)]


@dataclass(frozen=True)
class _Size:
    items: int
    hidden: tuple[int, ...]
    loads: tuple[float, ...]
    restarts: int
    steps: int


_SIZES = {
    "quick": _Size(16, (2, 4), (0.5, 1.0, 2.0, 3.0), 2, 150),
    "demo": _Size(48, (3, 5, 7, 10), LOADS, 3, 3_000),
    "paper": _Size(128, (4, 8, 16, 27), LOADS, 4, 10_000),
}


class MemorisationScaling(Parameters):
    """Parameters of `memorisation-scaling`; those left empty come from ``size``."""

    size: Size = "demo"
    items: int | None = Field(None, ge=4, le=256, description="What each of the two tokens can be, m; empty: by size")
    hidden: list[int] | None = Field(None, min_length=1, max_length=8, description="Neurons h of each curve")
    loads: list[_Load] | None = Field(
        None,
        min_length=2,
        max_length=32,
        description="Facts per parameter F / N; those that the table cannot hold are left out",
    )
    restarts: int | None = Field(None, ge=1, le=32, description="Models trained at each point; empty: by size")
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    lr: LearningRate = 2e-2
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _points_fit(self) -> MemorisationScaling:
        items = self._items
        for h in self._hidden:
            if not 1 <= h <= 1_024:
                raise ValueError(f"hidden={h} neurons: choose between 1 and 1,024")
            if len(self._facts(h)) < 2:
                raise ValueError(
                    f"hidden={h} neurons have {2 * items * h + 2 * h + 1:,} parameters: fewer than two of the loads are at "
                    f"least one fact and fit into the {items**2:,} cells of items={items}; choose more items, fewer neurons or "
                    "other loads"
                )
        if len(set(self._hidden)) < len(self._hidden):
            raise ValueError(f"hidden={list(self._hidden)} names a width twice; name each once")
        cells = sum(len(self._facts(h)) * h for h in self._hidden) * self._restarts * items**2
        if cells > LARGEST:
            raise ValueError(f"{cells:,} activations a step are more than {LARGEST:,}; choose fewer points or restarts")
        return self

    @property
    def _items(self) -> int:
        return self.items or _SIZES[self.size].items

    @property
    def _hidden(self) -> tuple[int, ...]:
        return tuple(sorted(self.hidden or _SIZES[self.size].hidden))

    @property
    def _restarts(self) -> int:
        return self.restarts or _SIZES[self.size].restarts

    @property
    def _steps(self) -> int:
        return self.steps or _SIZES[self.size].steps

    def _facts(self, hidden: int) -> tuple[int, ...]:
        """Numbers of facts for models of this width: those of the loads that are at least 1 and fit into the table."""
        count = 2 * self._items * hidden + 2 * hidden + 1
        found = {round(load * count) for load in self.loads or _SIZES[self.size].loads}
        return tuple(sorted(facts for facts in found if 1 <= facts <= self._items**2))


@experiment(
    "memorisation-scaling",
    title="Memorisation: bits per parameter",
    area="Toy models",
    cites="Newgas 2025; Cover 1965; Allen-Zhu & Li 2024",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric("Training loss", "nats/fact", "Cross-entropy of all facts, mean over all models", "log"),
        "bits_per_parameter": Metric(
            "Most bits / parameter", "bits", "Largest F (1 - CE / ln 2) / N over all models trained at once"
        ),
        "load": Metric("Facts per parameter there", "", "F / N of the model that stores most bits per parameter"),
        "slope": Metric(
            "Bits / parameter, fit", "bits", "Slope through the origin of the most bits stored against N, all widths"
        ),
    },
)
def memorisation_scaling(p: MemorisationScaling, run: Run) -> None:
    """How many random bits ReLU layers hold: loss against the number of facts for several widths, all trained at once.

    A layer of h neurons with N parameters is to remember F random bits (see `memorisation`). What it has stored is
    F (1 - CE / ln 2): one bit a fact, less what is still unknown of it.

    **How to read it.** *Loss against the number of facts*: the loss of a wide enough layer leaves 0 between the upright
    lines F = N and F = 2N: capacity counts parameters. *Bits stored per parameter*: up to there the curve is the
    diagonal (each fact is stored), then it bends down, because training no longer finds what the parameters could
    hold. *Bits stored against parameters* fits one line through the origin, with a bootstrap interval.

    **What to expect** (demo). The peak is 1.96 bits a parameter at 2.0 facts a parameter (10 neurons); narrower layers are
    harder to train and peak at 1.8 (7), 1.6 (5) and 1.4 (3). The fit is 1.77 bits a parameter (95 % interval 1.62 to 1.85).
    Up to 1.3 facts a parameter the best of three layers of 10 neurons has all facts right. About two bits a
    parameter is Cover's capacity of a perceptron: believe no more than 2.1 bits from this set-up.

    **Controls.** Chance is 1 bit a fact; the truncated SVD with as many numbers stores .85 bits at 1 and 1.3 at 2
    facts a parameter; far beyond capacity it is as good as the neurons. **Traps**: restarts
    differ by .2 to .4 bits a parameter, so the best of several is drawn with the range; loss in nats is not loss in bits.
    Facts of narrower models are a part of those of wider ones, drawn in an order that is kept with the run.
    """
    from engine.toys.training import log_steps, train

    trainer = _trainer(p)
    run.keep(
        "answers", trainer.table.answers.numpy().astype(np.uint8), what="table of facts, first item by second item"
    )
    run.keep(
        "order", trainer.table.order.numpy().astype(np.int32), what="cells in the order in which they become facts"
    )
    at = log_steps(p._steps, FRAMES[p.size])
    control = _control(p, trainer)
    train(run, trainer, p._steps, measure=lambda step: _measure(p, trainer, control, run, step), at=at, lr=p.lr)
    _finish(p, trainer, run)


def _trainer(p: MemorisationScaling) -> MemoryTrainer:
    from engine.models import memory
    from engine.toys.facts.ensemble import Group, MemoryTrainer, Table

    memory.require(_memory(p), "cpu", what="All models together", way_out="choose fewer points, restarts or items")
    groups = [Group(h, p._facts(h), p._restarts) for h in p._hidden]
    return MemoryTrainer(Table.draw(p._items, p.seed), groups, steps=p._steps, lr=p.lr, seed=p.seed)


def _memory(p: MemorisationScaling) -> int:
    models = sum(len(p._facts(h)) for h in p._hidden) * p._restarts
    return 4 * (6 * max(65_536, max(p._hidden) * p._items**2) + 4 * models * p._items**2)


@cost("memorisation-scaling")
def _cost(p: MemorisationScaling) -> Cost:
    return Cost(timed(_trainer(p).train_step, p._steps), _memory(p))


def _control(p: MemorisationScaling, trainer: MemoryTrainer) -> tuple[Array, Array]:
    """Facts per parameter and bits stored per parameter of the SVD, for the widest models."""
    from engine.toys.facts.ensemble import bits, parameters, score, svd_logits, svd_rank

    width = p._hidden[-1]
    count, table = parameters(p._items, width), trainer.table
    x, y = [], []
    for facts in p._facts(width):
        chosen = table.chosen(facts)
        found = svd_logits(table, chosen, svd_rank(p._items, count))
        nats, _ = score(found[None], table.answers.double(), chosen.double())
        x.append(facts / count)
        y.append(float(bits(facts, nats)) / count)
    return np.array(x), np.array(y)


def _results(p: MemorisationScaling, trainer: MemoryTrainer) -> dict[int, tuple[tuple[int, ...], Array]]:
    """By width the numbers of facts and the cross-entropy in bits (numbers of facts, restarts)."""
    found = {}
    for number, group in enumerate(trainer.groups):
        nats, _ = trainer.measure(number)
        found[group.hidden] = (group.facts, nats.numpy() / np.log(2))
    return found


def _stored(p: MemorisationScaling, results: dict[int, tuple[tuple[int, ...], Array]]) -> dict[int, Array]:
    """By width the bits stored (numbers of facts, restarts)."""
    return {h: np.array(facts)[:, None] * (1 - loss) for h, (facts, loss) in results.items()}


def _measure(p: MemorisationScaling, trainer: MemoryTrainer, control: tuple[Array, Array], run: Run, step: int) -> None:
    from engine.toys.facts import figures
    from engine.toys.facts.ensemble import parameters

    results = _results(p, trainer)
    per = {h: bits / parameters(p._items, h) for h, bits in _stored(p, results).items()}
    best = max(per, key=lambda h: float(per[h].max()))
    place = int(per[best].max(axis=1).argmax())
    load = results[best][0][place] / parameters(p._items, best)
    slope, _ = _fit(p, results, run.seed, 0)
    run.log(step, bits_per_parameter=float(per[best].max()), load=load, slope=slope)
    run.show("scaling", figures.scaling_frame(results, p._items), step=step)
    name = f"truncated SVD, numbers as h = {p._hidden[-1]}"
    run.show("bits-per-parameter", figures.capacity_frame(results, p._items, control, name), step=step)


def _fit(
    p: MemorisationScaling, results: dict[int, tuple[tuple[int, ...], Array]], seed: int, resamples: int
) -> tuple[float, tuple[float, float]]:
    """Slope of the most bits stored against N through the origin, and its 95 % interval over resampled models."""
    from engine.toys.facts.ensemble import parameters

    most = np.stack([bits.max(axis=0) for bits in _stored(p, results).values()])
    counts = np.repeat([parameters(p._items, h) for h in results], most.shape[1]).astype(float)
    flat = most.ravel()
    slope = float((counts * flat).sum() / (counts**2).sum())
    if not resamples:
        return slope, (slope, slope)
    drawn = np.random.default_rng([seed, BOOTSTRAP]).integers(len(flat), size=(resamples, len(flat)))
    slopes = (counts[drawn] * flat[drawn]).sum(axis=1) / (counts[drawn] ** 2).sum(axis=1)
    low, high = np.quantile(slopes, [0.025, 0.975])
    return slope, (float(low), float(high))


def _finish(p: MemorisationScaling, trainer: MemoryTrainer, run: Run) -> None:
    """The fit and the table of all points."""
    from engine.figures.kinds import Axis, Table
    from engine.toys.facts import figures
    from engine.toys.facts.ensemble import free_parameters, parameters

    results = _results(p, trainer)
    stored = _stored(p, results)
    slope, interval = _fit(p, results, p.seed, RESAMPLES)
    most = np.stack([bits.max(axis=0) for bits in stored.values()])
    counts = [parameters(p._items, h) for h in results]
    run.show("stored", figures.stored_figure(counts, most, slope, interval, RESAMPLES))
    rows = []
    for number, (h, (facts, loss)) in enumerate(results.items()):
        right = trainer.measure(number)[1].numpy()
        count, free = parameters(p._items, h), free_parameters(p._items, h)
        for place, wanted in enumerate(facts):
            per = stored[h][place] / count
            best = int(loss[place].argmin())
            majority = trainer.table.majority(wanted)
            values = (per.max(), per.mean(), per.std(), right[place, best], right[place].mean(), majority)
            rows.append((h, count, free, wanted, wanted / count, *values, p._restarts))
    labels = (
        "Neurons h",
        "Parameters N",
        "N without redundant directions",
        "Facts F",
        "F / N",
        "Bits / parameter, best",
    )
    labels += ("mean", "sd", "Facts right, best", "mean", "Always the commoner answer", "n")  # type: ignore[assignment]
    run.show(
        "points",
        Table(
            title="All points",
            note=f"Table of {p._items} × {p._items} cells, {p._steps:,} steps; best, mean and sd over n restarts. "
            "Control: the share that the commoner answer gets right.",
            axes=tuple(Axis(label, "bits" if "Bits" in label else "") for label in labels),
            columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
        ),
    )
    run.fact("slope", slope)
    run.fact("slope_interval", list(interval))
