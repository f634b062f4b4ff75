"""The experiment `superposition-phases`: when a feature is left out, gets a dimension, or shares one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from engine.figures.kinds import Axis, Heatmap, Images, Table
from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import Batch, LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import NAME as ESTIMATE
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size
from engine.toys.tms import theory
from engine.toys.tms.measures import REPRESENTED, measure

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.ensembles import EnsembleTrainer

Array: TypeAlias = npt.NDArray[Any]
SHARED = 0.5  # superposition from which on a stored feature counts as superposed
DENSITY = Axis("Density p of the features")
IMPORTANCE = Axis("Importance of the last feature")
SIGNED = Axis("Norm: − alone, + superposed")


@dataclass(frozen=True)
class _Size:
    cells: int
    restarts: int
    steps: int
    batch: int
    lr: float


_SIZES = {
    "quick": _Size(6, 2, 500, 128, 2e-2),
    "demo": _Size(16, 5, 2_000, 256, 1e-2),
    "paper": _Size(32, 5, 10_000, 1_024, 3e-3),
}


class SuperpositionPhases(Parameters):
    """Parameters of `superposition-phases`; those left empty come from ``size``."""

    size: Size = "demo"
    features: Literal[2, 3] = Field(2, description="Features, one more than there are hidden dimensions")
    cells: int | None = Field(None, ge=3, le=128, description="Cells along each side of the map; empty: by size")
    restarts: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Models of each cell, of which the one with the lowest loss counts; empty: by size",
    )
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    batch: Batch | None = Field(None, description="Samples per optimiser step and model; empty: by size")
    lr: LearningRate | None = Field(None, description="Learning rate, which falls to 0 as a cosine; empty: by size")
    seed: Seed = 0
    threads: Threads = 1


class _Plan:
    """The map's cells and the models: all restarts of the cells row by row, then a linear control for each cell."""

    def __init__(self, p: SuperpositionPhases) -> None:
        size = _SIZES[p.size]
        self.features, self.seed = p.features, p.seed
        self.cells, self.restarts = p.cells or size.cells, p.restarts or size.restarts
        self.steps, self.batch, self.lr = p.steps or size.steps, p.batch or size.batch, p.lr or size.lr
        self.density = np.geomspace(1, 0.01, self.cells)
        self.importance = np.geomspace(10, 0.1, self.cells)  # the largest in the top row
        self.relus = self.restarts * self.cells**2
        self.models = self.relus + self.cells**2
        repeats = self.restarts + 1
        self.of_density = np.tile(np.tile(self.density, self.cells), repeats)
        self.of_importance = np.ones((self.models, self.features))
        self.of_importance[:, -1] = np.tile(np.repeat(self.importance, self.cells), repeats)


METRICS = {
    "loss": Metric(
        "Training loss", "", "Mean of Iᵢ(xᵢ − x′ᵢ)² over batch, features and all models, controls included", "log"
    ),
    "agreement": Metric(
        "Trained", "share", "Cells away from borders in which the last feature is as in the best solution by quadrature",
        group="Agreement with theory",
    ),
    "linear_agreement": Metric(
        "Linear (control)", "share", "The same of models without ReLU, which cannot superpose", group="Agreement with theory"
    ),
    "superposed": Metric(
        "Trained", "share", "Cells in which the last feature is stored and shares its direction", group="Superposed cells"
    ),
    "theory_superposed": Metric(
        "Theory", "share", "The same of the best solution by quadrature", group="Superposed cells"
    ),
}  # fmt: skip


@experiment(
    "superposition-phases",
    title="Phase diagram of superposition",
    area="Toy models",
    cites="Elhage et al. 2022, Toy Models of Superposition",
    resumable=True,
    estimate=ESTIMATE,
    metrics=METRICS,
)
def superposition_phases(p: SuperpositionPhases, run: Run) -> None:
    """When a feature is left out, gets a dimension of its own, or shares one: a map with sharp borders.

    Each cell of the map is a toy of *superposition* with 2 features and 1 hidden dimension (or 3 and 2). Densities
    fall from left to right, p from 1 to 0.01; the importance of the **last** feature falls from top to bottom, from ten
    times that of the others to a tenth. All cells and restarts are trained at once; of each cell the restart with the
    lowest expected loss counts.

    **How to read it.** White: the last feature is not stored. Blue (negative): it has a dimension of its own.
    Red (positive): it is stored, and shares its dimension with another. *Theory* beside it is no training at all:
    the expected losses of the few solutions that can win (last feature left out, alone, antipodal to another, a
    triangle), with the best bias and norm, as integrals; the map shows the winner. The **control** is the same model
    without ReLU: it never superposes, so its only border is where the last feature becomes the most important.
    *Cells* tells the weights of each cell, *regions* counts them. *Agreement* is the share of cells in which trained
    models and theory have the same kind, borders left out, where two solutions are equally good.

    **What to expect** at the demo's size: with 2 features 99.5 % agreement (205 of 206 cells), 19 % for the control;
    with 3 features 98.5 % (197 of 200) and 64.5 %. Superposition wins at low density wherever the two features matter
    about equally, and at ever lower density the more they differ. Single restarts agree in only 61 to 75 % of the cells:
    with one hidden dimension two features that start on the same side stay there. That is why five are trained.

    **Traps.** A white cell in the red is a failed search, not physics: raise `restarts`. At p = 0.01 most batches hold
    few active features: fewer steps or smaller batches leave noise on the right. With 3 features the two others may pair
    up instead, so that the last keeps a dimension however sparse it is.

    The kept model (`toy:RUN`) is the cell at the lowest density whose last feature weighs most nearly as much as the others.
    """
    from engine.toys.training import log_steps, train

    plan = _Plan(p)
    run.stage("Working out the best solutions")
    maps = _Maps(plan, run)
    run.fact("models", plan.models)
    at = log_steps(plan.steps, FRAMES[p.size])
    train(run, maps.trainer, plan.steps, measure=maps.measure, at=at, lr=plan.lr)
    maps.finish()


