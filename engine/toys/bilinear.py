"""The experiment `bilinear-layers`: a layer whose weights can be read as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import Batch, LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.quadratic import worlds
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.models.network import Network
    from engine.runs.run import Run
    from engine.text.toys import ToyData
    from engine.toys.quadratic.training import BilinearTrainer, Plan

TABLE = 2_048  # held-out samples that are kept as the toy's data
CONTEXT = 64  # of them in one sequence
OUTPUTS = {"boolean": 12, "planted": len(worlds.COSINES), "images": len(worlds.CLASSES)}

# By world and size: samples, embedding, hidden width, steps, batch.
_SIZES = {
    ("boolean", "quick"): (16, 0, 12, 1_000, 16),
    ("boolean", "demo"): (16, 0, 12, 1_500, 16),
    ("boolean", "paper"): (16, 0, 12, 20_000, 16),
    ("planted", "quick"): (1_024, 0, 24, 400, 256),
    ("planted", "demo"): (4_096, 0, 24, 1_500, 512),
    ("planted", "paper"): (65_536, 0, 64, 20_000, 2_048),
    ("images", "quick"): (1_024, 32, 64, 300, 256),
    ("images", "demo"): (4_096, 32, 64, 2_500, 256),
    ("images", "paper"): (65_536, 256, 256, 20_000, 2_048),
}
# By world: learning rate, weight decay, noise.
_TRAINING = {"boolean": (1e-2, 1e-4, 0.0), "planted": (1e-2, 1e-4, 0.0), "images": (1e-3, 0.5, 0.3)}


class BilinearLayers(Parameters):
    """Parameters of `bilinear-layers`; those left empty come from ``size`` and ``task``."""

    size: Size = "demo"
    task: worlds.World = Field(
        "boolean",
        description="boolean: AND and XOR of four bits; planted: products of two directions; images: six shapes of 8 × 8",
    )
    output: int = Field(0, ge=0, le=11, description="Number of the output that the figures of one output show")
    hidden: int | None = Field(None, ge=1, le=4_096, description="Products in the layer; empty: by task and size")
    embed: int | None = Field(
        None, ge=0, le=4_096, description="Width of a linear embedding before it, 0 for none; empty: by task and size"
    )
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by task and size")
    batch: Batch | None = Field(None, description="Samples per optimiser step; empty: by task and size")
    lr: LearningRate | None = Field(None, description="Learning rate of the optimiser; empty: by task")
    weight_decay: float | None = Field(None, ge=0, le=10, description="Of AdamW; empty: by task (.5 for images)")
    noise: float | None = Field(
        None, ge=0, le=10, description="Standard deviation of the noise on inputs in training; empty: by task"
    )
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _the_output_is_there(self) -> BilinearLayers:
        if self.output >= OUTPUTS[self.task]:
            raise ValueError(
                f"output={self.output} is not there: task {self.task} has outputs 0 to {OUTPUTS[self.task] - 1}"
            )
        return self


def _plan(p: BilinearLayers) -> tuple[int, Plan]:
    """Training samples, and how the layer is trained on them."""
    from engine.toys.quadratic.training import Plan

    count, embed, hidden, steps, batch = _SIZES[p.task, p.size]
    lr, decay, noise = _TRAINING[p.task]
    return count, Plan(
        embed=embed if p.embed is None else p.embed,
        hidden=p.hidden or hidden,
        steps=p.steps or steps,
        batch=p.batch or batch,
        lr=p.lr or lr,
        weight_decay=decay if p.weight_decay is None else p.weight_decay,
        noise=noise if p.noise is None else p.noise,
        seed=p.seed,
    )


@experiment(
    "bilinear-layers",
    title="Bilinear layers",
    area="Toy models",
    cites="Sharkey 2023, A technical note on bilinear layers for interpretability; Pearce, Dooms, Rigg, Oramas & Sharkey "
    "2024, Bilinear MLPs enable weight-based mechanistic interpretability",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric(
            "Training loss", "", "Squared error, or cross-entropy in nats, on a batch before the step", "log", "Loss"
        ),
        "score": Metric(
            "Held-out score", "share",
            "Held-out pictures named right (images), or variance of the targets explained", group="Score",
        ),
        "score_shuffled": Metric(
            "… trained on shuffled targets", "share",
            "Control: the same score of the layer trained on targets shuffled among the samples", group="Score",
        ),
        "exactness": Metric(
            "Closed form against network", "",
            "Largest difference between the network's output and xᵀQx over held-out samples and both layers", "log",
        ),
        "rank": Metric(
            "Effective rank", "eigenvectors", "(Σ|λ|)² / Σλ² of each output's matrix, mean over outputs", group="Rank"
        ),
        "rank_shuffled": Metric(
            "… trained on shuffled targets", "eigenvectors", "Control: the same of the layer on shuffled targets", group="Rank"
        ),
        "error": Metric(
            "Error of the coefficients", "",
            "Largest difference of any monomial's coefficient, in any output, from the known answer", "log",
        ),
    },
)  # fmt: skip
def bilinear_layers(p: BilinearLayers, run: Run) -> None:
    """Read a layer from its weights: what a bilinear layer computes has a closed form.

    The layer is `P((Lx) * (Rx))`, a product in place of an activation function. Each output is then exactly `xᵀQx`
    with a symmetric matrix Q made of the weights alone, and an **eigenvector** v of Q with eigenvalue λ adds
    `λ (v.x)²` to it: positive ones speak for the output, negative ones against it. No data are needed to know this.

    **Three tasks with known answers.** *boolean*: AND and XOR of all pairs of four bits and a constant 1. *planted*:
    products (u.x)(v.x) of planted directions, whose eigenvalues are (u.v ± 1)/2. *images*: bars, pluses, diagonals and
    crosses of 8 × 8 pixels, shifted, in noise, with an embedding before the layer.

    **How to read it.** Move the timeline: *eigenvalues* and *interactions* of the chosen output become those of theory.
    *Spectrum* compares them with two controls that are always trained or drawn beside it: the same layer on
    **shuffled targets**, and **untrained**. *Truncation* keeps only the largest eigenvectors of each output. *Tensor*
    takes all outputs together. *Cells* lists the largest interactions by name.

    **What to expect** at size demo, over four seeds. boolean: AND(0,1) has one cell, 1.00, and eigenvalues .50 and -.50;
    XOR has -2 for the product and 1 for each bit, and one eigenvalue, 2; no coefficient is off by more than .02.
    planted: .5 and -.5, .8 and -.2, -.8 and .2, off by .001. images: 99 % right; 5 eigenvectors per class keep 95 %,
    6 keep 98 %; the effective rank is 8.5 (untrained and shuffled 16, and right at chance); the first eigenvectors look
    like the shapes at two of their places. Closed form and network differ by rounding, below 1e-5.

    **Traps.** A bit is its own square, so a cell on the diagonal and the constant's cell can trade off: only
    Q_ii + 2 Q_i1 is determined. The figures of *boolean* show those effective numbers; raw eigenvalues, in the table
    *outputs*, differ from seed to seed. Signs of eigenvectors mean nothing. Gated layers such as SwiGLU are not bilinear,
    and a normalisation before the layer breaks exactness.
    """

    from engine.toys.keeping import keep_toy
    from engine.toys.quadratic import figures
    from engine.toys.quadratic.layer import effective_rank
    from engine.toys.quadratic.survey import Survey
    from engine.toys.quadratic.training import BilinearTrainer
    from engine.toys.training import log_steps, train

    run.stage("Drawing samples")
    count, plan = _plan(p)
    _require(count, plan)
    samples = worlds.samples(p.task, count, p.seed)
    trainer = BilinearTrainer(samples, plan)
    survey = Survey(p.task, trainer)
    survey.keep_untrained(trainer.matrices(0))
    run.keep("shuffled", samples.shuffled, what="for each sample, the one whose target the control gets")
    run.fact("parameters", sum(weight[0].numel() for weight in trainer.weights.values()))

    def measure(step: int) -> None:
        layers = survey.layers()
        ranks = [float(effective_rank(layer.spectrum.values).mean()) for layer in layers]
        rows: dict[str, float] = {
            "score": layers[0].score, "score_shuffled": layers[1].score, "exactness": survey.exactness(),
            "rank": ranks[0], "rank_shuffled": ranks[1],
        }  # fmt: skip
        if samples.theory is not None:
            rows["error"] = survey.error(layers[0])
        run.log(step, **rows)
        for name, figure in figures.frames(survey, layers, p.output).items():
            run.show(name, figure, step=step)

    train(run, trainer, plan.steps, measure=measure, at=log_steps(plan.steps, FRAMES[p.size]), lr=plan.lr)
    layers = survey.layers()
    run.show("cells", figures.cells(survey, layers, p.output))
    run.show("outputs", figures.outputs(survey, layers))
    run.keep("interactions", layers[0].raw, what="Q of each output (outputs, inputs, inputs), as the weights give it")
    run.fact("exactness", survey.exactness())
    network, data = _kept(trainer)
    known = samples.feature_names[: len(samples.directions)]
    keep_toy(
        run, network, data, title=f"Bilinear layer, {p.task}",
        planted={"embed.hook_out": (known, samples.directions)}, score=layers[0].score,
    )  # fmt: skip


def _kept(trainer: BilinearTrainer) -> tuple[Network, ToyData]:
    """The layer as a network over held-out samples, and those samples with what was planted in them."""
    from engine.models.network import Network, Stage
    from engine.text.toys import ToyData

    samples = trainer.samples
    weights = trainer.arrays(0)
    stages = [
        Stage(name="products", weight="left", times="right", layer=0),
        Stage(name="out", weight="out", layer=0),
    ]
    if "embed" in weights:
        stages.insert(0, Stage(name="embedded", weight="embed", layer=0))
    x = samples.held_x[:TABLE]
    if len(x) >= CONTEXT:
        tokens = np.arange(len(x) // CONTEXT * CONTEXT)
    else:  # all there is, often enough for statistics
        tokens = np.random.default_rng([trainer.plan.seed, worlds.DATA]).integers(len(x), size=TABLE)
    rows = tokens.reshape(-1, CONTEXT)
    data = ToyData(rows, features=samples.features[rows], names=samples.feature_names)
    return Network(stages, weights, x, samples.inputs), data


def _bytes(count: int, plan: Plan) -> int:
    inputs = worlds.SIDE**2
    weights = 2 * (inputs * plan.embed + 2 * (plan.embed or inputs) * plan.hidden + plan.hidden * 12) * 4 * 4
    return weights + 2 * count * inputs * 40 + 2 * plan.batch * (inputs + plan.embed + 3 * plan.hidden) * 12


def _require(count: int, plan: Plan) -> None:
    from engine.models import memory

    memory.require(_bytes(count, plan), "cpu", what="This bilinear layer", way_out="choose a smaller size or batch")


@cost("bilinear-layers")
def _cost(p: BilinearLayers) -> Cost:
    from engine.models.memory import available
    from engine.toys.quadratic.training import BilinearTrainer

    count, plan = _plan(p)
    if _bytes(count, plan) > available():
        return Cost(0.0, _bytes(count, plan))
    trainer = BilinearTrainer(worlds.samples(p.task, min(count, 4_096), p.seed), plan)
    return Cost(timed(trainer.train_step, plan.steps), _bytes(count, plan))
