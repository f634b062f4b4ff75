"""The activation viewer's experiment: what a model does inside on a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from engine.models.references import parse
from engine.runs.declaration import experiment
from engine.runs.parameters import Device, Dtype, ModelRef, Parameters, PrependBos, Prompt, Threads

if TYPE_CHECKING:
    from engine.runs.run import Run


class ActivationParameters(Parameters):
    """What to look at."""

    model: ModelRef = "demo"
    prompt: Prompt = "one monday anna went to the park . she felt happy . anna saw a dog with a red ball ."
    prepend_bos: PrependBos = True
    quantity: Annotated[
        Literal["norm", "unit", "logit-lens"],
        Field(description="What the map shows: the vector's norm, one unit, or the logit lens' top token"),
    ] = "norm"
    stream: Annotated[
        str,
        Field(
            min_length=1,
            pattern=r"^[A-Za-z0-9_.]+$",
            description="Hook point within each block, as in hook_resid_post, hook_attn_out or mlp.hook_post",
            json_schema_extra={"widget": "stream"},
        ),
    ] = "hook_resid_post"
    unit: Annotated[int, Field(ge=0, description="Unit to show where the quantity is unit")] = 0
    layer: Annotated[int, Field(ge=-100_000, description="Locked layer; −1 is the last")] = -1
    position: Annotated[int, Field(ge=-100_000_000, description="Locked position; −1 is the last token")] = -1
    device: Device = "auto"
    dtype: Dtype = "float32"
    threads: Threads = 0


@experiment(
    "activations",
    title="Look at activations",
    area="Models",
    cites="Elhage et al. 2021 (residual stream); nostalgebraist 2020 (logit lens); Xiao et al. 2023 (attention sinks)",
    lane="look",
)
def activations(parameters: ActivationParameters, run: Run) -> None:
    """Shows what happens inside a model on a prompt.

    The map has one cell per layer and token: the norm of the activation vector, the value of one unit,
    or the token that the model would predict if it stopped there (the logit lens: final norm and
    unembedding applied to that layer's stream). One cell is locked: its most likely next tokens, its norm and
    its largest units are listed, and the attention patterns of its layer are shown head by head.

    The first position draws most of the attention and has an outlier norm in trained models, with or
    without a BOS token; colours are spread over the other positions. Early layers of models that tie
    embedding and unembedding look token-like under the logit lens without being predictions.
    """
    from engine.models import activation_figures as figures
    from engine.models.opening import open_model
    from engine.models.prompt_pass import prompt_pass, stream_of, streams

    model = open_model(parameters.model, device=parameters.device, dtype=parameters.dtype, run=run)
    seen = prompt_pass(model, parameters.prompt, prepend_bos=parameters.prepend_bos)
    view = figures.View(
        parameters.quantity,
        stream_of(model, parameters.stream),
        parameters.unit,
        _place(parameters.layer, model.facts.layers),
        _place(parameters.position, seen.positions),
    )
    texts = model.token_texts(seen.ids)
    labels = figures.token_labels(texts)
    shown = figures.quantity(seen, view, run)
    run.show("map", figures.map_figure(seen, view, shown, labels))
    run.show("tokens", figures.strip_figure(view, shown, texts))
    bars, table, cell = figures.cell_figures(seen, view, run)
    if bars is not None:
        run.show("logits", bars)
    run.show("detail", table)
    attention = figures.attention_figure(seen, view, labels, run)
    if attention is not None:
        run.show("attention", attention)
    unknown = model.tokenizer.unk_token_id
    facts = {
        "model": parse(parameters.model).text,
        "title": model.facts.title,
        "tokens": texts,
        "ids": list(seen.ids),
        "layers": model.facts.layers,
        "heads": model.facts.heads,
        "d_model": model.facts.d_model,
        "units": int(seen.stream(view.stream).shape[-1]),
        "context": model.facts.context,
        "bos": bool(parameters.prepend_bos and model.bos is not None),
        "unknown": sum(token == unknown for token in seen.ids) if unknown is not None else 0,
        "streams": streams(model),
        "stream": view.stream,
        "layer": view.layer,
        "position": view.position,
    }
    for name, value in (facts | cell).items():
        run.fact(name, value)


def _place(asked: int, count: int) -> int:
    """A layer or position counted from the end where negative, brought into range: a prompt shrinks while one types."""
    return min(max(asked + count if asked < 0 else asked, 0), count - 1)