def _trainer(plan: _Plan) -> EnsembleTrainer:
    import torch

    from engine.toys.ensembles import Ensemble, EnsembleTrainer, Streams, require_ensemble, xavier
    from engine.toys.tms.data import Features
    from engine.toys.training import generator

    hidden = plan.features - 1
    require_ensemble(plan.models, hidden, plan.features, plan.batch)
    weights = xavier(plan.models, hidden, plan.features, generator(plan.seed, 0))
    importance = torch.from_numpy(plan.of_importance)
    streams = Streams(plan.seed, 1, plan.models, plan.features * plan.batch)
    source = Features(torch.from_numpy(plan.of_density), plan.features, plan.batch, streams)
    return EnsembleTrainer(
        Ensemble(weights, importance, linear=plan.cells**2), source, lr=plan.lr, steps=plan.steps
    )  # fmt: skip


def kinds(weights: Array) -> Array:
    """What becomes of the last feature of W (..., hidden, features): the numbers of `superposition_theory.KINDS`."""
    found = measure(weights)
    shared = found.superposition[..., -1] > SHARED
    stored = found.norms[..., -1] > REPRESENTED
    return np.where(stored, np.where(shared, theory.SUPERPOSED, theory.ALONE), theory.ABSENT)


def signed(weights: Array) -> Array:
    """The norm of the last feature, negative where it is alone: one number that tells all three kinds apart."""
    found = measure(weights)
    return np.where(found.superposition[..., -1] > SHARED, 1, -1) * found.norms[..., -1]


