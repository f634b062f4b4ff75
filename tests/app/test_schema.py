"""Parameters from their JSON schema: what a person may type, in which words it is refused, how it comes back."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from app.window.schema import Parameter, Refused, combinations, label_of, parameters, relevant, runs_of
from engine.runs.declaration import experiments
from engine.runs.parameters import Device, HookName, LearningRate, ModelRef, Parameters, Seed, TopK, check


class Sample(Parameters):
    model: ModelRef = "demo"
    hook: HookName | None = None
    k: TopK = 32
    lr: LearningRate = 1e-3
    steps: int | None = Field(None, ge=1, le=10**9, description="Steps", json_schema_extra={"unit": "steps"})
    size: Literal["quick", "demo"] = "demo"
    device: Device = "auto"
    seed: Seed = 0
    flag: bool = True
    layers: list[int] = Field(default=[0, 1], min_length=1, description="Layers")
    needed: int


found = {entry.name: entry for entry in parameters(Sample.model_json_schema())}


def test_parameters_keep_their_order_and_what_is_declared():
    assert list(found) == list(Sample.model_fields)
    assert [entry.kind for entry in found.values()] == [
        "string", "string", "integer", "number", "integer", "choice", "string", "integer", "boolean", "array", "integer",
    ]  # fmt: skip
    assert found["model"].widget == "model"
    assert found["hook"].widget == "hook"
    assert found["hook"].optional
    assert found["steps"].unit == "steps"
    assert found["seed"].advanced
    assert not found["k"].advanced
    assert found["needed"].required
    assert found["size"].choices == ("quick", "demo")


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("k", "64", 64),
        ("k", " 1 024 ", 1024),
        ("k", "1_024", 1024),
        ("k", "1e3", 1000),
        ("lr", "3e-4", 3e-4),
        ("steps", "", None),
        ("hook", "", None),
        ("hook", "blocks.0.hook_resid_post", "blocks.0.hook_resid_post"),
        ("layers", "1, 2", [1, 2]),
        ("layers", "[3]", [3]),
        ("seed", str(2**53 + 1), 2**53 + 1),
    ],
)
def test_what_is_typed_is_read(name: str, typed: str, value: object):
    assert found[name].read(typed) == value


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("k", "0", "has to be 1 to 65,536"),
        ("k", "65537", "has to be 1 to 65,536"),
        ("k", "1.5", "has to be a whole number"),
        ("k", "many", "“many” is not a number"),
        ("k", "", "needs a number"),
        ("k", "inf", "has to be a finite number"),
        ("lr", "0", "has to be more than 0 and at most 10"),
        ("model", "", "needs a value"),
        ("device", "gpu", "is not one of the allowed forms"),
        ("layers", "[]", "needs at least 1 values"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_bound(name: str, typed: str, words: str):
    with pytest.raises(Refused, match="^" + words.replace("(", r"\(")):
        found[name].read(typed)


def test_several_numbers_make_a_sweep_and_repeated_ones_do_not_count_twice():
    assert found["k"].read_all("16, 32,64; 16") == [16, 32, 64]
    assert found["k"].read_all("16") == [16]
    assert found["hook"].read_all("a, b") == ["a", "b"]
    assert found["model"].read_all("a, b") == ["a, b"], "a path may have a comma"
    with pytest.raises(Refused):
        found["k"].read_all("16, 0")


def test_combinations_are_all_runs_of_a_sweep():
    assert combinations({"k": [1, 2], "lr": [0.1], "seed": [0, 1]}) == [
        {"k": 1, "lr": 0.1, "seed": 0},
        {"k": 1, "lr": 0.1, "seed": 1},
        {"k": 2, "lr": 0.1, "seed": 0},
        {"k": 2, "lr": 0.1, "seed": 1},
    ]


@given(st.integers(1, 65_536))
def test_a_whole_number_is_read_as_it_is_written(value: int):
    assert found["k"].read(found["k"].write(value)) == value


@given(st.floats(min_value=1e-300, max_value=10.0))
def test_a_number_is_read_as_it_is_written(value: float):
    assert found["lr"].read(found["lr"].write(value)) == value


@given(st.text(alphabet="0123456789.-+eE_ ,", max_size=12))
def test_whatever_is_typed_for_a_bounded_number_the_engine_accepts_what_the_form_accepts(typed: str):
    try:
        values = found["k"].read_all(typed)
    except Refused:
        return
    for value in values:
        assert check(Sample, {"k": value, "needed": 1}).k == value


def test_labels_are_the_words_of_the_command_line():
    assert label_of("prepend_bos") == "prepend BOS"
    assert label_of("d_model") == "d_model"
    assert label_of("hook_in") == "hook in"


ARCHITECTURES = {
    "properties": {
        "architecture": {"enum": ["topk", "relu", "gated"], "default": "topk", "type": "string"},
        "k": {"type": "integer", "default": 8, "when": {"architecture": ["topk"]}},
        "penalty": {"enum": ["l1", "lp"], "default": "l1", "when": {"architecture": ["relu", "gated"]}},
        "p": {"type": "number", "default": 0.5, "when": {"architecture": ["relu", "gated"], "penalty": ["lp"]}},
        "width": {"type": "integer", "default": 512},
    }
}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        # What does not matter decides nothing: with topk there is no penalty, whatever its field says.
        ({"architecture": ["topk"], "penalty": ["lp"]}, {"k"}),
        ({"architecture": ["relu"], "penalty": ["l1"]}, {"penalty"}),
        ({"architecture": ["relu"], "penalty": ["lp"]}, {"penalty", "p"}),
        ({"architecture": ["topk", "gated"], "penalty": ["l1", "lp"]}, {"k", "penalty", "p"}),
    ],
)
def test_a_parameter_matters_with_the_choices_it_names(values: dict[str, list[str]], names: set[str]) -> None:
    assert relevant(parameters(ARCHITECTURES), values) == names | {"architecture", "width"}


def test_a_sweep_runs_nothing_twice_that_differs_only_where_it_does_not_matter() -> None:
    typed = {"architecture": ["topk", "relu"], "k": [4, 16], "penalty": ["l1"], "p": [0.3], "width": [64]}
    found = runs_of(parameters(ARCHITECTURES), typed)
    assert [(run["architecture"], run["k"]) for run in found] == [("topk", 4), ("topk", 16), ("relu", 8)]
    assert all(run["p"] == 0.5 for run in found), "the default, where the exponent does not matter"


def test_every_condition_of_every_experiment_names_an_earlier_parameter_and_its_values() -> None:
    for experiment in experiments().values():
        earlier: dict[str, tuple[object, ...]] = {}
        for entry in parameters(experiment.parameters.model_json_schema()):
            for name, values in entry.when.items():
                assert name in earlier, f"{experiment.name}: {entry.name} is declared before {name}"
                assert set(values) <= set(earlier[name]), f"{experiment.name}: {entry.name}"
            assert set(entry.choices_help) <= {str(choice) for choice in entry.choices}, entry.name
            earlier[entry.name] = entry.choices


def test_an_empty_field_says_what_its_description_says_of_it():
    said = Parameter("steps", "integer", True, {"description": "Optimiser steps; empty: by size"})
    assert said.nothing == "by size"
    assert Parameter("steps", "integer", True, {"description": "Optimiser steps"}).nothing == "not set"
