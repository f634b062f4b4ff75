"""What a person chooses to steer with: the parameters that the bench and every steering experiment share."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from engine.runs.parameters import Device, Dtype, HookName, ModelRef, Parameters, PrependBos, PromptsRef, Seed, Threads

Method: TypeAlias = Literal[
    "mean-difference",
    "affine-mean",
    "affine-gaussian",
    "affine-least-squares",
    "circular",
    "learned",
    "feature-add",
    "feature-clamp",
    "ablate",
    "random",
]
ReadAt: TypeAlias = Literal["end", "answer", "prompt"]
Placement: TypeAlias = Literal["all", "last", "answer"]


class Steering(Parameters):
    """Which model is steered where, by what, made from which prompts."""

    model: ModelRef = "demo"
    prompts: PromptsRef = "story-sentiment"
    hook: HookName = "blocks.0.hook_resid_post"
    method: Annotated[
        Method,
        Field(
            description="mean-difference: add the difference of means; affine-…: map the negative rows' activations onto "
            "the positive ones' (mean, mean and covariance, or least squares on pairs); circular: turn in the planes of a "
            "cyclic label; learned: a network trained by learned-steering; feature-add, feature-clamp: a latent of a "
            "dictionary; ablate: remove the difference of means; random: a direction of equal norm, the control"
        ),
    ] = "mean-difference"
    read_at: Annotated[
        ReadAt,
        Field(
            description="Where activations are read: end: the last token (of the suffix, where there is one); answer: the "
            "completion's tokens, averaged; prompt: the prompt's last token, for sets with labels"
        ),
    ] = "end"
    positions: Annotated[
        Placement,
        Field(
            description="Where activations are changed: all: every position but BOS; last: the prompt's last token; "
            "answer: that token and each one generated after it"
        ),
    ] = "all"
    dictionary: str = Field(
        "",
        description="Dictionary for feature-add and feature-clamp: its id in this session, or demo; empty: for latents only",
        json_schema_extra={"widget": "session-dictionary"},
    )
    latent: int = Field(0, ge=0, description="Latent of that dictionary", json_schema_extra={"unit": "index"})
    learned: str = Field(
        "", description="Run of learned-steering whose network the method learned takes; empty: for learned only"
    )
    target: str = Field(
        "", description="Label to which the methods circular and learned move a prompt; empty: the next"
    )
    seed: Seed = 0
    device: Device = "auto"
    dtype: Dtype = "float32"
    threads: Threads = 0
    prepend_bos: PrependBos = True
