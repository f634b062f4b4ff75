"""The experiment `memorisation`: random facts in one ReLU layer, and the layer as a sum of its neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.facts.ensemble import MemoryTrainer, Models

LARGEST = 400_000_000  # activations of all models in one step


@dataclass(frozen=True)
class _Size:
    items: int
    hidden: int
    restarts: int
    steps: int


# 32 items and 8 neurons are 1.94 facts a parameter: as full as training can make it.
_SIZES = {"quick": _Size(16, 5, 2, 300), "demo": _Size(32, 8, 8, 3_000), "paper": _Size(64, 16, 16, 20_000)}


class Memorisation(Parameters):
    """Parameters of `memorisation`; those left empty come from ``size``."""

    size: Size = "demo"
    items: int | None = Field(None, ge=2, le=256, description="What each of the two tokens can be, m; empty: by size")
    facts: int | None = Field(None, ge=2, le=65_536, description="Facts to remember; empty: the whole table, m²")
    hidden: int | None = Field(None, ge=1, le=1_024, description="Neurons h; empty: by size")
    restarts: int | None = Field(None, ge=1, le=64, description="Models trained from different weights; empty: by size")
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    lr: LearningRate = 2e-2
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _facts_fit(self) -> Memorisation:
        items = self._items
        if self.facts is not None and self.facts > items**2:
            raise ValueError(
                f"facts={self.facts:,} are more than the table of items={items} has cells; choose at most {items**2:,}"
            )
        if self._hidden * items**2 > 16_000_000:
            raise ValueError(
                f"hidden={self._hidden} is too large for items={items}; choose at most {16_000_000 // items**2}"
            )
        if self._hidden * items**2 * self._restarts > LARGEST:
            raise ValueError(
                f"restarts={self._restarts} of hidden={self._hidden} neurons for items={items} are more than {LARGEST:,} "
                f"activations a step; choose at most {LARGEST // (self._hidden * items**2)} restarts"
            )
        return self

    @property
    def _items(self) -> int:
        return self.items or _SIZES[self.size].items

    @property
    def _hidden(self) -> int:
        return self.hidden or _SIZES[self.size].hidden

    @property
    def _facts(self) -> int:
        return self.facts or self._items**2

    @property
    def _restarts(self) -> int:
        return self.restarts or _SIZES[self.size].restarts

    @property
    def _steps(self) -> int:
        return self.steps or _SIZES[self.size].steps


@experiment(
    "memorisation",
    title="Memorisation of random facts",
    area="Toy models",
    cites="Newgas 2025; Cover 1965; Allen-Zhu & Li 2024",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric("Training loss", "nats/fact", "Cross-entropy of all facts, mean over the restarts", "log"),
        "accuracy": Metric("Facts right, best", "share", "Share of the facts right, best restart", group="right"),
        "accuracy_mean": Metric(
            "Facts right, mean", "share", "Share of the facts right, mean over restarts", group="right"
        ),
        "bits_per_parameter": Metric(
            "Bits / parameter, best", "bits", "F (1 - CE / ln 2) / N, restart with the lowest loss", group="bits"
        ),
        "bits_per_parameter_mean": Metric(
            "Bits / parameter, mean", "bits", "F (1 - CE / ln 2) / N, mean over restarts", group="bits"
        ),
    },
)
def memorisation(p: Memorisation, run: Run) -> None:
    """Train a ReLU layer to remember a table of coin tosses, and look at the table as the sum of its neurons.

    Two items i and j go in; a random bit for each pair is to come out. There is nothing to generalise: what is
    learned is F bits in N parameters. The layer's logit for (i, j) is `c + Σ w ReLU(A_i + B_j + b)`, so the table of
    logits is a **sum of h matrices**, each an outer sum cut off by a ReLU: like a low-rank factorisation, with
    ReLU(u ⊕ v) in place of u vᵀ and only signs to be met.

    **How to read it.** *Neurons, each sorted by its own weights* shows each of these matrices: sorted, each is a
    staircase, but the order differs from neuron to neuron. *Running sum* and *Facts right as neurons are added*: with
    half of the neurons .59 of the facts are right, with all of them .98 (demo; best of 8 restarts). A truncated
    **SVD** with as many numbers, the control, gains evenly and ends at .92. So no neuron holds some of the facts: the
    circuit has no meaning beyond the table. *What is stored* has all controls: the untrained model, always the
    commoner answer, the SVD, and the trained model asked for *another* random table (.50).

    **What to expect.** With 1.94 facts a parameter (32 items, 8 neurons) the restarts have .96 right and store 1.62 ± .18
    bits a parameter, the best 1.80: take the best of several. The SVD, whose scale is fitted, stores 1.44.
    With 12 neurons (1.29 facts a parameter) all facts are right and bits per parameter are F / N itself. Cross-entropy is
    in nats while it trains, in bits where it is counted. Per neuron three directions of the parameters change nothing
    (two shifts, one scale); the table says both counts.

    *Which facts are right* and the neurons are movies of the training. The best model is in the session as `toy:RUN`,
    its samples are all pairs; the items' directions are its planted features. See also `memorisation-scaling` and
    `memorisation-quantisation`.
    """
    from engine.toys.facts import figures
    from engine.toys.training import log_steps, train

    trainer = _trainer(p)
    at = log_steps(p._steps, FRAMES[p.size])
    live = _Live(trainer, at, p, run)
    train(run, trainer, p._steps, measure=live.measure, at=at, lr=p.lr)
    best = live.best()
    for place, step in enumerate(at):
        live.show(live.recalled(place, best), step)
    model = trainer.models[0][[best]].detached()
    run.show("running-sum", figures.sums_figure(model, trainer.table, p._facts))
    _summary(p, trainer, live, run)
    _keep(p, trainer, model, run)


def _trainer(p: Memorisation) -> MemoryTrainer:
    from engine.models import memory
    from engine.toys.facts.ensemble import Group, MemoryTrainer, Table

    memory.require(_memory(p), "cpu", what=f"{p._restarts} models", way_out="choose fewer restarts, items or neurons")
    group = Group(p._hidden, (p._facts,), p._restarts)
    return MemoryTrainer(Table.draw(p._items, p.seed), [group], steps=p._steps, lr=p.lr, seed=p.seed)


def _memory(p: Memorisation) -> int:
    cells = p._items**2
    frames = FRAMES[p.size] * p._restarts * p._hidden * (2 * p._items + 2)
    return 4 * (6 * max(cells * p._hidden, 65_536) + 4 * p._restarts * cells + 2 * frames)


@cost("memorisation")
def _cost(p: Memorisation) -> Cost:
    return Cost(timed(_trainer(p).train_step, p._steps), _memory(p))


class _Live:
    """Measures all restarts while they train, remembers their weights, and shows the best so far."""

    def __init__(self, trainer: MemoryTrainer, at: list[int], p: Memorisation, run: Run) -> None:
        import torch

        self.trainer, self.at, self.p, self.run = trainer, at, p, run
        size = sum(tensor[0].numel() for tensor in trainer.weights.values())
        self.snapshots = torch.zeros(len(at), p._restarts, size)
        trainer.extra["snapshots"] = self.snapshots

    def measure(self, step: int) -> None:
        """Log accuracy and bits, remember the weights and show the best restart."""
        import torch

        from engine.toys.facts.ensemble import bits, parameters

        nats, right = self.trainer.measure(0)
        stored = bits(self.p._facts, nats[0]) / parameters(self.p._items, self.p._hidden)
        best = self.best()
        self.run.log(
            step,
            accuracy=float(right.max()),
            accuracy_mean=float(right.mean()),
            bits_per_parameter=float(stored.max()),
            bits_per_parameter_mean=float(stored.mean()),
        )
        place = self.at.index(step)
        tensors = [tensor.detach().flatten(1) for tensor in (t.view(len(t), -1) for t in self.trainer.weights.values())]
        self.snapshots[place] = torch.cat(tensors, dim=1)
        self.show(self.recalled(place, best), step)

    def best(self) -> int:
        """The restart whose loss is lowest now."""
        return int(self.trainer.measure(0)[0][0].argmin())

    def recalled(self, place: int, restart: int) -> Models:
        """One restart as it was at the measurement ``place``."""
        from engine.toys.facts.ensemble import Models

        row, found, start = self.snapshots[place, restart], [], 0
        for tensor in self.trainer.weights.values():
            shape = tensor.shape[1:]
            found.append(row[start : start + shape.numel()].view(1, *shape))
            start += shape.numel()
        return Models(*found)

    def show(self, model: Models, step: int) -> None:
        """The frames of ``step``."""
        from engine.toys.facts import figures

        table, facts = self.trainer.table, self.p._facts
        if (len(self.at) - 1 - self.at.index(step)) % 2 == 0:  # large frames: every second, the last among them
            self.run.show("neurons", figures.components_frame(model, facts), step=step)
        self.run.show("facts", figures.margins_frame(model, table, facts), step=step)
        self.run.show("facts-right", figures.running_frame(model, table, facts), step=step)


def _summary(p: Memorisation, trainer: MemoryTrainer, live: _Live, run: Run) -> None:
    """The table of the model, its restarts and the controls."""
    import numpy as np
    import torch

    from engine.toys.facts import figures
    from engine.toys.facts.ensemble import (
        OTHER,
        bits,
        free_parameters,
        parameters,
        score,
        svd_logits,
        svd_rank,
    )
    from engine.toys.training import generator

    table, facts, chosen = trainer.table, p._facts, trainer.table.chosen(p._facts)
    count, free = parameters(p._items, p._hidden), free_parameters(p._items, p._hidden)
    nats, right = (found[0] for found in trainer.measure(0))
    best = live.best()
    stored = bits(facts, nats)
    spread = float((stored / count).std(unbiased=False))
    other = torch.randint(0, 2, table.answers.shape, generator=generator(p.seed, OTHER)).float()
    model = trainer.models[0][[best]].detached()
    untrained = live.recalled(0, best)
    rank = svd_rank(p._items, count)
    numbers = 2 * p._items * rank - rank**2
    rows: list[tuple[object, ...]] = [
        ("best restart", count, free, float(right[best]), float(stored[best]), 1, np.nan),
        ("mean of restarts", count, free, float(right.mean()), float(stored.mean()), p._restarts, spread),
    ]
    for name, logits, answers, cost_of, effective in (
        ("untrained", untrained.logits(), table.answers, count, free),
        ("best restart, asked for another table", model.logits(), other, count, free),
        (f"truncated SVD, rank {rank}", svd_logits(table, chosen, rank)[None], table.answers, numbers, numbers),
    ):
        found_nats, found_right = score(logits, answers, chosen)
        rows.append((name, cost_of, effective, float(found_right), float(bits(facts, found_nats)), 1, np.nan))
    majority = table.majority(facts)
    unknown = -majority * np.log(majority) - (1 - majority) * np.log1p(-majority) if majority < 1 else 0.0
    rows.append(("always the commoner answer", 0, 0, majority, facts * (1 - unknown / np.log(2)), 1, np.nan))
    note = (
        f"{facts:,} facts in a table of {p._items} × {p._items}. Bits stored: F (1 - CE / ln 2), below 0 where confident answers "
        "are wrong. N counts all trained numbers; three directions a neuron change nothing. The SVD of the table of ±1 has as "
        "many numbers as fit into N, its scale is fitted to the least cross-entropy."
    )
    run.show("stored", figures.summary_table(rows, facts, note))
    run.fact("parameters", count)
    run.fact("facts_per_parameter", facts / count)
    run.fact("best_restart", best)


def _keep(p: Memorisation, trainer: MemoryTrainer, model: Models, run: Run) -> None:
    """The best model over the table of all pairs of items."""
    import numpy as np

    from engine.models.network import Network, Stage
    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy

    items, table = p._items, trainer.table
    first, second = np.divmod(np.arange(items**2), items)
    eye = np.eye(items, dtype=np.float32)
    names = [f"i{number}" for number in range(items)] + [f"j{number}" for number in range(items)]
    inward = np.concatenate((model.a[0].T.numpy(), model.b[0].T.numpy()))
    network = Network(
        [
            Stage(name="hidden", weight="inward", bias="bias", activation="relu"),
            Stage(name="out", weight="outward", bias="offset"),
        ],
        {
            "inward": inward,
            "bias": model.bias[0].numpy(),
            "outward": model.out[0].numpy()[:, None],
            "offset": model.offset.numpy(),
        },
        np.concatenate((eye[first], eye[second]), axis=1),
        names,
    )
    chosen = table.chosen(p._facts).numpy() > 0
    answer = table.answers.numpy().astype(np.uint8)[..., None]
    inputs = network.inputs.astype(np.uint8).reshape(items, items, -1)
    data = ToyData(
        np.arange(items**2, dtype=np.int32).reshape(items, items),
        counted=chosen,
        features=np.concatenate((inputs, answer), axis=2),
        names=(*names, "fact is true"),
    )
    keep_toy(
        run,
        network,
        data,
        title=f"Memorisation, {p._facts:,} facts, {p._hidden} neurons",
        planted={"blocks.0.hook_hidden_pre": (tuple(names), inward)},
    )
    run.keep("answers", table.answers.numpy().astype(np.uint8), what="table of facts, first item by second item")
    run.keep("order", table.order.numpy().astype(np.int32), what="cells in the order in which they become facts")
