"""Experiments are found, listed without torch, and described in full."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from engine.errors import ParameterError, SuperscopeError
from engine.runs import Parameters, Run
from engine.runs.declaration import experiment, experiments, find
from tests.engine.conftest import ROOT

HEAVY = ["torch", "transformer_lens", "transformers", "datasets", "PySide6", "matplotlib", "sklearn", "scipy", "h5py"]


class Nothing(Parameters):
    """No parameters."""


def test_listing_every_experiment_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from engine.runs.declaration import experiments\n"
        "found = [one.describe() for one in experiments().values()]\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    [
        "engine", "engine.errors", "engine.files", "engine.places", "engine.figures", "engine.runs",
        "engine.runs.messages", "engine.runs.run", "engine.runs.recording", "engine.runs.catalogue",
        "engine.runs.snippets", "engine.runs.helppage", "engine.runs.schema",
    ],
)  # fmt: skip
def test_what_the_window_imports_brings_neither_torch_nor_pydantic(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set({[*HEAVY, 'pydantic']!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_every_experiment_describes_itself_in_json_with_a_help_text_for_each_parameter() -> None:
    for name, one in experiments().items():
        described = one.describe()
        assert json.loads(json.dumps(described)) == described
        assert described["name"] == name
        assert described["title"]
        assert described["area"]
        assert described["help"], f"{name} has no help page"
        for parameter, entry in described["parameters"]["properties"].items():
            alternatives = [entry, *entry.get("anyOf", [])]
            assert any("description" in part or "$ref" in part for part in alternatives), f"{name}: {parameter}"


@pytest.mark.usefixtures("samples")
def test_an_unknown_experiment_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(ParameterError, match="no experiment called sample-cuonting; did you mean sample-counting"):
        find("sample-cuonting")
    with pytest.raises(ParameterError, match="superscope list"):
        find("zzzzzz")


@pytest.mark.usefixtures("samples")
def test_two_experiments_of_one_name_are_refused() -> None:
    with pytest.raises(SuperscopeError, match="Two experiments are called sample-counting"):

        @experiment("sample-counting", title="Other", area="Samples")
        def other(p: Nothing, run: Run) -> None:
            """Another."""
