"""What the memorisation toys show: the table as a sum of neurons, capacity against size, accuracy against bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.figures.kinds import Axis, Heatmap, Images, Lines, Table
from engine.toys.facts.ensemble import Models, parameters, score, svd_logits, svd_rank
from engine.toys.facts.ensemble import Table as Facts

Array: TypeAlias = npt.NDArray[Any]
CELLS = 100_000  # of pictures in one frame of a movie
MOST = 16  # neurons shown
LIMIT = 5.0  # logits beyond which a picture has its last colour
ITEM_I, ITEM_J = Axis("Second item j"), Axis("First item i")
RIGHT = Axis("Facts right", "share")
FACTS = Axis("Facts F", "", "log")
PER = Axis("Bits stored per parameter", "bits")


def importance(model: Models) -> Tensor:
    """The neurons of one model in order of the variance that each brings to the table, largest first."""
    return model.components()[0].flatten(1).var(dim=1).argsort(descending=True, stable=True)


def components_frame(model: Models, facts: int) -> Images:
    """What each neuron adds to the table, rows and columns in the order of that neuron's own weights."""
    items = model.a.shape[-1]
    count = min(max(CELLS // items**2, 1), MOST, model.out.shape[1])
    order = importance(model)[:count]
    pictures = []
    for neuron in order.tolist():
        picture = model.components()[0, neuron]
        rows, columns = model.a[0, neuron].argsort(stable=True), model.b[0, neuron].argsort(stable=True)
        pictures.append(picture[rows][:, columns])
    return Images(
        title="The table's neurons, each sorted by its own weights",
        note=f"Neuron k adds w ReLU(A_i + B_j + b) to the logit of fact (i, j): an outer sum, cut off at a staircase. Rows and "
        f"columns stand in an order that differs from neuron to neuron. {count} of {model.out.shape[1]} neurons, by variance, "
        f"in units of the largest value; {facts:,} facts.",
        x_axis=Axis("Second item, by B"),
        y_axis=Axis("First item, by A"),
        value_axis=Axis("Logit / largest"),
        captions=tuple(f"{number + 1}. in variance" for number in range(count)),
        pixels=(torch.stack(pictures) / torch.stack(pictures).abs().max().clamp(min=1e-30)).numpy(),
    )


def margins_frame(model: Models, table: Facts, facts: int) -> Heatmap:
    """The logit of each fact, positive where it is right; other cells are 0."""
    signed = model.logits()[0] * (2 * table.answers - 1) * table.chosen(facts)
    return Heatmap(
        title="Which facts are right",
        note=f"Logit of each of {facts:,} facts times +1 where it is true and -1 where it is false: above 0 it is right. Cells "
        f"that are no facts are 0; colours end at ±{LIMIT:g}.",
        x_axis=ITEM_I,
        y_axis=ITEM_J,
        value_axis=Axis("Logit for the right answer"),
        values=signed.numpy(),
        x=np.arange(table.items),
        y=np.arange(table.items),
        diverging=True,
        levels=(-LIMIT, LIMIT),
    )


def partial_sums(model: Models) -> Tensor:
    """Logits (h + 1, items, items) with the offset alone, and with one neuron more each, by variance."""
    parts = model.components()[0][importance(model)]
    start = torch.zeros_like(parts[:1]) + model.offset[0]
    return torch.cat((start, parts)).cumsum(dim=0)


def running_frame(model: Models, table: Facts, facts: int) -> Lines:
    """How many facts are right with some of the neurons, beside a truncated SVD of as many numbers."""
    items, chosen = table.items, table.chosen(facts)
    width = model.out.shape[1]
    right = score(partial_sums(model), table.answers, chosen)[1].numpy()
    costs = np.array([parameters(items, count) for count in range(width + 1)], float)
    ranks = range(1, svd_rank(items, int(costs[-1])) + 1)
    controls = [float(score(svd_logits(table, chosen, rank)[None], table.answers, chosen)[1]) for rank in ranks]
    length = max(len(costs), len(controls))
    x, y = np.full((2, length), np.nan), np.full((2, length), np.nan)
    x[0, : len(costs)], y[0, : len(costs)] = costs, right
    x[1, : len(controls)], y[1, : len(controls)] = [2 * items * rank - rank**2 for rank in ranks], controls
    return Lines(
        title="Facts right as neurons are added",
        note=f"{facts:,} facts. Neurons of the model in order of their variance; a model of k neurons has 2mk + 2k + 1 "
        "parameters. Controls: truncated SVD of the table of ±1, whose rank r costs 2mr - r² numbers, and always the "
        "commoner answer. The SVD gains evenly; the model is right only when nearly all neurons are there: they correct "
        "each other, and none stands for any facts.",
        x_axis=Axis("Parameters used"),
        y_axis=RIGHT,
        series=("neurons of the model", "truncated SVD"),
        x=x,
        y=y,
        reference={"always the commoner answer": table.majority(facts)},
    )


def sums_figure(model: Models, table: Facts, facts: int) -> Images:
    """The running sum of the neurons as pictures of the table."""
    sums, chosen = partial_sums(model), table.chosen(facts)
    count = min(max(CELLS // table.items**2, 1), MOST, len(sums))
    shown = np.unique(np.linspace(0, len(sums) - 1, count).round().astype(int))
    right = score(sums, table.answers, chosen)[1] * facts
    signed = (sums * (2 * table.answers - 1) * chosen).clamp(-LIMIT, LIMIT)
    return Images(
        title="Running sum of the neurons",
        note=f"Logit for the right answer of each of {facts:,} facts as neurons are added in order of their variance; above 0 "
        f"the fact is right. Cut at ±{LIMIT:g}.",
        x_axis=ITEM_I,
        y_axis=ITEM_J,
        value_axis=Axis("Logit for the right answer"),
        captions=tuple(f"{number} neurons: {round(float(right[number])):,} right" for number in shown),
        pixels=signed[shown].numpy(),
    )


def summary_table(rows: Sequence[tuple[Any, ...]], facts: int, note: str) -> Table:
    """Rows (name, parameters, free parameters, accuracy, bits stored, F / N, n, sd of bits per parameter)."""
    names, counts, free, right, stored, repeats, spread = zip(*rows, strict=True)  # 0 parameters: it has none
    per = [bits / count if count else np.nan for bits, count in zip(stored, counts, strict=True)]
    columns: list[tuple[Axis, Sequence[Any]]] = [
        (Axis("Model or control"), names),
        (Axis("Parameters N"), counts),
        (Axis("N without redundant directions"), free),
        (Axis("Facts / N"), [facts / count if count else np.nan for count in counts]),
        (Axis("Facts right", "share"), right),
        (Axis("Bits stored", "bits"), stored),
        (Axis("Bits / parameter", "bits"), per),
        (Axis("Sd of bits / parameter", "bits"), spread),
        (Axis("n"), repeats),
    ]
    return Table(
        title="What is stored",
        note=note,
        axes=tuple(axis for axis, _ in columns),
        columns=tuple(np.asarray(column) for _, column in columns),
    )


def marks(places: Sequence[float], low: float, high: float) -> tuple[Array, Array]:
    """One line that goes up and down at each of ``places``: vertical marks, joined along ``low``."""
    ordered = sorted(places)
    return np.repeat(ordered, 3).astype(float), np.tile([low, high, low], len(ordered))


def ragged(curves: Mapping[str, tuple[Array, Array, Array, Array]]) -> dict[str, Any]:
    """Curves (x, y, low, high) of unequal length as `Lines` takes them."""
    length = max(len(x) for x, *_ in curves.values())
    found: dict[str, Any] = {"series": tuple(curves)}
    for number, name in enumerate(("x", "y", "low", "high")):
        rows = np.full((len(curves), length), np.nan)
        for row, curve in enumerate(curves.values()):
            rows[row, : len(curve[number])] = curve[number]
        found[name] = rows
    return found


def banded(x: Sequence[float], values: Array, best: Array) -> tuple[Array, Array, Array, Array]:
    """A curve through ``best`` with a band over the restarts ``values`` (places, restarts)."""
    return np.asarray(x, float), best, values.min(axis=1), values.max(axis=1)


def scaling_frame(results: Mapping[int, tuple[Sequence[int], Array]], items: int) -> Lines:
    """Cross-entropy in bits against the number of facts; ``results``: by h facts and bits (facts, restarts)."""
    curves = {f"h = {h}": banded(facts, loss, loss.min(axis=1)) for h, (facts, loss) in results.items()}
    counts = [parameters(items, h) for h in results]
    for times, name in ((1, "F = N of each curve"), (2, "F = 2N of each curve")):
        x, y = marks([times * count for count in counts], 0.0, 1.0)
        curves[name] = x, y, y, y
    return Lines(
        title="Loss against the number of facts",
        note=f"Table of {items} × {items} cells; best of the restarts at each point, band over all "
        f"{next(iter(results.values()))[1].shape[1]}. Upright lines: as many facts as parameters N, and twice as many. A loss "
        "of 1 bit a fact is chance: nothing is stored.",
        x_axis=FACTS,
        y_axis=Axis("Cross-entropy", "bits/fact"),
        **ragged(curves),
        reference={"chance": 1.0},
    )


def capacity_frame(
    results: Mapping[int, tuple[Sequence[int], Array]], items: int, control: tuple[Array, Array], name: str
) -> Lines:
    """Bits stored per parameter against facts per parameter; ``control``: x and y of the curve called ``name``."""
    curves = {}
    for h, (facts, loss) in results.items():
        ratio = np.asarray(facts) / parameters(items, h)
        stored = ratio[:, None] * (1 - loss)
        curves[f"h = {h}"] = banded(ratio.tolist(), stored, stored.max(axis=1))
    most = max(float(x.max()) for x, *_ in curves.values())
    full = np.array([0.0, min(most, 2.0)])
    curves["every fact stored"] = full, full, full, full
    curves[name] = (*control, control[1], control[1])
    return Lines(
        title="Bits stored per parameter",
        note="F (1 - CE / ln 2) / N; best of the restarts, band over all. In a wide enough layer nearly every fact is stored up "
        "to about two facts a parameter, so the curve is F / N itself; beyond, and before in narrow layers, the optimiser finds "
        "less than the parameters can hold. Control: truncated SVD of the same facts with as many numbers, cells that are no "
        "facts set to 0, its scale fitted.",
        x_axis=Axis("Facts per parameter F / N"),
        y_axis=PER,
        **ragged(curves),
    )


def stored_figure(
    counts: Sequence[int], most: Array, slope: float, interval: tuple[float, float], resamples: int
) -> Lines:
    """The most bits that models of each size have stored (sizes, restarts), with a line through the origin."""
    x = np.array([0, max(counts) * 1.05])
    curves = {
        "most bits stored": banded(counts, most, most.mean(axis=1)),
        "fit through the origin": (x, slope * x, interval[0] * x, interval[1] * x),
        "2 bits a parameter": (x, 2 * x, 2 * x, 2 * x),
    }
    return Lines(
        title="Bits stored against parameters",
        note=f"For each restart the most bits over all numbers of facts, mean and range over {most.shape[1]} restarts. Slope "
        f"{slope:.2f} bits a parameter, 95 % interval {interval[0]:.2f} to {interval[1]:.2f} from {resamples:,} resamples of "
        f"the {most.size} models. Two bits a parameter is what a perceptron can separate (Cover 1965).",
        x_axis=Axis("Parameters N"),
        y_axis=Axis("Bits stored", "bits"),
        **ragged(curves),
    )


def quantised_figure(
    title: str,
    note: str,
    curves: Mapping[str, tuple[Sequence[float], Array]],
    stored: Sequence[float],
    references: Mapping[str, float],
) -> Lines:
    """Accuracy against bits per weight; ``curves``: bits and accuracies (bits, restarts); ``stored``: upright lines."""
    drawn = {name: banded(x, values, values.mean(axis=1)) for name, (x, values) in curves.items()}
    x, y = marks(stored, 0.5, 1.0)
    drawn["bits stored per parameter"] = x, y, y, y
    return Lines(
        title=title,
        note=note,
        x_axis=Axis("Bits per weight", "bits"),
        y_axis=RIGHT,
        **ragged(drawn),
        reference=dict(references),
    )
