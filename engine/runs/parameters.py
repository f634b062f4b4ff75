"""Typed parameters of experiments, their shared names, and reading them from text.

A parameter that several experiments have carries the same name, meaning and bounds everywhere;
the annotated types below are that shared vocabulary. ``json_schema_extra["widget"]`` tells the
form which editor fits; ``"unit"`` is shown behind the value.
"""

from __future__ import annotations

import itertools
import json
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import ParameterError


def _extra(widget: str = "", unit: str = "", advanced: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"widget": widget, "unit": unit, "advanced": advanced}
    return {key: value for key, value in found.items() if value}


ModelRef: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        description="Model: demo, smollm2, a .gguf file, a Hugging Face folder, org/name or toy:RUN",
        json_schema_extra=_extra("model"),
    ),
]
CorpusRef: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        description="Text: stories, python-docs, a .txt, .jsonl or .parquet file, a Hugging Face dataset or toy:RUN",
        json_schema_extra=_extra("text"),
    ),
]
HookName: TypeAlias = Annotated[
    str,
    Field(min_length=1, description="Hook point of the model, as it names it", json_schema_extra=_extra("hook")),
]
PromptsRef: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        description="Prompt set: sentiment, gender, digits, days, story-sentiment, story-gender, story-objects, sums, a "
        ".csv or .jsonl file, prompts:ID of this session, or the rows themselves as JSON lines",
        json_schema_extra=_extra("prompts"),
    ),
]
Prompt: TypeAlias = Annotated[str, Field(description="Text to run the model on", json_schema_extra=_extra("prompt"))]
Tokens: TypeAlias = Annotated[
    int,
    Field(
        ge=1_000,
        le=10**12,
        description="Distinct tokens to take from the text",
        json_schema_extra=_extra(unit="tokens"),
    ),
]
Context: TypeAlias = Annotated[
    int,
    Field(
        ge=8,
        le=1_048_576,
        description="Tokens per context; cut to the model's own",
        json_schema_extra=_extra(unit="tokens"),
    ),
]
Width: TypeAlias = Annotated[
    int,
    Field(ge=2, le=16_777_216, description="Latents in the dictionary", json_schema_extra=_extra(unit="latents")),
]
TopK: TypeAlias = Annotated[
    int, Field(ge=1, le=65_536, description="Active latents per activation", json_schema_extra=_extra(unit="latents"))
]
Batch: TypeAlias = Annotated[
    int,
    Field(
        ge=1, le=1_048_576, description="Activations per optimiser step", json_schema_extra=_extra(unit="activations")
    ),
]
Steps: TypeAlias = Annotated[
    int, Field(ge=1, le=10**9, description="Optimiser steps", json_schema_extra=_extra(unit="steps"))
]
LearningRate: TypeAlias = Annotated[float, Field(gt=0, le=10.0, description="Learning rate of the optimiser")]
Seed: TypeAlias = Annotated[
    int,
    Field(
        ge=0, lt=2**63, description="Seed of every random choice in the run", json_schema_extra=_extra(advanced=True)
    ),
]
Device: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="Where to compute: auto, cpu, cuda, cuda:N or mps",
        json_schema_extra=_extra("device", advanced=True),
    ),
]
Dtype: TypeAlias = Annotated[
    Literal["float32", "bfloat16", "float16"],
    Field(description="Number format of the model's weights and activations", json_schema_extra=_extra(advanced=True)),
]
Threads: TypeAlias = Annotated[
    int, Field(ge=0, le=1024, description="Processor threads; 0 uses all", json_schema_extra=_extra(advanced=True))
]
PrependBos: TypeAlias = Annotated[
    bool,
    Field(
        description="Put the beginning-of-sequence token before each context",
        json_schema_extra=_extra(advanced=True),
    ),
]
IncludeSpecial: TypeAlias = Annotated[
    bool,
    Field(
        description="Let special tokens count in statistics and training",
        json_schema_extra=_extra(advanced=True),
    ),
]


class Parameters(BaseModel):
    """Base of every experiment's parameters: immutable, no unknown names, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


P = TypeVar("P", bound=Parameters)


def check(kind: type[P], values: dict[str, Any]) -> P:
    """Build ``kind`` from ``values``.

    Raises:
        ParameterError: one line that names the first wrong parameter, its value and the bound.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as problem:
        raise ParameterError(_sentence(kind, problem)) from None


def parse_setting(text: str, kind: type[Parameters] | None = None) -> tuple[str, Any]:
    """Split ``name=value``; the value is read as JSON, else taken as text.

    Where ``kind`` has ``name`` as a text, numbers, true, false, null and objects stay the text they
    are written as; a list sweeps over texts.
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise ParameterError(f"“{text}” is not a setting; write name=value.")
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return name, value
    if kind is not None and _is_text(kind, name) and not isinstance(found, str):
        if not isinstance(found, list):
            return name, value
        return name, [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in found]
    return name, found


def swept(kind: type[Parameters], values: dict[str, Any]) -> list[str]:
    """The scalar parameters for which ``values`` gives a list: those that `sweep` goes over."""
    return [name for name, value in values.items() if isinstance(value, list) and not _takes_list(kind, name)]


def sweep(kind: type[P], values: dict[str, Any]) -> list[P]:
    """Expand lists given for scalar parameters into one parameter set per combination of values."""
    names = swept(kind, values)
    for name in names:
        if not values[name]:
            raise ParameterError(f"{name}=[] sweeps over no values; give at least one.")
    fixed = {name: value for name, value in values.items() if name not in names}
    combinations = itertools.product(*(values[name] for name in names))
    return [check(kind, fixed | dict(zip(names, choice, strict=True))) for choice in combinations]


def _is_text(kind: type[Parameters], name: str) -> bool:
    entry = kind.model_fields.get(name)
    return entry is not None and entry.annotation is str


def _takes_list(kind: type[Parameters], name: str) -> bool:
    entry = kind.model_fields.get(name)
    if entry is None:
        return True  # unknown: let `check` say so
    annotation = entry.annotation
    candidates = [annotation, *get_args(annotation)]
    return any(
        get_origin(candidate) in (list, tuple, set) or candidate in (list, tuple, set) for candidate in candidates
    )


def _sentence(kind: type[Parameters], problem: ValidationError) -> str:
    first = problem.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if not name:  # parameters that do not fit each other: the message names them
        return str(first["msg"]).removeprefix("Value error, ").rstrip(".") + "."
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(kind.model_fields))
        return f"{name} is not a parameter of this experiment; it has: {known}."
    if first["type"] == "missing":
        return f"{name} is missing; give it a value."
    shown = json.dumps(first.get("input"), ensure_ascii=False, default=str)
    if len(shown) > 80:
        shown = shown[:77] + "…"
    message = str(first["msg"]).removeprefix("Value error, ")
    entry = kind.model_fields.get(name)
    if first["type"] == "string_pattern_mismatch" and entry is not None and entry.description:
        message = entry.description  # says in words what the pattern says in signs
    return f"{name}={shown} is not allowed: {message[0].lower() + message[1:]}."
