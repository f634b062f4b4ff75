"""Parameters of ``train-dictionary``: what the form shows, the command line takes and the record keeps."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator, model_validator

from engine.dictionaries.choices import Architecture, Atoms, Choices, L0Loss, Penalty, Sparsity
from engine.dictionaries.penalties import PENALTIES
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
    Parameters,
    PrependBos,
    Seed,
    Steps,
    Threads,
    Tokens,
    TopK,
    Width,
)

Scaling: TypeAlias = Literal["distance", "norm", "rms", "none"]
Schedule: TypeAlias = Literal["linear", "cosine", "constant"]

AUTOENCODERS = ("topk", "batchtopk", "matryoshka", "jumprelu", "relu", "gated")
TRANSCODERS = ("transcoder", "skip-transcoder")
WITH_K = ("topk", "batchtopk", "matryoshka", "jumprelu", *TRANSCODERS)
PENALISED = ("relu", "gated", *TRANSCODERS)
REVIVED = ("topk", "batchtopk", "matryoshka", "jumprelu", *TRANSCODERS)


def _extra(
    section: str = "", unit: str = "", architecture: tuple[str, ...] = (), advanced: bool = True, **more: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"section": section, "unit": unit, "advanced": advanced}
    if architecture:
        found["when"] = {"architecture": list(architecture)}
    found |= more
    return {key: value for key, value in found.items() if value}


def _share(description: str, section: str, **more: Any) -> Any:
    return Field(ge=0, le=1, description=description, json_schema_extra=_extra(section, "share", **more))


ARCHITECTURES_HELP = {
    "topk": "Keeps the k largest latents of each activation (Gao et al. 2024)",
    "batchtopk": "Keeps the k · batch largest latents of each batch; a threshold takes over afterwards "
    "(Bussmann et al. 2024)",
    "matryoshka": "BatchTopK whose nested prefixes each reconstruct on their own (Bussmann et al. 2025)",
    "jumprelu": "Each latent has a threshold of its own, trained towards k active ones (Rajamanoharan et al. 2024)",
    "relu": "ReLU with a sparsity penalty (Bricken et al. 2023)",
    "gated": "One path decides which latents are active, another how large they are (Rajamanoharan et al. 2024)",
    "transcoder": "Reads an MLP's input, rebuilds its output (Dunefsky et al. 2024)",
    "skip-transcoder": "A transcoder with a linear bypass (Paulo et al. 2025)",
}
SCALING_HELP = {
    "distance": "Mean distance from the mean activation becomes √D; a few massive activations do not decide",
    "norm": "Mean norm becomes √D, as SAELens does (expected_average_only_in)",
    "rms": "Root mean square norm becomes √D, as dictionary_learning does up to the √D",
    "none": "Activations as they are",
}


class TrainDictionary(Parameters):
    """Parameters of ``train-dictionary``."""

    model: ModelRef = "demo"
    text: CorpusRef = "stories"
    architecture: Annotated[
        Architecture,
        Field(description="What makes the latents sparse", json_schema_extra={"choices_help": ARCHITECTURES_HELP}),
    ] = "topk"
    hook: Annotated[HookName, Field(json_schema_extra={"when": {"architecture": list(AUTOENCODERS)}})] = (
        "blocks.0.hook_resid_post"
    )
    hook_in: Annotated[
        HookName,
        Field(
            description="Hook point that a transcoder reads: an MLP's input after its norm",
            json_schema_extra={"widget": "hook", "when": {"architecture": list(TRANSCODERS)}},
        ),
    ] = "blocks.0.mlp.hook_in"
    hook_out: Annotated[
        HookName,
        Field(
            description="Hook point that a transcoder rebuilds: the MLP's output",
            json_schema_extra={"widget": "hook", "when": {"architecture": list(TRANSCODERS)}},
        ),
    ] = "blocks.0.hook_mlp_out"
    tokens: Tokens = 100_000
    context: Context = 128
    width: Width = 512
    k: Annotated[TopK, Field(json_schema_extra={"unit": "latents", "when": {"architecture": list(WITH_K)}})] = 8
    sparsity: Annotated[
        Sparsity,
        Field(
            description="What makes a transcoder's latents sparse",
            json_schema_extra=_extra(architecture=TRANSCODERS, advanced=False),
        ),
    ] = "topk"
    penalty: Annotated[
        Penalty,
        Field(
            description="Sparsity penalty on latents (relu) or on the gate (gated): minus the logarithm of a prior",
            json_schema_extra=_extra(
                architecture=PENALISED,
                advanced=False,
                choices_help={name: f"{entry.formula}: {entry.prior}" for name, entry in PENALTIES.items()},
            ),
        ),
    ] = "l1"
    coefficient: Annotated[
        float,
        Field(
            ge=0,
            le=1e6,
            description="Weight of the sparsity penalty or of JumpReLU's L0 loss, after its warm-up",
            json_schema_extra=_extra(architecture=(*PENALISED, "jumprelu"), advanced=False),
        ),
    ] = 2.0
    batch: Batch = 1_024
    steps: Steps = 500
    lr: LearningRate = 1e-3

    penalty_p: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Exponent p of the penalty (a / s)^p",
            json_schema_extra=_extra("Sparsity", when={"architecture": list(PENALISED), "penalty": ["lp"]}),
        ),
    ] = 0.5
    penalty_scale: Annotated[
        float,
        Field(
            gt=0,
            le=1e6,
            description="Size s in units of which the penalty sees latents",
            json_schema_extra=_extra("Sparsity", architecture=PENALISED),
        ),
    ] = 1.0
    warm_up_penalty: Annotated[
        float,
        _share("Share of the steps over which that weight rises from zero", "Sparsity",
               architecture=(*PENALISED, "jumprelu")),
    ] = 0.2  # fmt: skip
    l0_loss: Annotated[
        L0Loss,
        Field(
            description="JumpReLU's sparsity loss",
            json_schema_extra=_extra(
                "Sparsity",
                architecture=("jumprelu",),
                choices_help={
                    "quadratic": "(L0 / k − 1)²: aims at k active latents",
                    "step": "L0 itself",
                    "tanh": "A smooth L0, weighted by the length of atoms",
                },
            ),
        ),
    ] = "quadratic"
    bandwidth: Annotated[
        float,
        Field(
            gt=0,
            le=100,
            description="Width of the window around a threshold through which it gets gradients, in units of the target's "
            "standard deviation per dimension",
            json_schema_extra=_extra("Sparsity", architecture=("jumprelu",)),
        ),
    ] = 0.05
    threshold: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="JumpReLU's thresholds at the start, in units of the target's standard deviation per dimension",
            json_schema_extra=_extra("Sparsity", architecture=("jumprelu",)),
        ),
    ] = 0.01
    levels: Annotated[
        int,
        Field(
            ge=1,
            le=16,
            description="Nested prefixes of a Matryoshka dictionary, each twice as wide as the one before",
            json_schema_extra=_extra("Sparsity", "prefixes", ("matryoshka",)),
        ),
    ] = 4

    atoms: Annotated[
        Atoms,
        Field(
            description="Length of atoms",
            json_schema_extra=_extra(
                "Weights",
                choices_help={
                    "auto": "As the architecture's paper has it",
                    "unit": "Kept at one",
                    "free": "May grow; latents are weighed by it",
                },
            ),
        ),
    ] = "auto"
    tied: Annotated[
        bool,
        Field(description="Start the encoder as the decoder's transpose", json_schema_extra=_extra("Weights")),
    ] = True
    scaling: Annotated[
        Scaling,
        Field(
            description="Factor on activations in training, folded into the saved dictionary",
            json_schema_extra=_extra("Weights", choices_help=SCALING_HELP),
        ),
    ] = "distance"

    dead_after: Annotated[
        int,
        Field(
            ge=1,
            le=10**12,
            description="A latent silent for so many activations counts as dead",
            json_schema_extra=_extra("Dead latents", "activations"),
        ),
    ] = 100_000
    aux: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="Weight of the auxiliary loss that revives dead latents (jumprelu: that pulls them up to their "
            "thresholds); 0 leaves it out",
            json_schema_extra=_extra("Dead latents", architecture=REVIVED),
        ),
    ] = 1 / 32
    resample_every: Annotated[
        int,
        Field(
            ge=0,
            le=10**9,
            description="Draw dead latents anew every so many steps; 0 only on the button",
            json_schema_extra=_extra("Dead latents", "steps"),
        ),
    ] = 0

    schedule: Annotated[
        Schedule,
        Field(
            description="How the learning rate falls at the end",
            json_schema_extra=_extra(
                "Schedule",
                choices_help={
                    "linear": "Straight to zero over the decay",
                    "cosine": "Along half a cosine over the decay",
                    "constant": "Not at all",
                },
            ),
        ),
    ] = "linear"
    warm_up: Annotated[
        float, _share("Share of the steps over which the learning rate rises (1,000 steps at most)", "Schedule")
    ] = 0.05
    decay: Annotated[float, _share("Share of the steps, at the end, over which it falls", "Schedule")] = 0.2

    activations: Annotated[
        str,
        Field(
            description="Stored activations (N, D) instead of the model's: a .npy, .safetensors or .h5 file; "
            "empty for the model",
            json_schema_extra=_extra("Data", widget="activations"),
        ),
    ] = ""
    activations_out: Annotated[
        str,
        Field(
            description="Stored activations that a transcoder rebuilds, row by row",
            json_schema_extra=_extra("Data", widget="activations", architecture=TRANSCODERS),
        ),
    ] = ""
    buffer: Annotated[
        int,
        Field(
            ge=16,
            le=10**9,
            description="Activations held in memory for shuffling; shrinks to the text",
            json_schema_extra=_extra("Data", "activations"),
        ),
    ] = 250_000
    shuffle: Annotated[
        bool, Field(description="Mix activations; without it they come as they stand", json_schema_extra=_extra("Data"))
    ] = True
    overlap: Annotated[bool, Field(description="Capture ahead while training", json_schema_extra=_extra("Data"))] = True
    include_special: IncludeSpecial = False
    prepend_bos: PrependBos = True

    held_out: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Contexts kept out of training to measure on; a fifth of the text at most",
            json_schema_extra=_extra("Measuring", "contexts"),
        ),
    ] = 32
    measure_every: Annotated[
        int,
        Field(
            ge=0,
            le=10**9,
            description="Measure CE recovered and KL every so many steps on a few held-out contexts; 0 only at the end",
            json_schema_extra=_extra("Measuring", "steps"),
        ),
    ] = 0
    checkpoint_every: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="Time between checkpoints; what an interruption can lose at most",
            json_schema_extra={"unit": "s", "advanced": True},
        ),
    ] = 30.0
    seed: Seed = 0
    device: Device = "auto"
    dtype: Dtype = "float32"
    threads: Threads = 0

    @field_validator("k")
    @classmethod
    def _k_fits(cls, k: int, info: ValidationInfo) -> int:
        width = info.data.get("width")
        if width is not None and k > width:
            raise ValueError(f"it is more than the width of {width}")
        return k

    @field_validator("levels")
    @classmethod
    def _levels_fit(cls, levels: int, info: ValidationInfo) -> int:
        width = info.data.get("width")
        if width is not None and info.data.get("architecture") == "matryoshka" and width >> (levels - 1) < 1:
            raise ValueError(f"a width of {width} cannot be halved so often")
        return levels

    @model_validator(mode="after")
    def _stored_pairs(self) -> TrainDictionary:
        if self.architecture in TRANSCODERS and bool(self.activations) != bool(self.activations_out):
            missing = "activations_out" if self.activations else "activations"
            raise ValueError(f"A transcoder on stored activations reads two of them; give {missing} as well.")
        return self

    @property
    def hooks(self) -> tuple[str, str]:
        """What the dictionary reads and what it rebuilds."""
        return (self.hook_in, self.hook_out) if self.architecture in TRANSCODERS else (self.hook, self.hook)

    @property
    def choices(self) -> Choices:
        """The architecture and its hyperparameters."""
        return Choices(
            architecture=self.architecture, width=self.width, k=self.k, sparsity=self.sparsity, penalty=self.penalty,
            coefficient=self.coefficient, penalty_p=self.penalty_p, penalty_scale=self.penalty_scale,
            warm_up_penalty=self.warm_up_penalty, l0_loss=self.l0_loss, bandwidth=self.bandwidth,
            threshold=self.threshold, levels=self.levels, atoms=self.atoms, tied=self.tied, aux=self.aux,
        )  # fmt: skip
