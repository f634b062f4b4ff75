"""The experiment ``open-dictionary``: dictionaries of other programs, read into the session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from engine.figures.kinds import Axis, Table
from engine.runs.declaration import experiment
from engine.runs.parameters import Parameters

if TYPE_CHECKING:
    from engine.dictionaries.formats import Found
    from engine.runs.run import Run


class OpenDictionaryParameters(Parameters):
    """Which dictionaries, and whose."""

    dictionary: Annotated[
        str,
        Field(
            min_length=1,
            description="Dictionary: demo, a folder, a file in it, or org/name[:folder] at the Hugging Face hub",
            json_schema_extra={"widget": "dictionary"},
        ),
    ] = "demo"
    model: Annotated[
        str,
        Field(description="Model it was trained on; where this is empty, the one that its files name"),
    ] = ""


@experiment(
    "open-dictionary",
    title="Open dictionaries",
    area="Dictionaries",
    cites="Bloom et al. 2024 (SAELens); Marks et al. 2024 (dictionary_learning); EleutherAI 2024 (sparsify); "
    "Lieberum et al. 2024 (Gemma Scope); Ameisen et al. 2025 (circuit-tracer)",
)
def open_dictionary(parameters: OpenDictionaryParameters, run: Run) -> None:
    """Opens dictionaries that other programs trained and lists them in the session.

    It reads SAELens (version 6 and the flat layout before it), dictionary_learning and sparsify, and Gemma
    Scope 1 and 2 and circuit-tracer's transcoders of single layers, from a folder, from a file in it, or from the
    Hugging Face hub as `org/name` or `org/name:folder`. A folder of several gives them all, or none where one
    cannot be read.

    What is stored is brought into one form: encoder, decoder, biases and, where there are, thresholds and a skip
    connection, for raw activations. Latents and reconstructions stay those of the program that wrote the files;
    where a convention of it matters, such as atoms that its reader makes as long as one, a note says so.

    No code runs: a `.pt` is read only as far as it holds plain tensors, and everything is checked before it is
    loaded. How often latents fire is not known from files; it is measured by what uses the dictionary.
    """
    from engine.dictionaries.formats import open_dictionary as opened
    from engine.dictionaries.references import parse

    reference = parse(parameters.dictionary)
    found = opened(parameters.dictionary, run=run)
    if parameters.model:
        found = [_of_model(one, parameters.model) for one in found]
    run.show("dictionaries", _table(found))
    for number, one in enumerate(found, 1):
        id = reference.id if len(found) == 1 else f"{reference.id}-{number}"
        attributes = one.dictionary.attributes() | {
            "run": run.id,
            "title": one.name,
            "source": reference.text,
            "format": one.format,
            "facts": one.facts,
        }
        run.produce("dictionaries", id, attributes, one.dictionary.arrays())
        if "note" in one.facts:
            run.say(f"{one.name}: {one.facts['note']}", "warning")
    run.fact("dictionaries", len(found))
    run.fact("format", found[0].format)


def _of_model(found: Found, model: str) -> Found:
    dictionary = found.dictionary
    return replace(found, dictionary=replace(dictionary, config=replace(dictionary.config, model=model)))


def _table(found: list[Found]) -> Table:
    """What was opened, one a row."""
    configs = [one.dictionary.config for one in found]
    columns = {
        "Dictionary": [one.name for one in found],
        "Architecture": [config.architecture for config in configs],
        "Latents": [config.width for config in configs],
        "Reads": [config.d_in for config in configs],
        "Writes": [config.d_out for config in configs],
        "Hook point": [
            config.hook_in if config.hook_in == config.hook_out else f"{config.hook_in} → {config.hook_out}"
            for config in configs
        ],
        "Model": [config.model for config in configs],
        "Format": [one.format for one in found],
    }
    return Table(
        title="Dictionaries that were opened",
        axes=tuple(Axis(name) for name in columns),
        columns=tuple(np.array(values) for values in columns.values()),
    )
