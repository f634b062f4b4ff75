"""Figures of the activation viewer, from the activations of one prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from engine.figures.kinds import Axis, Bars, Heatmap, Images, Table, TokenStrip
from engine.models.errors import ModelError
from engine.models.prompt_pass import PromptPass, check_stream, predicts_tokens

if TYPE_CHECKING:
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
TOP = 10  # tokens and units listed for the locked cell
MOST_ATTENTION = 256  # positions of an attention picture; of a longer prompt the last ones up to the locked one
SINK = (
    "The colours are spread over the positions after the first: in trained models that one is often an attention sink "
    "with an outlier norm. It may lie beyond the scale."
)


@dataclass(frozen=True)
class View:
    """What is looked at. ``layer`` and ``position`` are the locked cell, counted from 0."""

    quantity: str
    stream: str
    unit: int
    layer: int
    position: int


@dataclass(frozen=True)
class Quantity:
    """Values (layers, positions) of what the map shows, how to draw them, and a word per cell or None."""

    values: Array
    axis: Axis
    diverging: bool
    levels: tuple[float, float] | None
    words: Array | None
    note: str


def token_label(text: str) -> str:
    """A token as a label: its leading or trailing space and line breaks made visible."""
    shown = text.replace("\r", "␍").replace("\n", "↵").replace("\t", "⇥")
    if not shown.strip(" "):
        return "·" * len(shown) if shown else "∅"
    left, right = len(shown) - len(shown.lstrip(" ")), len(shown) - len(shown.rstrip(" "))
    return "·" * left + shown.strip(" ") + "·" * right


def token_labels(texts: list[str]) -> Array:
    """`token_label` of each."""
    return np.array([token_label(text) for text in texts], dtype=np.str_)


def quantity(seen: PromptPass, view: View, run: Run | None = None) -> Quantity:
    """Values of the chosen quantity at every layer and position.

    Raises:
        ModelError: the stream does not exist, has no such unit, or cannot be read by the logit lens.
    """
    width = check_stream(seen.model, view.stream)
    if view.quantity == "logit-lens":
        lens = seen.lens(view.stream, run)
        tokens, places = np.unique(lens.top, return_inverse=True)
        words = token_labels(seen.model.token_texts(tokens.tolist()))[places].reshape(lens.top.shape)
        return Quantity(lens.probability, Axis("Probability of the top token"), False, (0.0, 1.0), words, _LENS)
    stream = seen.stream(view.stream, run)
    if view.quantity == "unit":
        if view.unit >= width:
            raise ModelError(
                f"unit={view.unit} is not in {view.stream}: it has {width} units, numbered 0 to {width - 1}."
            )
        values = stream[:, :, view.unit].numpy()
        most = _most(np.abs(values))
        levels = (-most, most) if most else None
        return Quantity(values, Axis(f"Activation of unit {view.unit}"), True, levels, None, SINK if levels else "")
    values = torch.linalg.vector_norm(stream, dim=-1).numpy()
    levels = _spread(values)
    note = "L2 norm of the activation vector." + (f" {SINK}" if levels else "")
    return Quantity(values, Axis("Norm (L2)", scale="log"), False, levels, None, note)


_LENS = (
    "Logit lens: what the model would predict next if it stopped after this layer; the final norm and the "
    "unembedding are applied to the stream, the word is the most likely token."
)


def _most(values: Array) -> float:
    """The largest value outside the first position, 0 where there is none."""
    rest = values[:, 1:] if values.shape[1] > 1 else values
    return float(rest.max(initial=0.0))


def _spread(values: Array) -> tuple[float, float] | None:
    """Smallest and largest positive value outside the first position; None where they are the same."""
    rest = values[:, 1:] if values.shape[1] > 1 else values
    rest = rest[np.isfinite(rest) & (rest > 0)]
    return (float(rest.min()), float(rest.max())) if rest.size and rest.min() < rest.max() else None


def map_figure(seen: PromptPass, view: View, shown: Quantity, labels: Array) -> Heatmap:
    """Layers × positions of the quantity."""
    title = {
        "norm": f"Norm of {view.stream}",
        "unit": f"Unit {view.unit} of {view.stream}",
        "logit-lens": f"Logit lens of {view.stream}",
    }[view.quantity]
    return Heatmap(
        title=title,
        note=shown.note,
        x_axis=Axis("Token"),
        y_axis=Axis("Layer"),
        value_axis=shown.axis,
        values=shown.values,
        x=labels,
        y=np.arange(shown.values.shape[0]),
        text=shown.words,
        diverging=shown.diverging,
        origin="lower",
        levels=shown.levels,
    )


def strip_figure(view: View, shown: Quantity, texts: list[str]) -> TokenStrip:
    """The prompt's tokens, shaded by the quantity at the locked layer."""
    values = shown.values[view.layer]
    row = values[None]
    if shown.diverging:
        most = _most(np.abs(row))
        levels = (-most, most) if most else None
    elif view.quantity == "logit-lens":
        levels = (0.0, 1.0)
    else:
        spread = _spread(row)
        levels = (0.0, spread[1]) if spread else None
    return TokenStrip(
        title=f"{shown.axis.label} at layer {view.layer}",
        note=SINK if view.quantity != "logit-lens" and len(texts) > 1 else "",
        value_axis=Axis(shown.axis.label, shown.axis.unit),
        tokens=np.array(texts, dtype=np.str_),
        value=values,
        levels=levels,
    )


