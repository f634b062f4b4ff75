"""Figures of hierarchical concepts: tests against width, cosines ordered by tree, nodes in space, the table."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Bars, Graph, Images, Lines, Scatter, Table
from engine.toys.hierarchies import trees
from engine.toys.hierarchies.survey import CONDITIONS, TESTS, Survey
from engine.toys.hierarchies.trees import ROOT, Hierarchy

Array: TypeAlias = npt.NDArray[Any]
SHORT = ("P1 parent", "P1 offsets", "P2")
FORMS = ("|cos(parent, child − parent)|", "|cos(child − parent, grandchild − its sibling)|")


def sweep(survey: Survey, widths: list[int], features: int, form: int) -> Lines:
    """One form of P1 against the hidden width, with the three controls."""
    mean, spread = survey.mean[:, :, form].T, survey.spread[:, :, form].T
    return Lines(
        title="P1 against width: " + ("parent and offset" if form == 0 else "offsets of two generations"),
        note=f"Mean {FORMS[form]}; 0 is orthogonal. Bands: one standard deviation over {_repeats(survey)}. "
        f"From {features} hidden dimensions on every feature can have its own: independent features pass as well, so the "
        "test says nothing there.",
        x_axis=Axis("Hidden dimensions m"),
        y_axis=Axis("Mean |cosine|"),
        series=CONDITIONS,
        x=np.asarray(widths, dtype=np.float32),
        y=mean.astype(np.float32),
        low=np.maximum(mean - spread, 0).astype(np.float32),
        high=(mean + spread).astype(np.float32),
    )


def _repeats(survey: Survey) -> str:
    models, _, draws, relabelled = survey.repeats
    return f"{models} models each, {draws} draws of random directions, {relabelled} relabellings"


def tests(survey: Survey, place: int, width: int) -> Bars:
    """Both forms of P1 and the deviation of P2 at one width, of the tree and the three controls."""
    chosen = [test for test in (0, 1, 2) if np.isfinite(survey.mean[place][:, test]).all()]
    mean = survey.mean[place][:, chosen].T.ravel()
    spread = survey.spread[place][:, chosen].T.ravel()
    return Bars(
        title="Orthogonality of the hierarchy",
        note=f"m = {width}; marks: one standard deviation over {_repeats(survey)}. P1 parent: mean {FORMS[0]}; P1 offsets: mean "
        f"{FORMS[1]}; P2: RMS deviation of siblings' cosines from those of a regular simplex, where three siblings "
        "are to be found.",
        x_axis=Axis("Test and condition"),
        y_axis=Axis("Mean |cosine|, or deviation"),
        label=np.array([f"{SHORT[test]}: {condition.split()[0]}" for test in chosen for condition in CONDITIONS]),
        value=mean.astype(np.float32),
        low=np.maximum(mean - spread, 0).astype(np.float32),
        high=(mean + spread).astype(np.float32),
        horizontal=True,
    )


def cosines(tree: Hierarchy, leaves: list[Array], width: int) -> Images:
    """Cosines between node vectors in the order of the tree, one picture a condition."""
    order = ordered(tree)
    pixels = [trees.cosine_matrix(trees.node_vectors(tree, one)[order]) for one in leaves]
    names = np.array([tree.names[node] for node in order])
    return Images(
        title="Cosines between concepts",
        note=f"Vectors of all nodes, each the mean over the leaves below it, at m = {width}, of the model with the lowest loss. "
        "Every node is followed by what lies below it, so a hierarchy shows as blocks within blocks.",
        x_axis=Axis("Node"),
        y_axis=Axis("Node"),
        value_axis=Axis("Cosine"),
        captions=CONDITIONS,
        pixels=np.stack(pixels).astype(np.float32),
        x=names,
        y=names,
    )


def ordered(tree: Hierarchy) -> list[int]:
    """The nodes, each followed by those below it."""
    found: list[int] = []

    def visit(node: int) -> None:
        if node != ROOT and node not in found:
            found.append(node)
        for child in tree.children(node):
            visit(child)

    visit(ROOT)
    return found


def space(tree: Hierarchy, leaves: list[Array], width: int) -> Scatter:
    """Nodes of the tree, and as further columns those of independent features, on three principal components."""
    found = []
    for vectors in leaves[:2]:
        nodes = trees.node_vectors(tree, vectors)
        centred = nodes - nodes[-1]  # the root
        axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
        found.append(np.zeros((len(nodes), 3), dtype=np.float32))
        found[-1][:, : len(axes)] = centred @ axes.T
    return Scatter(
        title="Concepts in space",
        note=f"Vectors of the nodes less that of the root, on their first three principal components, at m = {width}. "
        "Each node lies in the middle of its children; siblings are the corners of a simplex. "
        "Control: choose the components of independent features as axes.",
        x_axis=Axis("Component 1"),
        y_axis=Axis("Component 2"),
        z_axis=Axis("Component 3"),
        value_axis=Axis("Depth"),
        points=found[0],
        value=np.append(tree.depth, 0).astype(np.float32),
        label=np.array([*tree.names, "root"]),
        columns=found[1],
        column_names=tuple(f"Independent features: component {n}" for n in (1, 2, 3)),
    )


def graph(tree: Hierarchy, leaves: Array, width: int) -> Graph:
    """The hierarchy itself; an edge is as wide as it breaks P1."""
    vectors = trees.node_vectors(tree, leaves)
    depth = tree.depth
    order, place = ordered(tree), np.zeros(len(tree.names))
    for step, node in enumerate(node for node in order if node in tree.leaves):
        place[node] = step
    for node in sorted(range(len(tree.names)), key=lambda one: -depth[one]):
        below = tree.children(node)
        if below:
            place[node] = np.mean(place[below])
    edges = [(parent, child) for child, group in enumerate(tree.parents) for parent in group if parent != ROOT]
    return Graph(
        title="The hierarchy",
        note=f"An edge's width is {FORMS[0]} in the model with the lowest loss at m = {width}, relative to the widest; thin is "
        "orthogonal. The root, which is always there, is left out.",
        weight_axis=Axis("|cosine|"),
        nodes=np.array(tree.names),
        position=np.stack([place, -depth.astype(float)], axis=1),
        edges=np.array(edges, dtype=np.int32).reshape(-1, 2),
        weight=trees.parent_cosines(tree, vectors),
    )


def table(survey: Survey, widths: list[int], losses: Array) -> Table:
    """Every width and condition; losses (widths, 2, restarts)."""
    rows = []
    for place, width in enumerate(widths):
        for number, name in enumerate(CONDITIONS):
            loss = losses[place, number] if number < 2 else np.full(1, np.nan)
            values = np.stack([survey.mean[place, number], survey.spread[place, number]], axis=1).ravel()
            rows.append((width, name, survey.repeats[number], *values, loss.mean(), loss.std()))
    heads = ["Hidden m", "Condition", "Repeats"]
    for test in TESTS:
        heads += [test, f"SD of {test}"]
    heads += ["Test loss", "SD of loss"]
    return Table(
        title="P1 and P2 by width",
        note="Each repeat is a mean over all pairs, or groups of siblings; SD: over repeats. P2 deviation: RMS difference of "
        "siblings' cosines from −1/(n − 1); rank: dimensions they span over n − 1; edges: coefficient of variation of "
        "the simplex's edges. Empty: not testable, because no node has three children.",
        axes=tuple(Axis(head) for head in heads),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )
