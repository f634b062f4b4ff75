"""The experiment `modular-addition`: a transformer that memorises a table, then finds the rule behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.modular.training import ModularTrainer, Plan, Setting


@dataclass(frozen=True)
class ModularSize:
    """A preset of modular addition."""

    p: int
    share: float
    d_model: int
    heads: int
    d_mlp: int
    lr: float
    steps: int


# Demo has a visible plateau and groks in seconds; paper is the shape of Nanda et al. 2023.
SIZES = {
    "quick": ModularSize(23, 0.7, 32, 4, 96, 3e-3, 200),
    "demo": ModularSize(53, 0.45, 48, 4, 192, 3e-3, 2_500),
    "paper": ModularSize(113, 0.3, 128, 4, 512, 1e-3, 40_000),
}
CHECK = 25  # steps between checks of the accuracy, at least
CHECKS = 4_000  # at most

Modulus: TypeAlias = Annotated[int, Field(ge=5, le=251, description="Modulus: numbers are 0 … p − 1; empty: by size")]
WeightDecay: TypeAlias = Annotated[float, Field(ge=0, le=100, description="Weight decay of AdamW")]
GrokfastAlpha: TypeAlias = Annotated[float, Field(ge=0, lt=1, description="Memory of Grokfast's running mean")]


def check_every(steps: int) -> int:
    """Steps between checks: `CHECK`, more in a training so long that there would be over `CHECKS` of them."""
    return max(CHECK, -(-steps // CHECKS))


class ModularNetwork(Parameters):
    """What the experiments on modular addition share; parameters left empty come from ``size``."""

    size: Size = "demo"
    p: Modulus | None = Field(None, description="Modulus: numbers are 0 … p − 1; empty: by size")
    train_share: float | None = Field(None, gt=0, le=1, description="Share of the p² pairs to train on; empty: by size")
    d_model: int | None = Field(None, ge=2, le=1024, description="Width of the residual stream; empty: by size")
    heads: int | None = Field(None, ge=1, le=64, description="Attention heads; empty: by size")
    d_mlp: int | None = Field(None, ge=1, le=8192, description="Neurons; empty: by size")
    lr: LearningRate | None = Field(None, description="Learning rate of AdamW; empty: by size")
    weight_decay: WeightDecay = 1.0
    steps: Steps | None = Field(None, description="Optimiser steps, each on all training pairs; empty: by size")
    uniform_attention: float = Field(
        0.0, ge=0, le=1, description="Share of each head's attention that is fixed at ½, ½, 0; 1 makes a pizza likelier"
    )
    grokfast_alpha: GrokfastAlpha = 0.98
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _sizes_make_sense(self) -> ModularNetwork:
        size = self.preset
        width, heads = self.d_model or size.d_model, self.heads or size.heads
        if width % heads:
            raise ValueError(f"d_model={width} cannot be shared out among heads={heads}; choose a multiple")
        p, share = self.p or size.p, self.train_share or size.share
        if not 1 <= round(share * p * p) < p * p:
            raise ValueError(
                f"train_share={share:g} of {p * p:,} pairs leaves none to {'test on' if share > 0.5 else 'train on'}; "
                f"choose one in between, such as {size.share:g}"
            )
        return self

    @property
    def preset(self) -> ModularSize:
        """What the size says where a parameter is empty."""
        return SIZES[self.size]

    @property
    def training_steps(self) -> int:
        """Steps to train for."""
        return self.steps or self.preset.steps

    @property
    def training_pairs(self) -> int:
        """Pairs to train on."""
        size = self.preset
        return round((self.train_share or size.share) * (self.p or size.p) ** 2)

    def wrong_labels(self, share: float) -> int:
        """Training labels that ``share`` makes wrong."""
        return round(share * self.training_pairs)

    def plan(self) -> Plan:
        """Network, data and optimiser, with the blanks filled in."""
        from engine.toys.modular.network import Shape
        from engine.toys.modular.training import Plan

        size = self.preset
        return Plan(
            Shape(
                self.p or size.p,
                self.d_model or size.d_model,
                self.heads or size.heads,
                self.d_mlp or size.d_mlp,
                self.uniform_attention,
            ),
            share=self.train_share or size.share,
            lr=self.lr or size.lr,
            weight_decay=self.weight_decay,
            alpha=self.grokfast_alpha,
            check=check_every(self.training_steps),
        )


class ModularAddition(ModularNetwork):
    """Parameters of `modular-addition`; those left empty come from ``size``."""

    label_noise: float = Field(0.0, ge=0, le=1, description="Share of training labels that are replaced by wrong ones")
    grokfast: float = Field(0.0, ge=0, le=100, description="λ of Grokfast's gradient filter; 0: off")

    @model_validator(mode="after")
    def _noise_is_some(self) -> ModularAddition:
        if self.label_noise and self.wrong_labels(self.label_noise) < 1:
            raise ValueError(
                f"label_noise={self.label_noise:g} of {self.training_pairs:,} training labels makes none wrong; choose 0 "
                f"or at least {1 / self.training_pairs:.2g}"
            )
        return self


@experiment(
    "modular-addition",
    title="Modular addition and grokking",
    area="Toy models",
    cites="Nanda et al. 2023, Progress measures for grokking; Power et al. 2022, Grokking; Zhong et al. 2023, The Clock "
    "and the Pizza; Lee et al. 2024, Grokfast; Humayun et al. 2024, Deep networks always grok",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric(
            "Training loss", "nats", "Mean cross-entropy of the training pairs, before the step", "log", "Loss"
        ),
        "test_loss": Metric("Test loss", "nats", "Mean cross-entropy of all test pairs, in float64", "log", "Loss"),
        "train_accuracy": Metric(
            "Training accuracy", "share", "Training pairs answered as they are labelled", group="Accuracy"
        ),
        "test_accuracy": Metric("Test accuracy", "share", "Test pairs answered with their sum", group="Accuracy"),
        "weight_norm": Metric("Weight norm", "", "Sum of squares of all weights", "log"),
        "grokked_at": Metric(
            "Step of grokking", "step", "First check from which on test accuracy exceeds 99 % twice in a row"
        ),
    },
)
def modular_addition(p: ModularAddition, run: Run) -> None:
    """Train a one-layer transformer on a + b mod p, watch it grok, and take apart how it adds.

    It reads [a, b, "="] and is trained on a share of all pairs. Within some 125 steps it knows these by heart while
    test pairs stay wrong; long after, test accuracy jumps: it has **grokked**. At size demo (p = 53, 45 % of the
    pairs) seeds 0, 1 and 2 grokked at steps 1,175, 1,800 and 625; seed 3 had 98.6 % of the test pairs at the end, at
    step 2,500. Training goes on to the last step, since accuracy may dip again; the step of grokking is the first
    of two checks in a row above 99 %.

    **How to read it.** *Accuracy* and *Loss* have a logarithmic step axis; the distance between the two rises is the
    delay. *Spectrum* and *Spectrum over steps*: the embedding ends in a few **key frequencies**; a flat spectrum
    is what shuffled numbers give. *Circles*: in the plane of a key frequency the numbers lie on a circle. *Neurons*: most
    have one frequency. *Progress measures*: the restricted loss falls and the excluded loss rises while test
    accuracy is still low, so the circuit grows long before it shows (seed 0: .27 and 6.1 nats at step 649, test
    accuracy .52). *Phases* puts steps to that. *Parts*: what is lost when a head or the neurons of a frequency are set to
    zero, and whether others stand in (they do not: the neurons rely on every head). Drag the timeline: every
    checkpoint can be seen.

    **Controls.** Every table has the untrained network and the one that has memorised beside the last checkpoint, spectra
    have shuffled numbers, and robustness has random moves of the same length.

    **Clock or pizza.** A clock adds angles: distance irrelevance near 1 and low gradient symmetricity. A pizza averages
    the two embeddings: symmetricity 1 and stripes along a − b in *Sum and difference*. Learned attention gives clocks or
    mixtures (seed 0: symmetricity .32, distance irrelevance .88, a clock explains 96 % of the logits);
    uniform_attention = 1 makes symmetricity exactly 1, though distance irrelevance stays graded (.45 with 60 % of the pairs,
    where it groks at step 350; the published .17 is seldom reached). An untrained network is symmetric too: its
    attention is still uniform.

    **Robustness.** The embeddings of a pair are moved by a small attack. Grokking makes unseen pairs about as robust as
    seen ones (seed 0, radius .2: .83 and .90 survive, none of either before); it does not make the network robust: at
    half an embedding's norm the attack always wins, a random move hardly ever.

    **Traps.** Without weight decay, or with wrong labels, it learns by heart and stays there. One seed is one run: key
    frequencies differ between seeds. Losses below 1e-7 cannot be told from 0 in float32, and training on them
    makes the weights slip; they are computed in float64. Size paper is the published network, hours on a processor.

    The network joins the session as `toy:RUN` with exactly these logits (one more residual dimension marks "="), its
    data as the text `toy:RUN` with the sum as planted features. Its PCA spectrum at blocks.0.hook_resid_post has six large
    components: a cosine and a sine for each of seed 0's three key frequencies.
    """
    from engine.models import memory
    from engine.toys.modular.report import Report
    from engine.toys.modular.training import ModularTrainer, schedule
    from engine.toys.training import log_steps, train

    plan, steps = p.plan(), p.training_steps
    memory.require(
        memory_of(p), "cpu", what=f"Modular addition with p = {plan.shape.p}", way_out="choose a smaller p or size"
    )
    frames = log_steps(steps, FRAMES[p.size])
    trainer = ModularTrainer(plan, [_setting(p)], schedule(steps, plan.check, frames), frames)
    report = Report(trainer, p.seed, run)
    report.describe()
    train(run, trainer, steps, measure=report.measure, at=trainer.at, lr=plan.lr)
    report.finish()


def _setting(p: ModularAddition) -> Setting:
    from engine.toys.modular.training import Setting

    return Setting(p.seed, p.label_noise, p.grokfast)


def memory_of(p: ModularNetwork, instances: int = 1) -> int:
    """Bytes at the peak: neurons and logits of all pairs with their gradients, and the checkpoints' weights."""
    shape = p.plan().shape
    pairs = shape.p**2
    passes = pairs * (6 * shape.d_mlp + 12 * shape.p + 12 * shape.d_model * shape.heads) * 4 * instances
    return passes + FRAMES[p.size] * shape.parameters * 8 + 200_000_000


def seconds(p: ModularNetwork, trainer: ModularTrainer) -> float:
    """Seconds that training takes, measured on some steps of a trainer that is thrown away."""
    return timed(trainer.train_step, p.training_steps)


@cost("modular-addition")
def _cost(p: ModularAddition) -> Cost:
    from engine.models.memory import available
    from engine.toys.modular.training import ModularTrainer

    wanted = memory_of(p)
    if wanted > available():
        return Cost(0.0, wanted)
    trainer = ModularTrainer(p.plan(), [_setting(p)], [0])
    looking = 0.02 * FRAMES[p.size] * (trainer.plan.shape.p / 53) ** 3
    return Cost(1.1 * seconds(p, trainer) + looking + 3, wanted, "Whether it groks by then is not certain.")
