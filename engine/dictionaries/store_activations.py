"""The experiment ``store-activations``: a model's activations on a text, kept to train on again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from engine.runs.declaration import experiment
from engine.runs.parameters import (
    Context,
    CorpusRef,
    Device,
    Dtype,
    HookName,
    IncludeSpecial,
    ModelRef,
    Parameters,
    PrependBos,
    Threads,
    Tokens,
)

if TYPE_CHECKING:
    from engine.runs.run import Run


class StoreActivations(Parameters):
    """Which activations, and where to."""

    model: ModelRef = "demo"
    text: CorpusRef = "stories"
    hook: HookName = "blocks.0.hook_resid_post"
    hook_out: Annotated[
        str,
        Field(
            description="A second hook point, row by row: what a transcoder rebuilds; empty for none",
            json_schema_extra={"widget": "hook"},
        ),
    ] = ""
    tokens: Tokens = 20_000
    context: Context = 128
    file: Annotated[
        str,
        Field(
            description="File to write, name.h5 (the second hook point's: name-out.h5); empty keeps them in the session",
            json_schema_extra={"widget": "new-store"},
        ),
    ] = ""
    stored: Annotated[
        Literal["float32", "float16", "bfloat16"],
        Field(description="Number format in the file or session; the halves take half the room"),
    ] = "float32"
    prepend_bos: PrependBos = True
    include_special: IncludeSpecial = False
    device: Device = "auto"
    dtype: Dtype = "float32"
    threads: Threads = 0


@experiment(
    "store-activations",
    title="Store activations",
    area="Dictionaries",
    cites="Nanda & Bloom 2022 (TransformerLens)",
)
def store_activations(p: StoreActivations, run: Run) -> None:
    """Captures activations once and keeps them as a matrix (N, D), one row a token, in the text's order.

    *Train a dictionary* takes the set by its id, or by the file's path, in the field `activations`: many
    dictionaries can then be trained without reading the model again. With `hook_out` two sets are kept whose rows
    belong together, for a transcoder.

    In the session a set is part of the session file, so small ones belong there. Into a `file` (HDF5, not
    compressed: activations hardly are) any number can be written with little memory, one pass over the model for
    each; it stays where you put it.
    Special tokens (BOS) are left out unless `include_special` is on.
    """
    from engine.dictionaries.storing import store

    store(p, run)
