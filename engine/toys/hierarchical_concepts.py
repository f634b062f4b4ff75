"""The experiment `hierarchical-concepts`: do concepts that contain each other lie at right angles, and is it a finding?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import Batch, LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import NAME as ESTIMATE
from engine.toys.costs import Cost, cost, timed
from engine.toys.hierarchies.trees import Kind, hierarchy
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.ensembles import EnsembleTrainer

Array: TypeAlias = npt.NDArray[Any]
TEST = 2_048  # samples of the test loss


@dataclass(frozen=True)
class _Size:
    trees: int
    active: float
    hidden: int
    widths: int
    restarts: int
    steps: int
    batch: int
    lr: float


_SIZES = {
    "quick": _Size(1, 1.0, 6, 3, 2, 400, 128, 2e-2),
    "demo": _Size(1, 1.0, 6, 9, 4, 2_000, 256, 1e-2),
    "paper": _Size(4, 0.1, 12, 16, 5, 10_000, 512, 5e-3),
}


class HierarchicalConcepts(Parameters):
    """Parameters of `hierarchical-concepts`; those left empty come from ``size``."""

    size: Size = "demo"
    tree: Kind = Field(
        "binary", description="The hierarchy: binary, ternary, uneven, or a partial order with two parents"
    )
    trees: int | None = Field(None, ge=1, le=64, description="Independent copies of the hierarchy; empty: by size")
    active: float | None = Field(
        None, ge=1e-4, le=1, description="Probability that a hierarchy has a leaf on in a sample; empty: by size"
    )
    hidden: int | None = Field(
        None, ge=2, le=1_000, description="Hidden dimensions m of the models that are shown and kept; empty: by size"
    )
    widths: int | None = Field(None, ge=1, le=64, description="Hidden widths that are compared; empty: by size")
    restarts: int | None = Field(None, ge=1, le=200, description="Models of each kind and width; empty: by size")
    importance_decay: float = Field(1.0, ge=0.1, le=1.0, description="A node at depth d weighs decay^d in the loss")
    rate_decay: float = Field(1.0, ge=0.1, le=1.0, description="Leaf i is drawn in proportion to decay^i")
    continuous: bool = Field(False, description="Leaves have values of their own, U(0, 1) times the amplitude")
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    batch: Batch | None = Field(None, description="Samples per optimiser step and model; empty: by size")
    lr: LearningRate | None = Field(None, description="Learning rate, which falls to 0 as a cosine; empty: by size")
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _fit_each_other(self) -> HierarchicalConcepts:
        plan = _Plan(self)
        if plan.hidden > plan.features:
            raise ValueError(
                f"hidden={plan.hidden} is more than the {plan.features} features; there nothing is tested, choose fewer"
            )
        return self


class _Plan:
    """The models: for each width first those of the hierarchy, then those of independent features."""

    def __init__(self, p: HierarchicalConcepts) -> None:
        size = _SIZES[p.size]
        self.p, self.tree = p, hierarchy(p.tree)
        self.trees, self.active = p.trees or size.trees, p.active or size.active
        self.hidden, self.restarts = p.hidden or size.hidden, p.restarts or size.restarts
        self.steps, self.batch, self.lr = p.steps or size.steps, p.batch or size.batch, p.lr or size.lr
        self.features = self.trees * len(self.tree.names)
        count = p.widths or size.widths
        spaced = np.geomspace(2, self.features, count).round() if count > 1 else np.empty(0)
        self.widths = sorted({*(int(width) for width in spaced), self.hidden})
        self.place = self.widths.index(self.hidden)
        self.shape = (len(self.widths), 2, self.restarts)

    @property
    def names(self) -> list[str]:
        """Of the features."""
        if self.trees == 1:
            return list(self.tree.names)
        return [f"{number + 1}.{name}" for number in range(self.trees) for name in self.tree.names]


METRICS = {
    "loss": Metric(
        "Training loss", "", "Mean of Iᵢ(xᵢ − x′ᵢ)² over batch, features and all models, controls included", "log"
    )
} | {
    f"{key}_{name}": Metric(label, "", f"{what}, mean over pairs and models at the shown width m", group=group)
    for key, group, what in (
        ("p1", "P1: parent and offset", "|cos(parent, child − parent)|"),
        ("offsets", "P1: offsets of two generations", "|cos(child − parent, grandchild − its sibling)|"),
    )
    for name, label in (
        ("tree", "Tree"),
        ("independent", "Independent features (control)"),
        ("random", "Random directions (control)"),
        ("relabelled", "Relabelled tree (control)"),
    )
}


@experiment(
    "hierarchical-concepts",
    title="Hierarchical concepts",
    area="Toy models",
    cites="Park, Choe, Jiang & Veitch 2024, The Geometry of Categorical and Hierarchical Concepts in LLMs",
    resumable=True,
    estimate=ESTIMATE,
    metrics=METRICS,
)
def hierarchical_concepts(p: HierarchicalConcepts, run: Run) -> None:
    """Do concepts that contain each other lie at right angles, and does that say anything?

    Each sample draws a leaf of a tree (animal, mammal, dog) and puts on all nodes above it, with a common
    amplitude. A toy of *superposition* has to carry these features through m hidden dimensions. The vector of a
    node is the mean hidden activation over the leaves below it. Park et al. find in language models that **P1** a
    child's offset from its parent is orthogonal to the parent, and to the offsets of the next generation, and
    **P2** the offsets of n siblings are the corners of a regular simplex in n − 1 dimensions.

    **How to read it.** *Tests* sets the tree beside three **controls**: models trained on *independent features*
    with the same marginals, *random directions*, and the *relabelled tree*, the same vectors with leaves put
    under other parents. 0 is orthogonal. *Sweep* has the same for all widths m, *sweep-offsets* the second form
    of P1. *Cosines* shows all nodes in the order of the tree: blocks within blocks. *Nodes* turns them in space,
    *hierarchy* draws where P1 is broken, *results* has every number, with its spread over models.

    **What to expect** (binary tree of depth 3, 14 features, 4 models each): at m = 6 the first form of P1 is
    0.019 ± 0.026 for the tree, 0.25 ± 0.11 for independent features, 0.29 for random directions, 0.12 for the
    relabelled tree. From m = 3 on the tree loses almost nothing: each of its three levels has a dimension at
    right angles to the others. With four trees in 12 dimensions (`trees=4`, `active=0.1`, `hidden=12`) it is
    0.014 against 0.21. P2 needs three siblings: with the ternary tree at m = 5 the cosines deviate by 0.06 from
    those of a simplex, by 0.19 for independent features and 0.31 for random directions.

    **The critique.** With as many dimensions as features (m = 14) independent features pass as well, 0.0015
    against 0.007: every feature has a dimension to itself, so P1 tests nothing there. Some cosines are zero by
    algebra whatever the model does, because a parent is the mean of its children; the relabelled tree shows how
    much of the result that is.

    **Traps.** Two siblings are always opposite, which is why a binary tree has no P2. In the *uneven* tree the
    means over leaves weigh branches by their leaves: even features that are all orthogonal give 0.19, so compare
    with the controls only. In a *partial order* a node has two parents, so that its offset from the one points
    along the other. A single bad restart (a loss far above the others') may break P1 by itself: look at the
    spread.

    The kept model (`toy:RUN`) is that of the tree with the lowest test loss at the shown width.
    """
    from engine.toys.training import log_steps, train

    plan = _Plan(p)
    run.stage("Preparing the models")
    view = _View(plan, run)
    run.fact("models", int(np.prod(plan.shape)))
    run.fact("features", plan.features)
    run.fact("widths", plan.widths)
    train(run, view.trainer, plan.steps, measure=view.measure, at=log_steps(plan.steps, FRAMES[p.size]), lr=plan.lr)
    view.finish()


def _source(plan: _Plan, stream: int, batch: int) -> Any:
    import torch

    from engine.toys.ensembles import Streams
    from engine.toys.hierarchies.data import Concepts

    hierarchical = torch.zeros(plan.shape, dtype=torch.bool)
    hierarchical[:, 0] = True
    numbers = Concepts.numbers(plan.tree, plan.trees, batch)
    return Concepts(
        plan.tree,
        plan.trees,
        batch,
        hierarchical.flatten(),
        Streams(plan.p.seed, stream, hierarchical.numel(), numbers),
        active=plan.active,
        rates=plan.p.rate_decay ** torch.arange(len(plan.tree.table)),
        continuous=plan.p.continuous,
    )


def _trainer(plan: _Plan) -> EnsembleTrainer:
    import torch

    from engine.toys.ensembles import Ensemble, EnsembleTrainer, require_ensemble, xavier
    from engine.toys.training import generator

    count, most = int(np.prod(plan.shape)), max(plan.widths)
    require_ensemble(count, most, plan.features, max(plan.batch, TEST))
    start = generator(plan.p.seed, 0)
    weights = torch.zeros(*plan.shape, most, plan.features)
    for place, width in enumerate(plan.widths):  # rows of zeros stay so: one ensemble holds all widths
        found = xavier(2 * plan.restarts, width, plan.features, start)
        weights[place, :, :, :width] = found.view(2, plan.restarts, width, plan.features)
    depth = torch.from_numpy(plan.tree.depth).repeat(plan.trees)
    importance = (plan.p.importance_decay**depth).expand(count, plan.features)
    ensemble = Ensemble(weights.view(count, most, plan.features), importance)
    return EnsembleTrainer(ensemble, _source(plan, 1, plan.batch), lr=plan.lr, steps=plan.steps)


class _View:
    """What is measured and shown of the models while they are trained."""

    def __init__(self, plan: _Plan, run: Run) -> None:
        from engine.toys.hierarchies.survey import Surveyor

        self.plan, self.run, self.trainer = plan, run, _trainer(plan)
        self._test = _source(plan, 2, TEST).draw()
        self._surveyor = Surveyor(plan.tree, plan.trees, plan.widths, plan.p.seed)

    def _state(self) -> tuple[Array, Array, list[Array]]:
        """W (widths, 2, restarts, hidden, features), test losses (widths, 2, restarts), leaf vectors of the best."""
        plan, ensemble = self.plan, self.trainer.ensemble
        weights = ensemble.weights.double().numpy()
        weights = weights.reshape(*plan.shape, *weights.shape[1:])
        losses = ensemble.losses(self._test).double().numpy().reshape(plan.shape)
        best = losses[plan.place].argmin(axis=1)
        chosen = weights[plan.place, np.arange(2), best][:, : plan.hidden]
        return weights, losses, self._surveyor.conditions(chosen, plan.place)

    def measure(self, step: int) -> None:
        """Log the metrics and show the frames of ``step``."""
        from engine.toys.hierarchies import figures

        plan, run = self.plan, self.run
        weights, _, leaves = self._state()
        survey = self._surveyor.survey(weights)
        names = ("tree", "independent", "random", "relabelled")
        tested = survey.mean[plan.place]
        run.log(step, **{f"p1_{name}": tested[number, 0] for number, name in enumerate(names)})
        if np.isfinite(tested[:, 1]).all():
            run.log(step, **{f"offsets_{name}": tested[number, 1] for number, name in enumerate(names)})
        run.show("tests", figures.tests(survey, plan.place, plan.hidden), step=step)
        run.show("cosines", figures.cosines(plan.tree, leaves, plan.hidden), step=step)
        if len(plan.widths) > 1:
            run.show("sweep", figures.sweep(survey, plan.widths, plan.features, 0), step=step)
            if np.isfinite(tested[:, 1]).all():
                run.show("sweep-offsets", figures.sweep(survey, plan.widths, plan.features, 1), step=step)

    def finish(self) -> None:
        """The table, the nodes in space, and the model that is kept."""
        from engine.toys.hierarchies import figures

        plan, run = self.plan, self.run
        weights, losses, leaves = self._state()
        run.show("results", figures.table(self._surveyor.survey(weights), plan.widths, losses))
        run.show("nodes", figures.space(plan.tree, leaves, plan.hidden))
        run.show("hierarchy", figures.graph(plan.tree, leaves[0], plan.hidden))
        run.keep("weights", weights.astype(np.float32), axes="widths, (tree, independent), restarts, hidden, features")
        run.keep("widths", np.array(plan.widths), axes="widths")
        self._keep(int(losses[plan.place, 0].argmin()))

    def _keep(self, best: int) -> None:
        """Keep the model of the hierarchy with the lowest test loss at the shown width."""
        from engine.toys.tms.autoencoders import SAMPLES, keep_autoencoder

        plan, ensemble = self.plan, self.trainer.ensemble
        number = int(np.ravel_multi_index((plan.place, 0, best), plan.shape))
        inputs = _source(plan, 3, SAMPLES).draw()[number].T.numpy()
        keep_autoencoder(
            self.run,
            ensemble.weights[number, : plan.hidden].numpy().copy(),
            ensemble.bias[number].numpy().copy(),
            inputs,
            plan.names,
            title=f"Hierarchy ({plan.p.tree}) of {plan.features} concepts in {plan.hidden} dimensions",
        )


@cost("hierarchical-concepts")
def _cost(p: HierarchicalConcepts) -> Cost:
    from engine.models.memory import available
    from engine.toys.ensembles import ensemble_bytes

    plan = _Plan(p)
    count = int(np.prod(plan.shape))
    wanted = ensemble_bytes(count, max(plan.widths), plan.features, max(plan.batch, TEST))
    if wanted > available():
        return Cost(0.0, wanted)
    note = f"It trains {count:,} models at once, half of them on independent features."
    return Cost(timed(_trainer(plan).train_step, plan.steps), wanted, note)
