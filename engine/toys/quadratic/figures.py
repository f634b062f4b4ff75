"""The figures of `bilinear-layers`: frames of its movie and the tables at its end."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Bars, Figure, Heatmap, Images, Lines, Table
from engine.toys.quadratic import layer as closed
from engine.toys.quadratic.survey import LAYERS, Measured, Survey, class_means
from engine.toys.quadratic.worlds import SIDE

Array: TypeAlias = npt.NDArray[Any]
SHOWN = 10  # eigenvalues in the bars
ROWS = 8  # eigenvectors in the heatmap
CELLS = 12  # rows of the table of cells
LEAST = 1e-6  # eigenvalues of theory below this are 0
CONTROLS = "Controls: the same layer trained on targets shuffled among the samples, and before any training."
_COEFFICIENT = {
    "boolean": "Diagonal: effective linear coefficient of a bit (x² = x leaves only Q_ii + 2 Q_i1 determined); off it: "
    "coefficient 2 Q_ij of the product; the last cell is the constant.",
    "planted": "Diagonal: coefficient of x_i²; off it: coefficient 2 Q_ij of the product x_i x_j.",
    "images": "Q of pixel by pixel (row, column), the embedding folded in.",
}


def frames(survey: Survey, layers: list[Measured], output: int) -> dict[str, Figure]:
    """The frames of one step, by name."""
    return {
        "eigenvalues": _eigenvalues(survey, layers[0], output),
        "spectrum": _spectrum(survey, layers, output),
        "eigenvectors": _pictures(survey, layers) if survey.world == "images" else _vectors(survey, layers[0], output),
        "interactions": _interactions(survey, layers[0], output),
        "truncation": _truncation(survey, layers),
        "tensor": _tensor(survey, layers),
    }


def _eigenvalues(survey: Survey, layer: Measured, output: int) -> Bars:
    values = layer.spectrum.values[output, : min(SHOWN, survey.size)]
    name = survey.samples.outputs[output]
    theory = ""
    if survey.samples.theory is not None:
        exact = closed.spectrum(survey.samples.theory[[output]]).values[0]
        theory = "Theory: " + ", ".join(f"{v:.2f}" for v in np.sort(exact[np.abs(exact) > LEAST])[::-1]) + ", else 0. "
    return Bars(
        title=f"Eigenvalues of the output {name}",
        note=f"The output is the sum over eigenvectors v of eigenvalue × (v.x)². {theory}The {len(values)} largest of "
        f"{survey.size} by magnitude; one layer.",
        x_axis=Axis("Eigenvector, by magnitude"),
        y_axis=Axis("Eigenvalue"),
        label=np.arange(1, len(values) + 1).astype(str),
        value=values,
    )


def _spectrum(survey: Survey, layers: list[Measured], output: int) -> Lines:
    rows = [closed.signed(layer.spectrum.values[output, : survey.size]) for layer in layers]
    names = list(LAYERS)
    if survey.samples.theory is not None:
        exact = closed.spectrum(survey.samples.theory[[output]]).values[0, : survey.size]
        rows, names = [*rows, closed.signed(exact)], [*names, "theory"]
    return Lines(
        title=f"Spectrum of the output {survey.samples.outputs[output]}, against controls",
        note=f"Eigenvalues, falling, over the root of their sum of squares. A few large ones: the output looks at few "
        f"directions; a smooth S through zero is what random weights give. {CONTROLS}",
        x_axis=Axis("Eigenvector, by signed eigenvalue"),
        y_axis=Axis("Eigenvalue", "share of the norm"),
        series=tuple(names),
        x=np.arange(1, survey.size + 1),
        y=np.stack(rows),
    )


def _oriented(vectors: Array, towards: Array | None = None) -> Array:
    """Vectors (n, inputs) with the sign that points ``towards``, or that makes their largest entry positive."""
    if towards is None:
        along = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    else:
        along = vectors @ towards[:, None]
    found: Array = vectors * np.where(along < 0, -1.0, 1.0)
    return found


def _vectors(survey: Survey, layer: Measured, output: int) -> Heatmap:
    count = min(ROWS, survey.size)
    vectors = _oriented(layer.spectrum.vectors[output, :count])
    return Heatmap(
        title=f"Eigenvectors of the output {survey.samples.outputs[output]}",
        note="A row per eigenvector, by falling magnitude of its eigenvalue; length 1, and its sign means nothing. "
        "Rows whose eigenvalue is near 0 may point anywhere.",
        x_axis=Axis("Input"),
        y_axis=Axis("Eigenvector"),
        value_axis=Axis("Component"),
        values=vectors.astype(np.float32),
        x=np.array(survey.samples.inputs),
        y=np.arange(1, count + 1).astype(str),
        diverging=True,
        levels=(-1.0, 1.0),
    )


def _pictures(survey: Survey, layers: list[Measured]) -> Images:
    pixels, captions = [], []
    means = class_means(survey.samples)
    for number, name in enumerate(survey.samples.outputs):
        pixels.append(means[number] / np.linalg.norm(means[number]))
        captions.append(f"{name}, mean")
        for layer, told in zip(layers, ("", "shuffled", "untrained"), strict=True):
            values, vectors = layer.spectrum.values[number], layer.spectrum.vectors[number]
            wanted = [(1, "+")] if told else [(1, "+"), (-1, "-")]
            for sign, mark in wanted:
                best = int((sign * values).argmax())
                pixels.append(_oriented(vectors[[best]], means[number])[0])
                captions.append(f"{told} {mark}" if told else f"{name} {mark}")
    return Images(
        title="Eigenvectors of each class as pictures",
        note="For each class its mean picture, the eigenvectors with the largest positive eigenvalue (+, it speaks for the "
        "class) and the most negative one (-, against it), then the first of the same class in the two controls. Length 1; "
        "a vector's sign means nothing and is chosen along the mean.",
        x_axis=Axis("Column", "pixels"),
        y_axis=Axis("Row", "pixels"),
        value_axis=Axis("Component"),
        captions=tuple(captions),
        pixels=np.stack(pixels).reshape(-1, SIDE, SIDE).astype(np.float32),
    )


def _interactions(survey: Survey, layer: Measured, output: int) -> Heatmap:
    values = layer.matrices[output] if survey.world == "images" else closed.coefficients(layer.matrices)[output]
    largest = float(np.abs(values).max()) or 1.0
    names = np.array(survey.samples.inputs)
    axis = Axis("Coefficient") if survey.world != "images" else Axis("Interaction", "share of the largest")
    return Heatmap(
        title=f"Interaction matrix of the output {survey.samples.outputs[output]}",
        note=_COEFFICIENT[survey.world],
        x_axis=Axis("Input"),
        y_axis=Axis("Input"),
        value_axis=axis,
        values=(values / largest if survey.world == "images" else values).astype(np.float32),
        x=names,
        y=names,
        diverging=True,
        levels={"boolean": (-2.0, 2.0), "planted": (-0.4, 0.4), "images": (-1.0, 1.0)}[survey.world],
    )


def _truncation(survey: Survey, layers: list[Measured]) -> Lines:
    classes = survey.samples.classes
    rows = [layer.truncated[: survey.size + 1] for layer in layers]
    return Lines(
        title="Eigenvectors kept and what is left of the score",
        note=f"Held-out score (n = {len(survey.samples.held_x):,}) where each output keeps only its eigenvectors of largest "
        f"magnitude. {'Chance: 1/6. ' if classes else 'Below 0: worse than the mean; cut at -1. '}{CONTROLS}",
        x_axis=Axis("Eigenvectors kept in each output"),
        y_axis=Axis("Accuracy", "share") if classes else Axis("Variance explained", "share"),
        series=LAYERS,
        x=np.arange(len(rows[0])),
        y=np.maximum(np.stack(rows), -1.0),
        reference={"chance": 1 / len(survey.samples.outputs)} if classes else {},
    )


def _tensor(survey: Survey, layers: list[Measured]) -> Lines:
    rows, names = [layer.tensor for layer in layers], list(LAYERS)
    if survey.samples.theory is not None:
        rows, names = [*rows, closed.tensor_spectrum(survey.samples.theory)[0]], [*LAYERS, "theory"]
    return Lines(
        title="The layer as one tensor: singular values over its outputs",
        note="Higher-order SVD of the tensor (output, input, input), over the root of the values' sum of squares: how many "
        f"independent quadratic forms the outputs share. {CONTROLS}",
        x_axis=Axis("Component"),
        y_axis=Axis("Singular value", "share of the norm"),
        series=tuple(names),
        x=np.arange(1, len(rows[0]) + 1),
        y=np.stack([row / (np.linalg.norm(row) or 1.0) for row in rows]),
    )


def cells(survey: Survey, layers: list[Measured], output: int) -> Table:
    """The largest coefficients of the chosen output beside theory and controls."""
    tables = [closed.coefficients(layer.matrices)[output] for layer in layers]
    theory = survey.samples.theory
    rows, columns = np.triu_indices(len(tables[0]))
    order = np.argsort(-np.abs(tables[0][rows, columns]), kind="stable")[:CELLS]
    rows, columns = rows[order], columns[order]
    names = np.array(survey.samples.inputs)
    columns_by_name: dict[str, Array] = {"Input": names[rows], "with input": names[columns]}
    if theory is not None:
        columns_by_name["Theory"] = closed.coefficients(theory)[output][rows, columns]
    columns_by_name |= {n.capitalize(): table[rows, columns] for n, table in zip(LAYERS, tables, strict=True)}
    return Table(
        title=f"Top cells of the output {survey.samples.outputs[output]}",
        note=f"{_COEFFICIENT['planted' if survey.world == 'images' else survey.world]} {CONTROLS}",
        axes=tuple(Axis(name) for name in columns_by_name),
        columns=tuple(columns_by_name.values()),
    )


def outputs(survey: Survey, layers: list[Measured]) -> Table:
    """Every output's eigenvalues and effective rank."""
    columns: dict[str, Array] = {
        "Output": np.array(survey.samples.outputs),
        "Eigenvalue 1": layers[0].spectrum.values[:, 0],
        "Eigenvalue 2": layers[0].spectrum.values[:, 1],
    }
    note = "Effective rank: (Σ|λ|)² / Σλ². "
    if survey.world == "boolean":
        columns["Raw eigenvalue 1"] = closed.spectrum(layers[0].raw).values[:, 0]
        note += "Raw: of the weights' own matrix, whose diagonal and constant column can trade off. "
    means = []
    for name, layer in zip(LAYERS, layers, strict=True):
        ranks = closed.effective_rank(layer.spectrum.values)
        columns[f"Rank, {name.split()[0]}"] = ranks
        means.append(f"{name} {ranks.mean():.1f} ± {ranks.std(ddof=1):.1f}")
    note += f"Mean and standard deviation of the rank over {len(survey.samples.outputs)} outputs: {'; '.join(means)}. "
    return Table(
        title="Every output of the layer",
        note=note + CONTROLS,
        axes=tuple(Axis(name) for name in columns),
        columns=tuple(columns.values()),
    )
