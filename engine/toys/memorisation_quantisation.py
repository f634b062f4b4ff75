"""The experiment `memorisation-quantisation`: in how few bits a weight remembers what it has stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.facts.quantiser import QuantisingTrainer

Array: TypeAlias = npt.NDArray[Any]
AFTER = (1.0, 1.58, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)  # bits of rounding after training
DURING = (1.0, 1.58, 2.0, 3.0, 4.0)  # bits of rounding while training
LARGEST = 400_000_000  # activations of all models in one step


@dataclass(frozen=True)
class _Size:
    items: int
    hidden: tuple[int, ...]
    restarts: int
    steps: int


_SIZES = {
    "quick": _Size(16, (4, 12), 2, 200),
    "demo": _Size(32, (8, 12, 24, 48), 2, 1_500),
    "paper": _Size(64, (16, 24, 32, 48, 96), 4, 10_000),
}


class MemorisationQuantisation(Parameters):
    """Parameters of `memorisation-quantisation`; those left empty come from ``size``."""

    size: Size = "demo"
    items: int | None = Field(None, ge=2, le=128, description="What each of the two tokens can be, m; empty: by size")
    hidden: list[int] | None = Field(None, min_length=1, max_length=8, description="Neurons h of each curve")
    restarts: int | None = Field(None, ge=1, le=16, description="Models trained of each width; empty: by size")
    steps: Steps | None = Field(None, description="Optimiser steps in float, and as many rounded; empty: by size")
    lr: LearningRate = 2e-2
    fine_lr: LearningRate = 5e-3
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _widths(self) -> MemorisationQuantisation:
        wrong = [h for h in self._hidden if not 1 <= h <= 1_024]
        if wrong:
            raise ValueError(f"hidden={wrong[0]} neurons: choose between 1 and 1,024")
        if len(set(self._hidden)) < len(self._hidden):
            raise ValueError(f"hidden={list(self._hidden)} names a width twice; name each once")
        cells = sum(self._hidden) * self._restarts * len(DURING) * self._items**2
        if cells > LARGEST:
            raise ValueError(
                f"hidden={list(self._hidden)}, restarts={self._restarts} and items={self._items} make {cells:,} activations a "
                f"step, more than {LARGEST:,}; choose fewer neurons, restarts or items"
            )
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


@experiment(
    "memorisation-quantisation",
    title="Memorisation: quantisation",
    area="Toy models",
    cites="Newgas 2025; Courbariaux et al. 2015 (straight-through); Li et al. 2016 (ternary weights); Allen-Zhu & Li 2024",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric(
            "Training loss", "nats/fact", "Cross-entropy, mean over the models of the stage: float, then rounded", "log"
        ),
        "accuracy": Metric("In float", "share", "Facts right in float, mean over all models", group="right"),
        "accuracy_ptq": Metric(
            "4 bits, rounded after",
            "share",
            "Facts right with weights rounded to 4 bits, mean over all models",
            group="right",
        ),
        "accuracy_qat": Metric(
            "4 bits, rounded in training",
            "share",
            "Facts right of models trained with 4-bit weights, mean over all models",
            group="right",
        ),
    },
)
def memorisation_quantisation(p: MemorisationQuantisation, run: Run) -> None:
    """In how few bits can the weights of a model that has memorised random facts be written?

    Models of several widths learn the same table (see `memorisation`): narrow ones are full, wide ones have slack. Then A, B
    and w are rounded, each tensor by itself: to 1 bit (sign), 1.58 (ternary), or 2 to 8 bits of equal steps whose range has
    the least squared error. **After training** rounds the trained weights. **While training** goes on from them with
    weights that are rounded at each step, gradients passed straight through.

    **How to read it.** Information sets a floor: a model that stores 1.7 bits a parameter cannot be right in fewer
    bits a weight: the upright lines, one for each width. How far above its line a curve falls off is the method's
    doing. **What to expect** (demo, mean of two restarts): the full model (1.94 facts a parameter) loses facts below 8 bits when
    rounded after training, .81 are right at 4, and .84 when trained in 4. With three times the slack (.65) 4 bits after
    training, or 3 while training, give all but one in 2,000; with six times (.32) ternary weights do, when trained.
    So “it breaks below two bits a parameter” is a bound, not where rounding breaks.

    **Controls**: always the commoner answer; the float model; and the 8-bit weights **in another order** within each tensor,
    which leaves chance: the distribution of the weights carries nothing. **Traps**: in 2 bits there are no zeros, so ternary
    may do as well; outliers decide the range; biases b and c stay in float and are not counted.

    The two figures are movies, of the two stages of training.
    """
    from engine.toys.training import log_steps, train

    trainer = _trainer(p)
    run.keep(
        "answers", trainer.table.answers.numpy().astype(np.uint8), what="table of facts, first item by second item"
    )
    half = log_steps(p._steps, FRAMES[p.size] // 2)
    at = sorted({*half, *(p._steps + step for step in half)})
    train(run, trainer, 2 * p._steps, measure=lambda step: _measure(p, trainer, run, step), at=at, lr=p.lr)
    _finish(p, trainer, run)


def _trainer(p: MemorisationQuantisation) -> QuantisingTrainer:
    from engine.models import memory
    from engine.toys.facts.ensemble import Table
    from engine.toys.facts.quantiser import QuantisingTrainer

    memory.require(_memory(p), "cpu", what="All models together", way_out="choose fewer restarts, items or neurons")
    return QuantisingTrainer(
        Table.draw(p._items, p.seed),
        p._hidden,
        bits=DURING,
        restarts=p._restarts,
        steps=p._steps,
        lr=p.lr,
        fine_lr=p.fine_lr,
        seed=p.seed,
    )


def _memory(p: MemorisationQuantisation) -> int:
    cells, models = p._items**2, p._restarts * (len(DURING) + 1) * len(p._hidden)
    return 4 * (6 * max(cells * max(p._hidden), 65_536) + 4 * models * cells + 400 * p._items * max(p._hidden))


@cost("memorisation-quantisation")
def _cost(p: MemorisationQuantisation) -> Cost:
    trainer = _trainer(p)
    first = timed(trainer.train_step, p._steps)
    trainer.step = p._steps
    return Cost(first + timed(trainer.train_step, p._steps), _memory(p))


def _after(trainer: QuantisingTrainer, number: int) -> Array:
    """Facts right with weights rounded after training (bits, restarts)."""
    from engine.toys.facts.ensemble import entropies
    from engine.toys.facts.quantiser import rounded

    chosen, models = trainer.chosen[number], trainer.models[number].detached()
    right = [entropies(rounded(models, bits), trainer.table.answers, chosen)[1].numpy() for bits in AFTER]
    return np.stack(right)


def _label(p: MemorisationQuantisation, hidden: int) -> str:
    from engine.toys.facts.ensemble import parameters

    return f"h = {hidden}, F / N = {p._items**2 / parameters(p._items, hidden):.2f}"


def _stored(p: MemorisationQuantisation, trainer: QuantisingTrainer) -> list[float]:
    """Bits stored per parameter of the best float model of each width."""
    from engine.toys.facts.ensemble import bits, parameters

    facts = p._items**2
    return [
        float(bits(facts, trainer.measure(number)[0]).max()) / parameters(p._items, h)
        for number, h in enumerate(p._hidden)
    ]


def _measure(p: MemorisationQuantisation, trainer: QuantisingTrainer, run: Run, step: int) -> None:
    from engine.toys.facts import figures

    widths = range(len(p._hidden))
    facts = p._items**2
    references = {"always the commoner answer": trainer.table.majority(facts)}
    about = (
        f"{facts:,} facts; mean of {p._restarts} models of each width, band from lowest to highest. A and B and w in so many "
        "bits, biases in float. Upright lines: bits that each width's best float model stores per parameter, below which no "
        "code can be right. Control: always the commoner answer. "
    )
    stored = [max(value, 0.0) for value in _stored(p, trainer)]
    if step <= p._steps:
        found = {_label(p, p._hidden[n]): (AFTER, _after(trainer, n)) for n in widths}
        right = [float(trainer.measure(n)[1].mean()) for n in widths]
        four = [float(values[AFTER.index(4)].mean()) for _, values in found.values()]
        run.log(step, accuracy=sum(right) / len(right), accuracy_ptq=sum(four) / len(four))
        figure = figures.quantised_figure("Weights rounded after training", about, found, stored, references)
        run.show("after-training", figure, step=step)
    if step > p._steps:
        tuned = {_label(p, p._hidden[n]): (DURING, trainer.accuracies(n).numpy()) for n in widths}
        four = [float(values[DURING.index(4)].mean()) for _, values in tuned.values()]
        run.log(step, accuracy_qat=sum(four) / len(four))
        note = f"{about}Training goes on from the float models with weights rounded at each step."
        figure = figures.quantised_figure("Weights rounded while training", note, tuned, stored, references)
        run.show("while-training", figure, step=step)


def _finish(p: MemorisationQuantisation, trainer: QuantisingTrainer, run: Run) -> None:
    """The table of all widths and bits with the controls."""
    from engine.figures.kinds import Axis, Table
    from engine.toys.facts.ensemble import entropies, parameters
    from engine.toys.facts.quantiser import MIXED, mixed, rounded
    from engine.toys.training import generator

    facts, rows = p._items**2, []
    stored = _stored(p, trainer)
    for number, h in enumerate(p._hidden):
        count = parameters(p._items, h)
        models = trainer.models[number].detached()
        shuffled = mixed(rounded(models, 8.0), generator(p.seed, MIXED))
        chance = entropies(shuffled, trainer.table.answers, trainer.chosen[number])[1].numpy()
        floats = trainer.measure(number)[1].numpy().ravel()
        common = (h, facts / count, stored[number])
        tuned = trainer.accuracies(number).numpy()
        rows.append((*common, "float", 32.0, floats.mean(), floats.std(), p._restarts))
        for name, bits, right in (
            ("after training", AFTER, _after(trainer, number)),
            ("while training", DURING, tuned),
        ):
            rows += [
                (*common, name, b, values.mean(), values.std(), p._restarts)
                for b, values in zip(bits, right, strict=True)
            ]
        rows.append((*common, "8 bits, in another order", 8.0, chance.mean(), chance.std(), p._restarts))
        rows.append((*common, "always the commoner answer", 0.0, trainer.table.majority(facts), 0.0, 1))
    axes = (
        Axis("Neurons h"),
        Axis("Facts / N"),
        Axis("Stored per parameter", "bits"),
        Axis("Rounded"),
        Axis("Bits per weight", "bits"),
        Axis("Facts right", "share"),
        Axis("Sd over models", "share"),
        Axis("n"),
    )
    run.show(
        "all",
        Table(
            title="Accuracy in few bits",
            note=f"{facts:,} facts in a table of {p._items} × {p._items}. Stored: F (1 - CE / ln 2) / N of the best float model. "
            "Controls: the commoner answer, and the rounded weights of each tensor in another order.",
            axes=axes,
            columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
        ),
    )
