"""The experiment `superposition`: when a bottleneck stores more features than it has dimensions, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import Batch, LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import NAME as ESTIMATE
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.ensembles import EnsembleTrainer
    from engine.toys.tms.figures import Shown

Array: TypeAlias = npt.NDArray[Any]
Density: TypeAlias = Annotated[float, Field(ge=1e-4, le=1.0)]
MAP = 64  # features up to which overlaps are drawn
CURVES = 12  # features up to which each is a curve of its own
TEST_VALUES = 4_000_000  # of the test batch, all models together


@dataclass(frozen=True)
class _Size:
    features: int
    hidden: int
    densities: int
    restarts: int
    low: float
    decay: float
    steps: int
    batch: int
    lr: float


_SIZES = {
    "quick": _Size(5, 2, 3, 2, 0.05, 0.9, 500, 256, 2e-2),
    "demo": _Size(5, 2, 8, 4, 0.05, 0.9, 4_000, 1_024, 1e-2),
    "paper": _Size(400, 30, 20, 1, 0.01, 1.0, 10_000, 1_024, 1e-3),
}


class Superposition(Parameters):
    """Parameters of `superposition`; those left empty come from ``size``."""

    size: Size = "demo"
    features: int | None = Field(None, ge=2, le=10_000, description="Features n; empty: by size")
    hidden: int | None = Field(None, ge=1, le=2_000, description="Hidden dimensions m; empty: by size")
    densities: int | None = Field(
        None,
        ge=1,
        le=200,
        description="Densities between the two below, spaced by equal factors; 1: the least; empty: by size",
    )
    density_high: Density | None = Field(
        None, description="Largest probability that a feature is active; empty: 1, or 0.5 for anticorrelated pairs"
    )
    density_low: Density | None = Field(
        None, description="Smallest probability that a feature is active; empty: by size"
    )
    restarts: int | None = Field(
        None, ge=1, le=1_000, description="Models trained at each density from other starts; empty: by size"
    )
    importance_decay: float | None = Field(
        None, ge=0.1, le=1.0, description="Feature i weighs decay^i in the loss; 1 for equal importance; empty: by size"
    )
    data: Literal["independent", "correlated", "anticorrelated"] = Field(
        "independent", description="Features fire independently, in pairs together, or in pairs never together"
    )
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    batch: Batch | None = Field(None, description="Samples per optimiser step and model; empty: by size")
    lr: LearningRate | None = Field(None, description="Learning rate, which falls to 0 as a cosine; empty: by size")
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _fit_each_other(self) -> Superposition:
        plan = _plan(self)
        if plan.hidden >= plan.features:
            raise ValueError(
                f"hidden={plan.hidden} holds all features={plan.features} without superposition; choose fewer dimensions"
            )
        if plan.low > plan.high:
            raise ValueError(f"density_low={plan.low:g} is above density_high={plan.high:g}; exchange them")
        if self.data == "anticorrelated" and plan.high > 0.5:
            raise ValueError(
                f"density_high={plan.high:g} leaves no room for anticorrelated pairs, of which one fires at most; "
                "choose at most 0.5"
            )
        return self


@dataclass(frozen=True)
class _Plan:
    """The parameters with those of the size filled in."""

    features: int
    hidden: int
    densities: int
    restarts: int
    high: float
    low: float
    decay: float
    steps: int
    batch: int
    lr: float

    @property
    def density(self) -> Array:
        """p of each density, falling."""
        return np.geomspace(self.high, self.low, self.densities) if self.densities > 1 else np.array([self.low])

    @property
    def of_model(self) -> Array:
        """p of each model: the restarts of each density one after another, then a linear control for each."""
        return np.concatenate([np.repeat(self.density, self.restarts), self.density])

    @property
    def relus(self) -> int:
        return self.densities * self.restarts

    @property
    def samples(self) -> int:
        """Of the test batch, for each model."""
        return min(max(TEST_VALUES // (len(self.of_model) * self.features), 256), 8_192)


def _plan(p: Superposition) -> _Plan:
    size = _SIZES[p.size]
    high = p.density_high or (0.5 if p.data == "anticorrelated" else 1.0)
    return _Plan(
        features=p.features or size.features,
        hidden=p.hidden or size.hidden,
        densities=p.densities or size.densities,
        restarts=p.restarts or size.restarts,
        high=high,
        low=p.density_low or size.low,
        decay=p.importance_decay or size.decay,
        steps=p.steps or size.steps,
        batch=p.batch or size.batch,
        lr=p.lr or size.lr,
    )


METRICS = {
    "loss": Metric(
        "Training loss", "", "Mean of Iᵢ(xᵢ − x′ᵢ)² over batch, features and all models, controls included", "log"
    ),
    "relu_loss": Metric(
        "ReLU", "", "Test loss, mean over densities; of each the best restart", "log", "Test loss"
    ),
    "linear_loss": Metric("Linear (control)", "", "Test loss of the linear models, mean over densities", "log", "Test loss"),
    "stored": Metric(
        "ReLU", "features", "Features with |Wᵢ| > 0.5, mean over densities; of each the best restart", group="Features stored"
    ),
    "linear_stored": Metric(
        "Linear (control)", "features", "Features with |Wᵢ| > 0.5 of the linear models, mean over densities",
        group="Features stored",
    ),
}  # fmt: skip


@experiment(
    "superposition",
    title="Toy models of superposition",
    area="Toy models",
    cites="Elhage et al. 2022, Toy Models of Superposition",
    resumable=True,
    estimate=ESTIMATE,
    metrics=METRICS,
)
def superposition(p: Superposition, run: Run) -> None:
    """When a bottleneck stores more features than it has dimensions, and in which shapes.

    n features, each active with probability p = 1 − S and then uniform between 0 and 1, go through m < n hidden
    dimensions: h = W x, x′ = ReLU(Wᵀ h + b). Column i of W is the direction of feature i. The loss is the squared
    error, feature i weighted by decay^i. All models are trained at once, each on its own data: several restarts at
    each density, and at each density a **control**, the same model without the ReLU. That one can do no better than
    PCA: it stores the m most important features, each with a dimension to itself, however sparse they are.

    **How to read it.** *Directions* draws the columns of W as arrows, a panel for each density (or for each start, with
    one density). *Dimensionality* has a dot for each feature: Dᵢ is the share of a dimension that it gets. Dots lie on
    **1** for a feature alone, **3/4** in a tetrahedron, **2/3** in a triangle, **1/2** in an antipodal pair, **2/5** in
    a pentagon, **3/8** in a square antiprism, 0 where it is not stored. Dimensions per feature D* = m / |W|² stays on
    a plateau while such a shape lasts. *Norms* and *superposition* say which features are stored and with how much
    overlap, *overlaps* is WᵀW with the biases of the kept model, *models* lists every model with the shapes found in it
    and the controls. The timeline shows how the shapes form: scrub it.

    **What to expect.** At the demo's size (n = 5, m = 2, weights 0.9^i, p from 1 to 0.05) p = 1 and 0.65 store 2 features, as
    PCA does; p = 0.42 to 0.18 store 4 as two antipodal pairs, D = 0.500; p = 0.12 to 0.05 store all 5 as a pentagon with
    D = 0.400, norms 1.08 to 1.13. The test loss at p = 0.05 is 0.0013 with ReLU and 0.0073 without. With equal weights
    and 16 starts at p = 0.05 (`densities=1`, `restarts=16`, `importance_decay=1`), 48 of 48 starts over three seeds
    became pentagons, the angles between neighbours within 0.2° of 72°, mean norm 1.134, mean bias −0.246.

    **Traps.** Some restarts end in worse shapes (one pair and a feature alone, at p = 0.28 and 0.18): panels show the
    one with the lowest test loss at that step, so an arrow may jump where another takes the lead, and *models*
    lists all of them. Between two shapes a feature may have a small norm without being stored. Norms are above 1 because
    the negative bias has to be paid back. With equal weights the linear control has no top features: any m-dimensional subspace
    is as good, so its directions and D mean nothing. The paper's size
    (n = 400, m = 30) takes long; its estimate comes first.

    The kept model (`toy:RUN`) is the best restart at the smallest density, where most is superposed; what a
    dictionary should find at `blocks.0.hook_hidden` are the columns of its W whose norm is above 0.5.
    """
    from engine.toys.training import log_steps, train

    plan = _plan(p)
    run.stage("Preparing the models")
    view = _View(p, plan, run)
    _record(plan, run)
    train(run, view.trainer, plan.steps, measure=view.measure, at=log_steps(plan.steps, FRAMES[p.size]), lr=plan.lr)
    view.finish()


def _trainer(p: Superposition, plan: _Plan) -> EnsembleTrainer:
    import torch

    from engine.toys.ensembles import Ensemble, EnsembleTrainer, Streams, require_ensemble, xavier
    from engine.toys.tms.data import Features
    from engine.toys.training import generator

    density = torch.from_numpy(plan.of_model)
    count = len(density)
    require_ensemble(count, plan.hidden, plan.features, max(plan.batch, plan.samples))
    weights = xavier(count, plan.hidden, plan.features, generator(p.seed, 0))
    importance = (plan.decay ** torch.arange(plan.features)).expand(count, plan.features)
    streams = Streams(p.seed, 1, count, plan.features * plan.batch)
    return EnsembleTrainer(
        Ensemble(weights, importance, linear=plan.densities),
        Features(density, plan.features, plan.batch, streams, p.data),
        lr=plan.lr,
        steps=plan.steps,
    )


def _record(plan: _Plan, run: Run) -> None:
    run.fact("models", len(plan.of_model))
    run.fact("features", plan.features)
    run.fact("hidden", plan.hidden)
    run.fact("densities", plan.density.tolist())


class _View:
    """What is measured and shown of the models while they are trained."""

    def __init__(self, p: Superposition, plan: _Plan, run: Run) -> None:
        import torch

        from engine.toys.tms.data import sparse
        from engine.toys.training import generator

        self.p, self.plan, self.run, self.trainer = p, plan, run, _trainer(p, plan)
        density, samples = torch.from_numpy(plan.of_model), plan.samples
        # The same uniform numbers for all models: restarts are compared on equal data.
        uniform = torch.rand(1, plan.features, samples, generator=generator(p.seed, 2))
        self._test = sparse(uniform.expand(len(density), -1, -1), density, p.data)

    def measure(self, step: int) -> None:
        """Log the metrics and show the frames of ``step``."""
        from engine.toys.tms import figures
        from engine.toys.tms.measures import measure

        losses = self.trainer.ensemble.losses(self._test).double().numpy()
        shown, _ = self._shown(losses)
        relus = self.plan.relus
        best = self._best(losses)
        self.run.log(
            step,
            relu_loss=losses[best].mean(),
            linear_loss=losses[relus:].mean(),
            stored=measure(self._weights()[0][best]).represented.sum(axis=1).mean(),
            linear_stored=measure(shown.linear).represented.sum(axis=1).mean(),
        )
        if self.plan.hidden == 2 and self.plan.features <= CURVES:
            self.run.show("directions", figures.directions(shown), step=step)
        if self.plan.hidden == 3:
            self.run.show("directions", figures.space(shown), step=step)
        self.run.show("dimensionality", figures.dimensionality(shown), step=step)
        if self.plan.features <= MAP:
            self.run.show("overlaps", figures.overlaps(shown), step=step)
        self.run.show("norms", figures.norms(shown, superposed=False), step=step)
        self.run.show("superposition", figures.norms(shown, superposed=True), step=step)

    def _weights(self) -> tuple[Array, Array]:
        """W (models, hidden, features) and b (models, features), float64."""
        ensemble = self.trainer.ensemble
        return ensemble.weights.double().numpy(), ensemble.bias.double().numpy()

    def _best(self, losses: Array) -> Array:
        """The number of the restart with the lowest loss at each density."""
        plan = self.plan
        grid = losses[: plan.relus].reshape(plan.densities, plan.restarts)
        found: Array = np.arange(plan.densities) * plan.restarts + grid.argmin(axis=1)
        return found

    def _shown(self, losses: Array) -> tuple[Shown, Array]:
        """What is drawn, and the number of the ReLU model of each panel."""
        from engine.toys.tms.figures import Shown

        plan = self.plan
        weights, bias = self._weights()
        if plan.densities > 1:
            best = self._best(losses)
            names = tuple(f"p = {p:.2g}" for p in plan.density)
            linear, kept, called = weights[plan.relus :], plan.densities - 1, names[-1]
        else:  # every restart is a panel
            best = np.arange(plan.restarts)
            names = tuple(f"start {number}" for number in range(plan.restarts))
            linear, kept = np.repeat(weights[plan.relus :], plan.restarts, axis=0), int(self._best(losses)[0])
            called = f"p = {plan.low:.2g}, the start with the lowest loss"
        density = plan.of_model[best]
        return Shown(names, density, weights[best], linear, bias[best], kept, called), best

    def finish(self) -> None:
        """The table, what is kept, and the model."""
        from engine.toys.tms import figures
        from engine.toys.tms.measures import described

        plan, run = self.plan, self.run
        weights, bias = self._weights()
        losses = self.trainer.ensemble.losses(self._test).double().numpy()
        shown, best = self._shown(losses)
        numbers = np.arange(len(weights))
        linear = numbers >= plan.relus
        restart = np.where(linear, 0, numbers % plan.restarts)
        run.show(
            "models",
            figures.table(weights, bias, linear, linear | np.isin(numbers, best), plan.of_model, restart, losses),
        )
        run.keep("weights", weights.astype(np.float32), axes="models, hidden, features")
        run.keep("biases", bias.astype(np.float32), axes="models, features")
        geometry = [described(one) for one in weights[: plan.relus]]
        run.fact("geometries", {name: geometry.count(name) for name in sorted(set(geometry))})
        self._keep(int(best[shown.kept]), shown.kept_name)

    def _keep(self, number: int, name: str) -> None:
        """Keep one model: the sparsest density's best restart, in which most is superposed."""
        import torch

        from engine.toys.tms.autoencoders import SAMPLES, keep_autoencoder
        from engine.toys.tms.data import sparse
        from engine.toys.training import generator

        plan, ensemble = self.plan, self.trainer.ensemble
        uniform = torch.rand(1, plan.features, SAMPLES, generator=generator(self.p.seed, 3))
        inputs = sparse(uniform, torch.from_numpy(plan.of_model[[number]]), self.p.data)[0].T.numpy()
        keep_autoencoder(
            self.run,
            ensemble.weights[number].numpy().copy(),
            ensemble.bias[number].numpy().copy(),
            inputs,
            [f"x{feature}" for feature in range(plan.features)],
            title=f"Superposition of {plan.features} features in {plan.hidden} dimensions, {name}",
        )


@cost("superposition")
def _cost(p: Superposition) -> Cost:
    from engine.models.memory import available
    from engine.toys.ensembles import ensemble_bytes

    plan = _plan(p)
    count = len(plan.of_model)
    wanted = ensemble_bytes(count, plan.hidden, plan.features, max(plan.batch, plan.samples))
    if wanted > available():
        return Cost(0.0, wanted)
    note = f"It trains {count:,} models at once, {plan.densities} of them linear controls."
    return Cost(timed(_trainer(p, plan).train_step, plan.steps), wanted, note)