class _Maps:
    """The maps while the models are trained."""

    def __init__(self, plan: _Plan, run: Run) -> None:
        self.plan, self.run = plan, run
        self.theory = theory.best(plan.features, plan.density, plan.importance)
        self.away = ~theory.borders(self.theory.kind)
        self.trainer = _trainer(plan)

    def _best(self) -> tuple[Array, Array, Array]:
        """W of each cell's best restart and of its control (cells, cells, hidden, features), and its number."""
        plan, ensemble = self.plan, self.trainer.ensemble
        weights, bias = ensemble.weights.double().numpy(), ensemble.bias.double().numpy()
        there = slice(0, plan.relus)
        losses = theory.expected_losses(weights[there], bias[there], plan.of_importance[there], plan.of_density[there])
        count = plan.cells**2
        number = losses.reshape(plan.restarts, count).argmin(axis=0) * count + np.arange(count)
        shape = (plan.cells, plan.cells, *weights.shape[1:])
        return weights[number].reshape(shape), weights[plan.relus :].reshape(shape), number

    def measure(self, step: int) -> None:
        """Log the metrics and show the map of ``step``."""
        trained, linear, _ = self._best()
        found, control = kinds(trained), kinds(linear)
        self.run.log(
            step,
            agreement=self._agreement(found),
            linear_agreement=self._agreement(control),
            superposed=(found == theory.SUPERPOSED).mean(),
            theory_superposed=(self.theory.kind == theory.SUPERPOSED).mean(),
        )
        self.run.show("map", self._map(trained, linear), step=step)

    def _agreement(self, found: Array) -> float:
        away = self.away if self.away.any() else np.ones_like(self.away)
        return float((found == self.theory.kind)[away].mean())

    def _map(self, trained: Array, linear: Array) -> Images:
        plan = self.plan
        pixels = np.stack([signed(one) for one in (trained, self.theory.weights, linear)])
        return Images(
            title="Phases of the last feature",
            note=f"Each cell is a toy of {plan.features} features in {plan.features - 1} dimensions. Near 0: the last feature "
            "is not stored. Negative: it has a dimension of its own. Positive: it is superposed with another. "
            f"Trained: the best of {plan.restarts} restarts by expected loss. Theory: the best solution by quadrature. "
            "Control: the same models without ReLU.",
            x_axis=DENSITY,
            y_axis=IMPORTANCE,
            value_axis=SIGNED,
            captions=("trained", "theory", "linear (control)"),
            pixels=pixels.astype(np.float32),
            x=self._ticks(plan.density),
            y=self._ticks(plan.importance),
        )

    def _ticks(self, values: Array) -> Array:
        return np.array([f"{value:.2g}" for value in values])

    def finish(self) -> None:
        """The cells with their weights, the table, and the model that is kept."""
        plan, run = self.plan, self.run
        trained, linear, number = self._best()
        run.show("cells", self._cells(trained))
        run.show("regions", self._regions(kinds(trained), kinds(linear)))
        run.keep("trained", trained.astype(np.float32), axes="importances, densities, hidden, features")
        run.keep("theory", self.theory.weights.astype(np.float32), axes="importances, densities, hidden, features")
        run.keep("density", plan.density, axes="densities")
        run.keep("importance", plan.importance, axes="importances")
        run.fact("agreement_everywhere", float((kinds(trained) == self.theory.kind).mean()))
        run.fact("cells_away_from_borders", int(self.away.sum()))
        self._keep(number.reshape(plan.cells, plan.cells))

    def _cells(self, trained: Array) -> Heatmap:
        plan = self.plan
        names = theory.candidates(plan.features)
        text = [
            [
                f"{_words(trained[row, column])}; theory: {names[self.theory.number[row, column]].name}"
                for column in range(plan.cells)
            ]
            for row in range(plan.cells)
        ]
        return Heatmap(
            title="Weights of each cell",
            note="Point at a cell to read its trained W, column by column, and the solution that theory has there. "
            "Colours as in the phase map of the trained models.",
            x_axis=DENSITY,
            y_axis=IMPORTANCE,
            value_axis=SIGNED,
            values=signed(trained).astype(np.float32),
            x=self._ticks(plan.density),
            y=self._ticks(plan.importance),
            text=np.array(text),
            diverging=True,
        )

    def _regions(self, trained: Array, linear: Array) -> Table:
        """How many cells of each kind there are, and what the models make of them."""
        rows = []
        for where, mask in (("everywhere", np.ones_like(self.away)), ("away from borders", self.away)):
            for number, name in enumerate(theory.KINDS):
                here = mask & (self.theory.kind == number)
                counts = [int((trained[here] == other).sum()) for other in range(len(theory.KINDS))]
                share = [float((found[here] == number).mean()) if here.any() else np.nan for found in (trained, linear)]
                rows.append((where, name, int(here.sum()), *counts, *share))
        heads = ("Cells", "Theory: the last feature is", "Count", *(f"Trained: {name}" for name in theory.KINDS))
        heads = (*heads, "Agreement", "Agreement of the linear control")
        return Table(
            title="Trained models against theory",
            note="A cell is away from borders where the eight around it are of the same kind in theory.",
            axes=tuple(Axis(head, "share" if head.startswith("Agreement") else "") for head in heads),
            columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
        )

    def _keep(self, number: Array) -> None:
        """Keep the model of the smallest density whose last feature weighs most nearly as much as the others."""
        import torch

        from engine.toys.tms.autoencoders import SAMPLES, keep_autoencoder
        from engine.toys.tms.data import sparse
        from engine.toys.training import generator

        plan, ensemble = self.plan, self.trainer.ensemble
        row = int(np.abs(np.log(plan.importance)).argmin())
        model = int(number[row, -1])
        uniform = torch.rand(1, plan.features, SAMPLES, generator=generator(plan.seed, 3))
        keep_autoencoder(
            self.run,
            ensemble.weights[model].numpy().copy(),
            ensemble.bias[model].numpy().copy(),
            sparse(uniform, torch.from_numpy(plan.density[-1:]))[0].T.numpy(),
            [f"x{feature}" for feature in range(plan.features)],
            title=f"{plan.features} features in {plan.features - 1} dimensions, p = {plan.density[-1]:.2g}, "
            f"importance {plan.importance[row]:.2g}",
        )


def _words(weights: Array) -> str:
    """W column by column: "+1.02 −1.02", or "(+1.00 +0.01) …" in two dimensions."""
    columns = [" ".join(f"{value:+.2f}".replace("-", "−") for value in column) for column in weights.T]
    return " ".join(columns if len(weights) == 1 else (f"({column})" for column in columns))


@cost("superposition-phases")
def _cost(p: SuperpositionPhases) -> Cost:
    from engine.models.memory import available
    from engine.toys.ensembles import ensemble_bytes

    plan = _Plan(p)
    wanted = ensemble_bytes(plan.models, plan.features - 1, plan.features, plan.batch)
    if wanted > available():
        return Cost(0.0, wanted)
    note = f"It trains {plan.models:,} models at once, {plan.cells**2:,} of them linear controls."
    return Cost(timed(_trainer(plan).train_step, plan.steps), wanted, note)
