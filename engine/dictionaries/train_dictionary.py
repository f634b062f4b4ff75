"""The experiment ``train-dictionary``: a sparse autoencoder on a model's activations, live and resumable."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from engine.runs import Metric, Parameters, Run, experiment
from engine.runs.parameters import (
    Batch,
    Context,
    CorpusRef,
    Device,
    Dtype,
    HookName,
    IncludeSpecial,
    LearningRate,
    ModelRef,
    PrependBos,
    Seed,
    Steps,
    Threads,
    Tokens,
    TopK,
    Width,
)

Buffer = Annotated[
    int,
    Field(
        ge=16,
        le=10**9,
        description="Activations held in memory for shuffling; shrinks to the text",
        json_schema_extra={"unit": "activations", "advanced": True},
    ),
]
HeldOut = Annotated[
    int,
    Field(
        ge=0,
        le=10_000,
        description="Contexts kept out of training to measure on; a fifth of the text at most",
        json_schema_extra={"unit": "contexts", "advanced": True},
    ),
]
DeadAfter = Annotated[
    int,
    Field(
        ge=1,
        le=10**12,
        description="A latent silent for so many activations counts as dead and gets the auxiliary loss",
        json_schema_extra={"unit": "activations", "advanced": True},
    ),
]
CheckpointEvery = Annotated[
    float,
    Field(
        ge=0.1,
        le=3_600,
        description="Time between checkpoints; what an interruption can lose at most",
        json_schema_extra={"unit": "s", "advanced": True},
    ),
]
Architecture = Annotated[Literal["topk"], Field(description="What makes the latents sparse")]


class TrainDictionary(Parameters):
    """Parameters of ``train-dictionary``."""

    model: ModelRef = "demo"
    text: CorpusRef = "stories"
    hook: HookName = "blocks.0.hook_resid_post"
    architecture: Architecture = "topk"
    tokens: Tokens = 100_000
    context: Context = 128
    width: Width = 512
    k: TopK = 8
    batch: Batch = 1_024
    steps: Steps = 500
    lr: LearningRate = 1e-3
    buffer: Buffer = 250_000
    held_out: HeldOut = 32
    dead_after: DeadAfter = 100_000
    checkpoint_every: CheckpointEvery = 30.0
    seed: Seed = 0
    device: Device = "auto"
    dtype: Dtype = "float32"
    threads: Threads = 0
    prepend_bos: PrependBos = True
    include_special: IncludeSpecial = False

    @field_validator("k")
    @classmethod
    def _k_fits(cls, k: int, info: ValidationInfo) -> int:
        width = info.data.get("width")
        if width is not None and k > width:
            raise ValueError(f"it is more than the width of {width}")
        return k


METRICS = {
    "loss": Metric(
        "Loss",
        "",
        "Mean ‖x − x′‖² of the batch divided by the mean ‖x − mean‖² of the first buffer of activations, plus 1/32 of "
        "the auxiliary loss of dead latents",
        "log",
    ),
    "fvu": Metric(
        "FVU",
        "",
        "Fraction of variance unexplained: Σ‖x − x′‖² over the activations since the last point, divided by their number "
        "times the mean ‖x − mean‖² of the first buffer of activations",
        "log",
    ),
    "l0": Metric("L0", "latents", "Active latents per activation, mean since the last point"),
    "dead": Metric(
        "Dead latents", "share", "Latents that were active on none of the last dead_after activations, of all latents"
    ),
    "lr": Metric("Learning rate", "", "Of Adam: rises over the first 5 % of the steps, falls over the last 20 %"),
    "rate": Metric("Rate", "activations/s", "Activations trained on per second since the last point, capture included"),
    "passes": Metric("Passes over the text", "passes", "Activations trained on, divided by those in the text"),
    "ce_recovered": Metric(
        "CE recovered",
        "share",
        "(CE zero − CE spliced) / (CE zero − CE clean) on held-out contexts: cross entropy that the dictionary saves, "
        "against zero ablation; BOS keeps its own activation",
        group="recovered",
    ),
    "ce_recovered_mean": Metric(
        "CE recovered, mean ablation",
        "share",
        "The same against replacing each activation by the mean activation of the training text",
        group="recovered",
    ),
    "kl": Metric("KL", "nats/token", "KL(clean ‖ spliced) of the model's predictions, mean over held-out predictions"),
    "fvu_held_out": Metric("FVU held out", "", "Σ‖x − x′‖² / Σ‖x − mean‖² over the held-out activations"),
    "l0_held_out": Metric("L0 held out", "latents", "Active latents per activation, mean over those held out"),
}


@experiment(
    "train-dictionary",
    title="Train a dictionary",
    area="Dictionaries",
    metrics=METRICS,
    cites="Gao et al. 2024, Scaling and evaluating sparse autoencoders (arXiv 2406.04093)",
    resumable=True,
)
def train_dictionary(p: TrainDictionary, run: Run) -> None:
    """Trains a sparse autoencoder: a dictionary of latents, few of which at a time rebuild an activation.

    **TopK** keeps the `k` largest latents of each activation x:
    x′ = relu(top k of (x − b_dec) W_enc + b_enc) W_dec + b_dec. Atoms (rows of W_dec) have unit length.

    **What to watch.** *FVU* is the share of variance that the dictionary misses: 1 is as bad as the mean
    activation, 0 is perfect. *Dead latents* should stay few; those that fall silent get an auxiliary loss that
    rebuilds what the others miss. The *activation density* histogram shows how often latents are active.

    **At the end** the dictionary takes the activations' place in the model on contexts that were held out.
    *CE recovered* compares the cross entropy to that of the clean model (1) and to that with the activations
    zeroed (0), as the public benchmarks do; *against mean ablation* is the harder yardstick.

    Activations are captured through a shuffle buffer. Where `steps` × `batch` exceeds the text, it is passed over
    again; *passes* counts that. Activations are multiplied by one factor (`scale`) for training, which is folded
    into the saved dictionary: it reads raw activations. Special tokens (BOS) are left out by default, because
    their activations are often outliers of a hundred times the usual size.

    The run can be paused, stopped and resumed: it goes on from its last checkpoint exactly, bit for bit on a CPU
    with the same number of threads. Stop keeps the dictionary as it is.
    """
    from engine.dictionaries.training import train

    train(p, run)