def attention_figure(seen: PromptPass, view: View, labels: Array, run: Run | None = None) -> Images | None:
    """Attention weights of every head of the locked layer; None where the block has no attention."""
    pattern = seen.pattern(view.layer, run)
    if pattern is None:
        return None
    last = max(view.position + 1, min(MOST_ATTENTION, seen.positions))
    first = max(last - MOST_ATTENTION, 0)
    cut = slice(first, last)
    note = "Rows: the token that attends; columns: what it attends to. A row sums to 1."
    if first or last < seen.positions:
        note = (
            f"Positions {first} to {last - 1} of {seen.positions}; weights on positions left out are missing from the "
            f"rows' sum. {note}"
        )
    return Images(
        title=f"Attention patterns of layer {view.layer}",
        note=note,
        x_axis=Axis("Attended token"),
        y_axis=Axis("Attending token"),
        value_axis=Axis("Attention weight"),
        captions=tuple(f"Head {head}" for head in range(pattern.shape[0])),
        pixels=np.ascontiguousarray(pattern[:, cut, cut]),
        x=labels[cut],
        y=labels[cut],
    )


def cell_figures(seen: PromptPass, view: View, run: Run | None = None) -> tuple[Bars | None, Table, dict[str, Any]]:
    """The locked cell: most likely next tokens by the logit lens, a table of numbers, and facts.

    The bars are None where the stream is not as wide as the residual stream.
    """
    model = seen.model
    vector = seen.stream(view.stream, run)[view.layer, view.position]
    rows: list[tuple[str, float, str]] = [
        ("Norm (L2)", float(torch.linalg.vector_norm(vector)), ""),
        ("Mean over units", float(vector.mean()), ""),
        ("Standard deviation over units", float(vector.std(unbiased=False)), ""),
    ]
    facts: dict[str, Any] = {}
    bars = None
    if vector.shape[-1] == model.facts.d_model and predicts_tokens(model):
        found = seen.readout(vector[None], TOP)
        assert found.top_ids is not None
        ids = [int(token) for token in found.top_ids[0]]
        texts = model.token_texts(ids)
        probabilities = found.values[0].float().cpu().numpy()
        entropy = float(found.entropy[0])
        rows.append(("Entropy of the logit lens", entropy, "nats"))
        facts = {"top_ids": ids, "top_tokens": texts, "entropy": entropy}
        bars = Bars(
            title=f"Next token after position {view.position}, read at layer {view.layer}",
            note=f"{_LENS} Entropy {entropy:.3g} nats.",
            x_axis=Axis("Token"),
            y_axis=Axis("Probability"),
            label=token_labels(texts),
            value=probabilities,
            horizontal=True,
        )
    units = torch.topk(vector.abs(), min(TOP, vector.shape[-1])).indices.tolist()
    rows += [(f"Unit {unit}", float(vector[unit]), "") for unit in units]
    table = Table(
        title=f"{view.stream} at layer {view.layer}, position {view.position}",
        note="The units are those of the largest magnitude.",
        axes=(Axis("Quantity"), Axis("Value"), Axis("In")),
        columns=(
            np.array([row[0] for row in rows], dtype=np.str_),
            np.array([row[1] for row in rows]),
            np.array([row[2] for row in rows], dtype=np.str_),
        ),
    )
    return bars, table, facts
