"""Help pages and parameters in words, from the description that the catalogue carries."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt
from pydantic import Field

from engine.runs import Parameters, schema
from engine.runs.declaration import experiments, find
from engine.runs.helppage import page
from engine.runs.parameters import HookName, LearningRate, Seed


class Various(Parameters):
    count: int = Field(5, ge=1, le=9, description="How many | in all", json_schema_extra={"unit": "things"})
    lr: LearningRate = 1e-3
    seed: Seed = 0
    hook: HookName | None = None
    layers: list[int] = Field(default=[0], min_length=1, description="Layers")
    name: str = Field(description="To be given")


@pytest.mark.usefixtures("samples")
def test_a_page_holds_all_of_the_declaration() -> None:
    text = page(find("sample-counting").describe())
    html = MarkdownIt().enable("table").render(text)
    assert html.startswith("<h1>Counting</h1>")
    for part in (
        "Counts to",
        "The curve is a straight line.",
        "Optimiser steps",
        "<code>5</code>",
        "0 … 60",
        "Peano 1889",
    ):
        assert part in html, part
    assert "Steps done so far" in html
    assert html.count("<table>") == 2
    assert "superscope run sample-counting" in html


def test_every_experiments_page_is_well_formed() -> None:
    for one in experiments().values():
        html = MarkdownIt().enable("table").render(page(one.describe()))
        assert html.count("<h1>") == 1
        assert html.count("<table>") == bool(one.parameters.model_fields) + bool(one.metrics)


def test_parameters_are_put_into_words() -> None:
    description = {"parameters": Various.model_json_schema()}
    found = {one.name: one for one in schema.parameters(description)}
    assert (found["count"].kind, found["count"].bounds, found["count"].unit) == ("whole number", "1 … 9", "things")
    assert found["lr"].bounds == "> 0, ≤ 10"
    assert found["seed"].bounds == "≥ 0, < 9.22337e+18"
    assert found["seed"].advanced
    assert not found["count"].advanced
    assert (found["hook"].kind, found["hook"].default) == ("text or nothing", "null")
    assert found["hook"].help == "Hook point of the model, as it names it"
    assert found["layers"].bounds == "1 to any number of items"
    assert found["name"].default == ""
    assert schema.defaults(description) == {"count": 5, "lr": 1e-3, "seed": 0, "hook": None, "layers": [0]}


def test_a_bar_in_a_help_text_does_not_break_the_table() -> None:
    description = {
        "name": "v", "title": "V", "help": "H", "metrics": {}, "cites": "", "parameters": Various.model_json_schema()
    }  # fmt: skip
    html = MarkdownIt().enable("table").render(page(description))
    assert "<td>How many | in all</td>" in html
