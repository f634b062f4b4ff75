"""Parameters from text: what is read, what is refused and in which words, and sweeps."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from engine.errors import ParameterError
from engine.runs.parameters import (
    Device,
    HookName,
    LearningRate,
    ModelRef,
    Parameters,
    TopK,
    check,
    parse_setting,
    sweep,
    swept,
)


class Some(Parameters):
    model: ModelRef = "demo"
    hook: HookName | None = None
    k: TopK = 32
    lr: LearningRate = 1e-3
    layers: list[int] = Field(default_factory=lambda: [0, 1], description="Layers to look at")
    device: Device = "auto"
    centre: bool = True
    kind: Literal["relu", "topk"] = "topk"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=64", 64),
        ("k=[16,32]", [16, 32]),
        ("lr=1e-4", 1e-4),
        ("centre=false", False),
        ("model=smollm2", "smollm2"),
        ('model="smollm2"', "smollm2"),
        ("model=123", "123"),
        ("model=null", "null"),
        ('model=["demo", "smollm2"]', ["demo", "smollm2"]),
        ("model=[1, 2]", ["1", "2"]),
        ("model=a=b", "a=b"),
        ("hook=null", None),
        ("kind=relu", "relu"),
        ("unknown=3", 3),
        ("k=", ""),
        ("model=" + "[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_read_as_json_else_as_text_as_the_parameter_wants_it(text: str, value: Any) -> None:
    assert parse_setting(text, Some) == (text.partition("=")[0], value)


@pytest.mark.parametrize("text", ["k", "=3", " =3", ""])
def test_what_is_no_setting_is_named(text: str) -> None:
    with pytest.raises(ParameterError, match="is not a setting; write name=value"):
        parse_setting(text)


@given(st.text())
def test_any_text_can_be_given_to_a_text_parameter(text: str) -> None:
    assert parse_setting(f"model={json.dumps(text)}", Some) == ("model", text)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"k": 0}, "k=0 is not allowed: input should be greater than or equal to 1."),
        ({"k": 70_000}, "k=70000 is not allowed: input should be less than or equal to 65536."),
        ({"k": 1.5}, "k=1.5 is not allowed: input should be a valid integer, got a number with a fractional part."),
        ({"lr": math.nan}, "lr=NaN is not allowed: input should be a finite number."),
        ({"lr": math.inf}, "lr=Infinity is not allowed: input should be a finite number."),
        ({"device": "gpu"}, 'device="gpu" is not allowed: where to compute: auto, cpu, cuda, cuda:N or mps.'),
        ({"kind": "gated"}, "kind=\"gated\" is not allowed: input should be 'relu' or 'topk'."),
        ({"model": ""}, 'model="" is not allowed: string should have at least 1 character.'),
        ({"hidth": 3}, "hidth is not a parameter of this experiment; it has: centre, device, hook, k, kind, layers, lr, model."),
        ({"layers": ["x"]}, 'layers.0="x" is not allowed'),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_that_names_the_parameter_and_the_bound(
    values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        check(Some, values)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_long_value_is_cut_in_the_sentence() -> None:
    with pytest.raises(ParameterError) as caught:
        check(Some, {"kind": "x" * 5000})
    assert len(str(caught.value)) < 200


def test_a_sweep_is_the_product_of_the_lists_given_for_scalars() -> None:
    values = {"k": [1, 2], "lr": [0.1, 0.2, 0.3], "layers": [4, 5], "model": "demo"}
    assert swept(Some, values) == ["k", "lr"]
    found = [(one.k, one.lr, one.layers) for one in sweep(Some, values)]
    assert found == [(k, lr, [4, 5]) for k in (1, 2) for lr in (0.1, 0.2, 0.3)]
    assert len(sweep(Some, {"k": 3})) == 1


@pytest.mark.parametrize(
    ("values", "words"), [({"k": []}, "k=\\[\\]"), ({"k": [1, 0]}, "k=0"), ({"z": [1]}, "z is not")]
)
def test_a_wrong_sweep_is_refused_before_anything_runs(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        sweep(Some, values)
