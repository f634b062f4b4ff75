"""The experiment that opens a model: fetched, converted and checked where needed, then ready for everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.figures.kinds import Axis, Table
from engine.models.references import parse
from engine.runs.declaration import experiment
from engine.runs.parameters import Device, Dtype, ModelRef, Parameters

if TYPE_CHECKING:
    from engine.models.facts import ModelFacts
    from engine.runs.run import Run


class OpenModelParameters(Parameters):
    """Which model, where and in which number format."""

    model: ModelRef = "demo"
    device: Device = "auto"
    dtype: Dtype = "float32"


@experiment("open-model", title="Open a model", area="Models", cites="")
def open_model(parameters: OpenModelParameters, run: Run) -> None:
    """Opens a model and lists it in the session.

    What is not on this machine is fetched by name, checked, converted once and kept, so that the second
    opening takes seconds; all of it can be stopped at any time, and nothing half-made stays. Before
    weights are loaded the memory they need is compared with what is free. Weights are read from
    safetensors or GGUF only, and no code from a model's repository runs.
    """
    from engine.models.opening import open_model as opened

    model = opened(parameters.model, device=parameters.device, dtype=parameters.dtype, run=run)
    parsed = parse(parameters.model)
    values = model.facts.to_json()
    run.show("facts", facts_figure(model.facts))
    if parsed.kind != "toy":  # a toy is in its session already, with its weights
        run.produce("models", parsed.id, {"reference": parsed.text, "title": model.facts.title, "facts": values})
    for name, value in values.items():
        run.fact(name, value)


def facts_figure(facts: ModelFacts) -> Table:
    """The model card as a table of names and values."""
    rows = facts_rows(facts.to_json())
    return Table(
        title=f"{facts.title}: facts",
        axes=(Axis("Fact"), Axis("Value")),
        columns=(np.array([name for name, _ in rows]), np.array([value for _, value in rows])),
    )


def facts_rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts as people read them; what is not known is left out."""
    from engine.models import memory

    rows = []
    for key, label in LABELS.items():
        value = values.get(key)
        if value is None or value == "":
            continue
        if key == "memory":
            text = memory.in_words(value)
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        else:
            text = f"{value:,}" if isinstance(value, int) else str(value)
        rows.append((label, text))
    return rows


LABELS = {
    "reference": "Reference",
    "architecture": "Architecture",
    "parameters": "Parameters",
    "memory": "Memory of the weights",
    "layers": "Layers",
    "d_model": "d_model",
    "heads": "Attention heads",
    "kv_heads": "Key/value heads",
    "d_head": "d_head",
    "d_mlp": "d_mlp",
    "vocabulary": "Vocabulary (tokens)",
    "context": "Context (tokens)",
    "normalisation": "Normalisation",
    "positions": "Positions",
    "activation": "Activation function",
    "tied_embeddings": "Tied embeddings",
    "bos": "Beginning of sequence",
    "tokenizer": "Tokenizer",
    "dtype": "Number format",
    "device": "Device",
    "source": "Source",
    "source_hash": "SHA-256 or fingerprint",
}
